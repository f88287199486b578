"""Farnebäck's optical flow as tensor operations, for all frame pairs of all clips at once, on the device of the frames.

Farnebäck, G., "Two-frame motion estimation based on polynomial expansion", SCIA 2003, with the pyramid, windows and
borders of OpenCV's `calcOpticalFlowFarneback`, which remains the reference: on real clips both differ by less than a
hundredth of a pixel away from the borders. Unlike there, frames of fewer than ten rows or columns are weighted at their
borders as others are.

Around every pixel a frame is approximated, under a Gaussian weight, by r₀·y + r₁·x + r₂·y² + r₃·x² + r₄·x·y plus a
constant. Between two frames the linear terms change by twice the quadratic ones times the motion. A box average of
these equations is solved for the motion, and the second frame is read where the motion so far points to.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

_SCALE = 0.5  # of each level of the pyramid
_LEVELS = 3
_SMALLEST = 32  # pixels: a level's shorter side is at least this
_WINDOW = 15  # pixels: side of the box average
_ITERATIONS = 3
_REACH = 5  # pixels around a pixel that its polynomial is fitted to
_SIGMA = 1.2  # pixels: standard deviation of the weight of this fit
_BORDER = (0.14, 0.14, 0.4472, 0.4472, 0.4472)  # weight of the pixels nearest to the border
_DAMPING = 1e-3  # keeps the equations solvable where nothing has texture


def farneback(before: Tensor, after: Tensor) -> Tensor:
    """Returns the motion (B, 2, H, W) float32 as (dx, dy) in pixels from grey frames (B, H, W) uint8 to others."""
    pairs = torch.stack([before, after]).float()  # (2, B, H, W)
    H, W = before.shape[1:]
    levels = 0
    while levels < _LEVELS and min(H, W) * _SCALE ** (levels + 1) >= _SMALLEST:
        levels += 1
    flow = None
    for level in range(min(levels, _LEVELS), -1, -1):
        shrunk = _SCALE**level
        size = (round(H * shrunk), round(W * shrunk))
        images = interpolate(_smoothed(pairs, (1 / shrunk - 1) / 2), size, mode="bilinear", align_corners=False)
        polynomials = _polynomials(images)
        if flow is None:
            flow = pairs.new_zeros(len(before), 2, *size)
        else:
            flow = interpolate(flow, size, mode="bilinear", align_corners=False) / _SCALE
        for _ in range(_ITERATIONS):
            flow = _solved(_averaged(_equations(polynomials[0], polynomials[1], flow)))
    return flow if flow is not None else pairs.new_zeros(len(before), 2, H, W)


def _smoothed(images: Tensor, sigma: float) -> Tensor:
    """Returns images (…, H, W) under a Gaussian with mirrored borders; OpenCV's smallest kernel where `sigma` is 0."""
    half = max(round(sigma * 5) | 1, 3) // 2
    if sigma == 0:
        weights = [0.25, 0.5, 0.25]
    else:
        bell = [math.exp(-(k**2) / (2 * sigma**2)) for k in range(-half, half + 1)]
        weights = [weight / sum(bell) for weight in bell]
    down, across = (_mirrored(length, half, images) for length in images.shape[-2:])
    images = _weighted(images.index_select(-2, down), [weights], -2)[0]
    return _weighted(images.index_select(-1, across), [weights], -1)[0]


def _mirrored(length: int, half: int, like: Tensor) -> Tensor:
    """Returns the places of an axis with `half` more at both ends, mirrored at the outermost pixels."""
    if length == 1:
        return torch.zeros(1 + 2 * half, dtype=torch.int64, device=like.device)
    place = torch.arange(-half, length + half, device=like.device).remainder(2 * length - 2)
    return torch.minimum(place, 2 * length - 2 - place)


def _weighted(padded: Tensor, kernels: list[list[float]], axis: int) -> list[Tensor]:
    """Returns the sums of an axis' neighbours under each kernel, without padding."""
    length = padded.shape[axis] - len(kernels[0]) + 1
    found = []
    for kernel in kernels:
        total = torch.zeros_like(padded.narrow(axis, 0, length))
        for k, weight in enumerate(kernel):
            if weight:
                total.add_(padded.narrow(axis, k, length), alpha=weight)
        found.append(total)
    return found


