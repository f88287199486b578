"""The gradient, averaged over noisy copies of the frames."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import ClassVar

import torch
from torch import Tensor

from vidattr.errors import ConfigError
from vidattr.methods.shared.gradients import Polarity, Reduce, probe_gradients, to_map
from vidattr.methods.shared.scores import Score
from vidattr.models.network.network import VideoModel
from vidattr.types import Explanation, Query


class Moment(StrEnum):
    """The statistic of the n gradients g_k of a voxel: their mean, the mean of their squares, or their variance."""

    plain = auto()
    squared = auto()
    variance = auto()


_MOMENTS: dict[Moment, Callable[[Tensor, Tensor], Tensor]] = {
    Moment.plain: lambda mean, variance: mean,
    Moment.squared: lambda mean, variance: mean.square() + variance,
    Moment.variance: lambda mean, variance: variance,
}


@dataclass(frozen=True)
class SmoothGrad:
    """SmoothGrad (Smilkov et al., 2017), SmoothGrad² (Hooker et al., 2019) and VarGrad (Adebayo et al., 2018).

    g_k = ∂s_y/∂x at x + ε_k, with ε_k ~ N(0, σ²) on every voxel and channel and σ = spread · (max x − min x), the range
    taken over the clip. Then a = (1/n) Σ_k g_k, or (1/n) Σ_k g_k², or their variance (1/n) Σ_k (g_k − mean g)²; the map
    is reduce_c polarity(a_c). The noise depends only on the clip's seed, not on the batch.

    Smilkov et al. recommend n = 50 and a spread of 0.1 to 0.2. The defaults, n = 25 and 0.15, are those of the released
    code of STEP (Li et al., WACV 2021); its demo shows the squared kind.

    Attributes:
        kind: plain, squared or variance.
        n: Noisy copies per clip.
        spread: σ as a share of the clip's range of values; a flat clip gets no noise.
        score: s_y: the logit (the paper), the probability, its logarithm, or its log-odds.
        polarity: Which part of a the map shows; squares and variances are never negative and need `both`.
        reduce: How channels become one number.

    The explanation's extras: `attribution` (N, C, T, H, W), a itself.

    Raises:
        ConfigError: n < 1 or spread < 0; or a polarity for a kind that is never negative.
    """

    version: ClassVar[int] = 1

    kind: Moment = Moment.plain
    n: int = 25
    spread: float = 0.15
    score: Score = Score.logit
    polarity: Polarity = Polarity.both
    reduce: Reduce = Reduce.sum

    def __post_init__(self) -> None:
        if self.n < 1 or not 0 <= self.spread < math.inf:
            raise ConfigError(
                f"method.n={self.n} method.spread={self.spread}", expected="n of at least 1 and a spread of at least 0"
            )
        if self.polarity != Polarity.both and self.kind != Moment.plain:
            raise ConfigError(
                f"method.polarity={self.polarity} with method.kind={self.kind}, which is never negative",
                remedy="method.kind=plain, or method.polarity=both",
            )

    @property
    def passes(self) -> int:
        """One per noisy copy."""
        return self.n

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Explains N clips by n forward and n backward passes each, in chunks of `max_batch`."""
        frames = query.frames
        generators = [torch.Generator(frames.device).manual_seed(seed) for seed in query.seeds]
        sigma = self.spread * (frames.flatten(1).amax(1) - frames.flatten(1).amin(1))

        def noisy(i: int, _k: int) -> Tensor:
            # One draw per copy, in the order of k: the k-th noise does not depend on the chunks.
            noise = torch.randn(frames.shape[1:], generator=generators[i], dtype=frames.dtype, device=frames.device)
            return frames[i] + sigma[i] * noise

        mean, squares = torch.zeros_like(frames), torch.zeros_like(frames)
        for i, k, gradient in probe_gradients(model, query.target, self.score, self.n, noisy):
            # Welford's update avoids cancellation where the mean is large and the variance small.
            step = gradient - mean[i]
            mean[i] += step / (k + 1)
            squares[i] += step * (gradient - mean[i])
        attribution = _MOMENTS[self.kind](mean, squares / self.n)
        return Explanation(to_map(attribution, self.polarity, self.reduce), {"attribution": attribution})
