"""Gradient descent on the seeds of many masks in parallel, each of them a separate problem."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from vidattr.errors import MethodUndefinedError
from vidattr.methods.perturbation.losses import (
    MaskTies,
    Target,
    area_loss,
    area_ones,
    core_kernel,
    core_loss,
    core_ones,
    core_windows,
    shared_target,
    shuffled_target,
)
from vidattr.methods.perturbation.options import SIDES, Context, PerturbationOptions, Reward
from vidattr.methods.perturbation.pyramid import PYRAMIDS, perturb
from vidattr.methods.perturbation.smooth_mask import SmoothMax, released_sigma, temporal_weights
from vidattr.methods.shared.gradients import derivative
from vidattr.methods.shared.scores import Score, chunks, score_of
from vidattr.models.network.network import VideoModel
from vidattr.models.network.output import Output
from vidattr.profiling import stage
from vidattr.progress import tracked
from vidattr.types import Query


def _contrast(logits: Tensor, target: Tensor, _: Output) -> Tensor:
    if logits.shape[1] == 1:
        raise MethodUndefinedError(
            "method.reward=contrastive, and the network has one class", remedy="method.reward=logprob, prob or logit"
        )
    others = logits.scatter(1, target[:, None], -math.inf)
    return logits.gather(1, target[:, None])[:, 0] - others.amax(1)


Rewarding = Callable[[Tensor, Tensor, Output], Tensor]
REWARDS: dict[Reward, Rewarding] = {
    Reward.logprob: lambda z, y, output: score_of(z, y, Score.logprob, output),
    Reward.prob: lambda z, y, output: score_of(z, y, Score.prob, output),
    Reward.logit: lambda z, y, output: score_of(z, y, Score.logit, output),
    Reward.contrastive: _contrast,
}


@dataclass(frozen=True)
class _Open:
    """Problems that have not settled yet, one row each."""

    row: Tensor  # index in the results
    clip: Tensor  # index of its clip in the pyramid
    target: Tensor
    area: Tensor  # voxels that should be 1 in each plane that is ranked
    cores: Tensor  # windows that should be full
    seeds: Tensor  # (B, T, h, w)
    velocity: Tensor
    mask: Tensor  # (B, T, H, W) at the last check
    probability: Tensor  # at the last check

    def take(self, index: Tensor) -> _Open:
        """Returns the problems at `index`."""
        return _Open(*(getattr(self, each.name)[index] for each in fields(self)))


@torch.no_grad()
def solve(
    method: PerturbationOptions, model: VideoModel, query: Query, problems: list[tuple[int, float]]
) -> dict[str, Tensor]:
    """Solves problems, each a clip's index and a ratio, in parallel.

    One iteration: seeds → mask → perturbed frames → forward and backward pass of the network; then the losses of the
    mask, and one step of gradient descent, v ← μ·v + (1 − dampening)·g (v = g at first), s ← clamp(s − lr·v, 0, 1).
    Rows that have settled leave the batch. Rows are independent: energies are summed, and everything else is
    elementwise or within a row.

    Args:
        method: The options.
        model: The network.
        query: Frames, classes and seeds of the clips.
        problems: At most `max_batch`.

    Returns:
        By name, one row per problem: the extras of `ExtremalPerturbation`, and `moved`: whether the derivative of the
        reward was ever not 0.
    """
    clips = sorted({i for i, _ in problems})
    frames = query.frames.detach()[clips]
    T, H, W = frames.shape[2:]
    smooth_max = SmoothMax((H, W), method.seed_step, method.seed_sigma or released_sigma(H, W), method.coldness, frames)
    losses = _Losses(method, query, problems, (T, *smooth_max.plane), frames)
    weights = (
        None
        if method.temporal_sigma is None
        else temporal_weights(T, method.temporal_sigma, method.temporal_profile, frames)
    )
    with stage("masks"):
        pyramid = PYRAMIDS[method.perturbation](frames)

    count = len(problems)
    where = torch.tensor([clips.index(i) for i, _ in problems], device=frames.device)
    seeds = frames.new_ones(count, T, *smooth_max.grid)
    rows = _Open(
        row=torch.arange(count, device=frames.device),
        clip=where,
        target=query.target[clips][where],
        area=losses.area,
        cores=losses.cores,
        seeds=seeds,
        velocity=torch.zeros_like(seeds),
        mask=frames.new_zeros(count, T, H, W),
        probability=frames.new_zeros(count),
    )
    found = {
        "masks": torch.zeros_like(rows.mask),
        "seeds": torch.zeros_like(seeds),
        "area_padded": frames.new_zeros(count),
        "area_visible": frames.new_zeros(count),
        "probability": frames.new_zeros(count, method.iterations),
        "iterations": torch.zeros_like(rows.row),
        "moved": torch.zeros_like(rows.row, dtype=torch.bool),
    }
    for t in tracked(range(method.iterations), method.iterations, "iterations"):
        with stage("masks"), torch.enable_grad():
            leaf = rows.seeds.detach().requires_grad_()
            plane = smooth_max(leaf if weights is None else (weights @ leaf.flatten(2)).view_as(leaf))
            mask = smooth_max.crop(plane)
        probability, slope = _ask(method, model, pyramid, rows, mask.detach())
        with stage("masks"):
            now = {
                "masks": mask,
                "seeds": leaf,
                "area_padded": plane.mean((1, 2, 3)),
                "area_visible": mask.mean((1, 2, 3)),
            }
            for name, value in now.items():
                found[name][rows.row] = value.detach()
            found["probability"][rows.row, t:] = probability[:, None]
            found["iterations"][rows.row] = t + 1
            found["moved"][rows.row] |= slope.flatten(1).any(1)
            with torch.enable_grad():
                energy = method.reward_weight * (mask * slope).sum((1, 2, 3)) + losses(t, plane, rows)
                (gradient,) = torch.autograd.grad(energy.sum(), leaf)
            fresh = gradient if t == 0 else method.momentum * rows.velocity + (1 - method.dampening) * gradient
            rows = replace(rows, seeds=(leaf.detach() - method.lr * fresh).clamp(0, 1), velocity=fresh)
            if method.looks(t):
                unsettled = ~_settled(rows, mask, probability, method.stop_tolerance)
                rows = replace(rows, mask=mask.detach(), probability=probability).take(unsettled.nonzero()[:, 0])
                if len(rows.row) == 0:
                    break
    return found


def _settled(rows: _Open, mask: Tensor, probability: Tensor, tolerance: float) -> Tensor:
    """Returns which masks and probabilities are those of the last check, up to `tolerance`."""
    overlap, union = (pick(rows.mask, mask).sum((1, 2, 3)) for pick in (torch.minimum, torch.maximum))
    return (overlap > (1 - tolerance) * union) & ((probability - rows.probability).abs() < tolerance)


def _ask(
    method: PerturbationOptions, model: VideoModel, pyramid: Tensor, rows: _Open, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Runs the network on the perturbed frames.

    Returns:
        The probability (B,) of the target on the first side, and the derivative (B, T, H, W) with respect to the mask
        of the minimised term: −reward where the mask preserves, reward where it deletes. Both sides have the same sign,
        because d(1 − m) = −dm.
    """
    sides = SIDES[method.variant]
    probabilities, slope = [], torch.zeros_like(mask)
    for keeps in sides:
        with stage("masks"):
            frames, by_mask = perturb(pyramid, rows.clip, mask if keeps else 1 - mask)
        probability, gradient = _CONTEXTS[method.context](model, frames, rows.target, REWARDS[method.reward])
        probabilities.append(probability)
        with stage("masks"):
            slope -= (gradient * by_mask).sum(1) / len(sides)
    return probabilities[0], slope


