"""Rules that turn the energy's derivative by the seeds of STEP's masks into new seeds.

Tensors of seeds are (N, T, h, w), one row per problem, and every number that a rule finds out is one per problem.
Second-order rules are without a line search, which would cost further passes of the network. Most of them therefore
limit the change of a seed in one step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

LONGEST = 0.05  # largest change of a seed in a step of L-BFGS, Barzilai-Borwein and conjugate gradients


@dataclass(frozen=True)
class Point:
    """What is known before a step.

    Attributes:
        step: Its number, from 0.
        seeds: In [0, 1].
        gradient: The energy's derivative by the seeds.
        passed: Whether the network was run for it; otherwise the reward is that of the last pass, linearised.
        error: (N,), by how much the reward's change since the pass before was not the predicted one, as a share of it.
        curvature: Returns a diagonal that bounds the second derivative of the area's and the cores' terms from above.
    """

    step: int
    seeds: Tensor
    gradient: Tensor
    passed: bool
    error: Tensor
    curvature: Callable[[], Tensor]


class Rule:
    """Gradient descent with the method's momentum and dampening, as `step` has it; the base of the others.

    Args:
        lr: Learning rate of gradient descent.
        momentum: Of gradient descent.
        dampening: Of its momentum.
        seeds: A tensor like the seeds.
    """

    def __init__(self, lr: float, momentum: float, dampening: float, seeds: Tensor) -> None:
        self.lr, self.momentum, self.dampening = lr, momentum, dampening
        self.velocity = torch.zeros_like(seeds)
        self.steps = 0

    def __call__(self, point: Point) -> Tensor:
        """Returns the new seeds, not yet clamped to [0, 1]."""
        new = self._next(point)
        self.steps += 1
        return new

    def _next(self, point: Point) -> Tensor:
        kept, gain = (0.0, 1.0) if point.step == 0 else (self.momentum, 1 - self.dampening)
        self.velocity = kept * self.velocity + gain * point.gradient
        return point.seeds - self.lr * self.velocity


class Nesterov(Rule):
    """Nesterov's momentum t / (t + 3) with a tenth of the step; restarted where it points uphill.

    Beck, Teboulle, SIAM J. Imaging Sciences 2009; O'Donoghue, Candès, Foundations of Computational Mathematics 2015.
    """

    def _next(self, point: Point) -> Tensor:
        if self.steps == 0:
            self._last, self._age = point.seeds, torch.zeros(len(point.seeds), 1, 1, 1)
        new = (point.seeds - self.lr / 10 * point.gradient).clamp(0, 1)
        self._age = torch.where(dot(point.gradient, new - self._last) > 0, 0, self._age + 1)
        ahead, self._last = new + self._age / (self._age + 3) * (new - self._last), new
        return ahead


class Adam(Rule):
    """Kingma, Ba, ICLR 2015: the step of each seed is divided by the size of its derivatives."""

    def _next(self, point: Point) -> Tensor:
        if self.steps == 0:
            self._square = torch.zeros_like(point.seeds)
        self.velocity = 0.9 * self.velocity + 0.1 * point.gradient
        self._square = 0.999 * self._square + 0.001 * point.gradient.square()
        age = self.steps + 1
        size = (self._square / (1 - 0.999**age)).sqrt() + 1e-8
        return point.seeds - self.lr * self.velocity / (1 - 0.9**age) / size


class Diagonal(Rule):
    """A diagonal Newton step, damped: g / (h + μ).

    h is the larger one of `Point.curvature` and a secant estimate of the whole second derivative, that of the reward
    included: averages of Δs·Δg over averages of Δs², seed by seed. μ falls from 1 / lr, where this is gradient
    descent, by a twentieth per step.
    """

    least = 0.2

    def _next(self, point: Point) -> Tensor:
        if self.steps == 0:
            self._top, self._bottom = torch.zeros_like(point.seeds), torch.zeros_like(point.seeds)
        else:
            change = point.seeds - self._seeds
            self._top = 0.9 * self._top + 0.1 * change * (point.gradient - self._gradient)
            self._bottom = 0.9 * self._bottom + 0.1 * change.square()
        if self.steps % 5 == 0:
            self._known = point.curvature()
        self._seeds, self._gradient = point.seeds, point.gradient
        self.velocity = 0.5 * self.velocity + 0.5 * point.gradient
        secant = self._top / (self._bottom + 1e-12)
        damping = max(self.least, 0.95**self.steps / self.lr)
        return point.seeds - self.velocity / (torch.maximum(self._known, secant) + damping)


class Undamped(Rule):
    """A twentieth of the diagonal Newton step, without damping but for a tenth of the mean second derivative."""

    def _next(self, point: Point) -> Tensor:
        if self.steps % 5 == 0:
            self._known = point.curvature()
        self.velocity = 0.5 * self.velocity + 0.5 * point.gradient
        typical = self._known.mean((1, 2, 3), keepdim=True)
        return point.seeds - limited(0.05 * self.velocity / (self._known + 0.1 * typical))


class BarzilaiBorwein(Rule):
    """Projected gradient descent with the step length Δs·Δg / Δg·Δg of the last step (Barzilai, Borwein, 1988)."""

    def _next(self, point: Point) -> Tensor:
        if self.steps == 0:
            self._length = torch.full((len(point.seeds), 1, 1, 1), self.lr)
        else:
            self._length = secant_length(point.seeds - self._seeds, point.gradient - self._gradient, self._length)
        direction = self._direction(point.gradient * free(point), point)
        self._seeds, self._gradient = point.seeds, point.gradient
        return point.seeds - limited(self._length.clamp(self.lr, 100 * self.lr) * direction)

    def _direction(self, gradient: Tensor, point: Point) -> Tensor:
        return gradient


class ConjugateGradients(BarzilaiBorwein):
    """The directions of Polak and Ribière, never with a negative factor; the step length is Barzilai and Borwein's."""

    def _direction(self, gradient: Tensor, point: Point) -> Tensor:
        if self.steps:
            size = dot(self._free, self._free).clamp(min=1e-20)
            factor = (dot(gradient, gradient - self._free) / size).clamp(0, 1)
            ahead = gradient + factor * self.velocity * free(point)
            self.velocity = torch.where(dot(ahead, gradient) > 0, ahead, gradient)
        else:
            self.velocity = gradient
        self._free = gradient
        return self.velocity


