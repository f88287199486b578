"""Random frames of training clips, and the seeds of all random numbers of a training."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import pairwise

import numpy as np

from vidattr.video.preprocessing import PLACED, Preprocessing, Sampling
from vidattr.video.sampling import sample


def seed_of(*parts: object) -> int:
    """Returns a number of 63 bits that depends on all parts.

    It is a seed for one purpose, independent of those for others.
    """
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:8], "big") >> 1


def random_frames(count: int, view: Preprocessing, fps: float | None, seed: int) -> list[int]:
    """Selects the T frames of a training clip at random from `count` frames.

    If the network sees a part of the clip, this part is at a random place. If it sees the whole clip, one random frame
    of each of T equal segments is selected; with released sampling, one of each of the last T blocks of r = ⌊count/T⌋
    frames, as in the training code released with Li et al. (WACV 2021). Unlike that code, a clip of fewer than T frames
    has the frames of test time.

    Args:
        count: n, at least 1.
        view: The network's preprocessing.
        fps: Frames per second of the source; None: unknown.
        seed: Decides the frames.

    Returns:
        T positions in 0 … n−1, in ascending order (but for `short=loop`).
    """
    random = np.random.default_rng(seed)
    frames = view.frames
    if view.sampling in PLACED:
        # `stride` always starts at the first frame; `center` selects the same frames from any place.
        kind = Sampling.center if view.sampling is Sampling.stride else view.sampling
        return sample(count, replace(view, sampling=kind, start=None, place=float(random.random())), fps)
    if count < frames:
        return sample(count, view, fps)
    if view.sampling in (Sampling.released_first, Sampling.released_last):
        step = count // frames
        starts = list(range(0, count, step))[-frames:]
        return [int(random.integers(start, min(start + step, count))) for start in starts]
    bounds = [i * count // frames for i in range(frames + 1)]
    return [int(random.integers(first, last)) for first, last in pairwise(bounds)]