def in_clip(model: VideoModel, frames: Tensor, target: Tensor, reward: Rewarding) -> tuple[Tensor, Tensor]:
    """Returns the probability (B,) of the target and the gradient of the reward, for frames (B, C, T, H, W)."""
    return _gradients(model, frames, target, frames.shape[2], reward)


def alone(model: VideoModel, frames: Tensor, target: Tensor, reward: Rewarding) -> tuple[Tensor, Tensor]:
    """Like `in_clip`, but with every frame alone, repeated; probability and reward are means over the frames."""
    clips, T = len(frames), frames.shape[2]
    stills = frames.transpose(1, 2).flatten(0, 1)[:, :, None]
    probability, gradient = _gradients(model, stills, target.repeat_interleave(T), T, reward)
    return probability.view(clips, T).mean(1), gradient.view(clips, T, *frames.shape[1:2], *frames.shape[3:]).transpose(
        1, 2
    ) / T


_CONTEXTS = {Context.clip: in_clip, Context.still: alone}


def _gradients(
    model: VideoModel, frames: Tensor, target: Tensor, length: int, reward: Rewarding
) -> tuple[Tensor, Tensor]:
    """Returns probability and gradient of clips that are repeated to `length` frames, in chunks of `max_batch`."""
    probabilities, gradients = [], []
    for x, y in chunks(model, frames, target):
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            logits = model(leaf.expand(-1, -1, length, -1, -1))
            gradients.append(derivative(reward(logits, y, model.output), leaf))
        probabilities.append(score_of(logits.detach(), y, Score.prob, model.output))
    return torch.cat(probabilities), torch.cat(gradients)


