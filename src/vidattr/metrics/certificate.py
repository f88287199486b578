"""The share of clips whose planted evidence, and nothing else, decides what a network answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from vidattr.metrics.shared.certificates import CertificateRule, certificates
from vidattr.models.network.network import VideoModel
from vidattr.types import Column, Query, Scores, Truth


@dataclass(frozen=True)
class CertificateMetric:
    """Scores a clip 1 if the network uses its evidence and nothing else (`certificates`), else 0.

    * `right`: the label of the clip is the network's most probable class.
    * `lost`: the share of draws in which evidence of another class, all else unchanged, makes it lose the class.
    * `kept`: the share of draws in which it keeps the class while everything but the evidence is drawn again.
    * `certified`: it is right, and `lost` and `kept` are both at least `share`.

    A clip that the network gets wrong has no class to lose or to keep: all four are 0. The clips are those of a dataset
    that can draw a part of a clip again, such as `dataset=planted`.

    Attributes:
        draws: Number of draws of each part; the clips of `dataset=planted` need three for the three other classes.
        share: The smallest share of draws in which the class has to be lost, and to be kept.
    """

    version: ClassVar[int] = 1
    unjudged: ClassVar[str] = "the network has no class of its label's name, or its dataset cannot draw it again"

    draws: int = 6
    share: float = 0.8

    def __post_init__(self) -> None:
        CertificateRule(self.draws, self.share)

    def score_network(self, model: VideoModel, query: Query, truth: Sequence[Truth]) -> Scores:
        """Returns `certified`, `right`, `lost` and `kept`, (1, N)."""
        columns = certificates(model, query.frames, query.target, truth, CertificateRule(self.draws, self.share))
        right = columns["right"]
        return Scores({name: (values * right)[None] for name, values in columns.items()})

    def summary(self) -> tuple[Column, ...]:
        """Returns the shares of certified and of right clips, and the mean shares of draws."""
        return (
            Column("Certified", score="certified", interval="wilson", bounds=(0, 1)),
            Column("Right", score="right", interval="wilson", bounds=(0, 1)),
            Column("Class lost with new evidence", score="lost", bounds=(0, 1)),
            Column("Class kept with everything else new", score="kept", bounds=(0, 1)),
        )
