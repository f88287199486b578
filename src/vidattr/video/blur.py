"""The blur that stands for "not there": where a clip starts from when pixels are inserted, or what occludes them."""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn.functional import pad


def rise_blur(frames: Tensor) -> Tensor:
    """Blurs (N, C, T, H, W) per frame and channel with the kernel of RISE (Petsiuk et al., BMVC 2018), zeros outside.

    The kernel is 11×11: a delta under a Gaussian of σ = 5 that is reflected at the kernel's border. It sums to 1, with
    weights between 0.0077 and 0.0088: nearly a box.
    """
    place, sigma = torch.arange(11, dtype=torch.float64), 5.0
    # The delta's mirror images lie at 5 + 11·k, the kernel being symmetric; past 20 px the Gaussian is cut off.
    distance = (place - 5 + 11 * torch.arange(-2, 3, dtype=torch.float64).unsqueeze(1)).abs()
    weights = (torch.exp(-((distance / sigma) ** 2) / 2) * (distance <= 4 * sigma)).sum(0)
    kernel = (weights / weights.sum()).to(frames.dtype)  # numbers of the host, which no device waits for
    # Shifted sums, not a convolution: cuDNN may round those to TF32.
    for axis, padding in ((3, (0, 0, 5, 5)), (4, (5, 5))):
        padded, size = pad(frames, padding), frames.shape[axis]
        frames = functools.reduce(torch.add, (weight * padded.narrow(axis, i, size) for i, weight in enumerate(kernel)))
    return frames
