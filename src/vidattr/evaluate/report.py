"""Scores of several runs as one table and one plot: printed, and written under `<out>/tables/`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from vidattr.config.compose import Experiment
from vidattr.config.identity import describe, key
from vidattr.errors import ClipError, Failure, common_traceback, failure_lines
from vidattr.evaluate import table as tables
from vidattr.evaluate.noise import draws_of
from vidattr.evaluate.plots import plot_curves
from vidattr.evaluate.scores import ScoreSheet, scores_identity
from vidattr.protocols import FittedReference, Metric
from vidattr.render.pictures import Scene
from vidattr.render.strips import StoredStrip
from vidattr.render.strips import draw as strips_to_png
from vidattr.writing import remove, set_durable, sweep, write_text

_SUFFIXES = {"markdown": ".md", "csv": ".csv", "latex": ".tex", "json": ".json"}


def show(groups: Sequence[Sequence[ScoreSheet]], baseline: str | None, form: str) -> str:
    """Builds the table of each group, writes it in every form beside a plot of the curves, and returns it in one form.

    Args:
        groups: From `evaluator.evaluate` or `evaluator.stored_tables`.
        baseline: Row that the others are compared with; "matched": each method's own matched noise, or, under a metric
            that has none, random; "none" or None: no comparison.
        form: terminal, markdown, csv, latex or json.
    """
    shown = []
    for jobs in groups:
        set_durable(jobs[0].experiment.runtime.durable)
        built = build(jobs, None if baseline in (None, "none") else baseline)
        stem = _stem(jobs)
        sweep(stem.parent)
        for name, suffix in _SUFFIXES.items():
            write_text(stem.with_name(stem.name + suffix), getattr(built, name)())
        notes = [f"Written: {stem}{{{','.join(_SUFFIXES.values())}}}"]
        if any(job.curves for job in jobs):
            plot(jobs, stem.with_name(stem.name + ".png"))
            notes.append(f"Curves: {stem}.png")
        if draw_strips(jobs, stem):
            notes.append(f"Maps: {stem}/*.png")
        shown.append(
            getattr(built, form)() + ("\n".join([*missing(jobs), *notes]) + "\n" if form == "terminal" else "")
        )
    if form == "json":
        return json.dumps([json.loads(one) for one in shown], indent=2, ensure_ascii=False)
    return "\n".join(shown)


def build(jobs: Sequence[ScoreSheet], baseline: str | None) -> tables.Table:
    """Returns the table of the experiments that share dataset, model and metric."""
    experiment = jobs[0].experiment
    metric = cast(Metric, experiment.metric)
    columns = metric.summary()
    rows = {job.experiment.title: job.rows for job in jobs}
    most = max(jobs, key=lambda job: len(job.rows)).rows
    names = dict.fromkeys(name.partition("/")[0] for name in most.columns if "/" in name)
    names.pop(tables.MATCHED, None)
    weights = {column.weight for column in columns if column.weight}
    references = {name: _reference(most, name, weights) for name in names}
    matched = {
        job.experiment.title: _reference(job.rows, tables.MATCHED, weights)
        for job in jobs
        if any(name.startswith(f"{tables.MATCHED}/") for name in job.rows.columns)
    }
    remarks = [_about_noise(experiment, bool(matched)), *_otherwise(experiment, rows)]
    if baseline == tables.MATCHED and not matched:
        baseline = "random" if "random" in rows else None
    if metric.unjudged and any(
        frame[c.score].isna().any() for frame in rows.values() for c in columns if c.score in frame
    ):
        remarks.append(f"A clip is NaN where {metric.unjudged}.")
    if len(most) and isinstance(metric, FittedReference):
        H, W = experiment.model.input.size
        found = metric.fitted(most, (H, W))
        references[found.name] = _kept(most, weights).assign(**found.columns)
        remarks.append(found.remark)
    seed = int(experiment.config.seed)
    return tables.build(
        rows,
        columns,
        references=references,
        baseline=baseline,
        seed=seed,
        caption=caption(experiment),
        matched=matched,
        remarks=remarks,
    )


def _about_noise(experiment: Experiment, matched: bool) -> str:
    if not matched:
        return f"{experiment.names['metric']} has no matched noise: it does not judge the maps as they are, or noise_draws is 0."
    draws = draws_of(experiment.metric)
    return (
        "matched noise: noise with the values of the method's own map and its smoothness in space and time (of methods that smooth "
        f"their maps, by the same smoothing, with the same border), {draws} draw{'s' if draws > 1 else ''} a clip, averaged: what "
        "a map scores that is as smooth and knows nothing of the clip. It peaks at the border of a frame more often than raw noise: in a "
        "pointing game a map must be above chance as well."
    )


def _otherwise(experiment: Experiment, rows: Mapping[str, pd.DataFrame]) -> list[str]:
    """Returns a remark for each condition of the caption that did not hold, as where memory ran out and a batch was halved."""
    conditions = scores_identity(experiment).get("conditions", {})
    remarks = []
    for name, asked in conditions.items():
        for row, frame in rows.items():
            if name in frame and (other := frame[name][frame[name] != asked]).size:
                values = ", ".join(f"{value:g}" for value in sorted(set(other)))
                remarks.append(f"{row}: {name} was {values} and not {asked} on {len(other)} of {len(frame)} clips")
    return remarks


def _reference(rows: pd.DataFrame, name: str, weights: set[str]) -> pd.DataFrame:
    """Returns what a trivial answer scored on the clips of these rows, with the weights of the metric's own columns."""
    kept = _kept(rows, weights)
    for column in rows.columns:
        if column.startswith(f"{name}/"):
            kept[column.removeprefix(f"{name}/")] = rows[column]
    return kept


