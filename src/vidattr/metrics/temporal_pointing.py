"""Temporal pointing game: does the most important frame lie in the part of the clip that shows the class.

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
from vidattr.metrics.shared.noise_draws import check_draws
from vidattr.protocols import MapBatch
from vidattr.types import Column, Scores


class FrameScore(StrEnum):
    """What makes one number of a frame's map."""

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
    """Scores a clip 1 iff the frame with the highest score lies in its segment; several such frames score their expected hit.

    Unlike the released code, the truth is the segment itself: there, splice list and loaders disagree about which side
        of
    the splice shows the action, so that every answer was judged against the background (`polarity=released`).
    A clip whose segment is unknown is NaN, and so is one with all or none of its frames in the segment: it cannot be
    missed, or cannot be hit, whatever the map.

    Attributes:
        frame_score: The released code sums, the paper takes the maximum, which is the same for all frames of a mask
            that saturates.
        polarity: Which frames are right: `true`, those of the segment; `released`, all others. (A YAML `true` is a
            boolean.)
        noise_draws: Draws of noise as smooth as each map that are judged beside it (`matched.noise`); 0: none.
    """

    version: ClassVar[int] = 1
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
            `t_pt`, and as reference `chance` (the share of frames that are right), `always_first` and `always_last`.
        """
        maps, truth = batch.maps, batch.truth
        T = maps.shape[2]
        # A clip without a segment looks like one that never shows its class: NaN by the same rule.
        segment = torch.tensor([clip.segment or (False,) * T for clip in truth], device=maps.device)
        right = ~segment if self.polarity == "released" else segment
        decidable = segment.any(1) & ~segment.all(1)
        # In double precision: frames that are equal must stay equal, and a sum over a frame is long.
        hit = expected_hit(_FRAME_SCORES[self.frame_score](maps.double()), right)
        judged = maps.isfinite().flatten(2).all(2) & decidable
        reference = {
            "chance": right.double().mean(1),
            "always_first": right[:, 0].double(),
            "always_last": right[:, -1].double(),
        }
        return Scores(
            {"t_pt": hit.where(judged, torch.nan)},
            reference={name: {"t_pt": score.where(decidable, torch.nan)} for name, score in reference.items()},
        )

    def summary(self) -> tuple[Column, ...]:
        """Returns the share of hits."""
        polarity = "released" if self.polarity == "released" else "true"
        return (
            Column(
                f"T-PT, frame {self.frame_score}, {polarity} polarity", score="t_pt", interval="wilson", bounds=(0, 1)
            ),
        )
