"""The meaning of a network's outputs, and how they become class probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum, auto

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, logsigmoid, nll_loss, one_hot


class Output(StrEnum):
    """What a network returns for its K classes.

    * `softmax`: logits z of classes that exclude each other, p = softmax(z).
    * `sigmoid`: one logit for each class, p = 1 / (1 + e^−z); several classes or none may be present.
    * `logprob`: ln p.
    * `prob`: p.
    """

    softmax = auto()
    sigmoid = auto()
    logprob = auto()
    prob = auto()


def logits_of(returned: Tensor, output: Output) -> Tensor:
    """Returns logits (N, K) for the output of a network: ln p if it returned probabilities p, else the output itself.

    Probabilities below the smallest normal number are replaced by it, so that their logarithm is finite.
    """
    return returned.clamp_min(torch.finfo(returned.dtype).tiny).log() if output is Output.prob else returned


def probabilities_of(logits: Tensor, output: Output) -> Tensor:
    """Returns the class probabilities (N, K) of the result of `logits_of`; with softmax, rows sum to 1."""
    return _PROBABILITIES[output](logits)


def log_probabilities_of(logits: Tensor, output: Output) -> Tensor:
    """Returns the logarithms (N, K) of the class probabilities."""
    return _LOG_PROBABILITIES[output](logits)


def alternatives(classes: int, output: Output) -> int:
    """Returns the number of alternatives to choose from: K, or 2 where each class is present or not."""
    return 2 if output is Output.sigmoid or classes == 1 else classes


def sound(returned: Tensor, output: Output) -> Tensor:
    """Returns (N,): True for the rows that stand for probabilities, with finite logits or all values in 0 … 1."""
    if output is Output.prob:
        return ((returned >= -_TOLERANCE) & (returned <= 1 + _TOLERANCE)).all(1)
    return (returned <= _TOLERANCE if output is Output.logprob else returned.isfinite()).all(1)


def misstated(answers: Sequence[Tensor], last: str, output: Output) -> tuple[str, Output] | None:
    """Checks outputs of a network, (N, K) each, against the configured `output`.

    Args:
        answers: Answers to clips that differ.
        last: Name of the last operation of the network, such as "Sigmoid".
        output: The configured meaning of the answers.

    Returns:
        What the network returns instead, and the `output` to configure; None if its values agree with `output`.
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
    """Returns the mean cross-entropy of (N, K) logits and (N,) labels; with sigmoid, the mean over all classes too."""
    if output is Output.sigmoid:
        return binary_cross_entropy_with_logits(logits, one_hot(labels, logits.shape[1]).to(logits))
    return cross_entropy(logits, labels) if output is Output.softmax else nll_loss(logits, labels)


_TOLERANCE = 1e-3  # for probabilities that were rounded, for example to half precision
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
