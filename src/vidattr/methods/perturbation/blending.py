"""From seeds to masks and the frames under them, by Triton's kernels where they run, else by torch's operations."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vidattr.methods.perturbation.pyramid import Blended, perturb
from vidattr.methods.perturbation.smooth_mask import SmoothMax
from vidattr.models.network.network import VideoModel
from vidattr.models.speed.kernels import runs_kernels


def masks_of(
    smooth_max: SmoothMax, seeds: Tensor, model: VideoModel, pyramid: Tensor, clip: Tensor, *, keeps: bool
) -> tuple[Tensor, Blended | None]:
    """Returns the masks (B, T, Ĥ, Ŵ) of seeds (B, T, h, w), differentiable by them, and the frames under the masks.

    The frames are None where one kernel does not compute both.

    Args:
        smooth_max: From seeds to masks.
        seeds: (B, T, h, w).
        model: The network that the frames are for.
        pyramid: (L, U, C, T, H, W).
        clip: (B,), each mask's clip.
        keeps: Whether the frames are those under the mask, or under 1 minus it.
    """
    if not runs_kernels(seeds):
        return smooth_max(seeds), None
    from vidattr.methods.perturbation.kernels import SmoothMaxAndFrames

    frames = _empty(model, pyramid, len(seeds))
    shape = {**smooth_max.shape(), "keeps": keeps}
    plane: Tensor = SmoothMaxAndFrames.apply(seeds, smooth_max.weights, shape, pyramid, clip, frames)
    return plane, (frames, _slope(smooth_max.crop(plane.detach()), pyramid, clip, keeps=keeps))


def blended(model: VideoModel, pyramid: Tensor, clip: Tensor, mask: Tensor, *, keeps: bool) -> Blended:
    """Returns the frames under a mask (B, T, H, W), or under 1 minus it."""
    if runs_kernels(mask):
        from vidattr.methods.perturbation.kernels import frames_under

        frames = _empty(model, pyramid, len(mask))
        frames_under(mask, pyramid, clip, frames, keeps=keeps)
        return frames, _slope(mask, pyramid, clip, keeps=keeps)
    return perturb(pyramid, clip, mask if keeps else 1 - mask)


def _slope(mask: Tensor, pyramid: Tensor, clip: Tensor, *, keeps: bool) -> Callable[[Tensor], Tensor]:
    from vidattr.methods.perturbation.kernels import slope_under

    return lambda gradient: slope_under(mask, pyramid, clip, gradient, keeps=keeps)


def _empty(model: VideoModel, pyramid: Tensor, count: int) -> Tensor:
    """Returns frames to be filled, in the number format and memory format that the network works in."""
    dtype, memory_format = model.takes()
    return torch.empty(
        count, *pyramid.shape[2:], dtype=dtype or pyramid.dtype, device=pyramid.device, memory_format=memory_format
    )
