"""Temporal pointing game: whether the most important frame lies in the part of the clip that shows the class.

Li, Z. et al., "Towards Visually Explaining Video Understanding Networks with Perturbation", WACV 2021, section 4.3.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import ClassVar

import torch
from torch import Tensor

from vidattr.errors import ConfigError
from vidattr.metrics.shared.expected_hit import expected_hit
from vidattr.metrics.shared.frame_ranking import average_precision, mass_share
from vidattr.metrics.shared.noise_draws import check_draws
from vidattr.models.speed.lagging import onto
from vidattr.protocols import MapBatch
from vidattr.types import Column, Scores


class FrameScore(StrEnum):
    """How the map of a frame is reduced to a number."""

    sum = auto()
    max = auto()
    mean = auto()


_FRAME_SCORES: dict[FrameScore, Callable[[Tensor], Tensor]] = {
    FrameScore.sum: lambda maps: maps.sum((-2, -1)),
    FrameScore.max: lambda maps: maps.amax((-2, -1)),
    FrameScore.mean: lambda maps: maps.mean((-2, -1)),
}


@dataclass(frozen=True)
class TemporalPointing:
    """Scores how well a map finds the part of a clip that shows the class, by three numbers.

    * `t_pt`: 1 if the frame with the highest score lies in the clip's segment; several such frames score their
      expected hit. One frame of 16 says little about a map, so there are two graded scores:
    * `mass`: the share of the map's positive values that lies in the segment.
    * `auprc`: the area under the precision-recall curve of the frames, ranked by their scores.

    Unlike the released code, the segment itself is right: in that code, splice list and loaders disagree about which
    side of the splice shows the action, so that maps were judged against the background (`polarity=released`). A clip
    is NaN if its segment is unknown, or if all or none of its frames lie in the segment: then every map hits, or none.

    Attributes:
        frame_score: The released code sums. The paper takes the maximum, which is equal for all frames if the mask
            saturates.
        polarity: Which frames are right: `true`, those of the segment; `released`, all others. (A YAML `true` is a
            boolean.)
        noise_draws: Draws of noise as smooth as each map that are judged beside it (`matched_noise.noise`); 0: none.
    """

    version: ClassVar[int] = 2  # since 2 with mass and auprc
    needs_network: ClassVar[bool] = False
    unjudged: ClassVar[str] = (
        "the clip's segment is unknown, or holds all or none of its frames, or its map is not finite"
    )

    frame_score: FrameScore = FrameScore.sum
    polarity: bool | str = True
    noise_draws: int = 4

    def __post_init__(self) -> None:
        check_draws(self.noise_draws)
        if self.polarity not in (True, "true", "released"):
            raise ConfigError(f"metric.polarity={self.polarity}", expected="true or released")

    def score_maps(self, batch: MapBatch) -> Scores:
        """Judges M maps of each of N clips; maps that are not finite are NaN.

        Returns:
            `t_pt`, `mass` and `auprc`; as references `chance` (the score of a constant map, and of random maps on
            average), `always_first` and `always_last` (a map of one frame).
        """
        maps, truth = batch.maps, batch.truth
        T = maps.shape[2]
        # A clip without a segment looks like one that never shows its class: NaN by the same rule.
        segment = onto(maps.device, torch.tensor([clip.segment or (False,) * T for clip in truth]))
        right = ~segment if self.polarity == "released" else segment
        decidable = segment.any(1) & ~segment.all(1)
        # In double precision, because a frame has many voxels and equal frames must stay equal.
        values = maps.double()
        scores = self._scores(_FRAME_SCORES[self.frame_score](values), values.clamp(min=0).sum((-2, -1)), right)
        judged = maps.isfinite().flatten(2).all(2) & decidable
        frames = torch.eye(T, device=maps.device, dtype=torch.float64)
        trivial = {"chance": torch.ones_like(frames[0]), "always_first": frames[0], "always_last": frames[-1]}
        reference = {name: self._scores(one.expand(right.shape), one, right) for name, one in trivial.items()}
        return Scores(
            {name: score.where(judged, torch.nan) for name, score in scores.items()},
            reference={
                name: {score: value.where(decidable, torch.nan) for score, value in columns.items()}
                for name, columns in reference.items()
            },
        )

    @staticmethod
    def _scores(frames: Tensor, mass: Tensor, right: Tensor) -> dict[str, Tensor]:
        return {
            "t_pt": expected_hit(frames, right),
            "mass": mass_share(mass, right),
            "auprc": average_precision(frames, right),
        }

    def summary(self) -> tuple[Column, ...]:
        """Returns the share of hits, the mean share of the mass, and the mean area under the precision-recall curve."""
        polarity = "released" if self.polarity == "released" else "true"
        title = f"T-PT, frame {self.frame_score}, {polarity} polarity"
        place = "outside" if self.polarity == "released" else "in"
        return (
            Column(title, score="t_pt", interval="wilson", bounds=(0, 1)),
            Column(f"positive mass {place} the segment", score="mass", bounds=(0, 1)),
            Column("AUPRC over frames", score="auprc", bounds=(0, 1)),
        )
