"""Decodes video files: skips damaged packets, numbers every frame, and reports what is missing.

The key-frame index of a container is not trusted, because it is wrong in some files. `_from` begins in the middle of a
file only where the bitstream guarantees the same frames, and checks the number of each frame.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from vidattr.types import Pixels
from vidattr.video.display_matrix import matrix_of, turn, upright
from vidattr.video.footage import Footage, Load, Trouble, UnreadableError
from vidattr.video.packets import OPTIONS, REMEMBERED, Packets, demuxed, opened, packets
from vidattr.video.random_access import Point

if TYPE_CHECKING:
    from av import VideoFrame
    from cv2 import VideoCapture
    from cv2.typing import MatLike

VIDEO_SUFFIXES = frozenset(
    {
        ".3gp",
        ".asf",
        ".avi",
        ".divx",
        ".f4v",
        ".flv",
        ".m2ts",
        ".m4v",
        ".mkv",
        ".mov",
        ".mp4",
        ".mpeg",
        ".mpg",
        ".mts",
        ".ogv",
        ".ts",
    }
    | {".vob", ".webm", ".wmv"}
)

_OPENCV_VARIABLE = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
"""OpenCV reads its FFmpeg options from this variable each time it opens a file."""

_opening = Lock()  # the environment is shared by all threads


def pyav(path: Path) -> Footage:
    """Opens a video file by PyAV.

    Frames are numbered from 1 in the order of presentation, as in the undamaged file: if packets cannot be decoded, the
    time stamps of the other packets give the numbers of their frames. In an AVI file with reordered frames time stamps
    are missing, and each damaged packet counts as one frame. Frames that an edit list hides have no number. Nor have
    the first frames of a file that was cut from another one without the key frame that they refer to.

    Raises:
        UnreadableError: No container that PyAV knows.
        NoVideoError: The file has only sound or cover pictures.
    """
    found = packets(path)

    def noted(number: int, frame: VideoFrame) -> tuple[int, Load]:
        if not footage.times:
            footage.rotation = turn(matrix_of(frame.side_data))
        if frame.pts is not None and frame.time_base is not None and found.start is not None:
            footage.times[number] = float((frame.pts - found.start) * frame.time_base)
        return number, partial(_rgb, frame)

    def frames() -> Iterator[tuple[int, Load]]:
        import av

        trouble, footage.times = Trouble(), {}
        footage.trouble = trouble
        last = unseen = fields = 0
        stopped: list[str] = []
        with opened(path) as (container, stream):
            for packet in demuxed(container, stream, stopped):
                trouble.stopped = "; ".join(stopped)
                try:
                    pictures = stream.decode(packet)
                except av.FFmpegError:  # continue, as ffmpeg does: the next packet may be intact
                    trouble.failed += 1
                    unseen += 1
                    continue
                for frame in pictures:
                    rank = found.number(frame.pts)
                    if rank and not last and not trouble.failed:
                        trouble.leading = rank - 1
                    number = last + 1 + unseen if rank is None else max(last + 1, rank - trouble.leading)
                    last, unseen = number, 0
                    trouble.damaged += frame.is_corrupt
                    fields += frame.interlaced_frame
                    yield noted(number, frame)
        if fields and 2 * last >= found.count:  # with interlaced video a packet may hold one field, half a frame
            footage.slack = max(footage.slack, found.count - last)

    def frames_from(first: int) -> Iterator[tuple[int, Load]]:
        footage.trouble, footage.times = Trouble(), {}
        last = 0
        point = found.point(first)
        if point is not None and _begins_whole(path, found):
            for last, frame in _from(path, found, point):
                yield noted(last, frame)
            if last == found.count:
                return
        yield from ((number, load) for number, load in frames() if number > last)

    footage = Footage(
        range(1, found.promised + 1), frames, frames_from, found.count, found.slack, found.about, found.fps
    )
    return footage


def _from(path: Path, found: Packets, point: Point) -> Iterator[tuple[int, VideoFrame]]:
    """Yields the frames from a point on; stops before the first frame that an undamaged file would not give there."""
    import av

    stopped: list[str] = []
    try:
        with opened(path) as (container, stream):
            container.seek(point.at, stream=stream)
            coded = demuxed(container, stream, stopped)
            first = next((packet for packet in coded if packet.pts == point.pts), None)
            last = point.number - 1
            for packet in chain([] if first is None else [first], coded):
                for frame in stream.decode(packet):
                    number = found.number(frame.pts)
                    if number is not None and number < point.number == last + 1:
                        continue  # shown before the point; it may refer to frames that were not decoded
                    if number != last + 1 or frame.is_corrupt or stopped:
                        return
                    yield number, frame
                    last = number
    except (av.FFmpegError, UnreadableError):
        return


@lru_cache(maxsize=REMEMBERED)
def _begins_whole(path: Path, found: Packets) -> bool:
    """Returns whether the first decodable frame is number 1; otherwise numbers are counted from that frame."""
    import av

    with opened(path) as (container, stream):
        try:
            shown = (frame for packet in demuxed(container, stream, []) for frame in stream.decode(packet))
            return found.number(next(shown).pts) == 1
        except (av.FFmpegError, StopIteration):
            return False


def _rgb(frame: VideoFrame) -> Pixels:
    return upright(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8), matrix_of(frame.side_data))


def opencv(path: Path) -> Footage:
    """Opens a video file that PyAV cannot read, by OpenCV, which does not report frames that it fails to decode.

    Raises:
        UnreadableError: The file name is not UTF-8; OpenCV would end the process.
    """
    import cv2

    name = str(path.absolute())
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise UnreadableError("its name is not UTF-8") from error

    def frames() -> Iterator[tuple[int, Load]]:
        footage.trouble = Trouble(
            remarks=["read by OpenCV, which stops at the first damaged frame and does not say so"]
        )
        capture = _capture(name)
        try:
            number = 0
            while capture.grab():
                number += 1
                yield number, lambda: _retrieved(*capture.retrieve())
        finally:
            capture.release()

    capture = _capture(name)
    fps = float(capture.get(cv2.CAP_PROP_FPS)) or None
    capture.release()
    footage = Footage((), frames, fps=fps)  # frames are counted, because OpenCV's number of frames is often wrong
    return footage


def _capture(name: str) -> VideoCapture:
    """Opens a file by OpenCV with the options that PyAV is given, unless the user has set others for OpenCV."""
    import cv2

    with _opening:
        own = _OPENCV_VARIABLE not in os.environ
        if own:
            os.environ[_OPENCV_VARIABLE] = "|".join(f"{name};{value}" for name, value in OPTIONS.items())
        try:
            return cv2.VideoCapture(name, cv2.CAP_FFMPEG)
        finally:
            if own:
                del os.environ[_OPENCV_VARIABLE]


def _retrieved(ok: bool, pixels: MatLike) -> Pixels:
    import cv2

    if not ok:
        raise UnreadableError("a frame cannot be converted")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)
