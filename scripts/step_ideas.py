"""Ideas for STEP with fewer passes of the network, and the descent of a batch of masks by an idea."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d

import vidattr
from step_rules import (
    LBFGS,
    Adam,
    BarzilaiBorwein,
    ConjugateGradients,
    Diagonal,
    Nesterov,
    Point,
    Proximal,
    Rule,
    Undamped,
)
from vidattr.methods.perturbation.energy import EnergyOfMasks
from vidattr.methods.perturbation.extremal_perturbation import ExtremalPerturbation
from vidattr.methods.perturbation.pyramid import PYRAMIDS
from vidattr.methods.perturbation.reward import slope_of
from vidattr.methods.perturbation.smooth_mask import SmoothMax, released_sigma
from vidattr.models.network.network import VideoModel
from vidattr.types import Query

GROWTH = 1.0008668
RATIO = 0.1
EVERY = 20  # passes between two points of the curve
_SHIFT = 2.0**-10  # of seeds, for the difference that stands for a derivative


@dataclass(frozen=True)
class Idea:
    """A way to fewer passes.

    Attributes:
        steps: Steps of the descent.
        base: The method whose fields are changed.
        fields: The changed fields.
        rule: What turns derivatives into steps.
        after: First step of that rule; before it, gradient descent with momentum.
        coarse: Steps, from the first, in which each block of 2 × 2 × 2 seeds (time, rows, columns) moves as one.
        first_ratio: The ratio of the first half of the steps; None: the asked one.
        ahead: Steps, from the first, in which the reward's derivative is extrapolated from the last two passes, and
            in which the network is run at every second one.
    """

    steps: int
    base: str = "step"
    fields: dict[str, Any] = field(default_factory=dict)
    rule: type[Rule] = Rule
    after: int = 0
    coarse: int = 0
    first_ratio: float | None = None
    ahead: int = 0


LATE = {"late_from": 100, "late_growth": GROWTH**19}  # λ grows faster, so that 200 steps end at that of 2000
TWICE = {"lr": 0.1, "core_start": 50, "area_growth": GROWTH**2, "late_from": 100, "late_growth": GROWTH**18}
TEN = {"mask_steps": 10, "late_from": 200}

IDEAS = {
    "`step`": Idea(400),
    "`step_fast`": Idea(596, base="step_fast"),
    "`step_demo`, stopped": Idea(200, base="step_demo"),
    "λ grows faster from 100 on": Idea(200, fields=LATE),
    "no momentum": Idea(200, fields={**LATE, "momentum": 0.0, "dampening": 0.0}),
    "Nesterov's momentum": Idea(200, fields=LATE, rule=Nesterov),
    "steps twice as long, half the momentum's memory": Idea(200, fields={**TWICE, "momentum": 0.8, "dampening": 0.8}),
    "steps twice as long, full memory": Idea(200, fields=TWICE),
    "10 mask steps a pass, from step 150 on": Idea(
        650, fields={**TEN, "mask_steps_from": 150, "late_growth": GROWTH**4}
    ),
    "10 mask steps a pass, from step 100 on": Idea(
        460, fields={**TEN, "mask_steps_from": 100, "late_growth": GROWTH**6.9}
    ),
    "10 mask steps a pass, from step 100 on, 600 steps": Idea(
        600, fields={**TEN, "mask_steps_from": 100, "late_growth": GROWTH**4.5}
    ),
    "10 mask steps a pass, from step 60 on": Idea(
        460, fields={**TEN, "mask_steps_from": 60, "late_growth": GROWTH**6.9}
    ),
    "2 mask steps a pass": Idea(400, fields={"mask_steps": 2}),
    "2 mask steps a pass, derivative extrapolated, 10 from step 100 on": Idea(
        460, fields={**TEN, "mask_steps_from": 100, "late_growth": GROWTH**6.9}, ahead=100
    ),
    "5 mask steps a pass": Idea(1000, fields={"mask_steps": 5, "late_from": 500, "late_growth": GROWTH**3}),
    "coarse seeds in the first half": Idea(200, fields=LATE, coarse=100),
    "from the mask of twice the ratio": Idea(200, fields=LATE, first_ratio=2 * RATIO),
    "Adam": Idea(200, fields=LATE, rule=Adam),
    "diagonal Newton steps": Idea(200, fields=LATE, rule=Undamped),
    "diagonal Newton steps from step 60 on, damped": Idea(200, fields=LATE, rule=Diagonal, after=60),
    "diagonal Newton steps from step 100 on, damped": Idea(200, fields=LATE, rule=Diagonal, after=100),
    "L-BFGS": Idea(200, fields=LATE, rule=LBFGS),
    "L-BFGS from step 60 on": Idea(200, fields=LATE, rule=LBFGS, after=60),
    "Barzilai-Borwein steps": Idea(200, fields=LATE, rule=BarzilaiBorwein),
    "Barzilai-Borwein steps from step 60 on": Idea(200, fields=LATE, rule=BarzilaiBorwein, after=60),
    "conjugate gradients": Idea(200, fields=LATE, rule=ConjugateGradients),
    "minima between passes in a trust region": Idea(
        360,
        fields={
            "mask_steps": 3,
            "core_start": 180,
            "area_growth": GROWTH ** (100 / 180),
            "late_from": 180,
            "late_growth": GROWTH ** (1900 / 180),
        },
        rule=Proximal,
    ),
}


class Problems:
    """The masks of some clips at one ratio, and the state of their descent."""

    def __init__(self, idea: Idea, network: VideoModel, query: Query) -> None:
        fields = {"areas": [RATIO], "iterations": idea.steps, "stop_window": None, **idea.fields}
        method = vidattr.load_method(idea.base, **fields)
        assert isinstance(method, ExtremalPerturbation)
        self.idea, self.method, self.network, self.query = idea, method, network, query
        frames, count = query.frames, len(query.frames)
        T, H, W = frames.shape[2:]
        self.smooth = SmoothMax((H, W), method.seed_step, released_sigma(H, W), method.coldness, frames)
        plane = (T, *self.smooth.plane)
        self.energy = EnergyOfMasks(method, query.seeds, [RATIO] * count, plane, frames)
        self.first_energy = EnergyOfMasks(method, query.seeds, [idea.first_ratio or RATIO] * count, plane, frames)
        self.pyramid = PYRAMIDS[method.perturbation](frames)
        self.seeds = frames.new_ones(count, T, *self.smooth.grid)
        rates = (method.lr, method.momentum, method.dampening)
        self.rules = (Rule(*rates, self.seeds), idea.rule(*rates, self.seeds))  # before `after`, and from it on
        self.mask, self.plane, self.slope, self.probability = (torch.zeros(0) for _ in range(4))
        self.rise, self.error = torch.zeros(()), torch.zeros(count)  # of the slope per step; as in `Point`
        self.step = self.passes = self.last_pass = 0

    def state(self) -> dict[str, Any]:
        """Returns what `resume` needs, for gradient descent with momentum from the first step on."""
        names = ("seeds", "mask", "slope", "probability", "step", "passes")
        return {"velocity": self.rules[1].velocity, **{name: getattr(self, name) for name in names}}

    def resume(self, state: dict[str, Any]) -> None:
        """Continues from a state."""
        self.rules[1].velocity = state["velocity"]
        for name in self.state().keys() - {"velocity"}:
            setattr(self, name, state[name])

    def advance(self) -> None:
        """Takes one step of the descent, with a pass of the network where the derivative is due."""
        method, clips, t = self.method, torch.arange(len(self.seeds)), self.step
        with torch.enable_grad():
            leaf = self.seeds.detach().requires_grad_()
            plane = self.smooth(leaf)
            mask = self.smooth.crop(plane)
        passed = self.runs_network(t)
        if passed:
            self._run_network(mask.detach(), clips)
            self.plane = plane.detach()
        slope = self.slope + (t - self.last_pass) * self.rise if t < self.idea.ahead else self.slope
        with torch.enable_grad():
            energy = method.reward_weight * (mask * slope).sum((1, 2, 3)) + self._terms(plane, method.weight(t))
            (gradient,) = torch.autograd.grad(energy.sum(), leaf, retain_graph=True)
        if t < self.idea.coarse:
            gradient = in_blocks(gradient)
        point = Point(t, self.seeds, gradient, passed, self.error, lambda: self.curvature(leaf, plane))
        self.seeds = self.rules[t >= self.idea.after](point).clamp(0, 1)
        self.step += 1

    def runs_network(self, t: int) -> bool:
        """Returns whether the network is run for a step."""
        return t % 2 == 0 if t < self.idea.ahead else self.method.runs_network(t)

    def _run_network(self, mask: Tensor, clips: Tensor) -> None:
        """Finds the slope at a mask, and how well the last slope predicted the reward there."""
        answer = slope_of(self.method, self.network, self.pyramid, clips, self.query.target, mask)
        if self.passes:
            predicted = (self.slope * (mask - self.mask)).sum((1, 2, 3))
            actual = self.probability.log() - answer[0].log()
            self.error = (actual - predicted).abs() / (predicted.abs() + 0.01)
            self.rise = (answer[1] - self.slope) / (self.step - self.last_pass)
        self.probability, self.slope = answer
        self.mask, self.last_pass = mask, self.step
        self.passes += 1

    def _terms(self, plane: Tensor, weight: float) -> Tensor:
        """Returns the terms (N,) of area, with the weight λ, and cores."""
        terms = self.first_energy if 2 * self.step < self.idea.steps else self.energy
        clips, cores = torch.arange(len(plane)), self.step > self.method.core_start
        return terms(torch.tensor([weight]), plane, clips, terms.area, terms.cores, cores=cores)

    def curvature(self, leaf: Tensor, plane: Tensor) -> Tensor:
        """Returns the row sums JᵀAJ·1 of the Gauss-Newton matrix of area and cores.

        J is the derivative of the plane by the seeds, A the second derivative by the plane: 2λ/V for the area, and as
        much for the cores' windows. Where no number is negative, the row sums as a diagonal bound the matrix from
        above; its own diagonal does not, because neighbouring seeds share their pixels. J·1 is a difference.
        """
        moved = (plane.detach() - self.smooth(leaf.detach() - _SHIFT)) / _SHIFT
        with torch.enable_grad():
            values = plane.detach().requires_grad_()
            terms = self._terms(values, self.method.weight(self.step)).sum()
            (first,) = torch.autograd.grad(terms, values, create_graph=True)
            (second,) = torch.autograd.grad(first, values, moved)
        (rows,) = torch.autograd.grad(plane, leaf, second, retain_graph=True)
        return rows.clamp(min=0)

    def final_energy(self, plane: Tensor, probability: Tensor) -> Tensor:
        """Returns the energy (N,) of the released 2000th iteration for a plane and its probability."""
        clips, weight = torch.arange(len(plane)), torch.tensor([self.method.area_weight * GROWTH**1999])
        losses = self.energy(weight, plane, clips, self.energy.area, self.energy.cores, cores=True)
        return losses - self.method.reward_weight * probability.log()

    def masks(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yields passes, masks (N, T, H, W) and probabilities (N,), every `EVERY` passes and at the end."""
        while self.step < self.idea.steps:
            before = self.passes
            self.advance()
            if (self.passes > before and self.passes % EVERY == 0) or self.step == self.idea.steps:
                yield self.passes, self.mask, self.probability


def in_blocks(values: Tensor) -> Tensor:
    """Returns (N, T, h, w) with each block of 2 × 2 × 2 values replaced by its mean; blocks at the end are smaller."""
    means = avg_pool3d(values[:, None], 2, ceil_mode=True)[:, 0]
    for axis, length in enumerate(values.shape[1:], start=1):
        means = means.repeat_interleave(2, axis).narrow(axis, 0, length)
    return means
