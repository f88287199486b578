"""Scores of networks themselves, by a `NetworkMetric`: no method runs and no stored map is read.

They are stored in `<out>/network/<model>/<dataset>-<key>/`, as the scores of a method are stored in the folder of its
run. There is no map that holds the fingerprint of a clip's source, so `sources.json` in this folder holds it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import torch

from vidattr.config.identity import describe, key
from vidattr.errors import ConfigError, Failure, VidattrError
from vidattr.evaluate.judge import SAVE_AFTER, truths
from vidattr.evaluate.scores import ScoreSheet, read_scores, scores_identity, unlisted
from vidattr.labels import plain
from vidattr.models.network.network import VideoModel
from vidattr.models.speed.memory import within_memory
from vidattr.protocols import NetworkMetric
from vidattr.run.batches import clip_seed, clips_of, split_batches
from vidattr.run.company import Decoded, isolated, rows_of, stood_in
from vidattr.run.control import Control
from vidattr.run.doubts import Doubts
from vidattr.run.experiment import Experiment, run_identity
from vidattr.run.job import made_by
from vidattr.run.progress import Bar
from vidattr.run.reading import read_ahead, upload
from vidattr.run.resident import Resident
from vidattr.run.sources import Sources, mark_of, truth_of
from vidattr.run.store import RunFolder
from vidattr.types import Clip, Query, Sample, Scores
from vidattr.writing import remove, set_durable, sweep, write_text


class NetworkFolder(RunFolder):
    """The folder of one network's scores on one dataset."""

    def __init__(self, path: Path, identity: Mapping[str, Any], shard: tuple[int, int]) -> None:
        super().__init__(path, identity)
        own = "sources.json" if shard == (1, 1) else f"sources.{shard[0]}-of-{shard[1]}.json"
        self._file, self._whole = path / own, shard == (1, 1)
        self._facts: dict[str, Any] = {}
        for file in (path / "sources.json", *self._parts()):
            try:
                found = json.loads(file.read_text(encoding="utf-8"))
                self._facts |= {clip: facts for clip, facts in found.items() if {"source", "target"} <= facts.keys()}
            except (OSError, ValueError, AttributeError, RecursionError):
                pass  # Clips whose source is not known are judged again.

    def _parts(self) -> list[Path]:
        return sorted(self.path.glob("sources.*-of-*.json"))

    def stored(self) -> frozenset[str]:
        """Ids of the clips whose source is known."""
        return frozenset(self._facts)

    def facts(self, clip: str) -> dict[str, Any] | None:
        """Returns the mark of the source of a clip's scores; None: unknown."""
        return self._facts.get(clip)

    def note(self, clip: str, source: Mapping[str, Any]) -> None:
        """Records the fingerprint of the source of a clip's scores."""
        self._facts[clip] = {"source": dict(source), "sha256": "", "target": "label"}

    def write(self) -> None:
        """Writes the records; an evaluation of all clips takes over the files of shards."""
        write_text(self._file, json.dumps(self._facts, sort_keys=True) + "\n")
        for part in self._parts() if self._whole else ():
            remove(part)


def network_tables(
    experiments: Sequence[Experiment],
    resident: Resident,
    *,
    quiet: bool = False,
    shard: tuple[int, int] = (1, 1),
    control: Control,
) -> list[list[ScoreSheet]]:
    """Judges the network of every experiment; clips that were judged before are not judged again.

    Args:
        experiments: Their metric is a `NetworkMetric`. Those that differ in their method only are one row.
        resident: The network that is in memory.
        quiet: No progress bar.
        shard: As in `evaluator.evaluate`.
        control: May stop the work, and is notified of each batch.

    Returns:
        One list of score sheets per table: the networks that share dataset and metric.

    Raises:
        ConfigError: A network cannot be loaded, or a folder holds the scores of another one.
    """
    tables = _tables(experiments, shard)
    for sheet in (sheet for table in tables for sheet in table):
        resident = resident.serving(sheet.experiment)
        _judge(sheet, resident, quiet, control)
        sheet.narrow()
    return tables


def stored_network_tables(experiments: Sequence[Experiment]) -> list[list[ScoreSheet]]:
    """Returns the finished scores of networks, grouped as tables, without judging anything.

    If the dataset is available, rows of clips that changed since are left out.

    Raises:
        ConfigError: A network was never judged; the message says how to.
    """
    tables = _tables(experiments)
    for sheet in (sheet for table in tables for sheet in table):
        _keep_current(sheet)
    return tables


def _tables(experiments: Sequence[Experiment], shard: tuple[int, int] = (1, 1)) -> list[list[ScoreSheet]]:
    tables: dict[str, dict[Path, ScoreSheet]] = {}
    for experiment in experiments:
        sheet = read_scores(experiment, folder=network_folder(experiment, shard), shard=shard)
        settings = experiment.settings
        shared = {name: repr(value) for name, value in (("runtime", experiment.runtime), ("paths", experiment.paths))}
        shared |= {name: repr(getattr(settings, name)) for name in ("seed", "limit", "per_class")}
        group = {"dataset": describe(experiment.dataset), "metric": scores_identity(experiment), **shared}
        tables.setdefault(key(group), {}).setdefault(sheet.path, sheet)
    for table in tables.values():
        _name([*table.values()])
    return [[*table.values()] for table in tables.values()]


def network_folder(experiment: Experiment, shard: tuple[int, int] = (1, 1)) -> NetworkFolder:
    """Returns the folder of the scores of an experiment's network on its dataset."""
    identity = {k: v for k, v in run_identity(experiment).items() if k not in ("method", "target")}
    label = experiment.label or f"{experiment.names['dataset']}-{key(identity)}"
    return NetworkFolder(Path(experiment.paths.out) / "network" / experiment.names["model"] / label, identity, shard)


