"""Intervals and tests for per-clip scores, in double precision on the host.

Clips of one video are not independent. Whatever is resampled or flipped here is therefore a whole *cluster* of clips (a
video), never a clip. Clips whose score is not a number, or whose weight is 0, are left out; `judged` says which they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Names = Sequence[str] | NDArray[np.str_]

LEVEL = 0.95
DRAWS = 2000
FLIPS = 10_000
EXACT_UP_TO = 12  # clusters; 2^12 sign patterns are fewer than FLIPS
_Z = 1.959963984540054  # the 97.5 % point of the normal distribution
_BLOCK = 2**22  # numbers in the largest temporary array


@dataclass(frozen=True)
class Difference:
    """A mean paired difference with its interval and the p-value of "there is none"; NaN where it cannot be said."""

    value: float
    low: float
    high: float
    p: float


def judged(values: ArrayLike, weights: ArrayLike | None = None) -> NDArray[np.bool_]:
    """Tells which clips (N,) enter: those with a finite score and a positive weight."""
    values = np.asarray(values, dtype=np.float64)
    return np.asarray(np.isfinite(values) & (_weights(values, weights) > 0))


def mean(values: ArrayLike, weights: ArrayLike | None = None, groups: Names | None = None) -> float:
    """Returns the weighted mean of the judged clips or, with groups, the mean over groups of their weighted means."""
    sums = _Sums.of(values, weights, None, groups)
    return float(sums.means(np.ones((1, len(sums.values))))[0]) if len(sums.values) else np.nan


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
        draws: Number of resamples.

    Returns:
        (low, high); NaN with fewer than two clusters, from which nothing can be said about their spread.
    """
    sums = _Sums.of(values, weights, clusters, groups)
    if len(sums.values) < 2:
        return np.nan, np.nan
    means = np.concatenate([sums.means(counts) for counts in _resampled(len(sums.values), draws, seed)])
    return _percentiles(means)


def quantile(values: ArrayLike, share: float, clusters: Names, *, seed: int, draws: int = DRAWS) -> tuple[float, float, float]:
    """Returns the `share` quantile (0.5: the median) of the judged clips, linear between order statistics, and its 95 % interval.

    The interval is that of `cluster_bootstrap`, NaN with fewer than two clusters; all is NaN without a judged clip.
    """
    v = np.asarray(values, dtype=np.float64)
    keep = judged(v)
    row, C = _numbered(clusters, keep)
    order = np.argsort(v[keep])
    v, row = v[keep][order], row[order]
    if not len(v):
        return np.nan, np.nan, np.nan
    if C < 2:
        return float(np.quantile(v, share)), np.nan, np.nan
    found = []
    for counts in _resampled(C, draws, seed):
        upto = counts[:, row].cumsum(1)  # clips of the resample that are not above each value
        place = share * (upto[:, -1:] - 1)
        low, high = (v[(upto <= rank).sum(1)] for rank in (np.floor(place), np.ceil(place)))
        found.append(low + (high - low) * (place % 1)[:, 0])
    return float(np.quantile(v, share)), *_percentiles(np.concatenate(found))


def cluster_band(curves: ArrayLike, clusters: Names, *, seed: int, draws: int = DRAWS) -> tuple[Floats, Floats]:
    """Returns the pointwise 95 % interval (S,), (S,) of the mean of curves (N, S), resampling whole clusters.

    Curves with a number that is not finite are left out. NaN with fewer than two clusters.
    """
    curves = np.asarray(curves, dtype=np.float64)
    keep = np.isfinite(curves).all(1)
    names, place = np.unique(np.asarray(clusters)[keep], return_inverse=True)
    if len(names) < 2:
        nothing = np.full(curves.shape[1], np.nan)
        return nothing, nothing
    sums = np.zeros((len(names), curves.shape[1]))
    np.add.at(sums, place, curves[keep])
    sizes = np.bincount(place).astype(np.float64)
    means = np.concatenate([(counts @ sums) / (counts @ sizes)[:, None] for counts in _resampled(len(names), draws, seed)])
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high


