"""The hit of a map's maximum, for both pointing games; the expected hit if there are several maxima."""

from __future__ import annotations

from torch import Tensor


def expected_hit(scores: Tensor, target: Tensor) -> Tensor:
    """Returns the probability that a maximum of `scores`, drawn at random among equal ones, lies in `target`.

    The first of several maxima would be the start of the array. With the expected hit, a constant map scores the share
    of the target, which is chance.

    Args:
        scores: (..., P) one score per place.
        target: Broadcastable to (..., P) bool: which places are hits.

    Returns:
        (...) float64 in [0, 1]; NaN where a score is NaN.
    """
    peak = scores == scores.amax(-1, keepdim=True)
    return (peak & target).sum(-1).double() / peak.sum(-1)
