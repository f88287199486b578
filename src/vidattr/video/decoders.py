"""Decodes video files: on past damaged packets, each frame with its number, and with an account of what is missing.

Files are never sought in, because some key-frame indexes are broken. A file is read as a local file and nothing else:
its path is handed over absolute behind `file:`, no other protocol is allowed, and playlists and the like are no videos.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from vidattr.types import Pixels
from vidattr.video.display_matrix import matrix_of, turn, upright
from vidattr.video.footage import MAX_PIXELS, Footage, Load, NoVideoError, Trouble, UnreadableError

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.video import VideoStream
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

_FORMATS = (
    "aac,aiff,asf,avi,av1,dv,flac,flv,gif,h264,hevc,ivf,m4v,matroska,mjpeg,mov,mp3,mpeg,mpegts,mpegvideo,mxf,nut,"
    "obu,ogg,rm,vc1,wav,"
    "webm,yuv4mpegpipe"
)
_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}
_OPENCV_VARIABLE = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
"""OpenCV takes its options from this variable each time it opens a file by FFmpeg."""

_opening = Lock()  # the variable belongs to the process

_DECODE_TIME_ONLY = frozenset({"avi", "h264", "hevc", "m4v", "mpegvideo"})
"""Formats whose packets have no presentation time: time stamps do not give the order of reordered frames."""

_WITH_DURATION = frozenset({"asf", "flv", "matroska", "mov"})
"""Formats whose header states the duration; of the others it is an estimate made of the very file."""

_HIDDEN_FRAMES = frozenset({"vp8", "vp9"})
"""Codecs with packets that are never shown: that a packet gives no frame says nothing."""


def pyav(path: Path) -> Footage:
    """Opens a video file by PyAV.

    Frames are numbered from 1 in the order of presentation, as in the undamaged file: where packets cannot be decoded,
    the time stamps of the others tell which frames they are. In an AVI file with reordered frames they do not; there
    each bad packet counts as one frame. Frames that an edit list hides have no number, and neither have those at the
    head of a file that was cut out of another without the key frame that they need.

    Raises:
        UnreadableError: No container that PyAV knows.
        NoVideoError: Nothing but sound or cover pictures.
    """
    import av

    @contextmanager
    def opened() -> Iterator[tuple[InputContainer, VideoStream]]:
        try:
            # Metadata that is not UTF-8 says nothing about the pixels.
            with av.open(f"file:{path.absolute()}", metadata_errors="replace", options=_OPTIONS) as container:
                stream = _picked(container)
                stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
                yield container, stream
        except (av.FFmpegError, UnicodeError) as error:
            raise UnreadableError(str(error)) from error

    with opened() as (container, stream):
        found = _scan(container, stream)
        stamps = found.stamps
        promised, about = _promised(container, stream, found)
        name, codec = container.format.name, stream.codec_context
        reordered = codec.has_b_frames and not _DECODE_TIME_ONLY.isdisjoint(name.split(","))
        fps = float(stream.average_rate) if stream.average_rate else None
        start = min((stamp for stamp in stamps if stamp is not None), default=0)
        ranks = None if reordered or codec.name in _HIDDEN_FRAMES else _ranks(stamps)

    def frames() -> Iterator[tuple[int, Load]]:
        trouble = footage.trouble = Trouble()
        times = footage.times = {}
        last = unseen = 0
        fields = 0
        with opened() as (container, stream):
            for packet in _demuxed(container, stream, trouble):
                try:
                    pictures = stream.decode(packet)
                except av.FFmpegError:  # as ffmpeg does: the next packet may be whole
                    trouble.failed += 1
                    unseen += 1
                    continue
                for frame in pictures:
                    rank = ranks.get(frame.pts) if ranks and frame.pts is not None else None
                    if rank and not last and not trouble.failed:
                        trouble.leading = rank - 1
                    number = last + 1 + unseen if rank is None else max(last + 1, rank - trouble.leading)
                    last, unseen = number, 0
                    if not times:
                        footage.rotation = turn(matrix_of(frame.side_data))
                    if frame.pts is not None and frame.time_base is not None and not reordered:
                        times[number] = float((frame.pts - start) * frame.time_base)
                    trouble.damaged += frame.is_corrupt
                    fields += frame.interlaced_frame
                    yield number, partial(_rgb, frame)
        if fields and 2 * last >= len(stamps):  # a packet may hold one field, half a frame
            footage.slack = max(footage.slack, len(stamps) - last)

    slack = len(stamps) if codec.name in _HIDDEN_FRAMES else 1  # ffmpeg drops the last frame of a packed AVI file
    footage = Footage(range(1, promised + 1), frames, len(stamps), slack, about, fps)
    return footage


def _picked(container: InputContainer) -> VideoStream:
    """Returns the stream to be shown: a cover picture is none, whatever the file's kind."""
    from av.stream import Disposition

    still = Disposition.attached_pic | Disposition.timed_thumbnails
    moving = [stream for stream in container.streams.video if not stream.disposition & still]
    if not moving:
        covers = ", only a cover picture" if container.streams.video else ""
        raise NoVideoError(f"no video stream{covers}")
    best = container.streams.best("video")
    return next((stream for stream in moving if stream is best), moving[0])


