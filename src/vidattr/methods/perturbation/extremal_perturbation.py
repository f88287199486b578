"""The mask of a given area that keeps the network sure of its class: extremal perturbations of video."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from vidattr.errors import ConfigError
from vidattr.methods.perturbation.losses import CoreShape, CoreTopK, MaskTies
from vidattr.methods.perturbation.pyramid import Border, Perturbation, blur
from vidattr.methods.perturbation.smooth_mask import Profile
from vidattr.methods.perturbation.solver import SIDES, Context, Reward, Variant, solve
from vidattr.models.network.network import VideoModel
from vidattr.types import Explanation, Query

_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("iterations", "seed_step", "stop_window", "late_from"), (1, math.inf)),
    **dict.fromkeys(
        ("area_growth", "late_growth", "seed_sigma", "temporal_sigma", "smooth_sigma", "coldness", "lr"),
        (1e-6, math.inf),
    ),
    **dict.fromkeys(("reward_weight", "area_weight", "core_weight", "core_start", "stop_tolerance"), (0, math.inf)),
    **dict.fromkeys(("momentum", "dampening"), (0, 1)),
}


@dataclass(frozen=True)
class ExtremalPerturbation:
    """EP-3D, EP-3D-Evenly and STEP (Li et al., WACV 2021) after extremal perturbations (Fong et al., ICCV 2019).

    For every clip and preservation ratio a, gradient descent on the seeds of a smooth mask (`_seeds.SmoothMax`)
    minimises

        E_t = ρ·(−reward(x ⊗ m)) + λ_t·area(m̂, a) + γ_t·cores(m̂, a),    λ_0 = λ, λ_(t+1) = growth·λ_t,   γ_t = γ from
        t > core_start

    with x ⊗ m the frames where m = 1 and their blur where m = 0 (`_pyramid.perturb`). The map is the sum over the
    ratios of the masks of the last forward pass, each frame smoothed (`map_from_masks`): one mask is 1 on large
    plateaus, on which a maximum is a tie.

    - EP-3D (eq. 5 and 6): the area is a share of the whole volume. EP-3D-Evenly (eq. 10 and 11): `per_frame_area`, of
      every frame. EP-3D (σ) (eq. 12): `temporal_sigma`. STEP (eq. 7 to 9): `core_kernel`.
    - All ratios of all clips are problems of their own, solved side by side, at most `max_batch` at once.
    - Where no mask ever moved the reward, derivative exactly 0 throughout, there is no evidence, and the map is 0.

    Unlike the paper, as its released code has it: −log Φ is minimised where the paper maximises Φ; areas are shares of
        a
    plane larger than the frame, so that a mask inside the frame covers 1.43·a of it at 112 pixels; losses are means,
    not squared norms; λ grows; cores join after 100 iterations; the blur is a pyramid of eight levels. Unlike that
    code: EP and STEP have the same ρ and the same growing λ (its demo gives EP 100 and a constant λ, STEP 1 and a
    growing one: `ep3d_demo`, `step_demo`); ties are shared unless `ties` says otherwise; a problem that has settled is
    stopped, unless `stop_window` is null; and the last of its 2000 iterations, in which the mask only follows the
    slowly growing λ, are made in a ninth of the time (`late_from`), with nearly the same masks.
    Unlike the paper, whose objective and results only preserve, `variant` may delete: the reward of x ⊗ (1 − m) is
    minimised in place of −reward(x ⊗ m). With the default reward that is log Φ, not −log(1 − Φ): it has no lower end,
    and its gradient stays when the class is gone. dual adds both, at half weight each, so that ρ weighs as much as in
    preserve; Fong et al.'s code adds both at full weight and takes logits, not log Φ. Areas and cores are m's in every
    variant, and the map is m: 1 is what matters.

    Attributes:
        areas: Preservation ratios a.
        iterations: Steps of gradient descent, at most.
        context: clip: the perturbed frames are seen together. still: the image method, a baseline. Each frame is shown
            alone, repeated to a clip that stands still, and the reward is the mean over the frames. Unlike an image
            network, this one was never trained on what does not move.
        perturbation: blur or fade.
        variant: preserve, delete or dual.
        reward: Unlike the paper, which names Φ, the default is log Φ, as in the code.
        reward_weight: ρ.
        area_weight: λ at the first iteration.
        area_growth: Growth of λ an iteration; 1.0008668 doubles it in 800.
        late_from: First iteration from which λ grows by `late_growth`, when masks have found their place; null: never.
        late_growth: By default the growth of nine iterations, so that 400 end at the λ of the released demo's 2000.
        per_frame_area: Whether every frame is given the same area, or the clip as a whole.
        core_kernel: [kt, kh, kw] of the core loss; empty: there is none. The paper gives no size: its demo has 7×11×11,
            the code of its successor 5 or 8 frames.
        core_stride: Of the core loss's windows.
        core_shape: ellipsoid or cylinder.
        core_topk: How many windows shall be full (`_extremal.core_ones`); the paper does not say.
        core_weight: γ.
        core_start: Last iteration, from 0, without core loss; not in the paper.
        temporal_sigma: Standard deviation in frames of the smoothing of seeds in time; null: none. The paper's three
            are lost.
        temporal_profile: Its kernel; the paper does not say which of two.
        seed_step: Pixels between two seeds.
        seed_sigma: Radius in pixels of what a seed paints; null: 11 at 112 pixels, 23 at 224 (`_seeds.released_sigma`).
        coldness: β of the smooth maximum.
        lr: Learning rate.
        momentum: Of gradient descent.
        dampening: Of its momentum; not at the first iteration.
        ties: share, or shuffle as in the code of the paper's successor (Li et al., TCSVT 2021), by the clip's own seed.
        smooth_sigma: Standard deviation in pixels of the map's smoothing; null: none. Unlike in the released
            evaluation, the map is not divided by its maximum afterwards.
        smooth_border: What the smoothing sees beyond the border. nearest: the border's own pixels again, as in the
            released evaluation. Unlike it, zero: a map that fades towards the border, so that peaks move to the centre,
            where most data sets have their objects; it was what version 1 did.
        stop_window: Iterations between two looks at whether a problem has settled; null: all iterations are made.
        stop_tolerance: It has, if since the last look its probability moved by less than this, and Σ min / Σ max of its
            two masks by less than this from 1. The first look is after cores have joined, and after `late_from`.

    The explanation's extras, T, H and W being the frames' and A the ratios': `masks` (N, A, T, H, W); `seeds` (N, A, T,
    h, w), before they are smoothed in time; `area_padded` and `area_visible` (N, A), shares of the mask's plane and of
    the frame; `probability` (N, A, iterations), Φ_y of the perturbed frames (of what is kept, if there are both), the
    last one repeated after an early stop; `iterations` (N, A); `ratios` (N, A), `areas` again.

    Raises:
        ConfigError: A field out of its range, or a core kernel longer than the clip or larger than the mask's plane.
    """

    version: ClassVar[int] = 2  # since 2 maps are smoothed with the border repeated

    areas: list[float] = field(default_factory=lambda: [0.02, 0.05, 0.1, 0.2])
    iterations: int = 400
    context: Context = Context.clip
    perturbation: Perturbation = Perturbation.blur
    variant: Variant = Variant.preserve
    reward: Reward = Reward.logprob
    reward_weight: float = 1.0
    area_weight: float = 300.0
    area_growth: float = 1.0008668
    late_from: int | None = 200
    late_growth: float = 1.0078283
    per_frame_area: bool = False
    core_kernel: list[int] = field(default_factory=list)
    core_stride: list[int] = field(default_factory=lambda: [1, 11, 11])
    core_shape: CoreShape = CoreShape.ellipsoid
    core_topk: CoreTopK = CoreTopK.count
    core_weight: float = 300.0
    core_start: int = 100
    temporal_sigma: float | None = None
    temporal_profile: Profile = Profile.code
    seed_step: int = 7
    seed_sigma: float | None = None
    coldness: float = 20.0
    lr: float = 0.05
    momentum: float = 0.9
    dampening: float = 0.9
    ties: MaskTies = MaskTies.share
    smooth_sigma: float | None = 10.0
    smooth_border: Border = Border.nearest
    stop_window: int | None = 25
    stop_tolerance: float = 0.01

    def __post_init__(self) -> None:
        if not self.areas or not all(0 < area <= 1 for area in self.areas) or len(set(self.areas)) < len(self.areas):
            raise ConfigError(f"method.areas={list(self.areas)}", expected="ratios above 0, up to 1, all different")
        if (
            len(self.core_kernel) not in (0, 3)
            or len(self.core_stride) != 3
            or min(*self.core_kernel, *self.core_stride, 1) < 1
        ):
            found = f"method.core_kernel={list(self.core_kernel)} method.core_stride={list(self.core_stride)}"
            raise ConfigError(
                found, expected="[frames, rows, columns] of at least 1 each; an empty kernel: no core loss"
            )
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= min(high, 1e30):
                raise ConfigError(
                    f"method.{name}={value}",
                    expected=f"at least {low:g}" + (f" and at most {high:g}" if high < math.inf else ""),
                )

    @property
    def passes(self) -> int:
        """One an iteration, ratio and side of the mask, if nothing stops early; with still frames, one per frame of a clip of 16."""
        frames = 16 if self.context is Context.still else 1
        return self.iterations * len(self.areas) * len(SIDES[self.variant]) * frames

    def looks(self, iteration: int) -> bool:
        """Returns whether problems that have settled are stopped at this iteration, from 0."""
        first = max(self.core_start + 1 if self.core_kernel else 0, self.late_from or 0)
        return self.stop_window is not None and iteration >= first and (iteration - first) % self.stop_window == 0

    def weight(self, iteration: int) -> float:
        """Returns λ of an iteration, from 0."""
        early = iteration if self.late_from is None else min(iteration, self.late_from)
        return self.area_weight * self.area_growth**early * self.late_growth ** (iteration - early)

    @property
    def smoothing(self) -> Callable[[Tensor], Tensor] | None:
        """Returns what smooths the maps (…, H, W) of this method: noise that is compared with them goes through it as well."""
        sigma, border = self.smooth_sigma, self.smooth_border
        return None if sigma is None else lambda maps: blur(maps, sigma, border)

    @property
    def kind(self) -> str:
        """All constants but the ratios."""
        return repr(replace(self, areas=[1.0]))

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Explains N clips: ⌈N·A / max_batch⌉ times up to `iterations` forward and backward passes of a batch."""
        (found,) = self.explain_many(model, query, [self])
        return found

    def explain_many(
        self, model: VideoModel, query: Query, methods: Sequence[ExtremalPerturbation]
    ) -> list[Explanation]:
        """Explains N clips by each of `methods`, which differ in their ratios only, in one optimisation of all ratios."""
        areas = list(dict.fromkeys(area for method in methods for area in method.areas))
        found = self.solve(model, query, [(i, area) for i in range(len(query.frames)) for area in areas])
        found = {name: rows.view(-1, len(areas), *rows.shape[1:]) for name, rows in found.items()}
        evidence = found.pop("moved")[:, :, None, None, None]
        found["ratios"] = found["masks"].new_tensor(areas).expand(len(query.frames), -1)
        explanations = []
        for method in methods:
            own = [areas.index(area) for area in method.areas]
            map = map_from_masks((found["masks"] * evidence)[:, own], self.smooth_sigma, self.smooth_border)
            explanations.append(Explanation(map, {name: rows[:, own] for name, rows in found.items()}))
        return explanations

    def solve(self, model: VideoModel, query: Query, problems: Sequence[tuple[int, float]]) -> dict[str, Tensor]:
        """Solves problems, each a clip's index and a ratio, at most `max_batch` side by side; `areas` is not asked.

        Returns:
            By name, one row a problem: the extras, and `moved`, whether the reward's derivative was ever not 0.
        """
        count = math.ceil(len(problems) / model.max_batch)
        parts = [
            problems[k * len(problems) // count : (k + 1) * len(problems) // count] for k in range(count)
        ]  # even, as in `chunks`
        solved = [solve(self, model, query, list(part)) for part in parts]
        return {name: torch.cat([part[name] for part in solved]) for name in solved[0]}


def map_from_masks(masks: Tensor, sigma: float | None, border: Border) -> Tensor:
    """Returns the map (N, T, H, W) float32 of masks (N, A, T, H, W): their sum over the ratios, each frame smoothed.

    Args:
        masks: 0 throughout where the reward never moved (`moved`): then there is no evidence.
        sigma: Standard deviation in pixels; None: not smoothed.
        border: What the smoothing sees beyond the border.
    """
    saliency = masks.sum(1)
    return (saliency if sigma is None else blur(saliency, sigma, border)).float()
