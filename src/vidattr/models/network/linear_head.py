"""Finds the linear head of a network: logits = W · (global average of a feature volume) + b."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from vidattr.errors import MethodUndefinedError
from vidattr.models.network.network import VideoModel
from vidattr.models.speed.lagging import on_host, onto

_TOLERANCE = 1e-3  # of the largest logit; the arithmetic of some devices keeps ten bits


@dataclass(frozen=True)
class _Average:
    """The global average (N, c) of a module's output, and the number of cells that it averages."""

    layer: str
    mean: Tensor
    cells: int


# Names only, because weights may move to another device. An entry is deleted together with its network.
_found: WeakKeyDictionary[VideoModel, tuple[str, str]] = WeakKeyDictionary()


def gap_linear_head(network: VideoModel, frames: Tensor) -> tuple[str, Tensor, Tensor | None]:
    """Finds the feature volume A whose global average the network classifies linearly: z = W · mean_thw(A) + b.

    Networks average in many ways: before the linear layer or after it, by a module or a function. So the head is found
    by a test and not from the structure: on one clip of noise, every module's output is averaged and put through every
    linear layer with K outputs, and the pair that gives the logits is the head. If several pairs do, as before and
    after a dropout, `network.layer` is preferred, then the finest grid, then the outermost module.

    The test runs once per network: a forward pass, and comparisons of all pairs, whose results the host reads together.
    Later calls look up its result.

    Args:
        network: The network.
        frames: (N, C, T, H, W); only their shape, type and device are used.

    Returns:
        The name of the module whose output is A (N, c, t, h, w), W (K, c), and b (K,) or None.

    Raises:
        MethodUndefinedError: There is no such pair, as in a CNN-LSTM or with two layers after the pool.
    """
    if network not in _found:
        _found[network] = _search(network, frames)
    layer, head = _found[network]
    return layer, *_parameters(network.module.get_submodule(head))


@torch.no_grad()
def _search(network: VideoModel, frames: Tensor) -> tuple[str, str]:
    shape = frames.shape[2:]
    # Noise in bytes, as real clips are: noise of another scale could leave all units at zero, which fits any head.
    noise = torch.randint(256, (1, *shape, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    averages, logits = _averages(network, network.view.normalise(onto(frames.device, noise)).to(frames.dtype))
    heads = {name: module for name, module in network.module.named_modules() if _is_linear(module, logits.shape[1])}
    if not heads:
        raise _refusal(f"no linear layer or 1 × 1 × 1 convolution has {logits.shape[1]} outputs")
    pairs = [
        (average, name)
        for name, module in heads.items()
        for average in averages
        if average.mean.shape[1] == _parameters(module)[0].shape[1]
    ]
    fits = [_fits(average.mean, heads[name], logits) for average, name in pairs]
    flags = np.from_dlpack(on_host(torch.stack(fits).to(torch.uint8))[0]) if fits else ()
    fitting = [pair for pair, fit in zip(pairs, flags, strict=True) if fit]
    if not fitting:
        raise _refusal(f"the average of no module's output gives the logits through {' or '.join(heads)}")
    volumes = [(average, head) for average, head in fitting if average.cells > 1]
    if not volumes:
        raise _refusal(
            f"only {fitting[0][0].layer!r}, which is averaged already, gives the logits through {fitting[0][1]!r}"
        )
    average, head = min(
        volumes, key=lambda pair: (pair[0].layer != network.layer, -pair[0].cells, pair[0].layer.count("."))
    )
    return average.layer, head


def _averages(network: VideoModel, clip: Tensor) -> tuple[list[_Average], Tensor]:
    """Returns the average of each module's output that has the axes (1, c, t, h, w), and the (1, K) logits."""
    seen: dict[str, list[_Average]] = {}
    with ExitStack() as stack:
        for name, module in network.module.named_modules():

            def keep(_module: nn.Module, _inputs: object, output: object, name: str = name) -> None:
                volume = _volume(network, output)
                if volume is not None:
                    seen.setdefault(name, []).append(_Average(name, volume.mean((2, 3, 4)), prod(volume.shape[2:])))

            stack.callback(module.register_forward_hook(keep).remove)
        logits = network(clip)
    # A layer that runs twice has two outputs, and no method can hook it.
    return [runs[0] for runs in seen.values() if len(runs) == 1], logits


def _volume(network: VideoModel, output: object) -> Tensor | None:
    if not isinstance(output, Tensor) or output.ndim < 3:
        return None
    try:
        return network.volume(output, 1)
    except (MethodUndefinedError, RuntimeError):  # the network's `unfold` does not know this shape
        return None


def _is_linear(module: nn.Module, outputs: int) -> bool:
    if isinstance(module, nn.Linear):
        return module.out_features == outputs
    return (
        isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        and module.out_channels == outputs
        and prod(module.kernel_size) == module.groups == 1
    )


def _fits(mean: Tensor, head: nn.Module, logits: Tensor) -> Tensor:
    """Returns whether a linear layer gives the logits from an average, as a flag on their device."""
    scale = logits.abs().amax().clamp_min(torch.finfo(logits.dtype).tiny)
    return torch.isclose(linear(mean, *_parameters(head)) / scale, logits / scale, rtol=0, atol=_TOLERANCE).all()


def _parameters(head: nn.Module) -> tuple[Tensor, Tensor | None]:
    weight, bias = head.weight, head.bias
    assert isinstance(weight, Tensor)
    return weight.flatten(1), bias if isinstance(bias, Tensor) else None


def _refusal(reason: str) -> MethodUndefinedError:
    return MethodUndefinedError(
        f"this network's head is not a global average and one linear layer: {reason}",
        expected="logits = W · mean(features) + b, with the features the output of a module that runs once",
        remedy="choose a method that needs no such head (method=grad_cam), or make the features the output of a module",
    )
