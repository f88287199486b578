"""The score of each superpixel alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from vidattr.methods.shared.superpixels import superpixels
from vidattr.methods.superpixels.removal import SuperpixelRemoval, coalition_scores, padded
from vidattr.models.network.network import VideoModel
from vidattr.types import Explanation, Query


@dataclass(frozen=True)
class UP(SuperpixelRemoval):
    """Univariate predictors (Guyon and Elisseeff, JMLR 2003), as REVEX adapts them (Gaya-Morey et al., 2024).

    φ_k = v({k}) − v(∅): how the score rises when superpixel k alone is shown and all others are replaced by the fill.
    The map at a voxel is φ of its superpixel. The options are those of `SuperpixelRemoval`.

    The explanation's extras: `removed` (N,), v(∅).
    """

    version: ClassVar[int] = 1

    @property
    def passes(self) -> int:
        """One per superpixel and one for the fill alone, times the draws of the fill; SLIC may return fewer or more."""
        return (self.segments + 1) * self.fillings

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Explains N clips by K_n + 1 forward passes each, in chunks of `max_batch`."""
        parts = superpixels(query, model.view, self)
        device = query.frames.device
        kept = [
            torch.cat(
                [
                    torch.zeros(1, count, dtype=torch.bool, device=device),
                    torch.eye(count, dtype=torch.bool, device=device),
                ]
            )
            for count in parts.counts
        ]
        found = coalition_scores(model, query, parts, kept, self)
        rises = padded([values[1:] - values[0] for values in found], parts.most)
        return Explanation(parts.paint(rises).float(), {"removed": torch.stack([one[0] for one in found]).float()})
