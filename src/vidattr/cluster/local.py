"""Tasks as processes on this machine: one for each GPU, or for every few cores, with one bar for all of them.

A worker reads the numbers of its tasks from its standard input and ends when that closes. So it ends with the command
that started it, however that ends.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Never

from tqdm import tqdm

from vidattr.cluster.launcher import Local
from vidattr.cluster.submission import LAST, Submission
from vidattr.errors import ConfigError, VidattrError
from vidattr.writing import write_text

BEAT = 2.0
"""Seconds between two signs of life of the command that runs the workers."""
_PATIENCE = 20.0  # seconds that a worker has to end after Ctrl-C


def workers(launcher: Local) -> int:
    """Returns how many processes a launcher means on this machine."""
    import torch

    if launcher.processes is not None:
        return launcher.processes
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return gpus or max(1, len(os.sched_getaffinity(0)) // launcher.cpus)


def run(submission: Submission, launcher: Local, *, quiet: bool = False) -> int:
    """Runs all tasks, then the last one, and returns the exit code of the work.

    Raises:
        KeyboardInterrupt: After Ctrl-C, when all workers have ended.
    """
    submission.write_jobs({"local": socket.gethostname()})
    with ExitStack() as stack:
        alive = _Alive(submission)
        stack.callback(alive.end)
        crew = _Crew(submission, launcher)
        stack.callback(crew.end)
        bar = stack.enter_context(
            tqdm(
                total=sum(task.clips for task in submission.tasks),
                unit="clip",
                desc=f"{len(submission.tasks)} tasks",
                disable=quiet,
            )
        )
        for verb in ("run", "evaluate"):
            crew.do([task.number for task in submission.tasks if task.verb == verb], bar)
        if submission.has_last:
            crew.do([LAST], bar)
    failed = [n for n in (*(task.number for task in submission.tasks), LAST) if submission.state(n).phase == "failed"]
    for number in failed:
        state = submission.state(number)
        print(f"task {number} failed: {state.error}  {state.log}", file=sys.stderr)
    return 1 if failed or crew.dead else crew.code


class _Alive:
    """Shows that this command runs: a counter in `local.json`, which it raises every few seconds."""

    def __init__(self, submission: Submission) -> None:
        self._path, self._ended = submission.path / "local.json", threading.Event()
        self._write(0, running=True)
        threading.Thread(target=self._beat, daemon=True).start()

    def _write(self, beat: int, *, running: bool) -> None:
        stamp = datetime.now(UTC).isoformat(timespec="seconds")
        write_text(self._path, f'{{"running": {str(running).lower()}, "beat": {beat}, "updated": "{stamp}"}}\n')

    def _beat(self) -> None:
        beat = 0
        while not self._ended.wait(BEAT):
            beat += 1
            try:
                self._write(beat, running=True)
            except VidattrError:
                return

    def end(self) -> None:
        self._ended.set()
        self._write(-1, running=False)


class _Worker:
    """One process, and the task that it does."""

    def __init__(self, submission: Submission, launcher: Local, place: int, gpus: int) -> None:
        env = {**os.environ, "OMP_NUM_THREADS": str(launcher.cpus), "MKL_NUM_THREADS": str(launcher.cpus)}
        if gpus:
            seen = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus)))).split(",")
            env["CUDA_VISIBLE_DEVICES"] = seen[place % len(seen)]
        log = submission.path / "logs" / f"worker-{place}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        env["VIDATTR_TASK_LOG"] = str(log)
        self.task: int | None = None
        with log.open("ab") as file:
            # A session of its own: Ctrl-C reaches the command, which then ends its workers in order.
            self.process = subprocess.Popen(
                [sys.executable, "-m", "vidattr.cluster.worker", str(submission.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                env=env,
                cwd=submission.cwd,
                start_new_session=True,
                text=True,
            )
        self.codes: list[int] = []
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        for line in self.process.stdout or ():
            if line.startswith("ended "):
                self.codes.append(int(line.split()[1]))
                self.task = None

    def close(self) -> None:
        """Closes the pipes of a process that has ended."""
        self._listener.join()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what was not read any more
                    pipe.close()

    def start(self, number: int) -> None:
        self.task = number
        pipe: IO[str] | None = self.process.stdin
        if pipe is not None:
            pipe.write(f"{number}\n")
            pipe.flush()


class _Crew:
    """All workers."""

    def __init__(self, submission: Submission, launcher: Local) -> None:
        import torch

        self._submission, self._launcher = submission, launcher
        self._gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        self._count = min(workers(launcher), max(1, len(submission.tasks)))
        self._workers = [_Worker(submission, launcher, place, self._gpus) for place in range(self._count)]
        self.dead = 0

    @property
    def code(self) -> int:
        """The highest exit code of a task."""
        return max([0, *(code for worker in self._workers for code in worker.codes)])

    def do(self, numbers: Sequence[int], bar: tqdm[Never]) -> None:
        """Does some tasks at the same time, and returns when all have ended."""
        waiting = list(numbers)
        while waiting or any(worker.task is not None for worker in self._workers):
            for worker in self._workers:
                if worker.process.poll() is not None and worker.task is not None:
                    print(f"the process of task {worker.task} was killed", file=sys.stderr)
                    worker.task, self.dead = None, self.dead + 1
                if worker.task is None and worker.process.poll() is None and waiting:
                    worker.start(waiting.pop(0))
            if waiting and all(worker.process.poll() is not None for worker in self._workers):
                raise ConfigError(
                    "all local processes were killed",
                    remedy=f"see {self._submission.path / 'logs'}; the same command goes on with what is missing",
                )
            done = sum(self._submission.state(task.number).clips for task in self._submission.tasks)
            if done != bar.n:
                bar.update(done - bar.n)
            time.sleep(0.2)

    def end(self) -> None:
        """Ends all processes: idle ones at once, others when their batch is written or dropped."""
        for worker in self._workers:
            if worker.process.poll() is None:
                if worker.task is None and worker.process.stdin is not None:
                    worker.process.stdin.close()
                else:
                    worker.process.send_signal(signal.SIGTERM)
        until = time.monotonic() + _PATIENCE
        for worker in self._workers:
            try:
                worker.process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            worker.close()


def running(path: Path, wait: float) -> bool:
    """Returns whether the command of a local submission still runs, on whichever machine.

    Its counter is read twice; the clocks of the machines do not matter.

    Args:
        path: Folder of the submission.
        wait: Seconds between the two, some times `BEAT`.
    """
    before = _counter(path)
    if before is None:
        return False
    time.sleep(wait)
    return _counter(path) not in (None, before)


def _counter(path: Path) -> int | None:
    """Returns the counter of the command that runs a submission; None: it ended."""
    import json

    try:
        found = json.loads((path / "local.json").read_text("utf-8"))
        return int(found["beat"]) if found["running"] else None
    except (OSError, ValueError, LookupError, TypeError):
        return None
