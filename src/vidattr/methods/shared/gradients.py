"""Derivatives of the class score, computed in chunks, and the map of a signed attribution."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from enum import StrEnum, auto

import torch
from torch import Tensor

from vidattr.methods.shared.scores import Score, chunks, score_of
from vidattr.models.network.network import VideoModel
from vidattr.profiling import stage
from vidattr.progress import tracked


class Polarity(StrEnum):
    """The part of a signed attribution a that a map shows, before channels are reduced: a, |a|, max(±a, 0)."""

    signed = auto()
    both = auto()
    positive = auto()
    negative = auto()


class Reduce(StrEnum):
    """How the C channels of a voxel are reduced to one number: their mean, sum or maximum."""

    mean = auto()
    sum = auto()
    max = auto()


_POLARITIES: dict[Polarity, Callable[[Tensor], Tensor]] = {
    Polarity.signed: lambda a: a,
    Polarity.both: lambda a: a.abs(),
    Polarity.positive: lambda a: a.clamp(min=0),
    Polarity.negative: lambda a: (-a).clamp(min=0),
}
_REDUCTIONS: dict[Reduce, Callable[[Tensor], Tensor]] = {
    Reduce.mean: lambda a: a.mean(1),
    Reduce.sum: lambda a: a.sum(1),
    Reduce.max: lambda a: a.amax(1),
}


def derivative(score: Tensor, leaf: Tensor) -> Tensor:
    """Returns ∂ Σ_n score_n / ∂ leaf: each clip's own gradient, because no clip's score depends on another clip.

    It is 0 if the score does not depend on `leaf`, so that a constant network gets a flat map instead of an error.
    """
    if not score.requires_grad:
        return torch.zeros_like(leaf)
    with stage("network"):
        (gradient,) = torch.autograd.grad(score.sum(), leaf, materialize_grads=True)
    return gradient


def input_gradients(model: VideoModel, frames: Tensor, target: Tensor, score: Score) -> Tensor:
    """Returns ∂ score / ∂ frames (N, C, T, H, W), in chunks of `max_batch`; `frames` gets no gradient of its own."""
    return _scored_gradients(model, frames, target, score)[1]


def _scored_gradients(model: VideoModel, frames: Tensor, target: Tensor, score: Score) -> tuple[Tensor, Tensor]:
    """Returns the scores (N,) and their gradients (N, C, T, H, W)."""
    values, parts = [], []
    with torch.enable_grad():
        for x, y in chunks(model, frames, target):
            leaf = x.detach().requires_grad_()
            value = score_of(model(leaf), y, score, model.output)
            parts.append(derivative(value, leaf))
            values.append(value.detach())
    return torch.cat(values), torch.cat(parts)


@torch.enable_grad()
def layer_gradients(
    model: VideoModel, frames: Tensor, target: Tensor, score: Score, layer: str | None
) -> tuple[Tensor, Tensor]:
    """Returns a layer's features A and ∂ score / ∂ A, both (N, c, t, h, w), in one pass of N clips.

    Args:
        model: The network.
        frames: (N, C, T, H, W), at most `max_batch` clips.
        target: The class (N,) to explain.
        score: Which score of it.
        layer: Name of the module whose output is A; None: the network's own last convolution.

    Raises:
        ConfigError: There is no such layer.
        MethodUndefinedError: The network names no layer, or its output is no volume of features.
    """
    logits, leaf = model.activations(frames, layer)
    slope = derivative(score_of(logits, target, score, model.output), leaf)
    return model.volume(leaf.detach(), len(frames)), model.volume(slope.detach(), len(frames))


def probe_gradients(
    model: VideoModel,
    target: Tensor,
    score: Score,
    probes: int,
    probe: Callable[[int, int], Tensor],
    values: Tensor | None = None,
) -> Iterator[tuple[int, int, Tensor]]:
    """Differentiates the score at several points around each clip.

    All clips × probes are computed in ⌈N·probes / max_batch⌉ chunks, and only one chunk of probes is in memory at a
    time. The order does not depend on the size of the chunks: a caller that adds up the gradients gets the same sum.

    Args:
        model: The network.
        target: The class (N,) to explain.
        score: Which score of it.
        probes: Points per clip.
        probe: Returns the k-th point (C, T, H, W) of clip i; called once for each i and k, in the order of the yields.
        values: (N, probes), filled with the score at each point before its gradient is yielded; None: not wanted.

    Yields:
        i, k and the gradient (C, T, H, W) at that point, for all k of clip 0, then of clip 1, and so on.
    """
    pairs = [(i, k) for i in range(len(target)) for k in range(probes)]
    count = math.ceil(len(pairs) / model.max_batch)
    for c in tracked(range(count), count, "points", len(pairs)):
        chunk = pairs[c * len(pairs) // count : (c + 1) * len(pairs) // count]  # even, as in `chunks`
        points = torch.stack([probe(i, k) for i, k in chunk])
        found, gradients = _scored_gradients(model, points, torch.stack([target[i] for i, _ in chunk]), score)
        if values is not None:
            values.view(-1)[c * len(pairs) // count : (c + 1) * len(pairs) // count] = found
        for (i, k), gradient in zip(chunk, gradients, strict=True):
            yield i, k, gradient


def to_map(attribution: Tensor, polarity: Polarity, reduce: Reduce) -> Tensor:
    """Returns the map (N, T, H, W) float32 of a signed attribution (N, C, T, H, W)."""
    return _REDUCTIONS[reduce](_POLARITIES[polarity](attribution)).float()
