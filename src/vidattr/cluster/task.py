"""One task of a submission: computes its pieces, reports how far it is, and stops and queues again when it is told to.

    python -m vidattr.cluster.task SUBMISSION NUMBER      the task; NUMBER -1: evaluation and table

SIGUSR1, SIGUSR2 and SIGTERM end the task after the batch in flight; if that takes longer than the time that is left,
the batch is dropped. A task of Slurm then queues again, unless its job was cancelled.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import torch

from vidattr.cluster import submission as submissions
from vidattr.cluster.finish import finish
from vidattr.cluster.submission import LAST, Piece, Submission, TaskState
from vidattr.errors import ConfigError, VidattrError
from vidattr.evaluate import evaluator
from vidattr.process import prepare
from vidattr.run import runner
from vidattr.run.control import Control, DroppedBatch
from vidattr.run.experiment import Experiment
from vidattr.run.job import run_folder
from vidattr.writing import set_writer

BEAT = 5.0
"""Seconds between two signs of life."""
BARREN = 3
"""After how many attempts in a row that end no batch a task queues no more."""
_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)


class Progress(Control):
    """Writes the state of a task, and a line of its log for each batch.

    Args:
        submission: The submission.
        number: The number of the task.
    """

    def __init__(self, submission: Submission, number: int) -> None:
        super().__init__()
        self.submission, self.number = submission, number
        before = submission.state(number)
        job = slurm_job() or f"process {os.getpid()}"
        self.state = TaskState("running", before.attempt + 1, before.barren, job, socket.gethostname())
        self.state.log = os.environ.get("VIDATTR_TASK_LOG", "") or _log_of_job()
        self._log = submission.path / "logs" / f"batches-{number}.log"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._begun, self._lock = 0.0, threading.Lock()
        self.signal = ""

    def note(self, event: str) -> None:
        """Adds a line to the task's own log of batches."""
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        with self._log.open("a", encoding="utf-8") as file:
            file.write(f"{stamp} attempt {self.state.attempt} {self.state.job} {event}\n")

    def write(self) -> None:
        """Writes the state."""
        with self._lock:
            self.state.beat += 1
            self.state.updated = datetime.now(UTC).isoformat(timespec="seconds")
            self.submission.write_state(self.number, self.state)

    def batch_begun(self, clips: Sequence[str]) -> None:
        """Notes the clips of the batch that begins."""
        if not self._begun:
            self._begun = time.monotonic()
        self.note(f"begins {' '.join(clips)}")

    def batch_done(self, clips: Sequence[str], stored: int) -> None:
        """Notes the clips of the batch that ended, and how many maps or scores were stored."""
        self.state.clips += len(clips)
        self.state.maps += stored
        self.note(f"ends {' '.join(clips)}: {stored} stored")
        self.state.seconds = time.monotonic() - self._begun
        self.state.barren = 0
        self.write()

    def piece_begins(self, piece: Piece) -> None:
        """Notes that a piece begins."""
        place = self.submission.tasks[self.number].pieces.index(piece)
        shard = f"{piece.shard[0]}/{piece.shard[1]}"
        self.note(f"{piece.verb} piece {place}: {len(piece.experiments)} experiments, shard {shard}")


def perform(folder: str, number: int) -> None:
    """Does one task of a submission.

    Args:
        folder: Folder of the submission.
        number: Number of the task; `LAST`: evaluation and table.

    Raises:
        SystemExit: It failed, with the exit code of its error.
    """
    submission = submissions.read(Path(folder))
    os.chdir(submission.cwd)
    prepare()
    set_writer(submission.writer(number))
    cpus = int(submission.launcher["cpus"])
    if not int(submission.launcher.get("gpus", 0) or 0) and not torch.cuda.is_available():
        torch.set_num_threads(cpus)
    progress = Progress(submission, number)
    ended = threading.Event()
    beats = threading.Thread(target=_beat, args=(progress, ended), daemon=True)
    before = {which: signal.getsignal(which) for which in (*_SIGNALS, signal.SIGALRM)}
    _listen(progress)
    progress.write()
    beats.start()
    code = 1
    try:
        code = finish(submission) if number == LAST else _pieces(progress)
        progress.state.phase = "stopped" if progress.stopped else "failed" if number == LAST and code == 2 else "done"
    except DroppedBatch:
        progress.state.phase = "stopped"
        progress.note("the batch in flight is dropped")
    except VidattrError as error:
        progress.state.phase, progress.state.error, code = "failed", str(error), error.exit_code
        print(f"error: {error}", file=sys.stderr, flush=True)
    except BaseException as error:
        progress.state.phase, progress.state.error = "failed", f"{type(error).__name__}: {error}"
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        ended.set()
        if progress.state.phase == "stopped":
            _stopped(progress)
        progress.write()
        for which, handler in before.items():
            signal.signal(which, handler)
        set_writer("")
    if progress.state.phase == "stopped" and slurm_job():
        _requeue(progress)
    if progress.state.phase == "failed":
        sys.exit(code)


