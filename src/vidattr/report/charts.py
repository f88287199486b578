"""The numbers of the charts: positions in per cent of a plot, which templates draw and charts.js makes answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidattr.evaluate.scores import ScoreSheet
from vidattr.evaluate.statistics import cluster_band
from vidattr.report.collect import row_title
from vidattr.report.records import Group, ScoreOfClips, ScoreTable


@dataclass(frozen=True)
class Line:
    """The mean curve of one row.

    Attributes:
        name: Name of the row.
        colour: Number of its colour and dashes.
        values: (S,) the mean over clips.
        points: Its path in per cent of the plot, "x,y x,y …".
        band: The 95 % interval as a polygon; "" where there are too few videos.
        summary: The area under the curve or its last value, as text.
        n: Number of clips.
    """

    name: str
    colour: int
    values: tuple[float, ...]
    points: str
    band: str
    summary: str
    n: int


@dataclass(frozen=True)
class Panel:
    """Curves of all rows over one axis.

    Attributes:
        id: Safe as an id of HTML.
        title: What the curves are.
        xlabel: Name of the axis.
        summed: What `Line.summary` is.
        places: (S,) places of the points in per cent.
        names: (S,) names of the points.
        xticks: (place, text) along the axis.
        yticks: (place from the bottom, text).
        lines: The curves.
    """

    id: str
    title: str
    xlabel: str
    summed: str
    places: tuple[float, ...]
    names: tuple[str, ...]
    xticks: tuple[tuple[float, str], ...]
    yticks: tuple[tuple[float, str], ...]
    lines: tuple[Line, ...]

    def data(self) -> dict[str, Any]:
        """Returns what charts.js reads."""
        rows = [[round(value, 4) for value in line.values] for line in self.lines]
        return {"places": self.places, "names": self.names, "rows": rows}


@dataclass(frozen=True)
class Box:
    """The distribution of one row's scores: lowest, quartiles, highest and mean.

    Attributes:
        name: Name of the row.
        colour: Number of its colour.
        n: Number of clips.
        places: (6,) their places in per cent of the axis.
        numbers: (6,) their values.
    """

    name: str
    colour: int
    n: int
    places: tuple[float, ...]
    numbers: tuple[float, ...]


@dataclass(frozen=True)
class Distribution:
    """The scores per clip of all rows under the score number `score`; `ends` are the values at the ends of the axis."""

    id: str
    score: int
    title: str
    better: str
    ends: tuple[float, float]
    boxes: tuple[Box, ...]


def colours(group: Group) -> dict[str, int]:
    """Returns the number of the colour of each row: layers first, then the baselines of the tables."""
    rows = [layer.title for layer in group.layers]
    rows += [row_title(group, sheet) for table in group.tables for sheet in table.sheets if not table.of_network]
    return {row: number for number, row in enumerate(dict.fromkeys(rows))}


def panels(group: Group, table: ScoreTable) -> list[Panel]:
    """Returns the curves of a table, one panel per kind of curve, with their 95 % band over whole videos."""
    kinds = dict.fromkeys(name for sheet in table.sheets for name in sheet.curves)
    return [panel for name in kinds if (panel := _panel(group, table, name)) is not None]


def _panel(group: Group, table: ScoreTable, name: str) -> Panel | None:
    found: list[tuple[ScoreSheet, NDArray[np.float64], list[str]]] = []
    points: list[str] = []
    for sheet in table.sheets:
        if (curve := sheet.curves.get(name)) is None:
            continue
        ordered = curve.sort_values("clip")
        values = ordered.drop(columns="clip")
        points = [point for heading in values.columns if (point := str(heading).partition(" ")[2])]
        numbers = values.to_numpy(np.float64)
        keep = np.isfinite(numbers).all(1)
        videos = dict(zip(sheet.rows["clip"], sheet.rows["video"], strict=True))
        if keep.any():
            found.append((sheet, numbers[keep], [str(videos[clip]) for clip in ordered["clip"][keep]]))
    if not found:
        return None
    places, names, ends = _axis(points, found[0][1].shape[1])
    low = min(0.0, *(float(numbers.mean(0).min()) for _, numbers, _ in found))
    high = max(1.0, *(float(numbers.mean(0).max()) for _, numbers, _ in found))
    paint, lines = colours(group), []
    seed = group.first.settings.seed
    for sheet, numbers, clusters in found:
        mean = numbers.mean(0)
        area = float(np.trapezoid(mean, np.array(places) / 100))
        row = row_title(group, sheet)
        lines.append(
            Line(
                name=row,
                colour=paint[row],
                values=tuple(mean.tolist()),
                points=_path(places, mean, low, high),
                band=_band(places, cluster_band(numbers, clusters, seed=seed), low, high),
                summary=f"{area if ends else mean[-1]:.3f}",
                n=len(numbers),
            )
        )
    if ends:
        ticks = [(100 * (tick - ends[0]) / (ends[1] - ends[0]), f"{tick:g}") for tick in _round_numbers(*ends)]
    else:
        ticks = list(zip(places, names, strict=True))[:: max(1, -(-len(names) // 6))]
    return Panel(
        id=f"{table.metric}-{name}-{group.number}-{group.tables.index(table)}",
        title=f"{name} ({table.metric})",
        xlabel="share of the voxels" if not points else "preserved ratio" if ends else "state of the network",
        summed="area" if ends else "at the end",
        places=tuple(round(place, 3) for place in places),
        names=tuple(names),
        xticks=tuple(ticks),
        yticks=tuple(
            (quarter, f"{low + (high - low) * quarter / 100:.3g}") for quarter in (0.0, 25.0, 50.0, 75.0, 100.0)
        ),
        lines=tuple(lines),
    )


def _axis(points: Sequence[str], count: int) -> tuple[list[float], list[str], tuple[float, float] | None]:
    """Returns the places of the points in per cent, their names, and the numbers at the ends of the axis.

    The axis is a scale of numbers if all names are numbers; otherwise the points are evenly spaced, without numbers.
    """
    if not points:
        shares = np.linspace(0, 1, count)
        return [float(100 * share) for share in shares], [f"{share:.0%}" for share in shares], (0.0, 1.0)
    try:
        numbers = [float(point) for point in points]
    except ValueError:
        return [100 * k / max(len(points) - 1, 1) for k in range(len(points))], list(points), None
    low, high = min(numbers), max(numbers)
    return [100 * (number - low) / ((high - low) or 1) for number in numbers], list(points), (low, high)


def _round_numbers(low: float, high: float) -> list[float]:
    """Returns up to seven round numbers between two, evenly spaced."""
    if high <= low:
        return []
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(one * power for one in (1, 2, 2.5, 5, 10) if one * power >= rough * (1 - 1e-9))
    return [round(k * step, 12) for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _path(places: Sequence[float], values: NDArray[np.float64], low: float, high: float) -> str:
    return " ".join(
        f"{x:.2f},{100 - 100 * (float(y) - low) / (high - low):.2f}" for x, y in zip(places, values, strict=True)
    )


def _band(
    places: Sequence[float], ends: tuple[NDArray[np.float64], NDArray[np.float64]], low: float, high: float
) -> str:
    if not all(np.isfinite(end).all() for end in ends):
        return ""
    under, over = (end.clip(low, high) for end in ends)
    return f"{_path(places, over, low, high)} {_path(places[::-1], under[::-1], low, high)}"


def distributions(group: Group) -> list[Distribution]:
    """Returns the distributions of all scores over clips."""
    paint = colours(group)
    return [
        made
        for k, score in enumerate(group.scores)
        if (made := _distribution(score, k, f"d{group.number}-{k}", paint)) is not None
    ]


def _distribution(score: ScoreOfClips, place: int, id: str, paint: dict[str, int]) -> Distribution | None:
    every = [value for values in score.values.values() for value in values.values()]
    if not every:
        return None
    low, high = score.column.bounds or (min(every), max(every))
    low, high = min(low, *every), max(high, *every)
    if low < -0.5 < 0.5 < high:  # a difference of two areas hardly leaves the middle
        low, high = min(every), max(every)
    width = (high - low) or 1.0
    boxes = []
    for row, values in score.values.items():
        numbers = np.array(list(values.values()))
        if len(numbers):
            shown = tuple(float(one) for one in (*np.percentile(numbers, (0, 25, 50, 75, 100)), numbers.mean()))
            places = tuple(round(100 * (one - low) / width, 2) for one in shown)
            boxes.append(Box(row, paint.get(row, 0), len(numbers), places, shown))
    return Distribution(id, place, score.title, score.column.better, (low, high), tuple(boxes))


def rounded(value: float | None) -> float | None:
    """Returns a number for JSON: four significant digits, None for what is no number."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.4g}")
