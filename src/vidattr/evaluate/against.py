"""Scores against an option that a sweep varies, such as the preservation ratio: one line for each method."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from vidattr.errors import ConfigError
from vidattr.evaluate.plots import colour_and_dashes, legend_beside
from vidattr.evaluate.scores import ScoreSheet
from vidattr.evaluate.summary import Entry
from vidattr.evaluate.table import Table
from vidattr.writing import write_bytes, write_text


@dataclass(frozen=True)
class SweepPoint:
    """One score at one value of the option; the fields are the columns of the CSV file.

    Attributes:
        line: Name of the method, with the other options that the sweep varies.
        x: Value of the option; NaN for a row without the option, such as random.
        column: Title of the metric's column.
        value: The score.
        low: Lower end of its 95 % interval.
        high: Upper end.
        n: Number of judged clips.
        videos: Number of their videos.
    """

    line: str
    x: float
    column: str
    value: float
    low: float
    high: float
    n: int
    videos: int


def points(sheets: Sequence[ScoreSheet], table: Table, by: str) -> list[SweepPoint]:
    """Returns the scores of a table by an option, in the order of lines and values.

    Args:
        sheets: The score sheets of the table.
        table: The table.
        by: Key of the option, "method.areas". Its values are numbers, or lists of one number.

    Raises:
        ConfigError: No method has the option, a value is no number, or all values are the same.
    """
    places: dict[str, tuple[str, float]] = {}
    lines: dict[str, str] = {}
    for sheet in sheets:
        values = dict(sheet.experiment.values)
        if sheet.baseline or (found := _taken(values, by)) is None:
            continue
        x = _number(found, by, sheet.title)
        rest = json.dumps({key: _without(value, by, key) for key, value in values.items()}, sort_keys=True, default=str)
        lines.setdefault(rest, _name(sheet.title, by))
        places[sheet.title] = lines[rest], x
    if len({x for _, x in places.values()}) < 2:
        known = f"all have {next(iter(places.values()))[1]:g}" if places else "no row of the table has this option"
        raise ConfigError(f"--by {by}: {known}", expected=f"a sweep of numbers, such as '{by}=[0.05],[0.1],[0.2]'")
    order = {line: number for number, line in enumerate(dict.fromkeys(lines.values()))}
    own = [entry for entry in table.entries if entry.group == "method" and entry.row in places]
    own.sort(key=lambda entry: (order[places[entry.row][0]], places[entry.row][1]))
    others = [entry for entry in table.entries if entry.group in ("baseline", "reference") and entry.n]
    return [
        *(_point(entry, *places[entry.row]) for entry in own),
        *(_point(entry, entry.row, math.nan) for entry in others if entry.row not in places),
    ]


def write(found: Sequence[SweepPoint], stem: Path, *, by: str, title: str) -> list[Path]:
    """Writes the picture as PNG and SVG, and the numbers as CSV; returns the files."""
    name = f"{stem.name}.by-{by}"
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [field.name for field in fields(SweepPoint)]
    writer.writerow([by if one == "x" else one for one in names])
    for point in found:
        row = [getattr(point, one) for one in names]
        writer.writerow(["" if isinstance(value, float) and math.isnan(value) else value for value in row])
    write_text(stem.with_name(f"{name}.csv"), out.getvalue())
    for suffix, picture in _drawn(found, by, title).items():
        write_bytes(stem.with_name(name + suffix), picture)
    return [stem.with_name(name + suffix) for suffix in (".png", ".svg", ".csv")]


def _point(entry: Entry, line: str, x: float) -> SweepPoint:
    return SweepPoint(line, x, entry.column, entry.value, entry.low, entry.high, entry.n, entry.n_videos)


def _taken(values: Mapping[str, Any], by: str) -> Any:
    """Returns the value of a dotted key of a configuration; None where there is none."""
    found: Any = values
    for name in by.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _without(value: Any, by: str, path: str) -> Any:
    """Returns the part of a configuration at a path without the option."""
    if path == by:
        return None
    if isinstance(value, Mapping) and by.startswith(f"{path}."):
        return {key: _without(one, by, f"{path}.{key}") for key, one in value.items()}
    return value


def _number(value: Any, by: str, row: str) -> float:
    one = value[0] if isinstance(value, list) and len(value) == 1 else value
    if isinstance(one, bool) or not isinstance(one, int | float):
        raise ConfigError(f"--by {by}: {row} has {value}", expected="a number, or a list of one number, in every row")
    return float(one)


def _name(title: str, by: str) -> str:
    """Returns the title of a row without the part that names the option's value."""
    short = re.escape(by.removeprefix("method."))
    name = re.sub(rf"(?:, )?\b{short}=(?:\[[^\]]*\]|[^,()]*)", "", title)
    return re.sub(r" \(\)$", "", name.replace("(, ", "("))


def _drawn(found: Sequence[SweepPoint], by: str, title: str) -> dict[str, bytes]:
    """Returns the picture in each format: a panel for each column, lines with intervals, baselines as level lines."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = list(dict.fromkeys(point.column for point in found))
    lines = list(dict.fromkeys(point.line for point in found))
    ticks = sorted({point.x for point in found if not math.isnan(point.x)})
    figure = Figure(figsize=(1.0 + 5.2 * len(columns), 4.0), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    grid = figure.subplots(1, len(columns), squeeze=False)[0]
    for axis, column in zip(grid, columns, strict=True):
        for number, line in enumerate(lines):
            mine = [point for point in found if (point.line, point.column) == (line, column)]
            mine = [point for point in mine if math.isfinite(point.value)]
            style = colour_and_dashes(number)
            if mine and math.isnan(mine[0].x):
                axis.axhline(mine[0].value, linewidth=1.0, alpha=0.7, label=line, **style)
            elif mine:
                x = [point.x for point in mine]
                axis.plot(
                    x, [point.value for point in mine], marker="o", markersize=3, linewidth=1.6, label=line, **style
                )
                low, high = [point.low for point in mine], [point.high for point in mine]
                axis.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.set(xlabel=by, title=column)
        axis.grid(alpha=0.3, linewidth=0.5)
    if grid[-1].has_data():
        legend_beside(grid[-1], "")
    figure.suptitle(f"{title}\nmean over clips, 95 % intervals over videos", fontsize="medium")
    pictures = {}
    for suffix, metadata in ((".png", None), (".svg", {"Date": None})):
        file = io.BytesIO()
        with matplotlib.rc_context({"svg.hashsalt": "vidattr"}):  # the same file for the same numbers
            figure.savefig(file, format=suffix[1:], metadata=metadata)
        pictures[suffix] = file.getvalue()
    return pictures
