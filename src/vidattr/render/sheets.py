"""Layouts of pictures: grid, comparison sheet, cut-outs, strip and animation. Each function returns an RGB array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vidattr.render import drawing as draw
from vidattr.render.frames import note, only, pick
from vidattr.render.heat import Map, Scale, blend, overlay
from vidattr.render.options import Render, Scene, Style
from vidattr.types import MaskRow, Pixels

_FOOT = 12 + 2 * draw.MARGIN
_NARROWEST = 440  # pixels: the text at the top needs them even on a sheet of one small frame
_CHART = 40


def grid(scene: Scene, map: Map, method: str, render: Render) -> Pixels:
    """Draws all frames in rows of `columns`, each row above its heat maps; names and probabilities are at the top."""
    frames, heat = (tiles_of(scene, x, render.tile, render) for x in (scene.pixels, overlay(scene.pixels, map, render)))
    T, h, w = frames.shape[:3]
    columns = min(render.columns, T)
    width = max(columns * (w + draw.GAP) - draw.GAP, _NARROWEST)
    head = _head(scene, [method, scene.model], width)
    block = draw.line_height(draw.SMALL) + 2 * h + 3 * draw.GAP
    page = draw.sheet(len(head) + -(-T // columns) * block + _FOOT, width + 2 * draw.MARGIN)
    page[: len(head)] = head
    for t in range(T):
        x = draw.MARGIN + t % columns * (w + draw.GAP)
        y = len(head) + t // columns * block
        _centred(page, x, y, w, scene.caption(t))
        y += draw.line_height(draw.SMALL)
        page[y : y + h, x : x + w] = frames[t]
        page[y + h + draw.GAP : y + 2 * h + draw.GAP, x : x + w] = heat[t]
    _foot(page, scene, render, Scale.of(map, render))
    return page


def comparison(scene: Scene, maps: Mapping[str, Map], render: Render) -> Pixels:
    """Draws the maps of several methods, a row each below the row of frames, each row on its own scale.

    Of a clip with more frames than `columns`, as many as `columns` are shown, as `frames.pick` chooses them.
    """
    picked = pick(len(scene.pixels), render.columns, [map.max((1, 2)) for map in maps.values()])
    few = only(scene, picked)
    rows = [Row("frames", "", tiles_of(few, few.pixels, render.tile, render))]
    for name, map in maps.items():
        heat = overlay(scene.pixels, map, render)[picked]
        rows.append(Row(name, str(Scale.of(map, render)), tiles_of(few, heat, render.tile, render)))
    return matrix(scene, [scene.caption(t) for t in picked], rows, render, "row", note(scene, picked))


def cutouts(scene: Scene, masks: Sequence[MaskRow], method: str, render: Render) -> Pixels:
    """Draws masks as windows into the clip: below the row of frames a row per mask, black where the mask is 0.

    Args:
        scene: The clip.
        masks: The masks, each with its name and a note.
        method: Name of the method.
        render: How to draw; `style` and `opacity` do not matter.
    """
    curves = [np.asarray(row.mask, np.float32).mean((1, 2)) for row in masks]
    picked = pick(len(scene.pixels), render.columns, curves)
    few = only(scene, picked)
    black = replace(render, style=Style.cutout, opacity=1.0)
    rows = [Row("frames", method, tiles_of(few, few.pixels, render.tile, render))]
    for row in masks:
        shown = blend(few.pixels, np.asarray(row.mask, np.float32)[picked], black)
        rows.append(Row(row.name, row.note, tiles_of(few, shown, render.tile, render)))
    return matrix(scene, [scene.caption(t) for t in picked], rows, black, "", note(scene, picked))


def strip(
    scene: Scene, maps: Mapping[str, Map], words: Mapping[str, Sequence[str]], points: Sequence[str], render: Render
) -> Pixels:
    """Draws maps of one frame under several states of a network: a row per method, a column per state, a scale per map.

    Args:
        scene: The clip, with this frame only.
        maps: Method to its maps (S, H, W).
        words: Method to the text below each of its maps.
        points: Names of the S states.
        render: How to draw.
    """
    rows = []
    for name, states in maps.items():
        tiles = np.concatenate(
            [tiles_of(scene, overlay(scene.pixels, state[None], render), render.tile, render) for state in states]
        )
        flaws = [Scale.of(state, render).flaw for state in states]
        under = tuple(", ".join(filter(None, pair)) for pair in zip(words[name], flaws, strict=True))
        rows.append(Row(name, f"frame {scene.numbers[0]}", tiles, under))
    return matrix(scene, points, rows, render, "map")


@dataclass(frozen=True)
class Row:
    """A row of a sheet: its name, a note in small print, its tiles, and the text below each tile."""

    name: str
    note: str
    tiles: Pixels
    under: tuple[str, ...] = ()


def matrix(
    scene: Scene, titles: Sequence[str], rows: Sequence[Row], render: Render, scaled: str, notes: Sequence[str] = ()
) -> Pixels:
    """Draws named rows of tiles below the titles of their columns.

    Args:
        scene: The clip.
        titles: Of the columns.
        rows: The rows.
        render: How to draw.
        scaled: What has a scale of its own, "row" or "map", for the legend; "": all tiles have the same scale.
        notes: What else the top of the sheet says.
    """
    h, w = rows[0].tiles.shape[1:3]
    line = draw.line_height(draw.SMALL)
    pitch = h + draw.GAP + (line if any(row.under for row in rows) else 0)
    gutter = max(
        max(draw.text_width(row.name, draw.BODY, bold=True), draw.text_width(row.note, draw.SMALL)) for row in rows
    )
    gutter = min(gutter, 200) + draw.MARGIN
    width = max(gutter + len(titles) * (w + draw.GAP) - draw.GAP, _NARROWEST)
    head = _head(scene, [scene.model], width, notes)
    top = len(head) + line
    page = draw.sheet(top + len(rows) * pitch + draw.GAP + _FOOT, width + 2 * draw.MARGIN)
    page[: len(head)] = head
    left = draw.MARGIN + gutter + np.arange(len(titles)) * (w + draw.GAP)
    for x, title in zip(left, titles, strict=True):
        _centred(page, x, len(head), w, title)
    for number, row in enumerate(rows):
        y = top + number * pitch
        middle = y + h // 2 - draw.line_height(draw.BODY)
        draw.text(
            page,
            draw.MARGIN,
            middle,
            draw.shorten(row.name, draw.BODY, gutter - draw.MARGIN, bold=True),
            draw.BODY,
            bold=True,
        )
        draw.text(page, draw.MARGIN, middle + draw.line_height(draw.BODY), row.note, draw.SMALL, draw.GREY)
        for x, tile in zip(left, row.tiles, strict=True):
            page[y : y + h, x : x + w] = tile
        for x, words in zip(left, row.under, strict=False):
            _centred(page, x, y + h, w, words)
    _foot(page, scene, render, None, scaled)
    return page


def animation(scene: Scene, map: Map, method: str, render: Render) -> Pixels:
    """Draws the frames of an animation, (T, h, w, 3): frame and heat map side by side above the mean of each frame."""
    frames, heat = (
        tiles_of(scene, x, render.animation_tile, render) for x in (scene.pixels, overlay(scene.pixels, map, render))
    )
    T, h, w = frames.shape[:3]
    scale = Scale.of(map, render)
    width = max(2 * w + draw.GAP, _NARROWEST)
    left = draw.MARGIN + (width - 2 * w - draw.GAP) // 2
    head = _head(scene, [scene.model], width)
    line = draw.line_height(draw.SMALL)
    top = len(head) + line
    chart = top + h + draw.GAP + line
    still = draw.sheet(chart + _CHART + line + draw.MARGIN, width + 2 * draw.MARGIN)
    still[: len(head)] = head
    _centred(still, left + w + draw.GAP, len(head), w, f"{method}: {scale.flaw}" if scale.flaw else method)
    draw.text(still, draw.MARGIN, chart - line, "mean of the map in each frame", draw.SMALL, draw.GREY)
    draw.ticks(still, draw.MARGIN, chart + _CHART, width, [scene.time(t) for t in range(T)])
    pages = np.repeat(still[None], T, 0)
    means = np.where(np.isfinite(map), map, 0).mean((1, 2), dtype=np.float64)
    for t, page in enumerate(pages):
        _centred(page, left, len(head), w, scene.caption(t))
        page[top : top + h, left : left + w] = frames[t]
        page[top : top + h, left + w + draw.GAP : left + 2 * w + draw.GAP] = heat[t]
        draw.bars(page, draw.MARGIN, chart, width, _CHART, means, active=t)
    return pages


def tiles_of(scene: Scene, frames: Pixels, size: int, render: Render) -> Pixels:
    """Returns the frames enlarged, with their boxes."""
    tiles = draw.enlarge(frames, size)
    if render.boxes and any(scene.boxes):
        tiles = tiles.copy()  # without enlargement they are the scene's own pixels
        for tile, boxes in zip(tiles, scene.boxes, strict=True):
            draw.outline(tile, boxes, *frames.shape[1:3])
    return tiles


def _probability(p: float) -> str:
    return "p < 0.01" if 0 <= p < 0.005 else f"p = {p:.2f}"


def _head(scene: Scene, names: list[str], width: int, notes: Sequence[str] = ()) -> Pixels:
    """Returns the top of a sheet: the clip's name, and below it the names, the explained class and the prediction."""
    facts = [f"explains {scene.target} ({_probability(scene.probability)})"]
    if scene.predicted != scene.target:
        facts.append(f"predicted {scene.predicted} ({_probability(scene.predicted_probability)})")
    if scene.label:
        facts.append(f"labelled {scene.label}")
    lines = draw.flow([*names, *facts, *notes], draw.BODY, width)
    title = draw.line_height(draw.TITLE)
    strip = draw.sheet(
        draw.MARGIN + title + len(lines) * draw.line_height(draw.BODY) + draw.GAP, width + 2 * draw.MARGIN
    )
    draw.text(
        strip,
        draw.MARGIN,
        draw.MARGIN - 4,
        draw.shorten(scene.clip, draw.TITLE, width, bold=True),
        draw.TITLE,
        bold=True,
    )
    for i, line in enumerate(lines):
        draw.text(strip, draw.MARGIN, draw.MARGIN + title + i * draw.line_height(draw.BODY), line, draw.BODY, draw.GREY)
    return strip


