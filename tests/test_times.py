"""Times in seconds: of every kind of source, stored with the map, and None where a source does not tell."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

from vidattr.render.frames import note, only, pick
from vidattr.render.options import Render, Scene
from vidattr.run.store import RunFolder, StoredMap
from vidattr.types import Clip, Joined, Origin
from vidattr.video import decode
from vidattr.video.decode import read
from vidattr.video.decoders import opencv
from vidattr.video.preprocessing import Preprocessing

VIEW = Preprocessing(frames=4, size=[24, 32])


def encode(path: Path, times: list[int], *, rate: int = 10, rotation: float = 0, codec: str = "libx264") -> Path:
    """Writes a video whose frames are shown at these hundredths of a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 100)
        if rotation:
            stream.set_display_rotation(rotation)
        for level, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 10 * level, np.uint8), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("times", [[0, 10, 20, 30], [0, 10, 50, 60], [30, 40, 80, 90]])
def test_a_video_states_the_time_of_each_frame(tmp_path: Path, times: list[int]) -> None:
    sample = read(Clip("a", encode(tmp_path / "a.mkv", times)), VIEW)
    assert sample.numbers == (1, 2, 3, 4)
    assert sample.seconds == pytest.approx([(time - times[0]) / 100 for time in times], abs=0.002)
    assert sample.origin is not None
    assert (sample.origin.path, sample.origin.size) == (str(tmp_path / "a.mkv"), (64, 48))


def test_a_video_read_by_opencv_has_times_by_its_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "a.mp4", [0, 10, 20, 30])
    monkeypatch.setattr(decode, "pyav", opencv)
    sample = read(Clip("a", path), VIEW)
    assert sample.seconds == pytest.approx([0, 0.1, 0.2, 0.3])
    assert sample.origin is not None
    assert sample.origin.fps == pytest.approx(10)


def test_a_turned_video_states_its_size_as_shown_and_its_rotation(tmp_path: Path) -> None:
    sample = read(Clip("a", encode(tmp_path / "a.mp4", [0, 10, 20, 30], rotation=90)), VIEW)
    assert sample.origin is not None
    assert sample.origin.size == (48, 64)
    assert sample.origin.rotation == 270  # 90 degrees counter-clockwise


def test_times_of_frames_named_by_time(tmp_path: Path) -> None:
    for stamp in ("1305031102.175304", "1305031102.275304", "1305031102.375304", "1305031103.175304"):
        cv2.imwrite(str(tmp_path / f"{stamp}.png"), np.zeros((48, 64, 3), np.uint8))
    sample = read(Clip("a", tmp_path), VIEW)
    assert sample.seconds == pytest.approx([0, 0.1, 0.2, 1.0], abs=1e-9)


def test_sources_without_times_have_none(tmp_path: Path) -> None:
    for number in range(1, 5):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros((48, 64, 3), np.uint8))
    assert read(Clip("a", tmp_path), VIEW).seconds is None
    sample = read(Clip("a", lambda: np.zeros((4, 48, 64, 3), np.uint8)), VIEW)
    assert sample.seconds is None
    assert sample.origin == Origin("", (64, 48))


def test_joined_clips_count_on(tmp_path: Path) -> None:
    a, b = (encode(tmp_path / f"{name}.mp4", [0, 10, 20, 30]) for name in "ab")
    joined = Joined((Clip("a", a, span=(3, 4)), Clip("b", b, span=(1, 2))))
    assert read(Clip("c", joined), VIEW).seconds == pytest.approx([0, 0.1, 0.2, 0.3])


def test_times_and_origin_are_stored_with_the_map(tmp_path: Path) -> None:
    stored = StoredMap(
        map=torch.ones(2, 3, 4),
        numbers=(1, 5),
        target=0,
        name="x",
        probability=1.0,
        top=(("x", 1.0),),
        extras={},
        seconds=(0.0, 0.16),
        origin=Origin("/videos/ä.mp4", (1280, 720), 25.0, 90),
    )
    folder = RunFolder(tmp_path, {})
    folder.save("a", stored)
    found = folder.load("a")
    assert (found.seconds, found.origin) == (stored.seconds, stored.origin)
    folder.save("b", replace(stored, seconds=None, origin=None))
    found = folder.load("b")
    assert (found.seconds, found.origin) == (None, None)


# Pictures


def scene(count: int, seconds: tuple[float, ...] | None) -> Scene:
    pixels = np.zeros((count, 16, 16, 3), np.uint8)
    return Scene("clip", pixels, tuple(range(1, count + 1)), "net", "x", 0.5, "x", 0.5, seconds=seconds)


def test_frames_are_named_by_number_and_time() -> None:
    assert scene(3, None).caption(1) == "frame 2"
    assert scene(3, (0.0, 12.44, 20.0)).caption(1) == "frame 2  ·  12.4 s"
    assert scene(3, (0.0, 0.04, 0.08)).caption(1) == "frame 2  ·  0.04 s"


@pytest.mark.parametrize(
    ("fps", "seconds", "rate"),
    [
        (None, (0.0, 1 / 3, 2 / 3), 3.0),
        (None, (0.0, 0.04, 0.08), 25.0),
        (None, None, 5.0),
        (None, (1.0, 1.0, 1.0), 5.0),  # one frame, repeated
        (None, (0.0, 0.001, 0.002), 50.0),  # no player is faster
        (7.0, (0.0, 1.0, 2.0), 7.0),
    ],
)
def test_animations_play_as_fast_as_the_clip(fps: float | None, seconds: tuple[float, ...], rate: float) -> None:
    assert Render(fps=fps).rate(seconds) == pytest.approx(rate)


def test_a_sheet_shows_the_peak_of_every_map() -> None:
    curves = [np.eye(30)[t] for t in (3, 17, 28, 3)]
    shown = pick(30, 8, curves)
    assert {3, 17, 28} <= set(shown)
    assert len(shown) == 8
    assert shown == sorted(set(shown))
    assert pick(5, 8, curves=[]) == [0, 1, 2, 3, 4]
    assert pick(30, 2, curves) == [3, 17]  # those of the first curves
    assert note(scene(30, None), shown) == ["8 of 30 frames, with the peaks of the maps"]
    assert note(scene(8, None), range(8)) == []
    few = only(scene(30, tuple(map(float, range(30)))), shown)
    assert few.seconds == tuple(map(float, shown))
    assert few.numbers == tuple(t + 1 for t in shown)
