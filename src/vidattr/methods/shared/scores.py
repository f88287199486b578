"""What a method explains of the class: its score from the logits, computed in chunks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from enum import StrEnum, auto

import torch
from torch import Tensor

from vidattr.models.network.network import VideoModel
from vidattr.models.network.output import Output, alternatives, log_probabilities_of, probabilities_of


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
