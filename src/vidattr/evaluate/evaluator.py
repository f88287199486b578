"""Judges what `run` stored: maps are read back, a metric asks the network what it needs, one row a clip is written.

No map that a run stores is computed here, but for the two baselines that every table shows: random and center cost
    nothing
and need no network, so they are drawn on the spot where no run of them is stored. Only a metric whose very question it
is (how long does it take, what if the network were another) runs the methods again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor
from tqdm import tqdm

from vidattr.config.compose import Experiment, part
from vidattr.config.identity import key
from vidattr.config.settings import check_out
from vidattr.errors import CONCERNS_ALL, ClipError, ConfigError, Failure, VidattrError
from vidattr.evaluate.scores import ScoreSheet, read_scores, scores_identity
from vidattr.evaluate.table import BASELINES
from vidattr.metrics.shared import matched_noise
from vidattr.models.network.network import VideoModel
from vidattr.models.speed.memory import within_memory
from vidattr.protocols import Metric
from vidattr.run.batches import by_network, clip_seed, clips_of, read_ahead, split_batches, upload
from vidattr.run.company import Decoded, isolated, rows_of, stood_in
from vidattr.run.doubts import Doubts
from vidattr.run.job import made_by
from vidattr.run.resident import Resident
from vidattr.run.sources import Sources, mark_of, truth_of
from vidattr.run.store import StoredMap
from vidattr.types import Clip, Query, Sample, Scores, Truth
from vidattr.writing import set_durable, sweep

_Found = tuple[
    Scores, Mapping[int, Mapping[str, Tensor]]
]  # what a metric says of maps, and of each cell's matched noise


def with_baselines(experiments: Sequence[Experiment]) -> list[tuple[Experiment, bool]]:
    """Returns the experiments, and behind each group of dataset, model and metric the baselines that it does not name itself."""
    out = [(experiment, False) for experiment in experiments]
    for group in _by_metric(experiments):
        present = {experiment.names["method"] for experiment in group}
        for name in BASELINES:
            if name not in present:
                added = replace(
                    group[0], names={**group[0].names, "method": name}, title=name, method=part("method", name, {})
                )
                out.append((added, True))
    return out


def _by_metric(experiments: Sequence[Experiment]) -> Iterable[list[Experiment]]:
    for group in by_network(experiments):
        found: dict[str, list[Experiment]] = {}
        for experiment in group:
            found.setdefault(key(scores_identity(experiment)), []).append(experiment)
        yield from found.values()


def evaluate(experiments: Sequence[Experiment], *, quiet: bool = False) -> list[list[ScoreSheet]]:
    """Judges the stored maps of every experiment; what was judged before is not judged again.

    Returns:
        One list per table: the experiments that share dataset, model and metric, baselines last.

    Raises:
        ConfigError: A experiment was never run; the message says how to.
    """
    for out in {str(experiment.config.paths.out) for experiment in experiments}:
        check_out(out)
    pairs = with_baselines(experiments)
    jobs = [read_scores(experiment, baseline=baseline) for experiment, baseline in pairs]
    for job in jobs:
        if not job.baseline and not job.folder.stored():
            raise ConfigError(
                f"no maps of {job.experiment.title} on {job.experiment.names['dataset']} by {job.experiment.names['model']}: {job.folder.path}",
                remedy="`vidattr run` with the same overrides first",
            )
    tables = _tables(jobs)
    resident = Resident(experiments[0])
    for table in tables:
        clips = _survey(table)
        resident = resident.serving(table[0].experiment)
        needed = cast(Metric, table[0].experiment.metric).needs_network and any(job.open() for job in table)
        network = resident.network if needed else None
        if network is not None:
            network.max_batch = (
                resident.experiment.runtime.max_batch
            )  # as asked for, however little an earlier table had room for
        _judge(table, clips, network, quiet)
        for job in table:
            job.narrow()
    return tables


def _survey(jobs: Sequence[ScoreSheet]) -> list[Clip]:
    """Returns the clips of one table, and notes of each job which of its maps and rows are of these clips as they are now.

    A map that is not becomes a line of its job's errors. A baseline that no run stored depends on the frames and the
    explained class alone.
    """
    experiment = jobs[0].experiment
    clips, problems, notes = clips_of(experiment)
    sources = Sources(clips, str(experiment.config.target))
    truths = {clip.id: truth_of(clip) for clip in clips}
    surveys = [sources.survey(job.folder) for job in jobs]
    drawn: dict[str, str] = {}
    for job, survey in reversed(list(zip(jobs, surveys, strict=True))):
        if not job.baseline:
            drawn |= {clip: mark_of(facts, map=False) for clip, facts in survey.good.items()}
        job.doubts = Doubts(job.folder.path, [clip for clip in clips if clip.id in survey.good], notes)
    refused = set[str]().union(*(job.doubts.refused() for job in jobs))
    for job, survey in zip(jobs, surveys, strict=True):
        job.clips, job.failures, job.maps = len(clips), list(problems), survey.good.keys()
        marks = {clip: mark_of(facts) for clip, facts in survey.good.items()}
        if job.baseline:
            marks = drawn | {clip: mark for clip, mark in marks.items() if clip in drawn}
        else:
            job.failures += [Failure.of(clip, "map", why.error) for clip, why in survey.bad.items()]
        gone = () if job.baseline else survey.bad
        job.expect({clip: (mark, truths[clip]) for clip, mark in marks.items()}, {*gone, *refused})
    return clips


def stored_tables(experiments: Sequence[Experiment]) -> list[list[ScoreSheet]]:
    """Returns the finished scores of the experiments, grouped as tables, without judging anything.

    Rows of maps that were computed again since do not hold; where the dataset is at hand, those of other clips than the
    experiment asks for, or of another annotation, are left out too.

    Raises:
        ConfigError: A experiment was never evaluated; the message says how to.
    """
    for out in {str(experiment.config.paths.out) for experiment in experiments}:
        check_out(out)
    jobs = [read_scores(experiment, baseline=baseline) for experiment, baseline in with_baselines(experiments)]
    tables = _tables(jobs)
    for table in tables:
        truths = _truths(table[0].experiment)
        drawn: dict[str, str] = {}
        for job in table:
            _hold(job, drawn, truths)
            if not job.baseline and not len(job.rows):
                found = (
                    f"{len(job.outdated)} scores of maps or annotations that changed since"
                    if job.outdated
                    else "no scores yet"
                )
                raise ConfigError(f"{found}: {job.path}", remedy="`vidattr evaluate` with the same overrides first")
            job.clips = len(job.rows)
    return tables


def _hold(job: ScoreSheet, drawn: dict[str, str], truths: Mapping[str, str] | None) -> None:
    """Leaves those rows of a experiment that are of its maps as they are stored now; what baselines are drawn for goes into `drawn`."""
    facts = {clip: job.folder.facts(clip) or {} for clip in job.judged() if job.folder.map_path(clip).is_file()}
    made_of = {clip: mark_of(one) if "sha256" in one else "" for clip, one in facts.items()}
    marks = {}
    for clip, (mark, truth) in job.said().items():
        if truths is None or clip in truths:
            mark = made_of.get(clip, drawn.get(clip, mark) if job.baseline else mark)
            marks[clip] = (mark, truth if truths is None else truths[clip])
    if not job.baseline:
        drawn |= {clip: mark_of(one, map=False) for clip, one in facts.items() if "sha256" in one and clip not in drawn}
    job.expect(marks)
    job.narrow()


def _truths(experiment: Experiment) -> dict[str, str] | None:
    """Returns what stands for the annotation of each clip that a experiment asks for, or None where the dataset is not at hand."""
    try:
        return {clip.id: truth_of(clip) for clip in clips_of(experiment)[0]}
    except VidattrError:
        return None


def _tables(jobs: Sequence[ScoreSheet]) -> list[list[ScoreSheet]]:
    groups = _by_metric([job.experiment for job in jobs])
    return [[job for job in jobs if any(job.experiment is experiment for experiment in group)] for group in groups]


def _judge(jobs: Sequence[ScoreSheet], clips: Sequence[Clip], network: VideoModel | None, quiet: bool) -> None:
    """Judges the maps of one table's experiments, batch by batch, every batch with all the experiments that lack a row of it."""
    first = jobs[0].experiment
    open_ = {id(job): job.open() for job in jobs}
    wanted = [
        batch
        for batch in split_batches(clips, first.runtime.clips)
        if any(clip.id in open_[id(job)] for job in jobs for clip in batch)
    ]
    title = f"{first.names['metric']} · {first.names['dataset']} · {first.names['model']}"
    set_durable(first.runtime.durable)
    for job in jobs:
        sweep(job.folder.path)
    saved = time.monotonic()
    try:
        with tqdm(total=sum(map(len, wanted)), desc=title, unit="clip", disable=quiet or not wanted) as bar:
            for decoded in read_ahead(wanted, first):
                asked = [job for job in jobs if any(clip.id in open_[id(job)] for clip, _ in decoded)]
                _judge_batch(asked, [job for job in jobs if not job.baseline], decoded, network)
                bar.update(len(decoded))
                if (
                    time.monotonic() - saved > 10
                ):  # a killed evaluation loses seconds, and long tables are not written each batch
                    _save(jobs)
                    saved = time.monotonic()
    finally:
        _save(jobs)