def _kept(rows: pd.DataFrame, weights: set[str]) -> pd.DataFrame:
    return rows[["clip", "label", "video", *sorted(weights & set(rows.columns))]].copy()


def caption(experiment: Experiment) -> str:
    """Returns the protocol in one line: what was judged, of which network, by which metric with which options."""
    left_out = ("key_version", "class", "code", "name", "version", "noise_version")
    metric = {k: v for k, v in scores_identity(experiment).items() if k not in left_out}
    metric |= metric.pop("conditions", {})
    view = experiment.model.input
    facts = [
        f"{experiment.names['metric']} on {experiment.names['dataset']} by {experiment.names['model']}",
        f"target {experiment.config.target}",
        f"{view.taken}, {view.size[0]}×{view.size[1]} px ({view.geometry.value}, {view.resample.value})",
        ", ".join(f"{name}={_plain(value)}" for name, value in metric.items()),
    ]
    return "; ".join(fact for fact in facts if fact)


def _plain(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)


def plot(jobs: Sequence[ScoreSheet], path: Path) -> None:
    """Draws the mean curves of all experiments, one panel per kind of curve."""
    experiment = jobs[0].experiment
    panels: dict[str, dict[str, Any]] = {}
    points: list[str] = []
    for job in jobs:
        for name, curve in job.curves.items():
            values = curve.sort_values("clip").drop(columns="clip")
            panels.setdefault(name, {})[job.experiment.title] = values.to_numpy(np.float64)
            points = [point for heading in values.columns if (point := heading.partition(" ")[2])]
    videos = {job.experiment.title: list(job.rows.sort_values("clip")["video"]) for job in jobs if job.curves}
    title = f"{experiment.names['dataset']}, {experiment.names['model']}"
    plot_curves(path, panels, videos, title=title, seed=int(experiment.config.seed), points=points)


def draw_strips(jobs: Sequence[ScoreSheet], folder: Path) -> bool:
    """Draws the strips of each clip, a row a experiment, to `<folder>/<clip>.png`, and returns whether there are any.

    A picture that is younger than all its strips is not drawn again.
    """
    runs = [job for job in jobs if not job.baseline]
    clips = (
        sorted(set[str]().union(*(job.judged() for job in runs)))
        if runs and runs[0].experiment.render.comparison
        else []
    )
    found = False
    for clip in set[str]().union(*(job.outdated for job in jobs)).difference(clips):
        remove(folder / f"{clip}.png")  # it shows maps of what the clip was
    for clip in clips:
        files = {job.experiment.title: path for job in jobs if (path := job.strip_path(clip)).is_file()}
        path = folder / f"{clip}.png"
        found |= bool(files)
        if not files or (
            path.is_file() and path.stat().st_mtime >= max(file.stat().st_mtime for file in files.values())
        ):
            continue
        job = next(job for job in runs if clip in job.judged())
        try:
            strips = {name: StoredStrip.load(file) for name, file in files.items()}
            strips_to_png(path, _scene(job, clip, next(iter(strips.values()))), strips, job.experiment.render)
        except ClipError as error:
            job.failures.append(Failure.of(clip, "draw", error))
    return found


def _scene(job: ScoreSheet, clip: str, strip: StoredStrip) -> Scene:
    """Returns the one frame of a strip, with what its run knows of the clip."""
    stored = job.folder.load(clip)
    return Scene(
        clip=clip,
        pixels=strip.pixels.numpy()[None],
        numbers=(strip.number,),
        model=job.experiment.names["model"],
        target=stored.name,
        probability=stored.probability,
        predicted=stored.top[0][0],
        predicted_probability=stored.top[0][1],
        label=job.rows.set_index("clip")["label"][clip],
    )


def _stem(jobs: Sequence[ScoreSheet]) -> Path:
    experiment = jobs[0].experiment
    what = {
        "runs": sorted(key(job.folder.identity) for job in jobs),
        "metric": scores_identity(experiment),
        "model": describe(experiment.model),
    }
    label = experiment.label or experiment.names["dataset"]
    return (
        Path(experiment.config.paths.out)
        / "tables"
        / experiment.names["model"]
        / f"{label}-{experiment.names['metric']}-{key(what)}"
    )


def missing(jobs: Sequence[ScoreSheet]) -> list[str]:
    """Returns a line per experiment that has fewer clips than the dataset, or scores that no longer hold."""
    lines = [
        f"{job.experiment.title}: {job.clips - len(job.rows)} of {job.clips} clips have no map that can be judged"
        for job in jobs
        if job.clips > len(job.rows) and not job.baseline
    ]
    return lines + [
        f"{job.experiment.title}: {left} scores are of maps or annotations that changed since, and are left out"
        for job in jobs
        if (left := len(job.outdated - job.judged()))
    ]


def tell_errors(groups: Sequence[Sequence[ScoreSheet]], tell: Callable[[str], object]) -> bool:
    """Tells each clip that could not be judged, once, and returns whether there was one."""
    jobs = [job for group in groups for job in group]
    if found := common_traceback(failure for job in jobs if not len(job.rows) for failure in job.failures):
        tell(found)
    for line in failure_lines(failure for job in jobs for failure in job.failures):
        tell(line)
    return any(job.failures for job in jobs)
