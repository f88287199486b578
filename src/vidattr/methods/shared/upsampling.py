"""Upsampling from the resolution of a network's features to the voxels of the clip."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum, auto

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from vidattr.methods.shared.scores import chunks
from vidattr.models.network.network import VideoModel
from vidattr.types import Explanation, Query


class TimeUpsample(StrEnum):
    """How t time steps are upsampled to T frames: linearly between the steps, or by repeating each step."""

    linear = auto()
    repeat = auto()


def trilinear(cam: Tensor, size: tuple[int, int, int]) -> Tensor:
    """Resizes (N, t, h, w) to (N, T, H, W), linearly on each axis, cell centres aligned (`align_corners=False`)."""
    return interpolate(cam[:, None], size, mode="trilinear", align_corners=False)[:, 0]


def upsampled(cam: Tensor, size: tuple[int, int, int], time: TimeUpsample) -> Tensor:
    """Resizes (N, t, h, w) to (N, T, H, W), linearly in space; with `repeat`, frame f is step ⌊f·t/T⌋."""
    return _UPSAMPLE[time](cam, size)


def explained(
    model: VideoModel, query: Query, cam: Callable[[Tensor, Tensor], Tensor], time: TimeUpsample
) -> Explanation:
    """Explains N clips by maps at the resolution of the features, upsampled to the frames.

    Args:
        model: The network.
        query: N clips.
        cam: Maps a chunk's frames (n, C, T, H, W) and targets (n,) to (n, t, h, w).
        time: How t steps are upsampled to T frames.

    Returns:
        The explanation, with the extra `cam` (N, t, h, w).
    """
    cams = torch.cat([cam(frames, target) for frames, target in chunks(model, query.frames, query.target)])
    T, H, W = query.frames.shape[2:]
    return Explanation(upsampled(cams, (T, H, W), time).float(), {"cam": cams})


def unit_range(maps: Tensor) -> Tensor:
    """Returns maps (N, T, H, W), each scaled to 0…1; 0 where a map is the same everywhere."""
    low, high = maps.amin((1, 2, 3), keepdim=True), maps.amax((1, 2, 3), keepdim=True)
    return torch.where(high > low, (maps - low) / (high - low), 0.0)


def _repeated(cam: Tensor, size: tuple[int, int, int]) -> Tensor:
    frames = interpolate(cam[:, None], (size[0], *cam.shape[2:]), mode="nearest")[:, 0]
    return trilinear(frames, size)


_UPSAMPLE: dict[TimeUpsample, Callable[[Tensor, tuple[int, int, int]], Tensor]] = {
    TimeUpsample.linear: trilinear,
    TimeUpsample.repeat: _repeated,
}
