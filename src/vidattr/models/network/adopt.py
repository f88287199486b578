"""Checks a network of the user: its output for two clips is validated, and its last convolution is found."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vidattr.errors import ConfigError
from vidattr.models.network.axes import Axes, takes_channels_first
from vidattr.models.network.network import VideoModel
from vidattr.models.network.output import Output, misstated
from vidattr.models.network.unfold import frames_in_batch
from vidattr.models.network.volumes import last_convolution
from vidattr.video.preprocessing import Preprocessing


@dataclass(frozen=True)
class Wording:
    """How messages name the network and its settings.

    Attributes:
        title: Name of the network.
        setting: A setting as the user writes it, with places for its name and value.
        size: The settings of the number of frames and their size.
    """

    title: str
    setting: str = "model.{}={}"
    size: str = "model.input.frames and model.input.size"

    @classmethod
    def of_python(cls, title: str) -> Wording:
        """Returns the wording for arguments of `vidattr.load_model`."""
        return cls(title, "{}='{}'", "input={'frames': T, 'size': [H, W]}")


def adopt(
    module: nn.Module,
    view: Preprocessing,
    names: Callable[[int], tuple[str, ...]],
    *,
    wording: Wording,
    layer: str | None,
    output: Output,
    axes: Axes,
) -> VideoModel:
    """Returns the network after it was run on a blank clip and on a clip of noise.

    Args:
        module: The network; its `forward` may be replaced (`axes.takes_channels_first`).
        view: Its preprocessing.
        names: Returns the names of its K outputs, given K.
        wording: How messages name it and its settings.
        layer: Name of the module whose output is the last convolutional feature volume; None: it is found
            (`volumes.last_convolution`).
        output: What the network returns.
        axes: The order of the axes of its input.

    Raises:
        ConfigError: The network fails, or its output is not (N, K) or does not agree with `output`.
    """
    check = _Check(takes_channels_first(module.eval(), axes), wording, axes)
    shape = (1, len(view.mean), view.frames, *view.size)
    count = check.outputs(shape, output)
    network = VideoModel(module, view, names(count), layer=layer, unfold=frames_in_batch, output=output)
    if layer is None:
        network.layer = last_convolution(module, torch.zeros(shape, device=network.device))
    network.name = wording.title
    return network


class _Check:
    """The checks of a network's output."""

    def __init__(self, module: nn.Module, wording: Wording, axes: Axes) -> None:
        self.module, self.wording, self.axes = module, wording, axes
        tensors = (*module.parameters(), *module.buffers())
        self.device = tensors[0].device if tensors else torch.device("cpu")

    def outputs(self, shape: tuple[int, ...], output: Output) -> int:
        """Returns K, from the output for a blank clip; the output for a clip of noise must agree with `output`."""
        with torch.no_grad():
            returned = self._answer(torch.zeros(shape))
        if not isinstance(returned, Tensor) or returned.ndim != 2 or len(returned) != 1 or returned.shape[1] == 0:
            answer = (
                f"a tensor of shape {tuple(returned.shape)}"
                if isinstance(returned, Tensor)
                else f"a {type(returned).__name__}"
            )
            raise ConfigError(
                f"{self.wording.title} returned {answer} for one clip",
                expected="a tensor of shape (N, K), the logits",
                remedy="wrap it in a module that returns them",
            )
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        with torch.enable_grad():  # the last node of the graph is named after its operation
            second = self._answer(noise.requires_grad_())
        last = type(second.grad_fn).__name__.partition("Backward")[0]
        complaint = misstated([returned.detach(), second.detach()], last, output)
        if complaint is not None:
            behaviour, right = complaint
            raise ConfigError(
                f"{self.wording.title} {behaviour}, and {self.wording.setting.format('output', output)}",
                remedy=self.wording.setting.format("output", right),
            )
        return int(returned.shape[1])

    def _answer(self, clip: Tensor) -> Any:
        try:
            return self.module(clip.to(self.device))
        except Exception as error:  # the user's code may raise anything
            fits = self._fits_swapped(clip)
            raise ConfigError(
                f"{self.wording.title} refused a clip of shape {tuple(clip.shape)}: {told(error)}",
                expected="a network that takes (N, C, T, H, W)",
                remedy=f"{self.wording.setting.format('axes', Axes.NTCHW)}: it takes (N, T, C, H, W)"
                if fits
                else f"set {self.wording.size}, or wrap it in a module that takes such clips",
            ) from error

    def _fits_swapped(self, clip: Tensor) -> bool:
        """Returns whether the network takes the same clip with frames before channels."""
        if self.axes is Axes.NTCHW:
            return False
        with suppress(Exception), torch.no_grad():
            returned = self.module(clip.detach().to(self.device).transpose(1, 2))
            return isinstance(returned, Tensor) and returned.ndim == 2 and len(returned) == 1
        return False


def told(error: BaseException) -> str:
    """Returns the type, message and line of an error in the user's code."""
    text = str(error).strip() or type(error).__name__
    text = (
        text
        if isinstance(error, RuntimeError | ValueError | ImportError) and str(error)
        else f"{type(error).__name__}: {text}"
    )
    frames = traceback.extract_tb(error.__traceback__)
    return f"{text[:1000]} ({frames[-1].filename}:{frames[-1].lineno})" if frames else text[:1000]
