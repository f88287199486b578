"""A map that knows nothing but where people point a camera: the centre of the frame."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from vidattr.models.network.network import VideoModel
from vidattr.types import Explanation, Query


@dataclass(frozen=True)
class Center:
    """A bell around the centre of every frame: what the habit of filming things in the middle is worth by itself.

    map(t, i, j) = exp(−d²/2σ²), d the distance in pixels from ((H−1)/2, (W−1)/2) and σ a quarter of the frame's
    diagonal. It falls strictly with d, down to e⁻² in the corners; in an even frame the pixels around the centre tie.
    """

    version: ClassVar[int] = 1

    @property
    def passes(self) -> int:
        """None: no network is asked."""
        return 0

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Returns N times the same map without asking the network anything."""
        clips, _, T, H, W = query.frames.shape
        rows = torch.arange(H, device=query.frames.device) - (H - 1) / 2
        columns = torch.arange(W, device=query.frames.device) - (W - 1) / 2
        sigma = math.hypot(H, W) / 4
        bell = torch.exp(-(rows[:, None].square() + columns.square()) / (2 * sigma**2))
        return Explanation(bell.float().expand(clips, T, H, W).contiguous())
