"""Cuts work into tasks of about the same length, each with one network and a part of the clips.

Experiments of one network and dataset stay together as long as there are enough batches of clips to go round, since a
clip is then read once for all of them. A part is every n-th batch of `runtime.clips` clips, as with `--shard`: maps are
the same to the bit however they are cut, and finished and slow stretches of clips are spread over all tasks. Methods
that are computed together (`JointMethod`) are never separated.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vidattr.cluster.forecast import cost, judging_cost
from vidattr.cluster.speeds import Speeds
from vidattr.cluster.submission import Piece, Task
from vidattr.protocols import JointMethod, NetworkMetric
from vidattr.run.batches import by_network, clips_of, network_key, split_batches
from vidattr.run.experiment import Experiment
from vidattr.run.job import run_folder
from vidattr.run.sources import Sources
from vidattr.types import Clip

UNKNOWN = 2.0
"""Seconds of a clip that are assumed for the cut where no speed is known."""
SHORTEST = 20.0
"""Seconds that a task should have at least: starting one takes about as long."""


@dataclass(frozen=True)
class _Part:
    piece: Piece
    network: str


def cut(
    run: Sequence[Experiment],
    evaluate: Sequence[Experiment],
    *,
    seconds: float,
    workers: int,
    speeds: Speeds,
) -> tuple[list[Task], dict[str, dict[str, Any]]]:
    """Returns the tasks, and what is known of each experiment by the folder of its run.

    Args:
        run: The experiments of all lists of overrides.
        evaluate: The same of the lists to evaluate.
        seconds: Work in a task, at most, where one batch does not take longer.
        workers: How many tasks can run at the same time: so many are made where there is enough work.
        speeds: What is known of the device.
    """
    known: dict[str, dict[str, Any]] = {}
    pending = list(_pending(run, speeds, known))
    most = _most(seconds, sum(group.seconds for group in pending), workers)
    tasks = _packed([part for group in pending for part in group.parts(most)], most)
    judged = _judging(evaluate, speeds)
    whole = sum(group.seconds for group in judged)
    most = _most(seconds, whole, workers)
    if whole > most:  # a short evaluation is left to the last task
        tasks += _packed([part for group in judged for part in group.parts(most)], most)
    return [Task(number, task) for number, task in enumerate(tasks)], known


def _most(seconds: float, whole: float, workers: int) -> float:
    """Returns how long a task should be, so that all workers have one and none is much too short."""
    return min(seconds, max(whole / workers, min(SHORTEST, seconds)))


def _packed(parts: Sequence[_Part], most: float) -> list[tuple[Piece, ...]]:
    """Puts neighbouring parts with the same network into one task as long as it stays short enough."""
    tasks: list[list[_Part]] = []
    for part in parts:
        last = tasks[-1] if tasks else []
        fits = sum(one.piece.seconds for one in last) + part.piece.seconds <= most
        if last and last[0].network == part.network and fits:
            last.append(part)
        else:
            tasks.append([part])
    return [tuple(part.piece for part in task) for task in tasks]


@dataclass(frozen=True)
class _Group:
    """Experiments that share network and clips.

    Attributes:
        verb: "run" or "evaluate".
        units: Sets of experiments that stay together: their places, folders and seconds of a clip.
        batches: For each batch of clips how many of them are to be gone through.
        network: Stands for the network.
    """

    verb: str
    units: tuple[tuple[tuple[int, ...], tuple[str, ...], float], ...]
    batches: tuple[int, ...]
    network: str
    every: bool

    @property
    def seconds(self) -> float:
        return sum(self.batches) * sum(each for _, _, each in self.units)

    def parts(self, most: float) -> Iterator[_Part]:
        """Yields the parts of at most so many seconds, if a batch of a unit does not take longer."""
        wanted, there = math.ceil(self.seconds / most) or 1, sum(count > 0 for count in self.batches)
        bins = self._bins(math.ceil(wanted / max(1, there)))
        for units in bins:
            places = tuple(sorted(place for unit, _, _ in units for place in unit))
            folders = tuple(dict.fromkeys(folder for _, names, _ in units for folder in names))
            each = sum(seconds for _, _, seconds in units)
            n = min(there, math.ceil(sum(self.batches) * each / most) or 1)
            for i in range(1, n + 1):
                clips = sum(self.batches[i - 1 :: n])
                if clips:
                    whole = len(bins) == 1 and self.every
                    piece = Piece(self.verb, places, (i, n), whole, folders, clips, clips * each)
                    yield _Part(piece, self.network)

    def _bins(self, count: int) -> list[list[tuple[tuple[int, ...], tuple[str, ...], float]]]:
        bins: list[list[tuple[tuple[int, ...], tuple[str, ...], float]]] = [[] for _ in range(count)]
        for unit in sorted(self.units, key=lambda one: -one[2]):
            min(bins, key=lambda one: sum(seconds for _, _, seconds in one)).append(unit)
        return [one for one in bins if one]


def _pending(experiments: Sequence[Experiment], speeds: Speeds, known: dict[str, dict[str, Any]]) -> Iterator[_Group]:
    """Yields the groups that lack maps, and notes what is known of each experiment."""
    places = {id(experiment): place for place, experiment in enumerate(experiments)}
    for group in by_network(experiments):
        clips, _, _ = clips_of(group[0])
        sources = Sources(clips, group[0].settings.target)
        lacking: dict[str, set[str]] = {}
        mine: list[Experiment] = []
        for experiment in group:
            folder = run_folder(experiment)
            name = os.path.abspath(folder.path)
            if name in known:
                continue
            good = sources.survey(folder, extras=experiment.runtime.extras).good
            lacking[name] = {clip.id for clip in clips} - good.keys()
            names = experiment.names
            facts = {"title": experiment.title, "dataset": names["dataset"], "model": names["model"]}
            known[name] = {**facts, "clips": len(clips), "missing": len(lacking[name])}
            mine.append(experiment)
        # What is computed together is computed together again, so that its maps are the same to the bit.
        begun = {_joint(one) for one in mine if lacking[os.path.abspath(run_folder(one).path)]}
        mine = [one for one in mine if _joint(one) in begun]
        if mine:
            missing = set[str]().union(*lacking.values())
            counts = _counts(clips, group[0].runtime.clips, missing)
            units = _units(mine, lambda one: _seconds(cost(one, 1, speeds).seconds))
            named = [(tuple(places[id(one)] for one in unit), _folders(unit), seconds) for unit, seconds in units]
            every = len(mine) == len(group)
            yield _Group("run", tuple(named), counts, network_key(group[0]), every)


def _judging(experiments: Sequence[Experiment], speeds: Speeds) -> list[_Group]:
    """Returns the groups to evaluate: the experiments of one table stay together."""
    places = {id(experiment): place for place, experiment in enumerate(experiments)}
    groups = []
    for group in by_network(experiments):
        clips, _, _ = clips_of(group[0])
        counts = _counts(clips, group[0].runtime.clips, {clip.id for clip in clips})
        metrics: dict[str, list[Experiment]] = {}
        for experiment in group:
            metrics.setdefault(repr(experiment.metric), []).append(experiment)
        for mine in metrics.values():
            judged = mine[:1] if isinstance(mine[0].metric, NetworkMetric) else mine
            each = sum(_seconds(judging_cost(one, 1, speeds).seconds) for one in judged)
            unit = tuple(places[id(one)] for one in mine), _folders(mine), each
            groups.append(_Group("evaluate", (unit,), counts, network_key(group[0]), True))
    return groups


def _seconds(known: float | None) -> float:
    return UNKNOWN if known is None else known


def _counts(clips: Sequence[Clip], size: int, wanted: Collection[str]) -> tuple[int, ...]:
    """Returns how many clips of each batch are wanted."""
    return tuple(sum(clip.id in wanted for clip in batch) for batch in split_batches(clips, size))


def _folders(experiments: Sequence[Experiment]) -> tuple[str, ...]:
    return tuple(os.path.abspath(run_folder(one).path) for one in experiments)


def _joint(experiment: Experiment) -> object:
    """Returns what the experiments that are computed together have in common."""
    method = experiment.method
    return method.joint_key if isinstance(method, JointMethod) else id(experiment)


def _units(
    experiments: Sequence[Experiment], seconds: Callable[[Experiment], float]
) -> list[tuple[list[Experiment], float]]:
    """Returns the sets of experiments that have to be computed together, and the seconds of a clip of each."""
    sets: dict[object, list[Experiment]] = {}
    for experiment in experiments:
        sets.setdefault(_joint(experiment), []).append(experiment)
    return [(mine, sum(map(seconds, mine))) for mine in sets.values()]
