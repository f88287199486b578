"""LIME on superpixels in space and time: a linear model of the score around the clip."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vidattr.errors import ConfigError
from vidattr.methods.shared.superpixels import superpixels
from vidattr.methods.superpixels.removal import SuperpixelRemoval, coalition_scores, padded
from vidattr.models.network.network import VideoModel
from vidattr.profiling import stage
from vidattr.types import Explanation, Query


@dataclass(frozen=True)
class VideoLIME(SuperpixelRemoval):
    """LIME (Ribeiro, Singh and Guestrin, KDD 2016) for video, as REVEX adapts it (Gaya-Morey et al., 2024).

    Sets S_1 … S_n of superpixels are drawn, each superpixel being kept with probability p. S_0 is the whole clip. With
    z_i ∈ {0, 1}^K the indicator of S_i, a ridge regression is fitted to the scores:

        φ, b = argmin Σ_{i=0}^n w_i (v(S_i) − b − z_i·φ)² + ridge ‖φ‖²,
        w_i = exp(−d_i² / (2 kernel_width²)),  d_i = 1 − √(|S_i| / K),

    where d_i is the cosine distance of z_i to the vector of ones. The map at a voxel is φ of its superpixel. K is the
    number of superpixels; the regression is solved in float64.

    Attributes:
        masks: n, sets per clip.
        p: Probability that a superpixel is kept.
        kernel_width: Width of the weights; smaller: only sets that resemble the whole clip count.
        ridge: Weight of ‖φ‖².

    The other options are those of `SuperpixelRemoval`. The defaults are those of REVEX's code.

    The explanation's extras: `scores` (N, n + 1), v(S_0) … v(S_n).

    Raises:
        ConfigError: A number out of range.
    """

    version: ClassVar[int] = 1

    masks: int = 1000
    p: float = 0.5
    kernel_width: float = 0.25
    ridge: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.masks <= 10**8:
            raise ConfigError(f"method.masks={self.masks}", expected="1 to 10^8 sets of superpixels")
        if not 0 < self.p < 1:
            raise ConfigError(f"method.p={self.p}", expected="more than 0 and less than 1")
        for name in ("kernel_width", "ridge"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"method.{name}={getattr(self, name)}", expected="a positive number")

    @property
    def passes(self) -> int:
        """One per set, and one for the whole clip; times the draws of the fill."""
        return (self.masks + 1) * self.fillings

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Explains N clips by n + 1 forward passes each, in chunks of `max_batch`."""
        parts = superpixels(query, model.view, self)
        device = query.frames.device
        with stage("masks"):
            kept = []
            for seed, count in zip(query.seeds, parts.counts, strict=True):
                generator = torch.Generator(device).manual_seed(seed)
                drawn = torch.rand(self.masks, count, generator=generator, device=device) < self.p
                kept.append(torch.cat([torch.ones_like(drawn[:1]), drawn]))
        found = coalition_scores(model, query, parts, kept, self)
        with stage("assembly"):
            # One solution per clip: their sizes differ, and a clip's numbers must not depend on its neighbours.
            fitted = [self.fit(rows.double(), values) for rows, values in zip(kept, found, strict=True)]
        return Explanation(parts.paint(padded(fitted, parts.most)).float(), {"scores": torch.stack(found).float()})

    def fit(self, sets: Tensor, values: Tensor) -> Tensor:
        """Returns φ (K,) float64, given z (n + 1, K) and v (n + 1,), both float64."""
        distance = 1 - sets.mean(1).sqrt()
        weights = torch.exp(-(distance**2) / (2 * self.kernel_width**2))
        # Relative to the whole clip's score, so that equal scores give exactly 0.
        relative = values - values[0]
        shares = weights / weights.sum()
        centred, target = sets - shares @ sets, relative - shares @ relative
        weighted = centred.mT * weights
        ridge = self.ridge * torch.eye(sets.shape[1], dtype=sets.dtype, device=sets.device)
        # The matrix is positive definite. A check would make the host wait for a GPU, once for each clip.
        solution: Tensor = torch.linalg.solve_ex(weighted @ centred + ridge, weighted @ target, check_errors=False)[0]
        return solution
