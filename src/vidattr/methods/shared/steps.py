"""Steps that several methods share: the score, its derivative in batches, and the ways to one float per voxel."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from enum import StrEnum, auto

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from vidattr.models.network.network import VideoModel
from vidattr.models.network.output import Output, alternatives, log_probabilities_of, probabilities_of
from vidattr.profiling import stage


class Score(StrEnum):
    """What is explained of class y: its logit z_y, its probability p, the logarithm of that, or its log-odds.

    p = softmax(z)_y, or what the network's `Output` says; of a network that returns probabilities the logit is ln p.

    Where the probability is near 1 its derivative is near 0 and points elsewhere than the logit's: the maps differ.

    The log-odds are those of prediction difference analysis (Zintgraf et al., ICLR 2017), in bits: log2(p' / (1 − p'))
    with Laplace's correction p' = (n p + 1) / (n + K), which keeps them finite. Unlike the paper, whose n is how many
    examples the network was trained on, n is always 100 000, as in its released code. Of classes of which several may
    hold K is 2.
    """

    logit = auto()
    prob = auto()
    logprob = auto()
    log_odds = auto()


class TimeUpsample(StrEnum):
    """How a map's t steps become T frames: linearly between the steps, or each step repeated."""

    linear = auto()
    repeat = auto()


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


_LAPLACE = 100_000  # n of `Score.log_odds`


def _log_odds(logits: Tensor, output: Output) -> Tensor:
    p = probabilities_of(logits, output)
    others = alternatives(logits.shape[1], output) - 1
    return torch.log2(p * _LAPLACE + 1) - torch.log2((1 - p) * _LAPLACE + others)


_SCORES: dict[Score, Callable[[Tensor, Output], Tensor]] = {
    Score.logit: lambda logits, _: logits,
    Score.prob: probabilities_of,
    Score.logprob: log_probabilities_of,
    Score.log_odds: _log_odds,
}
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


def score_of(logits: Tensor, target: Tensor, score: Score, output: Output) -> Tensor:
    """Returns the score (N,) of each clip's own target class from the (N, K) logits of a network with this `output`."""
    return _SCORES[score](logits, output).gather(1, target[:, None])[:, 0]


def score_drop(whole: Tensor, draws: Tensor, score: Score) -> Tensor:
    """Returns by how much a score falls from that of a whole clip to that which is expected of draws of what replaces a part.

    Of log-odds this is the weight of evidence (Zintgraf et al., ICLR 2017): log-odds of p less those of the mean of the
    draws' p. Of all other scores it is the mean of the differences.

    Args:
        whole: (U,) scores.
        draws: (U, S) scores.
        score: What they are.

    Returns:
        (U,), exactly 0 where all draws score as the whole.
    """
    if score is not Score.log_odds:
        return (whole[:, None] - draws).mean(1)
    # These are the corrected p', but the correction is linear: it is the same before a mean and after.
    before, after = (torch.sigmoid(bits * math.log(2)) for bits in (whole, draws))
    expected = before - (before[:, None] - after).mean(1)
    return (torch.logit(before) - torch.logit(expected)) / math.log(2)


@torch.no_grad()
def scores(model: VideoModel, frames: Tensor, target: Tensor, score: Score) -> Tensor:
    """Returns the score (N,) of (N, C, T, H, W) frames, in chunks of `max_batch`, without a graph."""
    return torch.cat([score_of(model(x), y, score, model.output) for x, y in chunks(model, frames, target)])


def chunks(model: VideoModel, frames: Tensor, target: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields frames and targets in as few chunks of at most `max_batch` clips as it takes, as even as they can be.

    Even, because a lone last clip would go through other kernels than its fellows: they round differently, and where a
    clip has equal values side by side (black bars, a black baseline) a max-pool then picks another one.
    """
    count = math.ceil(len(frames) / model.max_batch)
    return zip(torch.tensor_split(frames, count), torch.tensor_split(target, count), strict=True)


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


def trilinear(cam: Tensor, size: tuple[int, int, int]) -> Tensor:
    """Resizes (N, t, h, w) to (N, T, H, W), linearly on each axis, cell centres aligned (`align_corners=False`)."""
    return interpolate(cam[:, None], size, mode="trilinear", align_corners=False)[:, 0]


def upsampled(cam: Tensor, size: tuple[int, int, int], time: TimeUpsample) -> Tensor:
    """Resizes (N, t, h, w) to (N, T, H, W), linearly in space; `repeat` shows step ⌊f·t/T⌋ on frame f."""
    return _UPSAMPLE[time](cam, size)


def _repeated(cam: Tensor, size: tuple[int, int, int]) -> Tensor:
    frames = interpolate(cam[:, None], (size[0], *cam.shape[2:]), mode="nearest")[:, 0]
    return trilinear(frames, size)


_UPSAMPLE: dict[TimeUpsample, Callable[[Tensor, tuple[int, int, int]], Tensor]] = {
    TimeUpsample.linear: trilinear,
    TimeUpsample.repeat: _repeated,
}
