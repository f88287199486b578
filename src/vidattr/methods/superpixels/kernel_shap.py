"""Shapley values of superpixels in space and time, by weighted least squares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vidattr.errors import ConfigError
from vidattr.methods.shared.superpixels import superpixels
from vidattr.methods.superpixels.removal import SuperpixelRemoval, coalition_scores, padded
from vidattr.models.network.network import VideoModel
from vidattr.models.speed.lagging import on_host, onto
from vidattr.profiling import stage
from vidattr.types import Explanation, Query


@dataclass(frozen=True)
class KernelSHAP(SuperpixelRemoval):
    """Kernel SHAP (Lundberg and Lee, NeurIPS 2017) on superpixels, as in REVEX (Gaya-Morey et al., 2024).

    The Shapley values φ of the game v among K superpixels are the solution of

        min Σ_S π(S) (v(S) − v(∅) − Σ_{k∈S} φ_k)²  subject to  Σ_k φ_k = v(all) − v(∅),
        π(S) = (K − 1) / (C(K, |S|) |S| (K − |S|)),

    over all sets S but the empty and the full one, whose weight would be infinite: they are the constraint, which holds
    exactly. Where all 2^K − 2 sets are no more than `masks`, all are evaluated and φ is exact. Otherwise `masks` sets
    are drawn in proportion to π(S) and count equally: the size s with a probability in proportion to 1 / (s (K − s)),
    then a set of this size. Where the drawn sets leave φ undetermined, it is the solution nearest to equal values.

    The map at a voxel is φ of its superpixel. The problem is solved in float64.

    Attributes:
        masks: Sets per clip, without the empty and the full one.
        paired: Whether each drawn set is followed by its complement, which lowers the variance (Covert and Lee,
            AISTATS 2021).

    The other options are those of `SuperpixelRemoval`.

    The explanation's extras: `whole` (N,), v(all), and `removed` (N,), v(∅).

    Raises:
        ConfigError: No set.
    """

    version: ClassVar[int] = 1

    masks: int = 1000
    paired: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.masks <= 10**8:
            raise ConfigError(f"method.masks={self.masks}", expected="1 to 10^8 sets of superpixels")

    @property
    def passes(self) -> int:
        """One per set, and two for the whole clip and for the fill alone; times the draws of the fill."""
        return (self.masks + 2) * self.fillings

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Explains N clips by at most `masks` + 2 forward passes each, in chunks of `max_batch`."""
        parts = superpixels(query, model.view, self)
        device = query.frames.device
        with stage("masks"):
            kept = []
            for seed, count in zip(query.seeds, parts.counts, strict=True):
                inner = self._sets(count, torch.Generator(device).manual_seed(seed))
                whole = inner.new_ones(1, count)
                kept.append(torch.cat([whole, ~whole, inner]))
        found = coalition_scores(model, query, parts, kept, self)
        with stage("assembly"):
            fitted = []
            # On the host, which would otherwise wait for each pseudo-inverse, once for each clip. One solution per
            # clip: their sizes differ, and a clip's numbers must not depend on its neighbours.
            there = on_host(*kept, *found)
            for rows, values, count in zip(there[: len(kept)], there[len(kept) :], parts.counts, strict=True):
                sets, gains = rows[2:].double(), values - values[1]
                weights = _kernel(sets) if self._enumerates(count) else torch.ones_like(gains[2:])
                fitted.append(constrained(sets, weights, gains[2:], gains[0]))
        whole, removed = torch.stack([values[:2] for values in found]).float().unbind(1)
        shares = onto(device, padded(fitted, parts.most))
        return Explanation(parts.paint(shares).float(), {"whole": whole, "removed": removed})

    def _enumerates(self, count: int) -> bool:
        return count < 64 and 2**count - 2 <= self.masks

    def _sets(self, count: int, generator: torch.Generator) -> Tensor:
        """Returns the sets (S, K) bool of K = `count` superpixels: all but the empty and the full one, or drawn."""
        device = generator.device
        if self._enumerates(count):
            numbers = torch.arange(1, 2**count - 1, device=device)
            return (numbers[:, None] >> torch.arange(count, device=device) & 1).bool()
        drawn = -(-self.masks // 2) if self.paired else self.masks
        sizes = torch.arange(1, count, dtype=torch.float64, device=device)
        share = (1 / (sizes * (count - sizes))).cumsum(0)
        draw = torch.rand(drawn, dtype=torch.float64, generator=generator, device=device) * share[-1]
        size = torch.searchsorted(share, draw).clamp(max=count - 2) + 1
        order = torch.rand(drawn, count, dtype=torch.float64, generator=generator, device=device).argsort(1)
        chosen = torch.zeros(drawn, count, dtype=torch.bool, device=device)
        chosen.scatter_(1, order, torch.arange(count, device=device) < size[:, None])
        if not self.paired:
            return chosen
        return torch.stack([chosen, ~chosen], 1).flatten(0, 1)[: self.masks]


def _kernel(sets: Tensor) -> Tensor:
    """Returns π(S) (S,) of sets (S, K), up to a common factor; 1/C(K, s) by logarithms, as C overflows for large K."""
    K = sets.shape[1]
    size = sets.sum(1)
    ways = torch.lgamma(size + 1) + torch.lgamma(K - size + 1)
    return torch.exp(ways - ways.amax()) / (size * (K - size)) if len(sets) else size


def constrained(sets: Tensor, weights: Tensor, gains: Tensor, total: Tensor) -> Tensor:
    """Returns φ (K,) of the least squares above, all float64.

    With φ = total/K + ψ, Σ ψ = 0, and P = I − 11ᵀ/K the projection onto such ψ, the normal equations are
    P A P ψ = P (b − A·1·total/K), where A = Zᵀ W Z and b = Zᵀ W gains; the pseudo-inverse gives the smallest ψ.

    Args:
        sets: Z (S, K).
        weights: (S,).
        gains: (S,), v(S) − v(∅).
        total: v(all) − v(∅).
    """
    K = sets.shape[1]
    equal = total.expand(K) / K
    project = torch.eye(K, dtype=sets.dtype, device=sets.device) - 1 / K
    weighted = sets.mT * (weights / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny))
    system = project @ (weighted @ sets) @ project
    right = project @ (weighted @ (gains - sets @ equal))
    inverse: Tensor = torch.linalg.pinv(system, hermitian=True)
    return equal + inverse @ right
