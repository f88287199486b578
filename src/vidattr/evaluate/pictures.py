"""The pictures beside a table: the curves of a metric, and maps in several states of the network side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vidattr.config.identity import key
from vidattr.errors import ClipError, Failure
from vidattr.evaluate.plots import plot_curves
from vidattr.evaluate.scores import ScoreSheet
from vidattr.render.options import Scene
from vidattr.render.pictures import STRIPS, of_strips
from vidattr.render.strips import StoredStrip
from vidattr.render.strips import png as strips_to_png


def draw_curves(sheets: Sequence[ScoreSheet], path: Path) -> None:
    """Draws the mean curves of all rows of a table, one panel per kind of curve."""
    experiment = sheets[0].experiment
    panels: dict[str, dict[str, Any]] = {}
    points: list[str] = []
    for sheet in sheets:
        for name, curve in sheet.curves.items():
            values = curve.sort_values("clip").drop(columns="clip")
            panels.setdefault(name, {})[sheet.title] = values.to_numpy(np.float64)
            points = [point for heading in values.columns if (point := heading.partition(" ")[2])]
    videos = {sheet.title: list(sheet.rows.sort_values("clip")["video"]) for sheet in sheets if sheet.curves}
    title = f"{experiment.names['dataset']}, {experiment.names['model']}"
    plot_curves(path, panels, videos, title=title, seed=experiment.settings.seed, points=points)


def draw_strips(sheets: Sequence[ScoreSheet], folder: Path) -> bool:
    """Draws the strips of each clip, a row per method, to `<folder>/<clip>.png`; returns whether there are any.

    A picture that shows these strips in this style is not drawn again. One that shows anything else is replaced, or
    removed where its clip is not judged any more. A strip that cannot be read becomes a failure of its clip.
    """
    runs = [sheet for sheet in sheets if not sheet.baseline]
    if not runs:
        return False
    marks = [sheet.said() for sheet in sheets]
    judged = set[str]().union(*(sheet.judged() for sheet in runs))
    shown = False
    for clip in sorted(judged.union(*(sheet.outdated for sheet in sheets))):
        rows: list[tuple[ScoreSheet, Path]] = []
        maps: dict[str, str] = {}
        for sheet, mark in zip(sheets, marks, strict=True):
            path = sheet.strip_path(clip)
            if clip in judged and path.is_file():
                content = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
                maps[f"row {len(rows)}: {sheet.title}"] = "-".join(
                    [key(sheet.folder.identity), *mark.get(clip, ()), content]
                )
                rows.append((sheet, path))
        files = of_strips(folder, clip, runs[0].experiment.render, maps)
        if not rows:
            files.discard()
        elif files.lacks():
            first = next(sheet for sheet in runs if clip in sheet.judged())
            try:
                files.write({STRIPS: partial(_picture, first, clip, rows)})
            except ClipError as error:
                first.failures.append(Failure.of(clip, "draw", error))
        shown |= bool(files.current())
    return shown


def _picture(sheet: ScoreSheet, clip: str, rows: Sequence[tuple[ScoreSheet, Path]]) -> bytes:
    """Returns the picture of the strips of a clip; the text beside them is that of the first sheet."""
    strips = {row.title: StoredStrip.load(path) for row, path in rows}
    scene = _scene(sheet, clip, next(iter(strips.values())))
    return strips_to_png(scene, strips, sheet.experiment.render)


def _scene(sheet: ScoreSheet, clip: str, strip: StoredStrip) -> Scene:
    """Returns the single frame of a strip, with the facts that its run stored."""
    stored = sheet.folder.load(clip)
    return Scene(
        clip=clip,
        pixels=strip.pixels.numpy()[None],
        numbers=(strip.number,),
        model=sheet.experiment.names["model"],
        target=stored.name,
        probability=stored.probability,
        predicted=stored.top[0][0],
        predicted_probability=stored.top[0][1],
        label=sheet.rows.set_index("clip")["label"][clip],
    )
