"""The mean of random masks, weighted by the score of the masked clip."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vidattr.errors import ConfigError
from vidattr.methods.shared.scores import Score, chunked, scores
from vidattr.models.network.network import VideoModel
from vidattr.profiling import stage
from vidattr.types import Explanation, Query


@dataclass(frozen=True)
class RISE:
    """RISE (Petsiuk et al., BMVC 2018), with masks over space and time.

    A mask M_k is a grid of `cells_t` × `cells_h` × `cells_w` cells, each kept with probability p and hidden otherwise,
    enlarged linearly to (cells + 1)·⌈size / cells⌉ on each axis, and cut to the clip at a random shift of less than a
    cell. With f_k the score of x ⊙ M_k (hidden = 0 after normalisation, the mean colour), their equation 6 is

    S(q) = 1/(n·p) · Σ_k f_k M_k(q).

    Unlike the paper, `centred` replaces f_k by f_k − mean f. In expectation that subtracts the constant mean f from the
    map and leaves Cov(f, M(q)) / p. With finitely many masks it also subtracts mean f · mean_k M_k(q) / p, which only
    shows which voxels the random masks kept most often, and which a constant network would get as its map.

    Unlike the paper, masks have a time axis. The paper uses grids of 7 × 7 and 4000 or 8000 masks per image; the
    default here is 4 × 7 × 7 and 1000 per clip. As in the released code the enlarged cell is ⌈size / cells⌉, so that a
    mask covers the clip at any size; the paper rounds down.

    Attributes:
        masks: n, masks per clip.
        cells_t: Cells along time.
        cells_h: Cells along the height.
        cells_w: Cells along the width.
        p: Probability that a cell is kept.
        centred: Whether the mean score is subtracted first.
        score: f: the probability (the paper), the logit, the probability's logarithm, or its log-odds.

    The explanation's extras: `scores` (N, n), the f_k.

    Raises:
        ConfigError: No mask (or one, whose centred score is always 0), no cell, or p outside (0, 1).
    """

    version: ClassVar[int] = 2
    forward_only: ClassVar[bool] = True
    answers_only: ClassVar[bool] = True

    masks: int = 1000
    cells_t: int = 4
    cells_h: int = 7
    cells_w: int = 7
    p: float = 0.5
    centred: bool = True
    score: Score = Score.prob

    def __post_init__(self) -> None:
        if self.masks < 1 + self.centred:
            raise ConfigError(f"method.masks={self.masks}", expected="2 or more, or 1 with method.centred=false")
        if not all(1 <= one <= 4096 for one in self.cells) or self.masks > 10**8:
            raise ConfigError(
                f"method.cells_t={self.cells_t} method.cells_h={self.cells_h} method.cells_w={self.cells_w} "
                f"method.masks={self.masks}",
                expected="1 to 4096 cells, up to 10^8 masks",
            )
        if not 0 < self.p < 1:
            raise ConfigError(f"method.p={self.p}", expected="more than 0 and less than 1")

    @property
    def cells(self) -> tuple[int, int, int]:
        """The grid of one mask."""
        return self.cells_t, self.cells_h, self.cells_w

    @property
    def passes(self) -> int:
        """One per mask."""
        return self.masks

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Explains N clips by n forward passes each, in chunks of `max_batch`; only one chunk of masks is in memory."""
        frames = query.frames.detach()
        N, _, T, H, W = frames.shape
        total, coverage = (torch.zeros(N, T, H, W, dtype=torch.float64, device=frames.device) for _ in range(2))
        f = torch.zeros(N, self.masks, dtype=torch.float64, device=frames.device)

        def scored(frames: Tensor, target: Tensor, clip: Tensor, mask: Tensor) -> Tensor:
            return scores(model, frames[clip] * mask.unsqueeze(1), target, self.score)

        for rows, mask, size in self._chunks(query, model):
            clip, k = rows // self.masks, rows % self.masks
            found = model.replayed(("RISE", self.score), scored, frames, query.target[clip], clip, mask)
            clip, k, mask = clip[:size], k[:size], mask[:size]
            f[clip, k] = found[:size].double()
            with stage("assembly"):
                # Relative to the clip's first score, which cancels when centred: equal scores then give exactly 0.
                relative = f[clip, k] - f[clip, 0] if self.centred else f[clip, k]
                wide = mask.double()
                total.index_add_(0, clip, relative.view(-1, 1, 1, 1) * wide)
                coverage.index_add_(0, clip, wide)
        if self.centred:
            total -= (f - f[:, :1]).mean(1).view(-1, 1, 1, 1) * coverage
        return Explanation((total / (self.masks * self.p)).float(), {"scores": f.float()})

    def _chunks(self, query: Query, model: VideoModel) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Yields numbers of masks (B,), clip by clip, the masks (B, T, H, W), and how many of them count."""
        frames, cells = query.frames, math.prod(self.cells)
        generators = [torch.Generator(frames.device).manual_seed(seed) for seed in query.seeds]
        with stage("masks"):
            # All grids are drawn at once; they are small. The enlarged masks are made chunk by chunk.
            numbers = (self.masks, cells + 3)
            draws = torch.cat(
                [torch.rand(numbers, generator=g, dtype=frames.dtype, device=frames.device) for g in generators]
            )
            grids, shifts = (draws[:, :cells] < self.p).to(frames.dtype).view(-1, *self.cells), draws[:, cells:]
        for part, size in chunked(model, torch.arange(len(grids), device=frames.device), "masks"):
            with stage("masks"):
                masks = enlarge(grids[part], shifts[part], (frames.shape[2], frames.shape[3], frames.shape[4]))
            yield part, masks, size


def enlarge(grids: Tensor, shifts: Tensor, size: tuple[int, int, int]) -> Tensor:
    """Returns masks (B, T, H, W): grids (B, t, h, w), enlarged and cut to `size` at a shift of less than a cell.

    The result is a crop of a trilinear resize (cell centres aligned, cells mirrored at the outermost centres, as in the
    released code) to (cells + 1)·⌈size / cells⌉ on each axis; only the crop is computed.

    Args:
        grids: The cells' values.
        shifts: (B, 3) in [0, 1): the share of an enlarged cell by which each axis is shifted, cut to whole voxels.
        size: (T, H, W).
    """
    t, h, w = (
        _hats(cells, n, shifts[:, axis]) for axis, (cells, n) in enumerate(zip(grids.shape[1:], size, strict=True))
    )
    masks = torch.einsum("btij,bjw->btiw", grids, w.mT)
    masks = torch.einsum("btiw,bhi->bthw", masks, h)
    return torch.einsum("bthw,bTt->bThw", masks, t)


def _hats(cells: int, size: int, shift: Tensor) -> Tensor:
    """Returns (B, size, cells), the weight of each cell at each position along one axis."""
    cell = math.ceil(size / cells)
    place = torch.arange(size, dtype=shift.dtype, device=shift.device) + (shift * cell).floor().unsqueeze(1)
    source = (place + 0.5) * (cells / ((cells + 1) * cell)) - 0.5
    # Mirrored at the outermost cell centres.
    source = ((cells - 1) - ((cells - 1) - source.abs()).abs()).clamp(min=0)
    return (1 - (source.unsqueeze(2) - torch.arange(cells, dtype=shift.dtype, device=shift.device)).abs()).clamp(min=0)
