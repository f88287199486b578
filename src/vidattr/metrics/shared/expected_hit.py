"""What both pointing games do: look at where a map peaks, and take ties for what they are."""

from __future__ import annotations

from torch import Tensor


def expected_hit(scores: Tensor, target: Tensor) -> Tensor:
    """Returns the chance that a maximum of `scores`, picked at random among equals, lies in `target`.

    Taking the first of several maxima would score where an array begins; a constant map scores the share of the
    target instead, which is chance.

    Args:
        scores: (..., P) one score per place.
        target: Broadcastable to (..., P) bool: which places are hits.

    Returns:
        (...) float64 in [0, 1]; NaN where a score is NaN.
    """
    peak = scores == scores.amax(-1, keepdim=True)
    return (peak & target).sum(-1).double() / peak.sum(-1)
