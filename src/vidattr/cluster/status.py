"""How far experiments are and what runs them where, from files alone; asks Slurm only where there is one."""

from __future__ import annotations

import json
import os
import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vidattr.cluster import slurm
from vidattr.cluster import submission as submissions
from vidattr.cluster.report import ACTIVE, ExperimentStatus, Report, TaskStatus
from vidattr.cluster.submission import LAST, Submission, Task
from vidattr.config.overrides import is_override
from vidattr.errors import VidattrError
from vidattr.run import compose
from vidattr.run.batches import clips_of
from vidattr.run.experiment import Experiment
from vidattr.run.job import run_folder

_SHOWN = 3  # kinds of errors of an experiment
_SILENT = 60.0  # seconds without a sign of life after which a process of this machine counts as killed


def status(overrides: Sequence[str], *, folder: Path | None = None, add: Sequence[Path] = ()) -> Report:
    """Returns the state of experiments.

    Args:
        overrides: Choices of experiments; without any but `paths.out`: all that was submitted there.
        folder: Config folder.
        add: Further config folders.

    Raises:
        ConfigError: An override is wrong.
    """
    chosen = [one for one in overrides if not (is_override(one) and one.lstrip("+").startswith("paths."))]
    found = compose.experiments(overrides, primary="evaluate", folder=folder, add=add)
    there = {other.name: other for out in {one.paths.out for one in found} for other in submissions.stored(Path(out))}
    known: dict[str, dict[str, Any]] = {}
    for other in there.values():
        known |= {name: dict(facts) for name, facts in other.experiments.items()}
    rows = [_chosen(one, known) for one in found] if chosen else [_stored(name, facts) for name, facts in known.items()]
    rows = list({row.folder: row for row in rows}.values())
    mine = {name: other for name, other in there.items() if not chosen or other.folders & {row.folder for row in rows}}
    mine = _latest(mine)
    queue = slurm.alive(job for other in mine.values() if other.kind == "slurm" for job in other.jobs().values())
    tasks = {name: _tasks(other, queue) for name, other in mine.items()}
    for row in rows:
        _running(row, mine, tasks)
    return Report(rows, tasks, {name: other.jobs() for name, other in mine.items()})


def _latest(found: Mapping[str, Submission]) -> dict[str, Submission]:
    """Returns the submissions without those whose experiments were all submitted again later."""
    kept: dict[str, Submission] = {}
    for name, one in found.items():
        later = frozenset[str]().union(*(other.folders for other in found.values() if other.name > name))
        if one.folders - later or not one.folders:
            kept[name] = one
    return kept


def _chosen(experiment: Experiment, known: Mapping[str, Mapping[str, Any]]) -> ExperimentStatus:
    path = os.path.abspath(run_folder(experiment).path)
    names = experiment.names
    facts: dict[str, Any] = {"title": experiment.title, "dataset": names["dataset"], "model": names["model"]}
    try:
        ids: set[str] | None = {clip.id for clip in clips_of(experiment)[0]}
    except VidattrError:  # the dataset is on another machine
        ids = None
    count = known.get(path, {}).get("clips") if ids is None else len(ids)
    return _row(path, {**facts, "clips": count}, ids)


def _stored(path: str, facts: Mapping[str, Any]) -> ExperimentStatus:
    return _row(path, facts, None)


def _row(path: str, facts: Mapping[str, Any], ids: set[str] | None) -> ExperimentStatus:
    folder = Path(path)
    stored = {file.stem for file in (folder / "maps").glob("*.safetensors") if not file.name.startswith(".")}
    done = stored if ids is None else stored & ids
    failed, kinds, examples = set[str](), Counter[tuple[str, str]](), dict[tuple[str, str], str]()
    for line in _errors(folder):
        clip = str(line.get("clip", ""))
        if clip in stored or (ids is not None and clip and clip not in ids) or clip in failed:
            continue
        failed |= {clip} if clip else set()
        kind = str(line.get("type")), str(line.get("to_do") or "")
        kinds[kind] += 1
        examples.setdefault(kind, f"{clip}: {line.get('error')}" if clip else str(line.get("error")))
    errors = [
        {"count": count, "error": examples[kind][:300], "to_do": kind[1]} for kind, count in kinds.most_common(_SHOWN)
    ]
    clips = facts.get("clips")
    return ExperimentStatus(
        experiment=str(facts.get("title", folder.parent.parent.name)),
        dataset=str(facts.get("dataset", "")),
        model=str(facts.get("model", "")),
        folder=path,
        clips=None if clips is None else int(clips),
        done=len(done),
        failed=len(failed),
        missing=None if clips is None else max(0, int(clips) - len(done) - len(failed)),
        errors=errors,
    )


