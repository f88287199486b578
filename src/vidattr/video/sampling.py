"""Selects the frames of a clip that a network sees, by the rules of the code that trained it."""

from __future__ import annotations

import math

import numpy as np

from vidattr.errors import ClipError
from vidattr.video.preprocessing import PLACED, Preprocessing, Sampling, Short


def sample(count: int, view: Preprocessing, fps: float | None = None) -> list[int]:
    """Selects the T frames of a network from n = `count` available frames.

    Rules that use the whole clip:

    * uniform: the centres of T equal segments, ⌊(2i+1)·n/2T⌋ (TSM's test). Frames of a short clip are repeated.
    * ends: ⌊i·(n−1)/(T−1)⌋, from the first frame to the last (the released code of Saliency Tubes).
    * floor: i·⌊n/T⌋. A short clip is used frame by frame, and its last frame is repeated.
    * released_first: the last T of 0, r, 2r, … below n, with r = ⌊n/T⌋; the first frames are dropped if T ∤ n.
    * released_last: the first T of n−1, n−1−r, …, in ascending order; the first frames are dropped if T ∤ n.

    The two released rules are those of the code released with Li et al. (WACV 2021). Unlike that code, which fails for
    n < T (r = 0), they fall back to uniform then.

    Rules that use a part of S frames, which starts at s = ⌊`place`·(n − S)⌋ (s = 0 if n < S) or at `start` seconds:

    * stride: s + i·`stride`, s = 0 unless `start` is given.
    * center: the same, S = (T−1)·stride + 1 (mmaction2; 3D-ResNets' centre crop in time; torchvision).
    * dense: the same, S = T·stride (TSM's dense test).
    * windows: the same, where s is the start of a window. The ⌊n/S⌋ windows of S = (T−1)·stride + 1 frames follow each
      other without a gap, and `place` selects one of them (MFNet's validation).
    * span: T evenly spaced numbers from s to s + S − 1, truncated, with S = T·stride; s is not rounded (PySlowFast,
      TimeSformer).
    * transformers: the same from s to s + S, clipped to s + S − 1 (the examples of HuggingFace's library).

    With `fps`, these rules count the frames of a video that is resampled to that rate: frame j is frame ⌊j·r⌋ of the
    source, where r is the source's rate divided by `fps` (torchvision's `VideoClips`). `span` takes S = T·stride·r
    frames of the source (PySlowFast). A source of unknown rate is not resampled. After the last frame of the clip, the
    last frame is repeated or the clip starts again (`short`).

    Args:
        count: n, at least 1.
        view: The preprocessing of the network.
        fps: Frames per second of the source; None: unknown, `view.unknown_fps` is used.

    Returns:
        T positions in 0 … n−1.

    Raises:
        ClipError: `start` is past the end of the clip, or its rate is not known.
    """
    rate = fps or view.unknown_fps
    ratio = 1.0 if view.fps is None or rate is None else rate / view.fps
    if view.sampling is Sampling.span:
        length = view.frames * view.stride * ratio
        begin = max(count - length, 0) * view.place if view.start is None else _start(count, view, rate)
        return _within(
            np.linspace(begin, begin + max(length - 1, 0), view.frames).astype(int).tolist(), count, view.short
        )
    # As in torchvision: an integer ratio slices the list, any other ratio truncates the number of frames.
    available = count if ratio == 1 else max(1, math.ceil(count / ratio) if ratio.is_integer() else int(count / ratio))
    first = None if view.start is None else int(_start(count, view, rate) / ratio)
    positions = _part(available, view, first) if view.sampling in PLACED else _whole(available, view)
    return [min(int(position * ratio), count - 1) for position in positions]


def _start(count: int, view: Preprocessing, rate: float | None) -> float:
    """Returns `start` as a number of frames of the source."""
    rate = rate or view.fps
    if view.start is None or rate is None:
        raise ClipError(
            f"model.input.start={view.start} is in seconds, and the source has no frame rate",
            remedy="set model.input.unknown_fps",
        )
    if int(view.start * rate) >= count:
        raise ClipError(
            f"model.input.start={view.start:g} s is after the end of the clip: {count} frames, {rate:g} per second",
            remedy="an earlier start, or null",
        )
    return view.start * rate


def _whole(count: int, view: Preprocessing) -> list[int]:
    frames, step = view.frames, count // view.frames
    if view.sampling is Sampling.ends:
        return [i * (count - 1) // max(frames - 1, 1) for i in range(frames)]
    if view.sampling is Sampling.floor:
        return [min(i * max(step, 1), count - 1) for i in range(frames)]
    if view.sampling is Sampling.released_first and step:
        return list(range(0, count, step))[-frames:]
    if view.sampling is Sampling.released_last and step:
        return [count - 1 - i * step for i in reversed(range(frames))]
    return [(2 * i + 1) * count // (2 * frames) for i in range(frames)]


def _part(count: int, view: Preprocessing, first: int | None) -> list[int]:
    kind, frames, stride = view.sampling, view.frames, view.stride
    size = frames * stride if kind in (Sampling.dense, Sampling.transformers) else (frames - 1) * stride + 1
    first = _first(count, size, view) if first is None else first
    positions = [first + i * stride for i in range(frames)]
    if kind is Sampling.transformers:
        positions = np.linspace(first, first + size, frames).clip(max=first + size - 1).astype(int).tolist()
    return _within(positions, count, view.short)


def _first(available: int, size: int, view: Preprocessing) -> int:
    if view.sampling is Sampling.stride:
        return 0
    # 1e-9 more, because a float cannot hold shares such as 6/11 exactly.
    if view.sampling is Sampling.windows:
        windows = available // size
        return min(int(view.place * windows + 1e-9), windows - 1) * size if windows else 0
    return int(view.place * max(available - size, 0) + 1e-9)


def _within(positions: list[int], count: int, short: Short) -> list[int]:
    return [position % count if short is Short.loop else min(position, count - 1) for position in positions]
