"""The number of frames of a video file and their time stamps, from its packets, before any packet is decoded.

Only local files are read: the absolute path is passed with the prefix `file:`, other protocols are not allowed, and
playlists are refused.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vidattr.video.footage import MAX_PIXELS, NoVideoError, UnreadableError
from vidattr.video.random_access import Point, starts_afresh

if TYPE_CHECKING:
    from av import Packet
    from av.container import InputContainer
    from av.video import VideoStream

FORMATS = (
    "aac,aiff,asf,avi,av1,dv,flac,flv,gif,h264,hevc,ivf,m4v,matroska,mjpeg,mov,mp3,mpeg,mpegts,mpegvideo,mxf,nut,"
    "obu,ogg,rm,vc1,wav,"
    "webm,yuv4mpegpipe"
)
OPTIONS = {"protocol_whitelist": "file", "format_whitelist": FORMATS}

_DECODE_TIME_ONLY = frozenset({"avi", "h264", "hevc", "m4v", "mpegvideo"})
"""Formats without presentation times: their time stamps do not give the order of reordered frames."""

_WITH_DURATION = frozenset({"asf", "flv", "matroska", "mov"})
"""Formats whose header states the duration; for other formats FFmpeg estimates it from the file."""

_HIDDEN_FRAMES = frozenset({"vp8", "vp9"})
"""Codecs with packets that are never shown: a packet without a frame is no error."""

REMEMBERED = 256
"""Files whose packets are remembered: 0.3 MB for ten minutes of 60 frames a second."""


@dataclass(frozen=True, eq=False)
class Packets:
    """Facts from header and packets of a video file.

    Attributes:
        promised: Number of frames in the header, at least `count`.
        about: `promised` is estimated from the duration.
        count: Number of packets that are shown.
        slack: How many frames fewer than `count` may be decoded without a warning.
        fps: Frames per second; None: unknown.
        start: Time stamp of the first frame; None if frames do not have their own time stamps.
        points: Packets from which decoding can begin with exact frames, in order; empty if that is not certain.
        stamps: The sorted time stamps; empty if they do not give the order of presentation.
    """

    promised: int
    about: bool
    count: int
    slack: int
    fps: float | None
    start: int | None
    points: tuple[Point, ...]
    stamps: NDArray[np.int64]

    def number(self, stamp: int | None) -> int | None:
        """Returns the number, from 1, of the frame with a time stamp; None if the time stamp does not determine it."""
        if stamp is None or not len(self.stamps):
            return None
        place = int(np.searchsorted(self.stamps, stamp))
        return place + 1 if place < len(self.stamps) and self.stamps[place] == stamp else None

    def point(self, first: int) -> Point | None:
        """Returns the last point at or before a frame; None if decoding has to begin at the start of the file."""
        place = bisect(self.points, first, key=lambda point: point.number)
        return self.points[place - 1] if place > 1 else None


@contextmanager
def opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Opens a video file and selects the stream that a player shows.

    Raises:
        UnreadableError: PyAV does not know the container, or cannot read it.
        NoVideoError: The file has only sound or cover pictures.
    """
    import av

    try:
        # Metadata that is not UTF-8 does not matter for the pixels.
        with av.open(f"file:{path.absolute()}", metadata_errors="replace", options=OPTIONS) as container:
            stream = _picked(container)
            stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
            yield container, stream
    except (av.FFmpegError, UnicodeError) as error:
        raise UnreadableError(str(error)) from error