@dataclass
class _Scan:
    """What the packets of a container say.

    Attributes:
        stamps: The time stamp of each packet that is to be shown; one that an edit list hides is decoded and never
            shown.
        hidden: How many packets are empty or hidden.
        end: Where the last packet of the picture ends, in seconds.
        last: Where the last packet of any stream ends.
    """

    stamps: list[int | None] = field(default_factory=list)
    hidden: int = 0
    end: float = 0.0
    last: float = 0.0


def _scan(container: InputContainer, stream: VideoStream) -> _Scan:
    found = _Scan()
    for packet in _demuxed(container, None, Trouble()):
        ours = packet.stream_index == stream.index
        if packet.size and packet.pts is not None:
            end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
            found.last = max(found.last, end)
            found.end = max(found.end, end) if ours else found.end
        if ours and packet.size and not packet.is_discard:
            found.stamps.append(packet.pts)
        elif ours and (packet.size or packet.dts is not None):
            found.hidden += 1
    return found


def _demuxed(container: InputContainer, stream: VideoStream | None, trouble: Trouble) -> Iterator[Packet[Any]]:
    """Yields the packets of one stream, or of all, and at their end the empty one that empties the decoder."""
    import av

    packets: Iterator[Packet[Any]] = iter(container.demux(stream) if stream is not None else container.demux())
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError as error:
            trouble.stopped = error.strerror or str(error)
            if stream is not None:
                yield av.Packet()
            return
        if packet is None:
            return
        yield packet


def _promised(container: InputContainer, stream: VideoStream, found: _Scan) -> tuple[int, bool]:
    """Returns how many frames the header promises, at least the number of packets, and whether it is an estimate.

    A container without a count is held to the duration in its header; formats without a header promise nothing.
    """
    count = len(found.stamps)
    frames = stream.frames
    if "mov" in container.format.name.split(","):  # an edit list may hide frames before they become packets
        frames = min(frames, len(getattr(stream, "index_entries", range(frames))))
    if frames:
        return max(count, frames - found.hidden), False
    tag = re.fullmatch(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", ""))
    length, end = 0.0, found.last
    if tag:
        length, end = 3600 * int(tag[1]) + 60 * int(tag[2]) + float(tag[3]), found.end
    elif container.duration and not _WITH_DURATION.isdisjoint(container.format.name.split(",")):
        length = container.duration / 1e6
    rate = float(stream.average_rate or 25)
    if end <= 0 or length - end <= max(2 / rate, 0.02 * length):
        return count, False
    return max(count, round(count * length / end)), True


def _ranks(stamps: Sequence[int | None]) -> dict[int, int] | None:
    """Returns the frame number that each time stamp means, or None where one is missing or stands twice."""
    times = sorted(stamp for stamp in stamps if stamp is not None)
    found = {time: number for number, time in enumerate(times, start=1)}
    return found if len(found) == len(stamps) else None


def _rgb(frame: VideoFrame) -> Pixels:
    return upright(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8), matrix_of(frame.side_data))


def opencv(path: Path) -> Footage:
    """Opens a video file by OpenCV, for what PyAV cannot read; what it does not decode is not told.

    Raises:
        UnreadableError: A name that is not UTF-8, which ends a process that uses OpenCV.
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
    footage = Footage((), frames, fps=fps)  # what OpenCV says of the number of frames is often wrong: they are counted
    return footage


def _capture(name: str) -> VideoCapture:
    """Opens a file by OpenCV with the options that PyAV is given, unless the user has set others for OpenCV."""
    import cv2

    with _opening:
        own = _OPENCV_VARIABLE not in os.environ
        if own:
            os.environ[_OPENCV_VARIABLE] = "|".join(f"{name};{value}" for name, value in _OPTIONS.items())
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
