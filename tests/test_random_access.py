"""Reading a part of a long video: the same frames as when the video is decoded from its start, but sooner."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from vidattr.types import Clip
from vidattr.video import decoders
from vidattr.video.decode import read
from vidattr.video.decoders import pyav
from vidattr.video.preprocessing import Preprocessing

COUNT = 90
VIEW = Preprocessing(frames=6, size=[48, 64])
Frames = dict[int, np.ndarray[Any, Any]]


def write(path: Path, codec: str, options: dict[str, str], steps: list[int], shift: int = 0) -> Path:
    """A moving texture; `steps` are the ticks from each frame to the next, repeated."""
    texture = np.random.default_rng(0).integers(0, 256, (48, 64 + COUNT, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30, options=options)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 600)
        at = 0
        for number in range(COUNT):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(texture[:, number : number + 64]), format="rgb24")
            frame.pts, frame.time_base = at, Fraction(1, 600)
            at += steps[number % len(steps)]
            for packet in stream.encode(frame):
                _mux(container, packet, shift)
        for packet in stream.encode(None):
            _mux(container, packet, shift)
    return path


def _mux(container: Any, packet: Any, shift: int) -> None:
    packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
    container.mux(packet)


def taken(frames: Any) -> Frames:
    return {number: load() for number, load in frames}


def starts(path: Path) -> list[int]:
    """The first frame that is decoded for each part of the video; all parts are compared with the whole."""
    footage = pyav(path)
    whole = taken(footage.frames())
    times = footage.times
    found = []
    for first in (2, 24, 25, 60, 90):
        part = taken(footage.frames_from(first))
        assert [n for n in part if n >= first] == [n for n in whole if n >= first]
        assert all(np.array_equal(part[n], whole[n]) for n in part)
        found.append(min(part))
        assert {n: footage.times[n] for n in part if n in times} == {n: times[n] for n in part if n in times}
    return found


EVEN, UNEVEN = [20], [20, 7, 60, 20, 33]
X264 = {"x264-params": "keyint=24:min-keyint=24:scenecut=0:bframes=3:log-level=none"}
X265 = {"x265-params": "keyint=24:min-keyint=24:scenecut=0:bframes=3:log-level=none"}
AT_KEYS = [1, 1, 25, 49, 73]
FROM_START = [1] * 5


@pytest.mark.parametrize(("suffix", "codec", "options", "steps", "expected"), [
    ("mp4", "libx264", X264, EVEN, AT_KEYS),
    ("MP4", "libx264", X264, UNEVEN, AT_KEYS),  # frames of unequal length
    ("mkv", "libx264", X264, UNEVEN, AT_KEYS),
    ("mov", "libx265", X265 | {"tag": "hvc1"}, UNEVEN, AT_KEYS),  # frames that precede their key frame are left out
    # one key frame; key frames that do not cut off what precedes them; no key frame but a column of each frame
    ("mp4", "libx264", {"x264-params": "keyint=500:log-level=none"}, EVEN, FROM_START),
    ("mp4", "libx264", {"x264-params": X264["x264-params"] + ":open-gop=1"}, EVEN, FROM_START),
    ("mp4", "libx264", {"x264-params": "keyint=24:intra-refresh=1:log-level=none"}, EVEN, FROM_START),
    # another codec, and formats whose packets have no reliable times
    ("mp4", "mpeg4", {"g": "24", "bf": "2"}, EVEN, FROM_START),
    ("avi", "libx264", X264, EVEN, FROM_START),
    ("ts", "libx264", X264, EVEN, FROM_START),
])  # fmt: skip
def test_a_part_has_the_frames_of_the_whole(
    tmp_path: Path, suffix: str, codec: str, options: dict[str, str], steps: list[int], expected: list[int]
) -> None:
    assert starts(write(tmp_path / f"a.{suffix}", codec, options, steps)) == expected


def test_frames_that_an_edit_list_hides_are_not_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", "libx264", X264, EVEN, shift=100)  # five frames before time 0
    assert len(taken(pyav(path).frames())) == COUNT - 5
    starts(path)


def test_an_index_that_names_the_wrong_key_frames_changes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", "libx264", X264, EVEN)
    content = bytearray(path.read_bytes())
    entries = content.index(b"stss") + 8
    assert struct.unpack_from(">5I", content, entries) == (4, 1, 25, 49, 73)
    struct.pack_into(">4I", content, entries + 4, 1, 10, 30, 80)
    path.write_bytes(content)
    assert starts(path) == AT_KEYS


@pytest.mark.parametrize("seek", ["late", "fails"])
def test_where_a_seek_fails_the_video_is_decoded_from_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seek: str
) -> None:
    path = write(tmp_path / "a.mp4", "libx264", X264, EVEN)
    opened = av.open

    class Container:
        def __init__(self, container: Any) -> None:
            self.container = container

        def __getattr__(self, name: str) -> Any:
            return getattr(self.container, name)

        def __enter__(self) -> Container:
            return self

        def __exit__(self, *_: object) -> None:
            self.container.close()

        def seek(self, at: int, stream: Any) -> None:
            if seek == "fails":
                raise av.InvalidDataError(1, "made to fail")
            self.container.seek(at + 24 * 512, stream=stream, backward=False)

    monkeypatch.setattr(av, "open", lambda *args, **options: Container(opened(*args, **options)))
    assert starts(path) == FROM_START


@pytest.mark.parametrize("bad", [0, 5, 30, 48, 60])
def test_damage_changes_no_frame_of_a_part(tmp_path: Path, bad: int) -> None:
    path = write(tmp_path / "a.mp4", "libx264", X264, EVEN)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        at = packets[bad].pos
    assert at is not None
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xff" * 12)
    starts(path)


def test_a_clip_of_a_part_is_read_from_its_key_frame_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.mp4", "libx264", X264, UNEVEN)
    clip = Clip("a", path, span=(55, 80))
    sought = read(clip, VIEW)
    decoded: list[int] = []
    monkeypatch.setattr(
        decoders,
        "_from",
        lambda *args, original=decoders._from: ((decoded.append(n) or n, load) for n, load in original(*args)),
    )
    assert np.array_equal(read(clip, VIEW).pixels, sought.pixels)
    assert decoded == [*range(49, 82)]
    footage = pyav(path)
    whole = taken(footage.frames())
    assert sought.warnings == ()
    view = Preprocessing(frames=26, size=[48, 64])
    assert np.array_equal(read(clip, view).pixels, np.stack([whole[n] for n in range(55, 81)]))


@pytest.mark.real
def test_parts_of_real_videos_have_the_frames_of_the_whole(real: Path) -> None:
    paths = (
        sorted((real / "kinetics400/videos").glob("*/*"))[:2] + sorted((real / "ucf101_24").glob("UCF-101/*/*.mp4"))[:2]
    )
    for path in paths:
        footage = pyav(path)
        whole = taken(footage.frames())
        for first in (len(whole) // 2, len(whole) - 3):
            part = taken(footage.frames_from(first))
            assert all(np.array_equal(part[n], whole[n]) for n in whole if n >= first)
