"""The feature volumes of a network: where they are computed, their shapes, and which is the last convolution's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

_LISTED = 12  # candidates that a message lists, the deepest ones


@dataclass(frozen=True)
class Volume:
    """The output of a module that computes features on a grid, for one clip.

    Attributes:
        name: Name of the module.
        shape: (c, t, h, w); a network that folds the frames into the batch, (t, c, h, w), is shown in this order too.
        step: How many modules of the network had finished before it.
    """

    name: str
    shape: tuple[int, int, int, int]
    step: int

    def __str__(self) -> str:
        return f"{self.name} ({' × '.join(map(str, self.shape))})"


def volumes(module: nn.Module, clip: Tensor) -> list[Volume]:
    """Returns the feature volumes of a network in the order in which they are computed.

    A volume is the output of a convolution, or of a module that holds one, or of an activation or a normalisation. The
    module has to run once in a pass, and the grid has to have more than one position in a frame.

    Args:
        module: The network.
        clip: (1, C, T, H, W), or as the network takes its frames.
    """
    return _recorded(module, clip)[0]


def listed(found: Sequence[Volume]) -> str:
    """Returns the deepest volumes as one line of text with the axes c × t × h × w, the deepest last."""
    omitted = len(found) - _LISTED
    names = [f"… {omitted} before", *map(str, found[-_LISTED:])] if omitted > 0 else [str(one) for one in found]
    return ", ".join(names)


def last_convolution(module: nn.Module, clip: Tensor) -> str | None:
    """Returns the name of the module whose output is the last convolutional feature volume, if that is unambiguous.

    It is the deepest volume on the grid of the last convolution, with the activation and the shortcut that follow it.
    None is returned where a part of the logits does not depend on it, as in a network of several pathways, and where
    more layers with weights follow it than come before it, as after the patch embedding of a transformer.

    Args:
        module: The network, in eval mode, its parameters frozen.
        clip: As in `volumes`.
    """
    found, convolutions, weighted = _recorded(module, clip)
    grids = [one.shape[1:] for one in found if one.name in convolutions]
    if not grids:
        return None
    last = [one for one in found if one.shape[1:] == grids[-1]][-1]
    after = sum(step > last.step for step in weighted)
    if after > len(weighted) - after:
        return None
    return last.name if _carries_all(module, clip, last.name) else None


def _recorded(module: nn.Module, clip: Tensor) -> tuple[list[Volume], set[str], list[int]]:
    """Returns the volumes, the names of the convolutions, and the step of each module that has weights of its own."""
    runs: Counter[str] = Counter()
    found: list[Volume] = []
    weighted: list[int] = []

    def note(name: str, part: nn.Module, _inputs: object, output: object) -> None:
        runs[name] += 1
        step = sum(runs.values())
        if any(parameter.ndim > 1 for parameter in part.parameters(recurse=False)):
            weighted.append(step)
        shape = _shape(output) if name else None
        # An activation inside a transformer has axes of another order: it has to have the shape of a convolution.
        if shape is not None and (_convolves(part) or (_follows(part) and any(shape == one.shape for one in found))):
            found.append(Volume(name, shape, step))

    parts = dict(module.named_modules())
    with _hooks((part, partial(note, name)) for name, part in parts.items()), torch.no_grad():
        module(clip)
    convolutions = {name for name, part in parts.items() if isinstance(part, _ConvNd)}
    return [one for one in found if runs[one.name] == 1], convolutions, weighted


def _convolves(part: nn.Module) -> bool:
    return any(isinstance(inner, _ConvNd) for inner in part.modules())


def _follows(part: nn.Module) -> bool:
    return isinstance(part, _FOLLOWING)


def _shape(output: object) -> tuple[int, int, int, int] | None:
    """Returns (c, t, h, w) of (1, c, t, h, w), or of the frames (t, c, h, w) of one clip; None for anything else."""
    if not isinstance(output, Tensor) or output.shape[-2:].numel() == 1:
        return None
    if output.ndim == 5 and len(output) == 1:
        c, t, h, w = output.shape[1:]
        return c, t, h, w
    if output.ndim == 4:
        t, c, h, w = output.shape
        return c, t, h, w
    return None


def _carries_all(module: nn.Module, clip: Tensor, name: str) -> bool:
    """Returns whether the logits depend on the clip through this layer alone."""

    def cut(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        return output.detach().clone()

    with _hooks([(module.get_submodule(name), cut)]), torch.enable_grad():
        return not module(clip.detach().clone().requires_grad_()).requires_grad


@contextmanager
def _hooks(
    hooks: Sequence[tuple[nn.Module, Callable[..., object]]] | Iterator[tuple[nn.Module, Callable[..., object]]],
) -> Iterator[None]:
    with ExitStack() as stack:
        for part, hook in hooks:
            stack.callback(part.register_forward_hook(hook).remove)
        yield


_FOLLOWING = (
    nn.modules.batchnorm._BatchNorm,
    nn.GroupNorm,
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.PReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Hardswish,
    nn.Sigmoid,
    nn.Tanh,
)
"""Modules that keep the grid of the convolution before them."""
