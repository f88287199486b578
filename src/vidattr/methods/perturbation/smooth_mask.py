"""The smooth maximum of extremal perturbations: a smooth mask per frame from a small grid of seeds.

Fong, R., Patrick, M., Vedaldi, A., "Understanding Deep Networks via Extremal Perturbations and Smooth Masks", ICCV
2019, section 3.2, with the constants of its released code; smoothing of the seeds in time as Li et al., WACV 2021, eq.
12.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum, auto
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import pad

from vidattr.methods.perturbation.windows import Windows
from vidattr.models.speed.lagging import onto


class Profile(StrEnum):
    """The weight of a seed as a function of z, its distance in standard deviations.

    code: exp(−2 max(0, z − ½)²), as in the released code of Fong et al.; text: exp(−max(0, z − 1)²/4), as in the paper.
    """

    code = auto()
    text = auto()


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
    return onto(like.device, (weights / weights.sum(1, keepdim=True)).to(like.dtype))


class SmoothMax:
    """The mask of frames of one size, as a differentiable function of one grid of seeds per frame.

    Seeds lie `step` pixels apart. With w the weight (profile `code`) of a seed's distance to a pixel and α = w·s,

        m̂(u) = Σ_k α_k e^{β α_k} / Σ_k e^{β α_k}

    over the (2R+1)² seeds around pixel u, R = 1 + ⌈σ/step⌉; seeds beyond the grid count as 0. The mask is computed on a
    plane that is larger than the frame, so that seeds at the border have discs as large as any other; areas are shares
    of that plane.

    The weights depend only on the position of u between the seeds. Pixels are therefore grouped by that position, in
    step² groups, and the sum runs over the seeds of the window (`windows.Windows`): no buffer holds all windows.

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
        weights = onto(like.device, (coldness * _PROFILES[Profile.code](distance / sigma)).to(like.dtype))
        self.weights = weights.flatten(2).flatten(0, 1)  # (step², taps²)
        self._coldness = coldness
        self._windows = Windows.of(weights, sigma, self.plane, self.grid, margin, self._cells, coldness)

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


class _Planes(torch.autograd.Function):
    """The planes (N, Ĥ, Ŵ) of frames, from seeds (N, h, w).

    The derivative is written out, d mean / d a_k = e^{a_k} (1 + a_k − mean) / Σ e^a: autograd would keep all
    exponentials, which are computed again here.
    """

    @staticmethod
    def forward(ctx: Any, seeds: Tensor, windows: Windows) -> Tensor:
        blocks, saved = windows.blocks(seeds), []
        sides = [cells * windows.step for cells in windows.cells]
        planes = seeds.new_empty(*blocks.shape[:2], windows.frames(blocks), *sides)
        for rows, plane in zip(blocks, planes, strict=True):
            bottom, mean = windows.sums(rows).unbind(1)
            mean /= bottom
            pixels = windows.pixels(mean)
            torch.div(pixels, windows.coldness, out=plane.view(pixels.shape))
            saved += [bottom, mean]
        ctx.save_for_backward(blocks, *saved)
        ctx.windows = windows
        height, width = windows.plane
        return planes.flatten(0, 2)[: len(seeds), :height, :width].clamp(max=1)  # rounding may pass 1

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        windows: Windows = ctx.windows
        blocks, *saved = ctx.saved_tensors
        slopes = torch.empty_like(blocks)
        frames = slopes.shape[:2].numel() * windows.frames(blocks)
        rows, columns = (n * windows.step - side for n, side in zip(windows.cells, windows.plane, strict=True))
        full = pad(gradient, (0, columns, 0, rows, 0, frames - len(gradient)))
        parts = zip(blocks, saved[::2], saved[1::2], full.view(len(blocks), -1), slopes, strict=True)
        for seeds, bottom, mean, part, slope in parts:
            share = mean.new_empty(len(mean), 2, *mean.shape[1:])
            by_a, by_1 = share.unbind(1)
            pixels = windows.pixels(by_a.zero_())
            pixels.copy_(part.view(pixels.shape))
            by_a /= bottom
            torch.addcmul(by_a, by_a, mean, value=-1, out=by_1)
            slope.copy_(windows.slope(seeds, share))
        return windows.seeds(slopes, len(gradient)).div(windows.coldness), None
