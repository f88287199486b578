"""Scores of several runs as one table and one plot: printed, and written under `<out>/tables/`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pandas as pd

from vidattr.config.identity import describe, key
from vidattr.errors import common_traceback, failure_lines
from vidattr.evaluate import against
from vidattr.evaluate import table as tables
from vidattr.evaluate.choosing import chosen
from vidattr.evaluate.look import Look
from vidattr.evaluate.noise import draws_of
from vidattr.evaluate.pictures import draw_curves, draw_strips
from vidattr.evaluate.pivot import PARTS, pivoted
from vidattr.evaluate.scores import ScoreSheet, scores_identity
from vidattr.evaluate.tracing import changed_options, name_of, traced
from vidattr.protocols import ExtraFiles, FittedReference, MatchedNoise, Metric, NetworkMetric
from vidattr.run.experiment import Experiment
from vidattr.writing import set_durable, sweep, write_bytes, write_text

_SUFFIXES = {"markdown": ".md", "csv": ".csv", "latex": ".tex", "json": ".json"}


def show(
    groups: Sequence[Sequence[ScoreSheet]],
    baseline: str | None,
    form: str,
    look: Look | None = None,
    *,
    pivot: bool = False,
    by: str | None = None,
) -> str:
    """Builds the table of each group, writes it in every form beside a plot of the curves, and returns it in one form.

    Args:
        groups: From `evaluator.evaluate` or `evaluator.stored_tables`.
        baseline: Row that the others are compared with; "matched": each method's own matched noise, or, under a metric
            that has none, random; "none" or None: no comparison.
        form: terminal, markdown, csv, latex or json.
        look: How the returned tables are shown; the files hold the whole tables. None: whole too.
        pivot: Whether one table over all groups is returned, with the columns of all.
        by: Key of an option that a sweep varies; the scores are also drawn against it.

    Raises:
        ConfigError: An unknown baseline row, column or row, or rows that do not differ in the option `by`.
    """
    shown, whole = [], list[tables.Table]()
    for sheets in groups:
        set_durable(sheets[0].experiment.runtime.durable)
        built = build(sheets, None if baseline in (None, "none") else baseline)
        stem = _stem(sheets)
        sweep(stem.parent)
        for name, suffix in _SUFFIXES.items():
            write_text(stem.with_name(stem.name + suffix), getattr(built, name)())
        notes = [f"Written: {stem}{{{','.join(_SUFFIXES.values())}}}"]
        if any(sheet.curves for sheet in sheets):
            draw_curves(sheets, stem.with_name(stem.name + ".png"))
            notes.append(f"Curves: {stem}.png")
        if draw_strips(sheets, stem):
            notes.append(f"Maps: {stem}/*.png")
        if by is not None:
            points = against.points(sheets, built, by)
            files = against.write(points, stem, by=by, title=built.caption.partition(";")[0])
            notes.append(f"Against {by}: {', '.join(map(str, files))}")
        if extra := _extra_files(sheets, stem):
            notes.append(f"Beside it: {', '.join(map(str, extra))}")
        whole.append(built)
        shown.append("\n".join([*missing(sheets), *notes]) + "\n" if form == "terminal" else "")
    if pivot:
        heads = [{part: name_of(sheets, part) for part in PARTS} for sheets in groups]
        whole, shown = [pivoted(whole, heads)], ["".join(shown)]
    texts = [getattr(table, form)() for table in (chosen(whole, look) if look else whole)]
    if form == "json":
        return json.dumps([json.loads(text) for text in texts], indent=2, ensure_ascii=False)
    if form == "csv":  # one heading for all tables, which have the same columns
        return "".join([texts[0], *(text.partition("\n")[2] for text in texts[1:])])
    if len(texts) < len(shown):  # a table without any of the chosen columns is left out
        shown = [*[""] * (len(texts) - 1), "".join(shown)]
    return "\n".join(text + note for text, note in zip(texts, shown, strict=True))


def _extra_files(sheets: Sequence[ScoreSheet], stem: Path) -> list[Path]:
    """Writes what a metric has to show beside its table, and returns where."""
    metric = sheets[0].experiment.metric
    if not isinstance(metric, ExtraFiles):
        return []
    files = metric.extra_files({sheet.title: sheet.rows for sheet in sheets})
    for suffix, content in files.items():
        write_bytes(stem.with_name(stem.name + suffix), content)
    return [stem.with_name(stem.name + suffix) for suffix in files]


def build(sheets: Sequence[ScoreSheet], baseline: str | None) -> tables.Table:
    """Returns the table of some score sheets, which share dataset and metric."""
    experiment = sheets[0].experiment
    metric = cast(Metric, experiment.metric)
    columns = metric.summary()
    rows = {sheet.title: sheet.rows for sheet in sheets}
    most = max(sheets, key=lambda sheet: len(sheet.rows)).rows
    names = dict.fromkeys(name.partition("/")[0] for name in most.columns if "/" in name)
    names.pop(tables.MATCHED, None)
    weights = {column.weight for column in columns if column.weight}
    references = {name: _reference(most, name, weights) for name in names}
    matched = {
        sheet.title: _reference(sheet.rows, tables.MATCHED, weights)
        for sheet in sheets
        if any(name.startswith(f"{tables.MATCHED}/") for name in sheet.rows.columns)
    }
    remarks = [*_about_noise(experiment, bool(matched)), *_other_conditions(experiment, rows), *changed_options(sheets)]
    remarks += dict.fromkeys(sheet.unlisted for sheet in sheets if sheet.unlisted)
    if baseline == tables.MATCHED and not matched:
        baseline = "random" if "random" in rows else None
    if metric.unjudged and any(
        frame[c.score].isna().any() for frame in rows.values() for c in columns if c.score in frame
    ):
        remarks.append(f"A clip is NaN where {metric.unjudged}.")
    if len(most) and isinstance(metric, FittedReference):
        H, W = experiment.model.input.size
        fitted = metric.fitted(most, (H, W))
        references[fitted.name] = _kept(most, weights).assign(**fitted.columns)
        remarks.append(fitted.remark)
    built = tables.build(
        rows,
        columns,
        references=references,
        baseline=baseline,
        seed=experiment.settings.seed,
        caption=caption(experiment, len({sheet.experiment.names["model"] for sheet in sheets})),
        matched=matched,
        remarks=remarks,
    )
    return traced(built, sheets)


def _about_noise(experiment: Experiment, matched: bool) -> list[str]:
    """Returns what a reader has to know of the rows of matched noise; nothing under a metric that judges no map."""
    if isinstance(experiment.metric, NetworkMetric):
        return []
    if not matched:
        name = experiment.names["metric"]
        why = "noise_draws is 0" if isinstance(experiment.metric, MatchedNoise) else "this metric judges none"
        return [f"{name} has no matched noise: {why}."]
    draws = draws_of(experiment.metric)
    return [
        "matched noise: noise with the values of the method's own map and its smoothness in space and time (of methods "
        "that smooth their maps, by the same smoothing, with the same border), "
        f"{draws} draw{'s' if draws > 1 else ''} a clip, averaged: what a map scores that is as smooth and knows "
        "nothing of the clip. It peaks at the border of a frame more often than raw noise: in a pointing game a map "
        "must be above chance as well."
    ]


def _other_conditions(experiment: Experiment, rows: Mapping[str, pd.DataFrame]) -> list[str]:
    """Returns a remark for each condition of the caption that some clips were not judged under.

    For example `max_batch`, which is halved where memory runs out.
    """
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


def caption(experiment: Experiment, models: int = 1) -> str:
    """Returns the protocol in one line: what was judged, of which network, by which metric with which options.

    Args:
        experiment: Any one of the table.
        models: How many networks the table has; of several neither name nor preprocessing is said.
    """
    left_out = ("key_version", "class", "code", "name", "version", "noise_version", "compared")
    options = {k: v for k, v in scores_identity(experiment).items() if k not in left_out}
    options |= options.pop("conditions", {})
    names, view = experiment.names, experiment.model.input
    facts = [
        f"{names['metric']} on {names['dataset']}" + (f" by {names['model']}" if models == 1 else ""),
        "" if isinstance(experiment.metric, NetworkMetric) else f"target {experiment.settings.target}",
        f"{view.taken}, {view.size[0]}×{view.size[1]} px ({view.geometry.value}, {view.resample.value})"
        if models == 1
        else "",
        ", ".join(f"{name}={_plain(value)}" for name, value in options.items()),
    ]
    return "; ".join(fact for fact in facts if fact)


def _plain(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)


def _stem(sheets: Sequence[ScoreSheet]) -> Path:
    """Returns the path of the table's files, without their suffix."""
    experiment = sheets[0].experiment
    runs = sorted(key(sheet.folder.identity) for sheet in sheets)
    what: dict[str, Any] = {"runs": runs, "metric": scores_identity(experiment)}
    folder = "network"
    if not isinstance(experiment.metric, NetworkMetric):
        folder, what["model"] = experiment.names["model"], describe(experiment.model)
    label = experiment.label or experiment.names["dataset"]
    name = f"{label}-{experiment.names['metric']}-{key(what)}"
    return Path(experiment.paths.out) / "tables" / folder / name


