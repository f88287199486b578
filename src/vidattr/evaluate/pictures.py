"""The pictures beside a table: the curves of a metric, and maps in several states of the network side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vidattr.errors import ClipError, Failure
from vidattr.evaluate.plots import plot_curves
from vidattr.evaluate.scores import ScoreSheet
from vidattr.render.options import Scene
from vidattr.render.strips import StoredStrip
from vidattr.render.strips import draw as strips_to_png
from vidattr.writing import remove


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

    A picture that is younger than all its strips is not drawn again. A strip that cannot be read becomes a failure.
    """
    runs = [sheet for sheet in sheets if not sheet.baseline]
    wanted = bool(runs) and runs[0].experiment.render.comparison
    clips = sorted(set[str]().union(*(sheet.judged() for sheet in runs))) if wanted else []
    drawn = False
    for clip in set[str]().union(*(sheet.outdated for sheet in sheets)).difference(clips):
        remove(folder / f"{clip}.png")  # It shows maps of an earlier version of the clip.
    for clip in clips:
        files = {sheet.title: path for sheet in sheets if (path := sheet.strip_path(clip)).is_file()}
        path = folder / f"{clip}.png"
        drawn |= bool(files)
        newest = max((file.stat().st_mtime for file in files.values()), default=0.0)
        if not files or (path.is_file() and path.stat().st_mtime >= newest):
            continue
        sheet = next(sheet for sheet in runs if clip in sheet.judged())
        try:
            strips = {name: StoredStrip.load(file) for name, file in files.items()}
            scene = _scene(sheet, clip, next(iter(strips.values())))
            strips_to_png(path, scene, strips, sheet.experiment.render)
        except ClipError as error:
            sheet.failures.append(Failure.of(clip, "draw", error))
    return drawn


def _scene(sheet: ScoreSheet, clip: str, strip: StoredStrip) -> Scene:
    """Returns the single frame of a strip, with what its run knows of the clip."""
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
