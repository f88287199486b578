"""Jobs of Slurm: an array of tasks and the jobs that wait for it, through submitit or as a script to submit by hand."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from submitit import SlurmExecutor
from submitit.core.utils import FailedJobError, FailedSubmissionError

from vidattr.cluster.launcher import Slurm
from vidattr.cluster.submission import LAST, Submission
from vidattr.cluster.task import perform
from vidattr.errors import ConfigError

STAGES = ("run", "evaluate", "last")
"""The jobs of a submission, each of which waits for the one before."""


def stages(submission: Submission) -> dict[str, list[int]]:
    """Returns the numbers of the tasks of each job; a job without tasks is left out."""
    found = {verb: [task.number for task in submission.tasks if task.verb == verb] for verb in ("run", "evaluate")}
    found["last"] = [LAST] if submission.has_last else []
    return {stage: numbers for stage, numbers in found.items() if numbers}


def submit(submission: Submission, launcher: Slurm) -> dict[str, str]:
    """Submits the jobs, and returns their ids by stage.

    Raises:
        ConfigError: There is no Slurm here, or it refuses a job.
    """
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise ConfigError(
            "no sbatch and srun here",
            expected="a machine that submits to Slurm",
            remedy="submit from the login node; --print-sbatch prints the scripts; --submit local runs here",
        )
    jobs: dict[str, str] = {}
    for stage, numbers in stages(submission).items():
        executor = SlurmExecutor(submission.path / "logs", max_num_timeout=10**6)
        after = f"afterany:{list(jobs.values())[-1]}" if jobs else None
        options = directives(launcher, submission, stage, after)
        try:
            executor.update_parameters(
                use_srun=True,
                array_parallelism=launcher.parallel,
                setup=list(launcher.setup) or None,
                signal_delay_s=launcher.grace,
                time=launcher.limit,
                job_name=options.pop("job-name"),
                additional_parameters=options,
            )
            found = executor.map_array(perform, [str(submission.path)] * len(numbers), numbers)
        except (FailedJobError, FailedSubmissionError) as error:
            for job in jobs.values():
                subprocess.run(["scancel", job], check=False, capture_output=True)
            raise ConfigError(
                f"Slurm refuses the job: {str(error).strip()[-300:]}",
                remedy="see launcher.partition, .account, .qos, .gpus, .memory and .minutes",
            ) from error
        jobs[stage] = found[0].job_id.partition("_")[0]
    return jobs


def directives(launcher: Slurm, submission: Submission, stage: str, after: str | None = None) -> dict[str, Any]:
    """Returns the options of sbatch for one job.

    Args:
        launcher: The options of the user.
        submission: Gives the job its name.
        stage: One of `STAGES`.
        after: The dependency.
    """
    found: dict[str, Any] = {
        "job-name": f"vidattr-{stage}-{submission.name[-6:]}",
        "partition": launcher.partition,
        "account": launcher.account,
        "qos": launcher.qos,
        "constraint": launcher.constraint,
        "gpus-per-node": launcher.gpus or None,
        "cpus-per-task": launcher.cpus,
        "nodes": 1,
        "ntasks": 1,
        "mem": f"{round(launcher.memory * 1024)}M",
        "requeue" if launcher.requeue else "no-requeue": True,
        "dependency": after,
    }
    return {name: value for name, value in found.items() if value is not None}


def scripts(submission: Submission, launcher: Slurm) -> dict[str, str]:
    """Returns a script of sbatch for each job, which does the same without submitit."""
    found = {}
    for stage, numbers in stages(submission).items():
        options = directives(launcher, submission, stage)
        options |= {"time": launcher.limit, "signal": f"USR1@{launcher.grace}", "open-mode": "append"}
        place, log = str(numbers[0]), f"{submission.path}/logs/{stage}-%j.log"
        if len(numbers) > 1:
            options["array"] = f"{numbers[0]}-{numbers[-1]}%{min(launcher.parallel, len(numbers))}"
            place, log = "$SLURM_ARRAY_TASK_ID", f"{submission.path}/logs/{stage}-%A_%a.log"
        options["output"] = log
        job = "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}" if len(numbers) > 1 else "${SLURM_JOB_ID}"
        lines = [
            "#!/bin/bash",
            *(
                f"#SBATCH --{name}" + ("" if value is True else f"={shlex.quote(str(value))}")
                for name, value in sorted(options.items())
            ),
            *launcher.setup,
            f"cd {shlex.quote(submission.cwd)}",
            f'export VIDATTR_TASK_LOG={shlex.quote(str(submission.path))}/logs/{stage}-"{job}".log',
            f"srun {shlex.quote(sys.executable)} -m vidattr.cluster.task {shlex.quote(str(submission.path))} {place}",
        ]
        found[stage] = "\n".join(lines) + "\n"
    return found


def commands(submission: Submission, stages_: Sequence[str]) -> list[str]:
    """Returns the lines of shell that submit the scripts, each job after the one before."""
    lines, before = [], ""
    for stage in stages_:
        after = f" --dependency=afterany:${before}" if before else ""
        lines.append(f"{stage}=$(sbatch --parsable{after} {shlex.quote(str(submission.path / stage))}.sbatch)")
        before = stage
    return lines


def there() -> bool:
    """Returns whether this machine can ask Slurm."""
    return shutil.which("squeue") is not None


def alive(jobs: Iterable[str]) -> dict[str, str] | None:
    """Returns the state of each job, or task of an array, that is in the queue; None if Slurm cannot be asked."""
    ids = [job for job in jobs if job]
    if not ids:
        return {}
    if not there():
        return None
    command = ["squeue", "--noheader", "--array", "--format=%i %T", f"--jobs={','.join(ids)}"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if found.returncode and "Invalid job id" in found.stderr:
        # One id that Slurm has forgotten makes it refuse all of them.
        if len(ids) == 1:
            return {}
        parts = [alive([job]) for job in ids]
        return None if None in parts else {name: state for part in parts if part for name, state in part.items()}
    if found.returncode:
        return None
    rows = [line.split() for line in found.stdout.splitlines() if line.strip()]
    return {row[0]: row[1] for row in rows if len(row) == 2}
