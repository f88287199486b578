"""Infidelity: how badly a map predicts the change of the network's output when the clip is perturbed.

Yeh, C.-K. et al., "On the (In)fidelity and Sensitivity of Explanations", NeurIPS 2019, definition 2.1, section 2.3 and
equation 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import ClassVar

import torch
from torch import Tensor

from vidattr.errors import ConfigError
from vidattr.methods.shared.scores import Score, scores
from vidattr.metrics.deletion_insertion import Fill, filled
from vidattr.metrics.shared.noise_draws import check_draws
from vidattr.models.speed.lagging import onto
from vidattr.protocols import MapBatch, Method
from vidattr.seeds import seed_for
from vidattr.types import Column, Scores


class Perturbation(StrEnum):
    """`blocks`: a block of voxels in space and time is replaced by a fill. `gaussian`: noise on every voxel."""

    blocks = auto()
    gaussian = auto()


class Scaling(StrEnum):
    """The factor β of a map: 1; the optimal one of the paper; or the optimal one if it is positive, else 0."""

    none = auto()
    optimal = auto()
    positive = auto()


@dataclass(frozen=True)
class Infidelity:
    """Scores a map S by the mean of (β I_kᵀS − Δ_k)² over perturbations k, Δ_k = f(x) − f(x_k).

    * `blocks`: x_k is x with one block of voxels B_k replaced by `fill`, and I_kᵀS = Σ_{v ∈ B_k} S(v): the values of a
      map are the contributions of the voxels. This is the paper's square removal, with a duration.
    * `gaussian`: x_k = x − I_k with I_k ~ N(0, σ²) on every voxel and channel, σ = spread · (max x − min x), and
      I_kᵀS = Σ_v S(v) Σ_c I_k(c, v): the values of a map are derivatives, equal for all channels.

    The perturbations depend only on the clip's seed, so that all maps of a clip are judged by the same ones, and the
    network's passes are the same for any number of maps.

    β = Σ_k I_kᵀS · Δ_k / Σ_k (I_kᵀS)² gives the smallest infidelity, because most maps have no unit. Unlike the paper,
    β is 0 by default where this is negative: otherwise a map and its negative would have the same score.

    With a β, the mean of Δ_k² is the infidelity of an empty map, and the `unexplained` share is infidelity over that:
    0 if the map predicts every change, 1 if it predicts nothing. It makes clips comparable whose probability changes by
    different amounts.

    Attributes:
        perturbation: blocks or gaussian.
        samples: Perturbations per clip, each a pass.
        block: Sides of a block as shares of the frames, the height and the width of the clip.
        fill: What a removed voxel becomes: `zero`, 0 after normalisation; `blur`, the blurred clip; or `black`.
        spread: σ as a share of the clip's range of values.
        score: f: the probability of the class (as the paper), its logit, logarithm or log-odds.
        scaling: β.
        noise_draws: Draws of noise as smooth as each map that are judged beside it (`matched_noise.noise`); 0: none.
            All together cost `samples` + 1 passes a clip.
    """

    version: ClassVar[int] = 1
    needs_network: ClassVar[bool] = True
    unjudged: ClassVar[str] = (
        "the map or the network's output is not finite, or no perturbation changes the output (unexplained share)"
    )

    perturbation: Perturbation = Perturbation.blocks
    samples: int = 50
    block: list[float] = field(default_factory=lambda: [0.5, 0.25, 0.25])
    fill: Fill = Fill.zero
    spread: float = 0.1
    score: Score = Score.prob
    scaling: Scaling = Scaling.positive
    noise_draws: int = 1

    def __post_init__(self) -> None:
        check_draws(self.noise_draws)
        if self.samples < 1:
            raise ConfigError(f"metric.samples={self.samples}", expected="1 or more")
        if len(self.block) != 3 or not all(0 < side <= 1 for side in self.block):
            raise ConfigError(
                f"metric.block={list(self.block)}",
                expected="shares of frames, height and width, each above 0 and at most 1, as [0.5,0.25,0.25]",
            )
        if not 0 < self.spread < math.inf:
            raise ConfigError(f"metric.spread={self.spread}", expected="a share of the clip's range, above 0")

    def passes_of(self, _method: Method) -> int:
        """The clip and its perturbations, forward, and the same again for the draws of noise."""
        return (self.samples + 1) * (1 + (self.noise_draws > 0))

    def score_maps(self, batch: MapBatch) -> Scores:
        """Judges M maps of each of N clips.

        Returns:
            `infidelity`, in squared units of the score; `unexplained`, unless `scaling` is none; `change`, the mean
            of Δ_k²; `scale`, β.
        """
        model, query, maps = batch.network, batch.query, batch.maps
        x, M, N = query.frames, *maps.shape[:2]
        perturb = (_Blocks if self.perturbation is Perturbation.blocks else _Noise)(self, batch)
        whole = scores(model, x, query.target, self.score).double()
        predicted, changed = [], []
        pairs = [(n, k) for n in range(N) for k in range(self.samples)]
        for start in range(0, len(pairs), model.max_batch):
            chunk = pairs[start : start + model.max_batch]
            n = onto(x.device, [n for n, _ in chunk])
            frames, weight = perturb(chunk, n)
            changed.append(whole[n] - scores(model, frames, query.target[n], self.score).double())
            weight = weight.flatten(1)
            predicted.append(torch.stack([(one[n].flatten(1).double() * weight).sum(1) for one in maps]))
        change, guess = torch.cat(changed).view(N, -1), torch.cat(predicted, 1).view(M, N, -1)
        scale = torch.ones_like(guess[..., 0])
        if self.scaling is not Scaling.none:
            scale = (guess * change).sum(2) / guess.square().sum(2)
            scale = scale.where(guess.any(2), 0.0)
            scale = scale.clamp(min=0) if self.scaling is Scaling.positive else scale
        error = (scale[..., None] * guess - change).square().mean(2)
        judged = maps.isfinite().flatten(2).all(2) & change.isfinite().all(1)
        size = change.square().mean(1)
        columns = {"infidelity": error, "change": size.expand(M, N), "scale": scale}
        if self.scaling is not Scaling.none:
            columns["unexplained"] = error / size
        return Scores({name: values.where(judged, torch.nan) for name, values in columns.items()})

    def summary(self) -> tuple[Column, ...]:
        """Returns the mean infidelity and, with a factor β, the mean unexplained share."""
        infidelity = Column(f"Infidelity ({self.perturbation})", score="infidelity", better="lower")
        if self.scaling is Scaling.none:
            return (infidelity,)
        return Column("Unexplained share", score="unexplained", better="lower", bounds=(0, 1)), infidelity


class _Blocks:
    """Replaces a block of each clip, at a random place inside of it; I is 1 in the block and 0 elsewhere."""

    def __init__(self, metric: Infidelity, batch: MapBatch) -> None:
        self._x = batch.query.frames
        self._fill = filled(metric.fill, self._x, batch.network.view)
        size = self._x.shape[2:]
        self._sides = [max(1, round(share * length)) for share, length in zip(metric.block, size, strict=True)]
        room = torch.tensor([length - side + 1 for side, length in zip(self._sides, size, strict=True)])
        streams = (torch.Generator().manual_seed(seed_for(seed, "infidelity")) for seed in batch.query.seeds)
        draws = [torch.rand(metric.samples, 3, generator=stream, dtype=torch.float64) for stream in streams]
        self._corners = onto(self._x.device, (torch.stack(draws) * room).long())  # (N, samples, 3)

    def __call__(self, chunk: Sequence[tuple[int, int]], n: Tensor) -> tuple[Tensor, Tensor]:
        """Returns perturbed frames (J, C, T, H, W) and I (J, T, H, W) of J pairs of a clip and a sample."""
        k = onto(n.device, [k for _, k in chunk])
        inside = torch.ones(len(chunk), 1, 1, 1, dtype=torch.bool, device=n.device)
        for axis, (side, first) in enumerate(zip(self._sides, self._corners[n, k].unbind(1), strict=True)):
            place = torch.arange(self._x.shape[2 + axis], device=n.device) - first[:, None]
            shape = [len(chunk), *(-1 if other == axis else 1 for other in range(3))]
            inside = inside & ((place >= 0) & (place < side)).view(shape)
        return torch.where(inside[:, None], self._fill[n], self._x[n]), inside.double()


class _Noise:
    """Adds noise to each voxel and channel of a clip; I is the sum of the noise over the channels."""

    def __init__(self, metric: Infidelity, batch: MapBatch) -> None:
        self._x, self._seeds = batch.query.frames, batch.query.seeds
        self._sigma = metric.spread * (self._x.amax((1, 2, 3, 4)) - self._x.amin((1, 2, 3, 4)))

    def __call__(self, chunk: Sequence[tuple[int, int]], n: Tensor) -> tuple[Tensor, Tensor]:
        """Returns perturbed frames (J, C, T, H, W) and I (J, T, H, W) of J pairs of a clip and a sample."""
        streams = (torch.Generator().manual_seed(seed_for(self._seeds[n], f"infidelity/{k}")) for n, k in chunk)
        draws = [torch.randn(self._x.shape[1:], generator=stream, dtype=torch.float64) for stream in streams]
        noise = onto(n.device, torch.stack(draws)).to(self._x.dtype) * self._sigma[n].view(-1, 1, 1, 1, 1)
        return self._x[n] - noise, noise.double().sum(1)
