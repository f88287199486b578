"""Passes through the network for many versions of many clips, a few at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vidattr.models.network.network import VideoModel


def probabilities_of_jobs(
    model: VideoModel, target: Tensor, clip: Tensor, frames: Callable[[Tensor], Tensor]
) -> Tensor:
    """Returns the probability (J,) float64 of the target class in each of J jobs, each a version of a clip.

    Args:
        model: The network.
        target: (N,), the class of each clip.
        clip: (J,), the clip of each job.
        frames: Makes the versions (j, C, T, H, W) of some jobs, given their numbers (j,); called once for every
            `max_batch` jobs, so that only these are in memory.
    """
    found = []
    for job in torch.split(torch.arange(len(clip), device=clip.device), model.max_batch):
        shares = model.probabilities(frames(job))
        found.append(shares.gather(1, target[clip[job], None])[:, 0].double())
    return torch.cat(found)
