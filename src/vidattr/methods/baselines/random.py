"""A map that knows nothing: noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from vidattr.models.network.network import VideoModel
from vidattr.types import Explanation, Query


@dataclass(frozen=True)
class Random:
    """Uniform noise in [0, 1), independent in every voxel: what a map scores that knows nothing of clip, network or class.

    Drawn from the clip's seed on the CPU, so that every device shows the same map.
    """

    version: ClassVar[int] = 1

    @property
    def passes(self) -> int:
        """None: no network is asked."""
        return 0

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Returns N maps without asking the network anything."""
        size = query.frames.shape[2:]
        maps = [
            torch.rand(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float32) for seed in query.seeds
        ]
        return Explanation(torch.stack(maps).to(query.frames.device))
