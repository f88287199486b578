"""The options of extremal perturbations, their ranges, and the schedule of the iterations that follows from them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum, auto

from vidattr.config.fields import LATER
from vidattr.errors import ConfigError
from vidattr.methods.perturbation.losses import CoreShape, CoreTopK, MaskTies, core_kernel
from vidattr.methods.perturbation.pyramid import Border, Perturbation
from vidattr.methods.perturbation.smooth_mask import Profile


class Context(StrEnum):
    """How a perturbed frame is shown to the network: in its clip, or alone, as a clip of one repeated frame."""

    clip = auto()
    still = auto()


class Variant(StrEnum):
    """What the mask does: preserve (m), delete (1 − m, and the reward is minimised), or both, averaged."""

    preserve = auto()
    delete = auto()
    dual = auto()


class Reward(StrEnum):
    """The maximised quantity: log Φ_y, the probability Φ_y, the logit z_y, or z_y minus the largest other logit."""

    logprob = auto()
    prob = auto()
    logit = auto()
    contrastive = auto()


# For each pass of a variant: whether the mask keeps (m) or takes away (1 − m).
SIDES: dict[Variant, tuple[bool, ...]] = {
    Variant.preserve: (True,),
    Variant.delete: (False,),
    Variant.dual: (True, False),
}

_LARGEST = 1e30
_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("iterations", "mask_steps", "seed_step", "stop_window", "late_from"), (1, math.inf)),
    **dict.fromkeys(
        ("area_growth", "late_growth", "seed_sigma", "temporal_sigma", "smooth_sigma", "coldness", "lr"),
        (1e-6, math.inf),
    ),
    **dict.fromkeys(("reward_weight", "area_weight", "core_weight", "stop_tolerance"), (0, math.inf)),
    **dict.fromkeys(("core_start", "mask_steps_from"), (0, math.inf)),
    **dict.fromkeys(("momentum", "dampening"), (0, 1)),
}


@dataclass(frozen=True)
class PerturbationOptions:
    """The options of `ExtremalPerturbation`; the equations in its docstring define the symbols.

    Attributes:
        areas: Preservation ratios a.
        iterations: Steps of gradient descent, at most.
        mask_steps: Iterations for each pass of the network, from `mask_steps_from` on: the network is run in the first
            of them, and its derivative by the mask is kept for the others. Unlike the paper, if above 1.
        mask_steps_from: First iteration of these; in those before it, the network is run each time. Early iterations
            decide where the mask is, and need a derivative each; later ones only make it sharp.
        context: clip: the network gets the perturbed clip. still: the image method, a baseline: the network gets each
            frame alone, repeated to a clip, and the reward is the mean over the frames. Unlike an image network, this
            one was never trained on clips without motion.
        perturbation: blur or fade.
        variant: preserve, delete or dual.
        reward: Unlike the paper, which maximises Φ, the default is log Φ, as in the code.
        reward_weight: ρ.
        area_weight: λ at the first iteration.
        area_growth: Growth of λ per iteration; 1.0008668 doubles it in 800.
        late_from: First iteration from which λ grows by `late_growth`, when masks hardly move any more; null: never.
        late_growth: By default the growth of nine iterations, so that 400 end at the λ of the released demo's 2000.
        per_frame_area: Whether the ratio holds for every frame, or for the clip as a whole.
        core_kernel: [kt, kh, kw] of the core loss; empty: no core loss. The paper gives no size: its demo has 7×11×11,
            the code of its successor 5 or 8 frames.
        core_stride: Of the core loss's windows.
        core_shape: ellipsoid or cylinder.
        core_topk: How many windows should be full (`losses.core_ones`); the paper does not say.
        core_weight: γ.
        core_start: Last iteration, from 0, without the core loss; not in the paper.
        temporal_sigma: Standard deviation in frames of the smoothing of seeds in time; null: none. The three values of
            the paper are not known.
        temporal_profile: The kernel of this smoothing; the paper does not say which of the two.
        seed_step: Pixels between two seeds.
        seed_sigma: Radius in pixels of a seed's disc; null: 11 at 112 pixels, 23 at 224 (`smooth_mask.released_sigma`).
        coldness: β of the smooth maximum.
        lr: Learning rate.
        momentum: Of gradient descent.
        dampening: Of its momentum; not at the first iteration.
        ties: share, or shuffle as in the code of the paper's successor (Li et al., TCSVT 2021), by the clip's own seed.
        smooth_sigma: Standard deviation in pixels of the map's smoothing; null: none. Unlike in the released
            evaluation, the map is not divided by its maximum afterwards.
        smooth_border: The values beyond the border. nearest: the border's own pixels, as in the released evaluation.
            Unlike it, zero lets the map fade towards the border, so that peaks move to the centre, where most datasets
            have their objects; version 1 used zero.
        stop_window: Iterations between two checks whether a problem has settled; null: all iterations are computed.
        stop_tolerance: A problem has settled if, since the last check, its probability changed by less than this and
            Σ min / Σ max of its two masks is above 1 minus this. The first check is after the core loss has started and
            after `late_from`.

    Raises:
        ConfigError: A field out of its range.
    """

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
    mask_steps: int = field(default=1, metadata=LATER)
    mask_steps_from: int = field(default=0, metadata=LATER)

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
        if self.core_kernel and not core_kernel(self.core_kernel, self.core_shape).any():
            raise ConfigError(
                f"method.core_kernel={list(self.core_kernel)}: no voxel lies within the {self.core_shape}",
                expected="lengths of which the centre is a voxel: odd ones, such as [7, 11, 11]",
            )
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= min(high, _LARGEST):
                raise ConfigError(
                    f"method.{name}={value}",
                    expected=f"at least {low:g}" + (f" and at most {high:g}" if high < math.inf else ""),
                )

    def runs_network(self, iteration: int) -> bool:
        """Returns whether the network is run at an iteration, counted from 0."""
        return iteration < self.mask_steps_from or (iteration - self.mask_steps_from) % self.mask_steps == 0

    def looks(self, iteration: int) -> bool:
        """Returns whether settled problems are stopped at this iteration, counted from 0."""
        first = max(self.core_start + 1 if self.core_kernel else 0, self.late_from or 0)
        return self.stop_window is not None and iteration >= first and (iteration - first) % self.stop_window == 0

    def weight(self, iteration: int) -> float:
        """Returns λ at an iteration, counted from 0; it stops growing where a float32 would overflow."""
        early = iteration if self.late_from is None else min(iteration, self.late_from)
        try:
            grown = self.area_weight * self.area_growth**early * self.late_growth ** (iteration - early)
        except OverflowError:
            grown = _LARGEST
        return min(grown, _LARGEST)
