"""Plausible content of a masked voxel, from its neighbourhood: mean and draws of the patches around it.

Uchiyama, T. et al., "Visually explaining 3D-CNN predictions for video classification with an adaptive occlusion
sensitivity analysis", WACV 2023, after Zintgraf et al., "Visualizing deep neural network decisions: Prediction
difference analysis", ICLR 2017: the content v of a mask follows the Gaussian N(μ, Σ) of all patches of the mask's size
that lie within a margin of `extent` pixels around it, the mask's own patch left out, in each frame and channel.

With k = 2·extent + 1 these are the k² − 1 patches at the shifts (a, b) ∈ [−extent, extent]² without (0, 0). At any
voxel q they contain the k² − 1 neighbours of q, whatever mask q is in: μ and the draws are fields of the clip that are
computed once for all masks.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from vidattr.video.preprocessing import Preprocessing


def mean_field(frames: Tensor, extent: int) -> Tensor:
    """Returns μ (N, C, T, H, W), the mean of a voxel's k² − 1 neighbours in its own frame and channel.

    μ(q) = (Σ_box x − x(q)) / (|box| − 1), the k×k box around q cut at the image's border: neighbours outside do not
    exist. A frame of one pixel has no neighbours and stays as it is.
    """
    neighbours = _neighbours(frames, extent)
    around = _box_sum(frames, extent) - frames
    return torch.where(neighbours > 0, around / neighbours.clamp(min=1), frames)


def draw(
    frames: Tensor, extent: int, generators: Sequence[torch.Generator], samples: int, view: Preprocessing
) -> Tensor:
    """Returns draws v ~ N(μ, Σ) for all voxels at once: (samples, N, C, T, H, W), clipped to what a pixel can be.

    v = μ + (1/√(n − 1)) Σ_j z_j (x^j − μ), z_j ~ N(0, 1), over the n = k² − 1 shifted frames x^j. Its covariance is
    that of the n patches exactly, without Σ ever being formed (its rank is n − 1 at most, so it has no Cholesky
    factor). Every frame and channel has z of its own, as each has a Gaussian of its own.

    Unlike the paper, which draws again for every mask, one draw fills all masks of a clip: the content of each mask has
    the same distribution, and masks are compared on the same content. At the border, neighbours outside the frame are
    left out of the sum and of n, so that the variance of each voxel is that of its neighbours.

    Args:
        frames: (N, C, T, H, W), as the network takes them.
        extent: Largest shift in pixels.
        generators: N, one per clip, on the device of the frames; each is advanced by samples · n · C · T numbers.
        samples: Draws per clip.
        view: The network's preprocessing, which defines the values of black and white.
    """
    C, T, H, W = frames.shape[1:]
    side = 2 * extent + 1
    shifts = [(a, b) for a in range(side) for b in range(side) if (a, b) != (extent, extent)]
    z = [
        torch.randn(samples, len(shifts), C, T, 1, 1, generator=g, dtype=frames.dtype, device=frames.device)
        for g in generators
    ]
    mean = mean_field(frames, extent)
    padding = (extent,) * 4
    padded, inside = pad(frames, padding), pad(torch.ones_like(frames[0, 0, 0]), padding)
    total = frames.new_zeros(samples, *frames.shape)
    for z_j, (a, b) in zip(torch.stack(z, 2).unbind(1), shifts, strict=True):
        rows, columns = slice(a, a + H), slice(b, b + W)
        total.addcmul_(z_j, (padded[..., rows, columns] - mean) * inside[rows, columns])
    scale = (_neighbours(frames, extent) - 1).clamp(min=1).rsqrt()
    return (mean + scale * total).clamp(view.colour(frames, 0.0), view.colour(frames, 1.0))


def _neighbours(frames: Tensor, extent: int) -> Tensor:
    """Returns how many neighbours (1, 1, 1, H, W) a voxel has within the image."""
    return _box_sum(torch.ones_like(frames[:1, :1, :1]), extent) - 1


def _box_sum(frames: Tensor, extent: int) -> Tensor:
    """Returns the sum over the k×k box around each voxel, zeros outside."""
    # Shifted sums, not a convolution: cuDNN may round those to TF32.
    for axis, padding in ((3, (0, 0, extent, extent)), (4, (extent, extent))):
        padded, size = pad(frames, padding), frames.shape[axis]
        frames = functools.reduce(torch.add, (padded.narrow(axis, i, size) for i in range(2 * extent + 1)))
    return frames
