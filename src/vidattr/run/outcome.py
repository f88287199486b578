"""What the command line says of the jobs that it did, and the exit code that follows from it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from vidattr.errors import bug
from vidattr.run import doubts

if TYPE_CHECKING:
    from vidattr.evaluate.scores import ScoreSheet
    from vidattr.run.job import Job


def report(jobs: Sequence[Job], as_json: bool) -> None:
    """Says what became of each experiment, and leaves with 1 where a clip failed."""
    rows = [
        {
            "cell": job.experiment.title,
            "dataset": job.experiment.names["dataset"],
            "model": job.experiment.names["model"],
            "folder": str(job.folder.path),
            "written": job.written,
            "present": job.present,
            "failed": len(job.errors),
            "again": {why.name: count for why, count in job.again.items()},
            "warnings": job.doubts.found(),
            "notes": list(job.doubts.notes),
        }
        for job in jobs
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    for row, job in zip(rows, jobs, strict=True):
        if not as_json:
            failed = f", {row['failed']} failed" if row["failed"] else ""
            typer.echo(
                f"{row['cell']}: {row['written']} written, {row['present']} there before{failed}  {row['folder']}"
            )
            for why, count in job.again.items():
                typer.echo(f"  {why.told(count)}")
        for line in job.errors[:5]:
            typer.echo(
                f"  {line['clip'] or job.experiment.title}: {line['error']}"
                + (f" ({line['to_do']})" if line["to_do"] else ""),
                err=True,
            )
        if len(job.errors) > 5:
            typer.echo(f"  and {len(job.errors) - 5} more in {job.errors_file or job.folder.path}", err=True)
    tell_doubts(jobs)
    _bug([line for job in jobs if not job.written for line in job.errors])
    if jobs and all(job.failed for job in jobs):
        raise typer.Exit(2)
    if any(job.errors for job in jobs):
        raise typer.Exit(1)


def tell_doubts(jobs: Sequence[Job | ScoreSheet]) -> None:
    """Says what is doubtful about the clips of jobs, once."""
    doubts.tell((job.doubts for job in jobs), lambda line: typer.echo(line, err=True))


def _bug(lines: Sequence[dict[str, Any]]) -> None:
    """Shows the traceback where no clip could be worked on and all for one reason, which is then no file's fault."""
    if found := bug(lines):
        typer.echo(found, err=True)


def report_videos(jobs: Sequence[Job]) -> None:
    """Says what went wrong with videos that were named one by one, each once, and leaves with 1 where one failed."""
    tell_doubts(jobs)
    if jobs and all(job.failed for job in jobs):
        typer.echo(f"error: {jobs[0].failed}", err=True)
        raise typer.Exit(2)
    _bug([line for job in jobs if not job.written for line in job.errors])
    lines = {(line["clip"], line["error"]): line for job in jobs for line in job.errors}
    for line in lines.values():
        typer.echo(f"  {line['clip']}: {line['error']}" + (f" ({line['to_do']})" if line["to_do"] else ""), err=True)
    if lines:
        raise typer.Exit(1)