def wilson(hits: float, n: int) -> tuple[float, float]:
    """Returns the 95 % interval of a share of `hits` among `n` independent trials (Wilson 1927); NaN without trials.

    (p̂ + z²/2n ± z √(p̂(1−p̂)/n + z²/4n²)) / (1 + z²/n). Unlike the textbook interval p̂ ± z √(p̂(1−p̂)/n), it stays in [0, 1] and
    has a width at 0 and n hits. `hits` may be fractional (expected hits).
    """
    if n == 0:
        return np.nan, np.nan
    share, z2 = hits / n, _Z**2
    middle = share + z2 / (2 * n)
    reach = _Z * np.sqrt(share * (1 - share) / n + z2 / (4 * n**2))
    return float((middle - reach) / (1 + z2 / n)), float((middle + reach) / (1 + z2 / n))


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    weights: ArrayLike | None,
    clusters: Names,
    groups: Names | None = None,
    *,
    seed: int,
) -> Difference:
    """Compares two scores a, b (N,) of the same clips; clips that only one of them could judge are left out.

    The difference is `mean` of a − b, its interval that of `cluster_bootstrap`. The p-value is that of a two-sided sign-flip
    test: if a and b were exchangeable, the differences of each video could as well have had the other sign, all at once.
    All 2^C sign patterns are tried for C ≤ 12 videos, else 10 000 random ones, where p = (1 + #as large) / (1 + 10 000):
    the pattern that was seen is one of them, and p is never 0.
    """
    values = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    sums = _Sums.of(values, weights, clusters, groups)
    C = len(sums.values)
    if C == 0:
        return Difference(np.nan, np.nan, np.nan, np.nan)
    # The mean is linear in the clusters' sums, so that flipping a cluster flips its share of the mean.
    shares = (sums.values / sums.weights.sum(0)).mean(1)
    # A sum in another order is as large as the one that was seen, whatever rounding says.
    threshold = abs(shares.sum()) - 1e-12 * np.abs(shares).sum()
    exact = C <= EXACT_UP_TO
    larger, patterns = 0, 0
    for signs in _all_signs(C) if exact else _random_signs(C, seed):
        larger += int((np.abs(signs @ shares) >= threshold).sum())
        patterns += len(signs)
    p = larger / patterns if exact else (1 + larger) / (1 + patterns)
    return Difference(float(shares.sum()), *cluster_bootstrap(values, weights, clusters, groups, seed=seed), p)


def group_means(values: ArrayLike, weights: ArrayLike | None, groups: Names) -> tuple[Floats, NDArray[np.str_]]:
    """Returns the weighted mean of each group that has a judged clip, and the groups' names, sorted."""
    keep = judged(values, weights)
    sums = _Sums.of(values, weights, groups, None)
    return (sums.values / sums.weights)[:, 0], np.unique(np.asarray(groups)[keep])


@dataclass(frozen=True)
class _Sums:
    """Σ w·v and Σ w of the judged clips, each (C clusters, G groups): all that a mean under resampling needs to know."""

    values: Floats
    weights: Floats

    @classmethod
    def of(cls, values: ArrayLike, weights: ArrayLike | None, clusters: Names | None, groups: Names | None) -> _Sums:
        keep = judged(values, weights)
        v = np.asarray(values, dtype=np.float64)
        w = _weights(v, weights)[keep]
        v = v[keep]
        row, C = _numbered(clusters, keep)
        column, G = _numbered(groups, keep)
        cell = row * G + column
        return cls(
            np.bincount(cell, w * v, minlength=C * G).reshape(C, G).astype(np.float64),
            np.bincount(cell, w, minlength=C * G).reshape(C, G).astype(np.float64),
        )

    def means(self, counts: Floats) -> Floats:
        """Returns the mean (D,) over the groups present, each cluster taken as often as counts (D, C) says."""
        weights = counts @ self.weights
        present = weights > 0
        means = np.divide(counts @ self.values, weights, out=np.zeros_like(weights), where=present)
        return np.asarray(means.sum(1) / present.sum(1))


def _weights(values: Floats, weights: ArrayLike | None) -> Floats:
    return np.ones_like(values) if weights is None else np.asarray(weights, dtype=np.float64)


def _numbered(names: Names | None, keep: NDArray[np.bool_]) -> tuple[NDArray[np.intp], int]:
    """Returns the number of each kept name among the sorted distinct ones, and how many these are; None: all alike."""
    if names is None:
        return np.zeros(int(keep.sum()), dtype=np.intp), int(keep.any())
    unique, place = np.unique(np.asarray(names)[keep], return_inverse=True)
    return place, len(unique)


def _blocks(rows: int, columns: int) -> Iterator[int]:
    """Cuts `rows` into pieces whose arrays (piece, columns) stay small."""
    step = max(1, _BLOCK // columns)
    for start in range(0, rows, step):
        yield min(step, rows - start)


def _resampled(clusters: int, draws: int, seed: int) -> Iterator[Floats]:
    """Yields how often each draw took each cluster, (block, C), in blocks of draws."""
    generator = np.random.default_rng(seed)
    for block in _blocks(draws, clusters):
        picks = generator.integers(clusters, size=(block, clusters)) + clusters * np.arange(block)[:, None]
        yield np.bincount(picks.ravel(), minlength=block * clusters).reshape(block, clusters).astype(np.float64)


def _all_signs(clusters: int) -> Iterator[Floats]:
    yield np.where(np.arange(2**clusters)[:, None] >> np.arange(clusters) & 1, 1.0, -1.0)


def _random_signs(clusters: int, seed: int) -> Iterator[Floats]:
    generator = np.random.default_rng(seed)
    for block in _blocks(FLIPS, clusters):
        yield np.where(generator.integers(2, size=(block, clusters)), 1.0, -1.0)


def _percentiles(means: Floats) -> tuple[float, float]:
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
