from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchvision.transforms.v2 import functional as tv

from vidattr.errors import ClipError
from vidattr.types import Clip
from vidattr.video import decode, decoders
from vidattr.video.decode import read
from vidattr.video.decoders import opencv
from vidattr.video.footage import Footage
from vidattr.video.geometry import Placement
from vidattr.video.preprocessing import Geometry, Preprocessing, Sampling

SQUASH = Preprocessing(frames=4, size=[24, 32])
VIEWS = {
    "squash": Preprocessing(frames=1, size=[112, 112]),
    "crop": Preprocessing(frames=1, size=[112, 112], geometry=Geometry.crop),
    "crop_from_short_side": Preprocessing(frames=1, size=[112, 112], geometry=Geometry.crop, resize=[128]),
    "crop_from_height_and_width": Preprocessing(frames=1, size=[112, 112], geometry=Geometry.crop, resize=[128, 171]),
    "letterbox": Preprocessing(frames=1, size=[224, 224], geometry=Geometry.letterbox),
}


def grey(levels: Sequence[int], height: int = 48, width: int = 64) -> np.ndarray:
    """Frames whose brightness says which frame they are."""
    return np.broadcast_to(np.array(levels, np.uint8)[:, None, None, None], (len(levels), height, width, 3)).copy()


def encode(path: Path, frames: np.ndarray, codec: str = "mpeg4", pix_fmt: str = "yuv420p", rotation: float = 0) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(25))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pix_fmt
        if rotation:
            stream.set_display_rotation(rotation)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode(None))
    return path


LEVELS = [10 * i for i in range(1, 25)]


# Geometry


def test_boxes_follow_resize_and_centre_crop_of_r2plus1d() -> None:
    placement = Placement.of((240, 320), VIEWS["crop"])
    assert (placement.resized, placement.offset) == ((112, 149), (0, -18))
    ((x0, y0, x1, y1),) = placement.boxes([(100, 60, 200, 120)])
    assert (x0, y0, x1, y1) == pytest.approx(
        (100 * 149 / 320 - 18, 60 * 112 / 240, 200 * 149 / 320 - 18, 120 * 112 / 240)
    )


def test_boxes_are_clipped_to_the_view_and_dropped_when_empty() -> None:
    placement = Placement.of((240, 320), VIEWS["crop"])
    assert placement.boxes([(0, 0, 320, 240)]) == ((0, 0, 112, 112),)
    assert placement.boxes([(0, 0, 30, 240), (50, 10, 50, 20), (100, 10, 110, 10)]) == ()
    assert Placement.of((240, 320), VIEWS["letterbox"]).boxes([(0, 0, 320, 240)]) == ((0, 28, 224, 196),)


def test_boxes_drawn_on_another_frame_size_are_scaled_first() -> None:
    here = Placement.of((256, 340), VIEWS["squash"]).boxes([(32, 24, 64, 48)], drawn_on=(320, 240))
    assert here == Placement.of((240, 320), VIEWS["squash"]).boxes([(32, 24, 64, 48)])
    assert here[0] == pytest.approx((11.2, 11.2, 22.4, 22.4))


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("size", [(240, 320), (256, 340), (97, 131), (60, 240), (240, 60)])
def test_a_box_surrounds_the_pixels_that_it_surrounded(name: str, size: tuple[int, int]) -> None:
    h, w = size
    box = (w * 4 // 10, h * 4 // 10, w * 6 // 10, h * 7 // 10)
    frame = np.zeros((1, h, w, 3), np.uint8)
    frame[0, box[1] : box[3], box[0] : box[2]] = 255
    clip = Clip("a", lambda: frame, boxes={1: (tuple(map(float, box)),)})
    found = read(clip, VIEWS[name])
    rows, columns = np.nonzero(found.pixels[0, :, :, 0] > 127)
    ((x0, y0, x1, y1),) = found.boxes[0]
    assert found.pixels.shape[1:3] == tuple(VIEWS[name].size)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == pytest.approx((x0, y0, x1, y1), abs=1)


@pytest.mark.parametrize(("source", "resize", "size"), [
    ((240, 320), [], [112, 112]),
    ((256, 340), [128, 171], [112, 112]),
    ((135, 97), [64], [57, 60]),
    ((256, 455), [256], [224, 224]),
    ((60, 40), [33], [48, 64]),  # a crop larger than the frame is padded
])  # fmt: skip
def test_crop_is_torchvisions_to_one_grey_level(source: tuple[int, int], resize: list[int], size: list[int]) -> None:
    smooth = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (*source, 3), np.uint8), (0, 0), 1.5)
    ours = Placement.of(source, Preprocessing(size=size, geometry=Geometry.crop, resize=resize)).pixels(smooth)
    theirs = tv.resize(torch.from_numpy(smooth).permute(2, 0, 1), resize or [min(size)], antialias=False)
    theirs = tv.center_crop(theirs, size).permute(1, 2, 0).numpy()
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_squash_is_torchvisions_to_one_grey_level() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (240, 320, 3), np.uint8)
    ours = Placement.of((240, 320), VIEWS["squash"]).pixels(noise)
    theirs = tv.resize(torch.from_numpy(noise).permute(2, 0, 1), [112, 112], antialias=False).permute(1, 2, 0).numpy()
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_letterbox_keeps_the_aspect_and_fills_with_black() -> None:
    placed = Placement.of((256, 340), VIEWS["letterbox"])
    assert (placed.resized, placed.offset) == ((169, 224), (27, 0))
    pixels = placed.pixels(np.full((256, 340, 3), 200, np.uint8))
    assert (pixels[27:196] == 200).all()
    assert not pixels[:27].any()
    assert not pixels[196:].any()
    assert Placement.of((1, 1000), VIEWS["letterbox"]).resized == (1, 224)


