"""Localisation: how much of a map lies on the annotated voxels, by mass, by rank and by overlap.

Arras, L., Osman, A. and Samek, W., "CLEVR-XAI: A benchmark dataset for the ground truth evaluation of neural network
explanations", Information Fusion 2022, section 3.3 (relevance mass accuracy and relevance rank accuracy).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vidattr.metrics.shared.frame_ranking import mass_share
from vidattr.metrics.shared.noise_draws import check_draws
from vidattr.metrics.shared.truth_volume import truth_volume
from vidattr.protocols import MapBatch
from vidattr.types import Column, Scores


@dataclass(frozen=True)
class Localisation:
    """Compares a map S with the annotated voxels G of its clip (`truth_volume`), K = |G|.

    * `mass`, relevance mass accuracy: Σ_{v ∈ G} max(S(v), 0) / Σ_v max(S(v), 0). A map without positive values scores
      |G| / V, as a constant map does.
    * `rank`, relevance rank accuracy: |top-K(S) ∩ G| / K, the share of the K largest values that lies in G.
    * `iou`: |top-K(S) ∩ G| / |top-K(S) ∪ G|. Its order of two maps of one clip is that of `rank`; its mean over clips
      is another.

    If several values are equal at the K-th place, the overlap is its expectation under a random order of them, so a
    constant map scores chance.

    Attributes:
        noise_draws: Draws of noise as smooth as each map that are judged beside it (`matched_noise.noise`); 0: none.
    """

    version: ClassVar[int] = 1
    needs_network: ClassVar[bool] = False
    unjudged: ClassVar[str] = "no voxel of the clip is annotated, or all are, or its map is not finite"

    noise_draws: int = 4

    def __post_init__(self) -> None:
        check_draws(self.noise_draws)

    def score_maps(self, batch: MapBatch) -> Scores:
        """Judges M maps of each of N clips.

        Returns:
            `mass`, `rank`, `iou`; `truth_share`, |G| / V of the clip; as reference `chance`, the scores of a constant
            map.
        """
        maps = batch.maps
        M, N, T, H, W = maps.shape
        volume, known = truth_volume(batch.truth, (T, H, W), maps.device)
        right, values = volume.flatten(1), maps.flatten(2)
        mass = mass_share(values.double().clamp(min=0), right.expand(M, -1, -1))
        rank = torch.stack([_in_the_largest(one, right) for one in values])  # one map at a time bounds the memory
        judged = maps.isfinite().flatten(2).all(2) & known
        share = right.double().mean(1).where(known, torch.nan)
        scores = {"mass": mass, "rank": rank, "iou": rank / (2 - rank)}
        columns = {name: score.where(judged, torch.nan) for name, score in scores.items()}
        return Scores(
            columns | {"truth_share": share.expand(M, N)},
            reference={"chance": {"mass": share, "rank": share, "iou": share / (2 - share), "truth_share": share}},
        )

    def summary(self) -> tuple[Column, ...]:
        """Returns the means of the three scores over clips."""
        return (
            Column("Mass accuracy", score="mass", bounds=(0, 1)),
            Column("Rank accuracy", score="rank", bounds=(0, 1)),
            Column("IoU", score="iou", bounds=(0, 1)),
        )


def _in_the_largest(values: Tensor, right: Tensor) -> Tensor:
    """Returns the share (N,) float64 of the K largest of V values (N, V) that is in `right` (N, V) bool, K = |right|.

    Equal values at the K-th place count with the probability that a random order puts them among the first K.
    """
    size = right.sum(1, keepdim=True)
    ordered = values.sort(1, descending=True).values
    least = ordered.gather(1, (size - 1).clamp(min=0))
    above, equal = values > least, values == least
    room = (size - above.sum(1, keepdim=True)).double() / equal.sum(1, keepdim=True)
    hits = (above & right).sum(1, keepdim=True) + room * (equal & right).sum(1, keepdim=True)
    return (hits / size)[:, 0]
