"""Where the frames of EPIC-KITCHENS-55 lie: videos, folders of frames, tar files of frames, and published cut-outs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum, auto
from pathlib import Path

from vidattr.datasets.shared.epic_annotations import RATE, VideoInfo
from vidattr.datasets.shared.epic_segments import Boxes, Segment
from vidattr.errors import ConfigError
from vidattr.types import Box
from vidattr.video.decoders import VIDEO_SUFFIXES
from vidattr.video.footage import UnreadableError
from vidattr.video.frame_folder import IMAGE_SUFFIXES, frame_files
from vidattr.video.frame_tar import tar_frames
from vidattr.video.preprocessing import Preprocessing, Sampling
from vidattr.video.sampling import sample

LAYOUT = (
    "videos/train/P01/P01_01.MP4, rgb/train/P01/P01_01/frame_0000000001.jpg, rgb/train/P01/P01_01.tar, or cut-outs "
    "<noun>-<verb>-<video>_<segment>/000000001.png"
)
_VIDEO = re.compile(r"P\d\d_\d+")
_CUT_OUT = re.compile(r".+-P\d\d_\d+_(?P<id>\d+)")
_DEEPEST = 8


class FrameSource(StrEnum):
    """The kind of source that is read; `any`: the first of frames, tar, videos and cutouts that exists."""

    any = auto()
    frames = auto()
    tar = auto()
    videos = auto()
    cutouts = auto()


@dataclass
class OnDisk:
    """The sources under a root: name of a video, or number of a cut-out segment, to its path."""

    frames: dict[str, Path] = field(default_factory=dict)
    tar: dict[str, Path] = field(default_factory=dict)
    videos: dict[str, Path] = field(default_factory=dict)
    cutouts: dict[str, Path] = field(default_factory=dict)

    def of(self, segment: Segment, wanted: FrameSource) -> tuple[FrameSource, Path] | None:
        """Returns the kind and the path of the source of a segment's frames; None if there is none."""
        for kind in FrameSource if wanted is FrameSource.any else [wanted]:
            name = segment.id if kind is FrameSource.cutouts else segment.video
            if kind is not FrameSource.any and (path := getattr(self, kind.value).get(name)) is not None:
                return kind, path
        return None


