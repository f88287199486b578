"""The terms of an extremal perturbation's energy that know only the mask: its area, and the cores it is made of.

Fong, Patrick, Vedaldi, ICCV 2019, eq. 4; Li, Z., Wang, W., Li, Z., Huang, Y., Sato, Y., "Towards Visually Explaining
Video Understanding Networks with Perturbation", WACV 2021, eq. 6 to 11, and the code released with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum, auto

import torch
from torch import Tensor
from torch.nn.functional import unfold

# Turns values (B, R, V) and how many of each row's V shall be 1, (B,), into targets (B, R, V) in [0, 1] of that sum.
Target = Callable[[Tensor, Tensor], Tensor]


class MaskTies(StrEnum):
    """Which of equal values are told to become 1: all of them a share of it, or as many as it takes, drawn at random."""

    share = auto()
    shuffle = auto()


class CoreShape(StrEnum):
    """The ones of the core kernel: an ellipsoid (eq. 8), or its largest disc on every frame."""

    ellipsoid = auto()
    cylinder = auto()


class CoreTopK(StrEnum):
    """How many windows shall be full: as many disjoint cores as the area buys, or a share β·a of all windows."""

    count = auto()  # type: ignore[assignment]  # hides str.count, which nobody asks of a choice
    beta = auto()


def shared_target(values: Tensor, ones: Tensor) -> Tensor:
    """Tells the largest values of each row to be 1; the ones at the threshold, if they are equal, share what is left.

    The threshold is found by halving [−1, 1] until it is known to a few rounding errors, 2⁻²¹ (2⁻⁴⁰ for float64),
    instead of by sorting. Values that are no further apart are ties: which one is larger would be decided by rounding.

    Args:
        values: (B, R, V) in [0, 1].
        ones: Sum of each row of targets, (B,).

    Returns:
        Targets (B, R, V).
    """
    wanted = ones[:, None, None].expand(-1, values.shape[1], 1)
    low, high = torch.full_like(values[..., :1], -1), torch.ones_like(values[..., :1])
    larger = torch.empty_like(values)  # in floats, which are summed four times as fast as truth values
    for _ in range(41 if values.dtype is torch.float64 else 22):
        middle = (low + high) / 2
        enough = torch.gt(values, middle, out=larger).sum(-1, keepdim=True) <= wanted
        high, low = torch.where(enough, middle, high), torch.where(enough, low, middle)
    above, tied = values > high, (values > low) & (values <= high)
    share = (wanted - above.sum(-1, keepdim=True)) / tied.sum(-1, keepdim=True).clamp(min=1)
    return torch.where(tied, share.to(values.dtype), above.to(values.dtype))


def shuffled_target(values: Tensor, ones: Tensor, noise: Tensor) -> Tensor:
    """Sorts each row, equal values in the order of `noise` (B, R, V), and tells the last `ones` (B,) of it to be 1."""
    order = noise.argsort(-1)
    order = order.gather(-1, values.gather(-1, order).argsort(dim=-1, stable=True))
    rank = torch.arange(values.shape[-1], 0, -1, device=values.device)
    return torch.zeros_like(values).scatter_(
        -1, order, (rank <= ones[:, None, None]).to(values.dtype).expand_as(values)
    )


def area_ones(area: float, voxels: int) -> int:
    """Returns how many of `voxels` shall be 1: all but the first ⌊V·(1 − a)⌋."""
    return voxels - math.floor(voxels * (1 - area))


def area_loss(planes: Tensor, ones: Tensor, target: Target) -> Tensor:
    """Returns the area loss (B,): the mean square distance of the sorted mask to zeros followed by `ones` ones (eq. 6).

    Sorting is not needed: a value is compared with 1 if it is among the largest, else with 0. One that shares its
        target f
    with equal values costs f·(1 − m)² + (1 − f)·m², so that the loss is that of sorting and the gradient its mean over
    ties.

    Unlike the paper, which has the squared norm, this is the mean, as in the code; the weight λ is meant for that.

    Args:
        planes: (B, R, V): what is ranked together, R rows of V values; R = 1 for a clip's volume, T for its frames (eq.
            11).
        ones: How many of V shall be 1, (B,).
        target: `shared_target`, or one that shuffles.
    """
    full = target(planes.detach(), ones)
    return (planes.square() - full * (2 * planes - 1)).mean((1, 2))


def core_kernel(size: list[int], shape: CoreShape) -> Tensor:
    """Returns the (kt, kh, kw) float64 kernel of zeros and ones: 1 where the distance to the centre is at most 1 (eq. 8).

    Each axis runs from −1 to 1. The root is taken, as in the code: (0, .6, .8) lies on the border, and rounding
    decides.
    """
    t, h, w = (
        torch.linspace(-1, 1, k, dtype=torch.float64).square() if k > 1 else torch.zeros(1, dtype=torch.float64)
        for k in size
    )
    squares = (
        h[:, None]
        + w
        + (t[:, None, None] if shape is CoreShape.ellipsoid else torch.zeros(size[0], 1, 1, dtype=torch.float64))
    )
    return (squares.sqrt() <= 1).double()


def core_windows(mask: Tensor, kernel: Tensor, stride: list[int]) -> Tensor:
    """Returns the mean of a mask (B, T, H, W) under the ones of a kernel at every place, (B, windows), without padding.

    Frame by frame with every slice of the kernel, then along time: windows do not overlap in space, and this touches
        each
    pixel once a slice.
    """
    clips, frames = mask.shape[:2]
    slices = (kernel / kernel.sum()).to(mask).flatten(1)
    patches = unfold(mask.flatten(0, 1)[:, None], (kernel.shape[1], kernel.shape[2]), stride=(stride[1], stride[2]))
    sums = (slices @ patches).view(clips, frames, len(kernel), -1)
    last = frames - len(kernel) + 1
    return torch.stack([sums[:, k : k + last : stride[0], k] for k in range(len(kernel))]).sum(0).flatten(1)


def core_ones(rule: CoreTopK, area: float, kernel: list[int], plane: tuple[int, int, int], windows: int) -> int:
    """Returns how many windows of the (T, Ĥ, Ŵ) `plane` shall be full for one preservation ratio.

    count: ⌈a·T·Ĥ·Ŵ / ⌊0.5236·kt·kh·kw⌋⌉, the number of cores that the area buys if they are disjoint; 0.5236 is the
        code's
    π/6. beta: ⌊β·a·windows⌋ with β = T·Ĥ·Ŵ / ((T+kt−1)(Ĥ+kh−1)(Ŵ+kw−1)). Never more than there are windows.
    """
    voxels = math.prod(plane)
    beta = voxels / math.prod(length + k - 1 for length, k in zip(plane, kernel, strict=True))
    numbers = {
        CoreTopK.count: math.ceil(area * voxels / max(1, math.floor(0.5236 * math.prod(kernel)))),
        CoreTopK.beta: math.floor(beta * area * windows),
    }
    return min(windows, numbers[rule])


def core_loss(windows: Tensor, ones: Tensor, target: Target) -> Tensor:
    """Returns the core loss (B,): mean of (c − 1)² over the `ones` largest windows plus mean of c² over the others.

    Unlike the paper's eq. 7, one squared norm over all windows, these are two means, as in the code: the few full
    windows weigh as much as all the empty ones.

    Args:
        windows: (B, V) means of the mask, from `core_windows`.
        ones: How many of V shall be full, (B,).
        target: As for `area_loss`.
    """
    full = target(windows.detach()[:, None], ones)[:, 0]
    filled = (full * (windows - 1).square()).sum(1) / ones.clamp(min=1)
    return filled + ((1 - full) * windows.square()).sum(1) / (windows.shape[1] - ones).clamp(min=1)
