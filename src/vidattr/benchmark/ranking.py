"""Ranks of methods, with intervals over clips, Friedman's test and Nemenyi's critical difference.

Demšar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 7 (2006), describes both tests. They
compare methods on blocks. Here a block of a test is a clip: the maps of one clip by several networks are not
independent, so a method's ranks on them are averaged first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vidattr.evaluate.resampling import resampled

Floats = NDArray[np.float64]

DRAWS = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class MeanRank:
    """The rank of a method.

    Attributes:
        method: Its name.
        rank: The mean over blocks; 1 is best.
        low: Lower end of its interval.
        high: Upper end.
        blocks: Number of blocks (family × network × clip) in which it has a map.
    """

    method: str
    rank: float
    low: float
    high: float
    blocks: int


@dataclass(frozen=True)
class Friedman:
    """Friedman's test that all methods are alike, and Nemenyi's critical difference of two mean ranks.

    Attributes:
        methods: Those that are compared, the best first.
        ranks: Their mean ranks over the blocks.
        statistic: χ², with `len(methods) − 1` degrees of freedom, corrected for ties.
        p: Its p-value; NaN where the test is not defined.
        critical: Two methods differ at 5 % if their mean ranks differ by at least this much.
        blocks: Number of clips.
    """

    methods: tuple[str, ...]
    ranks: tuple[float, ...]
    statistic: float
    p: float
    critical: float
    blocks: int


def ranked(scores: pd.DataFrame) -> pd.DataFrame:
    """Returns the rank of each method in each block, 1 for the highest score; ties share the mean of their ranks.

    Args:
        scores: A row per block and a column per method; NaN where a method has no map.

    Returns:
        The same shape. In a block with m of the M methods, ranks r of 1 … m are stretched to 1 … M by
        1 + (r − 1)·(M − 1)/(m − 1), so that blocks count alike whatever number of methods is defined in them.
    """
    ranks = scores.rank(axis=1, ascending=False, method="average")
    there = scores.notna().sum(axis=1)
    stretch = (scores.shape[1] - 1) / (there - 1).where(there > 1)
    return (ranks - 1).mul(stretch, axis=0) + 1


def mean_ranks(scores: pd.DataFrame, clips: Sequence[str], *, seed: int = 0) -> list[MeanRank]:
    """Returns the mean rank of each method, the best first, with a 95 % bootstrap interval over clips.

    Args:
        scores: As in `ranked`.
        clips: The clip of each block: all blocks of a clip are drawn together.
        seed: Of the bootstrap.
    """
    ranks = ranked(scores)
    groups, names = pd.factorize(np.asarray(clips, dtype=object))
    sums, counts = (np.zeros((len(names), ranks.shape[1])) for _ in range(2))
    values, valid = ranks.to_numpy(float), ranks.notna().to_numpy()
    np.add.at(sums, groups, np.where(valid, values, 0))
    np.add.at(counts, groups, valid.astype(float))
    means = np.concatenate([_ratio(draw @ sums, draw @ counts) for draw in resampled(len(names), DRAWS, seed)])
    found = []
    for place, method in enumerate(ranks.columns):
        blocks = int(valid[:, place].sum())
        if blocks:
            low, high = np.nanquantile(means[:, place], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
            found.append(MeanRank(str(method), float(np.nanmean(values[:, place])), float(low), float(high), blocks))
    return sorted(found, key=lambda one: (one.rank, one.method))


def _ratio(sums: Floats, counts: Floats) -> Floats:
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def friedman(scores: pd.DataFrame, clips: Sequence[str]) -> Friedman:
    """Tests whether the methods that are defined in every block differ.

    Args:
        scores: As in `ranked`; methods that are NaN anywhere are left out.
        clips: The clip of each block. A method's value for a clip is the mean of its ranks over the clip's blocks.

    Returns:
        The test. p and the critical difference are NaN with fewer than two clips or three methods.
    """
    from scipy import stats

    complete = scores.loc[:, scores.notna().all(axis=0)]
    ranks = ranked(complete).groupby(np.asarray(clips, dtype=object)).mean().rank(axis=1, method="average")
    n, k = ranks.shape
    means = ranks.mean().sort_values(kind="stable")
    names, values = tuple(map(str, means.index)), tuple(float(value) for value in means)
    if n < 2 or k < 3:
        return Friedman(names, values, math.nan, math.nan, math.nan, n)
    statistic, p = stats.friedmanchisquare(*(ranks[name] for name in ranks.columns))
    return Friedman(names, values, float(statistic), float(p), critical_difference(k, n), n)


def critical_difference(methods: int, blocks: int, level: float = LEVEL) -> float:
    """Returns q·√(k(k + 1)/(6 N)), q·√2 being the quantile of the studentised range of k means (Demšar, 3.2.2)."""
    from scipy import stats

    q = float(stats.studentized_range.ppf(level, methods, np.inf)) / math.sqrt(2)
    return q * math.sqrt(methods * (methods + 1) / (6 * blocks))


def cliques(test: Friedman) -> list[tuple[int, int]]:
    """Returns the longest runs (first, last) of methods, by place, that do not differ by the critical difference."""
    found: list[tuple[int, int]] = []
    for first in range(len(test.ranks)):
        last = max(n for n, rank in enumerate(test.ranks) if rank - test.ranks[first] < test.critical or n == first)
        if last > first and not (found and found[-1][1] >= last):
            found.append((first, last))
    return found
