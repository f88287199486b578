"""What the outputs of a network are, and the class probabilities that they stand for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum, auto

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, logsigmoid, nll_loss, one_hot


class Output(StrEnum):
    """What a network returns for its K classes.

    `softmax`: logits of classes of which one holds, p = softmax(z). `sigmoid`: a logit for each class by itself, p = 1
        / (1 + e^−z), of
    which several or none may hold; with one output the class holds or not. `logprob`: ln p. `prob`: p.
    """

    softmax = auto()
    sigmoid = auto()
    logprob = auto()
    prob = auto()


def logits_of(returned: Tensor, output: Output) -> Tensor:
    """Returns the logits (N, K) of what a network returned: that itself, but ln p of p.

    Of probabilities below the smallest normal number, which may have no finite logarithm, that number's is taken.
    """
    return returned.clamp_min(torch.finfo(returned.dtype).tiny).log() if output is Output.prob else returned


def probabilities_of(logits: Tensor, output: Output) -> Tensor:
    """Returns the class probabilities (N, K) of what `logits_of` gives; rows sum to 1 for softmax, and as the network has it otherwise."""
    return _PROBABILITIES[output](logits)


def log_probabilities_of(logits: Tensor, output: Output) -> Tensor:
    """Returns the logarithms (N, K) of the class probabilities."""
    return _LOG_PROBABILITIES[output](logits)


def alternatives(classes: int, output: Output) -> int:
    """Returns of how many classes one holds: K, or two where each class by itself holds or not."""
    return 2 if output is Output.sigmoid or classes == 1 else classes


def sound(returned: Tensor, output: Output) -> Tensor:
    """Returns which rows (N,) of what a network returned stand for probabilities: finite logits, or nothing outside 0 … 1."""
    if output is Output.prob:
        return ((returned >= -_TOLERANCE) & (returned <= 1 + _TOLERANCE)).all(1)
    return (returned <= _TOLERANCE if output is Output.logprob else returned.isfinite()).all(1)


def misstated(answers: Sequence[Tensor], last: str, output: Output) -> tuple[str, Output] | None:
    """Returns how a network's answers, (N, K) each, are seen not to be what was said, and what to say instead; None where they may be.

    Args:
        answers: To clips that differ.
        last: The name of the last step that made them, such as "Sigmoid".
        output: What was said.
    """
    values = torch.cat([answer.flatten() for answer in answers])
    shares = all(len(a.T) > 1 and (a >= 0).all() and ((a.sum(1) - 1).abs() < _TOLERANCE).all() for a in answers)
    if output is not Output.prob and (shares or last in ("Softmax", "Sigmoid")):
        return "returns probabilities", Output.prob
    if output in (Output.sigmoid, Output.prob) and last in ("LogSoftmax", "LogSigmoid"):
        return "returns logarithms of probabilities", Output.logprob
    if output is Output.prob and ((values < -_TOLERANCE) | (values > 1 + _TOLERANCE)).any():
        return f"returns values from {float(values.min()):.3g} to {float(values.max()):.3g}", Output.softmax
    if output is Output.logprob and (values > _TOLERANCE).any():
        return f"returns values up to {float(values.max()):.3g}", Output.softmax
    return None


def loss_of(logits: Tensor, labels: Tensor, output: Output) -> Tensor:
    """Returns the mean cross-entropy of (N, K) logits and (N,) labels; of classes by themselves, that of each."""
    if output is Output.sigmoid:
        return binary_cross_entropy_with_logits(logits, one_hot(labels, logits.shape[1]).to(logits))
    return cross_entropy(logits, labels) if output is Output.softmax else nll_loss(logits, labels)


_TOLERANCE = 1e-3  # of probabilities that were rounded on their way, in half precision say
_PROBABILITIES: Mapping[Output, Callable[[Tensor], Tensor]] = {
    Output.softmax: lambda z: z.softmax(1),
    Output.sigmoid: torch.sigmoid,
    Output.logprob: torch.exp,
    Output.prob: torch.exp,
}
_LOG_PROBABILITIES: Mapping[Output, Callable[[Tensor], Tensor]] = {
    Output.softmax: lambda z: z.log_softmax(1),
    Output.sigmoid: logsigmoid,
    Output.logprob: lambda z: z,
    Output.prob: lambda z: z,
}
