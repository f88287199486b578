"""Intervals and tests for per-clip scores, in double precision on the host.

Clips of one video are not independent. Therefore whole *clusters* of clips (videos) are resampled or flipped here, and
never single clips. Clips whose score is not a number, or whose weight is 0, are left out (`judged`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vidattr.evaluate.resampling import (
    ClusterSums,
    Floats,
    Names,
    all_signs,
    judged,
    numbered,
    random_signs,
    resampled,
)
from vidattr.metrics.shared.score_interval import score_interval

LEVEL = 0.95
DRAWS = 2000
FLIPS = 10_000
EXACT_UP_TO = 12  # clusters; 2^12 sign patterns are fewer than FLIPS
FEWEST = 3  # with fewer videos there is no interval
FEW = 20  # with fewer videos the intervals of a bootstrap are too narrow


@dataclass(frozen=True)
class Difference:
    """A mean paired difference, its interval and the p-value of "no difference"; NaN: unknown."""

    value: float
    low: float
    high: float
    p: float


def mean(values: ArrayLike, weights: ArrayLike | None = None, groups: Names | None = None) -> float:
    """Returns the weighted mean of the judged clips or, with groups, the mean over groups of their weighted means."""
    sums = ClusterSums.of(values, weights, None, groups)
    return float(sums.means(np.ones((1, len(sums.values))))[0]) if len(sums.values) else np.nan


def interval(
    values: ArrayLike,
    weights: ArrayLike | None,
    clusters: Names,
    groups: Names | None = None,
    *,
    seed: int,
    bounds: tuple[float, float] | None = None,
    wilson: bool = False,
) -> tuple[float, float]:
    """Returns the 95 % interval of `mean` over whole clusters, by a rule that depends on the number of clusters.

    * From `FEW` clusters on: `cluster_bootstrap`, unless `wilson` asks for the next rule.
    * Scores with bounds: the score interval (Wilson 1927) with the clusters' own variance and Student's t of C − 1
      degrees of freedom. The variance of a bounded score vanishes towards a bound, so with p the mean as a share of the
      range and s its standard error, the interval is {q : (p − q)² ≤ t² s² q(1 − q) / (p(1 − p))}: Wilson's for p(1 −
      p)/s² trials. At a bound, where s = 0 is no information, every cluster is one trial.
    * Other scores: mean ± t s.
    * Fewer than `FEWEST` clusters: NaN.

    s² = Σ_c (mean without cluster c − mean of these)², C/(C − 1) times the jackknife's: few and unequal clusters show
    less variance than they have. docs/STATISTICS.md lists how often the intervals cover the true value.

    Args:
        values: (N,) one score per clip.
        weights: (N,) or None.
        clusters: (N,) the video of each clip.
        groups: (N,) the class of each clip, for the mean over classes; None: one mean over the clips.
        seed: Decides the bootstrap's draws.
        bounds: The least and the largest possible score; None: there are none.
        wilson: Whether the score interval is used for any number of clusters; needs `bounds`.
    """
    sums = ClusterSums.of(values, weights, clusters, groups)
    C = len(sums.values)
    if C >= FEW and not wilson:
        return cluster_bootstrap(values, weights, clusters, groups, seed=seed)
    if C < FEWEST:
        return np.nan, np.nan
    from scipy.special import stdtrit

    center, t = float(sums.means(np.ones((1, C)))[0]), float(stdtrit(C - 1, (1 + LEVEL) / 2))
    without = sums.without_one()
    error = math.sqrt(float(((without - without.mean()) ** 2).sum()))
    if bounds is None:
        return center - t * error, center + t * error
    low, width = bounds[0], bounds[1] - bounds[0]
    share = min(max((center - low) / width, 0.0), 1.0)
    spread = share * (1 - share)
    trials = C if spread <= 1e-12 else math.inf if error == 0 else max(1.0, spread * (width / error) ** 2)
    ends = score_interval(share, trials, t)
    return low + width * ends[0], low + width * ends[1]


def cluster_bootstrap(
    values: ArrayLike,
    weights: ArrayLike | None,
    clusters: Names,
    groups: Names | None = None,
    *,
    seed: int,
    draws: int = DRAWS,
) -> tuple[float, float]:
    """Returns the 95 % percentile interval of `mean` under resampling of whole clusters with replacement.

    A group (a class) that a draw misses is left out of that draw's mean over groups.

    Args:
        values: (N,) one score per clip.
        weights: (N,) or None.
        clusters: (N,) the video of each clip.
        groups: (N,) the class of each clip, for the mean over classes; None: one mean over the clips.
        seed: Decides the draws.
        draws: Their number; NaN with fewer than `FEWEST` clusters.
    """
    sums = ClusterSums.of(values, weights, clusters, groups)
    if len(sums.values) < FEWEST:
        return np.nan, np.nan
    means = np.concatenate([sums.means(counts) for counts in resampled(len(sums.values), draws, seed)])
    return _percentiles(means)


def quantile(
    values: ArrayLike, share: float, clusters: Names, *, seed: int, draws: int = DRAWS
) -> tuple[float, float, float]:
    """Returns the `share` quantile (0.5: the median) of the judged clips and its 95 % interval.

    The quantile is linear between order statistics.

    The interval is that of `cluster_bootstrap`, NaN with fewer than `FEWEST` clusters; all is NaN without a judged
    clip.
    """
    v = np.asarray(values, dtype=np.float64)
    keep = judged(v)
    row, C = numbered(clusters, keep)
    order = np.argsort(v[keep])
    v, row = v[keep][order], row[order]
    if not len(v):
        return np.nan, np.nan, np.nan
    if C < FEWEST:
        return float(np.quantile(v, share)), np.nan, np.nan
    found = []
    for counts in resampled(C, draws, seed):
        upto = counts[:, row].cumsum(1)  # clips of the resample that are not above each value
        place = share * (upto[:, -1:] - 1)
        low, high = (v[(upto <= rank).sum(1)] for rank in (np.floor(place), np.ceil(place)))
        found.append(low + (high - low) * (place % 1)[:, 0])
    return float(np.quantile(v, share)), *_percentiles(np.concatenate(found))


def cluster_band(curves: ArrayLike, clusters: Names, *, seed: int, draws: int = DRAWS) -> tuple[Floats, Floats]:
    """Returns the pointwise 95 % interval (S,), (S,) of the mean of curves (N, S).

    The rule is that of `interval` for scores without bounds.

    Curves with a number that is not finite are left out. NaN with fewer than `FEWEST` clusters.
    """
    curves = np.asarray(curves, dtype=np.float64)
    keep = np.isfinite(curves).all(1)
    names, place = np.unique(np.asarray(clusters)[keep], return_inverse=True)
    if len(names) < FEW:
        ends = np.array([interval(curve, None, np.asarray(clusters)[keep], seed=seed) for curve in curves[keep].T])
        return ends[:, 0], ends[:, 1]
    sums = np.zeros((len(names), curves.shape[1]))
    np.add.at(sums, place, curves[keep])
    sizes = np.bincount(place).astype(np.float64)
    means = np.concatenate(
        [(counts @ sums) / (counts @ sizes)[:, None] for counts in resampled(len(names), draws, seed)]
    )
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    weights: ArrayLike | None,
    clusters: Names,
    groups: Names | None = None,
    *,
    seed: int,
    bounds: tuple[float, float] | None = None,
) -> Difference:
    """Compares two scores a, b (N,) of the same clips; clips that only one of them could judge are left out.

    The difference is `mean` of a − b, its interval that of `interval`; `bounds` are those of a and of b. The p-value is
    that of a two-sided sign-flip test: if a and b were exchangeable, the differences of each video could as well have
    had the other sign, all at once. All 2^C sign patterns are tried for C ≤ 12 videos, else 10 000 random ones, where p
    = (1 + #as large) / (1 + 10 000): the pattern that was seen is one of them, and p is never 0.

    `scipy.stats.permutation_test` of the videos' shares gives the same exact p. It takes 2 to 30 times as long (12
    videos: 9 ms against 0.3 ms; 1000 videos: 0.38 s against 0.12 s), and above 12 videos it doubles the smaller of two
    one-sided p-values, which is noisier than counting both sides at once.
    """
    values = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    sums = ClusterSums.of(values, weights, clusters, groups)
    C = len(sums.values)
    if C == 0:
        return Difference(np.nan, np.nan, np.nan, np.nan)
    # The mean is linear in the clusters' sums, so that flipping a cluster flips its share of the mean.
    shares = (sums.values / sums.weights.sum(0)).mean(1)
    # A sum in another order is as large as the one that was seen, whatever rounding says.
    threshold = abs(shares.sum()) - 1e-12 * np.abs(shares).sum()
    exact = C <= EXACT_UP_TO
    larger, patterns = 0, 0
    for signs in all_signs(C) if exact else random_signs(C, FLIPS, seed):
        larger += int((np.abs(signs @ shares) >= threshold).sum())
        patterns += len(signs)
    p = larger / patterns if exact else (1 + larger) / (1 + patterns)
    reach = None if bounds is None else (bounds[0] - bounds[1], bounds[1] - bounds[0])
    low, high = interval(values, weights, clusters, groups, seed=seed, bounds=reach)
    return Difference(float(shares.sum()), low, high, p)


def group_means(values: ArrayLike, weights: ArrayLike | None, groups: Names) -> tuple[Floats, NDArray[np.str_]]:
    """Returns the weighted mean of each group with a judged clip, and their sorted names."""
    keep = judged(values, weights)
    if not keep.any():
        return np.empty(0), np.empty(0, np.str_)
    sums = ClusterSums.of(values, weights, groups, None)
    return (sums.values / sums.weights)[:, 0], np.unique(np.asarray(groups)[keep])


def _percentiles(means: Floats) -> tuple[float, float]:
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
