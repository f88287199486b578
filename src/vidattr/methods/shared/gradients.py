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


class Polarity(StrEnum):
    """Which side of a signed attribution a map shows: a as it is, |a|, max(a, 0) or max(-a, 0), before channels are reduced."""

    signed = auto()
    both = auto()
    positive = auto()
    negative = auto()


class Reduce(StrEnum):
    """How the C channels of a voxel become one number: their mean, sum or maximum."""

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
    """Returns ∂ Σ_n score_n / ∂ leaf, each clip's own gradient, since no clip's score depends on another clip.

    A score that does not depend on `leaf` at all has the derivative 0: a constant network gets a flat map, not an
    error.
    """
    if not score.requires_grad:
        return torch.zeros_like(leaf)
    with stage("network"):
        (gradient,) = torch.autograd.grad(score.sum(), leaf, materialize_grads=True)
    return gradient


def input_gradients(model: VideoModel, frames: Tensor, target: Tensor, score: Score) -> Tensor:
    """Returns ∂ score / ∂ frames (N, C, T, H, W), in chunks of `max_batch`; `frames` itself never joins a graph."""
    parts = []
    with torch.enable_grad():
        for x, y in chunks(model, frames, target):
            leaf = x.detach().requires_grad_()
            parts.append(derivative(score_of(model(leaf), y, score, model.output), leaf))
    return torch.cat(parts)


def probe_gradients(
    model: VideoModel, target: Tensor, score: Score, probes: int, probe: Callable[[int, int], Tensor]
) -> Iterator[tuple[int, int, Tensor]]:
    """Differentiates the score at several points around each clip.

    All clips × probes are one list that is cut into chunks of at most `max_batch`: ⌈N·probes / max_batch⌉ passes,
    whatever N is, and no more than one chunk of probes in memory. A caller that adds the gradients up one by one, as
    they come, does so in the same order for every chunk size, so that chunks leave no trace in the sum.

    Args:
        model: The network.
        target: The class (N,) to explain.
        score: What of it.
        probes: Points per clip.
        probe: Maps a clip's index i and k to the k-th point (C, T, H, W); called once each, i slow and k fast.

    Yields:
        i, k and the gradient (C, T, H, W) there, in that order.
    """
    pairs = [(i, k) for i in range(len(target)) for k in range(probes)]
    count = math.ceil(len(pairs) / model.max_batch)
    for c in range(count):
        chunk = pairs[c * len(pairs) // count : (c + 1) * len(pairs) // count]  # even, as in `chunks`
        points = torch.stack([probe(i, k) for i, k in chunk])
        gradients = input_gradients(model, points, torch.stack([target[i] for i, _ in chunk]), score)
        for (i, k), gradient in zip(chunk, gradients, strict=True):
            yield i, k, gradient


def to_map(attribution: Tensor, polarity: Polarity, reduce: Reduce) -> Tensor:
    """Returns the map (N, T, H, W) float32 of a signed attribution (N, C, T, H, W)."""
    return _REDUCTIONS[reduce](_POLARITIES[polarity](attribution)).float()
