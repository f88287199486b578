"""The network's part of an extremal perturbation: the reward of perturbed frames, and its derivative by the mask."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from vidattr.errors import MethodUndefinedError
from vidattr.methods.perturbation.blending import blended
from vidattr.methods.perturbation.options import SIDES, Context, PerturbationOptions, Reward
from vidattr.methods.perturbation.pyramid import Blended
from vidattr.methods.shared.gradients import derivative
from vidattr.methods.shared.scores import Score, chunks, score_of
from vidattr.models.network.network import VideoModel
from vidattr.models.network.output import Output
from vidattr.profiling import stage


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


def slope_of(
    method: PerturbationOptions,
    model: VideoModel,
    pyramid: Tensor,
    clip: Tensor,
    target: Tensor,
    mask: Tensor,
    first: Blended | None = None,
) -> tuple[Tensor, Tensor]:
    """Runs the network on the perturbed frames.

    Args:
        method: The options.
        model: The network.
        pyramid: (L, U, C, T, H, W), blurred frames of U clips.
        clip: (B,), the clip of each mask.
        target: (B,), the class of each mask.
        mask: (B, T, H, W).
        first: The frames of the first side, where they are there already.

    Returns:
        The probability (B,) of the target on the first side, and the derivative (B, T, H, W) with respect to the mask
        of the minimised term: −reward where the mask preserves, reward where it deletes. Both sides have the same sign,
        because d(1 − m) = −dm.
    """
    sides = SIDES[method.variant]
    probabilities, slopes = [], []
    for keeps in sides:
        with stage("masks"):
            frames, by_mask = first or blended(model, pyramid, clip, mask, keeps=keeps)
            first = None
        probability, gradient = _CONTEXTS[method.context](model, frames, target, REWARDS[method.reward])
        probabilities.append(probability)
        with stage("masks"):
            slopes.append(by_mask(gradient).neg_())
    return probabilities[0], slopes[0] if len(slopes) == 1 else (slopes[0] + slopes[1]) / 2


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
    if len(gradients) == 1:
        return probabilities[0], gradients[0]
    return torch.cat(probabilities), torch.cat(gradients)
