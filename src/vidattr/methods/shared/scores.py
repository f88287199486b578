"""The score of a class that a method explains, computed from the logits in chunks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from enum import StrEnum, auto

import torch
from torch import Tensor

from vidattr.models.network.network import VideoModel
from vidattr.models.network.output import Output, alternatives, log_probabilities_of, probabilities_of
from vidattr.models.speed.graphs import padded
from vidattr.progress import tracked


class Score(StrEnum):
    """The explained score of class y: its logit z_y, its probability p, ln p, or its log-odds.

    p = softmax(z)_y, or as the network's `Output` defines it. For a network that returns probabilities, the logit is
    ln p. Where p is near 1, its derivative is near 0 and its direction differs from the logit's, so the maps differ.

    The log-odds are those of prediction difference analysis (Zintgraf et al., ICLR 2017), in bits: log2(p' / (1 − p'))
    with Laplace's correction p' = (n p + 1) / (n + K), which keeps them finite. Unlike the paper, where n is the number
    of training examples, n is always 100 000, as in its released code. K is 2 for classes that do not exclude each
    other.
    """

    logit = auto()
    prob = auto()
    logprob = auto()
    log_odds = auto()


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


def score_of(logits: Tensor, target: Tensor, score: Score, output: Output) -> Tensor:
    """Returns the score (N,) of each clip's target class, from (N, K) logits of a network with this `output`."""
    return _SCORES[score](logits, output).gather(1, target[:, None])[:, 0]


def score_drop(whole: Tensor, draws: Tensor, score: Score) -> Tensor:
    """Returns the drop of the score when a part of the clip is replaced, averaged over draws of the replacement.

    For log-odds it is the weight of evidence (Zintgraf et al., ICLR 2017): the log-odds of p minus the log-odds of the
    draws' mean p. For all other scores it is the mean of the differences.

    Args:
        whole: (U,) scores of the whole clip.
        draws: (U, S) scores with the part replaced, one per draw.
        score: The kind of score.

    Returns:
        (U,), exactly 0 where all draws have the score of the whole clip.
    """
    if score is not Score.log_odds:
        return (whole[:, None] - draws).mean(1)
    # These p' have Laplace's correction. It is linear, so it commutes with the mean.
    before, after = (torch.sigmoid(bits * math.log(2)) for bits in (whole, draws))
    expected = before - (before[:, None] - after).mean(1)
    return (torch.logit(before) - torch.logit(expected)) / math.log(2)


@torch.no_grad()
def scores(model: VideoModel, frames: Tensor, target: Tensor, score: Score) -> Tensor:
    """Returns the score (N,) of (N, C, T, H, W) frames, in chunks of `max_batch`, without a graph."""
    return torch.cat([score_of(model(x), y, score, model.output) for x, y in chunks(model, frames, target)])


def chunks(model: VideoModel, frames: Tensor, target: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields frames and targets in the fewest chunks of at most `max_batch` clips, of nearly equal size.

    A batch of one clip may run through other kernels than a larger batch and round differently. Where neighbouring
    values are equal (black bars, a black baseline), a max-pool may then select another one, and the map differs.
    """
    count = math.ceil(len(frames) / model.max_batch)
    return zip(torch.tensor_split(frames, count), torch.tensor_split(target, count), strict=True)


def chunked(model: VideoModel, rows: Tensor, unit: str) -> Iterator[tuple[Tensor, int]]:
    """Yields rows (n, …) in the fewest chunks of at most `max_batch`, of nearly equal size, and each chunk's own size.

    Where the network's work is recorded (`Passes.records`), all chunks have one shape: the last row is repeated in the
    shorter ones, and counts only once.

    Args:
        model: The network.
        rows: What is computed, one row for each pass.
        unit: Its name, for a progress bar.
    """
    count = math.ceil(len(rows) / model.max_batch)
    size = math.ceil(len(rows) / count)
    for part in tracked(torch.tensor_split(rows, count), count, unit, len(rows)):
        yield (padded(part, size) if model.records else part), len(part)