def _name(sheets: Sequence[ScoreSheet]) -> None:
    """Gives each row the name of its model, and, where several have one, what the sweep varies."""
    models = [sheet.experiment.names["model"] for sheet in sheets]
    for sheet, model in zip(sheets, models, strict=True):
        varied = sheet.experiment.title.removeprefix(sheet.experiment.names["method"])
        sheet.title = model + (varied if models.count(model) > 1 else "")


def _survey(sheet: ScoreSheet) -> list[Clip]:
    """Returns the clips of a sheet, and drops its rows of clips that changed since."""
    clips, problems, notes = clips_of(sheet.experiment, sheet.shard)
    survey = Sources(clips, str(sheet.experiment.settings.target)).survey(sheet.folder)
    sheet.clips, sheet.failures = len(clips), list(problems)
    sheet.doubts = Doubts(sheet.folder.path, clips, notes, sheet.shard)
    marks = {clip: mark_of(facts) for clip, facts in survey.good.items()}
    sheet.expect({clip.id: (marks.get(clip.id, ""), truth_of(clip)) for clip in clips}, sheet.doubts.refused())
    return clips


def _keep_current(sheet: ScoreSheet) -> None:
    """Drops rows that are not valid any more, if the dataset is available; raises ConfigError if none remains."""
    try:
        _survey(sheet)
        sheet.narrow()
    except VidattrError as error:
        sheet.unlisted = unlisted(sheet.experiment, error)
    if not len(sheet.rows):
        changed = f"{len(sheet.outdated)} scores of clips or annotations that changed since"
        raise ConfigError(
            f"{changed if sheet.outdated else 'no scores yet'}: {sheet.path}",
            remedy="`vidattr evaluate` with the same overrides first",
        )
    sheet.clips = len(sheet.rows)


def _judge(sheet: ScoreSheet, resident: Resident, quiet: bool, control: Control) -> None:
    """Computes the missing rows of a sheet and writes them."""
    clips, experiment = _survey(sheet), sheet.experiment
    lacking = sheet.open()
    batches = [
        batch for batch in split_batches(clips, experiment.runtime.clips) if any(clip.id in lacking for clip in batch)
    ]
    set_durable(experiment.runtime.durable)
    sweep(sheet.folder.path)
    network = resident.network if batches else None
    title = f"{experiment.names['metric']} · {experiment.names['dataset']} · {experiment.names['model']}"
    saved = time.monotonic()
    try:
        with Bar(title, sum(map(len, batches)), quiet=quiet) as bar:
            for decoded in read_ahead(batches, experiment):
                if control.stopped:
                    break
                names, before = [clip.id for clip, _ in decoded], len(sheet.rows)
                control.batch_begun(names)
                _judge_batch(sheet, decoded, cast(VideoModel, network))
                bar.update(len(decoded))
                control.batch_done(names, len(sheet.rows) - before)
                if time.monotonic() - saved > SAVE_AFTER:
                    _save(sheet)
                    saved = time.monotonic()
    finally:
        _save(sheet)


def _save(sheet: ScoreSheet) -> None:
    if not len(sheet.rows) and not sheet.outdated and not sheet.failures:
        return
    if not sheet.folder.exists():
        sheet.folder.open(made_by(sheet.experiment.runtime.torch_device()))
    sheet.doubts.write()
    cast(NetworkFolder, sheet.folder).write()
    with ExitStack() as names:
        sheet.save(names)


def _judge_batch(sheet: ScoreSheet, decoded: Sequence[Decoded], network: VideoModel) -> None:
    """Adds the rows of one batch; a clip that cannot be read or judged becomes a failure."""
    experiment, clips = sheet.experiment, [clip for clip, _ in decoded]
    sheet.failures += [
        Failure.of(clip.id, "read", sample) for clip, sample in decoded if not isinstance(sample, Sample)
    ]
    good = [(clip, sample) for clip, sample in decoded if isinstance(sample, Sample)]
    sheet.doubts.add(good)
    if not good:
        return
    N, samples, annotated = len(decoded), stood_in(decoded), truths(decoded)

    def whole() -> Query:
        return Query(
            frames=upload(network.view, network.device, samples),
            target=torch.tensor([network.places.get(plain(c.label), -1) for c in clips], device=network.device),
            seeds=tuple(clip_seed(experiment.settings.seed, clip.id) for clip in clips),
        )

    query = within_memory(network, whole)

    def scores(rows: Sequence[int]) -> Scores:
        metric = cast(NetworkMetric, experiment.metric)
        part = query if rows == range(N) else rows_of(query, rows)
        return within_memory(network, lambda: metric.score_network(network, part, [annotated[n] for n in rows]))

    done, failed = isolated(N, lambda: scores(range(N)), lambda n: scores([n] * N))
    sheet.failures += [
        Failure.of(clips[n].id, "judge", error) for n, error in failed.items() if isinstance(decoded[n][1], Sample)
    ]
    for rows, found in done:
        have = [n for n in rows if isinstance(decoded[n][1], Sample)]
        for n in have:
            cast(NetworkFolder, sheet.folder).note(clips[n].id, samples[n].source)
            facts = cast(dict[str, Any], sheet.folder.facts(clips[n].id))
            sheet.marks[clips[n].id] = mark_of(facts), truth_of(clips[n])
        if have:
            sheet.add([(clips[n], samples[n]) for n in have], found, 0, have, {})
