"""Timing of two ways to the same thing in turn, and seeded clips for it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from vidattr.models.network.network import VideoModel
from vidattr.types import Query

Row = dict[str, Any]


def seconds(work: Callable[[], object]) -> float:
    """Times one call, the device's queue emptied before and after."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def pair(
    name: str,
    ours: Callable[[], object],
    other: Callable[[], object],
    rounds: int,
    *,
    start: Callable[[], object] | None = None,
    warm: bool = True,
) -> Row:
    """Times two ways to the same thing in turn, after one warm-up each unless they are too long for that.

    `start` is what `ours` begins with and what does not count: its time is subtracted.
    """
    if warm:
        ours(), other()
    times = []
    for _ in range(rounds):
        before = seconds(start) if start else 0.0
        times.append((seconds(ours) - before, seconds(other)))
    return {
        "what": name,
        "ours_s": statistics.median(a for a, _ in times),
        "other_s": statistics.median(b for _, b in times),
        "ratio": statistics.median(a / b for a, b in times),
        "ratios": [a / b for a, b in times],
    }


def query_of(network: VideoModel, clips: int) -> Query:
    """Makes seeded noise clips of the network's own size."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(clips, 3, network.view.frames, *network.view.size, generator=generator).to(network.device)
    return Query(frames, torch.zeros(clips, dtype=torch.int64, device=network.device), tuple(range(clips)))
