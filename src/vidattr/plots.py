"""Curves of a metric, averaged over clips, as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from vidattr.statistics import Names, cluster_band
from vidattr.store import whole

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c564b", "#7f7f7f")  # Okabe and Ito's, and two
_STYLES = ("-", "--", ":", "-.")


def plot_curves(
    path: Path,
    panels: Mapping[str, Mapping[str, ArrayLike]],
    videos: Mapping[str, Names],
    *,
    title: str,
    seed: int,
) -> None:
    """Draws each row's mean curve with its 95 % band by bootstrap over videos, and writes the picture whole.

    Args:
        path: Where to; its suffix says the format.
        panels: Name of a curve (deletion, insertion) to {row: (N, S)}; one panel each, side by side. Curves with NaN are left out.
        videos: Row to the video (N,) of each clip.
        title: Of the whole picture.
        seed: Decides the resamples.
    """
    # Slow to import; and not pyplot, whose figures are global.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.0 + 4.4 * len(panels), 4.0), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (name, rows) in zip(axes, panels.items(), strict=True):
        for number, (row, values) in enumerate(rows.items()):
            curves = np.asarray(values, dtype=np.float64)
            finite = curves[np.isfinite(curves).all(1)]
            if not len(finite):
                continue
            share = np.linspace(0, 1, curves.shape[1])
            colour = _COLOURS[number % len(_COLOURS)]
            style = _STYLES[number // len(_COLOURS) % len(_STYLES)]
            mean = finite.mean(0)
            axis.plot(share, mean, style, color=colour, linewidth=1.6, label=f"{row} ({np.trapezoid(mean, share):.3f}, n = {len(finite)})")
            axis.fill_between(share, *cluster_band(curves, videos[row], seed=seed), color=colour, alpha=0.15, linewidth=0)
        axis.set(title=name, xlabel="share of the voxels", xlim=(0, 1))
        axis.grid(alpha=0.3, linewidth=0.5)
        if axis.has_data():
            axis.legend(fontsize="x-small", title="mean area", title_fontsize="x-small", framealpha=0.7)
    axes[0].set_ylabel("probability of the class")
    figure.suptitle(f"{title}\nmean over clips, 95 % band by bootstrap over videos", fontsize="medium")
    with whole(path) as part:
        figure.savefig(part)