class _Losses:
    """λ_t·area + γ_t·cores of masks on their (T, Ĥ, Ŵ) plane, for the ratio of each problem."""

    def __init__(
        self,
        method: PerturbationOptions,
        query: Query,
        problems: list[tuple[int, float]],
        plane: tuple[int, int, int],
        like: Tensor,
    ) -> None:
        if any(k > length for k, length in zip(method.core_kernel, plane, strict=False)):
            raise MethodUndefinedError(
                f"method.core_kernel={list(method.core_kernel)} does not fit into {plane[0]} frames of "
                f"{plane[1]}×{plane[2]}",
                expected="a kernel no longer than the clip and no larger than the mask's plane",
                remedy="a smaller method.core_kernel, or a model with more frames (model.input.frames)",
            )
        self._method = method
        self._ranked = math.prod(plane[1:] if method.per_frame_area else plane)
        self._kernel = core_kernel(method.core_kernel, method.core_shape) if method.core_kernel else None
        areas = [area for _, area in problems]
        self.area = torch.tensor([area_ones(area, self._ranked) for area in areas], device=like.device)
        self.cores = torch.zeros_like(self.area)
        if self._kernel is not None:
            windows = math.prod(
                (n - k) // s + 1 for n, k, s in zip(plane, method.core_kernel, method.core_stride, strict=True)
            )
            full = [core_ones(method.core_topk, area, method.core_kernel, plane, windows) for area in areas]
            self.cores = torch.tensor(full, device=like.device)
        shuffle = method.ties is MaskTies.shuffle
        self._generators = (
            [torch.Generator(like.device).manual_seed(query.seeds[i]) for i, _ in problems] if shuffle else []
        )

    def __call__(self, t: int, masks: Tensor, rows: _Open) -> Tensor:
        """Returns the sum (B,) of both terms for masks (B, T, Ĥ, Ŵ) at iteration t."""
        method, target = self._method, self._target(rows)
        loss = method.weight(t) * area_loss(masks.reshape(len(masks), -1, self._ranked), rows.area, target)
        if self._kernel is not None and t > method.core_start:
            loss = loss + method.core_weight * core_loss(
                core_windows(masks, self._kernel, method.core_stride), rows.cores, target
            )
        return loss

    def _target(self, rows: _Open) -> Target:
        if not self._generators:
            return shared_target

        def shuffled(values: Tensor, ones: Tensor) -> Tensor:
            # Settled problems draw too, so that the draws of a problem do not depend on the others.
            noise = [
                torch.rand(values.shape[1:], generator=each, dtype=values.dtype, device=values.device)
                for each in self._generators
            ]
            return shuffled_target(values, ones, torch.stack(noise)[rows.row])

        return shuffled
