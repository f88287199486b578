# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped, import-not-found"
"""Triton kernels of extremal perturbations: seeds → mask → blurred frames, and both derivatives.

Seeds are (B, T, h, w), masks (B, T, Ĥ, Ŵ) on their plane, frames (B, C, T, H, W); `frame` counts the B·T frames. This
module is imported where the kernels run: on a GPU, and in the tests by Triton's interpreter. `SmoothMax` and
`pyramid.perturb` define what is computed.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 256  # pixels of one program
_SEEDS = 16  # seeds of one program of the derivative


@triton.jit
def _blend(
    value, clip, t, y, x, on, pyramid, frames, frame_place, T, H, W, per_level, per_channel, LEVELS: tl.constexpr,
    CHANNELS: tl.constexpr,
):  # fmt: skip
    """Writes the frames between the two levels of the pyramid that each mask value lies between."""
    height = value * (LEVELS - 1)
    below = tl.minimum(tl.floor(height), LEVELS - 1)
    share = height - below
    level = below.to(tl.int64)
    above = tl.minimum(level + 1, LEVELS - 1)
    for c in range(CHANNELS):
        place = ((clip * CHANNELS + c) * T + t) * H * W + y * W + x
        lower = tl.load(pyramid + level * per_level + place, mask=on, other=0.0)
        upper = tl.load(pyramid + above * per_level + place, mask=on, other=0.0)
        mixed = (1 - share) * lower + share * upper
        tl.store(frames + frame_place + c * per_channel, mixed.to(frames.dtype.element_ty), mask=on)


@triton.jit
def _smooth_max(
    seeds, weights, mean, bottom, plane, pyramid, clips, frames, coldness, h, w, rows, columns, margin, T, H, W, corner,
    per_level, s_clip, s_channel, s_time, s_row, s_column, STEP: tl.constexpr, TAPS: tl.constexpr,
    LEVELS: tl.constexpr, CHANNELS: tl.constexpr, KEEPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Writes the smooth maximum, its two sums' results for the derivative, and the frames under its mask."""
    frame = tl.program_id(0).to(tl.int64)
    pixel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    on = pixel < rows * columns
    y, x = pixel // columns, pixel % columns
    group = (y % STEP) * STEP + x % STEP
    row, column = y // STEP - margin, x // STEP - margin
    top = tl.zeros((BLOCK,), dtype=seeds.dtype.element_ty)
    below = tl.zeros((BLOCK,), dtype=seeds.dtype.element_ty)
    for i in range(TAPS):
        for j in range(TAPS):
            r, c = row + i, column + j
            near = on & (r >= 0) & (r < h) & (c >= 0) & (c < w)
            seed = tl.load(seeds + (frame * h + r) * w + c, mask=near, other=0.0)
            a = tl.load(weights + group * (TAPS * TAPS) + i * TAPS + j, mask=on, other=0.0) * seed
            e = tl.exp(a)
            below += e
            top += a * e
    top = top / below
    place = frame * rows * columns + pixel
    tl.store(mean + place, top, mask=on)
    tl.store(bottom + place, below, mask=on)
    value = tl.minimum(top / coldness, 1.0)
    tl.store(plane + place, value, mask=on)
    t, b = frame % T, frame // T
    y, x = y - corner, x - corner
    shown = on & (y >= 0) & (y < H) & (x >= 0) & (x < W)
    if not KEEPS:
        value = 1 - value
    to = b * s_clip + t * s_time + y.to(tl.int64) * s_row + x * s_column
    _blend(
        value, tl.load(clips + b), t, y, x, shown, pyramid, frames, to, T, H, W, per_level, s_channel, LEVELS, CHANNELS
    )