def test_both_sides_of_a_letterbox_are_rounded_to_the_nearest_pixel() -> None:
    # 340 pixels become 224, so 256 become 168.66 and 249 become 164.05, whichever side they are.
    for short, long, expected in ((256, 340, 169), (249, 340, 164)):
        assert Placement.of((short, long), VIEWS["letterbox"]).resized == (expected, 224)
        assert Placement.of((long, short), VIEWS["letterbox"]).resized == (224, expected)
    assert Placement.of((1000, 1), VIEWS["letterbox"]).resized == (224, 1)


# Videos


@pytest.mark.parametrize(("name", "codec"), [("a.avi", "mpeg4"), ("a.mp4", "libx264"), ("a.mkv", "libx264")])
def test_every_frame_is_the_one_its_number_says(tmp_path: Path, name: str, codec: str) -> None:
    path = encode(tmp_path / name, grey(LEVELS), codec)
    found = read(Clip("a", path), Preprocessing(frames=24, size=[48, 64]))
    assert found.numbers == tuple(range(1, 25))
    assert found.pixels.mean((1, 2, 3)) == pytest.approx(LEVELS, abs=4.5)  # neighbours differ by 10
    assert found.boxes == ((),) * 24
    assert found.segment is None


def test_only_kept_frames_are_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "a.avi", grey(LEVELS))
    converted = []
    convert = decoders._rgb
    monkeypatch.setattr(decoders, "_rgb", lambda frame: converted.append(frame.pts) or convert(frame))
    read(Clip("a", path), SQUASH)
    assert len(converted) == 4
    converted.clear()
    assert read(Clip("a", path), Preprocessing(frames=48)).numbers == tuple(n for n in range(1, 25) for _ in range(2))
    assert len(converted) == 24


