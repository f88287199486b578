"""Tubes: rectangles that follow the optical flow from a grid of anchors, as tables of numbers and never as masks.

Uchiyama, T. et al., "Visually explaining 3D-CNN predictions for video classification with an adaptive occlusion
sensitivity analysis", WACV 2023. A tube is T rectangles (top, bottom, left, right), bottom and right exclusive; a
rectangle of four zeros is empty.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum, auto

import torch
from torch import Tensor
from torch.nn.functional import pad

from vidattr.config.fields import keyed_by_content
from vidattr.errors import ConfigError, MethodUndefinedError
from vidattr.methods.occlusion.flow import Flow, Gray, optical_flow
from vidattr.profiling import stage
from vidattr.types import Query
from vidattr.video.preprocessing import Preprocessing

_STILL = 1e-6  # pixels: a path shorter than this goes in no direction


class Tracking(StrEnum):
    """Where an anchor is after a step: there (`subpixel`), or at the nearest pixel (`rounded`, as released).

    Rounding at every step loses all motion slower than half a pixel per frame, and doubles what is a little faster.
    """

    subpixel = auto()
    rounded = auto()


class Cooc(StrEnum):
    """What eq. (1) compares: the path of an anchor up to where it leaves, or (as released) the flow it meets, also after."""

    displacement = auto()
    raw_flow = auto()


@dataclass(frozen=True)
class TubeOptions:
    """The options that decide tubes. A method that occludes tubes is a dataclass which inherits these fields.

    Attributes:
        stride: Pixels between anchors, the first one ⌊stride/2⌋ from the border. None: a fourteenth of the shorter
            side, 8 at 112, but no less than 1: a square clip has 14 × 14 anchors at any resolution.
        size: Side of the rectangles in pixels. None: twice the stride, so that four tubes cover a pixel of the first
            frame.
        partners: K, how many tubes of the same motion are occluded together with each one; 0: none.
        flow: Which optical flow is followed.
        flow_weights: The weights of `flow=raft`.
        gray: What Farnebäck and DIS see of the colours.
        tracking: How positions are carried from frame to frame.
        cooc: What decides whether two tubes have the same motion.
        min_cooc: Only a tube whose co-occurrence is above this can be a partner.
        letterbox: Rows at the top and the bottom with a mean level (0 to 255) below this are black bars: anchors stay
            off them. None: there are no bars. The released code has 15.5.

    Raises:
        ConfigError: A number out of range, or weights without a flow that takes them.
    """

    stride: int | None = None
    size: int | None = None
    partners: int = 3
    flow: Flow = Flow.farneback
    flow_weights: str | None = keyed_by_content(None)
    gray: Gray = Gray.rgb
    tracking: Tracking = Tracking.subpixel
    cooc: Cooc = Cooc.displacement
    min_cooc: float = 0.0
    letterbox: float | None = None

    def __post_init__(self) -> None:
        for name in ("stride", "size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(
                    f"method.{name}={value}", expected="a number of pixels, or null for the one that fits the frame"
                )
        if self.partners < 0:
            raise ConfigError(f"method.partners={self.partners}", expected="0 or more")
        if not -1 <= self.min_cooc <= 1:
            raise ConfigError(f"method.min_cooc={self.min_cooc}", expected="a cosine, between -1 and 1")
        if self.letterbox is not None and not 0 < self.letterbox <= 255:
            raise ConfigError(
                f"method.letterbox={self.letterbox}", expected="a grey level above 0 and up to 255, or null"
            )
        self.flow.check(self.flow_weights)

    @property
    def anchors(self) -> int:
        """Anchors of a frame of 112 × 112 pixels, or of any square frame where `stride` is None."""
        return math.ceil(112 / (8 if self.stride is None else self.stride) - 0.5) ** 2


@dataclass(frozen=True)
class Tubes:
    """The tubes of N clips, on the device of their frames.

    Attributes:
        rectangles: (N, A, T, 4) int16: top, bottom, left, right of each of the A tubes on each frame; four zeros from
            the frame on which its anchor has left, and on all frames where the anchor starts on a black bar.
        partners: (N, A, K) int64: the tubes that go with each one, the most alike first; -1 where there is none.
    """

    rectangles: Tensor
    partners: Tensor

    @property
    def groups(self) -> Tensor:
        """Which tubes are occluded together for each anchor, itself first: (N, A, 1 + K) int64, -1 where there is none.

        An anchor that never lived has -1 throughout.
        """
        itself = torch.arange(self.rectangles.shape[1], device=self.rectangles.device)
        return torch.cat([itself.where(started(self.rectangles), -1)[..., None], self.partners], 2)


def tubes(query: Query, view: Preprocessing, options: TubeOptions) -> Tubes:
    """Returns the tubes of a query; those of the same options, and the flow they follow, are made once a query.

    Raises:
        MethodUndefinedError: The stride leaves no anchor on frames of this size.
    """
    name = ("tubes", *(getattr(options, option.name) for option in fields(TubeOptions)))
    return query.cached(name, lambda: _tubes(query, view, options))


def _tubes(query: Query, view: Preprocessing, options: TubeOptions) -> Tubes:
    pixels = view.denormalise(query.frames.detach())
    H, W = pixels.shape[2:4]
    flow_name = ("flow", options.flow, options.flow_weights, options.gray)
    flow = query.cached(flow_name, lambda: optical_flow(pixels, options.flow, options.gray, options.flow_weights))
    with stage("masks"):
        stride = scaled(8, (H, W)) if options.stride is None else options.stride
        size = round(2 * stride) if options.size is None else options.size
        anchors = grid((H, W), stride).to(pixels.device)
        positions, alive, motion = track(
            flow, anchors, picture(pixels, options.letterbox), options.tracking, options.cooc
        )
        rectangles = paint(positions, alive, size, (H, W))
        return Tubes(rectangles, partners(motion, anchors, started(rectangles), options.partners, options.min_cooc))


def scaled(pixels: int, size: tuple[int, int]) -> float:
    """Returns a length given for a frame of 112 × 112, in proportion to the shorter side of this one (H, W); at least 1."""
    return max(1.0, pixels * min(size) / 112)


def places(length: int, stride: float) -> list[int]:
    """Returns ⌊s/2⌋, ⌊3s/2⌋, ⌊5s/2⌋, … below `length`: where anchors lie on one axis.

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
    """Returns the first and the last row (N, 2) float32 of (N, T, H, W, 3) uint8 that are no black bar.

    A bar is a run of rows from the top or the bottom whose mean over frames, columns and colours is below `level`.
    Unlike in the released code, any height is found, also none; a clip that is dark all over has no bars.
    """
    N, H = len(pixels), pixels.shape[2]
    whole = torch.tensor([0.0, H - 1.0], device=pixels.device).expand(N, 2)
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
    """Carries anchors along the flow: p ← p + F_t(p).

    Unlike the released code, where 0 and 111 are the borders whatever the frame, an anchor leaves when p + F_t(p) is
    outside the frame, or the rows of the picture. It never comes back.

    Args:
        flow: (N, T-1, 2, H, W) as (dx, dy), from frame t to t+1.
        anchors: (A, 2) as (y, x) on the first frame.
        rows: (N, 2), the first and last row of the picture.
        tracking: Whether positions are rounded after every step.
        cooc: What the returned motion is.

    Returns:
        Positions (N, A, T, 2) as (y, x), clipped to the frame; whether each is alive, (N, A, T); and the motion (N, A,
        T-1, 2).
    """
    (N, steps, _, H, W), A = flow.shape, len(anchors)
    border = anchors.new_tensor([H - 1, W - 1])
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
    """Returns (N, 2, H, W) at points (N, A, 2) inside the frame, between pixels bilinearly, on pixels exactly."""
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


