"""Where the time of a method goes: named stages that cost nothing unless a stopwatch listens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_watch: ContextVar[dict[str, float] | None] = ContextVar("stopwatch", default=None)


@contextmanager
def stopwatch() -> Iterator[dict[str, float]]:
    """Listens to the stages inside: yields a dict that fills with seconds by stage, and `total`.

    A stage inside another counts for itself and not for the outer one. While a stopwatch listens, the device's queue is
    emptied at every border: the sum is honest, and a little longer than without one.
    """
    seconds: dict[str, float] = {}
    token = _watch.set(seconds)
    start = _now()
    try:
        yield seconds
    finally:
        seconds["total"] = _now() - start
        _watch.reset(token)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Charges the time of its block to the stage `name`, if a stopwatch listens."""
    seconds = _watch.get()
    if seconds is None:
        yield
        return
    inner: dict[str, float] = {}
    token = _watch.set(inner)
    start = _now()
    try:
        yield
    finally:
        spent = _now() - start
        _watch.reset(token)
        for part, value in [*inner.items(), (name, spent - sum(inner.values()))]:
            seconds[part] = seconds.get(part, 0.0) + value


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