def _save(jobs: Sequence[ScoreSheet]) -> None:
    """Writes what was judged so far, all files of all experiments first and then all their names: a kill leaves all of it or nothing."""
    with ExitStack() as names:
        for job in jobs:
            if len(job.rows) or job.outdated or (job.failures and not job.baseline):
                if not job.folder.exists():
                    job.folder.open(made_by(torch.device("cpu")))
                job.save(names)


def _judge_batch(
    jobs: Sequence[ScoreSheet], runs: Sequence[ScoreSheet], decoded: Sequence[Decoded], network: VideoModel | None
) -> None:
    """Judges one batch and adds a row per experiment and clip; a clip that cannot be judged becomes a line of errors, and has no row."""
    for clip, sample in decoded:
        if not isinstance(sample, Sample):
            _fail(jobs, clip, "read", sample)
    good = [(clip, sample) for clip, sample in decoded if isinstance(sample, Sample)]
    for job in jobs:
        job.doubts.add(good)
    found = {id(job): _load(job, decoded) for job in {id(job): job for job in (*runs, *jobs)}.values()}
    targets = {name: stored.target for job in reversed(runs) for name, stored in found[id(job)].items()}
    placed = [(clip, sample) for clip, sample in decoded if clip.id in targets]
    if not any(isinstance(sample, Sample) for _, sample in placed):
        return
    experiment = jobs[0].experiment
    device = network.device if network is not None else torch.device("cpu")
    clips, samples = [clip for clip, _ in placed], stood_in(placed)
    N, M = len(clips), len(jobs)
    query = Query(
        frames=upload(experiment.model.input, device, samples),
        target=torch.tensor([targets[clip.id] for clip in clips], device=device),
        seeds=tuple(clip_seed(int(experiment.config.seed), clip.id) for clip in clips),
    )
    truth = [
        Truth(clip.id, clip.label, clip.video, sample.boxes, sample.segment)
        for clip, sample in zip(clips, samples, strict=True)
    ]
    maps = torch.stack([_stacked(job, [clip.id for clip in clips], found[id(job)], query) for job in jobs])

    def judge(rows: Sequence[int], experiments: Sequence[int]) -> _Found:
        metric, asked = cast(Metric, experiment.metric), query if rows == range(N) else rows_of(query, rows)
        methods, named = (
            [jobs[m].experiment.method for m in experiments],
            [jobs[m].experiment.names["method"] for m in experiments],
        )
        mine, theirs = [truth[n] for n in rows], maps[list(experiments)][:, list(rows)]
        scores = within_memory(network, lambda: metric(network, asked, mine, theirs, methods))
        return scores, within_memory(
            network, lambda: matched_noise.scores(metric, network, asked, mine, theirs, methods, named)
        )

    def add(m: int, rows: Sequence[int], results: _Found) -> None:
        scores, noise = results
        job = jobs[m]
        known = job.marks if job.baseline else found[id(job)]
        have = [n for n in rows if clips[n].id in known and isinstance(placed[n][1], Sample)]
        if have:
            job.add([(clips[n], samples[n]) for n in have], scores, m, have, noise.get(m, {}))

    done, failed = isolated(N, lambda: judge(range(N), range(M)), lambda n: judge([n] * N, range(M)))
    for rows, results in done:
        for m in range(M):
            add(m, rows, results)
    for n in failed:  # of one method, or of all?
        for m, job in enumerate(jobs):
            try:
                add(m, [n], judge([n] * N, [m] * M))
            except CONCERNS_ALL:
                raise
            except Exception as error:
                _fail([job], clips[n], "judge", error)


