"""From rectangles of tubes to occluded clips, by a Triton kernel where it runs, else by torch's operations."""

from __future__ import annotations

import torch
from torch import Tensor

from vidattr.methods.occlusion.tubes import union_mask
from vidattr.models.network.network import VideoModel
from vidattr.models.speed.kernels import runs_kernels


def occluded(
    model: VideoModel, frames: Tensor, fills: Tensor, clip: Tensor, draw: Tensor, rectangles: Tensor
) -> Tensor:
    """Returns P clips (P, C, T, H, W), each with the union of some tubes filled.

    The kernel writes them in the number format and memory format of the network's passes.

    Args:
        model: The network that they are for.
        frames: (N, C, T, H, W).
        fills: (draws, N, C, T, H, W); any of the last four axes is 1 if the fill is constant along it.
        clip: (P,), the index of each occlusion's clip.
        draw: (P,), the index of its fill.
        rectangles: (P, G, T, 4) as in `Tubes`.
    """
    if not runs_kernels(frames):
        mask = union_mask(rectangles, (frames.shape[3], frames.shape[4]))
        return torch.where(mask[:, None], fills[draw, clip], frames[clip])
    from vidattr.methods.occlusion.kernels import fill_tubes

    dtype, memory_format = model.takes()
    shape = (len(clip), *frames.shape[1:])
    out = torch.empty(shape, dtype=dtype or frames.dtype, device=frames.device, memory_format=memory_format)
    wide = fills.expand(*fills.shape[:2], *frames.shape[1:])
    fill_tubes(frames, wide, clip.contiguous(), draw.contiguous(), rectangles.contiguous(), out)
    return out