def paint(positions: Tensor, alive: Tensor, size: int, frame: tuple[int, int]) -> Tensor:
    """Returns the rectangles (N, A, T, 4) int16 of side `size` around positions (N, A, T, 2), cut by the frame (H, W)."""
    start = positions.round() - size // 2
    border = positions.new_tensor(frame)
    first, last = start.clamp(min=0), torch.minimum(start + size, border)
    return (torch.stack([first, last], -1).flatten(3) * alive[..., None]).to(torch.int16)


def started(rectangles: Tensor) -> Tensor:
    """Returns which tubes (N, A) of rectangles (N, A, T, 4) exist at all: those that are not empty on the first frame."""
    return rectangles[:, :, 0, 1] > 0


def partners(motion: Tensor, anchors: Tensor, lived: Tensor, count: int, min_cooc: float) -> Tensor:
    """Returns each anchor's `count` partners (N, A, count) int64 by decreasing co-occurrence, -1 where there is none.

    Co(i, j) = u_i·u_j / (‖u_i‖‖u_j‖), u being the motion over all frames, eq. (1). Unlike the released code: an anchor
    is never its own partner; one that does not move goes with none; partners must be above `min_cooc`; and of equals
    the one that starts nearer comes first, then the one of lower index.

    Args:
        motion: (N, A, T-1, 2).
        anchors: (A, 2), positions on the first frame.
        lived: (N, A), which anchors take part.
        count: K.
        min_cooc: The co-occurrence that a partner must exceed.
    """
    A = len(anchors)
    path = motion.flatten(2).double()
    length = path.norm(dim=2, keepdim=True)
    direction = torch.where(length < _STILL, 0.0, path / length.clamp(min=_STILL))
    # Rounded, so that what ties on paper ties here, whatever kernel summed it.
    cooc = (direction @ direction.mT).mul(1e6).round().div(1e6)
    itself = torch.eye(A, dtype=torch.bool, device=motion.device)
    possible = (cooc > min_cooc) & lived[:, :, None] & lived[:, None] & ~itself
    near = (anchors[:, None] - anchors).double().square().sum(2).argsort(dim=1, stable=True)
    ranked = cooc.where(possible, -torch.inf).gather(2, near.expand_as(cooc)).sort(dim=2, descending=True, stable=True)
    best, place = ranked.values[..., :count], ranked.indices[..., :count]
    chosen = near.expand_as(cooc).gather(2, place).where(best > -torch.inf, -1)
    return pad(chosen, (0, max(0, count - A)), value=-1)


def union_mask(rectangles: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns the voxels (P, T, H, W) bool in any of G tubes, of rectangles (P, G, T, 4) on frames of (H, W).

    For one chunk of P occlusions at a time: P·T·H·W bytes, and twice that while they are made.
    """
    top, bottom, left, right = rectangles[..., None].unbind(3)
    row, column = (torch.arange(length, device=rectangles.device, dtype=rectangles.dtype) for length in size)
    rows, columns = (row >= top) & (row < bottom), (column >= left) & (column < right)
    mask = rows[:, 0, :, :, None] & columns[:, 0, :, None]
    for g in range(1, rectangles.shape[1]):
        mask |= rows[:, g, :, :, None] & columns[:, g, :, None]
    return mask
