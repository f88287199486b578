"""What the command line prints about finished jobs, and the exit code that follows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import typer

from vidattr.errors import common_traceback, failure_lines
from vidattr.run import doubts
from vidattr.run.doubts import Doubts
from vidattr.run.job import Job

_SHOWN = 5  # failures of a job


def report(jobs: Sequence[Job], as_json: bool, shard: tuple[int, int] = (1, 1)) -> None:
    """Prints the outcome of each experiment, and exits with an error code where a clip or a method failed.

    A shard without a clip is said.
    """
    if shard != (1, 1) and not any(job.written or job.present or job.failures for job in jobs):
        words = "whole stretches of runtime.clips clips are shared out, so that a map is the same in every shard"
        words += "; with runtime.clips=1 every clip is a stretch"
        typer.echo(f"shard {shard[0]}/{shard[1]} has no clip: {words}", err=True)
    rows = [
        {
            "cell": job.experiment.title,
            "dataset": job.experiment.names["dataset"],
            "model": job.experiment.names["model"],
            "folder": str(job.folder.path),
            "written": job.written,
            "present": job.present,
            "failed": len(job.failures),
            "again": {why.name: count for why, count in job.again.items()},
            "warnings": job.doubts.found(),
            "notes": list(job.doubts.notes),
        }
        for job in jobs
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    for job in jobs:
        if not as_json:
            failed = f", {len(job.failures)} failed" if job.failures else ""
            counts = f"{job.written} written, {job.present} there before{failed}"
            typer.echo(f"{job.experiment.title}: {counts}  {job.folder.path}")
            for why, count in job.again.items():
                typer.echo(f"  {why.told(count)}")
        file = job.errors_file or job.folder.path
        _echo(failure_lines(job.failures, all_clips=job.experiment.title, most=_SHOWN, file=file))
    tell_doubts(job.doubts for job in jobs)
    _tell_common_traceback(jobs)
    _exit(jobs)


def report_videos(jobs: Sequence[Job]) -> None:
    """Prints the failures of videos that were named on the command line, each once, and exits like `report`."""
    tell_doubts(job.doubts for job in jobs)
    if jobs and all(job.failed for job in jobs):
        _echo([f"error: {jobs[0].failed}"])
    else:
        _tell_common_traceback(jobs)
        lines = (line for job in jobs for line in failure_lines(job.failures, all_clips=job.experiment.title))
        _echo(dict.fromkeys(lines))
    _exit(jobs)


def tell_doubts(runs: Iterable[Doubts]) -> None:
    """Prints what is doubtful about the clips of several runs, each doubt once."""
    doubts.tell(runs, lambda line: typer.echo(line, err=True))


def _tell_common_traceback(jobs: Sequence[Job]) -> None:
    if text := common_traceback(failure for job in jobs if not job.written for failure in job.failures):
        _echo([text])


def _echo(lines: Iterable[str]) -> None:
    for line in lines:
        typer.echo(line, err=True)


def _exit(jobs: Sequence[Job]) -> None:
    """Exits with the code of the errors where every method failed, and with 1 where any clip failed."""
    failed = [job.failed for job in jobs if job.failed]
    if failed and len(failed) == len(jobs):
        raise typer.Exit(min(error.exit_code for error in failed))
    if any(job.failures for job in jobs):
        raise typer.Exit(1)
