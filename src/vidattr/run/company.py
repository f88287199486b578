"""A clip does not feel its company: batches keep their size when a clip of them fails, and a clip that fails is found.

What a kernel computes of one row of a batch depends, in the last bits, on the batch's size, and not on what the other
rows hold. So another clip stands in where one cannot be read, and where a batch raises, each clip is tried in a batch
of copies of itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from vidattr.errors import CONCERNS_ALL
from vidattr.types import Clip, Query, Sample

Decoded = tuple[Clip, Sample | Exception]
R = TypeVar("R")


def isolated(
    count: int, together: Callable[[], R], alone: Callable[[int], R]
) -> tuple[list[tuple[Sequence[int], R]], dict[int, Exception]]:
    """Works on a batch, and where that raises, on each of its clips by itself.

    What `alone(k)` computes for clip k must be what it gets in the batch, to the bit: it takes a batch of the same
    size, in which every clip is the k-th, and of its results the k-th counts.

    Returns:
        Results, each with the places of the clips that it is good for, and the error of each clip that failed.

    Raises:
        VidattrError: It is one of `errors.CONCERNS_ALL`, which concern all clips.
    """
    done: list[tuple[Sequence[int], R]] = []
    failed: dict[int, Exception] = {}
    try:
        return [(range(count), together())], failed
    except CONCERNS_ALL:
        raise
    except Exception as error:
        if count == 1:
            return done, {0: error}
    for k in range(count):
        try:
            done.append(([k], alone(k)))
        except CONCERNS_ALL:
            raise
        except Exception as error:
            failed[k] = error
    return done, failed


def stood_in(decoded: Sequence[Decoded]) -> list[Sample]:
    """Returns a sample for each clip of a batch, for an unreadable one that of the first readable one."""
    first = next(sample for _, sample in decoded if isinstance(sample, Sample))
    return [sample if isinstance(sample, Sample) else first for _, sample in decoded]


def rows_of(query: Query, rows: Sequence[int]) -> Query:
    """Returns a query of some rows of another, of which nothing is known yet."""
    places = list(rows)
    return Query(query.frames[places], query.target[places], tuple(query.seeds[row] for row in places))
