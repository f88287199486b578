"""Keeps a clip's results independent of the other clips of its batch, also when one of them fails.

The last bits of what a kernel computes for a row depend on the size of the batch, and not on the content of the other
rows. So a batch keeps its size: another clip takes the place of one that cannot be read, and where a batch raises an
exception, each clip is tried in a batch of copies of itself.
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
    """Processes a batch, and if that raises an exception, each of its clips separately.

    Args:
        count: Number of clips.
        together: Processes the batch.
        alone: Processes clip k in a batch of the same size that holds copies of it, so that its result is the same, to
            the bit, as in the batch.

    Returns:
        Results, each with the places of the clips that it holds for, and the error of each clip that failed.

    Raises:
        VidattrError: One of `errors.CONCERNS_ALL`, which concern all clips.
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
    """Returns a sample per clip of a batch; an unreadable clip is replaced by the first readable one."""
    first = next(sample for _, sample in decoded if isinstance(sample, Sample))
    return [sample if isinstance(sample, Sample) else first for _, sample in decoded]


def rows_of(query: Query, rows: Sequence[int]) -> Query:
    """Returns a query of some rows of another query, with an empty cache."""
    places = list(rows)
    return Query(query.frames[places], query.target[places], tuple(query.seeds[row] for row in places))
