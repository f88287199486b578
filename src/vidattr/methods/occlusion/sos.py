"""The fall of the score when a cuboid slides over the clip, upsampled from the grid of its positions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from vidattr.errors import ConfigError
from vidattr.methods.occlusion.occlude import RemovalOptions, Replacement, distinct, drops_of
from vidattr.models.network.network import VideoModel
from vidattr.models.speed.lagging import onto
from vidattr.types import Explanation, Query


@dataclass(frozen=True)
class SOS(RemovalOptions):
    """SOS of REVEX (Gaya-Morey et al., 2024): occlusion sensitivity (Zeiler and Fergus, ECCV 2014) for video.

    A cuboid of (T / cells_t) × (H / cells_h) × (W / cells_w) voxels moves by 1/steps of its size on each axis, from
    the first to the last voxel: (cells − 1)·steps + 1 positions an axis, 7 · 13 · 13 = 1183 in all. Position i of an
    axis of n voxels begins at round(i·n / (steps·cells)). f_i is the score of the clip in which cuboid i is replaced by
    the fill. The map is the grid of drops f_0 − f_i, linearly upsampled to (T, H, W), with the corners of the grid at
    the corners of the clip. OSA differs in that it adds up the drops where the cuboids were.

    Unlike REVEX, whose map is 1 − f_i, the map is 0 where nothing changes; the order of voxels is the same. Unlike
    REVEX, a cuboid has at least one voxel, and the network sees the exact mixture: no rounding to bytes, and no blur of
    the cuboid's border.

    Attributes:
        cells_t: Length of the clip in lengths of the cuboid.
        cells_h: Height of the clip in heights of the cuboid.
        cells_w: Width of the clip in widths of the cuboid.
        steps: Positions per length of the cuboid, on each axis.
        fill: As in `RemovalOptions`; a blur by default, as in REVEX, whose blur is wider and includes time.

    The other options are those of `RemovalOptions`.

    The explanation's extras: `f0` (N,), the score of the whole clip; `drops` (N, positions), f_0 − f_i in the order
    frame, row, column.

    Raises:
        ConfigError: A number out of range.
    """

    version: ClassVar[int] = 1

    fill: Replacement = Replacement.blur
    cells_t: int = 4
    cells_h: int = 7
    cells_w: int = 7
    steps: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(1 <= number <= 1024 for number in (*self.cells, self.steps)):
            raise ConfigError(
                f"method.cells_t={self.cells_t} method.cells_h={self.cells_h} method.cells_w={self.cells_w} "
                f"method.steps={self.steps}",
                expected="1 to 1024 each",
            )

    @property
    def cells(self) -> tuple[int, int, int]:
        """Size of the clip in sizes of the cuboid."""
        return self.cells_t, self.cells_h, self.cells_w

    @property
    def grid(self) -> tuple[int, int, int]:
        """Positions of the cuboid on each axis."""
        t, h, w = ((cells - 1) * self.steps + 1 for cells in self.cells)
        return t, h, w

    @property
    def passes(self) -> int:
        """One per position, times the draws of the fill, and one for the whole clip."""
        return self.fillings * math.prod(self.grid) + 1

    def cuboids(self, size: tuple[int, int, int]) -> Tensor:
        """Returns the cuboids (A, T, 4) int16 as rectangles like those of `Tubes`, empty on frames outside a cuboid."""
        spans = []
        for length, cells, positions in zip(size, self.cells, self.grid, strict=True):
            starts = [min(round(i * length / (self.steps * cells)), length - 1) for i in range(positions)]
            ends = [min(max(round(start + length / cells), start + 1), length) for start in starts]
            spans.append(torch.tensor([starts, ends]).mT)
        frames, rows, columns = spans
        f, r, c = (index.flatten() for index in torch.meshgrid(*(torch.arange(n) for n in self.grid), indexing="ij"))
        time = torch.arange(size[0])
        seen = (time >= frames[f, :1]) & (time < frames[f, 1:])
        return (torch.cat([rows[r], columns[c]], 1)[:, None] * seen[..., None]).to(torch.int16)

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Explains N clips by one forward pass per position, and one for the whole clip, which the others reuse."""
        N, _, T, H, W = query.frames.shape
        cuboids = onto(query.frames.device, self.cuboids((T, H, W)))
        each = torch.arange(len(cuboids)).expand(N, -1)
        unions = distinct(each[..., None], query.frames.device)
        t, h, w = (math.ceil(length / cells) for length, cells in zip((T, H, W), self.cells, strict=True))
        f0, drops = drops_of(model, query, cuboids.expand(N, *cuboids.shape), unions, self, (t, h, w))
        found = drops[unions.of]
        total = interpolate(found.view(N, 1, *self.grid), (T, H, W), mode="trilinear", align_corners=True)[:, 0]
        return Explanation(total.float(), {"f0": f0.float(), "drops": found.float()})
