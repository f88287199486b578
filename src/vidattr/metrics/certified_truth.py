"""Scores of maps against planted evidence, on certified clips only: those whose evidence the network uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vidattr.labels import plain
from vidattr.metrics.localisation import Localisation
from vidattr.metrics.shared.certificates import CertificateRule, certificates
from vidattr.metrics.shared.noise_draws import check_draws
from vidattr.metrics.truth_auprc import TruthAuprc
from vidattr.models.speed.lagging import onto
from vidattr.protocols import MapBatch
from vidattr.types import Column, Scores


@dataclass(frozen=True)
class CertifiedTruth:
    """The scores of `metric=localisation` and `metric=truth_auprc` on the clips that are certified (`certificates`).

    A map is compared with what the network has to use for the class. Where the network is wrong, or answers from
    something else than the evidence, a map that shows the evidence would be wrong: the scores of such a clip are NaN,
    and `certified` is 0. A clip whose explained class is not the class of its label is not certified.

    Attributes:
        draws: As in `metric=certificate`.
        share: As in `metric=certificate`.
        noise_draws: Draws of noise as smooth as each map that are judged beside it (`matched_noise.noise`); 0: none.
    """

    version: ClassVar[int] = 1
    needs_network: ClassVar[bool] = True
    unjudged: ClassVar[str] = (
        "the network does not answer from the evidence of the clip (or this cannot be tested: see metric=certificate), "
        "all or none of its voxels, pixels (space) or frames (time) are evidence, or its map is not finite"
    )

    draws: int = 6
    share: float = 0.8
    noise_draws: int = 4

    def __post_init__(self) -> None:
        CertificateRule(self.draws, self.share)
        check_draws(self.noise_draws)

    def score_maps(self, batch: MapBatch) -> Scores:
        """Judges M maps of each of N clips.

        Returns:
            `certified`, the same for all maps of a clip; `mass`, `rank`, `auprc`, `auprc_space` and `auprc_time`; as
            reference `chance`, the scores of a constant map.
        """
        parts = [Localisation(noise_draws=0).score_maps(batch), TruthAuprc(noise_draws=0).score_maps(batch)]
        certified = batch.query.cached(("certificates", self.draws, self.share), lambda: self._certified(batch))
        scores = {name: values for part in parts for name, values in part.columns.items()}
        chance = {name: values for part in parts for name, values in part.reference["chance"].items()}
        M = len(batch.maps)
        return Scores(
            {name: scores[name].where(certified == 1, torch.nan) for name in _SCORES}
            | {"certified": certified.expand(M, -1)},
            reference={
                "chance": {name: chance[name].where(certified == 1, torch.nan) for name in _SCORES}
                | {"certified": certified}
            },
        )

    def _certified(self, batch: MapBatch) -> Tensor:
        """Returns 1 or 0 for each of N clips, NaN where its dataset cannot draw a part of it again."""
        places = [batch.network.places.get(plain(one.label), -1) for one in batch.truth]
        label, target = onto(batch.query.target.device, places), batch.query.target
        rule = CertificateRule(self.draws, self.share)
        found = certificates(batch.network, batch.query.frames, target, batch.truth, rule)["certified"]
        return found.where((label == target) | found.isnan(), 0.0)

    def summary(self) -> tuple[Column, ...]:
        """Returns the share of certified clips, and the mean scores over them."""
        return (
            Column("Certified", score="certified", interval="wilson", bounds=(0, 1)),
            *(
                Column(title, score=name, bounds=(0, 1), optional=name in ("auprc_space", "auprc_time"))
                for name, title in _SCORES.items()
            ),
        )


_SCORES = {
    "mass": "Mass accuracy",
    "rank": "Rank accuracy",
    "auprc": "AUPRC",
    "auprc_space": "AUPRC, space",
    "auprc_time": "AUPRC, time",
}
