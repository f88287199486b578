"""The terms of an extremal perturbation's energy that depend only on the mask: its area, and its cores.

Fong, Patrick, Vedaldi, ICCV 2019, eq. 4; Li, Z., Wang, W., Li, Z., Huang, Y., Sato, Y., "Towards Visually Explaining
Video Understanding Networks with Perturbation", WACV 2021, eq. 6 to 11, and the code released with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum, auto

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import fold, unfold

# From values (B, R, V) and the number (B,) of values that should be 1 in each row, to targets (B, R, V) in [0, 1].
Target = Callable[[Tensor, Tensor], Tensor]


class MaskTies(StrEnum):
    """Targets of equal values: an equal share of the remaining ones (`share`), or 1 for a random choice (`shuffle`)."""

    share = auto()
    shuffle = auto()


class CoreShape(StrEnum):
    """The support of the core kernel: an ellipsoid (eq. 8), or its largest disc on every frame."""

    ellipsoid = auto()
    cylinder = auto()


class CoreTopK(StrEnum):
    """How many windows should be full: as many disjoint cores as the area allows, or a share β·a of all windows."""

    count = auto()  # type: ignore[assignment]  # hides str.count, which is not used on a choice
    beta = auto()


def shared_target(values: Tensor, ones: Tensor) -> Tensor:
    """Returns targets of 1 for the largest values of each row; equal values at the threshold share the remainder.

    The threshold is found by bisection of [−1, 1], up to a few rounding errors, 2⁻²¹ (2⁻⁴⁰ for float64), instead of by
    sorting. Values that differ by less are ties, because rounding would decide which one is larger.

    Args:
        values: (B, R, V) in [0, 1].
        ones: Sum of each row of targets, (B,).

    Returns:
        Targets (B, R, V).
    """
    wanted = ones[:, None, None].expand(-1, values.shape[1], 1)
    low, high = torch.full_like(values[..., :1], -1), torch.ones_like(values[..., :1])
    larger = torch.empty_like(values)  # floats are summed four times as fast as booleans
    for _ in range(_bits(values) + 1):
        middle = (low + high) / 2
        enough = torch.gt(values, middle, out=larger).sum(-1, keepdim=True) <= wanted
        high, low = torch.where(enough, middle, high), torch.where(enough, low, middle)
    return _between(values, low, high, wanted)


def selected_target(values: Tensor, ones: Tensor) -> Tensor:
    """Computes the same as `shared_target`, on a CPU, from the largest value whose target is not 1.

    NumPy selects that value in a hundredth of the time that bisection takes. It has to know `ones` as a number, so that
    a recorded loop cannot do this.
    """
    wanted = ones[:, None, None].expand(-1, values.shape[1], 1)
    grid = 2.0 ** _bits(values)
    high = torch.full_like(values[..., :1], 1 / grid - 1)  # below all values: all targets are 1
    for own, count, found in zip(np.from_dlpack(values), np.from_dlpack(ones), high, strict=True):
        last = own.shape[-1] - int(count) - 1
        if last >= 0:
            exact = np.partition(own, last)[..., last].astype(np.float64)
            found[:, 0] = torch.from_numpy(np.minimum(np.ceil(exact * grid) / grid, 1))
    return _between(values, high - 1 / grid, high, wanted)


def _bits(values: Tensor) -> int:
    """Returns n of the resolution 2⁻ⁿ of values: those between the same two multiples of it are ties."""
    return 40 if values.dtype is torch.float64 else 21


def _between(values: Tensor, low: Tensor, high: Tensor, wanted: Tensor) -> Tensor:
    """Returns targets of 1 above `high` and 0 up to `low`; those between share what is left of their sum `wanted`."""
    above, from_low = (torch.gt(values, bound, out=torch.empty_like(values)) for bound in (high, low))
    some, more = above.sum(-1, keepdim=True), from_low.sum(-1, keepdim=True)
    return above.lerp_(from_low, (wanted - some) / (more - some).clamp(min=1))


def shuffled_target(values: Tensor, ones: Tensor, noise: Tensor) -> Tensor:
    """Returns targets of 1 for the `ones` (B,) largest values of each row, ties in the order of `noise` (B, R, V)."""
    order = noise.argsort(-1)
    order = order.gather(-1, values.gather(-1, order).argsort(dim=-1, stable=True))
    rank = torch.arange(values.shape[-1], 0, -1, device=values.device)
    return torch.zeros_like(values).scatter_(
        -1, order, (rank <= ones[:, None, None]).to(values.dtype).expand_as(values)
    )


def area_ones(area: float, voxels: int) -> int:
    """Returns how many of V voxels should be 1: V − ⌊V·(1 − a)⌋."""
    return voxels - math.floor(voxels * (1 - area))


def area_loss(planes: Tensor, ones: Tensor, target: Target) -> Tensor:
    """Returns the area loss (B,): the mean square distance of the sorted mask to zeros followed by `ones` ones (eq. 6).

    Sorting is not needed: a value is compared with 1 if it is among the largest, otherwise with 0. A tied value with
    the target f costs f·(1 − m)² + (1 − f)·m², so that the loss equals that of sorting and the gradient is its mean
    over the orders of tied values.

    Unlike the paper, which has the squared norm, this is the mean, as in the code; the weight λ refers to the mean.

    Args:
        planes: (B, R, V): R rows of V values that are ranked together; R = 1 for a clip's volume, T for its frames (eq.
            11).
        ones: How many of V should be 1, (B,).
        target: `shared_target`, or a function that shuffles ties.
    """
    full = target(planes.detach(), ones)
    return (planes.square() - full * (2 * planes - 1)).mean((1, 2))


def area_slope(planes: Tensor, ones: Tensor, target: Target) -> Tensor:
    """Returns the derivative (B, R, V) of `area_loss`: 2(m − f) over the number of values."""
    full = target(planes, ones)
    return torch.sub(planes, full, out=full).mul_(2 / planes[0].numel())


def core_kernel(size: list[int], shape: CoreShape) -> Tensor:
    """Returns the (kt, kh, kw) float64 kernel: 1 where the distance to the centre is at most 1 (eq. 8), else 0.

    Each axis runs from −1 to 1. The square root is computed, as in the code, because rounding decides at the border, as
    at (0, .6, .8).
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
    """Returns the mean of a mask (B, T, H, W) over the kernel's support at every position, (B, windows), unpadded.

    Each slice of the kernel is applied to every frame, and the results are summed along time.
    """
    clips, frames = mask.shape[:2]
    slices = (kernel / kernel.sum()).to(mask).flatten(1)
    size = kernel.shape[1:]
    if _apart(kernel, stride):
        patches = _tiles(mask, size).permute(0, 1, 3, 5, 2, 4).reshape(clips * frames, slices.shape[1], -1)
    else:
        patches = unfold(mask.flatten(0, 1)[:, None], size, stride=(stride[1], stride[2]))
    sums = (slices @ patches).view(clips, frames, len(kernel), -1)
    last = frames - len(kernel) + 1
    return torch.stack([sums[:, k : k + last : stride[0], k] for k in range(len(kernel))]).sum(0).flatten(1)


