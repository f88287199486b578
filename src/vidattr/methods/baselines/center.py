"""A map of the frame's centre, which does not depend on the network or the clip."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from vidattr.models.network.network import VideoModel
from vidattr.types import Explanation, Query


@dataclass(frozen=True)
class Center:
    """A Gaussian around the centre of every frame: it scores what the centre bias of a dataset is worth by itself.

    map(t, i, j) = exp(−d²/2σ²), d the distance in pixels from ((H−1)/2, (W−1)/2) and σ a quarter of the frame's
    diagonal. It falls strictly with d, down to e⁻² in the corners; in an even frame the pixels around the centre tie.
    """

    version: ClassVar[int] = 1

    @property
    def passes(self) -> int:
        """0: the network is not used."""
        return 0

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Returns the same map for each of the N clips, without a pass through the network."""
        clips, _, T, H, W = query.frames.shape
        rows = torch.arange(H, device=query.frames.device) - (H - 1) / 2
        columns = torch.arange(W, device=query.frames.device) - (W - 1) / 2
        sigma = math.hypot(H, W) / 4
        bell = torch.exp(-(rows[:, None].square() + columns.square()) / (2 * sigma**2))
        return Explanation(bell.float().expand(clips, T, H, W).contiguous())
