"""Progress of a command: a bar on a terminal, plain lines elsewhere, and a log file with time stamps."""

from __future__ import annotations

import secrets
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from tqdm import tqdm

from vidattr.progress import listening
from vidattr.run.job import Job
from vidattr.types import Clip

EVERY = 30.0  # seconds between two plain lines
_REDRAW = 0.2  # seconds between two states of a bar
_PROCESS = secrets.token_hex(4)  # process ids are the same on several hosts, and hosts' names in several containers
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"


class Bar:
    """The progress of some clips.

    Args:
        title: What is done.
        total: Number of clips.
        quiet: Whether nothing is printed.
    """

    def __init__(self, title: str, total: int, *, quiet: bool) -> None:
        self.title, self.total, self.finished = title, total, 0
        self._quiet = quiet or not total
        self._begun = self._told = time.monotonic()
        shown = sys.stderr.isatty() and not self._quiet
        # The average speed, since batches that are read from the disk would spoil a moving one.
        self._bar = tqdm(total=total, desc=title, bar_format=_BAR, smoothing=0) if shown else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.n = self.finished
            self._bar.set_postfix_str(f"{self.finished} of {self.total} clips")
            self._bar.close()
        elif not self._quiet and kind is None:
            self._line(f"{self.finished} of {self.total} clips in {_duration(time.monotonic() - self._begun)}")

    def update(self, clips: int) -> None:
        """Tells that so many more clips are finished."""
        self.finished += clips
        self.show(0.0, "")

    def show(self, inside: float, words: str) -> None:
        """Shows how far it is.

        Args:
            inside: Clips of the present batch that are finished, as a fraction of clips.
            words: What is being done in it.
        """
        now = time.monotonic()
        if self._quiet or now - self._told < (EVERY if self._bar is None else _REDRAW):
            return
        self._told = now
        done = min(self.finished + inside, self.total)
        state = ", ".join(filter(None, (f"{self.finished} of {self.total} clips", words)))
        if self._bar is not None:
            self._bar.n = done
            self._bar.set_postfix_str(state)
            return
        left = (now - self._begun) * (self.total - done) / done if done > 0 else 0.0
        self._line(state + (f", about {_duration(left)} left" if left else ""))

    def _line(self, text: str) -> None:
        print(f"{datetime.now().astimezone():%H:%M:%S}  {self.title}: {text}", file=sys.stderr, flush=True)


class RunProgress(Bar):
    """The progress of a run of several methods; what happens is written to `<out>/logs/` too.

    Args:
        jobs: Of one dataset and model.
        batches: The batches to compute.
        quiet: Whether nothing is printed. The log is written in any case.
    """

    def __init__(self, jobs: Sequence[Job], batches: Sequence[Sequence[Clip]], *, quiet: bool) -> None:
        names = jobs[0].experiment.names
        super().__init__(f"{names['dataset']} · {names['model']}", sum(map(len, batches)), quiet=quiet)
        self._jobs, self._failures = jobs, [len(job.failures) for job in jobs]
        name = f"{datetime.now(UTC):%Y-%m-%d}-{socket.gethostname()}-{_PROCESS}.log"
        self._log = Path(jobs[0].experiment.paths.out) / "logs" / name
        if self.total:
            methods = ", ".join(f"{job.experiment.title} in {job.folder.path}" for job in jobs)
            self.log(f"{self.title}: {self.total} clips to compute by {methods}")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        super().__exit__(kind, error, _)
        if self.total:
            self._log_failures()
            self.log(f"{self.title}: {'ended' if kind is None else f'stopped by {kind.__name__}'}")
            for job in self._jobs:
                self.log(f"{job.experiment.title}: {job.written} written, {len(job.failures)} failed")

    def methods(self, groups: Sequence[Sequence[Job]], clips: Sequence[Clip]) -> Iterator[Sequence[Job]]:
        """Yields groups of jobs whose methods run together on a batch, and shows how far each of them is.

        Args:
            groups: The groups.
            clips: The batch.
        """
        costs = [1 + sum(job.experiment.method.passes for job in group) for group in groups]
        before = 0
        for group, cost in zip(groups, costs, strict=True):
            name = ", ".join(job.experiment.title for job in group)

            def listener(share: float, words: str, before: int = before, cost: int = cost, name: str = name) -> None:
                done = len(clips) * (before + share * cost) / sum(costs)
                self.show(done, f"{name}: {words}" if words else name)

            with listening(listener):
                listener(0.0, "")
                yield group
            before += cost
        self._log_failures()

    def took(self, group: Sequence[Job], clips: Sequence[Clip], seconds: float) -> None:
        """Logs how long the maps of a batch took by methods that run together."""
        name = ", ".join(job.experiment.title for job in group)
        self.log(f"{name}: {', '.join(clip.id for clip in clips)}: {seconds:.1f} s")

    def _log_failures(self) -> None:
        """Logs the failures since the last call."""
        for number, job in enumerate(self._jobs):
            for failure in job.failures[self._failures[number] :]:
                clip = failure.clip or "all clips"
                self.log(f"{job.experiment.title}: {clip} failed ({failure.stage}): {failure.error}")
            self._failures[number] = len(job.failures)

    def log(self, text: str) -> None:
        """Appends a line with the time to the log file; one file for each day and process."""
        line = f"{datetime.now().astimezone().isoformat(timespec='seconds')} {' '.join(text.split())}\n"
        with suppress(OSError):  # a log that cannot be written must not stop a run; a map that cannot be does
            self._log.parent.mkdir(parents=True, exist_ok=True)
            with self._log.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(line)


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
