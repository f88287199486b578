"""Scores of several runs as one table and one plot: printed, and written under `<out>/tables/`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from vidattr import table as tables
from vidattr.compose import Cell
from vidattr.evaluator import Judged
from vidattr.identity import describe, key, metric_identity
from vidattr.plots import plot_curves
from vidattr.store import write_text
from vidattr.types import Metric

_SUFFIXES = {"markdown": ".md", "csv": ".csv", "latex": ".tex", "json": ".json"}


def show(groups: Sequence[Sequence[Judged]], baseline: str | None, form: str) -> str:
    """Builds the table of each group, writes it in every form beside a plot of the curves, and returns it in one form.

    Args:
        groups: From `evaluator.evaluate` or `evaluator.stored_tables`.
        baseline: Row that the others are compared with; "none" or None: no comparison.
        form: terminal, markdown, csv, latex or json.
    """
    shown = []
    for jobs in groups:
        built = build(jobs, None if baseline in (None, "none") else baseline)
        stem = _stem(jobs)
        for name, suffix in _SUFFIXES.items():
            write_text(stem.with_name(stem.name + suffix), getattr(built, name)())
        notes = [f"Written: {stem}{{{','.join(_SUFFIXES.values())}}}"]
        if any(job.curves for job in jobs):
            plot(jobs, stem.with_name(stem.name + ".png"))
            notes.append(f"Curves: {stem}.png")
        shown.append(getattr(built, form)() + ("\n".join([*missing(jobs), *notes]) + "\n" if form == "terminal" else ""))
    if form == "json":
        return json.dumps([json.loads(one) for one in shown], indent=2, ensure_ascii=False)
    return "\n".join(shown)


def build(jobs: Sequence[Judged], baseline: str | None) -> tables.Table:
    """Returns the table of the cells that share dataset, model and metric."""
    cell = jobs[0].cell
    columns = cast(Metric, cell.metric).summary()
    rows = {job.cell.title: job.rows for job in jobs}
    most = max(jobs, key=lambda job: len(job.rows)).rows
    names = dict.fromkeys(name.partition("/")[0] for name in most.columns if "/" in name)
    weights = {column.weight for column in columns if column.weight}
    references = {name: _reference(most, name, weights) for name in names}
    return tables.build(rows, columns, references=references, baseline=baseline, seed=int(cell.config.seed), caption=caption(cell))


def _reference(rows: pd.DataFrame, name: str, weights: set[str]) -> pd.DataFrame:
    """Returns what a trivial answer scored on the clips of these rows, with the weights of the metric's own columns."""
    kept = rows[["clip", "label", "video", *sorted(weights & set(rows.columns))]].copy()
    for column in rows.columns:
        if column.startswith(f"{name}/"):
            kept[column.removeprefix(f"{name}/")] = rows[column]
    return kept


def caption(cell: Cell) -> str:
    """Returns the protocol in one line: what was judged, of which network, by which metric with which options."""
    metric = {k: v for k, v in metric_identity(cell).items() if k not in ("key_version", "class", "name", "version")}
    view = cell.model.input
    facts = [
        f"{cell.names['metric']} on {cell.names['dataset']} by {cell.names['model']}",
        f"target {cell.config.target}",
        f"{view.frames} frames, {view.sampling.value} sampling, {view.size[0]}×{view.size[1]} px ({view.geometry.value})",
        ", ".join(f"{name}={_plain(value)}" for name, value in metric.items()),
    ]
    return "; ".join(fact for fact in facts if fact)


def _plain(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)


def plot(jobs: Sequence[Judged], path: Path) -> None:
    """Draws the mean curves of all cells, one panel per kind of curve."""
    cell = jobs[0].cell
    panels: dict[str, dict[str, Any]] = {}
    for job in jobs:
        for name, curve in job.curves.items():
            panels.setdefault(name, {})[job.cell.title] = curve.sort_values("clip").drop(columns="clip").to_numpy(np.float64)
    videos = {job.cell.title: list(job.rows.sort_values("clip")["video"]) for job in jobs if job.curves}
    title = f"{cell.names['dataset']}, {cell.names['model']}"
    plot_curves(path, panels, videos, title=title, seed=int(cell.config.seed))


def _stem(jobs: Sequence[Judged]) -> Path:
    cell = jobs[0].cell
    what = {"runs": sorted(key(job.folder.identity) for job in jobs), "metric": metric_identity(cell), "model": describe(cell.model)}
    label = cell.label or cell.names["dataset"]
    return Path(cell.config.paths.out) / "tables" / cell.names["model"] / f"{label}-{cell.names['metric']}-{key(what)}"


def missing(jobs: Sequence[Judged]) -> list[str]:
    """Returns a line per cell that has fewer clips than the dataset."""
    return [
        f"{job.cell.title}: {job.clips - len(job.rows)} of {job.clips} clips have no map"
        for job in jobs
        if job.clips > len(job.rows) and not job.baseline
    ]


def tell_errors(groups: Sequence[Sequence[Judged]], tell: Callable[[str], object]) -> bool:
    """Tells each clip that could not be judged, once, and returns whether there was one."""
    lines = {
        f"  {line['clip']}: {line['error']}" + (f" ({line['to_do']})" if line["to_do"] else ""): None
        for jobs in groups
        for job in jobs
        for line in job.errors
    }
    for line in lines:
        tell(line)
    return bool(lines)
