"""Which frames of a clip a sheet shows where it has no room for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vidattr.render.options import Scene


def pick(count: int, room: int, curves: Sequence[NDArray[np.floating]]) -> list[int]:
    """Returns the frames to show, in order: evenly spread from the first to the last, with the peak of every curve.

    A peak takes the place of the nearest frame that is no peak itself. If there is no room for all peaks, those of the
    first curves are shown.

    Args:
        count: T, the frames of the clip.
        room: The largest number of frames to show.
        curves: (T,) each, the importance of the frames; NaN counts as unimportant.
    """
    chosen = [int(t) for t in np.linspace(0, count - 1, min(room, count)).round()]
    peaks: list[int] = []
    for curve in curves:
        peak = int(np.where(np.isfinite(curve), curve, -np.inf).argmax())
        if peak in peaks:
            continue
        if peak not in chosen:
            free = [t for t in chosen if t not in peaks]
            if not free:
                break
            chosen[chosen.index(min(free, key=lambda t: abs(t - peak)))] = peak
        peaks.append(peak)
    return sorted(chosen)


def note(scene: Scene, shown: Sequence[int]) -> list[str]:
    """Returns what a sheet says of the frames that it leaves out; nothing if it shows all."""
    count = len(scene.numbers)
    return [f"{len(shown)} of {count} frames, with the peaks of the maps"] if len(shown) < count else []


def only(scene: Scene, shown: Sequence[int]) -> Scene:
    """Returns the scene with these frames only."""
    return replace(
        scene,
        pixels=scene.pixels[list(shown)],
        numbers=tuple(scene.numbers[t] for t in shown),
        boxes=tuple(scene.boxes[t] for t in shown) if scene.boxes else (),
        seconds=None if scene.seconds is None else tuple(scene.seconds[t] for t in shown),
    )
