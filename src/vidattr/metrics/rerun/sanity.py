"""Sanity check: does a map change when the weights of the network are randomised?

Adebayo, J. et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, section 3.1, cascading randomisation; on videos as
Uchiyama, T. et al., "Visually explaining 3D-CNN predictions for video classification with an adaptive occlusion
sensitivity analysis", WACV 2023, figure 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from vidattr.errors import ConfigError
from vidattr.metrics.shared.randomise import parts, randomise, restored
from vidattr.metrics.shared.similarity import Similarity, similarity
from vidattr.protocols import MapBatch, Method
from vidattr.types import Column, Scores, Strip

_UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Sanity:
    """Explains each clip again with a network that is randomised part by part, and compares with the stored map.

    1. The parts of the network (`randomise.parts`) get random weights one after the other, from the head to the stem;
       parts that were randomised before stay random (`randomise.randomise`).
    2. After each part, every method explains the same class of the same clips again. Results that depend on the frames
       alone (optical flow, tubes) are computed once for all parts.
    3. Each map is compared with the stored map. A method passes if the similarity falls to a low value: a map that
       stays similar does not show what the network has learnt. The baselines, such as `random`, do not depend on
       the network and must stay at 1.

    Point 0 of each curve is the unchanged network: 1 up to rounding, unless the stored map was made in another way. A
    map without contrast is NaN: an untrained network may give nearly the same output for every clip.

    Unlike the paper, running statistics of normalisation layers are kept: nothing is trained in between, and without
    them activations explode or vanish. Unlike the paper, SSIM and HOG are computed per frame, on maps that are scaled
    over the whole clip.

    Attributes:
        similarities: The measures of similarity; the first also has a column for its median and the unchanged network.
        seed: Decides the random weights.
    """

    version: ClassVar[int] = 1
    unjudged: ClassVar[str] = "a map has no contrast or is not finite"

    similarities: list[Similarity] = field(default_factory=lambda: list(Similarity))
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.similarities or len(set(self.similarities)) != len(self.similarities):
            found = [str(kind) for kind in self.similarities]
            raise ConfigError(f"metric.similarities={found}", expected=f"one or more of {', '.join(Similarity)}")
        if self.seed < 0:
            raise ConfigError(f"metric.seed={self.seed}", expected="0 or more")

    def score_methods(self, batch: MapBatch, methods: Sequence[Method]) -> Scores:
        """Judges `maps` (M, N, T, H, W); the network is restored afterwards, also if a method fails.

        Returns:
            Per similarity `<similarity>`, after everything is randomised, and `<similarity>_unchanged`, of the network
            as it is; `f0` and `f0_random`, the class probability before and after. As curves (M, N, parts + 1) every
            similarity and `f0`. As strip the middle frame of every map, with the first similarity.
        """
        model, query, maps = batch.network, batch.query, batch.maps
        cascade = parts(model.module)
        points: dict[str, list[Tensor]] = {name: [] for name in (*self.similarities, "f0", "maps")}
        middle = maps.shape[2] // 2
        with restored(model.module):
            for part in (None, *cascade):
                if part is not None:
                    randomise(model.module, part, self.seed)
                again = [method(model, query).map for method in methods]
                for kind in self.similarities:
                    points[kind].append(
                        torch.stack([similarity(kind, *pair) for pair in zip(maps, again, strict=True)])
                    )
                f = model.probabilities(query.frames).gather(1, query.target[:, None])[:, 0].double()
                points["f0"].append(f.expand(len(maps), -1))
                points["maps"].append(torch.stack([one[:, middle] for one in again]))
        shown = torch.stack(points.pop("maps"), 2)
        curves = {str(name): torch.stack(values, 2) for name, values in points.items()}
        first = self.similarities[0].value
        strip = Strip(shown, middle, curves[first], first)
        ends = {name: (f"{name}_unchanged", str(name)) for name in self.similarities} | {"f0": ("f0", "f0_random")}
        columns = {
            column: curves[name][..., place]
            for name, pair in ends.items()
            for column, place in zip(pair, (0, -1), strict=True)
        }
        return Scores(columns, curves, points=(_UNCHANGED, *(part.name for part in cascade)), strip=strip)

    def summary(self) -> tuple[Column, ...]:
        """Returns each similarity after all parts are randomised; of the first also two more columns."""
        first = self.similarities[0]
        return (
            Column(f"Unchanged: {first}", score=f"{first}_unchanged"),
            *(
                Column(f"Random: {kind}", score=kind.value, better="lower", bounds=(-1, 1))
                for kind in self.similarities
            ),
            Column(f"Random: {first}, median", score=first.value, better="lower", statistic="median"),
        )
