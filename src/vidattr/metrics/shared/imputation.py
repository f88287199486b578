"""Linear imputation: each removed voxel becomes the weighted mean of its neighbours in space and time.

Rong, Y. et al., "A Consistent and Efficient Evaluation Strategy for Attribution Methods", ICML 2022 (ROAD), section 5.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d, interpolate

_TINY = 1e-30  # keeps 0 / 0 out of systems that are solved already
_VOLUME = (2, 3, 4)  # the axes of voxels
_GAIN = 0.6  # of the coarse corrections; between 0.3 and 2 the number of iterations changes by a tenth


def imputed(frames: Tensor, removed: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Solves for the removed voxels u of each clip and channel: Σ_j w_ij (u_i − x_j) = 0 over the neighbours j of i.

    The paper's weights are 1/6 for the four direct neighbours of a pixel and 1/12 for the four diagonal ones. Unlike
    the paper, the same pixel in the frame before and in the frame after are two further direct neighbours: the weights
    are 1/8 and 1/16. At a border the weights of the neighbours that exist are used, as in the released code.

    The system is symmetric and positive definite if one voxel is known. It is solved by conjugate gradients. The start
    fills each hole from coarser and coarser means of the known voxels. The preconditioner adds corrections from all
    coarser grids (Bramble, Pasciak and Xu, "Parallel multilevel preconditioners", Mathematics of Computation 1990),
    because holes of many voxels would otherwise need as many iterations as they are wide.

    Args:
        frames: (J, C, T, H, W).
        removed: (J, T, H, W) bool; at least one voxel of each clip is not removed.
        iterations: Number of conjugate gradient steps. It is fixed, so that no number has to leave the device.

    Returns:
        The clips, with the removed voxels imputed, and the residual (J,) that remains: the largest of any channel, as a
        share of the right-hand side.
    """
    hole = removed[:, None].to(frames)
    own = _neighbours(torch.ones_like(frames[:1, :1]))
    right = hole * _neighbours(frames * (1 - hole))
    coarse = _corrections(hole * own)

    def system(u: Tensor) -> Tensor:
        return hole * (own * u - _neighbours(u))

    u = hole * _filled_from_coarse(frames, ~removed[:, None])
    r = right - system(u)
    z = hole * (r / own + coarse(r))
    p, rz = z, _dot(r, z)
    for _ in range(iterations):
        q = system(p)
        step = rz / _dot(p, q).clamp(min=_TINY)
        u, r = u + step * p, r - step * q
        z = hole * (r / own + coarse(r))
        after = _dot(r, z)
        p, rz = z + after / rz.clamp(min=_TINY) * p, after
    left = (right - system(u)).square().sum(_VOLUME).sqrt()
    size = right.square().sum(_VOLUME).sqrt()
    residual = (left / size.clamp(min=torch.finfo(size.dtype).tiny)).where(left > 0, 0.0)
    return torch.where(removed[:, None], u, frames), residual.amax(1)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(_VOLUME, keepdim=True)


def _neighbours(u: Tensor) -> Tensor:
    """Returns Σ_j w_ij u_j over the neighbours of each voxel of (J, C, T, H, W), zeros outside, in sixteenths.

    Direct neighbours weigh 2, diagonal ones 1: the binomial kernel (1, 2, 1) along both axes of a frame without its
    centre, which is 4. Shifted sums, not a convolution: cuDNN may round those to TF32.
    """
    rows = 2 * u
    rows[..., 1:, :] += u[..., :-1, :]
    rows[..., :-1, :] += u[..., 1:, :]
    total = 2 * rows
    total[..., 1:] += rows[..., :-1]
    total[..., :-1] += rows[..., 1:]
    total -= 4 * u
    total[:, :, 1:] += 2 * u[:, :, :-1]
    total[:, :, :-1] += 2 * u[:, :, 1:]
    return total


def _halved(u: Tensor) -> list[int]:
    """Returns by how much each axis of voxels shrinks from one grid to the next: 2, and 1 for an axis of length 1."""
    return [2 if length > 1 else 1 for length in u.shape[2:]]


def _sums(u: Tensor, cell: list[int]) -> Tensor:
    return avg_pool3d(u, cell, ceil_mode=True, divisor_override=1)


def _filled_from_coarse(frames: Tensor, known: Tensor) -> Tensor:
    """Returns frames whose unknown voxels are interpolated from the means of the known ones on a coarser grid."""
    if max(frames.shape[2:]) == 1:
        return frames
    cell, weight = _halved(frames), known.to(frames)
    number = _sums(weight, cell)
    means = _sums(frames * weight, cell) / number.clamp(min=1)
    means = _filled_from_coarse(means, number > 0)
    return torch.where(known, frames, interpolate(means, frames.shape[2:], mode="trilinear", align_corners=False))


def _corrections(diagonal: Tensor) -> Callable[[Tensor], Tensor]:
    """Returns the sum of the corrections of all coarser grids, a symmetric function of the residual (J, C, T, H, W).

    On a grid whose cells have s voxels along an axis, the correction of a cell is the sum of its residuals over its
    energy. The energy of a constant in a cell is what leaves through its surface: the sum of the diagonal (J, 1, T, H,
    W) over the cell, divided by s.
    """
    cells, gains, side = [], [], 1
    while max(diagonal.shape[2:]) > 2:
        cells.append(_halved(diagonal))
        diagonal, side = _sums(diagonal, cells[-1]), 2 * side
        gains.append(torch.where(diagonal > 0, _GAIN * side / diagonal.clamp(min=1), 0.0))

    def correction(residual: Tensor, grid: int = 0) -> Tensor:
        if grid == len(cells):
            return torch.zeros_like(residual)
        sums = _sums(residual, cells[grid])
        coarse = gains[grid] * sums + correction(sums, grid + 1)
        for axis, factor in enumerate(cells[grid], 2):
            if factor > 1:
                coarse = coarse.repeat_interleave(2, axis).narrow(axis, 0, residual.shape[axis])
        return coarse

    return correction