def spread_windows(windows: Tensor, kernel: Tensor, stride: list[int], slope: Tensor) -> None:
    """Adds the derivative by the mask to `slope` (B, T, H, W), given that by the windows (B, V) of `core_windows`."""
    clips, frames, height, width = slope.shape
    slices = (kernel / kernel.sum()).to(windows).flatten(1)
    size = kernel.shape[1:]
    last = frames - len(kernel) + 1
    by_time = windows.view(clips, -(-last // stride[0]), -1)
    sums = windows.new_zeros(clips, frames, len(kernel), by_time.shape[2])
    for k in range(len(kernel)):
        sums[:, k : k + last : stride[0], k] = by_time
    patches = slices.T @ sums.flatten(0, 1)
    if _apart(kernel, stride):
        tiles = _tiles(slope, size)
        tiles += patches.view(clips, frames, *size, tiles.shape[2], tiles.shape[4]).permute(0, 1, 4, 2, 5, 3)
    else:
        spread = fold(patches, (height, width), size, stride=(stride[1], stride[2]))
        slope += spread.view_as(slope)


def _apart(kernel: Tensor, stride: list[int]) -> bool:
    """Whether windows lie side by side in space, so that each pixel is in one of them."""
    return list(kernel.shape[1:]) == stride[1:]


def _tiles(plane: Tensor, size: torch.Size) -> Tensor:
    """Returns a view (B, T, rows, kh, columns, kw) of the windows of a plane (B, T, H, W) that lie side by side."""
    rows, columns = plane.shape[2] // size[0], plane.shape[3] // size[1]
    inside = plane[..., : rows * size[0], : columns * size[1]]
    return inside.unfold(2, size[0], size[0]).unfold(3, size[1], size[1]).permute(0, 1, 2, 4, 3, 5)


def core_ones(rule: CoreTopK, area: float, kernel: list[int], plane: tuple[int, int, int], windows: int) -> int:
    """Returns how many windows of the (T, Ĥ, Ŵ) `plane` should be full for one preservation ratio.

    count: ⌈a·T·Ĥ·Ŵ / ⌊0.5236·kt·kh·kw⌋⌉, the number of disjoint cores of that area; 0.5236 is π/6 in the code.
    beta: ⌊β·a·windows⌋ with β = T·Ĥ·Ŵ / ((T+kt−1)(Ĥ+kh−1)(Ŵ+kw−1)). At most the number of windows.
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
    windows together weigh as much as all the empty ones.

    Args:
        windows: (B, V) means of the mask, from `core_windows`.
        ones: How many of V should be full, (B,).
        target: As for `area_loss`.
    """
    full = target(windows.detach()[:, None], ones)[:, 0]
    filled = (full * (windows - 1).square()).sum(1) / ones.clamp(min=1)
    return filled + ((1 - full) * windows.square()).sum(1) / (windows.shape[1] - ones).clamp(min=1)


def core_slope(windows: Tensor, ones: Tensor, target: Target) -> Tensor:
    """Returns the derivative (B, V) of `core_loss` by the windows."""
    full = target(windows[:, None], ones)[:, 0]
    filled, empty = ones.clamp(min=1)[:, None], (windows.shape[1] - ones).clamp(min=1)[:, None]
    return 2 * (full * (windows - 1) / filled + (1 - full) * windows / empty)
