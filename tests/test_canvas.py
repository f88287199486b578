"""Pictures for papers: original frames, signed maps, file formats, and several classes on one scale."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from conftest import Command
from vidattr.errors import ClipError
from vidattr.render import encoding
from vidattr.render.class_sheet import ClassMap, class_sheet
from vidattr.render.heat import Scale, overlay
from vidattr.render.options import Render, Scene, Signed, StillFormat, Surface
from vidattr.run.canvas import canvas
from vidattr.types import Clip
from vidattr.video.decode import read
from vidattr.video.preprocessing import Geometry, Preprocessing

ORIGINAL = Render(frames=Surface.original)


def folder(path: Path, width: int, height: int) -> Clip:
    """Four frames with a white square at the same place, in a tenth of the width."""
    for number in range(1, 5):
        frame = np.zeros((height, width, 3), np.uint8)
        frame[height // 2 : height // 2 + width // 10, width // 2 : width // 2 + width // 10] = 255
        cv2.imwrite(str(path / f"{number}.png"), frame)
    return Clip("a", path)


@pytest.mark.parametrize("geometry", list(Geometry))
@pytest.mark.parametrize(("width", "height"), [(160, 90), (90, 160), (120, 120)])
def test_a_map_lies_on_the_original_where_its_pixels_came_from(
    tmp_path: Path, geometry: Geometry, width: int, height: int
) -> None:
    clip, view = folder(tmp_path, width, height), Preprocessing(frames=4, size=[56, 56], geometry=geometry)
    seen = read(clip, view)
    found = canvas(clip, seen, view, ORIGINAL)
    assert found.sample.pixels.shape == (4, height, width, 3)
    map = found.place(seen.pixels.mean(3) / 255)  # a map that is the network's own picture
    assert map.shape == (4, height, width)
    truth = found.sample.pixels.mean(3) / 255
    # Equal but for the blur of reducing and enlarging the square's edges.
    assert np.abs(map - truth).mean() < 0.01
    assert np.corrcoef(map.ravel(), truth.ravel())[0, 1] > 0.9
    assert found.unseen == (geometry is Geometry.crop and width != height)


def test_what_a_crop_does_not_see_is_dark_and_has_no_importance(tmp_path: Path) -> None:
    for number in range(1, 5):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((50, 100, 3), 200, np.uint8))
    clip, view = Clip("a", tmp_path), Preprocessing(frames=4, size=[50, 50], geometry=Geometry.crop)
    found = canvas(clip, read(clip, view), view, ORIGINAL)
    assert found.place(np.ones((4, 50, 50)))[0, 0].tolist() == [0] * 25 + [1] * 50 + [0] * 25
    assert np.unique(found.sample.pixels[:, :, :25]).tolist() == [70]
    assert np.unique(found.sample.pixels[:, :, 25:75]).tolist() == [200]


def test_original_frames_can_be_limited_in_size(tmp_path: Path) -> None:
    clip, view = folder(tmp_path, 160, 90), Preprocessing(frames=4, size=[56, 56])
    found = canvas(clip, read(clip, view), view, Render(frames=Surface.original, largest=80))
    assert found.sample.pixels.shape == (4, 45, 80, 3)


def test_original_frames_that_changed_are_refused(tmp_path: Path) -> None:
    clip, view = folder(tmp_path, 160, 90), Preprocessing(frames=4, size=[56, 56])
    seen = read(clip, view)
    (tmp_path / "2.png").unlink()
    with pytest.raises(ClipError, match="others than those of its map"):
        canvas(clip, seen, view, ORIGINAL)


def test_both_signs_are_red_and_blue_on_a_symmetric_scale() -> None:
    render = Render(signed=Signed.both, percentile=100, opacity=1, gamma=1)
    map = np.array([[[-4.0, -1.0, 0.0, 1.0, 2.0]]])
    assert (Scale.of(map, render).low, Scale.of(map, render).high) == (-4.0, 4.0)
    drawn = overlay(np.full((1, 1, 5, 3), 100, np.uint8), map, render)[0, 0].astype(int)
    assert drawn[0, 2] > 180 > drawn[0, 0]  # blue
    assert drawn[4, 0] > drawn[3, 0] > 100 > drawn[4, 2]  # red, more where the value is higher
    assert drawn[2].tolist() == [100, 100, 100]
    assert Scale.of(np.zeros((1, 2, 2)), render).flaw == "flat map"


def test_desaturated_frames_are_grey_below_the_heat() -> None:
    frames = np.zeros((1, 2, 2, 3), np.uint8)
    frames[..., 0] = 200
    drawn = overlay(frames, np.array([[[0.0, 0.0], [0.0, 1.0]]]), Render(desaturate=1.0, percentile=100))
    assert drawn[0, 0, 0].tolist() == [60, 60, 60]  # 0.299 · 200


@pytest.mark.parametrize("format", list(StillFormat))
def test_formats(format: StillFormat) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)
    data = encoding.still(picture, format)
    assert data == encoding.still(picture, format)  # no date in it
    if format in (StillFormat.png, StillFormat.webp):
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, image.size) == (format.upper(), (60, 40))
    else:
        assert data.startswith({StillFormat.pdf: b"%PDF", StillFormat.svg: b"<svg"}[format])


def test_classes_share_a_scale_and_their_difference_has_a_sign() -> None:
    pixels = np.full((4, 16, 16, 3), 128, np.uint8)
    scene = Scene("a", pixels, (1, 2, 3, 4), "net", "x", 0.6, "x", 0.6)
    strong, weak = np.zeros((4, 16, 16)), np.zeros((4, 16, 16))
    strong[1, :8], weak[1, 8:] = 1.0, 0.25
    render = Render(percentile=100, tile=16)
    page = class_sheet(scene, {"m": [ClassMap(strong, "x", 0.6), ClassMap(weak, "y", 0.2)]}, render)
    joint = Scale.of(np.stack([strong, weak]), render)
    for map in (strong, weak):
        tile = overlay(pixels, map, render, joint)[1]
        assert _holds(page, tile)
    assert not _holds(page, overlay(pixels, weak, render)[1])  # on its own scale it would look as strong


def _holds(page: np.ndarray, tile: np.ndarray) -> bool:
    match = cv2.matchTemplate(page, tile, cv2.TM_SQDIFF)
    return bool(match.min() < 0.5)


def test_a_sweep_over_targets_makes_a_sheet_of_both_classes(vidattr: Command, tmp_path: Path) -> None:
    sweep = ("run", "method=gradient", "dataset.clips=2", "render.gif=false", "render.mp4=false", "--quiet")
    assert vidattr(*sweep, "target=predicted,second", "render.format=webp", f"paths.out={tmp_path}").code == 0
    sheets = sorted(tmp_path.glob("comparison/*/*-classes-*/*.webp"))
    assert len(sheets) == 2
    before = [sheet.stat().st_mtime_ns for sheet in sheets]
    assert vidattr(*sweep, "target=predicted,second", "render.format=webp", f"paths.out={tmp_path}").code == 0
    assert [sheet.stat().st_mtime_ns for sheet in sheets] == before
    sheets[0].unlink()
    assert vidattr(*sweep, "target=predicted,second", "render.format=webp", f"paths.out={tmp_path}").code == 0
    assert sheets[0].is_file()
    assert not list(tmp_path.glob("**/*.png"))
