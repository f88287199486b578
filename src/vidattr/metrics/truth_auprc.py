"""AUPRC of a map against the truth: over voxels, over space alone and over time alone.

Davis, J. and Goadrich, M., "The Relationship Between Precision-Recall and ROC Curves", ICML 2006: the area under the
precision-recall curve, as average precision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vidattr.metrics.shared.noise_draws import check_draws
from vidattr.metrics.shared.ranked_truth import voxel_precision
from vidattr.metrics.shared.truth_volume import truth_volume
from vidattr.protocols import MapBatch
from vidattr.types import Column, Scores


@dataclass(frozen=True)
class TruthAuprc:
    """The area under the precision-recall curve of a map S that is to find the voxels G of the truth (`truth_volume`).

    * `auprc`: of all voxels, ranked by S.
    * `auprc_space`: of the pixels, ranked by Σ_t S; right are those that are in G in any frame.
    * `auprc_time`: of the frames, ranked by Σ_yx S; right are those that hold any voxel of G.

    Equal values count as in random order (`voxel_precision`), so a constant map scores what random maps score on
    average: the row "chance". The truth itself scores 1. The smallest score, that of a map that ranks all of G last, is
    not 0: it is (1/K) Σ_j j/(V − K + j) for K of V voxels.

    `auprc_space` is NaN where G covers every pixel in some frame, and `auprc_time` where every frame holds some of G:
    then every map scores 1.

    Attributes:
        noise_draws: Draws of noise as smooth as each map that are judged beside it (`matched_noise.noise`); 0: none.
    """

    version: ClassVar[int] = 1
    needs_network: ClassVar[bool] = False
    unjudged: ClassVar[str] = (
        "no voxel, or every voxel, every pixel (space) or every frame (time) is annotated, or its map is not finite"
    )

    noise_draws: int = 4

    def __post_init__(self) -> None:
        check_draws(self.noise_draws)

    def score_maps(self, batch: MapBatch) -> Scores:
        """Judges M maps of each of N clips.

        Returns:
            `auprc`, `auprc_space` and `auprc_time`; as reference `chance`, the scores of a constant map.
        """
        maps = batch.maps
        T, H, W = maps.shape[2:]
        volume, _ = truth_volume(batch.truth, (T, H, W), maps.device)
        finite = maps.isfinite().flatten(2).all(2)
        # Sums are in double precision and rounded to single, so that sums of equal values stay equal.
        whole = maps.where(maps.isfinite(), 0.0).double()
        views = {
            "auprc": (maps.flatten(2), volume.flatten(1)),
            "auprc_space": (whole.sum(2).float().flatten(2), volume.any(1).flatten(1)),
            "auprc_time": (whole.sum((3, 4)).float(), volume.flatten(2).any(2)),
        }
        scores = {name: self._score(values, right).where(finite, torch.nan) for name, (values, right) in views.items()}
        chance = {
            name: self._score(torch.zeros_like(right[None]).float(), right)[0] for name, (_, right) in views.items()
        }
        return Scores(scores, reference={"chance": chance})

    @staticmethod
    def _score(values: Tensor, right: Tensor) -> Tensor:
        """Returns the area (M, N) of values (M, N, V) for right places (N, V); NaN where none or all are right."""
        known = right.any(1) & ~right.all(1)
        # One map at a time bounds the memory.
        return torch.stack([voxel_precision(one, right) for one in values]).where(known, torch.nan)

    def summary(self) -> tuple[Column, ...]:
        """Returns the mean areas over clips."""
        return (
            Column("AUPRC", score="auprc", bounds=(0, 1)),
            Column("AUPRC, space", score="auprc_space", bounds=(0, 1), optional=True),
            Column("AUPRC, time", score="auprc_time", bounds=(0, 1), optional=True),
        )
