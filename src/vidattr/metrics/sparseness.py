"""Sparseness: the Gini index of the absolute values of a map.

Chalasani, P. et al., "Concise Explanations of Neural Networks using Adversarial Training", ICML 2020, section 5.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vidattr.protocols import MapBatch
from vidattr.types import Column, Scores


@dataclass(frozen=True)
class Sparseness:
    """Measures how few voxels hold the mass of a map.

        G = 1 − 2 Σ_k (a_(k) / Σ_j a_j) · (V − k + ½) / V, k = 1 … V

    with the absolute values a of all V voxels in ascending order. G is 0 if all are equal and 1 − 1/V if a single voxel
    holds everything. A factor c·S does not change it. Sparseness describes a map and does not say how good it is: a map
    of one wrong voxel is as sparse as a map can be.

    There is no matched noise: it has the values of the map, and therefore exactly its sparseness.
    """

    version: ClassVar[int] = 1
    needs_network: ClassVar[bool] = False
    unjudged: ClassVar[str] = "the map is empty or not finite"

    def score_maps(self, batch: MapBatch) -> Scores:
        """Returns `gini` of M maps of each of N clips: NaN of maps that are not finite or 0 throughout."""
        return Scores({"gini": torch.stack([_gini(one.flatten(1)) for one in batch.maps])})

    def summary(self) -> tuple[Column, ...]:
        """Returns the mean Gini index."""
        return (Column("Sparseness (Gini)", score="gini", bounds=(0, 1)),)


def _gini(values: Tensor) -> Tensor:
    """Returns the Gini index (N,) float64 of |values| (N, V); NaN where all are 0 or one is not finite."""
    ordered, V = values.double().abs().sort(1).values, values.shape[1]
    weight = (V - torch.arange(1, V + 1, dtype=torch.float64, device=values.device) + 0.5) / V
    total = ordered.sum(1)
    gini = 1 - 2 * (ordered @ weight) / total
    return gini.clamp(min=0).where(total.isfinite() & (total > 0), torch.nan)
