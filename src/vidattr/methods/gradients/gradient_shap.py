"""Gradients at random points between the frames and random baselines."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import ClassVar

import torch
from torch import Tensor

from vidattr.errors import ConfigError
from vidattr.methods.shared.blur import blurred
from vidattr.methods.shared.gradients import Polarity, Reduce, probe_gradients, to_map
from vidattr.methods.shared.scores import Score, scores
from vidattr.models.network.network import VideoModel
from vidattr.types import Explanation, Query


class Baselines(StrEnum):
    """The distribution of the baselines: clips of one random grey, the clip randomly blurred, or random colours."""

    grey = auto()
    blur = auto()
    noise = auto()


@dataclass(frozen=True)
class GradientShap:
    """Gradient SHAP (Lundberg and Lee's `GradientExplainer`), the expected gradients of Erion et al. (2021).

    a = (1/n) Σ_k (x_k − b_k) ⊙ ∂s_y/∂x at b_k + α_k (x_k − b_k), with a baseline b_k, α_k ~ U(0, 1) and
    x_k = x + ε_k, ε_k ~ N(0, σ²) on every voxel and channel, σ = spread · (max x − min x); all are drawn anew for each
    k. The map is reduce_c polarity(a_c). captum's `GradientShap` computes the same. The draws depend only on the
    clip's seed, not on the batch.

    Unlike the paper, where baselines are clips of the training set, they are drawn from a distribution that needs no
    data, because a method sees only the clip that it explains.

    Completeness, Σ a = s_y(x) − E s_y(b), holds in the limit of large n without ε; the extras report the error for each
    clip.

    Attributes:
        n: Draws per clip.
        baselines: The distribution of b. grey: each draw one grey level for the whole clip, uniform from black to
            white. blur: the clip, each frame blurred with a standard deviation uniform up to `largest_blur`.
            noise: each voxel and channel uniform from black to white.
        largest_blur: The largest standard deviation in pixels of `baselines=blur`; weights are renormalised at the
            border.
        spread: σ as a share of the clip's range of values; 0 (Erion et al.): no noise.
        score: s_y: the logit, the probability, its logarithm, or its log-odds.
        polarity: Which part of a the map shows.
        reduce: How channels become one number.

    The explanation's extras: `attribution` (N, C, T, H, W), a itself; `completeness` (N, 3): Σ a, s_y(x) minus the mean
    of s_y(b_k), and the first minus the second.

    Raises:
        ConfigError: n < 1, spread < 0, or largest_blur not positive.
    """

    version: ClassVar[int] = 1

    n: int = 25
    baselines: Baselines = Baselines.grey
    largest_blur: float = 20.0
    spread: float = 0.0
    score: Score = Score.logit
    polarity: Polarity = Polarity.both
    reduce: Reduce = Reduce.mean

    def __post_init__(self) -> None:
        if self.n < 1 or not 0 <= self.spread < math.inf or not 0 < self.largest_blur < math.inf:
            raise ConfigError(
                f"method.n={self.n} method.spread={self.spread} method.largest_blur={self.largest_blur}",
                expected="n of at least 1, a spread of at least 0, and a positive largest_blur",
            )

    @property
    def passes(self) -> int:
        """One per draw for the gradient, one per draw and one more for the completeness."""
        return 2 * self.n + 1

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Explains N clips, each by n forward and backward and n + 1 forward passes, in chunks of `max_batch`."""
        frames = query.frames.detach()
        draws = [self._draws(model, clip, seed) for clip, seed in zip(frames, query.seeds, strict=True)]
        ways: dict[tuple[int, int], Tensor] = {}

        def point(i: int, k: int) -> Tensor:
            start, noisy, alpha = next(draws[i])
            ways[i, k] = noisy - start
            return start + alpha * ways[i, k]

        total = torch.zeros_like(frames)
        for i, k, gradient in probe_gradients(model, query.target, self.score, self.n, point):
            total[i] += ways.pop((i, k)) * gradient
        attribution = total / self.n
        explained = attribution.flatten(1).sum(1)
        difference = scores(model, frames, query.target, self.score) - self._expected(model, query)
        return Explanation(
            to_map(attribution, self.polarity, self.reduce),
            {
                "attribution": attribution,
                "completeness": torch.stack([explained, difference, explained - difference], 1),
            },
        )

    def _draws(self, model: VideoModel, clip: Tensor, seed: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yields n times a baseline, the noisy clip, each (C, T, H, W), and α; the same for the same seed."""
        generator = torch.Generator(clip.device).manual_seed(seed)
        sigma = self.spread * (clip.amax() - clip.amin())
        for _ in range(self.n):
            start = _BASELINES[self.baselines](self, model, clip, generator)
            alpha = torch.rand((), generator=generator, dtype=clip.dtype, device=clip.device)
            noise = torch.randn(clip.shape, generator=generator, dtype=clip.dtype, device=clip.device)
            yield start, clip + sigma * noise, alpha

    def _expected(self, model: VideoModel, query: Query) -> Tensor:
        """Returns the mean score (N,) of the baselines, which are drawn once more instead of kept."""
        draws = [self._draws(model, clip, seed) for clip, seed in zip(query.frames.detach(), query.seeds, strict=True)]
        total = torch.zeros_like(query.frames[:, 0, 0, 0, 0])
        together = max(1, model.max_batch // len(draws))  # so many draws of each clip fill a pass
        for first in range(0, self.n, together):
            count = min(together, self.n - first)
            starts = torch.stack([next(of_clip)[0] for of_clip in draws for _ in range(count)])
            total += scores(model, starts, query.target.repeat_interleave(count), self.score).view(-1, count).sum(1)
        return total / self.n


def _grey(_method: GradientShap, model: VideoModel, clip: Tensor, generator: torch.Generator) -> Tensor:
    return _between(model, clip, torch.rand((), generator=generator, dtype=clip.dtype, device=clip.device))


def _blur(method: GradientShap, _model: VideoModel, clip: Tensor, generator: torch.Generator) -> Tensor:
    # 1 − u is never 0, which is no standard deviation.
    width = 1 - torch.rand((), generator=generator, dtype=clip.dtype, device=clip.device)
    return blurred(clip, method.largest_blur * width)


def _noise(_method: GradientShap, model: VideoModel, clip: Tensor, generator: torch.Generator) -> Tensor:
    return _between(model, clip, torch.rand(clip.shape, generator=generator, dtype=clip.dtype, device=clip.device))


def _between(model: VideoModel, clip: Tensor, level: Tensor) -> Tensor:
    """Returns a clip (C, T, H, W) of levels from 0 (black) to 1 (white), as the network sees them."""
    black, white = (model.view.colour(clip, grey) for grey in (0.0, 1.0))
    return (black + level * (white - black)).expand_as(clip)


_BASELINES: dict[Baselines, Callable[[GradientShap, VideoModel, Tensor, torch.Generator], Tensor]] = {
    Baselines.grey: _grey,
    Baselines.blur: _blur,
    Baselines.noise: _noise,
}
