"""Videos and folders of frames that are damaged, cut off, mirrored, misnamed, or no videos at all."""

from __future__ import annotations

import os
import re
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition

from vidattr.errors import ClipError
from vidattr.types import Clip
from vidattr.video import decoders
from vidattr.video import packets as packets_of_files
from vidattr.video.decode import read
from vidattr.video.preprocessing import Preprocessing, Sampling

ALL = Preprocessing(frames=24, size=[48, 64])
LEVELS = [10 * i for i in range(1, 25)]
ONE = (0.0, 0.0, 8.0, 8.0)


def encode(
    path: Path,
    levels: list[int] = LEVELS,
    codec: str = "mpeg4",
    matrix: list[int] | None = None,
    noise: int = 0,
    **options: str,
) -> Path:
    """A video whose brightness says which frame it is."""
    random = np.random.default_rng(0)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=Fraction(25))
        stream.height, stream.width = 48, 64
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if matrix:
            stream.set_display_matrix(matrix)
        for level in levels:
            frame = np.full((48, 64, 3), level, np.uint8) + random.integers(0, noise + 1, (48, 64, 3), np.uint8)
            if matrix:
                frame = CORNER
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def packets(path: Path) -> list[av.Packet]:
    with av.open(str(path)) as container:
        return [packet for packet in container.demux(video=0) if packet.size]


def reference(path: Path) -> int:
    """How many frames there are if each packet is decoded by itself, and bad ones are passed over."""
    count = 0
    with av.open(str(path), metadata_errors="replace") as container:
        for packet in container.demux(video=0):
            try:
                count += len(packet.decode())
            except av.FFmpegError:
                continue
    return count


def overwrite(path: Path, start: int, content: bytes) -> Path:
    data = bytearray(path.read_bytes())
    data[start : start + len(content)] = content
    path.write_bytes(data)
    return path


def cut(path: Path, percent: int) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * percent // 100])
    return path


# A bad packet


@pytest.mark.parametrize(
    ("suffix", "codec"), [("avi", "mjpeg"), ("avi", "mpeg4"), ("mp4", "mpeg4"), ("flv", "flv1"), ("webm", "libvpx-vp9")]
)
@pytest.mark.parametrize("bad", [8, 12])
def test_one_bad_packet_costs_one_frame_and_moves_no_other(tmp_path: Path, suffix: str, codec: str, bad: int) -> None:
    path = encode(tmp_path / f"a.{suffix}", codec=codec)
    assert read(Clip("a", path), ALL).warnings == ()
    packet = packets(path)[bad]
    overwrite(path, packet.pos + 8, bytes(packet.size - 8))
    found = read(Clip("a", path), ALL)
    assert sorted(set(found.numbers)) == [n for n in range(1, 25) if n != bad + 1]
    assert found.pixels.mean((1, 2, 3)) == pytest.approx([LEVELS[n - 1] for n in found.numbers], abs=4.5)
    assert found.warnings == ("23 of 24 frames decoded; packets that cannot be decoded: 1",)


