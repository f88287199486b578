"""Whether two tables put the methods into the same order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

EXACT_UP_TO = 7  # methods; 7! orders are fewer than DRAWS
DRAWS = 10_000


def agreement(ours: Sequence[float], published: Sequence[float], *, seed: int) -> tuple[float, float]:
    """Returns Kendall's τ-b of two lists of values of the same methods, and its p-value.

    τ-b = (C − D) / √((P − T)(P − U)) with C and D the pairs of methods in the same and in the opposite order, P all
    pairs, T and U the pairs that are tied in one of the lists (Kendall 1945). p is that of a two-sided permutation
    test: the share of the orders of one list whose |τ| is at least as large, of all n! up to seven methods, else of
    random ones, among which the given one is counted.

    Args:
        ours: (n,) finite values.
        published: (n,) the same.
        seed: Decides the random orders.

    Returns:
        τ and p; NaN with fewer than two methods, or where a list is all ties.
    """
    x, y = _signs(np.asarray(ours, np.float64)), _signs(np.asarray(published, np.float64))
    n, scale = len(x), math.sqrt(float(np.abs(x).sum() * np.abs(y).sum()))
    if n < 2 or scale == 0:
        return math.nan, math.nan
    seen = float((x * y).sum())
    exact = n <= EXACT_UP_TO
    random = np.random.default_rng(seed)
    every = map(np.array, itertools.permutations(range(n)))
    orders = every if exact else (random.permutation(n) for _ in range(DRAWS))
    sums = np.array([(x * y[order][:, order]).sum() for order in orders])
    as_large = int((np.abs(sums) >= abs(seen) - 1e-9).sum())
    return seen / scale, as_large / len(sums) if exact else (1 + as_large) / (1 + len(sums))


def _signs(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Returns the sign of the difference of each pair, (n, n)."""
    return np.sign(values[:, None] - values[None, :])
