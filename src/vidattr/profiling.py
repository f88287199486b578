"""Measures how long the parts of a method take: named stages, which cost nothing unless a stopwatch runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_watch: ContextVar[dict[str, float] | None] = ContextVar("stopwatch", default=None)


@contextmanager
def stopwatch() -> Iterator[dict[str, float]]:
    """Measures the stages inside its block: yields a dict that fills with seconds by stage, and `total` at the end.

    The time of a stage inside another stage counts for the inner one only. The device's queue is emptied at the start
    and the end of each stage, so that the times add up; this makes the total a little longer.
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
    """Adds the time of its block to the stage `name`, if a stopwatch runs."""
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
    # Work that is being recorded (a CUDA graph) does not run yet, and forbids waiting.
    if torch.cuda.is_available() and not torch.cuda.is_current_stream_capturing():
        torch.cuda.synchronize()
    return time.perf_counter()