def test_boxes_and_segment_stay_on_their_frames_behind_a_bad_packet_of_reordered_frames(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", codec="libx264")
    # A slice of reference number 0: no other frame needs it.
    bad = next(p for p in packets(path) if not bytes(p)[4] & 0x60 and p.pts > 8 * p.duration)
    number = bad.pts // bad.duration + 1
    overwrite(path, bad.pos + 8, bytes(bad.size - 8))
    found = read(
        Clip("a", path, boxes={number - 1: (ONE,), number: (ONE,), number + 1: (ONE, ONE)}, segment=(number + 1, 24)),
        ALL,
    )
    by_number = dict(zip(found.numbers, zip(found.boxes, found.segment or (), strict=True), strict=True))
    assert number not in by_number
    assert len(by_number) == 23
    assert {n: len(boxes) for n, (boxes, _) in by_number.items() if boxes} == {number - 1: 1, number + 1: 2}
    assert [n for n, (_, inside) in by_number.items() if inside] == list(range(number + 1, 25))
    near = [(n, pixels.mean()) for n, pixels in zip(found.numbers, found.pixels, strict=True)]
    assert [level for _, level in near] == pytest.approx([LEVELS[n - 1] for n, _ in near], abs=4.5)


def test_a_damaged_frame_is_said_though_all_are_decoded(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.avi", noise=60)
    packet = max(packets(path), key=lambda packet: packet.size)
    overwrite(path, packet.pos + 8 + packet.size // 3, b"\xff" * 64)
    found = read(Clip("a", path), ALL)
    assert len(set(found.numbers)) == reference(path) == 24
    assert found.warnings == ("24 of 24 frames decoded; damaged frames among them: 1",)


def test_a_source_that_must_be_whole_is_an_error_if_it_is_not(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.avi", codec="mjpeg")
    whole = read(Clip("a", path, intact=True), ALL)
    assert whole.warnings == ()
    packet = packets(path)[3]
    overwrite(path, packet.pos + 8, bytes(packet.size - 8))
    with pytest.raises(ClipError, match=r"damaged: .*a\.avi: 23 of 24 frames decoded") as caught:
        read(Clip("a", path, intact=True), ALL)
    assert "dataset.damaged=warn" in str(caught.value.remedy)


def test_a_container_that_breaks_while_it_is_read_gives_what_came_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode(tmp_path / "a.mp4")
    demuxed = av.container.InputContainer.demux

    class Broken:
        def __init__(self, container: av.container.InputContainer) -> None:
            self.container = container

        def __getattr__(self, name: str) -> object:
            return getattr(self.container, name)

        def demux(self, *streams: av.VideoStream) -> object:
            for count, packet in enumerate(demuxed(self.container, *streams)):
                if count == 10:
                    raise av.InvalidDataError(1, "made to fail")
                yield packet

    whole = packets_of_files.demuxed
    for module in (packets_of_files, decoders):
        monkeypatch.setattr(module, "demuxed", lambda container, *rest: whole(Broken(container), *rest))
    found = read(Clip("a", path), ALL)
    assert sorted(set(found.numbers)) == list(range(1, 11))
    assert found.warnings == (
        "10 of 24 frames decoded; the file breaks off; the container cannot be read to its end (made to fail)",
    )


# A file that was cut off


@pytest.mark.parametrize(("suffix", "percent", "options", "promised"), [
    ("mp4", 70, {"movflags": "faststart"}, "24"), ("mov", 70, {"movflags": "faststart"}, "24"),
    ("avi", 60, {}, "24"), ("mkv", 60, {}, "about 2[45]"),
    ("flv", 60, {"flvflags": "add_keyframe_index"}, "about 2[45]"),
])  # fmt: skip
def test_a_file_that_was_cut_off_says_how_much_is_there(
    tmp_path: Path, suffix: str, percent: int, options: dict[str, str], promised: str
) -> None:
    path = encode(tmp_path / f"a.{suffix}", codec="flv1" if suffix == "flv" else "mpeg4", noise=80, **options)
    assert read(Clip("a", path), ALL).warnings == ()
    cut(path, percent)
    found = read(Clip("a", path), ALL)
    left = reference(path)
    assert 0 < left < 23
    assert found.numbers[-1] == left
    assert re.match(f"{left} of {promised} frames decoded; the file breaks off", found.warnings[0])
    with pytest.raises(ClipError, match=f"damaged: .*{left} of {promised} frames"):
        read(Clip("a", path, intact=True), ALL)


@pytest.mark.parametrize(("suffix", "codec", "options", "skipped", "shift", "left"), [
    # hidden by an edit list, as packets and before they become some
    ("mp4", "libx264", {}, 0, 5, 19), ("mov", "mpeg4", {}, 0, 5, 19),
    ("mkv", "libx264", {"x264-params": "open-gop=1:keyint=8:min-keyint=8"}, 8, 0, 16),
    ("ts", "libx264", {"g": "8"}, 3, 0, 16),
    ("mkv", "libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16"}, 0, 0, 24),  # with packets that are never shown
    ("mp4", "libx264", {"x264-params": "tff=1"}, 0, 0, 24),
])  # fmt: skip
def test_what_is_hidden_or_was_cut_out_of_another_file_is_no_damage(
    tmp_path: Path, suffix: str, codec: str, options: dict[str, str], skipped: int, shift: int, left: int
) -> None:
    path = tmp_path / f"a.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        coded = [
            p
            for level in LEVELS
            for p in stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8), format="rgb24"))
        ]
        for packet in [*coded, *stream.encode(None)][skipped:]:
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            container.mux(packet)
    found = read(Clip("a", path), Preprocessing(frames=left, size=[48, 64]))
    assert found.warnings == ()
    assert found.numbers == tuple(range(1, left + 1))
    assert found.pixels.mean((1, 2, 3)) == pytest.approx(LEVELS[-left:], abs=5.5)


