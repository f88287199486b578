"""Sums over the windows of seeds around all pixels, for the smooth maximum (`smooth_mask`)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import pad

from vidattr.models.speed.lagging import onto

_CACHED = 3 * 2**15  # numbers in the largest buffer of a loop, for each thread: it stays in a core's second-level cache


@dataclass(frozen=True)
class Line:
    """A row of pixels above a seed, and the row as far below it, if there is one: they have the same weights.

    Attributes:
        weights: (taps·step, 1), β times the weight of the seed in each column of a window, the last column first, by
            the pixel's place in its cell.
        across: (1, 1, taps·step), the same numbers.
        at: Which of the step·taps rows of pixels they are, one or two, by the place in a cell and by the row of the
            windows that the seed is in.
    """

    weights: Tensor
    across: Tensor
    at: list[int]


@dataclass(frozen=True)
class Windows:
    """The sums over the windows of all pixels, row of pixels by row of pixels.

    Frames are the last axis, and rows of seeds end with taps − 1 columns of zeros, which lie beyond the grid. So a
    window that begins some columns further left is the same memory some numbers earlier, in all rows and frames at
    once. Sums have a number for each place in a cell, and for each cell that a seed reaches: (step, step, h + taps − 1,
    (w + taps − 1)·F). Rows of seeds beyond the grid, whose e^0 is 1, are counted, not computed.

    Attributes:
        step, taps, plane: As in `SmoothMax`.
        grid: (h, w).
        first: The first row and column of cells that belongs to the plane.
        cells: (rows, columns) of the plane.
        coldness: β.
        beyond: (h + taps − 1, 1), how many seeds of a cell's window lie in rows beyond the grid.
        lines: All rows of pixels that a seed reaches.
    """

    step: int
    taps: int
    plane: tuple[int, int]
    grid: tuple[int, int]
    first: int
    cells: tuple[int, ...]
    coldness: float
    beyond: Tensor
    lines: list[Line]

    @classmethod
    def of(
        cls,
        weights: Tensor,
        sigma: float,
        plane: tuple[int, int],
        grid: tuple[int, int],
        margin: int,
        cells: tuple[int, ...],
        coldness: float,
    ) -> Windows:
        """Returns the windows of a grid.

        Args:
            weights: (step, step, taps, taps), β times the weight of a seed, by the place of a pixel in its cell and by
                the seed's row and column in the pixel's window.
            sigma: Radius in pixels of a seed's disc.
            plane: (Ĥ, Ŵ).
            grid: (h, w).
            margin: Seeds before the first one of the grid, in the window of the plane's first pixel.
            cells: (rows, columns) of the plane.
            coldness: β.
        """
        step, taps = weights.shape[1:3]
        rows: dict[float, list[int]] = {}
        for place, (down, tap) in enumerate(product(range(step), range(taps))):
            rows.setdefault(abs(down - sigma - step * (tap - margin)), []).append(place)
        columns = weights.permute(0, 2, 3, 1).flip(2).reshape(step * taps, -1)
        height = grid[0]
        inside = [min(k + 1, taps, height, height + taps - 1 - k) for k in range(height + taps - 1)]
        return cls(
            step=step,
            taps=taps,
            plane=plane,
            grid=grid,
            first=taps - 1 - margin,
            cells=cells,
            coldness=coldness,
            beyond=taps * (taps - onto(weights.device, inside)[:, None].to(weights)),
            lines=[Line(columns[at[0]][:, None], columns[at[0]][None, None], at) for at in rows.values()],
        )

    def blocks(self, seeds: Tensor) -> Tensor:
        """Returns seeds (N, h, w) in blocks of rows with zeros at their ends, (blocks, G, 1, h·(w + taps − 1)·F).

        A block is computed at once: on a CPU, as many frames as the caches hold. Its G groups of F frames come first in
        all buffers, so that each of G threads works on a group of its own. Frames of zeros fill up the last groups.
        """
        height, width = self.grid
        row = height * (width + self.taps - 1)
        if seeds.device.type == "cpu":
            groups = min(torch.get_num_threads(), len(seeds))
            blocks = -(-len(seeds) * self.taps * self.step * row // (_CACHED * groups))
        else:
            groups = blocks = 1
        frames = -(-len(seeds) // (groups * blocks))
        rows = seeds.new_zeros(blocks * groups, height, width + self.taps - 1, frames)
        full = pad(seeds, (0, 0, 0, 0, 0, blocks * groups * frames - len(seeds)))
        rows[:, :, :width] = full.view(-1, frames, height, width).permute(0, 2, 3, 1)
        return rows.view(blocks, groups, 1, row * frames)

    def seeds(self, blocks: Tensor, count: int) -> Tensor:
        """Returns numbers of the first `count` frames (N, h, w) of `blocks`."""
        height, width = self.grid
        rows = blocks.view(-1, height, width + self.taps - 1, self.frames(blocks))[:, :, :width]
        return rows.permute(0, 3, 1, 2).flatten(0, 1)[:count]

    def frames(self, rows: Tensor) -> int:
        """Returns F, how many frames a group has."""
        return rows.shape[-1] // (self.grid[0] * (self.grid[1] + self.taps - 1))

    def sums(self, seeds: Tensor) -> Tensor:
        """Returns Σ e^a and Σ a e^a over the windows, (G, 2, …), for a block of seeds (G, 1, …) and a = w·s."""
        groups, count, frames = len(seeds), seeds.shape[-1], self.frames(seeds)
        total = seeds.new_empty(groups, 2, self.step, self.step, len(self.beyond), count // self.grid[0])
        total[:, 0], total[:, 1] = self.beyond, 0
        cells = self._cells(total)
        both = seeds.new_empty(groups, 2, self.taps * self.step, count)
        e, a = both.unbind(1)
        # Column t of the windows begins t·F numbers earlier: before the first row of seeds are the zeros of the last.
        group, sort, row, _ = both.stride()
        columns = both.as_strided(
            (groups, 2, self.taps, self.step, count), (group, sort, self.step * row - frames, row, 1)
        )
        line = seeds.new_empty(groups, 2, self.step, count)
        whole = line.view(cells[0].shape)
        for each in self.lines:
            torch.mul(each.weights, seeds, out=a)
            torch.exp(a, out=e)
            a.mul_(e)
            torch.sum(columns, 2, out=line)
            for place in each.at:
                cells[place].add_(whole)
        return total

    def slope(self, seeds: Tensor, share: Tensor) -> Tensor:
        """Returns Σ w e^a (share_0·a + share_1) over the pixels of each seed (G, 1, …), for sums `share` (G, 2, …)."""
        groups, count, frames = len(seeds), seeds.shape[-1], self.frames(seeds)
        line = seeds.new_zeros(groups, 2, self.step, count + (self.taps - 1) * frames)
        by_a, by_1 = line.unfold(3, count, frames).transpose(2, 3).unbind(1)
        whole, cells = line[..., :count].view(groups, 2, self.step, self.grid[0], -1), self._cells(share)
        a, e = seeds.new_empty(2, groups, self.taps * self.step, count)
        columns = a.view(by_a.shape)
        result = torch.zeros_like(seeds)
        for each in self.lines:
            torch.mul(each.weights, seeds, out=a)
            torch.exp(a, out=e)
            if len(each.at) == 1:
                whole.copy_(cells[each.at[0]])
            else:
                torch.add(cells[each.at[0]], cells[each.at[1]], out=whole)
            torch.addcmul(by_1, by_a, columns, out=columns)
            result.baddbmm_(each.across.expand(groups, -1, -1), e.mul_(a))
        return result

    def pixels(self, sums: Tensor) -> Tensor:
        """Returns the part of sums (G, …) that belongs to the plane, as a view (G, F, rows, step, columns, step)."""
        down, across = (slice(self.first, self.first + n) for n in self.cells)
        rows = len(self.beyond)
        columns = self.grid[1] + self.taps - 1
        cells = sums.view(len(sums), self.step, self.step, rows, columns, -1)
        return cells[:, :, :, down, across].permute(0, 5, 3, 1, 4, 2)

    def _cells(self, sums: Tensor) -> list[Tensor]:
        """Returns the parts (G, 2, step, h, (w + taps − 1)·F) of sums that `Line.at` numbers."""
        rows = sums.unfold(4, self.grid[0], 1).permute(2, 4, 0, 1, 3, 6, 5)
        return [cells for places in rows.unbind() for cells in reversed(places.unbind())]
