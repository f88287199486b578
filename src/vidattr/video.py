"""Reads clips: every frame decoded in order, T of them kept, resized as the network takes them, with their boxes.

Files are never sought in, because some key-frame indexes are broken; so a frame number is exact. Frames that are not
kept are decoded but not converted, and a kept frame is resized at once: memory does not grow with the length of the file.
Nothing here is shared between calls, so that background threads may read at the same time.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vidattr.errors import ClipError
from vidattr.geometry import Placement
from vidattr.types import Box, Clip, Pixels, Sample
from vidattr.view import Sampling, View

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video import VideoStream
    from cv2.typing import MatLike

VIDEO_SUFFIXES = frozenset({".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"})
IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})

Load = Callable[[], Pixels]
_Placed = tuple[Pixels, tuple[Box, ...]]


@dataclass(frozen=True)
class _Footage:
    """The frames of a source, by number.

    Attributes:
        expected: The frame numbers, as far as they are known without decoding.
        frames: Yields every (number, load) in order; `load` gives the pixels and holds until the next one is asked for.
    """

    expected: Sequence[int]
    frames: Callable[[], Iterator[tuple[int, Load]]]


class _UnreadableError(Exception):
    """One decoder cannot read a file; another may."""


def read(clip: Clip, view: View, sampling: Sampling | None = None) -> Sample:
    """Decodes a clip as a network takes it.

    Args:
        clip: The clip; only the frames of its `span` are looked at, if it has one.
        view: Number of frames, size and geometry.
        sampling: Which frames are taken; None: as `view` says.

    Raises:
        ClipError: The source is missing, empty or unreadable by every decoder.
    """
    reasons = []
    for name, opened in _decoders(clip.source).items():
        try:
            return _sample(clip, opened(), view, sampling or view.sampling)
        except _UnreadableError as error:
            reasons.append(f"{name}: {error}")
    raise ClipError(
        f"cannot read {clip.source if isinstance(clip.source, Path) else clip.id}: {'; '.join(reasons)}",
        expected="a video file with at least one frame, or a folder of numbered images",
        remedy="copy or re-encode the file (ffmpeg -i FILE -c:v libx264 NEW.mp4), or take it out of the dataset",
    )


def sample(count: int, frames: int, sampling: Sampling, stride: int = 1) -> list[int]:
    """Returns which of L = `count` available frames are taken as the T = `frames` frames of a network.

    * uniform: the centres of T equal segments, ⌊(2i+1)·L/2T⌋; a short clip repeats frames.
    * floor: i·⌊L/T⌋. A short clip is taken frame by frame, and its last frame repeated.
    * stride: i·stride; past the end the last frame is repeated.
    * released_first: 0, r, 2r, … below L with r = ⌊L/T⌋, of which the last T are kept: the head is dropped where T ∤ L.
    * released_last: L−1, L−1−r, …, of which T are kept, put in order: the head is dropped where T ∤ L.

    The released kinds are those of the released code of perturbation-based video explanations (WACV 2021). Unlike that
    code, which has no answer for L < T (r = 0), they then fall back to uniform.

    Args:
        count: L, at least 1.
        frames: T, at least 1.
        sampling: The kind.
        stride: Distance between two frames of `stride` sampling.

    Returns:
        T positions in 0 … L−1, never falling.
    """
    step = count // frames
    if sampling is Sampling.floor:
        return [min(i * max(step, 1), count - 1) for i in range(frames)]
    if sampling is Sampling.stride:
        return [min(i * stride, count - 1) for i in range(frames)]
    if sampling is Sampling.released_first and step:
        return list(range(0, count, step))[-frames:]
    if sampling is Sampling.released_last and step:
        return [count - 1 - i * step for i in reversed(range(frames))]
    return [(2 * i + 1) * count // (2 * frames) for i in range(frames)]


def _sample(clip: Clip, footage: _Footage, view: View, sampling: Sampling) -> Sample:
    first, last = clip.span or (0, sys.maxsize)

    def choose(available: Sequence[int]) -> tuple[int, ...]:
        return tuple(available[i] for i in sample(len(available), view.frames, sampling, view.stride)) if available else ()

    def decode(expected: Sequence[int]) -> tuple[list[int], dict[int, _Placed]]:
        """Returns the numbers of all frames of the clip, and those frames that would be taken if `expected` were they."""
        wanted = frozenset(choose(expected))
        numbers, kept = [], {}
        for number, load in footage.frames():
            if number > last:
                break
            if number >= first:
                numbers.append(number)
            if number in wanted:
                kept[number] = _place(load(), clip, number, view)
        return numbers, kept

    expected = [n for n in footage.expected if first <= n <= last]
    numbers, kept = decode(expected)
    if numbers != expected:  # the container was wrong about its length, or silent
        numbers, kept = decode(numbers)
    if not numbers:
        raise _UnreadableError("no frames" if clip.span is None else f"no frames from {first} to {last}")
    taken = choose(numbers)
    return Sample(
        pixels=np.stack([kept[n][0] for n in taken]),
        numbers=taken,
        boxes=tuple(kept[n][1] for n in taken),
        segment=None if clip.segment is None else tuple(clip.segment[0] <= n <= clip.segment[1] for n in taken),
    )


def _place(frame: Pixels, clip: Clip, number: int, view: View) -> _Placed:
    placement = Placement.of((frame.shape[0], frame.shape[1]), view)
    return placement.pixels(frame), placement.boxes(clip.boxes.get(number, ()), clip.box_size)


def _decoders(source: Path | Callable[[], Pixels]) -> dict[str, Callable[[], _Footage]]:
    """Returns the ways to open a source by name, the best first."""
    if not isinstance(source, Path):
        return {"made by code": partial(_made, source)}
    if source.is_dir():
        return {"folder of frames": partial(_folder, source)}
    if not source.is_file():
        raise ClipError(f"no such file or folder: {source}", remedy="check dataset.root, or take the clip out of the list")
    return {"PyAV": partial(_pyav, source), "OpenCV": partial(_opencv, source)}


def _made(source: Callable[[], Pixels]) -> _Footage:
    frames = source()
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise _UnreadableError(f"its frames are {frames.dtype} of shape {frames.shape}, not uint8 (T, H, W, 3)")
    return _Footage(range(1, len(frames) + 1), lambda: ((n, partial(frames.__getitem__, n - 1)) for n in range(1, len(frames) + 1)))


def _folder(folder: Path) -> _Footage:
    """Opens a folder of images whose names end in the 1-based frame number; numbers may be padded and have gaps."""
    files: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        digits = re.search(r"[0-9]+$", path.stem)
        if digits is None:
            raise _UnreadableError(f"{path.name} has no frame number at the end of its name")
        number = int(digits[0])
        if number in files:
            raise _UnreadableError(f"{files[number].name} and {path.name} are both frame {number}")
        files[number] = path
    numbers = sorted(files)
    return _Footage(numbers, lambda: ((n, partial(_image, files[n])) for n in numbers))


def _image(path: Path) -> Pixels:
    import cv2

    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise _UnreadableError(f"{path.name} is not a readable image")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)


def _pyav(path: Path) -> _Footage:
    import av

    @contextmanager
    def opened() -> Iterator[tuple[InputContainer, VideoStream]]:
        try:
            # Metadata that is not UTF-8 says nothing about the pixels.
            with av.open(str(path), metadata_errors="replace") as container:
                stream = container.streams.best("video")
                if not isinstance(stream, av.VideoStream):
                    raise _UnreadableError("no video stream")
                yield container, stream
        except (av.FFmpegError, UnicodeError) as error:
            raise _UnreadableError(str(error)) from error

    def frames() -> Iterator[tuple[int, Load]]:
        with opened() as (container, stream):
            pictures = (frame for packet in container.demux(stream) for frame in stream.decode(packet))
            for number, frame in enumerate(pictures, start=1):
                yield number, partial(_rgb, frame)

    with opened() as (container, stream):
        # A packet that the container marks as discarded (by an edit list) is decoded and never shown.
        count = sum(1 for packet in container.demux(stream) if packet.size and not packet.is_discard)
    return _Footage(range(1, count + 1), frames)


def _rgb(frame: VideoFrame) -> Pixels:
    # The rotation is counter-clockwise: a telephone held upright stores its pictures lying on the side.
    return np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)


def _opencv(path: Path) -> _Footage:
    import cv2

    def frames() -> Iterator[tuple[int, Load]]:
        capture = cv2.VideoCapture(str(path))
        try:
            number = 0
            while capture.grab():
                number += 1
                yield number, lambda: _retrieved(*capture.retrieve())
        finally:
            capture.release()

    return _Footage((), frames)  # what OpenCV says of the number of frames is often wrong: they are counted


def _retrieved(ok: bool, pixels: MatLike) -> Pixels:
    import cv2

    if not ok:
        raise _UnreadableError("a frame cannot be converted")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)