@pytest.mark.real
def test_no_real_clip_is_said_to_be_damaged_and_each_is_when_it_is(real: Path, tmp_path: Path) -> None:
    videos = [*sorted((real / "ucf101_24/UCF-101").glob("*/*.*")), *sorted((real / "kinetics400/videos").glob("*/*"))]
    videos += sorted((real / "odd").glob("*.avi"))
    view = Preprocessing(frames=2, size=[24, 32])
    assert {path.name: said for path in videos if (said := read(Clip("a", path), view).warnings)} == {}
    avi, raw, mkv = (next(path for path in videos if path.suffix == suffix) for suffix in (".avi", ".mp4", ".mkv"))
    for number, path in enumerate([*[path for path in videos if path.suffix == ".avi"][:4], raw]):
        copy = tmp_path / f"{number}{path.suffix}"
        copy.write_bytes(path.read_bytes())
        overwrite(copy, copy.stat().st_size // 3, b"\xff" * 64)
        found = read(Clip("a", copy), view)
        assert "frames decoded; damaged frames among them: 1" in found.warnings[0]
        assert found.warnings[0].startswith(f"{reference(copy)} of {len(packets(path))} ")
    for path in (avi, mkv):
        copy = tmp_path / f"cut{path.suffix}"
        copy.write_bytes(path.read_bytes())
        cut(copy, 60)
        found = read(Clip("a", copy), view)
        about = "" if path is avi else "about "
        assert found.warnings[0].startswith(
            f"{reference(copy)} of {about}{len(packets(path))} frames decoded; the file breaks off"
        )


# As a player shows it

CORNER = np.full((48, 64, 3), 20, np.uint8)
CORNER[:24, :32] = 220
UNIT = 65536
SQUARE = {  # where the bright corner lies, and whether width and height change places, as ffplay shows it
    "as stored": ((1, 0, 0, 1), (0, 0), False),
    "hflip": ((-1, 0, 0, 1), (0, 1), False),
    "vflip": ((1, 0, 0, -1), (1, 0), False),
    "half turn": ((-1, 0, 0, -1), (1, 1), False),
    "clockwise": ((0, 1, -1, 0), (0, 1), True),
    "counter-clockwise": ((0, -1, 1, 0), (1, 0), True),
    "transposed": ((0, 1, 1, 0), (0, 0), True),
    "transposed the other way": ((0, -1, -1, 0), (1, 1), True),
}


@pytest.mark.parametrize("name", SQUARE)
def test_a_display_matrix_turns_and_mirrors_as_a_player_does(tmp_path: Path, name: str) -> None:
    (a, b, c, d), corner, turned = SQUARE[name]
    path = encode(tmp_path / "a.mp4", [0] * 3, matrix=[a * UNIT, b * UNIT, 0, c * UNIT, d * UNIT, 0, 0, 0, 1 << 30])
    height, width = (64, 48) if turned else (48, 64)
    box = (corner[1] * width / 2, corner[0] * height / 2, (corner[1] + 1) * width / 2, (corner[0] + 1) * height / 2)
    found = read(Clip("a", path, boxes={2: (box,)}), Preprocessing(frames=1, size=[height, width]))
    assert found.boxes == ((box,),)
    rows, columns = np.nonzero(found.pixels[0, :, :, 0] > 120)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == pytest.approx(box, abs=1)


def test_any_other_angle_is_turned_on_the_same_canvas(tmp_path: Path) -> None:
    sine = round(UNIT * 0.5**0.5)
    path = encode(tmp_path / "a.mp4", [0] * 3, matrix=[sine, sine, 0, -sine, sine, 0, 0, 0, 1 << 30])
    pixels = read(Clip("a", path), Preprocessing(frames=1, size=[48, 64])).pixels[0, :, :, 0]
    assert pixels[0, 0] < 10  # nothing comes to lie there
    assert pixels[8, 32] > 120  # the upper left has become the top
    assert pixels[24, 52] < 60


def with_cover(path: Path, codec: str, video: bool) -> Path:
    """Sound with a cover picture larger than the video, if there is one."""
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=25)] if video else []
        for stream in streams:
            stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        sound = container.add_stream(codec, rate=44100)
        cover = container.add_stream("mjpeg", rate=25)
        cover.height, cover.width, cover.pix_fmt, cover.disposition = 480, 640, "yuvj420p", Disposition.attached_pic
        container.mux([*cover.encode(av.VideoFrame(640, 480, "yuvj420p")), *cover.encode(None)])
        kind, form = (np.float32, "fltp") if codec == "aac" else (np.int16, "s16")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 4096), kind), format=form, layout="mono")
        silence.sample_rate = 44100
        container.mux([*sound.encode(silence), *sound.encode(None)])
        for stream in streams:
            for level in LEVELS:
                container.mux(
                    stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8), format="rgb24"))
                )
            container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "aac"), ("a.flac", "flac"), ("a.mp3", "libmp3lame")])
