"""A network of the user: a function or class that makes an `nn.Module`, named by its import path."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from torch import nn

from vidattr.config import importing
from vidattr.config.fields import LATER, keyed_by_code, keyed_by_content
from vidattr.errors import ConfigError, VidattrError
from vidattr.models.network.adopt import Wording, adopt
from vidattr.models.network.axes import Axes
from vidattr.models.network.network import VideoModel
from vidattr.models.network.output import Output
from vidattr.models.weights.checkpoint import read
from vidattr.models.weights.class_names import class_names
from vidattr.models.weights.filling import fill
from vidattr.models.weights.loading import located
from vidattr.video.preprocessing import Preprocessing

_TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


@dataclass(frozen=True)
class Custom:
    """A network of the user.

    The run key holds the content of the code, with all that it imports (`user_code`), and of the files that `arguments`
    name. It does not hold other files that the builder reads: when such a file changes, run with `--force` or
    another `save_label`.

    Attributes:
        target: "package.module:builder"; a function that returns an `nn.Module`, or a subclass of it, which maps
            (N, C, T, H, W) float32, or what `axes` says, to (N, K) logits, or what `output` says. A module that is not
            installed is imported from the current folder.
        arguments: Keyword arguments of the builder.
        weights: A checkpoint file; None: the builder loads what it needs.
        input: Preprocessing.
        layer: Name of the module whose output is the last convolutional feature volume, (N, c, t, h, w), or
            (N·T, c, h, w) where frames are folded into the batch; None: it is searched for
            (`volumes.last_convolution`), and the network has none if that is ambiguous.
        classes: Names of the outputs (`weights.class_names`); None: the checkpoint's own, if any.
        output: What the outputs are: logits of classes that exclude each other (softmax) or do not (sigmoid), or
            probabilities (prob), or their logarithms (logprob).
        axes: The order of the axes in which the network takes its frames.
    """

    version: ClassVar[int] = 1

    target: str | None = keyed_by_code(None)
    arguments: dict[str, Any] = field(default_factory=dict, metadata={"identity": "files"})
    weights: str | None = keyed_by_content(None)
    input: Preprocessing = field(default_factory=Preprocessing)
    layer: str | None = None
    classes: str | None = keyed_by_content(None)
    output: Output = Output.softmax
    axes: Axes = field(default=Axes.NCTHW, metadata=LATER)

    def __post_init__(self) -> None:
        if self.target is not None and not _TARGET.fullmatch(self.target):
            raise ConfigError(f"model.target is {self.target!r}", remedy="say model.target=package.module:builder")

    def weights_file(self) -> Path | None:
        """Returns the checkpoint file, or None where the builder brings its own weights."""
        return None if self.weights is None else located(self.weights)

    def load(self) -> VideoModel:
        """Returns the network, on the CPU, after a blank clip and one of noise went through it.

        Raises:
            ConfigError: The builder is not found, raises or makes no module, the weights do not fit, or the output is
                not (N, K) or not what `output` says.
        """
        module = self._built()
        if not isinstance(module, nn.Module):
            raise ConfigError(f"{self.target} returned a {type(module).__name__}", expected="an nn.Module")
        path = self.weights_file()
        own = None
        if path is not None:
            checkpoint = read(path)
            fill(module, checkpoint)
            own = checkpoint.class_names
        return self._adopted(module, Wording(str(self.target)), partial(class_names, self.classes, own=own))

    def adopt(self, module: nn.Module, classes: Sequence[str] | None = None) -> VideoModel:
        """Returns a network that the caller has built, with the same checks as `load`.

        Args:
            module: The network; it is changed (eval mode, frozen parameters, no in-place operations).
            classes: The names of its outputs; None: as the field `classes` says.

        Raises:
            ConfigError: As `load`, or `classes` are not K names.
        """
        names = partial(class_names, self.classes) if classes is None else partial(_given, tuple(classes))
        return self._adopted(module, Wording.of_python(type(module).__name__), names)

    def _adopted(self, module: nn.Module, wording: Wording, names: Callable[[int], tuple[str, ...]]) -> VideoModel:
        return adopt(
            module,
            self.input,
            names,
            wording=wording,
            layer=self.layer,
            output=self.output,
            axes=self.axes,
        )

    def _built(self) -> Any:
        """Returns what the builder makes; a builder in the current folder may import from there while it runs."""
        home, builder = _builder(self.target)
        try:
            inspect.signature(builder).bind(**self.arguments)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"model.arguments={self.arguments}: {error}", expected=f"what {self.target} takes"
            ) from error
        with importing.current_folder() if importing.from_current_folder(home) else nullcontext():
            try:
                return builder(**self.arguments)
            except VidattrError:
                raise
            except (Exception, SystemExit) as error:
                raise importing.failed(f"{self.target} fails", error) from error


def _given(names: tuple[str, ...], count: int) -> tuple[str, ...]:
    if len(names) != count or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"classes={list(names)[:10]} of a network with {count} outputs", expected=f"{count} names")
    return names


def _builder(target: str | None) -> tuple[ModuleType, Any]:
    name, colon, attribute = (target or "").partition(":")
    if not colon:
        raise ConfigError(f"model.target is {target!r}", remedy="say model.target=package.module:builder")
    module = importing.module(name, f"model.target={target}", "a module, installed or in the current folder")
    builder = getattr(module, attribute, None)
    if not callable(builder):
        raise ConfigError(
            f"{name} ({module.__file__}) has no function or class {attribute!r}", remedy="check model.target"
        )
    return module, builder
