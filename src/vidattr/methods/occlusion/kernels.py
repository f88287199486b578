# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped, import-not-found"
"""The Triton kernel of occlusion: rectangles of tubes → occluded clips, without masks.

This module is imported where the kernel runs: on a GPU, and in the tests by Triton's interpreter. `filling.occluded`
defines what is computed.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 1024  # voxels of one program


@triton.jit
def _occluded(
    frames, fills, clip, draw, rectangles, out, T, H, W, f_clip, f_channel, f_time, f_row, f_column, r_draw, r_clip,
    r_channel, r_time, r_row, r_column, o_clip, o_channel, o_time, o_row, o_column, tubes, CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Writes one block of voxels of one occluded clip."""
    p = tl.program_id(0).to(tl.int64)
    voxel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    on = voxel < T * H * W
    t, y, x = voxel // (H * W), voxel // W % H, voxel % W
    inside = voxel < 0
    for g in range(tubes):
        place = rectangles + ((p * tubes + g) * T + t) * 4
        top, bottom = tl.load(place, mask=on, other=0), tl.load(place + 1, mask=on, other=0)
        left, right = tl.load(place + 2, mask=on, other=0), tl.load(place + 3, mask=on, other=0)
        inside = inside | ((y >= top) & (y < bottom) & (x >= left) & (x < right))
    source = tl.load(clip + p)
    plain = frames + source * f_clip + t * f_time + y * f_row + x * f_column
    filled = fills + tl.load(draw + p) * r_draw + source * r_clip + t * r_time + y * r_row + x * r_column
    to = out + p * o_clip + t * o_time + y * o_row + x * o_column
    for c in range(CHANNELS):
        kept = tl.load(plain + c * f_channel, mask=on & (inside == 0), other=0.0)
        fill = tl.load(filled + c * r_channel, mask=on & inside, other=0.0)
        tl.store(to + c * o_channel, tl.where(inside, fill, kept).to(out.dtype.element_ty), mask=on)


def fill_tubes(frames: Tensor, fills: Tensor, clip: Tensor, draw: Tensor, rectangles: Tensor, out: Tensor) -> None:
    """Fills `out` (P, C, T, H, W) with occluded clips; fills are (draws, N, C, T, H, W), expanded."""
    P, C, T, H, W = out.shape
    _occluded[P, triton.cdiv(T * H * W, _BLOCK)](
        frames, fills, clip, draw, rectangles, out, T, H, W, *frames.stride(), *fills.stride(), *out.stride(),
        rectangles.shape[1], CHANNELS=C, BLOCK=_BLOCK,
    )  # fmt: skip