def test_a_cover_picture_is_no_video(tmp_path: Path, name: str, codec: str) -> None:
    with pytest.raises(ClipError, match="no video stream, only a cover picture") as caught:
        read(Clip("a", with_cover(tmp_path / name, codec, video=False)), ALL)
    assert "OpenCV" not in caught.value.found


def test_the_video_beside_a_cover_picture_is_read(tmp_path: Path) -> None:
    found = read(Clip("a", with_cover(tmp_path / "a.mp4", "aac", video=True)), ALL)
    assert found.numbers == tuple(range(1, 25))
    assert found.pixels.mean((1, 2, 3)) == pytest.approx(LEVELS, abs=4.5)


# Names


@pytest.mark.parametrize(
    "name", ["http:/host/x.mp4", "pipe:0.mp4", "concat:a.mp4|b.mp4", "rtsp:/host/%02d.mp4", "file:x.mp4"]
)
def test_a_name_that_looks_like_an_address_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    encode(tmp_path / "a.mp4").rename(path)
    assert read(Clip("a", path), ALL).numbers == tuple(range(1, 25))


@pytest.mark.parametrize("content", [
    b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///%s\n#EXT-X-ENDLIST\n", b"ffconcat version 1.0\nfile %s\n",
    b"<?xml version='1.0'?><MPD type='static'><Period><BaseURL>%s</BaseURL></Period></MPD>",
])  # fmt: skip
def test_a_list_of_videos_is_no_video(tmp_path: Path, content: bytes) -> None:
    other = encode(tmp_path / "other.mp4")
    (tmp_path / "a.mp4").write_bytes(content % os.fsencode(other))
    with pytest.raises(ClipError, match=r"cannot read .*a\.mp4"):
        read(Clip("a", tmp_path / "a.mp4"), ALL)


@pytest.mark.parametrize("kind", ["video", "frames"])
def test_bytes_in_a_name_that_are_not_utf8_are_read_and_spelled_out_in_errors(tmp_path: Path, kind: str) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4"))
    if kind == "video":
        encode(tmp_path / "a.mp4").rename(path)
    else:
        path.mkdir()
        for number in (1, 2):
            cv2.imwrite(str(tmp_path / "x.png"), np.full((8, 8, 3), 10 * number, np.uint8))
            (tmp_path / "x.png").rename(path / os.fsdecode(b"\xff%d.png" % number))
    assert read(Clip("a", path), Preprocessing(frames=2)).numbers
    for file in path.iterdir() if path.is_dir() else [path]:
        file.write_bytes(b"")
    with pytest.raises(ClipError, match=r"caf\\udce9\.mp4") as caught:
        read(Clip("a", path), Preprocessing(frames=2))
    str(caught.value).encode()


# Folders of frames


def picture(path: Path, level: int) -> None:
    cv2.imwrite(str(path), np.full((8, 8, 3), level, np.uint8))


def test_time_stamps_are_ordered_by_value(tmp_path: Path) -> None:
    names = [
        "1305031102.175304",
        "1305031102.211214",
        "1305031102.9",
        "1305031103.05",
        "1305031103.1",
        "1305031111.000001",
    ]
    for level, name in enumerate(names, start=1):
        picture(tmp_path / f"{name}.png", 10 * level)
    found = read(Clip("a", tmp_path, boxes={2: (ONE,)}), Preprocessing(frames=6))
    assert found.numbers == (1, 2, 3, 4, 5, 6)
    assert found.pixels.mean((1, 2, 3)).tolist() == [10, 20, 30, 40, 50, 60]
    assert found.warnings == ("its frames are named by time: numbered from 1 in this order, for boxes and segment too",)
    picture(tmp_path / "1305031102.9000.png", 1)
    with pytest.raises(ClipError, match="are of the same time"):
        read(Clip("a", tmp_path), Preprocessing(frames=6))


