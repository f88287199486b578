"""Which proxy metric orders methods as the truth does: Kendall's τ-b with intervals over clips."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from vidattr.evaluate.resampling import resampled

Floats = NDArray[np.float64]

DRAWS = 1000
LEVEL = 0.95
FEWEST = 4  # methods: the τ of three has four values only


@dataclass(frozen=True)
class Agreement:
    """How far one proxy agrees with the truth.

    Attributes:
        tau: Mean over blocks (family × network × clip) of τ between proxy and truth over the methods.
        low: Lower end of its interval over clips.
        high: Upper end.
        blocks: Number of blocks.
        of_means: τ between the methods' mean scores, averaged over the networks and families that are pooled.
        means_low: Lower end of the interval of `of_means` over clips.
        means_high: Upper end.
    """

    tau: float
    low: float
    high: float
    blocks: int
    of_means: float
    means_low: float
    means_high: float


def kendall(a: ArrayLike, b: ArrayLike) -> float:
    """Returns τ-b = (C − D)/√((P − T)(P − U)) of two lists; pairs with a NaN are left out (Kendall 1945).

    NaN with fewer than `FEWEST` methods, or where a list is all ties.
    """
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    keep = np.isfinite(x) & np.isfinite(y)
    return float(_taus(x[keep][None], y[keep][None])[0]) if keep.sum() >= FEWEST else math.nan


def _taus(x: Floats, y: Floats) -> Floats:
    """Returns τ-b of each row of (D, n); NaN where a row is all ties."""
    upper = np.triu_indices(x.shape[1], 1)
    p = np.sign(x[:, upper[0]] - x[:, upper[1]])
    q = np.sign(y[:, upper[0]] - y[:, upper[1]])
    scale = np.sqrt(np.abs(p).sum(1) * np.abs(q).sum(1))
    return np.asarray(np.divide((p * q).sum(1), scale, out=np.full(len(x), np.nan), where=scale > 0))


def agreement(proxy: pd.DataFrame, truth: pd.DataFrame, blocks: pd.DataFrame, *, seed: int = 0) -> Agreement:
    """Compares a proxy with the truth.

    Args:
        proxy: A row per block and a column per method, larger is better; NaN where there is no score.
        truth: The same blocks and methods.
        blocks: `clip` and `group` of each block: clips are drawn with all their blocks, and means are taken within a
            group (a family and a network).
        seed: Of the bootstrap.
    """
    x, y = proxy.to_numpy(float), truth.to_numpy(float)
    taus = np.array([kendall(one, other) for one, other in zip(x, y, strict=True)])
    clips, names = pd.factorize(blocks["clip"])
    keep = np.isfinite(taus)
    sums = np.bincount(clips[keep], taus[keep], minlength=len(names))
    counts = np.bincount(clips[keep], minlength=len(names)).astype(float)
    groups = [np.flatnonzero(blocks["group"] == name) for name in dict.fromkeys(blocks["group"])]
    each, means = [], []
    for draw in resampled(len(names), DRAWS, seed) if len(names) > 1 else ():
        each.append(_ratio(draw @ sums, draw @ counts))
        means.append(_tau_of_means([(x[rows], y[rows], draw[:, clips[rows]]) for rows in groups]))
    whole = _tau_of_means([(x[rows], y[rows], np.ones((1, len(rows)))) for rows in groups])
    low, high = _ends(each)
    return Agreement(
        float(taus[keep].mean()) if keep.any() else math.nan, low, high, int(keep.sum()), float(whole[0]), *_ends(means)
    )


def _tau_of_means(groups: Sequence[tuple[Floats, Floats, Floats]]) -> Floats:
    """Returns the mean over groups of τ between the methods' weighted means, for each row of the weights (D, rows)."""
    found = []
    for x, y, weights in groups:
        valid = np.isfinite(x) & np.isfinite(y)
        kept = valid.sum(0) > 0
        if kept.sum() < FEWEST:
            continue
        valid, one, other = valid[:, kept], x[:, kept], y[:, kept]
        total = weights @ valid
        a, b = (_ratio(weights @ np.where(valid, values, 0), total) for values in (one, other))
        # A draw without any clip of a method says nothing about it: both lists then tie there.
        found.append(_taus(np.nan_to_num(a), np.nan_to_num(b)))
    if not found:
        return np.full(len(groups[0][2]) if groups else 1, np.nan)
    stacked = np.stack(found)
    valid = np.isfinite(stacked)
    return _ratio(np.where(valid, stacked, 0).sum(0), valid.sum(0).astype(float))


def _ratio(sums: Floats, counts: Floats) -> Floats:
    return np.asarray(np.divide(sums, counts, out=np.full_like(sums, np.nan, dtype=float), where=counts > 0))


def _ends(draws: Sequence[Floats]) -> tuple[float, float]:
    values = np.concatenate(draws) if draws else np.empty(0)
    values = values[np.isfinite(values)]
    if not len(values):
        return math.nan, math.nan
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
