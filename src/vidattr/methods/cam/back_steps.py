"""Finds the convolutions that lead back from the last features of a network, one after the other."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from vidattr.models.network.network import VideoModel
from vidattr.models.speed.lagging import on_host, onto

_PROBED = 3  # channels by which it is tested that a volume keeps the channels of another one


@dataclass(frozen=True)
class _Run:
    """One run of a convolution in a pass, with its input and output."""

    name: str
    module: _ConvNd
    input: Tensor
    output: Tensor


# Names only, because weights may move to another device. An entry is deleted together with its network.
_found: WeakKeyDictionary[VideoModel, dict[str, tuple[str, ...]]] = WeakKeyDictionary()


def back_steps(model: VideoModel, frames: Tensor, layer: str) -> tuple[str, ...]:
    """Returns the names of the convolutions from `layer` back to the second one of the network, the last one first.

    The first of them computes the channels of `layer`'s output, and each computes the channels of the input of the one
    before it in the list. What lies between two of them (normalisation, activation, pooling, the addition of a
    shortcut) keeps channels apart. That is tested with gradients and not concluded from numbers of channels: on a clip
    of noise, a channel of the later volume must depend on this channel of the earlier volume and on no other. Of
    convolutions that read the same tensor, as a block and its shortcut do, the first one is followed. The list ends
    where no single convolution computes the channels, as where branches are concatenated, and before the convolution
    that reads the frames.

    The test runs once per network and layer: one forward pass, and a few backward passes between two convolutions. The
    host waits for the result of each pair of volumes, because it decides which pair is next.

    Args:
        model: The network.
        frames: (N, C, T, H, W); only their shape, type and device are used.
        layer: Name of the module that computes the last features.
    """
    known = _found.setdefault(model, {})
    if layer not in known:
        known[layer] = _search(model, frames, layer)
    return known[layer]


@torch.enable_grad()
def _search(model: VideoModel, frames: Tensor, layer: str) -> tuple[str, ...]:
    shape = frames.shape[2:]
    noise = torch.randint(256, (1, *shape, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    clip = model.view.normalise(onto(frames.device, noise)).to(frames.dtype).requires_grad_()
    runs, last = _recorded(model, clip, layer)
    path: list[str] = []
    later, end = last, len(runs)
    while True:
        place = next((k for k in reversed(range(end)) if _keeps_channels(runs[k].output, later)), None)
        if place is None:
            # The volume before this one is the clip, or is computed by no single convolution.
            return tuple(path[:-1])
        path.append(runs[place].name)
        later, end = runs[place].input, place


def _recorded(model: VideoModel, clip: Tensor, layer: str) -> tuple[list[_Run], Tensor]:
    """Returns the runs of the convolutions before `layer` ends, in order, without parallel ones; and its output."""
    runs: list[_Run] = []
    last: list[Tensor] = []
    names = {module: name for name, module in model.module.named_modules()}
    with ExitStack() as stack:

        def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if isinstance(module, _ConvNd) and not last:
                runs.append(_Run(names[module], module, inputs[0], output))

        def end(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            last.append(output)

        for module in names:
            if isinstance(module, _ConvNd):
                stack.callback(module.register_forward_hook(keep).remove)
        stack.callback(model.module.get_submodule(layer).register_forward_hook(end).remove)
        model(clip)
    first: dict[int, str] = {}
    for run in runs:
        first.setdefault(id(run.input), run.name)
    ran = [run.name for run in runs]
    main = [run for run in runs if first[id(run.input)] == run.name and ran.count(run.name) == 1]
    return main, last[0]


def _keeps_channels(earlier: Tensor, later: Tensor) -> bool:
    """Returns whether each channel (axis 1) of `later` depends on the same channel of `earlier` and on no other."""
    if earlier.ndim != later.ndim or earlier.shape[1] != later.shape[1]:
        return False
    size = later.detach().abs().transpose(0, 1).flatten(1).amax(1)
    largest = size.topk(min(_PROBED, len(size))).indices  # large values: activations let them through
    alike = []
    for channel in torch.tensor_split(largest, len(largest)):
        probe = later.index_select(1, channel).sum()
        slopes = torch.autograd.grad(probe, earlier, retain_graph=True, allow_unused=True)
        slope: Tensor | None = slopes[0]
        if slope is None:
            return False
        used = slope.transpose(0, 1).flatten(1).ne(0).any(1)
        alike.append((used == torch.zeros_like(used).index_fill(0, channel, True)).all())
    return bool(np.from_dlpack(on_host(torch.stack(alike).to(torch.uint8))[0]).all())
