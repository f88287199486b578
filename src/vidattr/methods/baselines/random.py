"""A map of noise, which does not depend on the network or the clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from vidattr.models.network.network import VideoModel
from vidattr.models.speed.lagging import onto
from vidattr.types import Explanation, Query


@dataclass(frozen=True)
class Random:
    """Uniform noise in [0, 1), independent in every voxel: the score of a map without any information.

    It is drawn from the clip's seed on the CPU, so that the map is the same on every device.
    """

    version: ClassVar[int] = 1

    @property
    def passes(self) -> int:
        """0: the network is not used."""
        return 0

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Returns N maps, without a pass through the network."""
        size = query.frames.shape[2:]
        maps = [
            torch.rand(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float32) for seed in query.seeds
        ]
        return Explanation(onto(query.frames.device, torch.stack(maps)))