def on_disk(root: str) -> OnDisk:
    """Returns the sources under a root, at any depth; folders called `flow` hold no frames and are ignored.

    Raises:
        ConfigError: No such folder, or nothing of EPIC-KITCHENS in it.
    """
    remedy = "dataset.root=FOLDER"
    if not root or not os.path.isdir(root):
        raise ConfigError(f"no such folder: dataset.root={root!r}", expected=LAYOUT, remedy=remedy)
    found = OnDisk()
    for path in _walk(Path(root), 0):
        cut_out, suffix = _CUT_OUT.fullmatch(path.name), path.suffix.lower()
        if suffix == ".tar":
            found.tar.setdefault(path.stem, path)
        elif suffix in VIDEO_SUFFIXES:
            found.videos.setdefault(path.stem, path)
        elif cut_out:
            found.cutouts.setdefault(cut_out["id"], path)
        else:
            found.frames.setdefault(path.name, path)
    if not any((found.frames, found.tar, found.videos, found.cutouts)):
        raise ConfigError(
            f"no videos or folders of frames of EPIC-KITCHENS in dataset.root={root!r}", expected=LAYOUT, remedy=remedy
        )
    return found


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    """Yields files and folders that are named as a video or a cut-out, in order.

    Folders of frames are not looked into.
    """
    try:
        with os.scandir(folder) as entries:
            inside = sorted((entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith("."))
    except OSError:
        return
    for name, is_folder in inside:
        path = folder / name
        if is_folder and (_CUT_OUT.fullmatch(name) or (_VIDEO.fullmatch(name) and _has_frames(path))):
            yield path
        elif is_folder and name != "flow" and depth < _DEEPEST:
            yield from _walk(path, depth + 1)
        elif not is_folder and _VIDEO.fullmatch(path.stem) and path.suffix.lower() in (".tar", *VIDEO_SUFFIXES):
            yield path


def _has_frames(path: Path) -> bool:
    try:
        with os.scandir(path) as entries:
            return any(os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES for entry in entries)
    except OSError:
        return False


@dataclass(frozen=True)
class Located:
    """A segment in the numbers of its source.

    Attributes:
        span: First and last frame of the source that are shown; None: all.
        segment: First and last frame that show the class, where only a part of the shown frames does.
        boxes: Frame number of the source to boxes.
    """

    span: tuple[int, int] | None
    segment: tuple[int, int] | None
    boxes: Mapping[int, tuple[Box, ...]]


def in_frames(segment: Segment, last: int, tolerance: int) -> Located:
    """Returns a segment in numbered frames, whose numbers are those of the annotation.

    Raises:
        ValueError: It ends after `last`, the highest frame number there is.
    """
    first, end = segment.shown
    if end > last or first < 1:
        raise ValueError(f"frames {first} to {end} are outside of its video, which has the frames 1 to {last}")
    return Located(segment.shown, _part(segment), near(segment.boxes, tolerance, segment.shown))


def in_video(segment: Segment, info: VideoInfo, tolerance: int) -> Located:
    """Returns a segment in the frames of its video.

    Frame n of the annotation is shown at (n − 1)/60 s; the nearest frame of the video is used.

    Raises:
        ValueError: It ends after the video, by more than half a second.
    """
    first, end = segment.shown
    if end > (info.duration + 0.5) * RATE or first < 1:
        raise ValueError(
            f"frames {first} to {end} are outside of its video, which lasts {info.duration:g} s "
            f"at {RATE:g} frames a second"
        )

    def at(number: int) -> int:
        return int((number - 1) * info.fps / RATE + 0.5) + 1

    part = _part(segment)
    found = near(segment.boxes, tolerance, segment.shown)
    return Located(
        (at(first), at(end)),
        part and (at(part[0]), at(part[1])),
        {at(number): boxes for number, boxes in found.items()},
    )


def in_cut_out(segment: Segment, count: int, sampling: Sampling, tolerance: int) -> Located:
    """Returns a segment of which `count` frames were cut out, numbered from 1.

    Args:
        segment: The segment.
        count: Number of pictures.
        sampling: By which rule they were taken from the segment: which number a picture had decides which boxes lie on
            it.
        tolerance: As in `near`.

    Raises:
        ValueError: The segment has a window, and what is beside the segment was not cut out.
    """
    if segment.window is not None:
        raise ValueError("it is a cut-out: what precedes and follows it in the video is not there")
    length = segment.last - segment.first + 1
    numbers = [segment.first + place for place in sample(length, Preprocessing(frames=count, sampling=sampling))]
    boxes = near(segment.boxes, tolerance, segment.shown)
    return Located(None, None, {place: boxes[number] for place, number in enumerate(numbers, 1) if number in boxes})


def _part(segment: Segment) -> tuple[int, int] | None:
    first, last = segment.shown
    inside = max(first, segment.first), min(last, segment.last)
    return None if inside == segment.shown else inside


def near(boxes: Boxes, tolerance: int, shown: tuple[int, int]) -> dict[int, tuple[Box, ...]]:
    """Returns the boxes of every shown frame within `tolerance` frames of an annotated one.

    The nearest annotated frame gives the boxes; of two that are equally near, the earlier one does.
    """
    found: dict[int, tuple[Box, ...]] = {}
    for distance in range(tolerance + 1):
        for step in dict.fromkeys((distance, -distance)):
            for number in sorted(boxes):
                if shown[0] <= number + step <= shown[1]:
                    found.setdefault(number + step, boxes[number])
    return dict(sorted(found.items()))


def last_number(kind: FrameSource, path: Path, first_frame: int) -> int:
    """Returns the highest frame number of a folder or a tar file of frames.

    Raises:
        UnreadableError: It cannot be read, or holds no frame.
    """
    numbers: Sequence[int] = list(
        tar_frames(path, first_frame) if kind is FrameSource.tar else frame_files(path, first_frame)[0]
    )
    if not numbers:
        raise UnreadableError("it holds no frame")
    return max(numbers)
