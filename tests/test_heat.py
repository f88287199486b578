from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from vidattr.render.heat import Scale, overlay
from vidattr.render.options import Render, Signed, Style

EXACT = Render(opacity=1.0, percentile=100.0)


def clip() -> tuple[np.ndarray, np.ndarray]:
    """Frames and a map without any structure."""
    rng = np.random.default_rng(3)
    return rng.integers(0, 256, (3, 8, 12, 3), np.uint8), rng.random((3, 8, 12), np.float32)


# one scale per clip


def test_one_scale_for_the_whole_clip():
    map = np.zeros((3, 4, 4))
    map[0], map[1] = 4.0, 2.0
    assert Scale.of(map, EXACT).apply(map)[:, 0, 0].tolist() == [1.0, 0.5, 0.0]


def test_scale_does_not_depend_on_the_unit():
    _, map = clip()
    for unit in (1e-30, 1e-8, 1e8):
        np.testing.assert_allclose(
            Scale.of(map * unit, Render()).apply(map * unit), Scale.of(map, Render()).apply(map), atol=1e-5
        )


def test_extreme_voxels_do_not_darken_the_others():
    map = np.linspace(0, 1, 4000).reshape(10, 20, 20)
    wild = map.copy()
    wild[-1, -1, -1] = 1e4
    assert Scale.of(wild, Render(percentile=99)).high == pytest.approx(0.99, abs=1e-3)
    assert Scale.of(wild, EXACT).high == 1e4


def test_a_single_voxel_is_seen():
    map = np.zeros((4, 20, 20))
    map[2, 3, 5] = 1e-9
    shown = Scale.of(map, Render(percentile=99)).apply(map)
    assert shown[2, 3, 5] == 1
    assert shown.sum() == 1


def test_signed_maps():
    map = np.linspace(-3, 1, 64).reshape(4, 4, 4)
    positive = Scale.of(map, EXACT).apply(map)
    assert (positive[map <= 0] == 0).all()
    np.testing.assert_allclose(positive[map > 0], map[map > 0], rtol=1e-6)
    np.testing.assert_allclose(Scale.of(map, replace(EXACT, signed=Signed.range)).apply(map), (map + 3) / 4, atol=1e-6)
    assert Scale.of(map - 2, EXACT).flaw == "no positive evidence"
    assert Scale.of(map - 2, replace(EXACT, signed=Signed.range)).flaw == ""


@pytest.mark.parametrize(
    ("value", "flaw"),
    [(0.0, "flat map"), (0.3, "flat map"), (-2.0, "flat map"), (np.nan, "map not finite"), (np.inf, "map not finite")],
)
def test_a_map_without_contrast_is_drawn_flat(value, flaw):
    frames, map = clip()
    map[:] = value
    if value == 0.3:
        map[1] = np.nextafter(np.float32(0.3), np.float32(1))  # a rounding error is no contrast
    assert Scale.of(map, Render()).flaw == flaw
    np.testing.assert_array_equal(overlay(frames, map, Render()), frames)


@pytest.mark.parametrize("rest", [0.0, 8.7e-18, 1e-9])
def test_a_rounding_error_above_0_is_no_positive_evidence(rest):
    frames, map = clip()
    map[:] = -0.008
    map[1, :2, :2] = rest
    assert Scale.of(map, Render()).flaw == "no positive evidence"
    np.testing.assert_array_equal(overlay(frames, map, Render()), frames)
    map[1, :2, :2] = 1e-5  # little evidence is evidence
    assert Scale.of(map, Render()).flaw == ""


def test_one_bad_voxel_is_named():
    _, map = clip()
    map[0, 0, 0] = np.nan
    assert Scale.of(map, Render()).flaw == "map not finite"


def test_ends_of_the_scale():
    assert Scale(6.8e-20, 0.891).ends() == ("0", "0.89")
    assert Scale(3e-9, 2e-8).ends() == ("3e-09", "2e-08")
    assert str(Scale(-1.0, 1.0)) == "-1 to 1"


# blending


def test_no_heat_leaves_the_frame_and_full_heat_is_the_top_colour():
    frames = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), np.uint8)
    map = np.zeros((2, 5, 7))
    map[1, 2:] = 1
    out = overlay(frames, map, EXACT)
    np.testing.assert_array_equal(out[map == 0], frames[map == 0])
    assert (out[map == 1] == (128, 0, 0)).all()  # the dark red at the end of jet
    half = overlay(frames, map, replace(EXACT, opacity=0.5))
    np.testing.assert_allclose(half[map == 1], 0.5 * frames[map == 1] + 0.5 * np.array([128, 0, 0]), atol=0.51)


@pytest.mark.parametrize("colormap", ["jet", "turbo", "viridis"])
@pytest.mark.parametrize(("gamma", "opacity"), [(0.8, 1.0), (2.0, 0.6)])
def test_blending_follows_the_demo(colormap, gamma, opacity):
    rng = np.random.default_rng(1)
    frames, map = rng.integers(0, 256, (2, 6, 9, 3), np.uint8), rng.random((2, 6, 9))
    map.flat[:2] = 0, 1
    out = overlay(frames, map, Render(percentile=100, gamma=gamma, opacity=opacity, colormap=colormap))
    for at in np.ndindex(map.shape):
        level = np.full((1, 1), round(map[at] * 255), np.uint8)
        colour = cv2.applyColorMap(level, getattr(cv2, f"COLORMAP_{colormap.upper()}"))[0, 0, ::-1].astype(float)
        weight = opacity * map[at] ** gamma
        np.testing.assert_allclose(out[at], (1 - weight) * frames[at] + weight * colour, atol=1)


def test_cut_out_keeps_what_matters_and_blackens_the_rest():
    frames = np.full((1, 2, 2, 3), 200, np.uint8)
    map = np.array([[[0.0, 0.5], [0.8, 1.0]]])
    out = overlay(frames, map, replace(EXACT, style=Style.cutout))
    np.testing.assert_allclose(out[..., 0], 200 * (1 - (1 - map**2) ** 2.4), atol=0.51)


def test_a_map_of_another_shape_is_refused():
    frames, map = clip()
    with pytest.raises(ValueError, match="does not lie on"):
        overlay(frames, map[:, ::2], Render())
