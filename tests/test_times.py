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