def _centred(page: Pixels, x: int, y: int, width: int, words: str) -> None:
    if draw.text_width(words, draw.SMALL) > width:
        words = draw.shorten(words.removeprefix("frame "), draw.SMALL, width)
    draw.text(page, x + (width - draw.text_width(words, draw.SMALL)) // 2, y, words, draw.SMALL, draw.GREY)


def _foot(page: Pixels, scene: Scene, render: Render, scale: Scale | None, scaled: str = "row") -> None:
    """Draws the legend at the bottom: the colours on light grey, the values at their ends, and the box."""
    y = len(page) - draw.MARGIN - draw.line_height(draw.SMALL)
    x = draw.MARGIN
    if scale is not None and scale.flaw:
        draw.text(page, x, y, f"{scale.flaw}: nothing to draw", draw.SMALL, draw.ACCENT)
        x += draw.text_width(f"{scale.flaw}: nothing to draw", draw.SMALL) + 2 * draw.MARGIN
    else:
        own = f", each {scaled} on its own scale" if scaled else ""
        low, high = ("", own) if scale is None else (f" {end}" for end in scale.ends())
        draw.text(page, x, y, f"low{low}", draw.SMALL, draw.GREY)
        x += draw.text_width(f"low{low}", draw.SMALL) + draw.GAP
        ramp = np.tile(np.linspace(0, 1, 140, dtype=np.float32), (1, 10, 1))
        page[y + 3 : y + 13, x : x + 140] = blend(np.full((1, 10, 140, 3), 225, np.uint8), ramp, render)[0]
        x += 140 + draw.GAP
        draw.text(page, x, y, f"high{high}", draw.SMALL, draw.GREY)
        x += draw.text_width(f"high{high}", draw.SMALL) + 2 * draw.MARGIN
    if scene.unseen:
        words = "dark: not seen by the network"
        draw.text(page, x, y, words, draw.SMALL, draw.GREY)
        x += draw.text_width(words, draw.SMALL) + 2 * draw.MARGIN
    if render.boxes and any(scene.boxes):
        key = np.full((12, 18, 3), 150, np.uint8)
        draw.outline(key, [(2, 2, 16, 10)], 12, 18)
        page[y + 2 : y + 14, x : x + 18] = key
        draw.text(page, x + 18 + draw.GAP, y, "annotated box", draw.SMALL, draw.GREY)
