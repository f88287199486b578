"""Means of clusters of clips under resampling and under flipped signs, in double precision on the host.

A cluster is a video: its clips are not independent, so they are drawn, or change their sign, together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Names = Sequence[str] | NDArray[np.str_]

_BLOCK = 2**22  # numbers in the largest temporary array


def judged(values: ArrayLike, weights: ArrayLike | None = None) -> NDArray[np.bool_]:
    """Returns which clips (N,) count: those with a finite score and a positive weight."""
    values = np.asarray(values, dtype=np.float64)
    return np.asarray(np.isfinite(values) & (weights_of(values, weights) > 0))


@dataclass(frozen=True)
class ClusterSums:
    """Σ w·v and Σ w of the judged clips, each (C clusters, G groups): enough for any mean under resampling."""

    values: Floats
    weights: Floats

    @classmethod
    def of(
        cls, values: ArrayLike, weights: ArrayLike | None, clusters: Names | None, groups: Names | None
    ) -> ClusterSums:
        """Sums up clips (N,) by the names of their clusters and groups; None: one cluster, or one group."""
        keep = judged(values, weights)
        v = np.asarray(values, dtype=np.float64)
        w = weights_of(v, weights)[keep]
        v = v[keep]
        row, C = numbered(clusters, keep)
        column, G = numbered(groups, keep)
        cell = row * G + column
        return cls(
            np.bincount(cell, w * v, minlength=C * G).reshape(C, G).astype(np.float64),
            np.bincount(cell, w, minlength=C * G).reshape(C, G).astype(np.float64),
        )

    def means(self, counts: Floats) -> Floats:
        """Returns the mean (D,) over the groups present, with each cluster repeated counts (D, C) times."""
        weights = counts @ self.weights
        present = weights > 0
        means = np.divide(counts @ self.values, weights, out=np.zeros_like(weights), where=present)
        return np.asarray(means.sum(1) / present.sum(1))

    def without_one(self) -> Floats:
        """Returns the mean (C,) without each cluster in turn; groups that are then empty are left out."""
        weights = self.weights.sum(0) - self.weights
        present = weights > 1e-12 * self.weights.sum(0)
        means = np.divide(self.values.sum(0) - self.values, weights, out=np.zeros_like(weights), where=present)
        return np.asarray(means.sum(1) / present.sum(1))


def weights_of(values: Floats, weights: ArrayLike | None) -> Floats:
    """Returns the weights (N,) of the values; None: 1 each."""
    return np.ones_like(values) if weights is None else np.asarray(weights, dtype=np.float64)


def numbered(names: Names | None, keep: NDArray[np.bool_]) -> tuple[NDArray[np.intp], int]:
    """Returns the index of each kept name among the sorted distinct names, and their count; names None: all equal."""
    if names is None:
        return np.zeros(int(keep.sum()), dtype=np.intp), int(keep.any())
    unique, place = np.unique(np.asarray(names)[keep], return_inverse=True)
    return place, len(unique)


def _blocks(rows: int, columns: int) -> Iterator[int]:
    """Splits `rows` into blocks, so that arrays (block, columns) stay small."""
    step = max(1, _BLOCK // columns)
    for start in range(0, rows, step):
        yield min(step, rows - start)


def resampled(clusters: int, draws: int, seed: int) -> Iterator[Floats]:
    """Yields the number of times that each draw contains each cluster, (block, C), in blocks of draws.

    The draws are those of `scipy.stats.bootstrap` with `rng=seed`. That function takes means over indices; counts make
    them a matrix product, which gives the same intervals in a fifth to a twentieth of the time with 24 to 101 classes
    (2000 draws of 1000 videos: 0.04 s against 0.74 s), and without the 1.6 s that importing `scipy.stats` takes.
    """
    generator = np.random.default_rng(seed)
    for block in _blocks(draws, clusters):
        picks = generator.integers(clusters, size=(block, clusters)) + clusters * np.arange(block)[:, None]
        yield np.bincount(picks.ravel(), minlength=block * clusters).reshape(block, clusters).astype(np.float64)


def all_signs(clusters: int) -> Iterator[Floats]:
    """Yields all 2^C patterns of signs, (2^C, C)."""
    yield np.where(np.arange(2**clusters)[:, None] >> np.arange(clusters) & 1, 1.0, -1.0)


def random_signs(clusters: int, patterns: int, seed: int) -> Iterator[Floats]:
    """Yields random patterns of signs, (block, C), in blocks of patterns."""
    generator = np.random.default_rng(seed)
    for block in _blocks(patterns, clusters):
        yield np.where(generator.integers(2, size=(block, clusters)), 1.0, -1.0)
