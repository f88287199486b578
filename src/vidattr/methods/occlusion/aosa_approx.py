"""Tubes of equal motion, occluded in the network's linear approximation instead of in the network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import ClassVar

import torch
from torch import Tensor

from vidattr.errors import ConfigError
from vidattr.methods.occlusion.conditional_fill import mean_field
from vidattr.methods.occlusion.integral_image import members, spread, union_sums
from vidattr.methods.occlusion.occlude import MEANS, REPLACEMENTS, WEIGHTS, Aggregate, Replacement
from vidattr.methods.occlusion.tubes import TubeOptions, Tubes, tubes, union_mask
from vidattr.methods.shared.gradients import derivative
from vidattr.methods.shared.scores import Score, chunks, score_of
from vidattr.models.network.network import VideoModel
from vidattr.models.speed.lagging import onto
from vidattr.profiling import stage
from vidattr.types import Explanation, Query


class Relu(StrEnum):
    """Which elements J_c (x_c − μ_c) of a voxel count.

    `lowering`: those whose replacement lowers the score; `printed`: those where it raises the score, as eq. (8) has it,
    against the text; `none`: all, there is no ReLU.
    """

    lowering = auto()
    printed = auto()
    none = auto()


class Refine(StrEnum):
    """Whether the score is linearised once (`none`), or again for outlying tubes (`tukey`)."""

    none = auto()
    tukey = auto()


_RELUS: dict[Relu, Callable[[Tensor], Tensor]] = {
    Relu.lowering: lambda lowered: lowered.clamp(min=0),
    Relu.printed: lambda lowered: lowered.clamp(max=0),  # −ReLU(J (μ − x))
    Relu.none: lambda lowered: lowered,
}


@dataclass(frozen=True)
class AOSAApprox(TubeOptions):
    """AOSA-approx (Uchiyama et al., WACV 2023): one forward and one backward pass, whatever the number of tubes.

    With J = ∂f/∂x at the clip x and μ the content of a filled tube, the drop f(x) − f(x with Ω_i filled) is to first
    order

    S_i = Σ_{q ∈ Ω_i} G(q),  G(q) = Σ_c ReLU(J_c(q) (x_c(q) − μ_c(q)))

    which is eq. (5) to (7), and with the ReLU, applied to each element before any sum, eq. (8). Draws from N(μ, Σ) are
    not needed: the mean of a linear function of them depends on their mean μ only.

    Unlike the paper, whose printed eq. (8), S = −Σ ReLU(J (μ − x)), keeps the elements that its text leaves out,
    `lowering` follows the text.

    `refine=tukey` follows the idea of the released code: groups whose S_i lies outside Tukey's fences, 1.5
    interquartile ranges beyond the quartiles, are predicted again from the clip x* with the most extreme group Ω_*
    occluded, S_i = f(x) − f(x*) + Σ_{Ω_i} G* − Σ_{Ω_*} G*, where G* is G with J at x*; once for each side. Unlike the
    released code, whose new prediction f(x*) + Σ_{Ω_i} J* (v − x*) leaves Ω_* occluded together with Ω_i, the last term
    restores Ω_*. The released code fills x* with 0 whatever v is, and applies no ReLU.

    Attributes:
        fill: μ: for `conditional` the mean of the neighbourhood (`conditional_fill`), otherwise as in AOSA. The paper's
            baseline without conditional sampling is `zero`.
        extent: How many pixels around a voxel are its neighbourhood for `fill=conditional`.
        relu: Which elements count.
        refine: Whether outlying groups are predicted again; it takes two more forward and backward passes per clip.
        score: f: the probability (the released code), the logit, the probability's logarithm, or its log-odds. Where
            the probability is near 1 its gradient vanishes: the order of the voxels changes little, their values do.
        aggregate: How the S_i are combined into a map, as in AOSA, with f(x) − S_i for f_i. The paper does not say;
            `eq2` is least suitable, because f(x) − S_i may leave [0, 1].

    The other options are those of `TubeOptions`. The explanation's extras are those of AOSA, `drops` being the S_i.

    Raises:
        ConfigError: A number out of range, or weights of an optical flow that does not take them.
    """

    version: ClassVar[int] = 1

    fill: Replacement = Replacement.conditional
    extent: int = 4
    relu: Relu = Relu.lowering
    refine: Refine = Refine.none
    score: Score = Score.prob
    aggregate: Aggregate = Aggregate.drop

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.extent < 1:
            raise ConfigError(f"method.extent={self.extent}", expected="a positive number")

    @property
    def passes(self) -> int:
        """One forward and backward, or three."""
        return 1 if self.refine is Refine.none else 3

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Explains N clips by one forward and one backward pass each, in chunks of `max_batch`."""
        frames = query.frames.detach()
        found = tubes(query, model.view, self)
        with stage("masks"):
            conditional = self.fill is Replacement.conditional
            fill = mean_field(frames, self.extent) if conditional else REPLACEMENTS[self.fill](frames, model.view)
        f0, gradient = linearise(model, frames, query.target, self.score)
        with stage("assembly"):
            field = self._field(gradient, frames - fill)
            drops, areas = union_sums(torch.stack([field, torch.ones_like(field)]), found.rectangles, found.groups)
        if self.refine is Refine.tukey:
            drops = self._refined(model, query, found, fill, f0, drops)
        with stage("assembly"):
            lived = (found.groups[..., 0] >= 0).double()
            weights = lived * WEIGHTS[self.aggregate](drops, f0.double()[:, None], 1 - areas / field[0].numel())
            inside, coverage = spread(
                torch.stack([weights, lived]), found.rectangles, found.groups, (frames.shape[3], frames.shape[4])
            )
            everywhere, number = weights.sum(1, keepdim=True), lived.sum(1, keepdim=True).clamp(min=1)
            total = MEANS[self.aggregate](inside.flatten(1), everywhere, coverage.flatten(1), number).view_as(inside)
        extras = {"f0": f0.float(), "drops": drops.float(), "coverage": coverage.int()}
        return Explanation(total.float(), {**extras, "rectangles": found.rectangles, "partners": found.partners})

    def _field(self, gradient: Tensor, change: Tensor) -> Tensor:
        """Returns G (N, T, H, W)."""
        return _RELUS[self.relu](gradient * change).sum(1)

    def _refined(
        self, model: VideoModel, query: Query, found: Tubes, fill: Tensor, f0: Tensor, drops: Tensor
    ) -> Tensor:
        """Returns the drops, with the outlying ones predicted again."""
        frames = query.frames.detach()
        lived, clip = found.groups[..., 0] >= 0, torch.arange(len(frames), device=frames.device)
        quarters = onto(drops.device, torch.tensor([0.25, 0.75], dtype=drops.dtype))
        first, third = drops.where(lived, torch.nan).nanquantile(quarters, 1, keepdim=True)
        reach = 1.5 * (third - first)
        refined = drops
        # Both sides are always computed, because a check for outliers would move a number off the device.
        for side, outlying in ((drops, drops > third + reach), (-drops, drops < first - reach)):
            with stage("masks"):
                extreme = side.where(lived, -torch.inf).argmax(1, keepdim=True)
                united = members(found.rectangles, found.groups[clip[:, None], extreme])[:, 0]
                mask = union_mask(united, (frames.shape[3], frames.shape[4]))
                occluded = torch.where(mask.unsqueeze(1), fill, frames)
            there, gradient = linearise(model, occluded, query.target, self.score)
            with stage("assembly"):
                (sums,) = union_sums(self._field(gradient, frames - fill)[None], found.rectangles, found.groups)
                anew = (f0.double() - there.double())[:, None] + sums - sums.gather(1, extreme)
                refined = anew.where(outlying & lived, refined)
        return refined


def linearise(model: VideoModel, frames: Tensor, target: Tensor, score: Score) -> tuple[Tensor, Tensor]:
    """Returns the score (N,) of frames and its gradient (N, C, T, H, W), of one forward and one backward pass each."""
    values, gradients = [], []
    with torch.enable_grad():
        for x, y in chunks(model, frames, target):
            leaf = x.detach().requires_grad_()
            value = score_of(model(leaf), y, score, model.output)
            gradients.append(derivative(value, leaf))
            values.append(value.detach())
    return torch.cat(values), torch.cat(gradients)
