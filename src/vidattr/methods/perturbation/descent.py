"""One iteration of gradient descent on the seeds of a batch of masks, on fixed tensors that it changes in place.

An iteration reads no value of the device and takes λ_t, γ_t and the momentum from tables by an iteration number that is
itself on the device. So every iteration launches the same kernels on the same tensors, and a GPU replays a recording.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from vidattr.methods.perturbation.blending import masks_of
from vidattr.methods.perturbation.energy import EnergyOfMasks
from vidattr.methods.perturbation.options import SIDES, PerturbationOptions
from vidattr.methods.perturbation.reward import slope_of
from vidattr.methods.perturbation.smooth_mask import SmoothMax, temporal_weights
from vidattr.models.network.network import VideoModel
from vidattr.models.speed.lagging import onto
from vidattr.profiling import stage


@dataclass
class Rows:
    """Problems, one row each.

    Attributes:
        row: Index in the results.
        clip: Index of its clip in the pyramid.
        target: Its class.
        area: Voxels that should be 1 in each plane that is ranked.
        cores: Windows that should be full.
        open: Whether it has not settled yet; what is recorded of a settled problem stays.
        seeds: (B, T, h, w).
        velocity: Like the seeds.
        masks: (B, T, H, W), of the last iteration; so are the next four.
        last_seeds: (B, T, h, w).
        area_padded: Share of the mask's plane.
        area_visible: Share of the frame.
        probability: (B, iterations), the last value repeated.
        iterations: How many were computed.
        moved: Whether the derivative of the reward was ever not 0.
        slope: The derivative of the last pass of the network by the mask, (B, T, H, W); empty where each iteration has
            a pass of its own.
        checked: The masks of the last check.
        checked_probability: The probability of the last check.
    """

    row: Tensor
    clip: Tensor
    target: Tensor
    area: Tensor
    cores: Tensor
    open: Tensor
    seeds: Tensor
    velocity: Tensor
    masks: Tensor
    last_seeds: Tensor
    area_padded: Tensor
    area_visible: Tensor
    probability: Tensor
    iterations: Tensor
    moved: Tensor
    slope: Tensor
    checked: Tensor
    checked_probability: Tensor

    @classmethod
    def start(
        cls,
        method: PerturbationOptions,
        energy: EnergyOfMasks,
        clip: Tensor,
        target: Tensor,
        seeds: Tensor,
        size: torch.Size,
    ) -> Rows:
        """Returns problems before their first iteration, with seeds (B, T, h, w) and frames of (T, H, W)."""
        count = len(clip)
        return cls(
            row=torch.arange(count, device=clip.device),
            clip=clip,
            target=target,
            area=energy.area,
            cores=energy.cores,
            open=torch.ones(count, dtype=torch.bool, device=clip.device),
            seeds=seeds,
            velocity=torch.zeros_like(seeds),
            masks=seeds.new_zeros(count, *size),
            last_seeds=torch.zeros_like(seeds),
            area_padded=seeds.new_zeros(count),
            area_visible=seeds.new_zeros(count),
            probability=seeds.new_zeros(count, method.iterations),
            iterations=torch.zeros(count, dtype=torch.int64, device=clip.device),
            moved=torch.zeros(count, dtype=torch.bool, device=clip.device),
            slope=seeds.new_zeros(count, *(size if method.mask_steps > 1 else (0, 0, 0))),
            checked=seeds.new_zeros(count, *(size if method.stop_window is not None else (0, 0, 0))),
            checked_probability=seeds.new_zeros(count),
        )

    def take(self, index: Tensor) -> Rows:
        """Returns copies of the problems at `index`."""
        return Rows(*(getattr(self, each.name).index_select(0, index) for each in fields(self)))

    def results(self) -> dict[str, Tensor]:
        """Returns what is recorded of each problem, by name."""
        return {
            "masks": self.masks,
            "seeds": self.last_seeds,
            "area_padded": self.area_padded,
            "area_visible": self.area_visible,
            "probability": self.probability,
            "iterations": self.iterations,
            "moved": self.moved,
        }


class Descent:
    """The iterations of a batch of problems.

    Args:
        method: The options.
        model: The network.
        pyramid: Blurred frames of the clips (`pyramid`).
        smooth_max: From seeds to masks.
        energy: The terms of the energy that depend on the mask only.
        rows: The problems; changed in place.
    """

    def __init__(
        self,
        method: PerturbationOptions,
        model: VideoModel,
        pyramid: Tensor,
        smooth_max: SmoothMax,
        energy: EnergyOfMasks,
        rows: Rows,
    ) -> None:
        self.rows = rows
        self._method, self._model, self._pyramid = method, model, pyramid
        self._smooth_max, self._energy = smooth_max, energy
        seeds = rows.seeds
        sigma = method.temporal_sigma
        self._in_time = (
            None if sigma is None else temporal_weights(seeds.shape[1], sigma, method.temporal_profile, seeds)
        )
        steps = range(method.iterations)
        by_step = [
            [method.weight(t) for t in steps],
            [0.0 if t == 0 else method.momentum for t in steps],  # v = g at first
            [1.0 if t == 0 else 1 - method.dampening for t in steps],
        ]
        self._lambda, self._kept, self._gain = onto(seeds.device, torch.tensor(by_step, dtype=seeds.dtype))
        self._steps = torch.arange(method.iterations, device=seeds.device)
        self._t = torch.zeros(1, dtype=torch.int64, device=seeds.device)

    def resumed(self, rows: Rows) -> Descent:
        """Returns the descent of some of its problems, from the iteration that it is at."""
        other = copy(self)
        other.rows, other._t = rows, self._t.clone()
        return other

    def draw(self, *, cores: bool) -> None:
        """Draws the random numbers of the next iteration, which a recording cannot draw."""
        self._energy.draw(cores=cores)

    def iterate(self, *, cores: bool, network: bool) -> None:
        """Computes one iteration: v ← μ·v + (1 − dampening)·g (v = g at first), s ← clamp(s − lr·v, 0, 1).

        Args:
            cores: Whether the energy has its core loss in this iteration.
            network: Whether the network is run; otherwise its derivative by the mask is that of its last pass.
        """
        method, rows = self._method, self.rows
        with stage("masks"), torch.enable_grad():
            leaf = rows.seeds.detach().requires_grad_()
            seeds = leaf if self._in_time is None else (self._in_time @ leaf.flatten(2)).view_as(leaf)
            plane, first = masks_of(
                self._smooth_max, seeds, self._model, self._pyramid, rows.clip, keeps=SIDES[method.variant][0]
            )
        mask = self._smooth_max.crop(plane.detach())
        slope = rows.slope
        if network:
            probability, slope = slope_of(method, self._model, self._pyramid, rows.clip, rows.target, mask, first)
            self._record_pass(probability, slope)
        with stage("masks"):
            self._record(leaf, plane, mask)
            by_plane = self._energy.slope(self._lambda[self._t], plane, rows.row, rows.area, rows.cores, cores=cores)
            self._smooth_max.crop(by_plane).add_(slope, alpha=method.reward_weight)
            (gradient,) = torch.autograd.grad(plane, leaf, by_plane)
            rows.velocity.mul_(self._kept[self._t]).add_(self._gain[self._t] * gradient)
            rows.seeds.copy_((leaf.detach() - method.lr * rows.velocity).clamp(0, 1))
            self._t += 1

    @torch.no_grad()
    def _record_pass(self, probability: Tensor, slope: Tensor) -> None:
        """Records a pass of the network for the problems that have not settled."""
        rows = self.rows
        now = rows.open[:, None] & (self._steps >= self._t)
        torch.where(now, probability[:, None], rows.probability, out=rows.probability)
        rows.moved |= rows.open & slope.flatten(1).any(1)
        if self._method.mask_steps > 1:
            rows.slope.copy_(slope)

    @torch.no_grad()
    def _record(self, seeds: Tensor, plane: Tensor, mask: Tensor) -> None:
        """Records this iteration for the problems that have not settled."""
        rows = self.rows
        for kept, value in (
            (rows.masks, mask),
            (rows.last_seeds, seeds),
            (rows.area_padded, plane.mean((1, 2, 3))),
            (rows.area_visible, mask.mean((1, 2, 3))),
        ):
            still = rows.open.view(-1, *[1] * (value.ndim - 1))
            torch.where(still, value.detach(), kept, out=kept)
        torch.where(rows.open, self._t + 1, rows.iterations, out=rows.iterations)

    def check(self) -> None:
        """Closes the problems that have settled since the last check."""
        rows = self.rows
        probability = rows.probability[:, -1]
        close = settled(rows.checked, rows.masks, rows.checked_probability, probability, self._method.stop_tolerance)
        rows.open &= ~close
        rows.checked.copy_(rows.masks)
        rows.checked_probability.copy_(probability)


def settled(before: Tensor, now: Tensor, then: Tensor, probability: Tensor, tolerance: float) -> Tensor:
    """Returns which masks and probabilities are those of the last check, up to `tolerance`.

    Args:
        before: Masks (B, T, H, W) of the last check.
        now: The masks of now.
        then: Probabilities (B,) of the last check.
        probability: The probabilities of now.
        tolerance: As `PerturbationOptions.stop_tolerance`.
    """
    overlap, union = (pick(before, now).sum((1, 2, 3)) for pick in (torch.minimum, torch.maximum))
    return (overlap > (1 - tolerance) * union) & ((probability - then).abs() < tolerance)
