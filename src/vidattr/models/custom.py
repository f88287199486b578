"""A network of the user: a function or class that makes an `nn.Module`, named by its import path."""

from __future__ import annotations

import inspect
import re
import traceback
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vidattr.config import importing
from vidattr.config.fields import keyed_by_code, keyed_by_content
from vidattr.errors import ConfigError, VidattrError
from vidattr.models.network.network import VideoModel
from vidattr.models.network.output import Output, misstated
from vidattr.models.network.unfold import frames_in_batch
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
            (N, C, T, H, W) float32 to (N, K) logits, or what `output` says. A module that is not installed is
            imported from the current folder.
        arguments: Keyword arguments of the builder.
        weights: A checkpoint file; None: the builder loads what it needs.
        input: Preprocessing.
        layer: Name of the module whose output is the last convolutional feature volume, (N, c, t, h, w), or
            (N·T, c, h, w) where frames are folded into the batch; None: there is none.
        classes: Names of the outputs (`weights.class_names`); None: the checkpoint's own, if any.
        output: What the outputs are: logits of classes that exclude each other (softmax) or do not (sigmoid), or
            probabilities (prob), or their logarithms (logprob).
    """

    version: ClassVar[int] = 1

    target: str | None = keyed_by_code(None)
    arguments: dict[str, Any] = field(default_factory=dict, metadata={"identity": "files"})
    weights: str | None = keyed_by_content(None)
    input: Preprocessing = field(default_factory=Preprocessing)
    layer: str | None = None
    classes: str | None = keyed_by_content(None)
    output: Output = Output.softmax

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
        count = self._outputs(module.eval())
        return VideoModel(
            module,
            self.input,
            class_names(self.classes, count, own),
            layer=self.layer,
            unfold=frames_in_batch,
            output=self.output,
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

    def _outputs(self, module: nn.Module) -> int:
        """Returns K, from the answer to a blank clip; the answer to a clip of noise has to agree with `output`."""
        shape = (1, 3, self.input.frames, *self.input.size)
        with torch.no_grad():
            returned = self._answer(module, torch.zeros(shape))
        if not isinstance(returned, Tensor) or returned.ndim != 2 or len(returned) != 1 or returned.shape[1] == 0:
            found = (
                f"a tensor of shape {tuple(returned.shape)}"
                if isinstance(returned, Tensor)
                else f"a {type(returned).__name__}"
            )
            raise ConfigError(
                f"{self.target} returned {found} for one clip",
                expected="a tensor of shape (N, K), the logits",
                remedy="wrap it in a module that returns them",
            )
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        with torch.enable_grad():  # the last node of the graph is named after its operation
            answer = self._answer(module, noise.requires_grad_())
        last = type(answer.grad_fn).__name__.partition("Backward")[0]
        complaint = misstated([returned.detach(), answer.detach()], last, self.output)
        if complaint is not None:
            found, right = complaint
            raise ConfigError(f"{self.target} {found}, and model.output={self.output}", remedy=f"model.output={right}")
        return returned.shape[1]

    def _answer(self, module: nn.Module, clip: Tensor) -> Any:
        try:
            return module(clip)
        except Exception as error:  # the user's code may raise anything
            raise ConfigError(
                f"{self.target} refused a clip of shape {tuple(clip.shape)}: {_told(error)}",
                expected="a network that takes (N, C, T, H, W)",
                remedy="set model.input.frames and model.input.size, or wrap it in a module that takes such clips",
            ) from error


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


def _told(error: BaseException) -> str:
    """Returns the type, message and line of an error in the user's code."""
    text = str(error).strip() or type(error).__name__
    text = (
        text
        if isinstance(error, RuntimeError | ValueError | ImportError) and str(error)
        else f"{type(error).__name__}: {text}"
    )
    frames = traceback.extract_tb(error.__traceback__)
    return f"{text[:1000]} ({frames[-1].filename}:{frames[-1].lineno})" if frames else text[:1000]
