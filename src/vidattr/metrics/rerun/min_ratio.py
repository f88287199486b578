"""The minimal preservation ratio: the smallest share of a clip that keeps the probability of the class.

Li, Z. et al., "Towards Visually Explaining Video Understanding Networks with Perturbation", WACV 2021, eq. 3 and table
2.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from vidattr.errors import ConfigError
from vidattr.methods.perturbation.pyramid import WIDEST, blur
from vidattr.metrics.deletion_insertion import rank
from vidattr.metrics.shared.noise_draws import check_draws
from vidattr.models.network.network import VideoModel
from vidattr.models.speed.lagging import onto
from vidattr.protocols import MapBatch, Method, RatioMethod
from vidattr.types import Column, Query, Scores


@dataclass(frozen=True)
class MinRatio:
    """Finds a* = min {a : Φ(x ⊗ m_a) ≥ Φ(x) − ε}, where Φ is the target's probability and m_a a mask of ratio a.

    1. Compute Φ(x ⊗ m_a) for every a of `ratios`. For EP-3D, EP-2D and STEP, m_a is the method's mask of ratio a, and
       its own `areas` are ignored; all ratios of all clips are one optimisation. For any other method, m_a keeps the
       share a of voxels with the largest values in the stored map, and replaces the others by the frames blurred by 20
       pixels. The network always sees the clip with the mask's voxels kept, also if the method itself deletes them
       (`variant`) or shows single frames (`context`).
    2. a* is the smallest ratio that keeps the probability; 1, the whole clip, if none does.
    3. Halve the interval between a* and the next smaller ratio of the grid `bisection` times.

    The paper has no code for its table, and states neither the grid nor ε. The score is the share of the *visible*
    frames that the mask of a* keeps, Σ m / (T·H·W). A mask's own ratio is a share of its plane, which is larger than
    the frame (1.43 times at 112 pixels, `ExtremalPerturbation`). It is reported beside the score as the padded share,
    which the paper's procedure would report.

    Attributes:
        ratios: The grid, in ascending order.
        epsilon: Values of ε, the largest loss of probability; a column each.
        bisection: Number of bisections; each costs another optimisation per clip and ε.
        correct_only: Whether misclassified clips are NaN: their target class has no probability to keep.
        noise_draws: Draws of noise as smooth as each map that are judged beside it (`matched_noise.noise`); 0: none.
            Each costs a pass per ratio.
    """

    version: ClassVar[int] = 2
    unjudged: ClassVar[str] = "the network does not see the class (correct_only), or a map is not finite"

    ratios: list[float] = field(default_factory=lambda: [0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7])
    epsilon: list[float] = field(default_factory=lambda: [0.0, 0.01, 0.05])
    bisection: int = 0
    correct_only: bool = True
    noise_draws: int = 1

    def __post_init__(self) -> None:
        check_draws(self.noise_draws)
        rising = [0.0, *self.ratios, 1.0]
        if not self.ratios or not all(low < high for low, high in itertools.pairwise(rising)):
            raise ConfigError(
                f"metric.ratios={list(self.ratios)}", expected="rising shares between 0 and 1, both excluded"
            )
        if (
            not self.epsilon
            or not all(0 <= one < 1 for one in self.epsilon)
            or len(set(self.epsilon)) < len(self.epsilon)
        ):
            raise ConfigError(
                f"metric.epsilon={list(self.epsilon)}",
                expected="one or more, all different, of at least 0 and less than 1",
            )
        if not 0 <= self.bisection <= 50:
            raise ConfigError(
                f"metric.bisection={self.bisection}",
                expected="0 to 50: then the interval is smaller than a float can tell",
            )

    def passes_of(self, _method: Method) -> int:
        """Passes without those of the masks: one for the clip, and one per map or draw, ratio and bisection."""
        tries = len(self.ratios) + self.bisection * len(self.epsilon)
        return tries * (1 + self.noise_draws) + 1

    def score_methods(self, batch: MapBatch, methods: Sequence[Method]) -> Scores:
        """Judges M methods, or their `maps` (M, N, T, H, W); maps that are not finite are NaN.

        Returns:
            Per ε `min_ratio_<ε>`, a share of the visible frames, and `padded_<ε>`, the mask's own ratio, NaN for
            methods that have no mask; `f_clip`, Φ(x); as curve `probability` (M, N, ratios + 1), Φ at each ratio and at
            1.
        """
        model, query, maps = batch.network, batch.query, batch.maps
        shares = model.probabilities(query.frames)
        whole = shares.gather(1, query.target[:, None]).double()  # (N, 1)
        judged = (shares.argmax(1) == query.target) | (not self.correct_only)
        grid = onto(whole.device, torch.tensor([*self.ratios, 1.0], dtype=whole.dtype))
        visible, padded, curves = [], [], []
        for method, map in zip(methods, maps, strict=True):
            keeper = _Keeper(model, query, method, map)
            kept, shown = keeper(grid[:-1].expand(len(whole), -1))
            kept, shown = torch.cat([kept, whole], 1), torch.cat([shown, torch.ones_like(whole)], 1)
            valid = judged & map.isfinite().flatten(1).all(1)
            curves.append(kept.where(valid[:, None], torch.nan))
            found = [self._least(keeper, kept, shown, whole - one, grid) for one in self.epsilon]
            visible.append(torch.stack([shares for shares, _ in found]).where(valid, torch.nan))
            own = torch.stack([ratios for _, ratios in found])
            padded.append(own.where(valid & isinstance(method, RatioMethod), torch.nan))
        columns = {f"min_ratio_{one:g}": torch.stack([row[e] for row in visible]) for e, one in enumerate(self.epsilon)}
        columns |= {f"padded_{one:g}": torch.stack([row[e] for row in padded]) for e, one in enumerate(self.epsilon)}
        columns["f_clip"] = whole[:, 0].where(judged, torch.nan).expand(len(maps), -1)
        return Scores(columns, {"probability": torch.stack(curves)}, points=[f"{a:g}" for a in (*self.ratios, 1)])

    def _least(
        self, keeper: _Keeper, kept: Tensor, shown: Tensor, wanted: Tensor, grid: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Finds a* for the probabilities `wanted` (N, 1).

        Args:
            keeper: The method's masks.
            kept: (N, ratios + 1) probability at each ratio of the grid.
            shown: (N, ratios + 1) share of the visible frames that is kept at each.
            wanted: (N, 1).
            grid: The ratios, and 1.

        Returns:
            The visible share (N,) at a*, and a* (N,).
        """
        first = (kept >= wanted).int().argmax(1)
        high, share = grid[first], shown.gather(1, first[:, None])[:, 0]
        low = grid[(first - 1).clamp(min=0)].where(first > 0, 0.0)
        for _ in range(self.bisection):
            middle = (low + high) / 2
            probability, covered = (answer[:, 0] for answer in keeper(middle[:, None]))
            enough = probability >= wanted[:, 0]
            low, high, share = low.where(enough, middle), middle.where(enough, high), covered.where(enough, share)
        return share, high

    def summary(self) -> tuple[Column, ...]:
        """Returns the mean minimal ratio of each ε, beside it the mask's own, and the probability of the whole clip."""
        columns: list[Column] = []
        for one in self.epsilon:
            columns += [
                Column(
                    f"Minimal ratio (ε = {one:g}), visible", score=f"min_ratio_{one:g}", better="lower", bounds=(0, 1)
                ),
                Column(f"ε = {one:g}, padded", score=f"padded_{one:g}", better="lower", bounds=(0, 1), optional=True),
            ]
        return (*columns, Column("Probability of the clip", score="f_clip", bounds=(0, 1)))


