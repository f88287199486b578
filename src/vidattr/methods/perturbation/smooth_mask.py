"""The smooth maximum of extremal perturbations: a smooth mask per frame from a small grid of seeds.

Fong, R., Patrick, M., Vedaldi, A., "Understanding Deep Networks via Extremal Perturbations and Smooth Masks", ICCV
2019, section 3.2, with the constants of its released code; smoothing of the seeds in time as Li et al., WACV 2021, eq.
12.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum, auto
from itertools import product
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import pad


class Profile(StrEnum):
    """The weight of a seed as a function of z, its distance in standard deviations.

    code: exp(−2 max(0, z − ½)²), as in the released code of Fong et al.; text: exp(−max(0, z − 1)²/4), as in the paper.
    """

    code = auto()
    text = auto()


_CACHED = 2**17  # numbers in the largest buffer of a loop: it stays in a core's second-level cache

_PROFILES: dict[Profile, Callable[[Tensor], Tensor]] = {
    Profile.code: lambda z: torch.exp(-2 * (z - 0.5).clamp(min=0).square()),
    Profile.text: lambda z: torch.exp(-(z - 1).clamp(min=0).square() / 4),
}


def released_sigma(height: int, width: int) -> float:
    """Returns σ in pixels: 12·s/112 − 1 for the shorter side s, rounded, and at least 1.

    It is 11 at 112 and 23 at 224, as released. Unlike here, the released code uses 23 for every width but 112.
    """
    return float(max(1, round(12 * min(height, width) / 112) - 1))


def temporal_weights(frames: int, sigma: float, profile: Profile, like: Tensor) -> Tensor:
    """Returns the (T, T) matrix that smooths seeds in time (eq. 12): row t holds k(|t − t'| / σ), normalised to sum 1.

    It is normalised over the frames of the clip, so that the sum is 1 also at the ends, where the kernel is cut.
    """
    t = torch.arange(frames, dtype=torch.float64)
    weights = _PROFILES[profile]((t[:, None] - t).abs() / sigma)
    return (weights / weights.sum(1, keepdim=True)).to(like)


class SmoothMax:
    """The mask of frames of one size, as a differentiable function of one grid of seeds per frame.

    Seeds lie `step` pixels apart. With w the weight (profile `code`) of a seed's distance to a pixel and α = w·s,

        m̂(u) = Σ_k α_k e^{β α_k} / Σ_k e^{β α_k}

    over the (2R+1)² seeds around pixel u, R = 1 + ⌈σ/step⌉; seeds beyond the grid count as 0. The mask is computed on a
    plane that is larger than the frame, so that seeds at the border have discs as large as any other; areas are shares
    of that plane.

    The weights depend only on the position of u between the seeds. Pixels are therefore grouped by that position, in
    step² groups, and the sum runs over the seeds of the window (`_Windows`): no buffer holds all windows.

    Unlike the released code, whose plane is too small for some σ (10 pixels with a step of 7), the plane always
    contains the frame.

    Args:
        size: (H, W) of the frames.
        step: Pixels between two seeds.
        sigma: Radius in pixels of a seed's disc.
        coldness: β; larger values are nearer to the maximum.
        like: A tensor with the type and device of the computation.

    Attributes:
        grid: (h, w), the seeds of a frame.
        plane: (Ĥ, Ŵ), the size of the mask before it is cropped.
        taps: Seeds along one side of a pixel's window, 2R + 1.
        weights: (step², taps²), β times the weight of each seed of a window, by the position of the pixel.
    """

    def __init__(self, size: tuple[int, int], step: int, sigma: float, coldness: float, like: Tensor) -> None:
        reach, margin = 1 + math.ceil(sigma / step), 1 + math.ceil(2 * sigma / step)
        self._size, self._step, self._corner, self._margin, self.taps = size, step, round(sigma), margin, 2 * reach + 1
        self.grid = (-(-size[0] // step), -(-size[1] // step))
        # Cells of the plane, each of `step` pixels but for the last, of one.
        self._cells = tuple(
            max(n + 2 * margin - 2 * reach, math.ceil((length + self._corner - 1) / step) + 1)
            for n, length in zip(self.grid, size, strict=True)
        )
        self.plane = (step * (self._cells[0] - 1) + 1, step * (self._cells[1] - 1) + 1)
        place, tap = torch.arange(step, dtype=torch.float64), torch.arange(self.taps, dtype=torch.float64)
        offset = place[:, None] - sigma - step * (tap - margin)  # of a pixel from the seed, along one axis
        distance = torch.hypot(offset[:, None, :, None], offset[None, :, None, :])
        weights = (coldness * _PROFILES[Profile.code](distance / sigma)).to(like)  # (step, step, taps, taps), times β
        self.weights = weights.flatten(2).flatten(0, 1)  # (step², taps²)
        self._coldness = coldness
        at: dict[float, list[tuple[int, int]]] = {}
        for down, row in product(range(step), range(self.taps)):
            at.setdefault(abs(down - sigma - step * (row - margin)), []).append((down, row))
        self._windows = _Windows(
            step,
            self.taps,
            self.taps - 1 - margin,
            self._cells,
            self.plane,
            coldness,
            _beyond(self.grid, self.taps).to(like),
            [_Line(weights[each[0][0], :, each[0][1]].T[..., None, None].contiguous(), each) for each in at.values()],
        )

    def __call__(self, seeds: Tensor) -> Tensor:
        """Returns the mask (B, T, Ĥ, Ŵ) on the whole plane, in [0, 1], of seeds (B, T, h, w) in [0, 1]."""
        planes = cast(Tensor, _Planes.apply(seeds.flatten(0, 1), self._windows))
        return planes.view(*seeds.shape[:2], *self.plane)

    def shape(self) -> dict[str, Any]:
        """Returns the numbers that say where pixels and seeds lie, by name."""
        return {
            "plane": self.plane,
            "step": self._step,
            "taps": self.taps,
            "margin": self._margin,
            "corner": self._corner,
            "coldness": float(self._coldness),
        }

    def crop(self, mask: Tensor) -> Tensor:
        """Returns the part (…, H, W) of a mask on the plane (…, Ĥ, Ŵ) that covers the frame."""
        corner, (height, width) = self._corner, self._size
        return mask[..., corner : corner + height, corner : corner + width]


@dataclass(frozen=True)
class _Line:
    """A row of pixels above a seed, and the row as far below it, if there is one: they have the same weights.

    Attributes:
        weights: (taps, step, 1, 1), β times the weight of the seed in each column of a window, by the pixel's place.
        at: For both rows of pixels: their place, and the row of the windows that the seed is in.
    """

    weights: Tensor
    at: list[tuple[int, int]]


@dataclass(frozen=True)
class _Windows:
    """The sums over the windows of all pixels, seed by seed.

    Frames are the last axis, so that rows of seeds (h, w·F) and of cells are contiguous for all frames of a block. Sums
    have a number for each place in a cell, and for each cell that a seed reaches: (step, step, h + taps − 1,
    (w + taps − 1)·F). Seeds beyond the grid, whose e^0 is 1, are counted, not computed.

    Attributes:
        step, taps, plane: As in `SmoothMax`.
        first: The first row and column of cells that belongs to the plane.
        cells: (rows, columns) of the plane.
        coldness: β.
        beyond: (h + taps − 1, w + taps − 1), how many seeds of a cell's window lie beyond the grid.
        lines: All rows of pixels that a seed reaches.
    """

    step: int
    taps: int
    first: int
    cells: tuple[int, ...]
    plane: tuple[int, int]
    coldness: float
    beyond: Tensor
    lines: list[_Line]

    def block(self, seeds: Tensor) -> int:
        """Returns how many frames are computed together: on a CPU, as many as its cache holds."""
        largest = 2 * self.taps * self.step * seeds.shape[1] * seeds.shape[2]
        return max(1, _CACHED // largest) if seeds.device.type == "cpu" else len(seeds)

    def sums(self, seeds: Tensor, frames: int) -> tuple[Tensor, Tensor]:
        """Returns Σ e^a and Σ a e^a over the windows, for seeds (h, w·F) and a = w·s."""
        height, width = seeds.shape
        reach = self.taps - 1
        total = seeds.new_zeros(2, self.step, self.step, height + reach, width + reach * frames)
        total[0].view(self.step, self.step, *self.beyond.shape, frames).copy_(self.beyond[..., None])
        both = seeds.new_empty(2, self.taps, self.step, height, width)
        line = seeds.new_empty(2, self.step, height, width + reach * frames)
        shifted = [(self._shifted(line, tap, frames), both[:, tap]) for tap in range(self.taps)]
        e, a = both
        for each in self.lines:
            torch.mul(each.weights, seeds, out=a)
            torch.exp(a, out=e)
            a.mul_(e)
            line.zero_()
            for along, terms in shifted:
                along.add_(terms)
            for down, row in each.at:
                total[:, down, :, reach - row : reach - row + height].add_(line)
        return total[0], total[1]

    def slope(self, seeds: Tensor, share: Tensor, frames: int) -> Tensor:
        """Returns Σ w e^a (share_0·a + share_1) over the pixels of each seed, (h, w·F), for sums `share` (2, …)."""
        height, width = seeds.shape
        reach = self.taps - 1
        line = seeds.new_empty(2, self.step, height, width + reach * frames)
        a, e = seeds.new_empty(2, self.taps, self.step, height, width)
        shifted = [(self._shifted(line, tap, frames), a[tap]) for tap in range(self.taps)]
        result = seeds.new_zeros(1, seeds.numel())
        for each in self.lines:
            torch.mul(each.weights, seeds, out=a)
            torch.exp(a, out=e)
            line.zero_()
            for down, row in each.at:
                line.add_(share[:, down, :, reach - row : reach - row + height])
            for (by_a, by_1), terms in shifted:
                torch.addcmul(by_1, by_a, terms, out=terms)
            result.addmm_(each.weights.view(1, -1), e.mul_(a).flatten(2).flatten(0, 1))
        return result.view_as(seeds)

    def pixels(self, sums: Tensor, frames: int) -> Tensor:
        """Returns the part of sums that belongs to the plane, as a view (F, rows, step, columns, step)."""
        down, across = (slice(self.first, self.first + n) for n in self.cells)
        cells = sums.view(self.step, self.step, *self.beyond.shape, frames)
        return cells[:, :, down, across].permute(4, 2, 0, 3, 1)

    def _shifted(self, line: Tensor, tap: int, frames: int) -> Tensor:
        """Returns the cells (…, w·F) of a line whose windows have the seeds of a row in their column `tap`."""
        reach = self.taps - 1
        return line[..., (reach - tap) * frames : line.shape[-1] - tap * frames]


def _beyond(grid: tuple[int, int], taps: int) -> Tensor:
    """Returns how many of the seeds in the window of each cell, all cells that a seed reaches, are not in the grid."""
    inside = [torch.tensor([min(k + 1, taps, n, n + taps - 1 - k) for k in range(n + taps - 1)]) for n in grid]
    return taps**2 - inside[0][:, None] * inside[1]


class _Planes(torch.autograd.Function):
    """The planes (N, Ĥ, Ŵ) of frames, from seeds (N, h, w).

    The derivative is written out, d mean / d a_k = e^{a_k} (1 + a_k − mean) / Σ e^a: autograd would keep all
    exponentials, which are computed again here.
    """

    @staticmethod
    def forward(ctx: Any, seeds: Tensor, windows: _Windows) -> Tensor:
        planes, saved = [], []
        ctx.block = windows.block(seeds)
        for part in torch.split(seeds, ctx.block):
            own = part.permute(1, 2, 0).flatten(1)
            bottom, mean = windows.sums(own, len(part))
            mean /= bottom
            planes.append(windows.pixels(mean, len(part)).flatten(3).flatten(1, 2))
            saved += [own, bottom, mean]
        ctx.save_for_backward(*saved)
        ctx.windows = windows
        height, width = windows.plane
        return (torch.cat(planes)[:, :height, :width] / windows.coldness).clamp_(max=1)  # rounding may pass 1

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        windows, slopes = ctx.windows, []
        rest = [cells * windows.step - side for cells, side in zip(windows.cells, windows.plane, strict=True)]
        blocks = [ctx.saved_tensors[k : k + 3] for k in range(0, len(ctx.saved_tensors), 3)]
        for (seeds, bottom, mean), part in zip(blocks, torch.split(gradient, ctx.block), strict=True):
            frames = len(part)
            share = mean.new_zeros(2, *mean.shape)
            pixels = windows.pixels(share[0], frames)
            pixels.copy_(pad(part / windows.coldness, (0, rest[1], 0, rest[0])).view(pixels.shape))
            share[0].div_(bottom).mul_(mean <= windows.coldness)
            torch.mul(share[0], 1 - mean, out=share[1])
            slopes.append(windows.slope(seeds, share, frames).view(len(seeds), -1, frames).permute(2, 0, 1))
        return torch.cat(slopes), None