def _polynomials(images: Tensor) -> Tensor:
    """Returns the five coefficients (…, 5, H, W) r₀ … r₄ of every pixel's polynomial."""
    places = range(-_REACH, _REACH + 1)
    bell = [math.exp(-(x**2) / (2 * _SIGMA**2)) for x in places]
    g = [weight / sum(bell) for weight in bell]
    xg, xxg = [x * w for x, w in zip(places, g, strict=True)], [x * x * w for x, w in zip(places, g, strict=True)]
    # Moments of the weight: the normal equations of the fit by 1, x, y, x², y², xy.
    second, fourth = sum(xxg), sum(x * x * w for x, w in zip(places, xxg, strict=True))
    moments = np.eye(6)
    moments[[1, 2, 0, 0, 3, 4], [1, 2, 3, 4, 0, 0]] = second
    moments[[3, 4], [3, 4]] = fourth
    moments[[5, 3, 4], [5, 4, 3]] = second**2
    solved = np.linalg.inv(moments)
    padded = pad(images, (0, 0, _REACH, _REACH), mode="replicate")
    constant, slope, curve = _weighted(padded, [g, xg, xxg], -2)
    wide = [pad(each, (_REACH, _REACH, 0, 0), mode="replicate") for each in (constant, slope, curve)]
    b1, b2, b4 = _weighted(wide[0], [g, xg, xxg], -1)
    b3, b6 = _weighted(wide[1], [g, xg], -1)
    (b5,) = _weighted(wide[2], [g], -1)
    one, both, square, mixed = (float(solved[place]) for place in ((1, 1), (0, 3), (3, 3), (5, 5)))
    return torch.stack([b3 * one, b2 * one, b1 * both + b5 * square, b1 * both + b4 * square, b6 * mixed], -3)


def _equations(before: Tensor, after: Tensor, flow: Tensor) -> Tensor:
    """Returns the equations (B, 5, H, W) of every pixel's motion: three numbers of a symmetric matrix, and two.

    Args:
        before: (B, 5, H, W), coefficients of the first frames.
        after: Those of the second ones.
        flow: The motion so far, which says where `after` is read; outside of the frame it is left out.
    """
    H, W = flow.shape[2:]
    dx, dy = flow.unbind(1)
    y, x = (torch.arange(length, dtype=flow.dtype, device=flow.device) for length in (H, W))
    fx, fy = x + dx, y[:, None] + dy
    left, top = fx.floor(), fy.floor()
    inside = ((left >= 0) & (left < W - 1) & (top >= 0) & (top < H - 1))[:, None]
    place = top.clamp(0, max(0, H - 2)).long() * W + left.clamp(0, max(0, W - 2)).long()
    right, low = (fx - left)[:, None], (fy - top)[:, None]
    flat = after.flatten(2)

    def at(step: int) -> Tensor:
        places = (place + step).clamp(max=H * W - 1).flatten(1)[:, None].expand(-1, 5, -1)
        return flat.gather(2, places).view_as(after)

    there = (1 - low) * ((1 - right) * at(0) + right * at(1)) + low * ((1 - right) * at(W) + right * at(W + 1))
    linear = (before[:, :2] - torch.where(inside, there[:, :2], 0.0)) / 2
    quadratic = torch.where(inside, (before[:, 2:] + there[:, 2:]) / 2, before[:, 2:])
    yy, xx, yx = quadratic[:, 0], quadratic[:, 1], quadratic[:, 2] / 2
    by_y, by_x = linear[:, 0] + yy * dy + yx * dx, linear[:, 1] + yx * dy + xx * dx
    weight = _edge(H, flow)[:, None] * _edge(W, flow)
    by_y, by_x, yy, xx, yx = (each * weight for each in (by_y, by_x, yy, xx, yx))
    return torch.stack(
        [yy * yy + yx * yx, (yy + xx) * yx, xx * xx + yx * yx, yy * by_y + yx * by_x, yx * by_y + xx * by_x], 1
    )


def _edge(length: int, like: Tensor) -> Tensor:
    """Returns the weights (length,) of an axis, smaller near both ends."""
    place = torch.arange(length, device=like.device)
    weight = torch.ones(length, dtype=like.dtype, device=like.device)
    for k, share in enumerate(_BORDER):
        weight = weight * torch.where(place == k, share, 1.0) * torch.where(place == length - 1 - k, share, 1.0)
    return weight


def _averaged(equations: Tensor) -> Tensor:
    """Returns the box average of (B, 5, H, W), with the outermost pixels repeated beyond the border."""
    half = _WINDOW // 2
    padded = pad(equations, (half, half, half, half), mode="replicate")
    return padded.unfold(2, _WINDOW, 1).mean(-1).unfold(3, _WINDOW, 1).mean(-1)


def _solved(equations: Tensor) -> Tensor:
    """Returns the motion (B, 2, H, W) that solves every pixel's equations."""
    yy, yx, xx, by_y, by_x = equations.unbind(1)
    inverse = 1 / (yy * xx - yx * yx + _DAMPING)
    return torch.stack([(yy * by_x - yx * by_y) * inverse, (xx * by_y - yx * by_x) * inverse], 1)
