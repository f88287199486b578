"""Scores of stored maps: the score sheets of a table, their rows that are still valid, and the maps left to judge.

`evaluate` computes no map that a run stores, with one exception: the baselines (`table.BASELINES`: noise, the frame's
centre, edges and motion), which every table shows. They need no network and are computed here if no run of them is
stored. Only a `RerunMetric` runs the methods again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from vidattr.config.identity import key
from vidattr.config.settings import check_out
from vidattr.errors import ConfigError, Failure, VidattrError
from vidattr.evaluate.judge import judge
from vidattr.evaluate.network import network_tables, stored_network_tables
from vidattr.evaluate.scores import ScoreSheet, read_scores, scores_identity, unlisted
from vidattr.evaluate.table import BASELINES
from vidattr.protocols import ComparesMaps, MapMetric, Metric, NetworkMetric, RerunMetric
from vidattr.run import lowered
from vidattr.run.batches import by_network, clips_of
from vidattr.run.compose import part
from vidattr.run.control import Control
from vidattr.run.doubts import Doubts
from vidattr.run.experiment import Experiment, run_identity
from vidattr.run.resident import Resident
from vidattr.run.sources import Sources, mark_of, truth_of
from vidattr.types import Clip


def evaluate(
    experiments: Sequence[Experiment],
    *,
    quiet: bool = False,
    shard: tuple[int, int] = (1, 1),
    control: Control | None = None,
) -> list[list[ScoreSheet]]:
    """Judges the stored maps, or the network, of every experiment; stored scores are not computed again.

    Args:
        experiments: The experiments to judge.
        quiet: Whether to show no progress bar.
        shard: (i, n): only every n-th batch of clips, starting with the i-th. Its scores are stored in files of their
            own, which an evaluation of all clips takes over.
        control: May stop the evaluation, and is notified of each batch.

    Returns:
        One list of score sheets per table: the experiments that share dataset, model and metric, baselines last; under
        a `NetworkMetric` the networks that share dataset and metric.

    Raises:
        ConfigError: A metric is of no known kind, or an experiment was never run; the message says what to do.
    """
    _check(experiments)
    of_maps, of_networks = _split(experiments)
    control = control or Control()
    sheets = [
        read_scores(experiment, baseline=baseline, shard=shard) for experiment, baseline in with_baselines(of_maps)
    ]
    for sheet in sheets:
        if not sheet.baseline and not sheet.folder.stored():
            names = sheet.experiment.names
            raise ConfigError(
                f"no maps of {sheet.experiment.title} on {names['dataset']} by {names['model']}: {sheet.folder.path}",
                remedy="`vidattr run` with the same overrides first",
            )
    tables = _tables(sheets)
    resident = Resident(experiments[0])
    for table in tables:
        clips = _survey(table)
        resident = resident.serving(table[0].experiment)
        needed = _needs_network(table[0].experiment.metric) and any(sheet.open() for sheet in table)
        network = resident.network if needed else None
        if network is not None:
            # An earlier table may have halved it because memory ran out.
            network.max_batch = resident.experiment.runtime.max_batch
        judge(table, clips, network, quiet, control)
        for sheet in table:
            sheet.narrow()
    return tables + network_tables(of_networks, resident, quiet=quiet, shard=shard, control=control)


def stored_tables(
    experiments: Sequence[Experiment], *, left_out: list[ConfigError] | None = None
) -> list[list[ScoreSheet]]:
    """Returns the finished scores of the experiments, grouped as tables, without judging anything.

    Rows of maps that were computed again since are left out. If the dataset is available, so are rows of clips that the
    experiment does not select, and rows whose annotation changed.

    Args:
        experiments: The judged experiments.
        left_out: An error is appended for each experiment without scores, and the tables are those of the others; None:
            such an error is raised.

    Raises:
        ConfigError: A metric is of no known kind, or an experiment was never evaluated; the message says what to do.
    """
    _check(experiments)
    of_maps, of_networks = _split(experiments)
    sheets = [read_scores(experiment, baseline=baseline) for experiment, baseline in with_baselines(of_maps)]
    tables = _tables(sheets)
    for table in tables:
        truths, why = _truths(table[0].experiment)
        asked: dict[str, str] = {}
        for sheet in table:
            _keep_current(sheet, asked, truths)
            if not sheet.baseline and not len(sheet.rows):
                changed = f"{len(sheet.outdated)} scores of maps or annotations that changed since"
                error = ConfigError(
                    f"{changed if sheet.outdated else 'no scores yet'}: {sheet.path}",
                    remedy="`vidattr evaluate` with the same overrides first",
                )
                if left_out is None:
                    raise error
                left_out.append(error)
            sheet.clips, sheet.unlisted = len(sheet.rows), why
    if left_out:
        tables = [[sheet for sheet in table if sheet.baseline or len(sheet.rows)] for table in tables]
        tables = [table for table in tables if not all(sheet.baseline for sheet in table)]
    return tables + stored_network_tables(of_networks)


def with_baselines(experiments: Sequence[Experiment]) -> list[tuple[Experiment, bool]]:
    """Returns the experiments, and after them the baselines of the tables that are not among the experiments.

    The second of each pair says whether it is such an added baseline. Under a metric that `ComparesMaps`, each
    experiment names the runs of its table (`Experiment.company`).
    """
    out = [(experiment, False) for experiment in experiments]
    methods = {name: part("method", name, {}) for name in BASELINES}
    for group in _by_metric(experiments):
        present = {experiment.names["method"] for experiment in group}
        for name in BASELINES:
            if name not in present:
                names = {**group[0].names, "method": name}
                changed = {role: options for role, options in group[0].changed.items() if role != "method"}
                added = replace(group[0], names=names, title=name, method=methods[name], changed=changed)
                out.append((added, True))
    return _in_company(out)


def _in_company(pairs: Sequence[tuple[Experiment, bool]]) -> list[tuple[Experiment, bool]]:
    """Returns the pairs, with the company of each experiment whose metric compares the maps of its table."""
    company: dict[int, tuple[str, ...]] = {}
    for group in _by_metric([experiment for experiment, _ in pairs]):
        if isinstance(group[0].metric, ComparesMaps):
            members = [experiment for experiment, _ in pairs if any(experiment is each for each in group)]
            keys = tuple(key(run_identity(experiment)) for experiment in members)
            company |= {id(experiment): keys for experiment in members}
    return [(replace(each, company=company[id(each)]) if id(each) in company else each, added) for each, added in pairs]


def _check(experiments: Sequence[Experiment]) -> None:
    """Raises ConfigError where results cannot be written, or a metric is of no known kind."""
    for out in {experiment.paths.out for experiment in experiments}:
        check_out(out)
    for experiment in experiments:
        if not isinstance(experiment.metric, MapMetric | RerunMetric | NetworkMetric):
            kind = type(experiment.metric)
            raise ConfigError(
                f"metric={experiment.names.get('metric')}: {kind.__module__}.{kind.__qualname__} is no metric",
                expected="a dataclass with version, unjudged, summary() and one of score_maps(batch), with "
                "needs_network, score_methods(batch, methods), or score_network(model, query, truth)",
                remedy="see vidattr.protocols: __call__(model, query, truth, maps, methods) is score_maps or "
                "score_methods now",
            )


def _split(experiments: Sequence[Experiment]) -> tuple[list[Experiment], list[Experiment]]:
    """Returns the experiments whose metric judges maps or methods, and those whose metric judges the network."""
    of_maps: list[Experiment] = []
    of_networks: list[Experiment] = []
    for experiment in experiments:
        (of_networks if isinstance(experiment.metric, NetworkMetric) else of_maps).append(experiment)
    return of_maps, of_networks


def _needs_network(metric: Metric | None) -> bool:
    return metric.needs_network if isinstance(metric, MapMetric) else True


def _by_metric(experiments: Sequence[Experiment]) -> Iterable[list[Experiment]]:
    """Groups experiments that share dataset, model, settings and metric; groups of the same network are neighbours."""
    for group in by_network(experiments):
        tables: dict[str, list[Experiment]] = {}
        for experiment in group:
            tables.setdefault(key(scores_identity(experiment)), []).append(experiment)
        yield from tables.values()


def _tables(sheets: Sequence[ScoreSheet]) -> list[list[ScoreSheet]]:
    groups = _by_metric([sheet.experiment for sheet in sheets])
    return [[sheet for sheet in sheets if any(sheet.experiment is each for each in group)] for group in groups]


def _survey(sheets: Sequence[ScoreSheet]) -> list[Clip]:
    """Returns the clips of one table, and drops from each sheet the maps and rows of clips that changed since.

    A missing map becomes a line of the sheet's errors. The map of a baseline that no run stored depends on the
    frames and the explained class alone.
    """
    experiment = sheets[0].experiment
    clips, problems, notes = clips_of(experiment, sheets[0].shard)
    sources = Sources(clips, experiment.settings.target)
    truths = {clip.id: truth_of(clip) for clip in clips}
    surveys = [sources.survey(sheet.folder) for sheet in sheets]
    asked: dict[str, str] = {}  # clip to the mark of its frames and explained class
    for sheet, survey in reversed(list(zip(sheets, surveys, strict=True))):
        if not sheet.baseline:
            asked |= {clip: mark_of(facts, map=False) for clip, facts in survey.good.items()}
        doubtful = [clip for clip in clips if clip.id in survey.good]
        sheet.doubts = Doubts(sheet.folder.path, doubtful, (*notes, *lowered.note(sheet.experiment)))
    refused = set[str]().union(*(sheet.doubts.refused() for sheet in sheets))
    for sheet, survey in zip(sheets, surveys, strict=True):
        sheet.clips, sheet.failures, sheet.maps = len(clips), list(problems), survey.good.keys()
        marks = {clip: mark_of(facts) for clip, facts in survey.good.items()}
        if sheet.baseline:
            marks = asked | {clip: mark for clip, mark in marks.items() if clip in asked}
        else:
            sheet.failures += [Failure.of(clip, "map", why.error) for clip, why in survey.bad.items()]
        gone = () if sheet.baseline else survey.bad
        sheet.expect({clip: (mark, truths[clip]) for clip, mark in marks.items()}, {*gone, *refused})
    return clips


def _keep_current(sheet: ScoreSheet, asked: dict[str, str], truths: Mapping[str, str] | None) -> None:
    """Drops the rows of a sheet that do not belong to its maps as they are stored now.

    Args:
        sheet: Of one table; methods come before added baselines.
        asked: Clip to the mark of its frames and explained class; filled here from methods' maps, read for baselines.
        truths: Clip to the mark of its annotation; None: the dataset is not available.
    """
    facts = {clip: sheet.folder.facts(clip) or {} for clip in sheet.judged() if sheet.folder.map_path(clip).is_file()}
    made_of = {clip: mark_of(each) if "sha256" in each else "" for clip, each in facts.items()}
    marks = {}
    for clip, (mark, truth) in sheet.said().items():
        if truths is None or clip in truths:
            mark = made_of.get(clip, asked.get(clip, mark) if sheet.baseline else mark)
            marks[clip] = (mark, truth if truths is None else truths[clip])
    if not sheet.baseline:
        known = {clip: each for clip, each in facts.items() if "sha256" in each and clip not in asked}
        asked |= {clip: mark_of(each, map=False) for clip, each in known.items()}
    sheet.expect(marks)
    sheet.narrow()


def _truths(experiment: Experiment) -> tuple[dict[str, str] | None, str]:
    """Returns the mark of the annotation of each clip of an experiment, or None and why the dataset is not available.

    Raises:
        ConfigError: It is not available, and `limit` or `per_class` selects a part of its clips.
    """
    try:
        return {clip.id: truth_of(clip) for clip in clips_of(experiment)[0]}, ""
    except VidattrError as error:
        return None, unlisted(experiment, error)
