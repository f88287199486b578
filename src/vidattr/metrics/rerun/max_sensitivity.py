"""Max-sensitivity: how much a map changes at most when the clip changes slightly.

Yeh, C.-K. et al., "On the (In)fidelity and Sensitivity of Explanations", NeurIPS 2019, definition 3.1; relative as in
Alvarez-Melis, D. and Jaakkola, T., "On the Robustness of Interpretability Methods", 2018.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vidattr.errors import ConfigError
from vidattr.models.speed.lagging import onto
from vidattr.protocols import MapBatch, Method
from vidattr.seeds import seed_for
from vidattr.types import Column, Query, Scores


@dataclass(frozen=True)
class MaxSensitivity:
    """Explains each clip again with noise of at most `radius` on each value, and takes the largest relative change.

        max_k ‖S(x + δ_k) − S(x)‖ / ‖S(x)‖,  δ_k uniform in [−r, r] on every voxel and channel, r = radius · (max x −
        min x)

    The norm is Euclidean over the voxels, S(x) is the stored map, and the same class is explained. The noise depends
    only on the clip's seed, so that all methods are judged by the same. A method that draws random numbers draws the
    same ones each time.

    Unlike the paper, which takes the largest change itself, it is divided by the norm of the map, because maps have no
    common unit. A low value is not a merit alone: the map of a method that ignores the clip never changes.

    Attributes:
        radius: Largest change of a value as a share of the clip's range of values.
        samples: Noisy copies of each clip; each costs as many passes as the map.
    """

    version: ClassVar[int] = 1
    unjudged: ClassVar[str] = "a map is not finite, or the stored map is 0 throughout"

    radius: float = 0.02
    samples: int = 10

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ConfigError(f"metric.samples={self.samples}", expected="1 or more")
        if not 0 < self.radius < math.inf:
            raise ConfigError(f"metric.radius={self.radius}", expected="a share of the clip's range, above 0")

    def passes_of(self, method: Method) -> int:
        """The passes of the method for each noisy copy."""
        return self.samples * method.passes

    def score_methods(self, batch: MapBatch, methods: Sequence[Method]) -> Scores:
        """Judges the M `methods` that made the maps (M, N, T, H, W).

        Returns:
            `max_sensitivity` and `mean_sensitivity`, the largest and the mean relative change.
        """
        model, query = batch.network, batch.query
        maps = batch.maps.double()
        norm = maps.flatten(2).norm(dim=2)
        found = []
        for k in range(self.samples):
            near = Query(query.frames + self._noise(query, k), query.target, query.seeds)
            again = torch.stack([method(model, near).map.double() for method in methods])
            found.append((again - maps).flatten(2).norm(dim=2) / norm)
        changes = torch.stack(found)
        judged = (norm > 0) & changes.isfinite().all(0)
        scores = {"max_sensitivity": changes.amax(0), "mean_sensitivity": changes.mean(0)}
        return Scores({name: values.where(judged, torch.nan) for name, values in scores.items()})

    def _noise(self, query: Query, k: int) -> Tensor:
        x = query.frames
        streams = (torch.Generator().manual_seed(seed_for(seed, f"sensitivity/{k}")) for seed in query.seeds)
        draws = [torch.rand(x.shape[1:], generator=stream, dtype=torch.float64) for stream in streams]
        radius = self.radius * (x.amax((1, 2, 3, 4)) - x.amin((1, 2, 3, 4)))
        return onto(x.device, torch.stack(draws).mul_(2).sub_(1)).to(x.dtype) * radius.view(-1, 1, 1, 1, 1)

    def summary(self) -> tuple[Column, ...]:
        """Returns the mean over clips of the largest and of the mean change."""
        return (
            Column("Max-sensitivity", score="max_sensitivity", better="lower"),
            Column("Mean sensitivity", score="mean_sensitivity", better="lower"),
        )
