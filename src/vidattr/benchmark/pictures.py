"""Pictures of the benchmark: the critical-difference diagram, and one sheet of maps for each family."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vidattr.benchmark.plan import Contest
from vidattr.benchmark.ranking import Friedman, cliques
from vidattr.render import encoding
from vidattr.render.heat import Map
from vidattr.render.options import Scene, StillFormat
from vidattr.render.sheets import comparison
from vidattr.run.batches import clips_of
from vidattr.run.job import run_folder
from vidattr.types import Clip, Sample
from vidattr.video import decode
from vidattr.writing import write_bytes

_GAP = 0.09  # inches between two lines of non-significance
_ROW = 0.19  # inches of a name
TRUTH = "planted evidence"


def critical_difference_diagram(path: Path, test: Friedman) -> None:
    """Draws the mean ranks on a line, and bars over methods that do not differ (Demšar, JMLR 2006, figure 1).

    Args:
        path: The PNG to write.
        test: With three methods and two clips, at least.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    bars, k = cliques(test), len(test.methods)
    half = -(-k // 2)
    above, below = 0.55 + _GAP * len(bars), _ROW * (half + 1)
    figure = Figure(figsize=(9, above + below + 0.3), dpi=110)
    FigureCanvasAgg(figure)
    axis: Any = figure.add_axes((0.24, 0.0, 0.52, 1.0))
    axis.set_xlim(1, k)
    axis.set_ylim(-below, above)
    axis.axis("off")
    axis.plot([1, k], [0, 0], color="black", linewidth=1)
    for rank in sorted({1, k, *range(5, k, 5)}):
        axis.plot([rank, rank], [0, 0.05], color="black", linewidth=1)
        axis.text(rank, 0.07, str(rank), ha="center", va="bottom", fontsize=8)
    for place, (name, rank) in enumerate(zip(test.methods, test.ranks, strict=True)):
        left = place < half
        y = -_ROW * ((place if left else k - 1 - place) + 1)
        edge = 1 - 0.02 * k if left else k + 0.02 * k
        axis.plot([rank, rank, edge], [0, y, y], color="grey", linewidth=0.7, clip_on=False)
        words = f"{name}  {rank:.1f}" if left else f"{rank:.1f}  {name}"
        axis.text(edge, y, words, ha="right" if left else "left", va="center", fontsize=8)
    for number, (first, last) in enumerate(bars):
        y = 0.28 + _GAP * number
        axis.plot([test.ranks[first], test.ranks[last]], [y, y], color="#0072b2", linewidth=2.5)
    top = above - 0.06
    axis.plot([1, 1 + test.critical], [top, top], color="#d55e00", linewidth=2)
    axis.text(1 + test.critical, top, f"  critical difference {test.critical:.2f}", va="center", fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    write_bytes(path, buffer.getvalue())


def family_sheet(path: Path, task: Contest, clip: str, methods: Sequence[str]) -> None:
    """Draws a clip, its planted evidence and the maps of some methods by one network, a row each.

    Args:
        path: The WebP to write: a tenth of a PNG, and a page has one for each family.
        task: The network and the family.
        clip: Id of the clip.
        methods: The methods, in the order of the rows.
    """
    first = task.runs[methods[0]]
    chosen: Clip = next(one for one in clips_of(first)[0] if one.id == clip)
    sample: Sample = decode.read(chosen, first.model.input)
    maps: dict[str, Map] = {}
    if sample.evidence is not None:
        maps[TRUTH] = sample.evidence.astype(np.float32)
    stored = {method: run_folder(task.runs[method]).load(clip) for method in methods}
    maps |= {method: found.map.numpy() for method, found in stored.items()}
    facts = stored[methods[0]]
    predicted, probability = facts.top[0]
    scene = Scene(
        clip, sample.pixels, sample.numbers, task.model, facts.name, facts.probability, predicted, probability,
        label=chosen.label,
    )  # fmt: skip
    render = replace(first.render, boxes=False, tile=64, columns=16)
    write_bytes(path, encoding.still(comparison(scene, maps, render), StillFormat.webp))


def shown(values: Mapping[str, float], most: int = 4) -> list[str]:
    """Returns the names of the best and the worst of some values, best first."""
    order = sorted(values, key=lambda name: (-values[name], name))
    return order if len(order) <= 2 * most else [*order[:most], *order[-most:]]