def counts(groups: Sequence[Sequence[ScoreSheet]], shard: tuple[int, int], as_json: bool) -> str:
    """Returns how many clips of a shard were judged, of each experiment; a table needs all shards."""
    rows = [
        {
            "experiment": sheet.title,
            "metric": sheet.experiment.names["metric"],
            "clips": sheet.clips,
            "judged": len(sheet.rows),
            "file": str(sheet.file),
        }
        for group in groups
        for sheet in group
    ]
    if as_json:
        return json.dumps(rows, indent=2)
    lines = [f"{row['experiment']}: {row['judged']} of {row['clips']} clips judged  {row['file']}" for row in rows]
    lines.append(f"shard {shard[0]}/{shard[1]}: evaluate without --shard for the table, when all shards are judged")
    return "\n".join(lines)


def missing(sheets: Sequence[ScoreSheet]) -> list[str]:
    """Returns a line per row of the table that has fewer clips than the dataset, or scores that no longer hold."""
    network = isinstance(sheets[0].experiment.metric, NetworkMetric)
    why = "could not be judged" if network else "have no map that can be judged"
    lines = [
        f"{sheet.title}: {sheet.clips - len(sheet.rows)} of {sheet.clips} clips {why}"
        for sheet in sheets
        if sheet.clips > len(sheet.rows) and not sheet.baseline
    ]
    what = "clips" if network else "maps"
    return lines + [
        f"{sheet.title}: {left} scores are of {what} or annotations that changed since, and are left out"
        for sheet in sheets
        if (left := len(sheet.outdated - sheet.judged()))
    ]


def tell_errors(groups: Sequence[Sequence[ScoreSheet]], tell: Callable[[str], object]) -> bool:
    """Tells each clip that could not be judged, once, and returns whether there was one."""
    sheets = [sheet for group in groups for sheet in group]
    if found := common_traceback(failure for sheet in sheets if not len(sheet.rows) for failure in sheet.failures):
        tell(found)
    for line in failure_lines(failure for sheet in sheets for failure in sheet.failures):
        tell(line)
    return any(sheet.failures for sheet in sheets)
