"""Maps are stored and pictures drawn in threads, while the network explains the next batch.

One thread stores maps, in the order in which they were computed; several draw. What belongs to one method and batch is
stored by one task, which an interruption lets finish or never begin.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

from vidattr.errors import CONCERNS_ALL, Failure
from vidattr.models.speed.memory import submitted
from vidattr.run import gallery
from vidattr.run.control import Control
from vidattr.run.job import Job
from vidattr.run.maps import Computed
from vidattr.run.progress import RunProgress
from vidattr.run.store import StoredMap
from vidattr.types import Clip, Sample

BEHIND = 1
"""Batches whose maps may still have to be stored when a batch has been explained; beyond them the network waits."""

Failed = list[tuple[Job, Failure]]


class Storing:
    """Stores the maps of a run and has their pictures drawn; a context manager.

    Args:
        jobs: Of one dataset and model.
        sheets: Folder of the sheets that compare them; None: none is drawn.
        overwrite: Whether pictures that are there are drawn again.
        control: Is told of each batch whose maps are stored.
        bar: Logs how long the maps of each method took.
    """

    def __init__(
        self, jobs: Sequence[Job], sheets: Path | None, *, overwrite: bool, control: Control, bar: RunProgress
    ) -> None:
        self._jobs, self._sheets, self._overwrite, self._control, self._bar = jobs, sheets, overwrite, control, bar
        self._threads = jobs[0].experiment.runtime.threads()
        self._store = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._draw = ThreadPoolExecutor(self._threads, thread_name_prefix="draw")
        self._tasks: list[Future[Failed]] = []  # of the batch in work
        self._batches: deque[list[Future[Failed]]] = deque()
        self._drawings: deque[Future[Failed]] = deque()
        self._found: dict[int, dict[str, StoredMap]] = {}  # of the batch in work, by job
        self._broken = False  # nothing may be stored after an error that concerns all clips
        self._told = 0  # maps that `control` was told of

    def __enter__(self) -> Storing:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for pool in (self._store, self._draw):  # in this order: the first submits to the second
            pool.shutdown(wait=True, cancel_futures=kind is not None)

    def keep(
        self, alike: Sequence[Job], computed: Sequence[tuple[Job, Computed]], good: Sequence[Clip], seconds: float
    ) -> None:
        """Stores the maps of a batch by jobs that are run together, and reads those that were stored before.

        Args:
            alike: The jobs.
            computed: Those that were computed, and their maps, on their way to the host.
            good: The clips of the batch that could be read.
            seconds: How long the host was busy with computing them.
        """
        found = {id(job): dict[str, StoredMap]() for job in alike}
        self._found |= found

        def work() -> Failed:
            failed: Failed = []
            begun = time.monotonic()
            for job, maps in computed:
                own, failures = maps.arrived()
                found[id(job)].update(own)
                failed += [(job, failure) for failure in failures if failure.clip in job.missing]
            self._bar.took(alike, good, seconds + time.monotonic() - begun)
            for clip in good:
                for job in alike:
                    failed += _keep(job, clip, found[id(job)])
            return failed

        self._submit(work)

    def end(self, names: Sequence[str], good: Sequence[tuple[Clip, Sample]]) -> None:
        """Ends a batch: its pictures are drawn once all of its maps are stored.

        Waits until at most `BEHIND` batches are to be stored and few pictures to be drawn, and records failures.

        Args:
            names: The ids of its clips.
            good: Those that could be read.
        """
        found, self._found = self._found, {}

        def work() -> Failed:
            for clip, sample in good:
                stored = [(job, found[id(job)][clip.id]) for job in self._jobs if clip.id in found.get(id(job), {})]
                draw = partial(gallery.draw, stored, clip, sample, self._sheets, self._overwrite)
                self._drawings.append(submitted(self._draw, draw))
            written = sum(job.written for job in self._jobs)
            new, self._told = written - self._told, written
            self._control.batch_done(names, new)
            return []

        self._submit(work)
        self._batches.append(self._tasks)
        self._tasks = []
        self.settle(BEHIND)

    def settle(self, batches: int = 0) -> None:
        """Waits until at most so many batches are to be stored, and records the failures of the others in their order.

        Raises:
            OutputError: A file cannot be written.
        """
        while len(self._batches) > batches:
            for task in self._batches.popleft():
                _record(task)
        while len(self._drawings) > (self._threads if batches else 0):
            _record(self._drawings.popleft())

    def _submit(self, work: Callable[[], Failed]) -> None:
        def unless_broken() -> Failed:
            if self._broken:
                return []
            try:
                return work()
            except BaseException:
                self._broken = True
                raise

        self._tasks.append(submitted(self._store, unless_broken))


def _record(task: Future[Failed]) -> None:
    for job, failure in task.result():
        job.add(failure)


def _keep(job: Job, clip: Clip, maps: dict[str, StoredMap]) -> Failed:
    """Stores the map of one clip if it is new, and reads it if it was stored before."""
    name = clip.id
    try:
        if name in maps and name in job.missing:
            gallery.discard(job, clip, maps[name])
            job.folder.save(name, maps[name])
            job.stale.discard(name)
            job.missing.remove(name)
            job.written += 1
        elif name not in job.stale and job.folder.map_path(name).is_file():
            maps[name] = job.folder.load(name, extras=True)
    except CONCERNS_ALL:
        raise
    except Exception as error:
        maps.pop(name, None)
        return [(job, Failure.of(name, "store", error))]
    return []
