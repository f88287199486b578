"""The effect of a mask on the frames: from the unchanged frame (1) to a blurred or faded one (0).

The perturbation operator of Fong, Patrick, Vedaldi, ICCV 2019, with the eight levels of its released code.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum, auto

import torch
from torch import Tensor

from vidattr.models.speed.lagging import onto

# The frames (B, C, T, H, W) under a mask, and the function from the derivative by them to that by the mask's values.
Blended = tuple[Tensor, Callable[[Tensor], Tensor]]

LEVELS = 8
WIDEST = 20.0  # pixels, for every size of the frame


class Perturbation(StrEnum):
    """The value of a voxel where the mask is 0: its blurred surroundings, or 0, the mean colour of the dataset."""

    blur = auto()
    fade = auto()


class Border(StrEnum):
    """The values beyond the border in a blur: zeros, or the nearest pixel of the frame."""

    zero = auto()
    nearest = auto()


def blur(images: Tensor, sigma: float, border: Border = Border.zero, out: Tensor | None = None) -> Tensor:
    """Blurs (…, H, W) with a Gaussian of standard deviation `sigma` pixels, cut at ⌈4σ⌉ and normalised to sum 1.

    With zeros beyond the border, the border of a blurred frame fades to the mean colour. The blur is two matrix
    products.
    """
    if sigma == 0:
        return images if out is None else out.copy_(images)
    down, across = (_gaussian(length, sigma, border, images) for length in images.shape[-2:])
    return torch.matmul(down @ images, across.T, out=out)


def _gaussian(length: int, sigma: float, border: Border, like: Tensor) -> Tensor:
    """Returns the (length, length) matrix of a Gaussian blur along one axis."""
    half = math.ceil(4 * sigma)
    kernel = torch.exp(-(torch.arange(-half, half + 1, dtype=torch.float64) ** 2) / (2 * sigma**2))
    source = torch.arange(length)[:, None] + torch.arange(-half, half + 1)  # (length, kernel), also beyond the border
    weights = (kernel / kernel.sum()).expand(length, -1)
    if border is Border.zero:
        weights = weights.where((source >= 0) & (source < length), 0.0)
    matrix = torch.zeros(length, length, dtype=torch.float64)
    return onto(like.device, matrix.scatter_add_(1, source.clamp(0, length - 1), weights).to(like.dtype))


def blur_pyramid(frames: Tensor) -> Tensor:
    """Returns (8, …): level l is the frames, each blurred by 20·(1 − l/7) pixels; the last is the frames themselves."""
    pyramid = frames.new_empty(LEVELS, *frames.shape)
    for number, level in enumerate(pyramid):
        blur(frames, WIDEST * (1 - number / (LEVELS - 1)), out=level)
    return pyramid


def fade_pyramid(frames: Tensor) -> Tensor:
    """Returns (2, …): zeros and the frames. Interpolation gives exactly m·x, as with eight levels l/7·x."""
    return torch.stack([torch.zeros_like(frames), frames])


PYRAMIDS: dict[Perturbation, Callable[[Tensor], Tensor]] = {
    Perturbation.blur: blur_pyramid,
    Perturbation.fade: fade_pyramid,
}


def perturb(pyramid: Tensor, clip: Tensor, mask: Tensor) -> Blended:
    """Interpolates every voxel linearly between the two levels of a pyramid that its mask value lies between.

    With v = (L − 1)·m and k = ⌊v⌋: out = (k + 1 − v)·y_k + (v − k)·y_{k+1}, with the last level repeated.
    It is computed as Σ_l max(0, 1 − |v − l|)·y_l, one level at a time, without a table of indices.

    Args:
        pyramid: (L, U, C, T, H, W) levels of U clips.
        clip: (B,), the index of each mask's clip.
        mask: (B, T, H, W) in [0, 1].

    Returns:
        The perturbed frames (B, C, T, H, W), and the function from the derivative by them to that by the mask, for
        which d out / d m = (L − 1)(y_{k+1} − y_k).
    """
    if mask.device.type == "cpu":
        return _looked_up(pyramid, clip, mask)
    top = len(pyramid) - 1
    height = mask[:, None] * top
    below = height.floor()
    frames, slope = (mask.new_zeros(len(mask), *pyramid.shape[2:]) for _ in range(2))
    for level, images in enumerate(pyramid):
        image = images if len(images) == 1 else images[clip]
        frames.addcmul_((1 - (height - level).abs()).clamp_(min=0), image)
        rise = (below == level - 1).to(mask.dtype)
        if level < top:
            rise -= (below == level).to(mask.dtype)
        slope.addcmul_(rise, image, value=top)
    return frames, lambda gradient: (gradient * slope).sum(1)


def _looked_up(pyramid: Tensor, clip: Tensor, mask: Tensor) -> Blended:
    """Computes the same as `perturb` from the two levels of each voxel only, which are read by an index.

    On a CPU this is several times as fast. The loop runs over the clips, so that the levels of one stay in the cache.
    """
    top, clips = len(pyramid) - 1, pyramid.shape[1]
    height = mask * top
    below = height.floor().clamp_(max=top - 1)
    share = height.sub_(below)
    place = below.long()
    if clips > 1:
        place.mul_(clips).add_(clip.view(-1, 1, 1, 1))
    levels = pyramid.flatten(0, 1)  # (L·U, C, T, H, W)
    frames, rise = (mask.new_empty(len(mask), *pyramid.shape[2:]) for _ in range(2))
    for row in range(len(mask)):
        at = place[row].expand(1, *pyramid.shape[2:])
        low, high = levels.gather(0, at)[0], rise[row]
        torch.gather(levels[clips:], 0, at, out=high[None])
        torch.lerp(low, high, share[row].expand_as(low), out=frames[row])
        high -= low

    def by_mask(gradient: Tensor) -> Tensor:
        slope = gradient[:, 0] * rise[:, 0]
        for channel in range(1, rise.shape[1]):
            slope.addcmul_(gradient[:, channel], rise[:, channel])
        return slope.mul_(top).masked_fill_(mask == 1, 0)  # the last level is repeated

    return frames, by_mask