class LBFGS(Rule):
    """L-BFGS with ten pairs of differences; seeds at a bound that the descent pushes outwards do not move.

    Liu, Nocedal, Mathematical Programming 1989. A pair without positive curvature is left out for its problem.
    """

    memory = 10

    def _next(self, point: Point) -> Tensor:
        moves = free(point)
        direction = point.gradient * moves
        if self.steps == 0:
            self._pairs: list[tuple[Tensor, Tensor, Tensor]] = []
            self._length = torch.full((len(direction), 1, 1, 1), self.lr)
        else:
            change, rise = point.seeds - self._seeds, point.gradient - self._gradient
            product = dot(change, rise)
            sizes = (dot(change, change) * dot(rise, rise)).sqrt()
            inverse = torch.where(product > 1e-4 * sizes, 1 / product.clamp(min=1e-20), 0)
            self._pairs = [*self._pairs[1 - self.memory :], (change, rise, inverse)]
            self._length = secant_length(change, rise, self._length)
        self._seeds, self._gradient = point.seeds, point.gradient
        shares = []
        for change, rise, inverse in reversed(self._pairs):
            shares.append(inverse * dot(change, direction))
            direction = direction - shares[-1] * rise
        direction = self._length * direction
        for (change, rise, inverse), share in zip(self._pairs, reversed(shares), strict=True):
            direction = direction + (share - inverse * dot(rise, direction)) * change
        plain = self.lr * point.gradient * moves
        direction = torch.where(dot(direction, point.gradient) > 0, direction * moves, plain)
        return point.seeds - limited(direction)


class Proximal(Rule):
    """Nearly exact minima of the linearised reward, the area and the cores between two passes, in a trust region.

    The region is that of Levenberg and Marquardt: |s − s₀|² / 2η is added, s₀ being the seeds of the last pass. Where
    the network's answer to the last step was as predicted, η grows, up to forty steps of gradient descent; where it was
    not, it shrinks, down to one. The minimum is sought by diagonal Newton steps, whose diagonal is an upper bound.
    """

    def _next(self, point: Point) -> Tensor:
        if self.steps == 0:
            self._reach = torch.full((len(point.seeds), 1, 1, 1), self.lr)
        if point.passed:
            self._centre, self._known = point.seeds, point.curvature()
            error = point.error.view(-1, 1, 1, 1)
            factor = torch.where(error < 0.25, 1.2, torch.where(error > 0.75, 0.8, 1.0)) if self.steps else 1.0
            self._reach = (self._reach * factor).clamp(self.lr, 40 * self.lr)
        pull = (point.seeds - self._centre) / self._reach
        return point.seeds - (point.gradient + pull) / (self._known + 1 / self._reach)


def dot(one: Tensor, other: Tensor) -> Tensor:
    """Returns the products (N, 1, 1, 1) of tensors like the seeds."""
    return (one * other).sum((1, 2, 3), keepdim=True)


def free(point: Point) -> Tensor:
    """Returns 1 for seeds that descent can move, and 0 for those that it pushes out of [0, 1]."""
    seeds, gradient = point.seeds, point.gradient
    return (((seeds > 0) | (gradient < 0)) & ((seeds < 1) | (gradient > 0))).to(seeds)


def limited(change: Tensor) -> Tensor:
    """Returns changes scaled down where one of a problem's is above `LONGEST`."""
    return change * (LONGEST / change.abs().amax((1, 2, 3), keepdim=True).clamp(min=LONGEST))


def secant_length(change: Tensor, rise: Tensor, last: Tensor) -> Tensor:
    """Returns Δs·Δg / Δg·Δg, and the last length where that is not positive."""
    product = dot(change, rise)
    return torch.where(product > 0, product / dot(rise, rise).clamp(min=1e-20), last)
