"""Gradients summed along the path on which the frames are blurred less and less."""

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
from vidattr.methods.shared.scores import Score, scores
from vidattr.models.network.network import VideoModel
from vidattr.types import Explanation, Query


class Spacing(StrEnum):
    """The standard deviations of the S steps: evenly spaced, or with evenly spaced squares."""

    linear = auto()
    sqrt = auto()


_SPACINGS: dict[Spacing, Callable[[float, float], float]] = {
    Spacing.linear: lambda share, largest: share * largest,
    Spacing.sqrt: lambda share, largest: math.sqrt(share * largest),
}


@dataclass(frozen=True)
class BlurIG:
    """Blur integrated gradients (Xu, Venugopalan and Sundararajan, CVPR 2020).

    The path of integrated gradients goes through L(σ), the clip blurred by a Gaussian of standard deviation σ, so that
    no baseline is chosen and no colour is invented: a = −∫ ∂s_y/∂L(σ) ⊙ ∂L(σ)/∂σ dσ, σ from 0 to its largest value.
    It is computed as in the authors' code (PAIR's `saliency`):

        a = −Σ_{i<S} (σ_{i+1} − σ_i) · ∂s_y/∂x at L(σ_i) ⊙ (L(σ_i + δ) − L(σ_i)) / δ

    with σ_i = i/S · σ_max, or √(i/S · σ_max), and δ = `grad_step`. As there, the Gaussian ends at 4 σ, its weights are
    not renormalised at the border, and the values outside of the frame are 0 as the network takes them, that is the
    data set's mean colour. The map is reduce_c polarity(a_c).

    Unlike the paper, which blurs images, `max_sigma_frames` can blur along time too, with a standard deviation of
    σ · max_sigma_frames / max_sigma frames.

    Completeness, Σ a = s_y(x) − s_y(L(σ_S)), holds in the limit of large S and small δ; the extras report the error for
    each clip.

    Attributes:
        max_sigma: σ_max in pixels; with `spacing=sqrt` the largest σ is its square root.
        max_sigma_frames: The standard deviation along time, in frames, at σ = max_sigma; 0 (the paper): no blur along
            time.
        steps: S.
        grad_step: δ in pixels.
        spacing: linear or sqrt.
        score: s_y: the logit, the probability, its logarithm, or its log-odds.
        polarity: Which part of a the map shows.
        reduce: How channels become one number.

    The explanation's extras: `attribution` (N, C, T, H, W), a itself; `completeness` (N, 3): Σ a, s_y(x) − s_y(L(σ_S)),
    and the first minus the second.

    Raises:
        ConfigError: steps, max_sigma or grad_step not positive, or max_sigma_frames negative.
    """

    version: ClassVar[int] = 1

    max_sigma: float = 50.0
    max_sigma_frames: float = 0.0
    steps: int = 100
    grad_step: float = 0.01
    spacing: Spacing = Spacing.linear
    score: Score = Score.logit
    polarity: Polarity = Polarity.both
    reduce: Reduce = Reduce.mean

    def __post_init__(self) -> None:
        positive = self.steps >= 1 and all(0 < value < math.inf for value in (self.max_sigma, self.grad_step))
        if not positive or not 0 <= self.max_sigma_frames < math.inf:
            raise ConfigError(
                f"method.steps={self.steps} method.max_sigma={self.max_sigma} method.grad_step={self.grad_step} "
                f"method.max_sigma_frames={self.max_sigma_frames}",
                expected="positive numbers, and max_sigma_frames of at least 0",
            )

    @property
    def passes(self) -> int:
        """S for the gradients, and the forward pass of the most blurred clip for the completeness."""
        return self.steps + 1

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Explains N clips, each by S forward and backward passes and one forward pass, in chunks of `max_batch`.

        The first gradient is taken at x: the score there needs no pass of its own.
        """
        frames = query.frames.detach()
        sigmas = [_SPACINGS[self.spacing](i / self.steps, self.max_sigma) for i in range(self.steps + 1)]
        slopes: dict[tuple[int, int], Tensor] = {}

        def point(i: int, k: int) -> Tensor:
            level, slopes[i, k] = self._level_and_slope(frames[i], sigmas[k])
            return level

        attribution, values = torch.zeros_like(frames), frames.new_zeros(len(frames), self.steps)
        for i, k, gradient in probe_gradients(model, query.target, self.score, self.steps, point, values):
            attribution[i] -= (sigmas[k + 1] - sigmas[k]) * slopes.pop((i, k)) * gradient
        explained = attribution.flatten(1).sum(1)
        end = torch.stack([self._level_and_slope(clip, sigmas[-1])[0] for clip in frames])
        difference = values[:, 0] - scores(model, end, query.target, self.score)
        return Explanation(
            to_map(attribution, self.polarity, self.reduce),
            {
                "attribution": attribution,
                "completeness": torch.stack([explained, difference, explained - difference], 1),
            },
        )

    def _level_and_slope(self, clip: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """Returns L(σ) and (L(σ + δ) − L(σ)) / δ of one clip, both (C, T, H, W).

        The blur is one matrix product per axis, L = B_h x B_w. A difference of two blurred clips would cancel most
        digits of float32; the difference of their matrices is taken in float64, and (B_h' − B_h) x B_w' +
        B_h x (B_w' − B_w) is the same.
        """
        level, slope = clip, torch.zeros_like(clip)
        for axis, scale in ((1, self.max_sigma_frames / self.max_sigma), (2, 1.0), (3, 1.0)):
            if scale == 0:
                continue
            size = clip.shape[axis]
            near, far = (_weights(size, scale * value, clip.device) for value in (sigma, sigma + self.grad_step))
            rise = ((far - near) / self.grad_step).to(clip)
            # With p = L so far and q = (L' − L)/δ so far: B'q + (B' − B)/δ p is the quotient after this axis.
            slope = _along(axis, far.to(clip), slope) + _along(axis, rise, level)
            level = _along(axis, near.to(clip), level)
        return level, slope


def _weights(size: int, sigma: float, device: torch.device) -> Tensor:
    """Returns the float64 matrix (size, size) of SciPy's `gaussian_filter1d` with zeros outside."""
    radius = int(4 * sigma + 0.5)
    if radius == 0:
        return torch.eye(size, dtype=torch.float64, device=device)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64, device=device)
    total = torch.exp(-0.5 * (offsets / sigma) ** 2).sum()
    place = torch.arange(size, dtype=torch.float64, device=device)
    distance = (place[:, None] - place).abs()
    return torch.where(distance <= radius, torch.exp(-0.5 * (distance / sigma) ** 2) / total, 0.0)


def _along(axis: int, weights: Tensor, clip: Tensor) -> Tensor:
    """Multiplies an axis of a clip (C, T, H, W) by a matrix."""
    return (clip.movedim(axis, -1) @ weights.T).movedim(-1, axis)
