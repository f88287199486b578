"""Tubes: rectangles that follow the optical flow from a grid of anchors, stored as tables of numbers, not as masks.

Uchiyama, T. et al., "Visually explaining 3D-CNN predictions for video classification with an adaptive occlusion
sensitivity analysis", WACV 2023. A tube is T rectangles (top, bottom, left, right), bottom and right exclusive; a
rectangle of four zeros is empty.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn.functional import pad

from vidattr.config.fields import keyed_by_content
from vidattr.errors import ConfigError
from vidattr.methods.occlusion.flow import Flow, Gray, query_flow
from vidattr.methods.occlusion.tracking import Cooc, Tracking, grid, picture, track
from vidattr.models.speed.lagging import onto
from vidattr.profiling import stage
from vidattr.types import Query
from vidattr.video.preprocessing import Preprocessing

_STILL = 1e-6  # pixels: a shorter path has no direction


@dataclass(frozen=True)
class TubeOptions:
    """The options of the tubes. Methods that occlude tubes inherit these fields.

    Attributes:
        stride: Pixels between anchors, the first one ⌊stride/2⌋ from the border. None: a fourteenth of the shorter
            side, 8 at 112, but no less than 1: a square clip has 14 × 14 anchors at any resolution.
        size: Side of the rectangles in pixels. None: twice the stride, so that four tubes cover a pixel of the first
            frame.
        partners: K, the number of tubes with similar motion that are occluded together with each tube.
        flow: Which optical flow is followed.
        flow_weights: The weights of `flow=raft`.
        gray: How Farnebäck and DIS convert colours to grey.
        tracking: How positions are carried from frame to frame.
        cooc: The motion that is compared between two tubes.
        min_cooc: The co-occurrence that a partner must exceed.
        letterbox: Rows at the top and the bottom with a mean level (0 to 255) below this are black bars, which get no
            anchors. None: there are no bars. 15.5 in the released code.

    Raises:
        ConfigError: A number out of range, or weights for a flow that takes none.
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
        """Number of anchors on a frame of 112 × 112 pixels, or on any square frame if `stride` is None."""
        return math.ceil(112 / (8 if self.stride is None else self.stride) - 0.5) ** 2


@dataclass(frozen=True)
class Tubes:
    """The tubes of N clips, on the device of their frames.

    Attributes:
        rectangles: (N, A, T, 4) int16: top, bottom, left, right of each of the A tubes on each frame; four zeros from
            the frame on which its anchor has left, and on all frames where the anchor starts on a black bar.
        partners: (N, A, K) int64: the tubes occluded together with each tube, the most similar first; -1 for none.
    """

    rectangles: Tensor
    partners: Tensor

    @property
    def groups(self) -> Tensor:
        """The tubes that are occluded together for each anchor, its own first: (N, A, 1 + K) int64, -1 for none.

        An anchor without a tube has -1 throughout.
        """
        itself = torch.arange(self.rectangles.shape[1], device=self.rectangles.device)
        return torch.cat([itself.where(started(self.rectangles), -1)[..., None], self.partners], 2)


def tubes(query: Query, view: Preprocessing, options: TubeOptions) -> Tubes:
    """Returns the tubes of a query; tubes of the same options, and their flow, are computed once per query.

    Raises:
        MethodUndefinedError: The stride leaves no anchor on frames of this size.
    """
    name = ("tubes", *(getattr(options, option.name) for option in fields(TubeOptions)))
    return query.cached(name, lambda: _tubes(query, view, options))


def _tubes(query: Query, view: Preprocessing, options: TubeOptions) -> Tubes:
    pixels = view.denormalise(query.frames.detach())
    H, W = pixels.shape[2:4]
    flow = query_flow(query, view, options.flow, options.gray, options.flow_weights)
    with stage("masks"):
        stride = scaled(8, (H, W)) if options.stride is None else options.stride
        size = round(2 * stride) if options.size is None else options.size
        anchors = onto(pixels.device, grid((H, W), stride))
        positions, alive, motion = track(
            flow, anchors, picture(pixels, options.letterbox), options.tracking, options.cooc
        )
        rectangles = paint(positions, alive, size, (H, W))
        return Tubes(rectangles, partners(motion, anchors, started(rectangles), options.partners, options.min_cooc))


def scaled(pixels: int, size: tuple[int, int]) -> float:
    """Returns a length for a frame of 112 × 112, scaled by the shorter side of a frame (H, W); at least 1."""
    return max(1.0, pixels * min(size) / 112)


def paint(positions: Tensor, alive: Tensor, size: int, frame: tuple[int, int]) -> Tensor:
    """Returns rectangles (N, A, T, 4) int16 of side `size` around positions (N, A, T, 2), clipped to (H, W)."""
    start = positions.round() - size // 2
    border = onto(positions.device, torch.tensor(frame, dtype=positions.dtype))
    first, last = start.clamp(min=0), torch.minimum(start + size, border)
    return (torch.stack([first, last], -1).flatten(3) * alive[..., None]).to(torch.int16)


def started(rectangles: Tensor) -> Tensor:
    """Returns which tubes (N, A) exist: those whose rectangles (N, A, T, 4) are not empty on the first frame."""
    return rectangles[:, :, 0, 1] > 0


def partners(motion: Tensor, anchors: Tensor, lived: Tensor, count: int, min_cooc: float) -> Tensor:
    """Returns each anchor's `count` partners (N, A, count) int64 by decreasing co-occurrence, -1 where there is none.

    Co(i, j) = u_i·u_j / (‖u_i‖‖u_j‖), u being the motion over all frames, eq. (1). Unlike the released code: an anchor
    is never its own partner; an anchor that does not move has no partners; partners must exceed `min_cooc`; and among
    equal partners the one that starts nearer comes first, then the one of lower index.

    Args:
        motion: (N, A, T-1, 2).
        anchors: (A, 2), positions on the first frame.
        lived: (N, A), which anchors have a tube.
        count: K.
        min_cooc: The co-occurrence that a partner must exceed.
    """
    A = len(anchors)
    path = motion.flatten(2).double()
    length = path.norm(dim=2, keepdim=True)
    direction = torch.where(length < _STILL, 0.0, path / length.clamp(min=_STILL))
    # Rounded, so that values that are equal on paper are equal here, whatever kernel computed them.
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

    It takes P·T·H·W bytes for P occlusions, and twice that while it is computed.
    """
    top, bottom, left, right = rectangles[..., None].unbind(3)
    row, column = (torch.arange(length, device=rectangles.device, dtype=rectangles.dtype) for length in size)
    rows, columns = (row >= top) & (row < bottom), (column >= left) & (column < right)
    mask = rows[:, 0, :, :, None] & columns[:, 0, :, None]
    for g in range(1, rectangles.shape[1]):
        mask |= rows[:, g, :, :, None] & columns[:, g, :, None]
    return mask
