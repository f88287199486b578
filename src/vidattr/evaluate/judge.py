"""Judges the stored maps of one table, batch by batch, and writes a row of scores per clip."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import cast

import torch
from torch import Tensor, nn

from vidattr.errors import CONCERNS_ALL, ClipError, Failure
from vidattr.evaluate.noise import map_scores, noise_scores
from vidattr.evaluate.scores import ScoreSheet
from vidattr.models.network.network import VideoModel
from vidattr.models.speed.memory import within_memory
from vidattr.protocols import ComparesMaps, MapBatch, MapMetric, RerunMetric
from vidattr.run.batches import clip_seed, split_batches
from vidattr.run.company import Decoded, isolated, rows_of, stood_in
from vidattr.run.control import Control
from vidattr.run.job import made_by
from vidattr.run.progress import Bar
from vidattr.run.reading import read_ahead, upload
from vidattr.run.store import StoredMap
from vidattr.types import Clip, Query, Sample, Scores, Truth
from vidattr.writing import set_durable, sweep

SAVE_AFTER = 10  # seconds between two savings: a killed evaluation loses no more than that

_Result = tuple[Scores, Mapping[int, Mapping[str, Tensor]]]  # scores of maps; place of a map to the scores of its noise


def judge(
    sheets: Sequence[ScoreSheet], clips: Sequence[Clip], network: VideoModel | None, quiet: bool, control: Control
) -> None:
    """Computes the missing rows of the score sheets of one table, each batch for all sheets that lack a row of it.

    Args:
        sheets: Of one dataset, model and metric.
        clips: Of the dataset.
        network: None: the metric does not need it.
        quiet: No progress bar.
        control: May stop the work, and is notified of each batch.
    """
    first = sheets[0].experiment
    lacking = {id(sheet): sheet.open() for sheet in sheets}
    if isinstance(first.metric, ComparesMaps):  # a clip that lacks one row is judged again for all
        lacking = dict.fromkeys(lacking, set[str]().union(*lacking.values()))
    batches = [
        batch
        for batch in split_batches(clips, first.runtime.clips)
        if any(clip.id in lacking[id(sheet)] for sheet in sheets for clip in batch)
    ]
    runs = [sheet for sheet in sheets if not sheet.baseline]
    title = f"{first.names['metric']} · {first.names['dataset']} · {first.names['model']}"
    set_durable(first.runtime.durable)
    for sheet in sheets:
        sweep(sheet.folder.path)
    saved = time.monotonic()
    try:
        with Bar(title, sum(map(len, batches)), quiet=quiet) as bar:
            for decoded in read_ahead(batches, first):
                if control.stopped:
                    break
                control.batch_begun([clip.id for clip, _ in decoded])
                before = sum(len(sheet.rows) for sheet in sheets)
                mine = [sheet for sheet in sheets if any(clip.id in lacking[id(sheet)] for clip, _ in decoded)]
                _judge_batch(mine, runs, decoded, network)
                bar.update(len(decoded))
                new = sum(len(sheet.rows) for sheet in sheets) - before
                control.batch_done([clip.id for clip, _ in decoded], new)
                if time.monotonic() - saved > SAVE_AFTER:
                    save(sheets)
                    saved = time.monotonic()
    finally:
        save(sheets)


def save(sheets: Sequence[ScoreSheet]) -> None:
    """Writes all files of all sheets before any of them gets its name, so that a kill leaves all of them or none."""
    with ExitStack() as names:
        for sheet in sheets:
            if len(sheet.rows) or sheet.outdated or (sheet.failures and not sheet.baseline):
                if not sheet.folder.exists():
                    sheet.folder.open(made_by(torch.device("cpu")))
                sheet.save(names)


def _judge_batch(
    sheets: Sequence[ScoreSheet], runs: Sequence[ScoreSheet], decoded: Sequence[Decoded], network: VideoModel | None
) -> None:
    """Adds a row per sheet and clip of one batch; a clip that cannot be judged becomes a failure and has no row.

    Args:
        sheets: Those that lack a row of the batch.
        runs: All sheets of the table whose maps a run stored: their maps tell which class was explained.
        decoded: The batch.
        network: As in `judge`.
    """
    for clip, sample in decoded:
        if not isinstance(sample, Sample):
            _fail(sheets, clip, "read", sample)
    for sheet in sheets:
        sheet.doubts.add((clip, sample) for clip, sample in decoded if isinstance(sample, Sample))
    stored = {id(sheet): _load(sheet, decoded) for sheet in {id(sheet): sheet for sheet in (*runs, *sheets)}.values()}
    targets = {clip: found.target for sheet in reversed(runs) for clip, found in stored[id(sheet)].items()}
    mapped = [(clip, sample) for clip, sample in decoded if clip.id in targets]
    if not any(isinstance(sample, Sample) for _, sample in mapped):
        return
    experiment = sheets[0].experiment
    device = network.device if network is not None else torch.device("cpu")
    clips, samples = [clip for clip, _ in mapped], stood_in(mapped)
    N, M = len(clips), len(sheets)
    query = Query(
        frames=upload(experiment.model.input, device, samples),
        target=torch.tensor([targets[clip.id] for clip in clips], device=device),
        seeds=tuple(clip_seed(experiment.settings.seed, clip.id) for clip in clips),
    )
    maps = torch.stack([_stacked(sheet, [clip.id for clip in clips], stored[id(sheet)], query) for sheet in sheets])
    explains = [sheet.experiment.method.passes > 0 for sheet in sheets]
    batch = MapBatch(maps, query, truths(mapped), network, explains)

    def scores(rows: Sequence[int], places: Sequence[int]) -> _Result:
        """Returns the scores of the maps at some places of the clips in some rows."""
        metric = cast(MapMetric | RerunMetric, experiment.metric)
        part = MapBatch(
            maps[list(places)][:, list(rows)],
            query if rows == range(N) else rows_of(query, rows),
            [batch.truth[n] for n in rows],
            network,
            [explains[m] for m in places],
        )
        methods = [sheets[m].experiment.method for m in places]
        names = [sheets[m].experiment.names["method"] for m in places]
        found = within_memory(network, lambda: map_scores(metric, part, methods))
        return found, within_memory(network, lambda: noise_scores(metric, part, methods, names))

    def add(m: int, rows: Sequence[int], results: _Result) -> None:
        sheet, (found, noise) = sheets[m], results
        known = sheet.marks if sheet.baseline else stored[id(sheet)]
        have = [n for n in rows if clips[n].id in known and isinstance(mapped[n][1], Sample)]
        if have:
            sheet.add([(clips[n], samples[n]) for n in have], found, m, have, noise.get(m, {}))

    done, failed = isolated(N, lambda: scores(range(N), range(M)), lambda n: scores([n] * N, range(M)))
    for rows, results in done:
        for m in range(M):
            add(m, rows, results)
    for n in failed:  # Judges each map by itself, to find out whether the error is that of one map or of all.
        for m, sheet in enumerate(sheets):
            try:
                others = range(M) if isinstance(experiment.metric, ComparesMaps) else [m] * M
                add(m, [n], scores([n] * N, others))
            except CONCERNS_ALL:
                raise
            except Exception as error:
                _fail([sheet], clips[n], "judge", error)


def truths(decoded: Sequence[Decoded]) -> list[Truth]:
    """Returns the annotation of each clip of a batch; an unreadable clip has boxes and segment of another one."""
    pairs = zip(decoded, stood_in(decoded), strict=True)
    return [
        Truth(clip.id, clip.label, clip.video, sample.boxes, sample.segment, sample.evidence, sample.resampled)
        for (clip, _), sample in pairs
    ]


def _fail(sheets: Sequence[ScoreSheet], clip: Clip, stage: str, error: Exception) -> None:
    for sheet in sheets:
        sheet.failures.append(Failure.of(clip.id, stage, error))


def _load(sheet: ScoreSheet, decoded: Sequence[Decoded]) -> dict[str, StoredMap]:
    """Returns the stored maps of a batch; one that cannot be read becomes a failure."""
    stored = {}
    for clip, sample in decoded:
        if clip.id in sheet.maps:
            try:
                found = sheet.folder.load(clip.id)
                if isinstance(sample, Sample) and tuple(found.map.shape) != sample.pixels.shape[:3]:
                    shapes = f"{tuple(found.map.shape)} for frames of {sample.pixels.shape[:3]}"
                    raise ClipError(f"its map is {shapes}", remedy="delete it and run again")
                stored[clip.id] = found
            except CONCERNS_ALL:
                raise
            except Exception as error:
                _fail([sheet], clip, "load", error)
    return stored


def _stacked(sheet: ScoreSheet, clips: Sequence[str], stored: Mapping[str, StoredMap], query: Query) -> Tensor:
    """Returns one method's maps of a batch, (N, T, H, W): NaN for a clip without a map.

    Maps of a baseline that no run stored are computed here; of a network, baselines read the preprocessing only.
    """
    if sheet.baseline and len(stored) < len(clips):
        without_network = VideoModel(nn.Identity(), sheet.experiment.model.input, ())
        instead = sheet.experiment.method(without_network, query).map.cpu()
    else:
        instead = torch.full((len(clips), query.frames.shape[2], *query.frames.shape[3:]), torch.nan)
    maps = [stored[clip].map if clip in stored else other for clip, other in zip(clips, instead, strict=True)]
    return torch.stack(maps).to(query.frames.device)
