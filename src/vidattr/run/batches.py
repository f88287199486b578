"""Batches: which clips are computed together, and the query that a method gets for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from vidattr.config.identity import describe, described_once, key
from vidattr.errors import ClipError, ConfigError, Failure
from vidattr.models.network.finite import complaint
from vidattr.models.network.network import VideoModel
from vidattr.models.speed.lagging import Download, Upload, onto
from vidattr.models.speed.memory import within_memory
from vidattr.run.company import Decoded, isolated, rows_of, stood_in
from vidattr.run.experiment import Experiment
from vidattr.run.reading import upload
from vidattr.run.selection import selected
from vidattr.run.targets import target_of
from vidattr.seeds import seed_for
from vidattr.types import Clip, Query, Sample


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


def split_batches(clips: Sequence[Clip], size: int) -> list[list[Clip]]:
    """Splits the list of clips into the batches in which they are always computed."""
    return [list(clips[start : start + size]) for start in range(0, len(clips), size)]


@dataclass(frozen=True)
class PreparedBatch:
    """A batch on the device, with the network's output for it.

    Attributes:
        clips: The n clips to explain.
        rows: The row of the query that holds each of them; the other rows only keep the batch at its size.
        samples: The n decoded clips.
        query: The batch.
        targets: Indices of the n explained classes, on the host.
        names: Their names.
        probability: Their probabilities.
        top: For each of the n clips the five most probable classes and their probabilities.
    """

    clips: Sequence[Clip]
    rows: Sequence[int]
    samples: Sequence[Sample]
    query: Query
    targets: Sequence[int]
    names: Sequence[str]
    probability: Sequence[float]
    top: Sequence[tuple[tuple[str, float], ...]]

    def alone(self, k: int) -> PreparedBatch:
        """Returns the batch with the k-th clip in every row."""
        one = slice(k, k + 1)
        query = rows_of(self.query, [self.rows[k]] * len(self.query.seeds))
        clips, rows, samples = self.clips[one], self.rows[one], self.samples[one]
        answers = self.targets[one], self.names[one], self.probability[one], self.top[one]
        return PreparedBatch(clips, rows, samples, query, *answers)


def prepare(
    network: VideoModel, decoded: Sequence[Decoded], experiment: Experiment, pixels: Upload | None = None
) -> tuple[PreparedBatch | None, list[Failure]]:
    """Returns the query of a decoded batch, and the failures of readable clips.

    A readable clip fails if the network fails for it, or if its class cannot be resolved. The batch is None if no clip
    is left.

    Args:
        network: The network.
        decoded: The batch.
        experiment: Any of those that the batch is explained for.
        pixels: Those of the batch, on the device; None: they are copied there now.
    """

    def seen(batch: Sequence[Decoded], pixels: Upload | None = None) -> tuple[Tensor, Tensor]:
        def work() -> tuple[Tensor, Tensor]:
            if pixels is None:
                frames = upload(network.view, network.device, stood_in(batch))
            else:
                frames = network.view.normalise(pixels.arrived())
            # The one wait of a batch: which class is explained depends on the answer.
            return frames, Download({"shares": network.probabilities(frames)}).arrived()["shares"]

        return within_memory(network, work)

    readable = [row for row, (_, sample) in enumerate(decoded) if isinstance(sample, Sample)]
    if not readable:
        return None, []
    found, failed = isolated(
        len(readable), lambda: seen(decoded, pixels), lambda k: seen([decoded[readable[k]]] * len(decoded))
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
            frames=frames if len(keep) == len(decoded) else frames.index_select(0, onto(network.device, keep)),
            target=onto(network.device, targets),
            seeds=tuple(clip_seed(experiment.settings.seed, decoded[row][0].id) for row in keep),
        ),
        targets=[targets[n] for n in rows],
        names=[network.classes[targets[n]] for n in rows],
        probability=[float(shares[keep[n], targets[n]]) for n in rows],
        top=[
            tuple((network.classes[k], float(p)) for k, p in zip(ks, ps, strict=True))
            for ks, ps in zip(highest.indices.tolist(), highest.values.tolist(), strict=True)
        ],
    )
    return ready, failures
