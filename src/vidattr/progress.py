"""How far a computation inside a batch is: methods with many passes tell it, and whoever runs them may listen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass
class Level:
    """A loop, perhaps inside others.

    Attributes:
        done: Items that are finished.
        total: All items.
        unit: What is counted, "iterations".
        of: How many of these all items are together; a chunk of masks counts for several masks.
    """

    done: int
    total: int
    unit: str
    of: int

    def text(self) -> str:
        """Returns "120 of 400 iterations"."""
        return f"{round(self.of * self.done / self.total)} of {self.of} {self.unit}"


Listener = Callable[[float, str], object]
"""Takes the finished share, 0 to 1, and words for it."""
_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)
_LEVELS: ContextVar[tuple[Level, ...]] = ContextVar("levels", default=())


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Tells a listener how far the computations of the block are."""
    token, levels = _LISTENER.set(listener), _LEVELS.set(())
    try:
        yield
    finally:
        _LEVELS.reset(levels)
        _LISTENER.reset(token)


def tracked(items: Iterable[T], total: int, unit: str, of: int | None = None) -> Iterator[T]:
    """Yields items, and tells a listener how many are finished; loops may be inside each other.

    Args:
        items: The items.
        total: How many there are.
        unit: What is counted.
        of: How many of these all items are together; None: one each.
    """
    listener = _LISTENER.get()
    if listener is None or total < 1:
        yield from items
        return
    level = Level(0, total, unit, total if of is None else of)
    token = _LEVELS.set((*_LEVELS.get(), level))
    try:
        for item in items:
            _tell(listener)
            yield item
            level.done += 1
        _tell(listener)
    finally:
        _LEVELS.reset(token)


def _tell(listener: Listener) -> None:
    share, scale, words = 0.0, 1.0, []
    for level in _LEVELS.get():
        share += scale * level.done / level.total
        scale /= level.total
        if level.total > 1:
            words.append(level.text())
    listener(min(share, 1.0), ", ".join(words))
