"""The maps of a batch: a method computes them, and they are copied to the host while the device goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from torch import Tensor

from vidattr.errors import ClipError, Failure
from vidattr.models.network.network import VideoModel
from vidattr.models.speed.lagging import Download
from vidattr.models.speed.memory import within_memory
from vidattr.protocols import JointMethod
from vidattr.run.batches import PreparedBatch
from vidattr.run.company import isolated
from vidattr.run.experiment import Experiment
from vidattr.run.store import StoredMap
from vidattr.types import Explanation

_MAP = ""  # no extra has this name


@dataclass(frozen=True)
class Computed:
    """The maps of one experiment on a batch, on their way to the host.

    Attributes:
        experiment: The experiment.
        parts: What was explained together, with its map and extras, and whether these are all extras.
        failures: Those of clips that no map was computed for.
    """

    experiment: Experiment
    parts: Sequence[tuple[PreparedBatch, Download, bool]]
    failures: Sequence[Failure]

    def arrived(self) -> tuple[dict[str, StoredMap], list[Failure]]:
        """Waits for the maps, and returns them by clip, and the failures of clips without a map that is finite."""
        maps, failures = dict[str, StoredMap](), list(self.failures)
        for batch, download, complete in self.parts:
            found, unsound = _stored(download.arrived(), batch, self.experiment.names["method"], complete)
            maps |= found
            failures += unsound
        return maps, failures


def explain_batch(network: VideoModel, experiments: Sequence[Experiment], ready: PreparedBatch) -> list[Computed]:
    """Runs the methods of experiments on one batch, and begins to copy their maps and extras to the host.

    Args:
        network: The network.
        experiments: One, or several whose methods have the same `JointMethod.joint_key` and are run together.
        ready: The batch.

    Returns:
        One for each experiment.
    """
    first, *others = methods = [experiment.method for experiment in experiments]

    def explain(batch: PreparedBatch) -> list[tuple[PreparedBatch, Download, bool]]:
        def work() -> list[Explanation]:
            if others:
                return cast(JointMethod, first).explain_many(network, batch.query, methods)
            return [first(network, batch.query)]

        results = []
        for found, experiment in zip(within_memory(network, work), experiments, strict=True):
            extras = found.extras if experiment.runtime.extras else {}
            download = Download({_MAP: found.map.float(), **extras})
            results.append((batch, download, len(extras) == len(found.extras)))
        return results

    found, failed = isolated(len(ready.clips), lambda: explain(ready), lambda k: explain(ready.alone(k)))
    failures = [Failure.of(ready.clips[k].id, "explain", error) for k, error in failed.items()]
    parts = [results for _, results in found]
    return [
        Computed(experiment, [results[k] for results in parts], failures) for k, experiment in enumerate(experiments)
    ]


def _stored(
    found: Mapping[str, Tensor], ready: PreparedBatch, method: str, complete: bool
) -> tuple[dict[str, StoredMap], list[Failure]]:
    maps = found[_MAP]
    bad = {row: int((~maps[row].isfinite()).sum()) for row in ready.rows}
    failures = [
        Failure.of(clip.id, "explain", not_finite(method, bad[row], maps[row].numel()))
        for row, clip in zip(ready.rows, ready.clips, strict=True)
        if bad[row]
    ]
    stored = {
        clip.id: StoredMap(
            map=maps[row],
            numbers=ready.samples[k].numbers,
            target=ready.targets[k],
            name=ready.names[k],
            probability=ready.probability[k],
            top=ready.top[k],
            extras={name: value[row] for name, value in found.items() if name != _MAP},
            source=ready.samples[k].source,
            complete=complete,
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