def _beat(progress: Progress, ended: threading.Event) -> None:
    while not ended.wait(BEAT):
        try:
            progress.write()
        except VidattrError:  # the task itself ends with this error as soon as it writes
            return


def _listen(progress: Progress) -> None:
    """Makes the signals that end a task stop it."""
    grace = float(progress.submission.launcher.get("grace", 10.0))

    def asked(which: int, _frame: FrameType | None) -> None:
        if progress.signal:
            return
        progress.signal = signal.Signals(which).name
        progress.stop()
        # Slurm kills 30 s after SIGTERM unless its administrator says otherwise.
        signal.setitimer(signal.ITIMER_REAL, 0.6 * (min(grace, 30.0) if which == signal.SIGTERM else grace))

    for which in _SIGNALS:
        signal.signal(which, asked)
    signal.signal(signal.SIGALRM, lambda *_: progress.drop())


def _pieces(progress: Progress) -> int:
    submission, code = progress.submission, 0
    for piece in submission.tasks[progress.number].pieces:
        if progress.stopped:
            break
        experiments = composed(submission, piece)
        progress.piece_begins(piece)
        if piece.verb == "run":
            jobs = runner.run(experiments, shard=piece.shard, quiet=True, control=progress, compare=piece.whole)
            code = max([code, *(1 for job in jobs if job.failures)])
            for job in jobs:
                print(f"{job.experiment.title}: {job.written} written, {job.present} there before", flush=True)
                for failure in job.failures:
                    print(f"  {failure.clip or job.experiment.title}: {failure.error}", file=sys.stderr, flush=True)
        else:
            evaluator.evaluate(experiments, quiet=True, shard=piece.shard, control=progress)
    return code


def composed(submission: Submission, piece: Piece) -> list[Experiment]:
    """Returns the experiments of a piece, composed anew.

    Raises:
        ConfigError: A config or a file that it names changed since the submission.
    """
    found = submission.work.experiments(piece.verb)
    mine = [found[place] for place in piece.experiments if place < len(found)]
    if {os.path.abspath(run_folder(one).path) for one in mine} != set(piece.folders):
        raise ConfigError(
            "a config, or a file that it names, changed since the work was submitted", remedy="submit again"
        )
    return mine


def slurm_job() -> str:
    """Returns the id of the job of Slurm that this process belongs to, with its place in the array; "": none."""
    array, place = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{place}" if array and place else os.environ.get("SLURM_JOB_ID", "")


def _log_of_job() -> str:
    """Returns the file that the output of this process goes to, where submitit started it."""
    if "SUBMITIT_FOLDER" not in os.environ:
        return ""
    from submitit import JobEnvironment

    return str(JobEnvironment().paths.stdout)


def _stopped(progress: Progress) -> None:
    state = progress.state
    state.barren = 0 if state.clips else state.barren + 1
    progress.note(f"stopped by {progress.signal or 'itself'} after {state.clips} clips, {state.maps} maps")


def _requeue(progress: Progress) -> None:
    """Puts the task's job back into the queue, unless it was cancelled or gets nowhere."""
    launcher, state, job = progress.submission.launcher, progress.state, slurm_job()
    if not launcher.get("requeue", False) or shutil.which("scontrol") is None:
        return
    if state.barren >= BARREN:
        state.phase = "failed"
        state.error = (
            f"no batch ended in {state.barren} attempts: raise launcher.minutes or launcher.grace, or lower "
            "runtime.clips"
        )
        progress.note(state.error)
        progress.write()
        return
    found = _said(["squeue", "--noheader", "--format=%T", f"--jobs={job}"])
    if found.split()[:1] != ["RUNNING"]:  # cancelled; or preempted, and Slurm queues it again by itself
        progress.note(f"does not queue again: its job is {found.strip() or 'unknown'}")
        return
    progress.note("queues again")
    subprocess.run(["scontrol", "requeue", job], timeout=60, check=False)
    time.sleep(120)  # Slurm ends this process


def _said(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


if __name__ == "__main__":
    perform(sys.argv[1], int(sys.argv[2]))
