"""The score interval of a share of hits (Wilson 1927)."""

from __future__ import annotations

import math


def score_interval(share: float, trials: float, z: float) -> tuple[float, float]:
    """Returns the ends of {q : (p − q)² ≤ z² q(1 − q)/n} for the share p of hits among n trials (Wilson 1927).

    `scipy.stats.binomtest` has this interval for whole numbers of hits and a normal z only. Here n follows from the
    variance between videos and is no whole number, and z is Student's.
    """
    unit = z**2 / trials
    reach = math.sqrt(unit * share * (1 - share) + unit**2 / 4)
    return (share + unit / 2 - reach) / (1 + unit), (share + unit / 2 + reach) / (1 + unit)
