"""Curves of a metric, averaged over clips, as a picture."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from vidattr.evaluate.resampling import Names
from vidattr.evaluate.statistics import cluster_band
from vidattr.writing import write_bytes

_COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#000000",
    "#8c564b",
    "#7f7f7f",
)  # the colours of Okabe and Ito, and two more
_DASHES = (
    "-",
    (0, (6, 2)),
    (0, (1, 1.5)),
    (0, (6, 2, 1, 2)),
    (0, (3, 1.5)),
    (0, (6, 1.5, 1, 1.5, 1, 1.5)),
    (0, (10, 3)),
)
# Nine colours and seven dashes: the first 63 rows look different, and neighbours in grey print too.
_IN_A_LINE = 3


def colour_and_dashes(number: int) -> dict[str, Any]:
    """Returns how the line with this number is drawn, as keywords of matplotlib."""
    return {"color": _COLOURS[number % len(_COLOURS)], "linestyle": _DASHES[number % len(_DASHES)]}


def legend_beside(axis: Any, heading: str) -> None:
    """Puts the legend of an axis to its right."""
    axis.legend(
        fontsize="x-small",
        title=heading,
        title_fontsize="x-small",
        frameon=False,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        handlelength=3.5,
    )


def plot_curves(
    path: Path,
    panels: Mapping[str, Mapping[str, ArrayLike]],
    videos: Mapping[str, Names],
    *,
    title: str,
    seed: int,
    points: Sequence[str] = (),
) -> None:
    """Draws each row's mean curve with its 95 % band over whole videos, and writes the picture whole.

    A curve over the share of the voxels is summed up by the area under its mean, one over named points by its mean's
    end.

    Args:
        path: Where to; its suffix says the format.
        panels: Name of a curve (deletion, insertion) to {row: (N, S)}; one panel each, three in a line. Curves with NaN
            are left out.
        videos: Row to the video (N,) of each clip.
        title: Of the whole picture.
        seed: Decides the resamples.
        points: Names of the S points; empty: shares of the voxels from 0 to 1.
    """
    # Slow to import; and not pyplot, whose figures are global.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines, columns = -(-len(panels) // _IN_A_LINE), min(len(panels), _IN_A_LINE)
    figure = Figure(figsize=(1.0 + 6.2 * columns, 4.0 * lines), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    grid = figure.subplots(lines, columns, sharey=True, squeeze=False)
    for axis in grid.flat[len(panels) :]:
        axis.remove()
    for axis, (name, rows) in zip(grid.flat, panels.items(), strict=False):
        for number, (row, values) in enumerate(rows.items()):
            curves = np.asarray(values, dtype=np.float64)
            finite = curves[np.isfinite(curves).all(1)]
            if not len(finite):
                continue
            x = np.arange(len(points)) if points else np.linspace(0, 1, curves.shape[1])
            style = colour_and_dashes(number)
            mean = finite.mean(0)
            summary = mean[-1] if points else np.trapezoid(mean, x)
            label = f"{row} ({summary:.3f}, n = {len(finite)})"
            axis.plot(x, mean, linewidth=1.6, label=label, **style)
            axis.fill_between(
                x, *cluster_band(curves, videos[row], seed=seed), color=style["color"], alpha=0.15, linewidth=0
            )
        if points:
            axis.set_xticks(range(len(points)), points, rotation=30, ha="right", fontsize="x-small")
        else:
            axis.set(xlabel="share of the voxels", xlim=(0, 1))
        axis.set_title(name)
        axis.grid(alpha=0.3, linewidth=0.5)
        if axis.has_data():
            legend_beside(axis, "mean at the end" if points else "mean area")
    if not points:
        grid[0, 0].set_ylabel("probability of the class")
    figure.suptitle(f"{title}\nmean over clips, 95 % band over whole videos", fontsize="medium")
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix.removeprefix("."))
    write_bytes(path, picture.getvalue())
