"""Flicker: the share of a map that changes from one frame to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from vidattr.metrics.shared.noise_draws import check_draws
from vidattr.protocols import MapBatch
from vidattr.types import Column, Scores


@dataclass(frozen=True)
class Flicker:
    """Measures the total variation of a map S in time, as a share of the largest possible value.

        Σ_t Σ_u |S(t+1, u) − S(t, u)| / Σ_t Σ_u (|S(t, u)| + |S(t+1, u)|)

    0: the map is constant in time. 1: consecutive frames have no voxel in common, or signs alternate. A factor c·S does
    not change it. STEP was designed to flicker less than EP-3D (Li et al., WACV 2021, eq. 7 to 9); the paper shows this
    in pictures and does not measure it.

    A map that follows a moving object has flicker above 0, and a map that never moves is not better: flicker describes
    a map and does not say how good it is. Read it together with the pointing games. An empty map is NaN.

    Matched noise has the map's values and its autocorrelation in time, and therefore nearly its flicker; in clips of
    few frames slightly more, because a part of a slow change is lost. A difference means that the map moves in another
    way than a random field of its smoothness.

    Attributes:
        noise_draws: Draws of noise as smooth as each map that are judged beside it (`matched_noise.noise`); 0: none.
    """

    version: ClassVar[int] = 1
    needs_network: ClassVar[bool] = False
    unjudged: ClassVar[str] = "the map is empty or not finite"

    noise_draws: int = 4

    def __post_init__(self) -> None:
        check_draws(self.noise_draws)

    def score_maps(self, batch: MapBatch) -> Scores:
        """Returns `flicker`: NaN of maps that are not finite or 0 throughout, and 0 of maps of a single frame."""
        maps = batch.maps
        volumes = maps.double()
        mass = volumes.abs().sum((3, 4))
        moved = volumes.diff(dim=2).abs().sum((2, 3, 4))
        most = (mass[:, :, 1:] + mass[:, :, :-1]).sum(2)
        judged = maps.isfinite().flatten(2).all(2) & (mass.sum(2) > 0)
        return Scores({"flicker": torch.where(most > 0, moved / most, 0.0).where(judged, torch.nan)})

    def summary(self) -> tuple[Column, ...]:
        """Returns the mean flicker."""
        return (Column("Flicker", score="flicker", better="lower", bounds=(0, 1)),)