def _errors(folder: Path) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for path in sorted(folder.glob("errors*.jsonl")):
        try:
            text = path.read_text("utf-8", "replace")
        except OSError:
            continue
        for line in text.splitlines():
            try:
                found = json.loads(line)
            except ValueError:
                continue
            lines += [found] if isinstance(found, dict) else []
    return lines


def _tasks(other: Submission, queue: Mapping[str, str] | None) -> list[TaskStatus]:
    last = [LAST] if other.has_last else []
    return [_task(other, number, queue) for number in (*(task.number for task in other.tasks), *last)]


def _task(other: Submission, number: int, queue: Mapping[str, str] | None) -> TaskStatus:
    state = other.state(number)
    of = 0 if number == LAST else other.tasks[number].clips
    phase = state.phase
    if phase in ACTIVE or phase == "stopped":
        phase = _phase(other, number, phase, queue)
    each = state.seconds / state.clips if state.clips else None
    at = (state.job, state.host, state.log, state.updated)
    return TaskStatus(number, phase, state.clips, of, *at, each, state.error)


def _phase(other: Submission, number: int, phase: str, queue: Mapping[str, str] | None) -> str:
    """Returns the phase of a task that has not ended by its own words."""
    state = other.state(number)
    if other.kind == "local":
        if phase == "waiting" or state.host != socket.gethostname():
            return phase
        age = (datetime.now(UTC) - datetime.fromisoformat(state.updated)).total_seconds() if state.updated else 0.0
        return "killed" if phase == "running" and age > _SILENT else phase
    if queue is None:  # no Slurm here: the task's own words
        return phase
    states = {queue[job] for job in _ids(other, number) if job in queue}
    if not states:
        return "killed" if phase == "running" or other.jobs() else phase
    if "RUNNING" in states or "COMPLETING" in states:
        return "running" if phase != "waiting" else "queued"
    return "queued"


def _ids(other: Submission, number: int) -> list[str]:
    """Returns the ids that the job of a task may have in the queue."""
    stages = slurm.stages(other)
    for stage, numbers in stages.items():
        if number in numbers:
            job = other.jobs().get(stage, "")
            return [job, f"{job}_{numbers.index(number)}"]
    return []


def _running(row: ExperimentStatus, found: Mapping[str, Submission], tasks: Mapping[str, list[TaskStatus]]) -> None:
    """Adds to an experiment what runs it, its speed, and how long it will take."""
    clips, seconds, rest, count = 0, 0.0, 0.0, 0
    for name, other in found.items():
        for task in other.tasks:
            if not any(row.folder in piece.folders for piece in task.pieces):
                continue
            state = tasks[name][task.number]
            if state.seconds_per_clip is not None:
                clips += state.clips
                seconds += state.clips * state.seconds_per_clip
            if state.phase == "running":
                row.running.setdefault(name, []).append(task.number)
                count += 1
            if state.phase in ACTIVE:
                rest += _rest(task, state)
    row.seconds_per_clip = seconds / clips if clips else None
    if rest:
        row.eta = rest / max(1, count)


def _rest(task: Task, state: TaskStatus) -> float:
    """Returns the seconds that a task still needs."""
    forecast = task.seconds / task.clips if task.clips else 0.0
    each = forecast if state.seconds_per_clip is None else state.seconds_per_clip
    return max(0, task.clips - state.clips) * each