def _fail(jobs: Sequence[ScoreSheet], clip: Clip, stage: str, error: Exception) -> None:
    for job in jobs:
        job.failures.append(Failure.of(clip.id, stage, error))


def _load(job: ScoreSheet, decoded: Sequence[Decoded]) -> dict[str, StoredMap]:
    found = {}
    for clip, sample in decoded:
        if clip.id in job.maps:
            try:
                stored = job.folder.load(clip.id)
                if isinstance(sample, Sample) and tuple(stored.map.shape) != sample.pixels.shape[:3]:
                    shapes = f"{tuple(stored.map.shape)} for frames of {sample.pixels.shape[:3]}"
                    raise ClipError(f"its map is {shapes}", remedy="delete it and run again")
                found[clip.id] = stored
            except CONCERNS_ALL:
                raise
            except Exception as error:
                _fail([job], clip, "load", error)
    return found


def _stacked(job: ScoreSheet, clips: Sequence[str], found: Mapping[str, StoredMap], query: Query) -> Tensor:
    """Returns one method's maps of a batch, (N, T, H, W): a clip without one is NaN, a baseline without a run is drawn."""
    if job.baseline and len(found) < len(clips):
        instead = job.experiment.method(cast(VideoModel, None), query).map.cpu()
    else:
        instead = torch.full((len(clips), query.frames.shape[2], *query.frames.shape[3:]), torch.nan)
    return torch.stack(
        [found[clip].map if clip in found else one for clip, one in zip(clips, instead, strict=True)]
    ).to(query.frames.device)