@triton.jit
def _frames(
    mask, m_clip, m_time, m_row, pyramid, clips, frames, T, H, W, per_level, s_clip, s_channel, s_time, s_row, s_column,
    LEVELS: tl.constexpr, CHANNELS: tl.constexpr, KEEPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Writes the frames under a mask that is there already."""
    frame = tl.program_id(0).to(tl.int64)
    pixel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    on = pixel < H * W
    y, x = pixel // W, pixel % W
    t, b = frame % T, frame // T
    value = tl.load(mask + b * m_clip + t * m_time + y * m_row + x, mask=on, other=0.0)
    if not KEEPS:
        value = 1 - value
    to = b * s_clip + t * s_time + y.to(tl.int64) * s_row + x * s_column
    _blend(value, tl.load(clips + b), t, y, x, on, pyramid, frames, to, T, H, W, per_level, s_channel, LEVELS, CHANNELS)


@triton.jit
def _slope(
    mask, m_clip, m_time, m_row, pyramid, clips, gradient, slope, T, H, W, per_level, s_clip, s_channel, s_time, s_row,
    s_column, LEVELS: tl.constexpr, CHANNELS: tl.constexpr, KEEPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Writes Σ_c gradient_c (L − 1)(y_(k+1) − y_k), the derivative by the value that frames were blended with."""
    frame = tl.program_id(0).to(tl.int64)
    pixel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    on = pixel < H * W
    y, x = pixel // W, pixel % W
    t, b = frame % T, frame // T
    value = tl.load(mask + b * m_clip + t * m_time + y * m_row + x, mask=on, other=0.0)
    if not KEEPS:
        value = 1 - value
    level = tl.minimum(tl.floor(value * (LEVELS - 1)), LEVELS - 1).to(tl.int64)
    above = tl.minimum(level + 1, LEVELS - 1)
    clip = tl.load(clips + b)
    total = tl.zeros((BLOCK,), dtype=slope.dtype.element_ty)
    for c in range(CHANNELS):
        place = ((clip * CHANNELS + c) * T + t) * H * W + pixel
        lower = tl.load(pyramid + level * per_level + place, mask=on, other=0.0)
        upper = tl.load(pyramid + above * per_level + place, mask=on, other=0.0)
        source = b * s_clip + c * s_channel + t * s_time + y.to(tl.int64) * s_row + x * s_column
        total += tl.load(gradient + source, mask=on, other=0.0).to(slope.dtype.element_ty) * (upper - lower)
    tl.store(slope + frame * H * W + pixel, total * (LEVELS - 1), mask=on)


@triton.jit
def _by_seeds(
    seeds, weights, mean, bottom, gradient, result, coldness, h, w, rows, columns, margin, STEP: tl.constexpr,
    TAPS: tl.constexpr, PLACES: tl.constexpr, SEEDS: tl.constexpr,
):  # fmt: skip
    """Writes the derivative by each seed, a sum over the pixels that it is in the window of, in a fixed order."""
    frame = tl.program_id(0).to(tl.int64)
    number = tl.program_id(1) * SEEDS + tl.arange(0, SEEDS)
    here = number < h * w
    row, column = number // w + margin, number % w + margin
    seed = tl.load(seeds + frame * h * w + number, mask=here, other=0.0)[:, None]
    group = tl.arange(0, PLACES)
    down, across = (group // STEP)[None, :], (group % STEP)[None, :]
    real = here[:, None] & (group < STEP * STEP)[None, :]
    total = tl.zeros((SEEDS, PLACES), dtype=seeds.dtype.element_ty)
    for i in range(TAPS):
        for j in range(TAPS):
            y, x = (row - i)[:, None] * STEP + down, (column - j)[:, None] * STEP + across
            on = real & ((row - i) >= 0)[:, None] & ((column - j) >= 0)[:, None] & (y < rows) & (x < columns)
            place = frame * rows * columns + y * columns + x
            average = tl.load(mean + place, mask=on, other=0.0)
            passed = tl.load(gradient + place, mask=on, other=0.0)
            below = tl.load(bottom + place, mask=on, other=1.0)
            weight = tl.load(weights + group * (TAPS * TAPS) + i * TAPS + j, mask=group < STEP * STEP, other=0.0)[
                None, :
            ]
            a = weight * seed
            total += passed / below * weight * tl.exp(a) * (1 + a - average)
    tl.store(result + frame * h * w + number, tl.sum(total, axis=1) / coldness, mask=here)


class SmoothMaxAndFrames(torch.autograd.Function):
    """The mask (B, T, Ĥ, Ŵ) of seeds (B, T, h, w), and the frames (B, C, T, H, W) under it, without a derivative."""

    @staticmethod
    def forward(
        ctx: Any, seeds: Tensor, weights: Tensor, shape: dict[str, Any], pyramid: Tensor, clip: Tensor, frames: Tensor
    ) -> Tensor:
        """Computes the mask, and fills `frames`; `shape` as `SmoothMax.shape` returns it, and `keeps`."""
        B, T, h, w = seeds.shape
        rows, columns = shape["plane"]
        seeds = seeds.contiguous()
        mean, bottom, plane = (seeds.new_empty(B, T, rows, columns) for _ in range(3))
        levels, _, channels, _, H, W = pyramid.shape
        _smooth_max[B * T, triton.cdiv(rows * columns, _BLOCK)](
            seeds, weights, mean, bottom, plane, pyramid, clip, frames, shape["coldness"], h, w, rows, columns,
            shape["margin"], T, H, W, shape["corner"], pyramid.stride(0), *frames.stride(), STEP=shape["step"],
            TAPS=shape["taps"], LEVELS=levels, CHANNELS=channels, KEEPS=shape["keeps"], BLOCK=_BLOCK,
        )  # fmt: skip
        ctx.save_for_backward(seeds, weights, mean, bottom)
        ctx.shape = shape
        return plane

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the derivative by the seeds."""
        seeds, weights, mean, bottom = ctx.saved_tensors
        B, T, h, w = seeds.shape
        shape = ctx.shape
        result = torch.empty_like(seeds)
        _by_seeds[B * T, triton.cdiv(h * w, _SEEDS)](
            seeds, weights, mean, bottom, gradient.contiguous(), result, shape["coldness"], h, w, *shape["plane"],
            shape["margin"], STEP=shape["step"], TAPS=shape["taps"],
            PLACES=triton.next_power_of_2(shape["step"] ** 2), SEEDS=_SEEDS,
        )  # fmt: skip
        return result, None, None, None, None, None


def frames_under(mask: Tensor, pyramid: Tensor, clip: Tensor, frames: Tensor, *, keeps: bool) -> None:
    """Fills frames (B, C, T, H, W) with those under the mask (B, T, H, W), or under 1 minus it."""
    B, T, H, W = mask.shape
    levels, _, channels = pyramid.shape[:3]
    _frames[B * T, triton.cdiv(H * W, _BLOCK)](
        mask, *mask.stride()[:3], pyramid, clip, frames, T, H, W, pyramid.stride(0), *frames.stride(), LEVELS=levels,
        CHANNELS=channels, KEEPS=keeps, BLOCK=_BLOCK,
    )  # fmt: skip


def slope_under(mask: Tensor, pyramid: Tensor, clip: Tensor, gradient: Tensor, *, keeps: bool) -> Tensor:
    """Returns the derivative (B, T, H, W) by the mask, or by 1 minus it, given that by the frames (B, C, T, H, W)."""
    B, T, H, W = mask.shape
    levels, _, channels = pyramid.shape[:3]
    slope = mask.new_empty(B, T, H, W)
    _slope[B * T, triton.cdiv(H * W, _BLOCK)](
        mask, *mask.stride()[:3], pyramid, clip, gradient, slope, T, H, W, pyramid.stride(0), *gradient.stride(),
        LEVELS=levels, CHANNELS=channels, KEEPS=keeps, BLOCK=_BLOCK,
    )  # fmt: skip
    return slope
