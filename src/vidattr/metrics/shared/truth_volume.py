"""The voxels of a clip that are annotated as the evidence of its class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidattr.models.speed.lagging import onto
from vidattr.types import Truth


def truth_volume(truth: Sequence[Truth], size: tuple[int, int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns the annotated voxels of N clips, and which clips they can judge.

    They are the voxels of `Truth.evidence` where a clip has it. Otherwise they are the pixels of each frame whose
    centre (x + ½, y + ½) lies in one of its boxes, x0 ≤ x + ½ < x1, on the frames of the clip's segment; without a
    segment, on all frames.

    Args:
        truth: N, one per clip.
        size: (T, H, W) of the maps.
        device: Of the result.

    Returns:
        (N, T, H, W) bool, and (N,) bool: True unless no voxel of the clip is annotated, or all of them are.
    """
    volumes = np.stack([_volume(clip, size) for clip in truth])
    share = volumes.mean((1, 2, 3))
    decided = torch.from_numpy((share > 0) & (share < 1))
    return onto(device, torch.from_numpy(volumes)), onto(device, decided)


def _volume(truth: Truth, size: tuple[int, int, int]) -> NDArray[np.bool_]:
    if truth.evidence is not None:
        return np.asarray(truth.evidence, bool)
    T, H, W = size
    found = np.zeros(size, bool)
    y, x = np.arange(H)[:, None] + 0.5, np.arange(W) + 0.5
    segment = truth.segment or (True,) * T
    for t, boxes in enumerate(truth.boxes):
        for x0, y0, x1, y1 in boxes if segment[t] else ():
            found[t] |= (x0 <= x) & (x < x1) & (y0 <= y) & (y < y1)
    return found
