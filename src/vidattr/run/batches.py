"""Batches: clips are decoded ahead in the background, copied to the device once and explained; maps are copied back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import Tensor

from vidattr.config.identity import describe, described_once, key
from vidattr.errors import ClipError, ConfigError, Failure
from vidattr.models.network.finite import complaint
from vidattr.models.network.network import VideoModel
from vidattr.models.speed.lagging import onto
from vidattr.models.speed.memory import submitted, within_memory
from vidattr.protocols import JointMethod
from vidattr.run.company import Decoded, isolated, rows_of, stood_in
from vidattr.run.experiment import Experiment
from vidattr.run.selection import selected
from vidattr.run.sources import Source
from vidattr.run.store import StoredMap
from vidattr.run.targets import target_of
from vidattr.seeds import seed_for
from vidattr.types import Clip, Explanation, Query, Sample
from vidattr.video.decode import read as read_video
from vidattr.video.preprocessing import Preprocessing


def clip_seed(seed: int, clip: str) -> int:
    """Returns the seed of one clip: it depends on the run's seed and the clip's id, and on nothing else."""
    return seed_for(seed, clip)


def by_network(experiments: Sequence[Experiment]) -> Iterator[list[Experiment]]:
    """Groups experiments that share network, clips and settings; groups with the same network follow each other."""
    groups: dict[tuple[str, ...], list[Experiment]] = {}
    first: dict[str, int] = {}  # network to its place
    with described_once():
        for experiment in experiments:
            network = network_key(experiment)
            parts = (experiment.dataset, experiment.settings, experiment.runtime, experiment.render, experiment.paths)
            shared = (network, key(describe(experiment.dataset)), *map(repr, parts))
            groups.setdefault(shared, []).append(experiment)
            first.setdefault(network, len(first))
    yield from (group for _, group in sorted(groups.items(), key=lambda item: first[item[0][0]]))


def network_key(experiment: Experiment) -> str:
    """Returns a key that is equal for experiments that can share a network in memory."""
    return key(
        {
            **describe(experiment.model),
            "precision": experiment.runtime.precision.value,
            "compile": experiment.runtime.compile,
            "backend": experiment.runtime.backend.value,
        }
    )


def clips_of(
    experiment: Experiment, shard: tuple[int, int] = (1, 1)
) -> tuple[list[Clip], list[Failure], Sequence[str]]:
    """Returns the clips of an experiment, its dataset's problems as failures, and the dataset's notes.

    A shard (i, n) is every n-th batch of `runtime.clips` clips, starting with the i-th, so that the other clips of a
    clip's batch are the same in every shard.
    """
    index = experiment.dataset.index()
    clips = selected(index.clips, experiment.settings)
    if not clips and not index.problems:
        raise ConfigError(
            f"dataset={experiment.names['dataset']} has no clip", remedy="see dataset.root, dataset.classes and limit"
        )
    problems = [Failure.of(p.clip, "index", ClipError(p.message, remedy=p.remedy)) for p in index.problems]
    mine = split_batches(clips, experiment.runtime.clips)[shard[0] - 1 :: shard[1]]
    return (
        [clip for stretch in mine for clip in stretch],
        problems if shard[0] == 1 else [],
        (*experiment.notes, *index.notes) if shard[0] == 1 else (),
    )


def read_ahead(batches: Iterable[Sequence[Clip]], experiment: Experiment) -> Iterator[list[Decoded]]:
    """Yields each batch decoded, in order, while background threads decode the next two."""

    def read(clip: Clip) -> Decoded:
        try:
            source = Source(clip, experiment.settings.target).look()
            sample = read_video(clip, experiment.model.input)
            return clip, replace(sample, source=source.facts(sample.numbers))
        except Exception as error:  # any error of a decoder concerns this clip only
            return clip, error

    with ThreadPoolExecutor(experiment.runtime.threads(), thread_name_prefix="decode") as pool:
        waiting: list[list[Future[Decoded]]] = []
        try:
            for batch in batches:
                waiting.append([submitted(pool, partial(read, clip)) for clip in batch])
                if len(waiting) > 2:
                    yield [future.result() for future in waiting.pop(0)]
            while waiting:
                yield [future.result() for future in waiting.pop(0)]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def split_batches(clips: Sequence[Clip], size: int) -> list[list[Clip]]:
    """Splits the list of clips into the batches in which they are always computed."""
    return [list(clips[start : start + size]) for start in range(0, len(clips), size)]


def upload(view: Preprocessing, device: torch.device, samples: Sequence[Sample]) -> Tensor:
    """Copies the uint8 pixels of a batch to the device and converts them to the network's input there.

    A GPU copies from pinned memory, so that the host goes on meanwhile.
    """
    pixels = torch.from_numpy(np.stack([sample.pixels for sample in samples]))
    return view.normalise(onto(device, pixels))


@dataclass(frozen=True)
class PreparedBatch:
    """A batch on the device, with the network's output for it.

    Attributes:
        clips: The n clips to explain.
        rows: The row of the query that holds each of them; the other rows only keep the batch at its size.
        samples: The n decoded clips.
        query: The batch.
        names: Names of the n explained classes.
        probability: Their probabilities.
        top: For each of the n clips the five most probable classes and their probabilities.
    """

    clips: Sequence[Clip]
    rows: Sequence[int]
    samples: Sequence[Sample]
    query: Query
    names: Sequence[str]
    probability: Sequence[float]
    top: Sequence[tuple[tuple[str, float], ...]]

    def alone(self, k: int) -> PreparedBatch:
        """Returns the batch with the k-th clip in every row."""
        one = slice(k, k + 1)
        query = rows_of(self.query, [self.rows[k]] * len(self.query.seeds))
        clips, rows, samples = self.clips[one], self.rows[one], self.samples[one]
        return PreparedBatch(clips, rows, samples, query, self.names[one], self.probability[one], self.top[one])


def prepare(
    network: VideoModel, decoded: Sequence[Decoded], experiment: Experiment
) -> tuple[PreparedBatch | None, list[Failure]]:
    """Returns the query of a decoded batch, and the failures of readable clips.

    A readable clip fails if the network fails for it, or if its class cannot be resolved. The batch is None if no clip
    is left.
    """

    def seen(batch: Sequence[Decoded]) -> tuple[Tensor, Tensor]:
        def work() -> tuple[Tensor, Tensor]:
            frames = upload(network.view, network.device, stood_in(batch))
            return frames, network.probabilities(frames).cpu()

        return within_memory(network, work)

    readable = [row for row, (_, sample) in enumerate(decoded) if isinstance(sample, Sample)]
    if not readable:
        return None, []
    found, failed = isolated(
        len(readable), lambda: seen(decoded), lambda k: seen([decoded[readable[k]]] * len(decoded))
    )
    failures = [Failure.of(decoded[readable[k]][0].id, "prepare", error) for k, error in failed.items()]
    if not found:
        return None, failures
    # If the batch raised an exception, this is the result of the first good clip, which is in every row.
    frames, shares = found[0][1]
    for places, (own, share) in found[1:]:
        for row in (readable[k] for k in places):
            frames[row], shares[row] = own[row], share[row]
    keep, targets = [], []
    for row, (clip, _) in enumerate(decoded):
        if not shares[row].isfinite().all():
            if row in readable and clip.id not in {failure.clip for failure in failures}:
                error = within_memory(network, partial(complaint, network, frames[row : row + 1]))
                failures.append(Failure.of(clip.id, "network", error))
            continue
        try:
            likeliest = shares[row].topk(min(2, shares.shape[1])).indices.tolist()
            targets.append(target_of(network, experiment.settings.target, clip, likeliest))
            keep.append(row)
        except ClipError as error:
            if row in readable:
                failures.append(Failure.of(clip.id, "target", error))
    named = {failure.clip for failure in failures}
    rows = [n for n, row in enumerate(keep) if row in readable and decoded[row][0].id not in named]
    if not rows:
        return None, failures
    samples = stood_in(decoded)
    mine = [keep[n] for n in rows]
    highest = shares[mine].topk(min(5, shares.shape[1]), dim=1)
    ready = PreparedBatch(
        clips=[decoded[row][0] for row in mine],
        rows=rows,
        samples=[samples[row] for row in mine],
        query=Query(
            frames=frames if len(keep) == len(decoded) else frames[keep],
            target=torch.tensor(targets, device=network.device),
            seeds=tuple(clip_seed(experiment.settings.seed, decoded[row][0].id) for row in keep),
        ),
        names=[network.classes[targets[n]] for n in rows],
        probability=[float(shares[keep[n], targets[n]]) for n in rows],
        top=[
            tuple((network.classes[k], float(p)) for k, p in zip(ks, ps, strict=True))
            for ks, ps in zip(highest.indices.tolist(), highest.values.tolist(), strict=True)
        ],
    )
    return ready, failures


def explain_batch(
    network: VideoModel, experiments: Sequence[Experiment], ready: PreparedBatch
) -> list[tuple[dict[str, StoredMap], list[Failure]]]:
    """Runs the methods of experiments on one batch, and copies their maps and extras to the CPU once.

    Args:
        network: The network.
        experiments: One, or several whose methods have the same `JointMethod.joint_key` and are run together.
        ready: The batch.

    Returns:
        For each experiment the maps by clip, and the failures of clips that have no map or one that is not finite.
    """
    first, *others = methods = [experiment.method for experiment in experiments]

    def explain(batch: PreparedBatch) -> list[tuple[dict[str, StoredMap], list[Failure]]]:
        def work() -> list[Explanation]:
            if others:
                return cast(JointMethod, first).explain_many(network, batch.query, methods)
            return [first(network, batch.query)]

        explanations = within_memory(network, work)
        return [_stored(found, batch, experiment) for found, experiment in zip(explanations, experiments, strict=True)]

    found, failed = isolated(len(ready.clips), lambda: explain(ready), lambda k: explain(ready.alone(k)))
    maps: list[tuple[dict[str, StoredMap], list[Failure]]]
    maps = [({}, [Failure.of(ready.clips[k].id, "explain", error) for k, error in failed.items()]) for _ in experiments]
    for _, results in found:
        for (mine, failures), (result, unsound) in zip(maps, results, strict=True):
            mine |= result
            failures += unsound
    return maps


def _stored(
    found: Explanation, ready: PreparedBatch, experiment: Experiment
) -> tuple[dict[str, StoredMap], list[Failure]]:
    maps, keep_extras = found.map.float().cpu(), experiment.runtime.extras
    bad = {row: int((~maps[row].isfinite()).sum()) for row in ready.rows}
    failures = [
        Failure.of(clip.id, "explain", not_finite(experiment.names["method"], bad[row], maps[row].numel()))
        for row, clip in zip(ready.rows, ready.clips, strict=True)
        if bad[row]
    ]
    extras = {name: value.cpu() for name, value in found.extras.items()} if keep_extras else {}
    targets = ready.query.target.tolist()
    stored = {
        clip.id: StoredMap(
            map=maps[row],
            numbers=ready.samples[k].numbers,
            target=targets[row],
            name=ready.names[k],
            probability=ready.probability[k],
            top=ready.top[k],
            extras={name: value[row] for name, value in extras.items()},
            source=ready.samples[k].source,
            complete=keep_extras or not found.extras,
            seconds=ready.samples[k].seconds,
            origin=ready.samples[k].origin,
        )
        for k, (row, clip) in enumerate(zip(ready.rows, ready.clips, strict=True))
        if not bad[row]
    }
    return stored, failures


def not_finite(method: str, count: int, of: int) -> ClipError:
    """Returns the error for a clip whose map is not finite though the network's output is."""
    return ClipError(
        f"the map of {method} is not finite: {count} of {of} values",
        expected="numbers, as the network's answer to the clip is",
        remedy="another method or method.score; look in the network for a root, a norm or a quotient whose derivative "
        "has no limit at 0",
    )
