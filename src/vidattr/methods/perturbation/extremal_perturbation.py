"""Extremal perturbations of video: the mask of a given area that preserves the class probability best."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from vidattr.methods.perturbation.options import SIDES, Context, PerturbationOptions
from vidattr.methods.perturbation.pyramid import PYRAMIDS, Border, blur, perturb
from vidattr.methods.perturbation.solver import solve
from vidattr.models.network.network import VideoModel
from vidattr.models.speed.lagging import onto
from vidattr.progress import tracked
from vidattr.types import Explanation, MaskRow, Query


@dataclass(frozen=True)
class ExtremalPerturbation(PerturbationOptions):
    """EP-3D, EP-3D-Evenly and STEP (Li et al., WACV 2021) after extremal perturbations (Fong et al., ICCV 2019).

    For every clip and preservation ratio a, gradient descent on the seeds of a smooth mask (`smooth_mask.SmoothMax`)
    minimises

        E_t = ρ·(−reward(x ⊗ m)) + λ_t·area(m̂, a) + γ_t·cores(m̂, a),    λ_0 = λ, λ_(t+1) = growth·λ_t,   γ_t = γ from
        t > core_start

    with x ⊗ m the frames where m = 1 and their blur where m = 0 (`pyramid.perturb`). The map is the sum over the ratios
    of the masks of the last forward pass, each frame smoothed (`map_from_masks`): a single mask is 1 on large areas, so
    that its maximum is not unique.

    - EP-3D (eq. 5 and 6): the area is a share of the whole volume. EP-3D-Evenly (eq. 10 and 11): `per_frame_area`, of
      every frame. EP-3D (σ) (eq. 12): `temporal_sigma`. STEP (eq. 7 to 9): `core_kernel`.
    - All ratios of all clips are separate problems, solved in parallel, at most `max_batch` at once.
    - If the derivative of the reward is exactly 0 in all iterations, there is no evidence, and the map is 0.

    Unlike the paper, and as in its released code: −log Φ is minimised, where the paper maximises Φ; areas are shares of
    a plane larger than the frame, so that a mask inside the frame covers 1.43·a of it at 112 pixels; losses are means,
    not squared norms; λ grows; the core loss starts after 100 iterations; the blur is a pyramid of eight levels.

    Unlike that code: EP and STEP have the same ρ and the same growing λ (its demo gives EP ρ = 100 and a constant λ,
    STEP ρ = 1 and a growing λ: `ep3d_demo`, `step_demo`); tied values share the target unless `ties` says otherwise; a
    problem that has settled is stopped, unless `stop_window` is null; and the last of its 2000 iterations, in which the
    mask only follows the slowly growing λ, are replaced by a ninth of them (`late_from`), with nearly the same masks.
    `step_fast` runs the network in every fifth iteration only, from iteration 100 on (`mask_steps`).

    Unlike the paper, whose objective and results only preserve, `variant` may delete: the reward of x ⊗ (1 − m) is
    minimised instead of −reward(x ⊗ m). With the default reward that is log Φ, not −log(1 − Φ): it is not bounded from
    below, and its gradient does not vanish with the class probability. dual adds both with half the weight each, so
    that ρ has the same effect as in preserve; Fong et al.'s code adds both with full weight and uses logits, not log Φ.
    Areas and cores are those of m in every variant, and the map is m: 1 is important.

    The options are those of `PerturbationOptions`.

    The explanation's extras, T, H and W being the frames' and A the ratios': `masks` (N, A, T, H, W); `seeds` (N, A, T,
    h, w), before they are smoothed in time; `area_padded` and `area_visible` (N, A), shares of the mask's plane and of
    the frame; `probability` (N, A, iterations), Φ_y of the perturbed frames (of the preserved part, for dual), the last
    value repeated after an early stop; `iterations` (N, A); `ratios` (N, A), the `areas`.

    Raises:
        ConfigError: A field out of its range, or a core kernel longer than the clip or larger than the mask's plane.
    """

    version: ClassVar[int] = 2  # since 2 maps are smoothed with the border repeated
    mask_extras: ClassVar[frozenset[str]] = frozenset({"masks", "ratios", "probability", "area_visible"})

    @property
    def passes(self) -> int:
        """Iterations that run the network, per ratio and side of the mask, without early stops; `still`: times 16."""
        frames = 16 if self.context is Context.still else 1
        runs = sum(map(self.runs_network, range(self.iterations)))
        return runs * len(self.areas) * len(SIDES[self.variant]) * frames

    @property
    def smoothing(self) -> Callable[[Tensor], Tensor] | None:
        """Returns the function that smooths the maps (…, H, W) of this method; matched noise is smoothed by it too."""
        sigma, border = self.smooth_sigma, self.smooth_border
        return None if sigma is None else lambda maps: blur(maps, sigma, border)

    @property
    def joint_key(self) -> str:
        """All options but the ratios."""
        return repr(replace(self, areas=[1.0]))

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Explains N clips: ⌈N·A / max_batch⌉ times up to `iterations` forward and backward passes of a batch."""
        (found,) = self.explain_many(model, query, [self])
        return found

    def explain_many(
        self, model: VideoModel, query: Query, methods: Sequence[ExtremalPerturbation]
    ) -> list[Explanation]:
        """Explains N clips by `methods` that differ only in their ratios, in one optimisation of all ratios."""
        areas = list(dict.fromkeys(area for method in methods for area in method.areas))
        found = self.solve(model, query, [(i, area) for i in range(len(query.frames)) for area in areas])
        found = {name: rows.view(-1, len(areas), *rows.shape[1:]) for name, rows in found.items()}
        evidence = found.pop("moved")[:, :, None, None, None]
        masks = found["masks"]
        found["ratios"] = onto(masks.device, torch.tensor(areas, dtype=masks.dtype)).expand(len(query.frames), -1)
        explanations = []
        for method in methods:
            own = onto(masks.device, [areas.index(area) for area in method.areas])
            map = map_from_masks((masks * evidence).index_select(1, own), self.smooth_sigma, self.smooth_border)
            explanations.append(Explanation(map, {name: rows.index_select(1, own) for name, rows in found.items()}))
        return explanations

    def masks_at(self, model: VideoModel, query: Query, problems: Sequence[tuple[int, float]]) -> Tensor:
        """Returns the masks (P, T, H, W) of problems, each a clip's index and a ratio; `areas` does not matter."""
        return self.solve(model, query, problems)["masks"]

    def preserving(self, query: Query) -> Callable[[Tensor, Tensor], Tensor]:
        """Returns the function that keeps only the masked part of frames sharp.

        That function maps indices (P,) of clips and masks (P, T, H, W) to frames.
        """
        pyramid = PYRAMIDS[self.perturbation](query.frames)
        return lambda clips, masks: perturb(pyramid, clips, masks)[0]

    def mask_rows(self, extras: Mapping[str, Tensor]) -> list[MaskRow]:
        """Returns the mask of each ratio of one clip, with the probability that it keeps and its share of the frame."""
        facts = (extras["ratios"], extras["probability"][:, -1], extras["area_visible"])
        return [
            MaskRow(mask, f"ratio {ratio:g}", f"p = {p:.2f}, {area:.0%} of the frame")
            for mask, ratio, p, area in zip(extras["masks"], *(values.tolist() for values in facts), strict=True)
        ]

    def solve(self, model: VideoModel, query: Query, problems: Sequence[tuple[int, float]]) -> dict[str, Tensor]:
        """Solves problems, each a clip's index and a ratio, at most `max_batch` in parallel; `areas` is not used.

        Returns:
            By name, one row per problem: the extras, and `moved`, whether the reward's derivative was ever not 0.
        """
        count = math.ceil(len(problems) / model.max_batch)
        parts = [
            problems[k * len(problems) // count : (k + 1) * len(problems) // count] for k in range(count)
        ]  # even, as in `chunks`
        solved = [solve(self, model, query, list(part)) for part in tracked(parts, count, "parts")]
        return {name: torch.cat([part[name] for part in solved]) for name in solved[0]}


def map_from_masks(masks: Tensor, sigma: float | None, border: Border) -> Tensor:
    """Returns the map (N, T, H, W) float32 of masks (N, A, T, H, W): their sum over the ratios, each frame smoothed.

    Args:
        masks: 0 throughout where the reward never moved (`moved`): then there is no evidence.
        sigma: Standard deviation in pixels; None: not smoothed.
        border: The values beyond the border.
    """
    saliency = masks.sum(1)
    return (saliency if sigma is None else blur(saliency, sigma, border)).float()
