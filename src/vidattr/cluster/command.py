"""The verbs of the command line about forecasts, submissions and their status; `--submit` of other verbs."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vidattr.cli_options import AddConfigs, ConfigDir, Json, Overrides
from vidattr.errors import ConfigError

if TYPE_CHECKING:
    from vidattr.cluster.work import Work
    from vidattr.run.experiment import Experiment

Submit = Annotated[
    str | None,
    typer.Option(
        "--submit",
        metavar="local|slurm",
        help="Cut the work into tasks: processes on this machine, or an array of jobs. launcher.<option>=value sets "
        "their number, time and resources; see configs/launcher.",
    ),
]
Rate = Annotated[
    float | None,
    typer.Option(
        "--rate", min=1e-6, help="Forecast by multiply-adds at this many TFLOP/s, in place of what was measured here."
    ),
]
PrintSbatch = Annotated[
    bool,
    typer.Option("--print-sbatch", help="With --submit slurm: write and print the scripts, and submit nothing."),
]


def submitted(
    verb: str,
    kind: str | None,
    overrides: Sequence[str],
    config_dir: Path | None,
    add: Sequence[Path],
    only_print: bool,
    quiet: bool,
    dry_run: bool,
    refused: Mapping[str, bool],
    last: Sequence[str] = (),
) -> None:
    """Submits the work of `run` or `evaluate`, and ends the command; returns where `--submit` was not given.

    Args:
        verb: The command.
        kind: What `--submit` names.
        overrides: Those of the command, and of the launcher.
        config_dir: Config folder.
        add: Further config folders.
        only_print: Whether to print scripts and submit nothing.
        quiet: Whether to show no progress bar.
        dry_run: Whether to print the plan and the tasks, and to do nothing.
        refused: Options that have no meaning here, and whether they were given.
        last: Options of the `evaluate` that prints the table.

    Raises:
        ConfigError: The work cannot be submitted.
    """
    options, rest = options_of_launcher(overrides, kind, only_print)
    if kind is None:
        return
    for name in (name for name, given in refused.items() if given):
        raise ConfigError(f"{name} with --submit", remedy=f"leave {name} out")
    from vidattr.cluster.work import Work
    from vidattr.run import compose

    found = compose.experiments(rest, primary=verb, folder=config_dir, add=add)
    lists = (tuple(rest),)
    work = Work(
        folder=one_folder(found),
        run=lists if verb == "run" else (),
        evaluate=lists if verb == "evaluate" else (),
        last=("evaluate", *rest, "--quiet", *last) if verb == "evaluate" else (),
        config_dir=config_dir,
        add_configs=tuple(add),
    )
    if dry_run:
        typer.echo(planned(verb, found, (1, 1), as_json=False))
    submit_work(work, kind, options, only_print, quiet, dry_run)


def options_of_launcher(overrides: Sequence[str], kind: str | None, only_print: bool) -> tuple[list[str], list[str]]:
    """Returns the overrides of the launcher, and the others.

    Args:
        overrides: All of a command.
        kind: What `--submit` names.
        only_print: Whether `--print-sbatch` was given.

    Raises:
        ConfigError: Options of a submission without one.
    """
    options = [one for one in overrides if one.lstrip("+").startswith(("launcher.", "launcher="))]
    if kind is None and (options or only_print):
        raise ConfigError(
            f"{options[0] if options else '--print-sbatch'} without --submit", remedy="--submit slurm, or local"
        )
    return options, [one for one in overrides if one not in options]


def submit_work(
    work: Work, kind: str, options: Sequence[str], only_print: bool, quiet: bool, dry_run: bool = False
) -> None:
    """Submits work, or says how it would be cut, and ends the command with its exit code."""
    from vidattr.cluster.submit import submit

    raise typer.Exit(submit(work, kind, options, only_print=only_print, dry_run=dry_run, quiet=quiet, say=typer.echo))


def planned(verb: str, experiments: Sequence[Experiment], shard: tuple[int, int], as_json: bool) -> str:
    """Returns what `run` or `evaluate` would do, with a forecast of its time."""
    from vidattr.cluster import forecast as costs
    from vidattr.run import dry_run

    if verb == "evaluate":
        rows = costs.judging_plan(experiments, shard)
        return json.dumps(rows, indent=2) if as_json else costs.judging_text(rows, experiments[0])
    rows = dry_run.plan(experiments, shard)
    costs.extend(rows, experiments)
    return json.dumps(rows, indent=2) if as_json else costs.plan_text(rows, experiments[0])


def one_folder(experiments: Sequence[Experiment]) -> Path:
    """Returns `paths.out` of experiments; raises ConfigError where they have several."""
    folders = {experiment.paths.out for experiment in experiments}
    if len(folders) > 1:
        raise ConfigError(f"several paths.out: {', '.join(sorted(folders))}", expected="one for all that is submitted")
    return Path(folders.pop())


def forecast(
    overrides: Overrides = None,
    config_dir: ConfigDir = None,
    add_configs: AddConfigs = None,
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Measure the chosen networks and methods on this device, and store the result."),
    ] = False,
    seconds: Annotated[float, typer.Option("--seconds", help="Longest measurement of one method.")] = 20.0,
    rate: Rate = None,
    clips: Annotated[
        int | None, typer.Option("--clips", help="Number of clips of the dataset, which need not be at hand.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say how long experiments take and how much disk they fill.

    From seconds per pass that --measure stored for this device; without them from multiply-adds at an assumed rate,
    and the output says so.
    """
    from vidattr.cluster import forecast as costs
    from vidattr.cluster import measure as measuring
    from vidattr.cluster import speeds
    from vidattr.run import compose, dry_run

    found = compose.experiments(overrides or [], folder=config_dir, add=add_configs or [])
    if measure:
        if rate is not None or clips is not None:
            raise ConfigError("--measure with --rate or --clips", remedy="measure first, and forecast then")
        known = measuring.measure(found, seconds=seconds, say=lambda line: None if as_json else typer.echo(line))
        rows = {"device": known.device, "file": str(known.path), "rows": speeds.plain(known.rows)}
        typer.echo(json.dumps(rows, indent=2) if as_json else f"written: {known.path}")
        return
    if clips is not None and clips < 1:
        raise ConfigError(f"--clips {clips}", expected="1 or more")
    if clips is None:
        plan = dry_run.plan(found)
        costs.extend(plan, found, rate)
    else:
        plan = [costs.row_of(one, clips, costs.speeds_of(one, rate)) for one in found]
    lines = costs.told(map(costs.of_row, plan), costs.speeds_of(found[0], rate))
    if as_json:
        typer.echo(json.dumps(plan, indent=2))
    else:
        typer.echo("\n".join([costs.text(plan), *lines]))


def status(
    overrides: Overrides = None,
    config_dir: ConfigDir = None,
    add_configs: AddConfigs = None,
    watch: Annotated[
        float | None,
        typer.Option("--watch", metavar="SECONDS", help="Print it again every so many seconds, until all is done."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say how far experiments are, and what runs them where.

    Without choices (paths.out=FOLDER is none): all that was submitted there. With choices: those experiments, submitted
    or not. Reads files only, and asks Slurm where there is one.
    """
    from vidattr.cluster import status as states

    if watch is not None and watch <= 0:
        raise ConfigError(f"--watch {watch}", expected="a positive number of seconds")
    while True:
        report = states.status(overrides or [], folder=config_dir, add=add_configs or [])
        typer.echo(json.dumps(report.plain(), indent=2) if as_json else report.text())
        if watch is None or report.ended():
            break
        time.sleep(watch)
    raise typer.Exit(0 if report.sound() else 1)
