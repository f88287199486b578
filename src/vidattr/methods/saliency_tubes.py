"""Class activation mapping in space and time: the last features, weighted by the linear head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum, auto
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from vidattr.methods._ops import chunks, trilinear
from vidattr.models._head import gap_linear_head
from vidattr.models._network import Network
from vidattr.types import Explanation, Query


class Upsample(StrEnum):
    """How the t × h × w map becomes T × H × W: linearly on each axis, or by a cubic spline through the whole volume."""

    trilinear = auto()
    spline3 = auto()


@lru_cache(maxsize=32)
def _spline_matrix(cells: int, size: int) -> Tensor:
    """Returns the (size, cells) float64 matrix that resizes one axis as `scipy.ndimage.zoom` of order 3 does."""
    from scipy.ndimage import zoom

    # Zooming is linear and works axis by axis, so that what it does to unit vectors is all there is to know of it.
    return torch.from_numpy(zoom(np.eye(cells), (size / cells, 1), order=3))


def _spline3(cam: Tensor, size: tuple[int, int, int]) -> Tensor:
    """Resizes (N, t, h, w) to (N, T, H, W) by a cubic spline whose first and last cell fall on the first and last voxel."""
    time, rows, columns = (_spline_matrix(cells, length).to(cam) for cells, length in zip(cam.shape[1:], size, strict=True))
    return torch.einsum("nthw,Tt->nThw", rows @ cam @ columns.T, time)


_UPSAMPLE: dict[Upsample, Callable[[Tensor, tuple[int, int, int]], Tensor]] = {
    Upsample.trilinear: trilinear,
    Upsample.spline3: _spline3,
}


@dataclass(frozen=True)
class SaliencyTubes:
    version: ClassVar[int] = 1
    relu: bool = False
    upsample: Upsample = Upsample.trilinear
