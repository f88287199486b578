"""A submission on disk: what was submitted, how it was cut into tasks, and how far each task is.

<paths.out>/jobs/<date>-<token>/
submission.json       the work, the launcher and the tasks; written before anything starts
jobs.json             ids of the jobs of Slurm, or what runs the local processes
tasks/<n>.json        state of task n; only task n writes it
logs/                 what each task printed, and a line for each batch that it began and ended
table.txt             what the last command printed

Nothing here depends on locks, process ids, or the times of other machines' files.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from vidattr.cluster.work import Work
from vidattr.errors import ConfigError
from vidattr.writing import write_text

LAST = -1
"""The number of the task that evaluates and prints the table."""


@dataclass(frozen=True)
class Piece:
    """Some experiments on some batches of their clips.

    Attributes:
        verb: "run" or "evaluate".
        experiments: Which experiments, by their places among those of all lists of overrides of the verb.
        shard: (i, n): which of their batches.
        whole: Whether these are all experiments of their dataset and network, so that sheets compare them.
        folders: The folders of their runs.
        clips: Number of clips that lack a map of any of them, or, of `evaluate`, of all clips.
        seconds: The forecast.
    """

    verb: str
    experiments: tuple[int, ...]
    shard: tuple[int, int]
    whole: bool
    folders: tuple[str, ...]
    clips: int
    seconds: float


@dataclass(frozen=True)
class Task:
    """What one job does, with one network in memory.

    Attributes:
        number: Its number in the submission.
        pieces: What it computes, in this order.
    """

    number: int
    pieces: tuple[Piece, ...]

    @property
    def verb(self) -> str:
        """What it does: "run" or "evaluate"."""
        return self.pieces[0].verb

    @property
    def clips(self) -> int:
        """Number of clips to go through; a clip counts once for each piece."""
        return sum(piece.clips for piece in self.pieces)

    @property
    def seconds(self) -> float:
        """The forecast."""
        return sum(piece.seconds for piece in self.pieces)


@dataclass
class TaskState:
    """How far a task is, as the task itself says.

    Attributes:
        phase: waiting, running, stopped (by a signal), failed or done.
        attempt: How often it was started.
        barren: How many attempts in a row ended a batch in none.
        job: Id of the job, or of the local process.
        host: Where it runs.
        log: What it prints.
        beat: Counts up while it is alive.
        updated: When the task wrote this, by its own clock.
        clips: Clips that this attempt went through.
        maps: Maps that this attempt stored.
        seconds: Seconds of this attempt since its first batch began.
        error: Why it failed.
    """

    phase: str = "waiting"
    attempt: int = 0
    barren: int = 0
    job: str = ""
    host: str = ""
    log: str = ""
    beat: int = 0
    updated: str = ""
    clips: int = 0
    maps: int = 0
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class Submission:
    """What was submitted.

    Attributes:
        path: Its folder, absolute.
        work: The work.
        kind: "local" or "slurm".
        launcher: Name of the launcher's config and its options.
        tasks: The tasks of `run`, then those of `evaluate`.
        cwd: The folder in which the command was given; the jobs run there.
        experiments: Run folder to title, dataset, model, number of clips, and number of clips without a map.
    """

    path: Path
    work: Work
    kind: str
    launcher: Mapping[str, Any]
    tasks: tuple[Task, ...]
    cwd: str
    experiments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.path.name

    @cached_property
    def folders(self) -> frozenset[str]:
        """The run folders that its tasks write to."""
        return frozenset(folder for task in self.tasks for piece in task.pieces for folder in piece.folders)

    def writer(self, number: int) -> str:
        """Returns the name under which a task writes temporary files."""
        return f"{self.name}/{number}"

    def write(self) -> None:
        """Writes `submission.json`."""
        found = {
            "work": self.work.plain(),
            "kind": self.kind,
            "launcher": dict(self.launcher),
            "tasks": [[asdict(piece) for piece in task.pieces] for task in self.tasks],
            "cwd": self.cwd,
            "experiments": {name: dict(facts) for name, facts in self.experiments.items()},
        }
        write_text(self.path / "submission.json", json.dumps(found, indent=1) + "\n")

    def state(self, number: int) -> TaskState:
        """Returns the state of a task; one whose file is missing or cannot be read has not started."""
        try:
            found = json.loads((self.path / "tasks" / f"{number}.json").read_text("utf-8"))
            return TaskState(**{name: type(getattr(TaskState(), name))(value) for name, value in found.items()})
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return TaskState()

    def write_state(self, number: int, state: TaskState) -> None:
        """Writes the state of a task; only the task itself may."""
        write_text(self.path / "tasks" / f"{number}.json", json.dumps(asdict(state)) + "\n")

    def jobs(self) -> dict[str, str]:
        """Returns the ids of the jobs: "run", "evaluate", "last"; of local processes "local", the host."""
        try:
            found = json.loads((self.path / "jobs.json").read_text("utf-8"))
            return {str(name): str(value) for name, value in found.items()}
        except (OSError, ValueError, AttributeError, RecursionError):
            return {}

    def write_jobs(self, jobs: Mapping[str, str]) -> None:
        """Writes the ids of the jobs."""
        write_text(self.path / "jobs.json", json.dumps(dict(jobs)) + "\n")

    def ended(self) -> bool:
        """Returns whether its tasks say that nothing is left to do."""
        last = self.state(LAST).phase
        return last in ("done", "failed") or (
            last == "waiting" and not self.has_last and all(self.state(t.number).phase == "done" for t in self.tasks)
        )

    @property
    def has_last(self) -> bool:
        """Whether a last job evaluates, or completes the pictures of experiments that several tasks computed."""
        return bool(self.work.evaluate or self.work.last) or any(
            not piece.whole for task in self.tasks for piece in task.pieces
        )


def new(out: Path) -> Path:
    """Returns the folder of a new submission below `paths.out`."""
    return out.absolute() / "jobs" / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def read(path: Path) -> Submission:
    """Reads a submission.

    Raises:
        ConfigError: There is none, or its file is damaged.
    """
    try:
        found = json.loads((path / "submission.json").read_text("utf-8"))
        tasks = tuple(Task(n, tuple(map(_piece, pieces))) for n, pieces in enumerate(found["tasks"]))
        return Submission(
            path.absolute(),
            Work.of(found["work"]),
            str(found["kind"]),
            dict(found["launcher"]),
            tasks,
            str(found["cwd"]),
            {str(name): dict(facts) for name, facts in found["experiments"].items()},
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(
            f"{path} holds no submission that can be read: {error}", remedy="remove the folder, and submit again"
        ) from error


def _piece(found: Mapping[str, Any]) -> Piece:
    first, of = found["shard"]
    return Piece(
        str(found["verb"]),
        tuple(map(int, found["experiments"])),
        (int(first), int(of)),
        bool(found["whole"]),
        tuple(map(str, found["folders"])),
        int(found["clips"]),
        float(found["seconds"]),
    )


def stored(out: Path) -> list[Submission]:
    """Returns all submissions below `paths.out`, oldest first; damaged ones are left out."""
    found = []
    for path in sorted((out.absolute() / "jobs").glob("*/submission.json")):
        try:
            found.append(read(path.parent))
        except ConfigError:
            continue
    return found


def relative(folders: Sequence[Path]) -> tuple[str, ...]:
    """Returns the names by which a submission calls run folders: absolute paths."""
    return tuple(os.path.abspath(folder) for folder in folders)
