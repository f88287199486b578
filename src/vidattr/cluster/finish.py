"""The last task of a submission: completes pictures, evaluates, and prints the table."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from vidattr.cluster.submission import Submission
from vidattr.run import runner
from vidattr.run.batches import by_network
from vidattr.run.dry_run import plan
from vidattr.run.experiment import Experiment
from vidattr.run.job import run_folder
from vidattr.writing import sweep_of, write_text


def finish(submission: Submission) -> int:
    """Completes pictures, evaluates, and prints the table; returns the highest exit code."""
    work, code = submission.work, 0
    if work.run:
        _complete(work.experiments("run"))
    for folder in {*submission.folders}:
        sweep_of(Path(folder), [submission.writer(task.number) for task in submission.tasks])
    undone = [task.number for task in submission.tasks if submission.state(task.number).phase != "done"]
    for number in undone:
        state = submission.state(number)
        print(f"task {number} did not end ({state.phase} {state.error})", file=sys.stderr, flush=True)
    commands = [("evaluate", *overrides, "--quiet", *work.options()) for overrides in work.evaluate]
    if work.last[:1] in (("evaluate",), ("reproduce",)):  # these evaluate
        commands = []
    if undone and work.last[:1] == ("reproduce",):  # it would compute what the tasks did not
        print("no table: submit again, and only what is missing is computed", file=sys.stderr, flush=True)
        return 1
    text = ""
    for command in [*commands, *([(*work.last, *work.options())] if work.last else [])]:
        found = subprocess.run([sys.executable, "-m", "vidattr", *command], stdout=subprocess.PIPE, check=False)
        said = found.stdout.decode("utf-8", "replace")
        code, text = max(code, found.returncode), said if work.last else f"{text}{said}"
    write_text(submission.path / "table.txt", text)
    print(text, flush=True)
    return max(code, 1 if undone else 0)


def _complete(experiments: Sequence[Experiment]) -> None:
    """Draws missing pictures where all maps are there, and joins the lists of errors and doubts of the tasks."""
    rows = plan(experiments)
    lacking = {row["folder"] for row in rows if row["missing"]}
    for group in by_network(experiments):
        if not any(str(run_folder(one).path) in lacking for one in group):
            runner.run(group, quiet=True)
