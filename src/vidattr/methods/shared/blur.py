"""Gaussian blur of frames in space."""

from __future__ import annotations

import torch
from torch import Tensor


def blurred(frames: Tensor, sigma: float | Tensor) -> Tensor:
    """Returns (..., H, W) frames blurred in space, by one matrix product per axis whatever the width of the Gaussian.

    Args:
        frames: Any leading axes.
        sigma: The standard deviation in pixels, positive: a number, or a tensor () on the device of the frames.
    """
    H, W = frames.shape[-2:]
    return _weights(H, sigma, frames) @ frames @ _weights(W, sigma, frames).T


def _weights(size: int, sigma: float | Tensor, like: Tensor) -> Tensor:
    place = torch.arange(size, dtype=like.dtype, device=like.device)
    # A softmax of -d²/2σ² is a Gaussian whose weights sum to 1 in every row, also at the border.
    return torch.softmax(-(place[:, None] - place).square() / (2 * sigma**2), 1)