@pytest.mark.parametrize(("names", "numbers"), [
    (["0001.0009", "0001.0010"], (9, 10)),  # clip and frame
    (["0.9", "1.10", "1.9"], (1, 2, 3)),  # seconds
    (["a1.5", "a1.10"], (5, 10)),
])  # fmt: skip
def test_only_names_that_are_times_are_taken_for_times(
    tmp_path: Path, names: list[str], numbers: tuple[int, ...]
) -> None:
    for level, name in enumerate(names):
        picture(tmp_path / f"{name}.png", level)
    found = read(Clip("a", tmp_path), Preprocessing(frames=len(names)))
    assert found.numbers == numbers
    assert found.pixels.mean((1, 2, 3)).tolist() == list(range(len(names)))


def test_frames_that_count_from_another_number_than_the_boxes_are_an_error_or_counted_anew(tmp_path: Path) -> None:
    for number in range(4):
        picture(tmp_path / f"{number:05d}.png", 10 * number)
    boxes = {1: (ONE,), 4: (ONE, ONE)}
    for clip in (Clip("a", tmp_path, boxes=boxes), Clip("a", tmp_path, segment=(2, 3))):
        with pytest.raises(
            ClipError, match=r"00000\.png is frame 0, and its frames are said to count from 1.*dataset\.first_frame=0"
        ):
            read(clip, Preprocessing(frames=4))
    found = read(Clip("a", tmp_path, boxes=boxes, first_frame=0), Preprocessing(frames=4, size=[8, 8]))
    assert found.numbers == (1, 2, 3, 4)
    assert [len(one) for one in found.boxes] == [1, 0, 0, 2]
    assert read(Clip("a", tmp_path), Preprocessing(frames=4)).numbers == (0, 1, 2, 3)  # no box, no doubt
    assert read(Clip("a", tmp_path, boxes=boxes, first_frame=-4), Preprocessing(frames=4)).numbers == (5, 6, 7, 8)


def deep(suffix: str, values: np.ndarray, bits: int | None = None) -> bytes:
    data = bytes(cv2.imencode(suffix, values.astype(np.uint16))[1])
    if bits is None:
        return data
    chunk = b"sBIT" + bytes([bits])
    return data[:33] + struct.pack(">I", 1) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]


@pytest.mark.parametrize(("suffix", "top", "bits", "shown", "said"), [
    (".png", 4000, None, 250, True), (".tiff", 4000, None, 250, True),
    (".png", 4000, 12, 250, False), (".png", 1000, 10, 250, False),
    (".png", 65000, None, 253, False), (".tif", 65000, None, 253, False),
    (".png", 65000, 12, 253, False), (".png", 5000, None, 19, False),
])  # fmt: skip
def test_the_bit_depth_of_16_bit_pictures_is_what_the_file_says_or_is_remarked(
    tmp_path: Path, suffix: str, top: int, bits: int | None, shown: int, said: bool
) -> None:
    for number, value in enumerate((top // 2, top), start=1):
        (tmp_path / f"{number}{suffix}").write_bytes(deep(suffix, np.full((8, 8), value), bits))
    found = read(Clip("a", tmp_path, intact=True), Preprocessing(frames=2))
    assert found.pixels.max() == shown
    assert found.pixels[0].max() == pytest.approx(shown / 2, abs=1)
    assert bool(found.warnings) == said
    if said:
        assert found.warnings == (
            f"the brightest of its 16-bit values is {top}: taken for 12-bit values, "
            "for an sBIT chunk that says so is missing",
        )


def _link(path: Path) -> None:
    path.symlink_to("nowhere.png")


def _socket(path: Path) -> None:
    socket.socket(socket.AF_UNIX).bind(os.path.relpath(path))


def _huge(path: Path) -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)))


def _png() -> bytes:
    return bytes(cv2.imencode(".png", np.eye(64, dtype=np.uint8))[1])