class _Keeper:
    """The network's output for a clip of which a method keeps a share."""

    def __init__(self, model: VideoModel, query: Query, method: Method, map: Tensor) -> None:
        self._model, self._query, self._method = model, query, method
        if isinstance(method, RatioMethod):
            self._preserving = method.preserving(query)
        else:
            self._place = rank(map[None], query.seeds, 1)[0].flatten(1).view_as(map)
            self._blurred = blur(query.frames, WIDEST)

    def __call__(self, ratios: Tensor) -> tuple[Tensor, Tensor]:
        """Returns Φ (N, A) float64 of the target for ratios (N, A), and the kept shares (N, A) of visible frames."""
        query, (N, A) = self._query, ratios.shape
        clip = torch.arange(N * A, device=ratios.device) // A
        if isinstance(self._method, RatioMethod):
            # Ratios are numbers of the method's own, not tensors: a few floats a round leave the device.
            problems = [(i, float(a)) for i, row in enumerate(ratios.tolist()) for a in row]
            masks = self._method.masks_at(self._model, query, problems)
            probability = self._ask(clip, lambda job: self._preserving(clip[job], masks[job]))
            return probability.view(N, A), masks.double().mean((1, 2, 3)).view(N, A)
        count = (ratios.flatten() * self._place[0].numel()).round()

        def cut_out(job: Tensor) -> Tensor:
            keep = (self._place[clip[job]] < count[job].view(-1, 1, 1, 1))[:, None]
            return torch.where(keep, query.frames[clip[job]], self._blurred[clip[job]])

        return self._ask(clip, cut_out).view(N, A), ratios.double()

    def _ask(self, clip: Tensor, frames: Callable[[Tensor], Tensor]) -> Tensor:
        """Returns Φ (N·A,) float64 of the target for the clips that `frames` makes for jobs, `max_batch` at a time."""
        target, found = self._query.target[clip], []
        for job in torch.split(torch.arange(len(clip), device=clip.device), self._model.max_batch):
            answer = self._model.probabilities(frames(job))
            found.append(answer.gather(1, target[job, None])[:, 0])
        return torch.cat(found).double()
