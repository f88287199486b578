"""Any network of the user's own: a function or class that makes an `nn.Module`, named by its import path."""

from __future__ import annotations

import inspect
import re
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vidattr import importing
from vidattr.errors import ConfigError, VidattrError
from vidattr.models._checkpoint import anonymous, fill, located, read
from vidattr.models._network import Network
from vidattr.types import hashed
from vidattr.view import View

_TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


@dataclass(frozen=True)
class Custom:
    """A network of the user's own.

    The run key knows the code by its name only: when the builder changes, run with `--force` or another `save_label`.

    Attributes:
        target: "package.module:builder"; a function that returns an `nn.Module`, or a subclass of it, which maps
            (N, C, T, H, W) float32 to (N, K) logits. The current folder is on the import path.
        arguments: Keyword arguments of the builder.
        weights: A checkpoint file; None: the builder loads what it needs.
        input: Preprocessing.
        layer: Name of the module whose output is the last convolutional feature volume, (N, c, t, h, w), or
            (N·T, c, h, w) where frames are folded into the batch; None: there is none.
        classes: A text file with one class name a line, in the order of the outputs; None: the checkpoint's own, if any.
    """

    version: ClassVar[int] = 1

    target: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    weights: str | None = hashed(None)
    input: View = field(default_factory=View)
    layer: str | None = None
    classes: str | None = hashed(None)

    def __post_init__(self) -> None:
        if self.target is not None and not _TARGET.fullmatch(self.target):
            raise ConfigError(f"model.target is {self.target!r}", remedy="say model.target=package.module:builder")

    def weights_file(self) -> Path | None:
        """Returns the checkpoint file, or None where the builder brings its own weights."""
        return None if self.weights is None else located(self.weights)

    def load(self) -> Network:
        """Returns the network, on the CPU, after one blank clip went through it.

        Raises:
            ConfigError: The builder is not found or makes no module, the weights do not fit, or the output is not (N, K).
        """
        module = self._built()
        if not isinstance(module, nn.Module):
            raise ConfigError(f"{self.target} returned a {type(module).__name__}", expected="an nn.Module")
        path = self.weights_file()
        checkpoint = None if path is None else read(path)
        if checkpoint is not None:
            fill(module, checkpoint)
        outputs = self._outputs(module.eval())
        names = anonymous(outputs) if checkpoint is None else checkpoint.classes(outputs)
        if self.classes is not None:
            names = _class_names(Path(self.classes).expanduser(), outputs)
        return Network(module, self.input, names, layer=self.layer, unfold=_unfold)

    def _built(self) -> Any:
        """Returns what the builder makes; its code may import from the folder in which it lies, if that is the current one."""
        home, builder = _builder(self.target)
        try:
            inspect.signature(builder).bind(**self.arguments)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"model.arguments={self.arguments}: {error}", expected=f"what {self.target} takes") from error
        with importing.current_folder() if importing.from_current_folder(home) else nullcontext():
            try:
                return builder(**self.arguments)
            except VidattrError:
                raise
            except (Exception, SystemExit) as error:
                raise importing.failed(f"{self.target} fails", error) from error

    def _outputs(self, module: nn.Module) -> int:
        """Returns K, from the network's answer to one blank clip."""
        blank = torch.zeros(1, 3, self.input.frames, *self.input.size)
        try:
            with torch.no_grad():
                logits = module(blank)
        except (RuntimeError, ValueError) as error:
            raise ConfigError(
                f"{self.target} refused a clip of shape {tuple(blank.shape)}: {error}",
                expected="a network that takes (N, C, T, H, W)",
                remedy="set model.input.frames and model.input.size, or wrap it in a module that takes such clips",
            ) from error
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 1:
            found = f"a tensor of shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
            raise ConfigError(
                f"{self.target} returned {found} for one clip",
                expected="a tensor of shape (N, K), the logits",
                remedy="wrap it in a module that returns them",
            )
        return logits.shape[1]


def _builder(target: str | None) -> tuple[ModuleType, Any]:
    name, colon, attribute = (target or "").partition(":")
    if not colon:
        raise ConfigError(f"model.target is {target!r}", remedy="say model.target=package.module:builder")
    module = importing.module(name, f"model.target={target}", "a module, installed or in the current folder")
    builder = getattr(module, attribute, None)
    if not callable(builder):
        raise ConfigError(f"{name} ({module.__file__}) has no function or class {attribute!r}", remedy="check model.target")
    return module, builder


def _class_names(path: Path, count: int) -> tuple[str, ...]:
    if not path.is_file():
        raise ConfigError(f"model.classes={path}: no such file", expected="a text file, one class name a line")
    names = tuple(line.strip() for line in path.read_text("utf-8").splitlines() if line.strip())
    if len(names) != count:
        raise ConfigError(f"{path} names {len(names)} classes", expected=f"{count} names, one for each output")
    return names


def _unfold(features: Tensor, clips: int) -> Tensor:
    return features.view(clips, -1, *features.shape[1:]).transpose(1, 2) if features.ndim == 4 else features
