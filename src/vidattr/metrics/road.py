"""ROAD: class probability as voxels are removed and replaced by what their neighbours predict.

Rong, Y. et al., "A Consistent and Efficient Evaluation Strategy for Attribution Methods", ICML 2022 ("remove and
debias").
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from vidattr.errors import ConfigError
from vidattr.metrics.deletion_insertion import rank
from vidattr.metrics.shared.imputation import imputed
from vidattr.metrics.shared.noise_draws import check_draws
from vidattr.models.speed.lagging import onto
from vidattr.protocols import MapBatch, Method
from vidattr.seeds import seed_for
from vidattr.types import Column, Scores


@dataclass(frozen=True)
class Road:
    """Removes voxels, most relevant first (MoRF) and least relevant first (LeRF), by noisy linear imputation.

    A voxel that is set to a colour shows its shape to the network: the probability falls because of the edges, whatever
    the voxel showed. Here a removed voxel becomes the weighted mean of its neighbours, all removed voxels at once
    (`shared.imputation`), plus Gaussian noise, so that the network can hardly tell that it is imputed.

    1. Rank the voxels of the clip, all channels of a voxel together; equal voxels are in the clip's random order.
    2. For each share of `shares`, remove that share of the first voxels (MoRF), and of the last (LeRF). LeRF keeps the
       most relevant voxels: it is what insertion is to deletion.
    3. The score of an order is the mean over the curve from 0 to the largest share, by the trapezoidal rule: of the
       probability of the class, and of the accuracy, 1 where the class is the most probable and 0 elsewhere. The paper
       shows the curves of the accuracy.

    Unlike the paper, frames before and after are neighbours as well, and the noise is a share of the clip's range of
    values, because networks differ in their unit. The noise of a voxel is the same for all maps of a clip.

    Attributes:
        shares: Shares of the voxels that are removed; the defaults are those of the authors' benchmark.
        noise: Standard deviation of the noise, as a share of the clip's range of values.
        iterations: Steps of the solver, conjugate gradients.
        tolerance: The largest residual, as a share of the right-hand side, at which a map is judged.
        noise_draws: Draws of noise as smooth as each map that are judged beside it (`matched_noise.noise`); 0: none.
            Each costs as many passes as the map itself.
    """

    version: ClassVar[int] = 1
    needs_network: ClassVar[bool] = True
    unjudged: ClassVar[str] = (
        "the map is not finite, the network's probability of the class is no number, or the imputation left a larger "
        "residual than metric.tolerance (more metric.iterations)"
    )

    shares: list[float] = field(default_factory=lambda: [0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9])
    noise: float = 0.01
    iterations: int = 40
    tolerance: float = 0.01
    noise_draws: int = 1

    def __post_init__(self) -> None:
        check_draws(self.noise_draws)
        if not self.shares or not all(low < high for low, high in itertools.pairwise([0.0, *self.shares, 1.0])):
            raise ConfigError(
                f"metric.shares={list(self.shares)}", expected="rising shares between 0 and 1, both excluded"
            )
        if not 0 <= self.noise < math.inf:
            raise ConfigError(f"metric.noise={self.noise}", expected="a share of the clip's range, 0 or more")
        if self.iterations < 1:
            raise ConfigError(f"metric.iterations={self.iterations}", expected="1 or more")
        if not 0 < self.tolerance < math.inf:
            raise ConfigError(f"metric.tolerance={self.tolerance}", expected="a residual above 0")

    def passes_of(self, _method: Method) -> int:
        """Two curves of the map and of each draw of noise, and the whole clip, all forward."""
        return 2 * len(self.shares) * (1 + self.noise_draws) + 1

    def score_maps(self, batch: MapBatch) -> Scores:
        """Judges M maps of each of N clips.

        Returns:
            `morf`, `lerf`, `road` (LeRF − MoRF), `morf_accuracy`, `lerf_accuracy`, `f_clip`; `residual`, the largest of
            any imputation; the curves (M, N, shares + 1); as reference `whole_clip`, the scores if nothing changed.
        """
        model, query, maps = batch.network, batch.query, batch.maps
        x, M, N = query.frames, *maps.shape[:2]
        voxels, P = maps[0, 0].numel(), len(self.shares)
        ranks, grain = rank(maps, query.seeds, 1), self._grain(batch)
        cuts = onto(x.device, [min(voxels - 1, math.floor(share * voxels)) for share in self.shares])
        place = torch.arange(2 * M * N * P, device=x.device)  # of each imputed clip
        order, m, n, p = (place // (M * N * P), place // (N * P) % M, place // P % N, place % P)
        answers, residuals = [self._answers(batch, x, torch.arange(N, device=x.device))], []
        for job in torch.split(place, model.max_batch):
            rest, cut = ranks[m[job], n[job]], cuts[p[job]].view(-1, 1, 1, 1)
            removed = torch.where(order[job].view(-1, 1, 1, 1) == 0, rest < cut, rest >= voxels - cut)
            frames, residual = imputed(x[n[job]], removed, self.iterations)
            frames = torch.where(removed[:, None], frames + grain[n[job]], frames)
            answers.append(self._answers(batch, frames, n[job]))
            residuals.append(residual)
        whole, parts = answers[0], torch.cat(answers[1:], 1).view(2, 2, M, N, P)
        start = whole.view(2, 1, 1, N, 1).expand(2, 2, M, N, 1)
        left = torch.cat(residuals).double().view(2, M, N, P).amax((0, 3))
        judged = maps.isfinite().flatten(2).all(2) & (left <= self.tolerance)
        curves = torch.cat([start, parts], 4).where(judged[..., None], torch.nan)  # (score, order, M, N, P + 1)
        span = onto(x.device, torch.tensor([0.0, *self.shares], dtype=torch.float64))
        areas = torch.trapezoid(curves, span) / self.shares[-1]
        (morf, lerf), (morf_accuracy, lerf_accuracy) = areas
        columns = {
            "morf": morf,
            "lerf": lerf,
            "road": lerf - morf,
            "morf_accuracy": morf_accuracy,
            "lerf_accuracy": lerf_accuracy,
            "f_clip": whole[0].expand(M, N),
            "residual": left,
        }
        names = ("morf", "lerf", "morf_accuracy", "lerf_accuracy")
        return Scores(
            columns,
            curves=dict(zip(names, curves.flatten(0, 1), strict=True)),
            reference={"whole_clip": {name: whole[i // 2] for i, name in enumerate(names)}},
            points=[f"{share:.0%}" for share in (0.0, *self.shares)],
        )

    def _answers(self, batch: MapBatch, frames: Tensor, n: Tensor) -> Tensor:
        """Returns the probability of the class and the accuracy (2, J) float64 of versions of the clips n (J,)."""
        shares, target = batch.network.probabilities(frames), batch.query.target[n]
        probability = shares.gather(1, target[:, None])[:, 0].double()
        hit = (shares.argmax(1) == target).double().where(probability.isfinite(), torch.nan)
        return torch.stack([probability, hit])

    def _grain(self, batch: MapBatch) -> Tensor:
        """Returns the noise (N, C, T, H, W) that is added to removed voxels."""
        x = batch.query.frames
        streams = (torch.Generator().manual_seed(seed_for(seed, "road")) for seed in batch.query.seeds)
        draws = [torch.randn(x.shape[1:], generator=stream, dtype=torch.float64) for stream in streams]
        sigma = self.noise * (x.amax((1, 2, 3, 4)) - x.amin((1, 2, 3, 4)))
        return onto(x.device, torch.stack(draws)).to(x.dtype) * sigma.view(-1, 1, 1, 1, 1)

    def summary(self) -> tuple[Column, ...]:
        """Returns the means of both orders, of their difference, and of their accuracies."""
        return (
            Column("MoRF", score="morf", better="lower", bounds=(0, 1)),
            Column("LeRF", score="lerf", bounds=(0, 1)),
            Column("LeRF − MoRF", score="road", bounds=(-1, 1)),
            Column("MoRF, accuracy", score="morf_accuracy", better="lower", bounds=(0, 1)),
            Column("LeRF, accuracy", score="lerf_accuracy", bounds=(0, 1)),
        )