def test_sampling_can_be_chosen_per_call(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.avi", grey(LEVELS))
    assert read(Clip("a", path), SQUASH).numbers == (4, 10, 16, 22)
    assert read(Clip("a", path), SQUASH, Sampling.stride).numbers == (1, 2, 3, 4)


def test_span_and_segment_count_frames_from_one(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.avi", grey(LEVELS))
    box = (0.0, 0.0, 64.0, 48.0)
    clip = Clip("a", path, span=(5, 12), segment=(9, 10), boxes={8: (box,), 10: (box, box)})
    found = read(clip, SQUASH)
    assert found.numbers == (6, 8, 10, 12)
    assert found.segment == (False, False, True, False)
    assert [len(boxes) for boxes in found.boxes] == [0, 1, 2, 0]
    assert found.boxes[1] == ((0, 0, 32, 24),)
    with pytest.raises(ClipError, match="no frames from 30 to 40"):
        read(Clip("a", path, span=(30, 40)), SQUASH)


@pytest.mark.parametrize("error", [
    av.InvalidDataError(1, "made to fail"),
    UnicodeDecodeError("utf-8", b"\xd3", 0, 1, "made to fail"),
])  # fmt: skip
def test_opencv_reads_what_pyav_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    path = encode(tmp_path / "a.avi", grey(LEVELS))
    by_pyav = read(Clip("a", path), SQUASH)

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(av, "open", fail)
    by_opencv = read(Clip("a", path), SQUASH)
    assert by_opencv.numbers == by_pyav.numbers
    assert np.array_equal(by_opencv.pixels, by_pyav.pixels)


def test_a_container_that_is_wrong_about_its_length_is_sampled_by_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode(tmp_path / "a.avi", grey(LEVELS))
    right = read(Clip("a", path), SQUASH)
    opened = decode.pyav
    monkeypatch.setattr(decode, "pyav", lambda path: Footage(range(1, 100), opened(path).frames))
    assert read(Clip("a", path), SQUASH).numbers == right.numbers == (4, 10, 16, 22)


def test_a_cut_off_file_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.avi", np.random.default_rng(0).integers(0, 256, (24, 48, 64, 3), np.uint8))
    whole = read(Clip("a", path), Preprocessing(frames=24))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    cut = read(Clip("a", path), Preprocessing(frames=24))
    left = cut.numbers[-1]
    assert 2 < left < 24
    before = cut.numbers.index(left)  # the last frame may be half there
    assert all(np.array_equal(cut.pixels[i], whole.pixels[n - 1]) for i, n in enumerate(cut.numbers[:before]))


@pytest.mark.parametrize("content", [b"", b"not a video", b"RIFF\x00\x00\x00\x00AVI LIST"])
def test_an_unreadable_video_is_named_with_both_reasons(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    with pytest.raises(ClipError, match=r"broken\.mp4: PyAV: .+; OpenCV: no frames") as caught:
        read(Clip("a", path), SQUASH)
    assert caught.value.remedy


def test_a_file_without_pictures_is_named(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 44100
        container.mux(stream.encode(silence))
        container.mux(stream.encode(None))
    with pytest.raises(ClipError, match="no video stream"):
        read(Clip("a", path), SQUASH)


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClipError, match=r"no such file or folder: .*gone\.avi"):
        read(Clip("a", tmp_path / "gone.avi"), SQUASH)


@pytest.mark.parametrize(("height", "width", "codec", "pix_fmt", "frames"), [
    (48, 64, "ffv1", "gray", 5),
    (48, 64, "mpeg4", "yuv420p", 1),
    (32, 128, "mpeg4", "yuv420p", 5),
    (128, 32, "mpeg4", "yuv420p", 5),
    (47, 63, "ffv1", "bgr0", 5),
])  # fmt: skip
def test_unusual_videos_are_read(
    tmp_path: Path, height: int, width: int, codec: str, pix_fmt: str, frames: int
) -> None:
    path = encode(tmp_path / "a.mkv", grey([100] * frames, height, width), codec, pix_fmt)
    for geometry in Geometry:
        found = read(Clip("a", path), Preprocessing(frames=3, size=[48, 48], geometry=geometry))
        assert found.pixels.shape == (3, 48, 48, 3)
        assert np.abs(found.pixels[:, 24, 24].astype(int) - 100).max() <= 3


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_a_rotated_video_is_shown_upright_by_both_decoders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, degrees: int
) -> None:
    frames = grey([20] * 3, 48, 64)
    frames[:, :24, :32] = 220  # the corner that tells the rotation
    path = encode(tmp_path / "a.mp4", frames, rotation=degrees)
    height, width = (48, 64) if degrees == 180 else (64, 48)
    view = Preprocessing(frames=1, size=[height, width])
    by_pyav = read(Clip("a", path), view).pixels[0]
    monkeypatch.setattr(decode, "pyav", opencv)
    assert np.array_equal(by_pyav, read(Clip("a", path), view).pixels[0])
    quarters = by_pyav[..., 0].reshape(2, height // 2, 2, width // 2).mean((1, 3))
    assert np.argwhere(quarters > 150).tolist() == [{90: [1, 0], 180: [1, 1], -90: [0, 1]}[degrees]]


def test_threads_read_the_same_as_one(tmp_path: Path) -> None:
    paths = [encode(tmp_path / f"{i}.mp4", grey([i * 10 + n for n in range(24)]), "libx264") for i in range(6)]
    alone = [read(Clip("a", path), SQUASH).pixels for path in paths]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda path: read(Clip("a", path), SQUASH).pixels, paths * 3))
    assert all(np.array_equal(a, b) for a, b in zip(alone * 3, together, strict=True))


# Folders of frames, and frames made by code


def test_frame_numbers_are_those_of_the_file_names(tmp_path: Path) -> None:
    for name, level in (
        ("v_g05_c07.0006.png", 60),
        ("v_g05_c07.7.bmp", 70),
        ("v_g05_c07.00011.PNG", 110),
        ("v_g05_c07.102.jpg", 120),
    ):
        cv2.imwrite(str(tmp_path / name), grey([level])[0])
    (tmp_path / "notes.txt").write_text("1")
    (tmp_path / "._v_g05_c07.0008.png").write_bytes(b"left by a Macintosh")
    box = (0.0, 0.0, 32.0, 24.0)
    found = read(Clip("a", tmp_path, boxes={7: (box,), 2: (box,)}, box_size=(32, 24), segment=(7, 11)), SQUASH)
    assert found.numbers == (6, 7, 11, 102)
    assert found.pixels.mean((1, 2, 3)) == pytest.approx([60, 70, 110, 120], abs=1)
    assert found.boxes == ((), ((0, 0, 32, 24),), (), ())
    assert found.segment == (False, True, True, False)


def test_colours_are_red_green_blue(tmp_path: Path) -> None:
    red = grey([0, 0, 0, 0])
    red[..., 0] = 250
    cv2.imwrite(str(tmp_path / "1.png"), red[0][..., ::-1])
    encode(tmp_path / "a.avi", red)
    for source in (tmp_path, tmp_path / "a.avi", lambda: red):
        pixels = read(Clip("a", source), SQUASH).pixels
        assert pixels[..., 0].min() > 230
        assert pixels[..., 1:].max() < 20


@pytest.mark.parametrize(("files", "message"), [
    ({"a.1.png": b"not an image"}, r"a\.1\.png is not a readable image"),
    ({"cover.png": b""}, r"cover\.png has no frame number"),
    ({"a1.png": b"", "b01.png": b""}, r"a1\.png and b01\.png are both frame 1"),
    ({}, "no frames"),
])  # fmt: skip
def test_a_bad_folder_of_frames_is_named(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ClipError, match=message) as caught:
        read(Clip("a", tmp_path), SQUASH)
    assert str(tmp_path) in caught.value.found


def test_frames_made_by_code_are_read_and_checked() -> None:
    found = read(Clip("a", lambda: grey([10, 20, 30, 40], 24, 32)), SQUASH)
    assert found.pixels[:, 0, 0, 0].tolist() == [10, 20, 30, 40]
    with pytest.raises(ClipError, match="cannot read b: made by code: its frames are float64"):
        read(Clip("b", lambda: np.zeros((4, 24, 32, 3))), SQUASH)
    with pytest.raises(ClipError, match="no frames"):
        read(Clip("b", lambda: np.zeros((0, 24, 32, 3), np.uint8)), SQUASH)


# Real clips


@pytest.mark.real
def test_real_videos_are_the_same_by_both_decoders(real: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [*sorted((real / "ucf101_24/UCF-101").glob("*/*.mp4"))[:2], *(real / "odd").glob("*.avi")]
    assert len(paths) == 3
    by_pyav = [read(Clip("a", path), SQUASH) for path in paths]
    monkeypatch.setattr(decode, "pyav", opencv)
    for path, one in zip(paths, by_pyav, strict=True):
        other = read(Clip("a", path), SQUASH)
        assert other.numbers == one.numbers
        assert np.array_equal(other.pixels, one.pixels)


@pytest.mark.real
def test_a_real_folder_of_frames_keeps_its_numbers(real: Path) -> None:
    frames = real / "ucf101_24/rgb-images"
    diving = read(Clip("a", frames / "CliffDiving/v_CliffDiving_g05_c07"), Preprocessing(frames=3), Sampling.stride)
    assert diving.numbers == (6, 7, 8)
    riding = read(
        Clip("a", frames / "HorseRiding/v_HorseRiding_g02_c03"), Preprocessing(frames=2), Sampling.released_last
    )
    assert riding.numbers[-1] == 63


@pytest.mark.parametrize("geometry", ["squash", "crop", "letterbox"])
@pytest.mark.parametrize("size", [[32, 32], [20, 28], [64, 96]])
def test_the_evidence_of_a_clip_made_by_code_is_placed_like_its_pixels(geometry: str, size: list[int]) -> None:
    voxels = np.zeros((6, 40, 48), bool)
    for t in range(6):
        voxels[t, 4 + t : 24 + t, 20:40] = True

    def drawn(part: str, number: int) -> NDArray[np.uint8]:
        return np.full((6, 40, 48, 3), 100 + number if part == "rest" else number, np.uint8)

    white = np.repeat(voxels[..., None].astype(np.uint8) * 255, 3, 3)
    clip = Clip("made", lambda: white, evidence=lambda: voxels, resampled=drawn)
    found = read(clip, Preprocessing(frames=3, size=size, geometry=Geometry(geometry)))
    assert found.evidence is not None
    assert found.resampled is not None
    assert 0 < found.evidence.sum() < found.evidence.size
    assert np.array_equal(found.evidence, found.pixels[..., 0] >= 128)
    assert found.resampled("rest", 7).shape == found.pixels.shape
    assert found.resampled("rest", 7).max() == 107
    assert found.resampled("evidence", 7).max() == 7
    plain = read(replace(clip, evidence=None, resampled=None), Preprocessing(frames=3, size=size))
    assert plain.evidence is None
    assert plain.resampled is None


@pytest.mark.parametrize(
    "voxels", [np.zeros((6, 40, 47), bool), np.zeros((5, 40, 48), bool), np.zeros((6, 40, 48), np.uint8)]
)
def test_evidence_that_does_not_fit_its_frames_is_named(voxels: NDArray[Any]) -> None:
    clip = Clip("made", lambda: np.zeros((6, 40, 48, 3), np.uint8), evidence=lambda: voxels)
    with pytest.raises(ClipError, match="its evidence is"):
        read(clip, Preprocessing(frames=6, size=[8, 8]))
