from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from vidattr.errors import ConfigError, OutputError
from vidattr.render import drawing as draw
from vidattr.render.heat import overlay
from vidattr.render.options import Render, Scene
from vidattr.render.pictures import DrawnMap, of_map, of_sheet, write_map, write_sheet
from vidattr.render.sheets import animation, comparison, cutouts, grid
from vidattr.run.compose import choice
from vidattr.types import MaskRow

CONFIGS = Path(__file__).resolve().parent.parent / "configs" / "render"


def blob(T: int = 5, H: int = 24, W: int = 32) -> tuple[np.ndarray, np.ndarray, tuple]:
    """A bright disc that crosses a textured ground, a map that follows it, and its box on every frame."""
    y, x = np.mgrid[:H, :W]
    ground = np.stack([90 + 40 * np.sin(x / 5), 80 + 30 * np.cos(y / 7), 110 + 0 * x], -1).astype(np.uint8)
    frames, maps, boxes = np.repeat(ground[None], T, 0), np.zeros((T, H, W), np.float32), []
    for t in range(T):
        cx, cy = 5 + (W - 10) * t // max(T - 1, 1), H // 2
        far = np.hypot(x - cx, y - cy)
        frames[t, far < 4] = (240, 200, 60)
        maps[t] = np.exp(-(far**2) / 20) * (t + 1) / T
        boxes.append(((cx - 4.0, cy - 4.0, cx + 5.0, cy + 5.0),))
    return frames, maps, tuple(boxes)


def scene(T: int = 5, H: int = 24, W: int = 32, **changes: object) -> tuple[Scene, np.ndarray]:
    frames, maps, boxes = blob(T, H, W)
    plain = Scene("clip.a_1", frames, tuple(range(3, 3 + T)), "tiny", "disc", 0.93, "disc", 0.93, "disc", boxes)
    return replace(plain, **changes), maps


# the configuration


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_config_names_every_field(file):
    node = choice("render", file.stem)
    assert node.pop("_target_") == "vidattr.render.options.Render"
    made = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Render), node))
    assert isinstance(made, Render)
    assert set(node) == set(Render.__dataclass_fields__)
    if file.stem == "default":
        assert made == Render()


def test_unknown_colour_map_lists_the_choices():
    with pytest.raises(ConfigError, match=r"(?s)'jett'.*inferno.*jet.*turbo.*viridis.*did you mean jet"):
        Render(colormap="jett")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("opacity", 1.2),
        ("gamma", 0.0),
        ("percentile", 20),
        ("columns", 0),
        ("tile", 2),
        ("animation_tile", 0),
        ("fps", 0.0),
        ("fps", float("nan")),
    ],
)
def test_values_out_of_range(field, value):
    with pytest.raises(ConfigError, match=f"render.{field}="):
        Render(**{field: value})


# layouts


@pytest.mark.parametrize(("value", "other"), [(0.0, np.nan), (np.nan, 0.0), (np.inf, 0.0), (0.3, -np.inf)])
def test_the_legend_says_why_nothing_is_drawn(value, other):
    clip, map = scene()
    page, different = (grid(clip, np.full_like(map, x), "m", Render()) for x in (value, other))
    rows = np.argwhere((page != different).any(-1))[:, 0]
    assert rows.min() > len(page) - 40
    assert len(animation(clip, np.full_like(map, value), "m", Render())) == len(map)


@pytest.mark.parametrize(("T", "H", "W"), [(1, 24, 24), (3, 40, 10), (8, 16, 16), (10, 12, 30)])
def test_grid_holds_every_frame_over_its_heat(T, H, W):
    clip, map = scene(T, H, W, boxes=())
    plain = Render(tile=16, columns=4)
    page, heat = grid(clip, map, "m", plain), overlay(clip.pixels, map, plain)
    x = [draw.MARGIN + t % 4 * (W + draw.GAP) for t in range(T)]
    first = next(y for y in range(len(page)) if np.array_equal(page[y : y + H, x[0] : x[0] + W], clip.pixels[0]))
    block = draw.line_height(draw.SMALL) + 2 * H + 3 * draw.GAP
    for t in range(T):
        y = first + t // 4 * block
        np.testing.assert_array_equal(page[y : y + H, x[t] : x[t] + W], clip.pixels[t])
        np.testing.assert_array_equal(page[y + H + draw.GAP : y + 2 * H + draw.GAP, x[t] : x[t] + W], heat[t])


def test_small_frames_are_enlarged_and_large_ones_left():
    frames = blob(2, 20, 40)[0]
    assert draw.enlarge(frames, 160).shape == (2, 80, 160, 3)
    assert draw.enlarge(frames, 30) is frames


