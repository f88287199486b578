"""The state of experiments and tasks as `vidattr status` reports it, as a table or as plain values."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from vidattr.cluster.forecast import duration
from vidattr.cluster.submission import LAST

ACTIVE = ("waiting", "queued", "running")
"""The phases of a task that has not ended."""


@dataclass
class TaskStatus:
    """How far a task is.

    Attributes:
        number: Its number; -1: evaluation and table.
        phase: waiting, queued, running, stopped, killed, failed or done.
        clips: Clips that its present or last attempt went through.
        of: Clips that it had to go through when it was submitted.
        job: Id of its job, or its process.
        host: Where it runs, or ran.
        log: What it prints.
        updated: Its last sign of life, by its own clock.
        seconds_per_clip: Measured by this attempt; None: no batch has ended.
        error: Why it failed.
    """

    number: int
    phase: str
    clips: int
    of: int
    job: str
    host: str
    log: str
    updated: str
    seconds_per_clip: float | None
    error: str


@dataclass
class ExperimentStatus:
    """How far an experiment is.

    Attributes:
        experiment: Its title.
        dataset: Its dataset.
        model: Its network.
        folder: The folder of its run.
        clips: Number of its clips; None: the dataset is not at hand and it was never submitted.
        done: Clips with a map.
        failed: Clips without a map for which an error is stored.
        missing: The other clips; None: as `clips`.
        errors: The commonest errors: count, error, what to do.
        running: Numbers of the running tasks, by submission.
        seconds_per_clip: Of the tasks that compute it, all their experiments together; None: none has ended a batch.
        eta: Seconds until the tasks that compute it end; None: none runs or waits.
    """

    experiment: str
    dataset: str
    model: str
    folder: str
    clips: int | None
    done: int
    failed: int
    missing: int | None
    errors: list[dict[str, Any]] = field(default_factory=list)
    running: dict[str, list[int]] = field(default_factory=dict)
    seconds_per_clip: float | None = None
    eta: float | None = None


@dataclass
class Report:
    """The state of experiments, and of the submissions that compute them."""

    experiments: list[ExperimentStatus]
    tasks: dict[str, list[TaskStatus]]
    jobs: dict[str, dict[str, str]]

    def plain(self) -> dict[str, Any]:
        """Returns the report as plain values."""
        tasks = {name: [asdict(task) for task in mine] for name, mine in self.tasks.items()}
        return {"experiments": [asdict(one) for one in self.experiments], "jobs": self.jobs, "tasks": tasks}

    def ended(self) -> bool:
        """Returns whether no task runs or waits."""
        return not any(task.phase in ACTIVE for mine in self.tasks.values() for task in mine)

    def sound(self) -> bool:
        """Returns whether no clip failed, and no task of the latest submissions was killed or failed."""
        lost = any(task.phase in ("killed", "failed") for mine in self.tasks.values() for task in mine)
        incomplete = any(one.missing for one in self.experiments)
        return not (lost and incomplete) and not any(one.failed for one in self.experiments)

    def text(self) -> str:
        """Returns the report as a table and lines for people."""
        heads = ("experiment", "dataset", "model", "clips", "done", "missing", "failed", "s/clip", "ETA", "running")
        table = [list(heads)]
        for one in self.experiments:
            each = "" if one.seconds_per_clip is None else f"{one.seconds_per_clip:.3g}"
            counts = ["?" if n is None else str(n) for n in (one.clips, one.done, one.missing, one.failed)]
            count = sum(map(len, one.running.values()))
            where = f"{count} task{'s' if count > 1 else ''}" if count else ""
            eta = duration(one.eta) if one.eta is not None else ""
            table.append([one.experiment, one.dataset, one.model, *counts, each, eta, where])
        widths = [max(len(line[i]) for line in table) for i in range(len(heads))]
        lines = ["  ".join(word.ljust(w) for word, w in zip(row, widths, strict=True)).rstrip() for row in table]
        for one in self.experiments:
            for error in one.errors:
                remedy = f" ({error['to_do']})" if error["to_do"] else ""
                lines.append(f"{one.experiment}: {error['count']} × {error['error']}{remedy}")
        for name, mine in self.tasks.items():
            phases = Counter(task.phase for task in mine)
            jobs = ", ".join(f"{stage} {job}" for stage, job in self.jobs[name].items())
            lines.append(f"{name} ({jobs}): {', '.join(f'{count} {phase}' for phase, count in phases.items())}")
            for task in mine:
                if task.phase in ("running", "stopped", "killed", "failed"):
                    what = "evaluation and table" if task.number == LAST else f"task {task.number}"
                    where = f"{task.job} on {task.host}, {task.clips} of {task.of} clips, last sign {task.updated}"
                    lines.append(f"  {what} {task.phase}: {where}  {task.log}")
                    lines += [f"    {task.error.splitlines()[0]}"] if task.error else []
        if any(task.phase == "killed" for mine in self.tasks.values() for task in mine):
            lines.append("killed: its maps so far are stored; the same command goes on with what is missing")
        return "\n".join(lines if self.experiments else ["nothing was submitted here", *lines[1:]])
