"""The fall of the score when a cuboid slides over the clip and occludes it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import ClassVar

import torch
from torch import Tensor

from vidattr.errors import ConfigError
from vidattr.methods.occlusion.occlude import Aggregate, OcclusionOptions, explain
from vidattr.methods.occlusion.tubes import scaled
from vidattr.models.network.network import VideoModel
from vidattr.models.speed.lagging import onto
from vidattr.types import Explanation, Query


class CuboidGrid(StrEnum):
    """Positions of the cuboids on each axis, with a stride of s and a window of h.

    `half_stride`: centres at ⌊s/2⌋, ⌊3s/2⌋, …, which is symmetric at both borders.
    `origin`: centres at 0, ⌊s⌋, ⌊2s⌋, …, as AOSA's released code has it: the first window is cut by half.
    `flush`: windows begin at 0, ⌊s⌋, ⌊2s⌋, … until one reaches the far border, which may cut it, as captum has it.
    """

    half_stride = auto()
    origin = auto()
    flush = auto()


@dataclass(frozen=True)
class OSA(OcclusionOptions):
    """Occlusion sensitivity analysis (Zeiler and Fergus, ECCV 2014) in three dimensions.

    A cuboid of `window_frames` × `window` × `window` voxels slides over the clip; f_i is the score with the i-th one
    filled. The defaults are those by which Uchiyama et al. (WACV 2023) compare: half of the frames and 2 % of the
    frame's area (8 × 16 × 16 in 16 × 112 × 112). They do not print the strides: their released code has 2 and 8, which
    their timing bears out. That is 8 · 14 · 14 = 1568 cuboids.

    Attributes:
        window: Side of the cuboid in pixels; None: √(0.02·H·W).
        window_frames: Its length in frames; None: T/2.
        stride: Pixels between cuboids; None: a fourteenth of the shorter side, 8 at 112, but no less than 1.
        stride_frames: Frames between cuboids; None: T/8, but no less than 1.
        placement: Where the first cuboid is.
        aggregate: As in `OcclusionOptions`. By default the mean drop of the cuboids that hold a voxel, since those at
            the border are held by fewer.

    The other options are those of `OcclusionOptions`.

    The explanation's extras: `f0` (N,), `drops` (N, A) and `coverage` (N, T, H, W) as `_occlusion.explain` returns
    them, cuboids in the order frame, row, column.

    Raises:
        ConfigError: A number out of range.
    """

    version: ClassVar[int] = 1

    window: int | None = None
    window_frames: int | None = None
    stride: int | None = None
    stride_frames: int | None = None
    placement: CuboidGrid = CuboidGrid.half_stride
    aggregate: Aggregate = Aggregate.drop_per_coverage

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("window", "window_frames", "stride", "stride_frames"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(
                    f"method.{name}={value}", expected="1 or more, or null for the one that fits the clip"
                )

    @property
    def passes(self) -> int:
        """One per cuboid of a clip of 16 × 112 × 112, with the first steps on crops, and one for the whole clip."""
        return self.fillings * len(self.windows(16, 112, 112)) + 1

    def size(self, T: int, H: int, W: int) -> tuple[int, int, int]:
        """Returns the frames, rows and columns of a cuboid away from the borders."""
        side = max(1, round(math.sqrt(0.02 * H * W))) if self.window is None else self.window
        return max(1, T // 2) if self.window_frames is None else self.window_frames, side, side

    def windows(self, T: int, H: int, W: int) -> Tensor:
        """Returns the cuboids (A, T, 4) int16 as rectangles like those of `Tubes`, empty on frames outside a cuboid."""
        size = self.size(T, H, W)
        step = scaled(8, (H, W)) if self.stride is None else self.stride
        step_frames = max(1.0, T / 8) if self.stride_frames is None else self.stride_frames
        frames, rows, columns = (
            self._spans(*axis) for axis in zip((T, H, W), size, (step_frames, step, step), strict=True)
        )
        f, r, c = (
            index.flatten()
            for index in torch.meshgrid(*(torch.arange(len(s)) for s in (frames, rows, columns)), indexing="ij")
        )
        time = torch.arange(T)
        seen = (time >= frames[f, :1]) & (time < frames[f, 1:])
        return (torch.cat([rows[r], columns[c]], 1)[:, None] * seen[..., None]).to(torch.int16)

    def _spans(self, size: int, window: int, stride: float) -> Tensor:
        """Returns first and last index (n, 2), the last one exclusive, of the windows on one axis."""
        count, offset, before = {
            CuboidGrid.half_stride: (max(1, math.ceil(size / stride - 0.5)), min(stride / 2, size - 1), window // 2),
            CuboidGrid.origin: (math.ceil(size / stride), 0.0, window // 2),
            CuboidGrid.flush: (1 + math.ceil(max(0, size - window) / stride), 0.0, 0),
        }[self.placement]
        start = torch.tensor([int(offset + i * stride) - before for i in range(count)])
        return torch.stack([start.clamp(min=0), (start + window).clamp(max=size)], 1)

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Explains N clips by one forward pass per cuboid, and one for the whole clip, which the others reuse."""
        N, _, T, H, W = query.frames.shape
        windows = onto(query.frames.device, self.windows(T, H, W))
        each = torch.arange(len(windows))
        return explain(
            model, query, windows.expand(N, *windows.shape), each.expand(N, -1)[..., None], self, self.size(T, H, W)
        )