def packets(path: Path) -> Packets:
    """Returns the facts of a video file; the file is read again only after it changed.

    Raises:
        UnreadableError, NoVideoError: As for `opened`.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from error
    return _packets(path.absolute(), (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))


@lru_cache(maxsize=REMEMBERED)
def _packets(path: Path, _look: tuple[int, ...]) -> Packets:
    with opened(path) as (container, stream):
        scan = _scan(container, stream)
        promised, about = _promised(container, stream, scan)
        codec, formats = stream.codec_context, container.format.name.split(",")
        hidden = codec.name in _HIDDEN_FRAMES
        reordered = codec.has_b_frames and not _DECODE_TIME_ONLY.isdisjoint(formats)
        stamps = np.unique([stamp for stamp in scan.stamps if stamp is not None]).astype(np.int64)
        start = None if reordered else int(stamps[0]) if len(stamps) else 0
        if hidden or reordered or len(stamps) < len(scan.stamps):  # a time stamp is missing or occurs twice
            stamps = stamps[:0]
        count = len(scan.stamps)
        return Packets(
            promised,
            about,
            count,
            slack=count if hidden else 1,  # ffmpeg drops the last frame of a packed AVI file
            fps=float(stream.average_rate) if stream.average_rate else None,
            start=start,
            points=_points(scan, stamps),
            stamps=stamps,
        )


def _points(scan: _Scan, stamps: NDArray[np.int64]) -> tuple[Point, ...]:
    """Returns the points of a file that begins with a point; in others the first number is not certain."""
    if not len(stamps) or not scan.fresh or scan.fresh[0][:2] != (0, int(stamps[0])):
        return ()
    return tuple(Point(int(np.searchsorted(stamps, pts)) + 1, pts, at) for _, pts, at in scan.fresh)


def _picked(container: InputContainer) -> VideoStream:
    """Returns the stream that a player shows, which is never a cover picture."""
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
    """Facts from the packets of a container.

    Attributes:
        stamps: The time stamp of each packet that is shown; packets that an edit list hides are decoded and not shown.
        fresh: Index in `stamps`, time stamp and time in the container's index of each packet that refers to none before
            it.
        hidden: Number of packets that are empty or hidden.
        end: End of the last packet of the video stream, in seconds.
        last: End of the last packet of any stream, in seconds.
    """

    stamps: list[int | None] = field(default_factory=list)
    fresh: list[tuple[int, int, int]] = field(default_factory=list)
    hidden: int = 0
    end: float = 0.0
    last: float = 0.0


def _scan(container: InputContainer, stream: VideoStream) -> _Scan:
    found = _Scan()
    codec, head = stream.codec_context.name, bytes(stream.codec_context.extradata or b"")
    formats = container.format.name.split(",")
    for packet in demuxed(container, None, []):
        ours = packet.stream_index == stream.index
        if packet.size and packet.pts is not None:
            end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
            found.last = max(found.last, end)
            found.end = max(found.end, end) if ours else found.end
        if ours and packet.size and not packet.is_discard:
            at = packet.dts if "mov" in formats else packet.pts if "matroska" in formats else None
            if packet.pts is not None and at is not None and packet.is_keyframe and starts_afresh(codec, head, packet):
                found.fresh.append((len(found.stamps), packet.pts, at))
            found.stamps.append(packet.pts)
        elif ours and (packet.size or packet.dts is not None):
            found.hidden += 1
    return found


def demuxed(container: InputContainer, stream: VideoStream | None, stopped: list[str]) -> Iterator[Packet[Any]]:
    """Yields the packets of one stream or of all streams, and then the empty packet that flushes the decoder.

    Args:
        container: The opened file.
        stream: The stream; None: all.
        stopped: The reason is appended to it if the container cannot be read to its end.
    """
    import av

    found: Iterator[Packet[Any]] = iter(container.demux(stream) if stream is not None else container.demux())
    while True:
        try:
            packet = next(found, None)
        except av.FFmpegError as error:
            stopped.append(error.strerror or str(error))
            if stream is not None:
                yield av.Packet()
            return
        if packet is None:
            return
        yield packet


def _promised(container: InputContainer, stream: VideoStream, scan: _Scan) -> tuple[int, bool]:
    """Returns the number of frames by the header, at least the number of packets, and whether it is an estimate.

    For a container without a frame count it is computed from the duration; formats without a header give no number.
    """
    count = len(scan.stamps)
    frames = stream.frames
    if "mov" in container.format.name.split(","):  # an edit list may hide frames before they become packets
        frames = min(frames, len(getattr(stream, "index_entries", range(frames))))
    if frames:
        return max(count, frames - scan.hidden), False
    tag = re.fullmatch(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", ""))
    length, end = 0.0, scan.last
    if tag:
        length, end = 3600 * int(tag[1]) + 60 * int(tag[2]) + float(tag[3]), scan.end
    elif container.duration and not _WITH_DURATION.isdisjoint(container.format.name.split(",")):
        length = container.duration / 1e6
    rate = float(stream.average_rate or 25)
    if end <= 0 or length - end <= max(2 / rate, 0.02 * length):
        return count, False
    return max(count, round(count * length / end)), True
