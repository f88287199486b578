"""Divides clips into training and held-out ones, by video: clips of one video look alike."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from vidattr.labels import plain
from vidattr.training.frames import seed_of
from vidattr.training.recipes import Apart
from vidattr.types import Clip


def video_of(clip: Clip) -> str:
    """Returns the name of a clip's video; the clip's own name if the dataset names no video."""
    return clip.video or clip.id


def without(clips: Sequence[Clip], others: Sequence[Clip], apart: Apart = Apart.video) -> list[Clip]:
    """Returns the clips that share no video with the others, or that are not among the others."""
    if apart is Apart.clip:
        ids = {clip.id for clip in others}
        return [clip for clip in clips if clip.id not in ids]
    videos = {video_of(clip) for clip in others}
    return [clip for clip in clips if video_of(clip) not in videos]


def held_out(clips: Sequence[Clip], share: float, seed: int) -> tuple[list[Clip], list[Clip]]:
    """Divides clips by whole videos into training and held-out clips.

    Videos are visited in an order that the seed decides. A video is held out if each of its classes then has at most
    the share, rounded up, of its videos held out, and at least one left to train on. A class with a single video is
    therefore never held out.

    Args:
        clips: All of them.
        share: Share of the videos of each class that is held out; 0: none.
        seed: Decides which.

    Returns:
        The training clips and the held-out clips, each in the order of `clips`.
    """
    classes: dict[str, set[str]] = {}
    for clip in clips:
        classes.setdefault(video_of(clip), set()).add(plain(clip.label))
    count = Counter(label for labels in classes.values() for label in labels)
    most = {label: min(math.ceil(share * n), n - 1) for label, n in count.items()}
    total, taken = max(round(share * len(classes)), int(share > 0)), set[str]()
    used: Counter[str] = Counter()
    order = sorted(classes, key=lambda video: seed_of(seed, video))
    for video in order:
        if len(taken) < total and all(used[label] < most[label] for label in classes[video]):
            taken.add(video)
            used.update(classes[video])
    return (
        [clip for clip in clips if video_of(clip) not in taken],
        [clip for clip in clips if video_of(clip) in taken],
    )
