"""Submits work: cuts it into tasks, makes sure that nobody else computes the same, and starts it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from vidattr.cluster import local, slurm
from vidattr.cluster import submission as submissions
from vidattr.cluster.cut import cut
from vidattr.cluster.forecast import duration, speeds_of
from vidattr.cluster.launcher import Launcher, Local, Slurm, launcher
from vidattr.cluster.speeds import RATES, Speeds, device_name
from vidattr.cluster.submission import Submission
from vidattr.cluster.work import Work
from vidattr.errors import ConfigError
from vidattr.protocols import NetworkMetric
from vidattr.run.experiment import Experiment
from vidattr.run.job import check_folders, run_folder
from vidattr.writing import remove, sweep_of, write_text

Say = Callable[[str], object]


def submit(
    work: Work,
    kind: str,
    options: Sequence[str] = (),
    *,
    only_print: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    say: Say = print,
) -> int:
    """Submits work, or runs it in local processes, and returns the exit code of the command.

    Only what is missing is computed. Slurm: returns when the jobs are in the queue. Local: returns when all is done,
    and prints the table.

    Args:
        work: What to compute.
        kind: Name of a launcher's config: "slurm" or "local", or one of the user's own.
        options: `launcher.<option>=value`.
        only_print: Whether to print the scripts for sbatch, and how to submit them, and to start nothing.
        dry_run: Whether to say how the work would be cut, and to do nothing.
        quiet: Whether to show no progress bar.
        say: Prints a line.

    Raises:
        ConfigError: Something is wrong with the work or the launcher, or other jobs compute the same experiments.
    """
    kind, found = launcher(kind, options, folder=work.config_dir, add=work.add_configs)
    if only_print and not isinstance(found, Slurm):
        raise ConfigError("--print-sbatch prints the scripts of --submit slurm", remedy="--submit slurm --print-sbatch")
    lists = {verb: work.experiments(verb) for verb in ("run", "evaluate")}
    if not any(lists.values()):
        raise ConfigError("no experiment to submit")
    check_folders(lists["run"])
    if not lists["run"]:
        _check_maps(lists["evaluate"])
    made = _made(work, kind, found, lists["run"], lists["evaluate"])
    if not made.tasks and not made.has_last:
        say("nothing to do: every map is there")
        return 0
    if dry_run:
        _tell(made, say)
        return 0
    refuse(made, say)
    made.write()
    try:
        refuse(made, say)  # again: another submission may have been written at the same time
    except ConfigError:
        remove(made.path / "submission.json")
        raise
    _clean(made)
    _tell(made, say)
    if isinstance(found, Local):
        code = local.run(made, found, quiet=quiet)
        _table(made, say)
        return code
    if only_print:
        return _print(made, found, say)
    try:
        jobs = slurm.submit(made, found)
    except BaseException:
        remove(made.path / "submission.json")
        raise
    made.write_jobs(jobs)
    for stage, job in jobs.items():
        say(f"{stage}: job {job}")
    say(f"logs: {made.path / 'logs'}")
    say(f"how far it is: vidattr status paths.out={work.folder}; the table: {made.path / 'table.txt'}")
    return 0


def _check_maps(experiments: Sequence[Experiment]) -> None:
    """Raises ConfigError where there is nothing to evaluate, before a job waits for it in a queue."""
    for experiment in experiments:
        if not isinstance(experiment.metric, NetworkMetric) and not (folder := run_folder(experiment)).stored():
            raise ConfigError(f"no maps of {experiment.title}: {folder.path}", remedy="`vidattr run` first")


def _made(
    work: Work,
    kind: str,
    found: Launcher,
    run: Sequence[Experiment],
    evaluate: Sequence[Experiment],
) -> Submission:
    speeds = _speeds(found, [*run, *evaluate][0])
    count = local.workers(found) if isinstance(found, Local) else 1
    tasks, known = cut(run, evaluate, seconds=60 * found.minutes, workers=count, speeds=speeds)
    return Submission(submissions.new(work.folder), work, kind, asdict(found), tuple(tasks), os.getcwd(), known)


def _speeds(found: Launcher, experiment: Experiment) -> Speeds:
    """Returns what is known of the device that the tasks run on."""
    if isinstance(found, Slurm) and found.device is not None:
        return Speeds(found.device, "cuda" if found.gpus else "cpu")
    here = speeds_of(experiment)
    if isinstance(found, Slurm) and found.gpus:
        return here if here.kind == "cuda" else Speeds("GPU of the cluster", "cuda", RATES["cuda"])
    if here.kind == "cuda" and isinstance(found, Local):
        return here
    import torch

    return Speeds(device_name(torch.device("cpu"), found.cpus), "cpu")


def refuse(new: Submission, say: Say) -> None:
    """Raises ConfigError where jobs that have not ended compute experiments of a new submission.

    Ended submissions leave temporary files of killed tasks in the same folders; they are removed.
    """
    for other in submissions.stored(new.work.folder):
        shared = other.folders & new.folders
        if other.path == new.path or not shared:
            continue
        if (running := still_running(other, say)) is None:
            for folder in shared:
                sweep_of(Path(folder), [other.writer(task.number) for task in other.tasks])
            continue
        titles = [str(other.experiments.get(folder, {}).get("title", folder)) for folder in sorted(shared)]
        more = f" and {len(titles) - 3} more" if len(titles) > 3 else ""
        raise ConfigError(
            f"{', '.join(titles[:3])}{more}: being computed by {running}, submitted as {other.name}",
            remedy=f"wait: vidattr status paths.out={new.work.folder}; or cancel it and submit again; if it does not "
            f"exist any more, remove {other.path}",
        )


def still_running(other: Submission, say: Say = print) -> str | None:
    """Returns what runs a submission, or None if nothing does any more."""
    jobs = other.jobs()
    if other.ended():
        return None
    if other.kind == "local":
        if not (other.path / "local.json").is_file():
            return None if jobs else "a command that is just starting"
        if local._counter(other.path) is None:
            return None
        say(f"looking whether {other.name} is still running on {jobs.get('local', 'its machine')} …")
        return f"vidattr on {jobs.get('local')}" if local.running(other.path, 5 * local.BEAT) else None
    ids = list(jobs.values())
    if not ids:  # being submitted, or printed for submission by hand: its tasks say which jobs they belong to
        states = [other.state(task.number) for task in other.tasks]
        ids = sorted({state.job.partition("_")[0] for state in states if state.job})
        if not ids:
            return None if any(other.path.glob("*.sbatch")) else "a command that is just starting"
    found = slurm.alive(ids)
    if found is None:
        return f"job {', '.join(ids)} (Slurm cannot be asked on this machine)"
    return f"job {', '.join(sorted(found))}" if found else None


def _clean(made: Submission) -> None:
    """Removes the lists of errors of earlier divisions into tasks: every clip without a map is tried again."""
    for folder in made.folders:
        for path in Path(folder).glob("errors*.jsonl"):
            remove(path)


def _tell(made: Submission, say: Say) -> None:
    run = [task for task in made.tasks if task.verb == "run"]
    seconds = sum(task.seconds for task in run)
    missing = sum(int(facts["missing"]) for facts in made.experiments.values())
    longest = max((task.seconds for task in run), default=0.0)
    say(
        f"{len(made.experiments)} experiments, {missing} maps missing: {len(run)} tasks, {duration(seconds)} of work, "
        f"the longest {duration(longest)}; {len(made.tasks) - len(run)} tasks of evaluation"
    )


def _print(made: Submission, found: Slurm, say: Say) -> int:
    texts = slurm.scripts(made, found)
    for stage, text in texts.items():
        path = made.path / f"{stage}.sbatch"
        write_text(path, text)
        say(f"# {path}\n{text}")
    (made.path / "logs").mkdir(exist_ok=True)
    say("# submit them with:\n" + "\n".join(slurm.commands(made, list(texts))))
    return 0


def _table(made: Submission, say: Say) -> None:
    path = made.path / "table.txt"
    if path.is_file() and (text := path.read_text("utf-8")).strip():
        say(text.rstrip("\n"))
