"""Anchors on a grid over the first frame, and their paths along the optical flow (Uchiyama et al., WACV 2023)."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum, auto

import torch
from torch import Tensor

from vidattr.errors import MethodUndefinedError
from vidattr.models.speed.lagging import onto


class Tracking(StrEnum):
    """The position of an anchor after a step: exact (`subpixel`), or the nearest pixel (`rounded`, as released).

    Rounding at every step removes motion slower than half a pixel per frame, and doubles slightly faster motion.
    """

    subpixel = auto()
    rounded = auto()


class Cooc(StrEnum):
    """What eq. (1) compares: an anchor's path until it leaves, or (as released) the flow along it, also afterwards."""

    displacement = auto()
    raw_flow = auto()


def places(length: int, stride: float) -> list[int]:
    """Returns ⌊s/2⌋, ⌊3s/2⌋, ⌊5s/2⌋, … below `length`: the positions of anchors on one axis.

    Raises:
        MethodUndefinedError: There are none.
    """
    found = [int((2 * i + 1) * stride / 2) for i in range(math.ceil(length / stride - 0.5))]
    if not found:
        raise MethodUndefinedError(
            f"method.stride={stride} leaves no place on an axis of length {length}", expected=f"less than {2 * length}"
        )
    return found


def grid(size: tuple[int, int], stride: float) -> Tensor:
    """Returns the anchors (A, 2) float32 as (y, x) on a frame of (H, W), row by row, on the CPU."""
    return torch.cartesian_prod(*(torch.tensor(places(length, stride), dtype=torch.float32) for length in size)).view(
        -1, 2
    )


def picture(pixels: Tensor, level: float | None) -> Tensor:
    """Returns the first and the last row (N, 2) float32 of (N, T, H, W, 3) uint8 outside black bars.

    A bar is a run of rows from the top or the bottom whose mean over frames, columns and colours is below `level`.
    Unlike in the released code, bars may have any height, also 0; a clip that is dark everywhere has no bars.
    """
    N, H = len(pixels), pixels.shape[2]
    whole = onto(pixels.device, torch.tensor([0.0, H - 1.0])).expand(N, 2)
    if level is None:
        return whole
    dark = (pixels.float().mean((1, 3, 4)) < level).long()
    bars = torch.stack([dark.cumprod(1).sum(1), dark.flip(1).cumprod(1).sum(1)], 1)
    inside = torch.stack([bars[:, 0], H - 1 - bars[:, 1]], 1).to(whole)
    return inside.where(dark.all(1, keepdim=True).logical_not(), whole)


_LANDINGS: dict[Tracking, Callable[[Tensor], Tensor]] = {
    Tracking.subpixel: lambda point: point,
    Tracking.rounded: torch.round,
}
_MOTIONS: dict[Cooc, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    Cooc.displacement: lambda path, flow, alive: path * alive[..., None],
    Cooc.raw_flow: lambda path, flow, alive: flow,
}


def track(flow: Tensor, anchors: Tensor, rows: Tensor, tracking: Tracking, cooc: Cooc) -> tuple[Tensor, Tensor, Tensor]:
    """Moves anchors along the flow: p ← p + F_t(p).

    Unlike the released code, which uses the borders 0 and 111 for every frame size, an anchor leaves when p + F_t(p) is
    outside the frame, or outside the rows of the picture. It does not return.

    Args:
        flow: (N, T-1, 2, H, W) as (dx, dy), from frame t to t+1.
        anchors: (A, 2) as (y, x) on the first frame.
        rows: (N, 2), the first and last row of the picture.
        tracking: Whether positions are rounded after every step.
        cooc: Which motion is returned.

    Returns:
        Positions (N, A, T, 2) as (y, x), clipped to the frame; whether each is alive, (N, A, T); and the motion (N, A,
        T-1, 2).
    """
    (N, steps, _, H, W), A = flow.shape, len(anchors)
    border = onto(anchors.device, torch.tensor([H - 1, W - 1], dtype=anchors.dtype))
    low = torch.stack([rows[:, 0], torch.zeros_like(rows[:, 0])], 1)[:, None]
    high = torch.stack([rows[:, 1], torch.full_like(rows[:, 1], W - 1)], 1)[:, None]
    positions = anchors[None, :, None].repeat(N, 1, steps + 1, 1)
    alive = torch.ones(N, A, steps + 1, dtype=torch.bool, device=flow.device)
    alive[:, :, 0] = ((anchors >= low) & (anchors <= high)).all(2)
    motion = flow.new_zeros(N, A, steps, 2)
    for t in range(steps):
        point = positions[:, :, t]
        met = _sample(flow[:, t].flip(1), point)
        there = point + met
        alive[:, :, t + 1] = alive[:, :, t] & ((there >= low) & (there <= high)).all(2)
        positions[:, :, t + 1] = torch.minimum(_LANDINGS[tracking](there).clamp(min=0), border)
        motion[:, :, t] = _MOTIONS[cooc](positions[:, :, t + 1] - point, met, alive[:, :, t + 1])
    return positions, alive, motion


def _sample(field: Tensor, points: Tensor) -> Tensor:
    """Returns (N, 2, H, W) at points (N, A, 2) inside the frame, bilinearly interpolated."""
    H, W = field.shape[2:]
    floor = points.floor()
    part = (points - floor)[:, None]
    y, x = floor.long().unbind(2)
    below, right = (y + 1).clamp(max=H - 1), (x + 1).clamp(max=W - 1)

    def at(row: Tensor, column: Tensor) -> Tensor:
        return field.flatten(2).gather(2, (row * W + column)[:, None].expand(-1, 2, -1))

    upper = torch.lerp(at(y, x), at(y, right), part[..., 1])
    lower = torch.lerp(at(below, x), at(below, right), part[..., 1])
    return torch.lerp(upper, lower, part[..., 0]).mT
