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

from vidattr.methods.shared.scores import chunks
from vidattr.methods.shared.upsampling import trilinear
from vidattr.models.network.linear_head import gap_linear_head
from vidattr.models.network.network import VideoModel
from vidattr.models.speed.lagging import onto
from vidattr.types import Explanation, Query


class Upsample(StrEnum):
    """How the t × h × w map is resized to T × H × W: linearly on each axis, or by a cubic spline."""

    trilinear = auto()
    spline3 = auto()


@lru_cache(maxsize=32)
def _spline_matrix(cells: int, size: int) -> Tensor:
    """Returns the (size, cells) float64 matrix that resizes one axis as `scipy.ndimage.zoom` of order 3 does."""
    from scipy.ndimage import zoom

    # Zooming is linear and separable, so the zoomed unit vectors are the columns of its matrix.
    return torch.from_numpy(zoom(np.eye(cells), (size / cells, 1), order=3))


def _spline3(cam: Tensor, size: tuple[int, int, int]) -> Tensor:
    """Resizes (N, t, h, w) to (N, T, H, W) by a cubic spline through the centres of the outermost voxels."""
    time, rows, columns = (
        onto(cam.device, _spline_matrix(cells, length)).to(cam.dtype)
        for cells, length in zip(cam.shape[1:], size, strict=True)
    )
    return torch.einsum("nthw,Tt->nThw", rows @ cam @ columns.T, time)


_UPSAMPLE: dict[Upsample, Callable[[Tensor, tuple[int, int, int]], Tensor]] = {
    Upsample.trilinear: trilinear,
    Upsample.spline3: _spline3,
}


@dataclass(frozen=True)
class SaliencyTubes:
    """Saliency Tubes (Stergiou et al., ICIP 2019), class activation mapping (Zhou et al., CVPR 2016) in space and time.

    For a network that ends in z = W · mean_thw(A) + b, cam(t, i, j) = Σ_c W_{y,c} · A_c(t, i, j); the map is cam,
    resized to the frames. The mean of cam plus b_y is the logit z_y. The released code keeps negative values and
    resizes by a cubic spline (`upsample=spline3`), which overshoots between distant values.

    `gap_linear_head` finds A and W without their names.

    Attributes:
        relu: Whether negative values, evidence against the class, are set to 0, as in Grad-CAM.
        upsample: trilinear or spline3.

    The explanation's extras: `cam` (N, t, h, w), the map at the features' resolution.
    """

    version: ClassVar[int] = 1
    forward_only: ClassVar[bool] = True

    relu: bool = False
    upsample: Upsample = Upsample.trilinear

    @property
    def passes(self) -> int:
        """One."""
        return 1

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Explains N clips by one forward pass each.

        Raises:
            MethodUndefinedError: The network does not end in a global average and one linear layer.
        """
        layer, weight, _ = gap_linear_head(model, query.frames)
        cam = torch.cat([_cam(model, x, layer, weight[y]) for x, y in chunks(model, query.frames, query.target)])
        cam = cam.relu() if self.relu else cam
        T, H, W = query.frames.shape[2:]
        return Explanation(_UPSAMPLE[self.upsample](cam, (T, H, W)).float(), {"cam": cam})


def _cam(model: VideoModel, frames: Tensor, layer: str, weight: Tensor) -> Tensor:
    """Returns Σ_c weight_c · A_c (N, t, h, w), with the weights (N, c) of each clip's own class."""
    _, leaf = model.activations(frames, layer)
    return torch.einsum("nc,ncthw->nthw", weight, model.volume(leaf.detach(), len(frames)))
