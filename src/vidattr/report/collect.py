"""Finds what is stored of some experiments: their maps, and the scores of these maps under every metric."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from vidattr.config.identity import describe, described_once, key
from vidattr.errors import ConfigError, VidattrError, failure_lines
from vidattr.evaluate import evaluator
from vidattr.evaluate.report import build, missing
from vidattr.evaluate.scores import ScoreSheet, read_scores, scores_identity
from vidattr.evaluate.table import MATCHED
from vidattr.protocols import Metric, NetworkMetric
from vidattr.report.records import Group, Layer, ScoreOfClips, ScoreTable, command_line
from vidattr.run.batches import clips_of, network_key
from vidattr.run.compose import part
from vidattr.run.doubts import Doubts, told
from vidattr.run.experiment import Experiment
from vidattr.run.job import run_folder
from vidattr.run.sources import Sources

_SCORES = re.compile(r"(.+)-[0-9a-f]{10}\.csv")


def collect(experiments: Sequence[Experiment], *, folder: Path | None = None, add: Sequence[Path] = ()) -> list[Group]:
    """Returns the runs by network and dataset, with their tables of scores; what is missing is named in each group.

    Args:
        experiments: The runs, and metrics whose options are not the defaults.
        folder: Config folder.
        add: Further config folders.

    Raises:
        ConfigError: There is no map of any experiment.
    """
    groups: list[Group] = []
    with described_once():
        for alike in _alike(experiments):
            groups.append(_group(len(groups), alike))
    if not any(group.clips for group in groups):
        lines = [line for group in groups for line in group.missing]
        raise ConfigError(
            "no maps are stored:\n    " + "\n    ".join(lines[:12]),
            remedy="`vidattr run` with the same overrides first",
        )
    for group in groups:
        _add_scores(group, experiments, folder, add)
    return groups


def _alike(experiments: Sequence[Experiment]) -> Iterable[list[Experiment]]:
    """Groups experiments that share clips and network; their targets and methods may differ."""
    groups: dict[tuple[object, ...], list[Experiment]] = {}
    for experiment in experiments:
        settings = experiment.settings
        network = key(describe(experiment.dataset)), network_key(experiment)
        groups.setdefault((*network, settings.seed, settings.limit, experiment.paths.out), []).append(experiment)
    return groups.values()


def _group(number: int, experiments: Sequence[Experiment]) -> Group:
    clips, problems, notes = clips_of(experiments[0])
    group = Group(number, [], [], missing=list(failure_lines(problems)), notes=list(notes))
    sources: dict[str, Sources] = {}
    seen: set[Path] = set()
    for experiment in experiments:
        runs = run_folder(experiment)
        if runs.path in seen:
            continue
        seen.add(runs.path)
        runs.check()
        target = experiment.settings.target
        survey = sources.setdefault(target, Sources(clips, target)).survey(runs)
        layer = Layer(len(group.layers), experiment, runs, survey.good)
        group.layers.append(layer)
        for clip, why in survey.bad.items():
            group.missing.append(f"{layer.title}, {clip}: {why.error.found}")
        if lacking := len(clips) - len(survey.good) - len(survey.bad):
            stored = "no maps are stored" if not survey.good else f"{lacking} of {len(clips)} clips have no map"
            group.missing.append(f"{layer.title}: {stored}; {layer.command()}")
        doubts = Doubts(runs.path, [clip for clip in clips if clip.id in survey.good])
        group.notes += [line for line in told(doubts.found()) if line not in group.notes]
    group.clips = [clip for clip in clips if any(clip.id in layer.good for layer in group.layers)]
    return group


def _add_scores(group: Group, experiments: Sequence[Experiment], folder: Path | None, add: Sequence[Path]) -> None:
    """Adds the tables of the metrics that the experiments name, and of all metrics whose scores are stored."""
    named = [
        experiment
        for experiment in experiments
        if experiment.metric is not None
        and any(run_folder(experiment).path == layer.folder.path for layer in group.layers)
    ]
    by_metric: dict[str, list[Experiment]] = {}
    for experiment in named:
        by_metric.setdefault(key(scores_identity(experiment)), []).append(experiment)
    known = {read_scores(experiment).path for experiment in named}
    for experiment in _found(group, known, folder, add):
        judged = by_metric.setdefault(key(scores_identity(experiment)), [])
        if not any(run_folder(one).path == run_folder(experiment).path for one in judged):
            judged.append(experiment)
    for same in by_metric.values():
        left_out: list[ConfigError] = []
        try:
            tables = evaluator.stored_tables(same, left_out=left_out)
        except VidattrError as error:
            left_out, tables = [ConfigError(error.found, remedy=error.remedy)], []
        group.missing += [f"{error.found}; {error.remedy}" if error.remedy else error.found for error in left_out]
        for sheets in tables:
            _add_table(group, sheets)
        if tables and not isinstance(same[0].metric, NetworkMetric):
            _name_unjudged(group, same)
    if not group.tables:
        group.missing.append(
            "no scores are stored; `vidattr evaluate` with the same overrides and metric=… judges maps"
        )


def _name_unjudged(group: Group, judged: Sequence[Experiment]) -> None:
    """Names the layers that have no scores under the metric of `judged`, the experiments that have."""
    folders = {run_folder(experiment).path for experiment in judged}
    chosen = [one.removeprefix("++") for one in judged[0].overrides if one.startswith(("metric=", "++metric."))]
    for layer in group.layers:
        if layer.good and layer.folder.path not in folders:
            name = judged[0].names["metric"]
            again = layer.command("evaluate", *(chosen or [f"metric={name}"]))
            group.missing.append(f"{layer.title}: no scores of {name} are stored; {again}")


def _found(group: Group, known: Collection[Path], folder: Path | None, add: Sequence[Path]) -> list[Experiment]:
    """Returns an experiment per layer and metric whose scores, under the metric's default options, are stored.

    Args:
        group: The layers; scores under other options are named among what it does not show.
        known: Files of scores that are shown anyway.
        folder: Config folder.
        add: Further config folders.
    """
    metrics: dict[str, Metric] = {}
    found: list[Experiment] = []
    others: dict[str, list[str]] = {}
    for layer in group.layers:
        network = Path(layer.experiment.paths.out) / "network" / layer.experiment.names["model"]
        stored = sorted((layer.folder.path / "scores").glob("*.csv")), sorted(network.glob("*/scores/*.csv"))
        for path in (path for paths in stored for path in paths):
            if path in known or (named := _SCORES.fullmatch(path.name)) is None:
                continue
            name = named[1]
            try:
                metric = metrics.setdefault(name, part("metric", name, {}, folder=folder, add=add))
            except ConfigError as error:
                group.missing.append(f"{path.name}: {error.found}")
                continue
            names = {**layer.experiment.names, "metric": name}
            experiment = replace(layer.experiment, names=names, metric=metric)
            of_network = isinstance(metric, NetworkMetric)
            if of_network:
                found += [] if any(one.names["metric"] == name for one in found) else [experiment]
            elif read_scores(experiment).path == path:
                found.append(experiment)
            else:
                others.setdefault(f"{path.name}: scores under other options than the defaults of {name}", []).append(
                    f"metric={name}"
                )
    for line, choices in others.items():
        group.missing.append(f"{line}, of {len(choices)} runs; {choices[0]} with these options shows them")
    return found


def _add_table(group: Group, sheets: Sequence[ScoreSheet]) -> None:
    experiment = sheets[0].experiment
    name, of_network = experiment.names["metric"], isinstance(experiment.metric, NetworkMetric)
    table = build(sheets, MATCHED)
    group.tables.append(ScoreTable(name, table, sheets, of_network))
    group.missing += [line for line in missing(sheets) if line not in group.missing]
    if of_network:
        return
    for sheet in sheets:
        layer = next((one for one in group.layers if one.folder.path == sheet.folder.path), None)
        if layer is not None and (lacking := len(layer.good.keys() - sheet.judged())):
            again = command_line(sheet.experiment, "evaluate")
            group.missing.append(f"{layer.title}: {lacking} of {len(layer.good)} maps have no score of {name}; {again}")
    judged = key(scores_identity(experiment))
    firsts = {column.score: column for column in reversed(table.columns)}
    for score_name in dict.fromkeys(column.score for column in table.columns):
        column = firsts[score_name]
        id = f"{name}-{judged}-{score_name}"
        score = next((one for one in group.scores if one.id == id), None)
        if score is None:
            score = ScoreOfClips(id, name, column)
            group.scores.append(score)
        for sheet in sheets:
            if column.score in sheet.rows:
                rows = sheet.rows[["clip", column.score]].dropna()
                values = dict(zip(rows["clip"].astype(str), rows[column.score].astype(float), strict=True))
                score.values.setdefault(row_title(group, sheet), {}).update(values)


def row_title(group: Group, sheet: ScoreSheet) -> str:
    """Returns the name of a row: the title of the layer whose maps it judges, else that of the sheet."""
    titles = [layer.title for layer in group.layers if layer.folder.path == sheet.folder.path]
    return titles[0] if titles else sheet.title
