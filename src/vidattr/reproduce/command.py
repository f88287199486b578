"""`vidattr reproduce`: the published tables, listed, planned, computed and compared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum, auto
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vidattr.cli_options import AddConfigs, ConfigDir, Format, Quiet
from vidattr.cluster.command import PrintSbatch, Rate, Submit, one_folder, options_of_launcher, submit_work
from vidattr.errors import ConfigError

if TYPE_CHECKING:
    from vidattr.cluster.work import Work
    from vidattr.reproduce.plan import Plan
    from vidattr.reproduce.running import Results


class Which(StrEnum):
    """Which protocols are computed."""

    both = auto()
    printed = auto()
    released = auto()


def reproduce(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TABLE]... [KEY=VALUE]...",
            help="Tables such as step_3 or aosa_1, or all; then scale=paper, small or bundled, and overrides for every "
            "cell, such as paths.data=FOLDER runtime.device=cuda. Without a table: the list of tables and their state.",
        ),
    ] = None,
    config_dir: ConfigDir = None,
    add_configs: AddConfigs = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="Only cells ROW/COLUMN, with * and | in both parts; may be given several times."),
    ] = None,
    protocol: Annotated[
        Which, typer.Option("--protocol", help="Only the protocol of the paper's text, or of the released code.")
    ] = Which.both,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be computed, and compute nothing.")
    ] = False,
    status: Annotated[
        bool, typer.Option("--status", help="Print how far each cell is and what is missing for it; compute nothing.")
    ] = False,
    form: Annotated[Format, typer.Option("--format", help="How to print the table.")] = Format.terminal,
    rate: Rate = None,
    submit: Submit = None,
    print_sbatch: PrintSbatch = False,
    quiet: Quiet = False,
) -> None:
    """Compute the published tables again and compare.

    Runs and evaluates what is missing, then prints each value with its interval beside the published one. Exit code 0:
    every cell has a value; 1: some have none, and the footnotes say what to get; 2: the command is wrong.
    """
    from vidattr.reproduce import state

    launcher, arguments = options_of_launcher(arguments or [], submit, print_sbatch)
    if submit is not None and (status or not _tables(arguments)):
        raise ConfigError("--submit without a table to compute", expected="the name of a table, or all; no --status")
    plans = _plans(arguments, only or [], protocol, config_dir, add_configs or [])
    if not _tables(arguments) and not (dry_run or status):
        rows = [state.summary(plan) for plan in plans]
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False) if form is Format.json else state.listing(rows))
    elif status:
        found = [(plan, state.states(plan.cells)) for plan in plans]
        if form is Format.json:
            rows = [{"table": plan.table.name, **one.row()} for plan, states in found for one in states]
            typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        else:
            typer.echo("\n\n".join(state.text(plan, states) for plan, states in found))
    elif dry_run and submit is None:
        _dry_run(plans, form, rate)
    elif submit is not None:
        if dry_run:
            _dry_run(plans, form, rate)
        last = ["reproduce", *arguments, *(word for one in only or [] for word in ("--only", one))]
        last += ["--protocol", protocol.value, "--format", form.value, "--quiet"]
        work = work_of(plans, last, config_dir, add_configs or [])
        submit_work(work, submit, launcher, print_sbatch, quiet, dry_run)
    else:
        complete = [_compute(plan, form, quiet or form is Format.json) for plan in plans]
        if not all(complete):
            raise typer.Exit(1)


def work_of(plans: Sequence[Plan], last: Sequence[str], folder: Path | None, add: Sequence[Path]) -> Work:
    """Returns the work of tables: the cells that can be computed here, and the command that prints the tables.

    Raises:
        ConfigError: None can.
    """
    from vidattr.cluster.work import Work

    ready = [cell for plan in plans for cell in plan.ready]
    if not ready:
        raise ConfigError("no cell can be computed here", remedy="--status says what is missing for each")
    run = dict.fromkeys(cell.run_overrides for cell in ready if cell.needs_maps)
    evaluate = dict.fromkeys(cell.overrides for cell in ready)
    return Work(
        folder=one_folder([cell.experiment for cell in ready]),
        run=tuple(run),
        evaluate=tuple(evaluate),
        last=tuple(last),
        config_dir=folder,
        add_configs=tuple(add),
    )


def _tables(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments that are no overrides."""
    return [one for one in arguments if "=" not in one and not one.startswith("~")]


def _plans(
    arguments: Sequence[str], only: Sequence[str], protocol: Which, folder: Path | None, add: Sequence[Path]
) -> list[Plan]:
    from vidattr.errors import unknown
    from vidattr.reproduce.paper import names_of_tables, paper_table
    from vidattr.reproduce.paper import scale as scale_of
    from vidattr.reproduce.plan import Protocol, plan

    there = names_of_tables(folder, add)
    names = _tables(arguments)
    if not names or "all" in names:
        names = there
    for name in names:
        if name not in there:
            raise unknown("table", name, [*there, "all"])
    overrides = [one for one in arguments if "=" in one or one.startswith("~")]
    scales = [one.removeprefix("scale=") for one in overrides if one.startswith("scale=")] or ["paper"]
    if len(scales) > 1:
        raise ConfigError(f"scale={' scale='.join(scales)}", expected="one scale")
    scale = scales[0], scale_of(scales[0], folder=folder, add=add)
    user = [one for one in overrides if not one.startswith("scale=")]
    wanted = tuple(Protocol) if protocol is Which.both else (Protocol(protocol.value),)
    return [
        plan(
            paper_table(name, folder=folder, add=add), scale, user, only=only, protocols=wanted, folder=folder, add=add
        )
        for name in dict.fromkeys(names)
    ]


def _compute(plan: Plan, form: Format, quiet: bool) -> bool:
    """Computes, stores and prints one table; returns whether every cell has a value and no clip failed."""
    from vidattr.reproduce.compare import sheet
    from vidattr.reproduce.running import compute
    from vidattr.reproduce.show import show
    from vidattr.reproduce.stored import write

    results = compute(plan, quiet=quiet)
    found = sheet(plan, results)
    typer.echo(show(found, form.value).removesuffix("\n"))
    paths = write(found, Path(plan.cells[0].experiment.paths.out))
    if form is Format.terminal:
        typer.echo(f"Written: {paths}")
    _tell(results)
    return results.complete


def _tell(results: Results) -> None:
    from vidattr.errors import failure_lines
    from vidattr.run.outcome import tell_doubts

    tell_doubts(results.doubts)
    for line in failure_lines(results.failures, all_clips="all clips", most=20):
        typer.echo(line, err=True)


def _dry_run(plans: Sequence[Plan], form: Format, rate: float | None) -> None:
    from vidattr.reproduce.forecast import plain, text

    if form is Format.json:
        typer.echo(json.dumps([plain(plan, rate) for plan in plans], indent=2, ensure_ascii=False))
    else:
        typer.echo("\n\n".join(text(plan, rate) for plan in plans))
