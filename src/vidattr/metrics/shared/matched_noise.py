"""Noise that is as smooth as a map: its score is the part of a metric's score that smoothness alone explains.

A comparison of a smooth map with raw noise is not fair. Inserted voxels in patches restore the class sooner than
scattered ones, whatever the patches show, and smoothing with zeros beyond the border moves every peak to the centre.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

from vidattr.metrics.shared.similarity import ranks
from vidattr.models.speed.lagging import onto
from vidattr.seeds import seed_for

VERSION = 1  # of the noise: raise it when the numbers of a seed change
_KNOTS, _NODES = 25, 96  # of h: correlations, and Gaussian numbers for each
# Of the search for λ: sweeps over the axes, halvings of an interval, and that interval.
_SWEEPS, _HALVINGS, _DAMPING = 3, 30, (1e-4, 1e5)

Smoothing = Callable[[Tensor], Tensor]


def noise(maps: Tensor, seeds: Sequence[int], draws: int, smoothing: Smoothing | None = None) -> Tensor:
    """Returns noise with the values and the smoothness of the maps of N clips, at random places.

    1. Smoothness is measured on ranks, so that a single extreme voxel does not dominate: z = Φ⁻¹((rank + ½)/V); equal
       values have their mean rank. z is mirrored at the far end of each axis, so that it is periodic without a step.
    2. g = F⁻¹(√S · F w), with white Gaussian noise w and the power S = P = |F z|², is a Gaussian field without a
       preferred place, with the autocorrelation of z in space and time at every lag ("circulant embedding", Dietrich
       and Newsam, SIAM J. Sci. Comput. 1997). If values are equal, as the zeros of a ReLU, step 4 reduces a
       correlation ρ to h(ρ). Then S = P·Π exp(−λ (1 − cos ω)) over the axes, with λ ≥ 0 such that h(ρ) at lag 1
       is the map's on every axis.
    3. The eight corners of g, each T × H × W, are draws with the same distribution; further draws use another w.
    4. The voxels of a draw get the values of the map in the order of their ranks (as the surrogates of Theiler et al.,
       Physica D 1992): the share of zeros, the equal values and the skewness are those of the map.

    For a method that smooths its own maps (`protocols.Smoothed`), the spatial smoothness is known and not estimated: P
    is that of time only, Φ turns g into uniform noise in [0, 1), and the method's own smoothing, with its own border,
    is applied before step 4.

    Random numbers are drawn on the CPU from the clip's seed alone and filtered in double precision: a clip's noise
    depends on no other clip and on no device.

    Args:
        maps: (N, T, H, W). The noise of a constant map is the map, that of a map that is not finite is NaN.
        seeds: N, one per clip.
        draws: How many.
        smoothing: The method's smoothing of maps (…, H, W); None: it has none.

    Returns:
        (draws, N, T, H, W) float32.
    """
    finite = maps.isfinite().flatten(1).all(1).view(-1, 1, 1, 1)
    maps = maps.where(finite, 0.0).float()
    values, order = maps.flatten(1).sort(1)
    axes = (1, 2, 3) if smoothing is None else (1,)
    size = [_period(axis, length) if axis in axes else length for axis, length in enumerate(maps.shape)][1:]
    shape = _amplitude(maps, order, axes)
    corners = list(itertools.product((False, True), repeat=len(axes)))
    found = []
    for block in range(-(-draws // len(corners))):
        streams = (torch.Generator().manual_seed(seed_for(seed, f"matched/{block}")) for seed in seeds)
        white = onto(maps.device, torch.stack([torch.randn(size, generator=stream) for stream in streams])).double()
        field = _inverse(_spectrum(white, axes) * shape, size, axes).float()
        for corner in corners[: draws - block * len(corners)]:
            draw = field
            for axis, far in zip(axes, corner, strict=True):
                length = maps.shape[axis]
                draw = draw.narrow(axis, draw.shape[axis] - length if far else 0, length)
            if smoothing is not None:
                draw = smoothing(torch.special.ndtr(draw))
            found.append(
                torch.empty_like(values)
                .scatter_(1, draw.flatten(1).argsort(1), values)
                .view_as(maps)
                .where(finite, torch.nan)
            )
    return torch.stack(found)


def _amplitude(maps: Tensor, order: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Returns √S on the frequencies of `axes`, of a field of variance 1; 0 for a constant map.

    Args:
        maps: (N, T, H, W).
        order: (N, V), which sorts the voxels of each map.
        axes: Those along which the field is periodic.
    """
    z = torch.special.ndtri(ranks(maps.flatten(1)).add_(0.5).div_(maps[0].numel()))
    z = z - z.mean(1, keepdim=True)
    left = _left(z.gather(1, order))
    z = z.view_as(maps)
    for axis in axes:
        again = _period(axis, z.shape[axis]) - z.shape[axis]
        z = torch.cat([z, z.flip(axis).narrow(axis, 1 if axis == 1 and again else 0, again)], axis)
    power = torch.view_as_real(_spectrum(z, axes)).square().sum(-1)
    if over := [axis for axis in (2, 3) if axis not in axes]:
        power = power.mean(over, keepdim=True)
    # rfft keeps half of the frequencies of the last axis; the omitted ones equal them.
    twice = torch.full((power.shape[axes[-1]],), 2.0, dtype=power.dtype, device=power.device)
    twice[:: max(1, z.shape[axes[-1]] // 2)] = 1  # 0 and, as every period but 1 is even, the highest
    whole = power * twice.view([-1 if axis == axes[-1] else 1 for axis in range(4)])
    damping = [power.new_ones(len(power), length) for length in power.shape[1:]]
    cosines = {
        axis: torch.arange(power.shape[axis], device=power.device).mul(2 * math.pi / z.shape[axis]).cos().to(power)
        for axis in axes
    }
    wanted = {axis: _before(_lag_one(_line(whole, damping, axis), cosines[axis]), left) for axis in axes}
    for _ in range(_SWEEPS):
        for axis in axes:
            damping[axis - 1] = _damped(_line(whole, damping, axis), cosines[axis], wanted[axis])
    factor = torch.einsum("nt,nh,nw->nthw", *damping)
    variance = (whole * factor).sum((1, 2, 3), keepdim=True) / math.prod(z.shape[axis] for axis in axes)
    return cast(Tensor, (power * factor / variance.clamp(min=1e-12)).sqrt())


def _line(power: Tensor, damping: Sequence[Tensor], axis: int) -> Tensor:
    """Returns the power (N, K) along one axis, summed over the two others under their damping."""
    t, h, w = (torch.ones_like(each) if place == axis - 1 else each for place, each in enumerate(damping))
    return torch.einsum(f"nthw,nt,nh,nw->n{'thw'[axis - 1]}", power, t, h, w)


def _lag_one(line: Tensor, cosine: Tensor) -> Tensor:
    """Returns the correlation (…) at lag 1 of fields with the power (…, K) along one axis; 0 without any power."""
    return (line @ cosine) / line.sum(-1).clamp(min=1e-12)


def _damped(line: Tensor, cosine: Tensor, wanted: Tensor) -> Tensor:
    """Returns the damping exp(−λ(1 − cos ω)) (N, K), λ ≥ 0, that gives lag 1 at least the correlation `wanted` (N,)."""
    low, high = torch.full_like(wanted, math.log(_DAMPING[0])), torch.full_like(wanted, math.log(_DAMPING[1]))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        enough = _lag_one(line * _decay(middle, cosine), cosine) >= wanted
        low, high = low.where(enough, middle), middle.where(enough, high)
    return _decay(high, cosine).where((_lag_one(line, cosine) < wanted).unsqueeze(1), 1.0)


def _decay(logarithm: Tensor, cosine: Tensor) -> Tensor:
    return (logarithm.exp().unsqueeze(1) * (cosine - 1)).exp()


def _period(axis: int, length: int) -> int:
    """Returns the length of an axis with its mirror image; in time the first and last frame are not repeated."""
    return max(1, 2 * length - 2) if axis == 1 else 2 * length


def _spectrum(field: Tensor, axes: Sequence[int]) -> Tensor:
    return cast(Tensor, torch.fft.rfftn(field, dim=tuple(axes)))


def _inverse(spectrum: Tensor, size: Sequence[int], axes: Sequence[int]) -> Tensor:
    # Axis by axis: MKL's transform of several axes from half a spectrum to real numbers (torch 2.15) writes beyond its
    # memory.
    for axis in axes[:-1]:
        spectrum = torch.fft.ifft(spectrum, dim=axis)
    return cast(Tensor, torch.fft.irfft(spectrum, n=size[axes[-1] - 1], dim=axes[-1]))


def _left(z: Tensor) -> Tensor:
    """Returns h (N, R) of the sorted values z (N, V): the correlation that remains of each of the R in `_pairs`.

    h(ρ) = E f(x) f(y) / E f(x)², f giving a number the value in z that has its rank.
    """
    rank = onto(z.device, _pairs()[1])
    x, *ys = (z.gather(1, (each * z.shape[1]).long().clamp(max=z.shape[1] - 1).expand(len(z), -1)) for each in rank)
    x = x - x.mean(1, keepdim=True)
    h = torch.stack([(x * y).mean(1) for y in ys], 1)
    return (h / h[:, -1:].clamp(min=1e-12)).cummax(1).values


@functools.cache
def _pairs() -> tuple[Tensor, Tensor]:
    """Returns correlations (R,) from 0 to 1, and the relative ranks (1 + R, P) of x and of y for each correlation."""
    correlations = torch.linspace(0, math.pi / 2, _KNOTS, dtype=torch.float64).sin()
    points = torch.special.ndtri((torch.arange(_NODES, dtype=torch.float64) + 0.5) / _NODES)
    x, other = (each.flatten() for each in torch.meshgrid(points, points, indexing="ij"))
    y = correlations[:, None] * x + (1 - correlations.square()).clamp(min=0).sqrt()[:, None] * other
    return correlations, torch.special.ndtr(torch.cat([x[None], y]))


def _before(correlation: Tensor, left: Tensor) -> Tensor:
    """Returns h⁻¹ (N,) of correlations (N,), linear between the knots of h (N, R); values up to 0 are unchanged."""
    knots = onto(correlation.device, _pairs()[0])
    right = torch.searchsorted(left, correlation.unsqueeze(1)).clamp(1, left.shape[1] - 1)
    low, high = left.gather(1, right - 1), left.gather(1, right)
    part = ((correlation.unsqueeze(1) - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
    found = torch.lerp(knots[right - 1], knots[right], part).squeeze(1)
    return found.where(correlation > 0, correlation)