def test_nothing_touches_the_margins_however_long_the_names():
    clip, map = scene(
        2,
        clip="v_" + "Long" * 60,
        model="model_" * 20,
        target="a very long class é" * 9,
        predicted="x" * 300,
        label="y" * 300,
    )
    maps = {"method_" * 20: map, "flat": map * 0, "negative": -map - 1}
    long = "method_" * 20
    pages = [grid(clip, map, long, Render()), comparison(clip, maps, Render()), animation(clip, map, long, Render())[0]]
    for page in pages:
        inner = page.copy()
        inner[draw.MARGIN // 2 : -draw.MARGIN // 2, draw.MARGIN : -draw.MARGIN] = draw.PAPER
        assert (inner == draw.PAPER).all()


def test_captions_say_what_was_explained():
    clip, map = scene()
    page = grid(clip, map, "m", Render())
    for change in (
        {"probability": 0.5},
        {"target": "ring"},
        {"label": ""},
        {"model": "other"},
        {"clip": "b"},
        {"numbers": (9, 8, 7, 6, 5)},
    ):
        assert not np.array_equal(page, grid(replace(clip, **change), map, "m", Render()))
    assert not np.array_equal(page, grid(clip, map, "n", Render()))


@pytest.mark.parametrize(("words", "width"), [("v_CliffDiving_g05_c07", 90), ("é" * 50, 60), ("a", 40)])
def test_shortened_text_fits_and_keeps_both_ends(words, width):
    short = draw.shorten(words, 13, width)
    assert draw.text_width(short, 13) <= width
    assert short[0] == words[0]
    assert short[-1] == words[-1]
    assert (short == words) == (draw.text_width(words, 13) <= width)


def test_text_flows_into_lines_that_fit():
    pieces = ["grad_cam", "a_model_of_some_length", "explains disc (p = 0.93)", "labelled ring"]
    lines = draw.flow(pieces, 13, 260)
    assert len(lines) > 1
    assert all(draw.text_width(line, 13) <= 260 for line in lines)
    assert "  ·  ".join(lines) == "  ·  ".join(pieces)


def test_boxes_lie_on_their_pixels():
    tile = np.full((40, 80, 3), 100, np.uint8)
    draw.outline(tile, [(5.0, 3.0, 20.0, 10.0)], 20, 40)  # twice enlarged: 10…39 by 6…19
    white = np.argwhere((tile == 255).all(-1))
    assert white.min(0).tolist() == [6, 10]
    assert white.max(0).tolist() == [19, 39]
    assert len(white) == 2 * (30 + 14) - 4
    assert (tile[8:18, 12:38] == 100).all()
    black = np.argwhere((tile == 0).all(-1))
    assert black.min(0).tolist() == [5, 9]
    assert black.max(0).tolist() == [20, 40]


def test_boxes_are_drawn_on_frames_and_heat_where_asked_for():
    clip, map = scene(2)
    plain = Render(tile=16)
    before = clip.pixels.copy()
    with_boxes, without = (grid(clip, map, "m", replace(plain, boxes=drawn)) for drawn in (True, False))
    changed = np.argwhere((with_boxes != without).any(-1))
    x0, x1 = clip.boxes[0][0][0], clip.boxes[1][0][2]
    assert changed[:, 1].min() >= draw.MARGIN
    assert changed[:, 1].min() == draw.MARGIN + max(x0 - 1, 0)
    assert (without == grid(replace(clip, boxes=()), map, "m", plain)).all()
    assert changed[changed[:, 0] < len(with_boxes) - 40][:, 1].max() == draw.MARGIN + 32 + draw.GAP + min(x1, 31)
    np.testing.assert_array_equal(clip.pixels, before)


def test_a_frame_may_have_no_box_or_several():
    clip, map = scene(3)
    boxes = ((), clip.boxes[1] * 2, clip.boxes[2])
    page = grid(replace(clip, boxes=boxes), map, "m", Render())
    assert page.shape == grid(clip, map, "m", Render()).shape


def test_comparison_has_a_row_per_method_each_on_its_own_scale():
    clip, map = scene(12, 16, 16, boxes=())
    render = Render(tile=16, columns=5)
    page = comparison(clip, {"a": map, "b": map * 1000, "flat": map * 0 + 3}, render)
    picked = [0, 3, 6, 8, 11]  # evenly spread over 12, both ends among them
    rows = [clip.pixels[picked], *[overlay(clip.pixels, map, render)[picked]] * 2, clip.pixels[picked]]
    strips = [
        np.concatenate([np.pad(t, ((0, 0), (0, draw.GAP), (0, 0)), constant_values=255) for t in row], 1)[
            :, : -draw.GAP
        ]
        for row in rows
    ]
    h, w = strips[0].shape[:2]
    spots = [
        (y, x)
        for y in range(len(page) - h)
        for x in range(160)
        if np.array_equal(page[y : y + h, x : x + w], strips[0])
    ]
    assert len(spots) == 2  # the frames, and the flat map drawn as frames
    (y, x), (last, _) = spots
    assert last == y + 3 * (16 + draw.GAP)
    for row, strip in enumerate(strips):
        at = y + row * (16 + draw.GAP)
        np.testing.assert_array_equal(page[at : at + h, x : x + w], strip)


def test_animation_marks_the_frame_in_the_curve():
    clip, map = scene(6)
    pages = animation(clip, map, "m", Render())
    below = draw.MARGIN + draw.line_height(draw.SMALL)  # the labels of the time axis
    chart = pages[:, -below - 40 : -below]
    marked = [(page == draw.ACCENT).all(-1) for page in chart]
    starts = [np.argwhere(spot)[:, 1].min() for spot in marked]
    assert starts == sorted(set(starts))
    heights = [len(set(np.argwhere(spot)[:, 0])) for spot in marked]
    means = map.mean((1, 2))
    np.testing.assert_allclose(heights, 40 * means / means.max(), atol=1.01)


def test_curve_goes_below_zero():
    page = draw.sheet(50, 60)
    draw.bars(page, 0, 5, 60, 40, np.array([1.0, -1.0]), active=1)
    rows = np.argwhere((page == draw.ACCENT).all(-1))[:, 0]
    assert (rows.min(), rows.max()) == (25, 44)


# files


def write(folder, clip, map, render, *, shown="1", overwrite=False, masks=()):
    files = of_map(folder, clip.clip, render, {"run": shown}, masks=bool(masks))
    return [path.name for path in write_map(files, DrawnMap(clip, map, "m", render, masks), overwrite=overwrite)]


def names(folder):
    return {path.name for path in folder.iterdir() if path.is_file()}


def test_write_makes_what_is_asked_for_and_missing(tmp_path):
    clip, map = scene(2)
    png, gif, mp4 = "clip.a_1.png", "clip.a_1.gif", "clip.a_1.mp4"
    assert write(tmp_path, clip, map, Render(mp4=False)) == [png, gif]
    (tmp_path / gif).write_bytes(b"mine")
    assert write(tmp_path, clip, map, Render()) == [mp4]
    assert (tmp_path / gif).read_bytes() == b"mine"
    assert write(tmp_path, clip, map, Render()) == []
    assert write(tmp_path, clip, map, Render(), overwrite=True) == [png, gif, mp4]
    with Image.open(tmp_path / gif) as image:
        assert image.n_frames == 2
    assert names(tmp_path) == {png, gif, mp4}


@pytest.mark.parametrize(
    ("before", "after", "left", "drawn"),
    [
        ({}, {"gif": False}, {".png", ".gif", ".mp4"}, set()),  # not asked for any more, and still true
        ({}, {"colormap": "turbo"}, {".png", ".gif", ".mp4"}, {".png", ".gif", ".mp4"}),
        ({}, {"colormap": "turbo", "grid": False}, {".gif", ".mp4"}, {".gif", ".mp4"}),
        ({}, {"style": "cutout", "gif": False, "mp4": False}, {".png"}, {".png"}),
        ({}, {"fps": 9.0}, {".png", ".gif", ".mp4"}, {".gif", ".mp4"}),  # a picture that stands still has no speed
        ({}, {"animation_tile": 64, "mp4": False}, {".png", ".gif"}, {".gif"}),
        ({"grid": False}, {"comparison": False}, {".png", ".gif", ".mp4"}, {".png"}),
    ],
)
def test_no_picture_shows_other_options_than_those_of_the_last_command(tmp_path, before, after, left, drawn):
    clip, map = scene(2)
    write(tmp_path, clip, map, Render(**before))
    assert {name.removeprefix(clip.clip) for name in write(tmp_path, clip, map, Render(**after))} == drawn
    assert {name.removeprefix(clip.clip) for name in names(tmp_path)} == left
    assert write(tmp_path, clip, map, Render(**after)) == []
    fresh = tmp_path / "fresh"
    write(fresh, clip, map, Render(**after))
    assert all((tmp_path / name).read_bytes() == (fresh / name).read_bytes() for name in names(fresh))


def test_a_picture_of_another_map_or_of_nobody_knows_what_is_replaced_or_removed(tmp_path):
    clip, map = scene(2)
    write(tmp_path, clip, map, Render())
    assert write(tmp_path, clip, map, Render(gif=False), shown="2") == ["clip.a_1.png", "clip.a_1.mp4"]
    assert names(tmp_path) == {"clip.a_1.png", "clip.a_1.mp4"}
    for damage in (b"", b"[]", b'{".png": 3}', b"\xff"):
        (tmp_path / ".drawn" / "clip.a_1.json").write_bytes(damage)
        assert len(write(tmp_path, clip, map, Render(gif=False), shown="2")) == 2
    (tmp_path / "clip.a_1.gif").write_bytes(b"of an earlier version, without a record")
    files = of_map(tmp_path, clip.clip, Render(gif=False), {"run": "2"}, masks=False)
    assert files.lacks()
    assert [path.name for path in files.current()] == ["clip.a_1.png", "clip.a_1.mp4"]
    files.discard()
    assert names(tmp_path) == {"clip.a_1.png", "clip.a_1.mp4"}
    assert not files.lacks()


def test_a_kill_between_picture_and_record_costs_one_more_drawing_and_nothing_stale(tmp_path, monkeypatch):
    clip, map = scene(2)
    write(tmp_path, clip, map, Render())
    with monkeypatch.context() as patch:
        patch.setattr("vidattr.render.picture_files.write_text", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path, clip, map, Render(colormap="turbo"))
    assert len(write(tmp_path, clip, map, Render())) == 3  # as after the first command, whatever the second one did


def test_a_sheet_is_drawn_again_where_a_run_or_a_map_of_it_changed(tmp_path):
    clip, map = scene(2)

    def sheet(render, maps, overwrite=False):
        files = of_sheet(tmp_path, clip.clip, render, maps)
        return [path.name for path in write_sheet(files, clip, {"a": map}, render, overwrite=overwrite)]

    assert sheet(Render(comparison=False), {"a": "1", "b": "1"}) == []
    assert sheet(Render(), {"a": "1", "b": "1"}) == ["clip.a_1.png"]
    assert sheet(Render(), {"b": "1", "a": "1"}) == []
    assert sheet(Render(), {"a": "1", "b": "1"}, overwrite=True) == ["clip.a_1.png"]
    assert sheet(Render(), {"a": "1", "b": "2"}) == ["clip.a_1.png"]
    assert sheet(Render(), {"a": "1", "b": "2", "c": "1"}) == ["clip.a_1.png"]
    assert sheet(Render(gamma=2.0), {"a": "1", "b": "2", "c": "1"}) == ["clip.a_1.png"]
    assert sheet(Render(comparison=False), {"a": "2", "b": "2"}) == []
    assert names(tmp_path) == set()


def test_cutouts_show_the_clip_where_the_mask_is_and_black_elsewhere(tmp_path):
    clip, _ = scene(2)
    h, w = clip.pixels.shape[1:3]
    masks = np.zeros((2, 2, h, w), np.float32)
    masks[1] = 1
    rows = [MaskRow(torch.from_numpy(mask), f"ratio {n}", "") for n, mask in enumerate(masks)]
    page = cutouts(clip, rows, "ep3d", Render(boxes=False, tile=16))

    def times(tile):
        corners = np.argwhere((page[: 1 - h, : 1 - w] == tile[0, 0]).all(-1))
        return sum(np.array_equal(page[y : y + h, x : x + w], tile) for y, x in corners)

    for frame in clip.pixels:
        assert times(frame) == 2  # in the row of frames, and where the mask keeps all
    assert times(np.zeros_like(clip.pixels[0])) == 2  # where it keeps nothing

    clip, map = scene(2)
    only = Render(gif=False, mp4=False)
    assert write(tmp_path, clip, map, only) == ["clip.a_1.png"]
    assert write(tmp_path, clip, map, only, masks=rows) == ["clip.a_1.masks.png"]
    assert write(tmp_path, clip, map, only, masks=rows) == []
    assert write(tmp_path, clip, map, replace(only, grid=False), shown="2", masks=rows) == []
    assert names(tmp_path) == set()
    write(tmp_path, clip, map, only, masks=rows)
    write(tmp_path, clip, map, only)  # the map was stored again, without its masks
    assert names(tmp_path) == {"clip.a_1.png"}


def test_a_write_that_fails_half_way_leaves_nothing(tmp_path, monkeypatch):
    clip, map = scene(2)
    whole_write = Path.write_bytes

    def full_disk(path: Path, content: bytes) -> int:
        if ".gif" in path.name:
            whole_write(path, content[: len(content) // 2])
            raise OSError("no space left on device")
        return whole_write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OutputError, match="no space"):
        write(tmp_path, clip, map, Render())
    assert names(tmp_path) == {"clip.a_1.png"}
    monkeypatch.undo()
    assert write(tmp_path, clip, map, Render()) == ["clip.a_1.gif", "clip.a_1.mp4"]


def test_threads_draw_the_same_bytes(tmp_path):
    clips = [scene(2, clip=f"clip_{i}", target=f"class {i}") for i in range(8)]
    for clip, map in clips:
        write(tmp_path / "one", clip, map, Render())
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda pair: write(tmp_path / "many", *pair, Render()), clips))
    files = sorted(names(tmp_path / "one"))
    assert len(files) == 24
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "many" / name).read_bytes()