MADE: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (os.mkfifo, "2.png is no regular file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "2.png is no regular file"),
    "link to nothing": (_link, "2.png is a link to nothing"),
    "link to itself": (lambda path: path.symlink_to(path.name), "2.png: Too many levels of symbolic links"),
    "folder": (os.mkdir, "2.png is no regular file"),
    "empty": (Path.touch, "2.png is not a readable image"),
    "half": (
        lambda path: path.write_bytes(_png()[:90]),
        "2.png is not a readable image",
    ),
    "huge": (_huge, "2.png says that it is 100000 x 100000 pixels large, in 33 bytes"),
}


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", [*MADE, "socket"])
def test_what_is_no_frame_among_frames_is_left_out_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make, message = MADE.get(kind, (_socket, "2.png: No such device or address"))
    for number in (1, 3, 4):
        picture(tmp_path / f"{number}.png", 10 * number)
    make(tmp_path / "2.png")
    if kind == "folder":
        return  # a folder of this name is none of the frames: see the datasets
    found = read(Clip("a", tmp_path), Preprocessing(frames=4))
    assert sorted(set(found.numbers)) == [1, 3, 4]
    assert found.warnings[0].startswith(f"3 of 4 frames decoded; {message}")
    with pytest.raises(ClipError, match="damaged"):
        read(Clip("a", tmp_path, intact=True), Preprocessing(frames=4))
    for number in (1, 3, 4):
        (tmp_path / f"{number}.png").unlink()
    with pytest.raises(ClipError, match=f"no frames; {message}"):
        read(Clip("a", tmp_path), Preprocessing(frames=4))


def test_a_picture_of_any_format_that_promises_a_billion_pixels_is_refused_at_once(tmp_path: Path) -> None:
    for suffix, mark, behind, form in ((".jpg", b"\xff\xc0", 5, ">HH"), (".bmp", b"BM", 18, "<ii")):
        data = bytearray(cv2.imencode(suffix, np.zeros((8, 8, 3), np.uint8))[1].tobytes())
        struct.pack_into(form, data, data.index(mark) + behind, 30_000, 30_000)
        (tmp_path / f"1{suffix}").write_bytes(data)
    program = """
import sys
from pathlib import Path
from vidattr.video.frame_folder import UnreadableError, image
for file in sys.argv[1:]:
    try:
        image(Path(file))
    except UnreadableError as error:
        print("30000 x 30000 pixels large" in str(error))
"""
    files = [str(tmp_path / "1.jpg"), str(tmp_path / "1.bmp")]
    done = subprocess.run(
        [sys.executable, "-c", program, *files], capture_output=True, text=True, timeout=300, check=True
    )
    assert done.stdout.split() == ["True", "True"]


def test_a_pipe_or_device_as_a_clip_is_named_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").symlink_to("/dev/zero")
    for name in ("a.mp4", "b.mp4"):
        with pytest.raises(ClipError, match="neither a file nor a folder, but a pipe, a socket or a device"):
            read(Clip("a", tmp_path / name), ALL)
    (tmp_path / "c.mp4").symlink_to("c.mp4")
    with pytest.raises(ClipError, match=r"c\.mp4"):
        read(Clip("a", tmp_path / "c.mp4"), ALL)


def test_whatever_a_file_does_to_a_decoder_is_an_error_of_its_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode(tmp_path / "a.mp4")
    for error in (MemoryError(), cv2.error("made to fail"), IndexError("made to fail")):
        monkeypatch.setattr(decoders, "_rgb", lambda _, error=error: (_ for _ in ()).throw(error))
        monkeypatch.setattr(cv2, "VideoCapture", lambda *_, error=error: (_ for _ in ()).throw(error))
        with pytest.raises(ClipError, match=rf"cannot read .*a\.mp4: PyAV: {type(error).__name__}"):
            read(Clip("a", path), ALL)


def test_unreadable_frames_are_replaced_by_readable_ones_however_many(tmp_path: Path) -> None:
    for number in range(1, 41):
        if number % 3:
            (tmp_path / f"{number}.png").write_bytes(b"")
        else:
            picture(tmp_path / f"{number}.png", number)
    found = read(Clip("a", tmp_path), Preprocessing(frames=4), Sampling.uniform)
    assert all(number % 3 == 0 for number in found.numbers)
    assert found.pixels.mean((1, 2, 3)).tolist() == list(found.numbers)
    assert " and " in found.warnings[0]
