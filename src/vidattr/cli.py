"""The command line: verbs, options and exit codes. Hydra parses every key=value.

A verb imports torch only when it needs it: `--help` and a mistyped verb, choice, option or path answer at once. Hence
the imports below `compose.chosen`, which checks names and paths and imports no class.
"""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from vidattr.cli_options import AddConfigs, Baseline, ConfigDir, Format, Json, Overrides, Quiet, Role
from vidattr.errors import ConfigError, VidattrError, out_of_memory
from vidattr.evaluate.command import table
from vidattr.process import prepare
from vidattr.report.command import report
from vidattr.reproduce.command import reproduce

app = typer.Typer(
    name="vidattr",
    help="Attribution maps for video networks: which pixels, at which time, decide the class, and how far to trust the "
    "map.\n\nStart with: vidattr list methods; vidattr run method=grad_cam; "
    "vidattr evaluate method=grad_cam metric=s_pt.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)
config_app = typer.Typer(help="Inspect the configuration.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(config_app, name="config")
app.command()(table)
app.command()(report)
app.command()(reproduce)


def _shard(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise ConfigError(f"--shard {text[:80]}", expected="i/n with 1 <= i <= n, say 2/8")
    return int(found[1]), int(found[2])


@app.command()
def run(
    overrides: Overrides = None,
    config_dir: ConfigDir = None,
    add_configs: AddConfigs = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print what would be done (experiments, clips, passes, disk space) and do nothing."
        ),
    ] = False,
    shard: Annotated[
        str,
        typer.Option(
            "--shard",
            help="Explain only the i-th of n parts of the clips, as i/n; a part is whole batches of runtime.clips.",
        ),
    ] = "1/1",
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first clip that fails.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Rename the folders of earlier results to <name>.old-<n> and start over.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Explain the clips of a dataset.

    Writes maps and pictures below paths.out (visual_res by default). Maps that are stored already are not computed
    again. Exit code 0: all done; 1: some clips failed, each a line of errors.jsonl; 2: the command is wrong.
    """
    from vidattr.run import compose

    part = _shard(shard)
    compose.chosen(overrides or [], folder=config_dir, add=add_configs or [])
    found = compose.experiments(overrides or [], folder=config_dir, add=add_configs or [])

    from vidattr.run import dry_run as plan
    from vidattr.run import outcome, runner

    if dry_run:
        rows = plan.plan(found, part)
        typer.echo(json.dumps(rows, indent=2) if as_json else plan.text(rows))
        return
    jobs = runner.run(found, shard=part, force=force, fail_fast=fail_fast, quiet=quiet or as_json)
    if part != (1, 1) and not any(job.written or job.present or job.failures for job in jobs):
        words = "whole stretches of runtime.clips clips are shared out, so that a map is the same in every shard"
        typer.echo(f"shard {shard} has no clip: {words}; with runtime.clips=1 every clip is a stretch", err=True)
    outcome.report(jobs, as_json)


@app.command()
def evaluate(
    overrides: Overrides = None,
    config_dir: ConfigDir = None,
    add_configs: AddConfigs = None,
    baseline: Baseline = "matched",
    form: Annotated[Format, typer.Option("--format", help="How to print the table.")] = Format.terminal,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score the maps that `run` stored.

    Writes scores per clip, curves and a table, and prints the table. Only the metrics sanity, timing and min_ratio run
    the methods again.
    """
    from vidattr.run import compose

    compose.chosen(overrides or [], primary="evaluate", folder=config_dir, add=add_configs or [])
    found = compose.experiments(overrides or [], primary="evaluate", folder=config_dir, add=add_configs or [])

    from vidattr.evaluate import evaluator, report
    from vidattr.run import outcome

    groups = evaluator.evaluate(found, quiet=quiet or as_json)
    typer.echo(report.show(groups, baseline, "json" if as_json else form.value))
    outcome.tell_doubts(job.doubts for group in groups for job in group)
    if report.tell_errors(groups, lambda line: typer.echo(line, err=True)):
        raise typer.Exit(1)


@app.command()
def explain(
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="VIDEO... [KEY=VALUE]...", help="Video files or folders of frames, then options."),
    ],
    config_dir: ConfigDir = None,
    add_configs: AddConfigs = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Explain video files of your own.

    Uses the model that you choose (model=NAME; without it the command lists those at hand) and the methods (grad_cam if
    none is named). Prints the five most probable classes and the files of map and pictures.
    """
    from vidattr.run.named import named

    named(arguments, folder=config_dir, add=add_configs or [])

    from vidattr.run import explain as own
    from vidattr.run import outcome

    jobs, rows = own.explain_videos(arguments, folder=config_dir, add=add_configs or [], quiet=quiet or as_json)
    typer.echo(json.dumps(rows, indent=2) if as_json else own.text(rows))
    outcome.report_videos(jobs)


@app.command()
def render(
    overrides: Overrides = None,
    config_dir: ConfigDir = None,
    add_configs: AddConfigs = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Draw the pictures of stored maps again.

    For example with another render.colormap. Takes the same choices as the run; no map is computed.
    """
    from vidattr.run import compose

    found = compose.experiments(overrides or [], folder=config_dir, add=add_configs or [])

    from vidattr.run import outcome, runner

    jobs = runner.redraw(found, quiet=quiet or as_json)
    outcome.report(jobs, as_json)


@app.command()
def train(
    overrides: Overrides = None,
    config_dir: ConfigDir = None,
    add_configs: AddConfigs = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder to write to; default: paths.out/train/<model>/<dataset>-<recipe>."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Rename the folder of an earlier training to <name>.old-<n> and start over.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Train a network on the clips of a dataset.

    Writes weights, a log and its curves after each epoch; started again, it goes on after the last whole epoch. With
    several GPUs: torchrun --nproc-per-node=N -m vidattr train ...
    """
    from vidattr.run import compose

    compose.chosen(overrides or [], primary="train", folder=config_dir, add=add_configs or [])

    from vidattr.config.settings import check_out
    from vidattr.training.composed import composed
    from vidattr.training.train import train as start
    from vidattr.writing import set_durable

    asked = composed(overrides or [], folder=config_dir, add=add_configs or [])
    folder = asked.folder if out is None else out
    check_out(str(folder), "paths.out" if out is None else "--out")
    set_durable(asked.runtime.durable)
    parts = asked.recipe, asked.model, asked.dataset
    result = start(*parts, out=folder, runtime=asked.runtime, notes=asked.notes, force=force, quiet=quiet)
    if result.first:
        typer.echo(result.text())
    if result.left_out:
        raise typer.Exit(1)


@app.command("list")
def list_(role: Role, config_dir: ConfigDir = None, add_configs: AddConfigs = None, as_json: Json = False) -> None:
    """List the methods, models, datasets, metrics or recipes that there are."""
    from vidattr.config import catalogue
    from vidattr.config.folders import search_order

    rows = catalogue.listing(role.value.removesuffix("s"), search_order(config_dir, add_configs or []))
    typer.echo(json.dumps(rows, indent=2) if as_json else catalogue.text(rows))


@config_app.command("show")
def config_show(
    overrides: Overrides = None,
    config_dir: ConfigDir = None,
    add_configs: AddConfigs = None,
    as_json: Json = False,
) -> None:
    """Print the configuration of every experiment."""
    from vidattr.run import compose

    found = compose.experiments(overrides or [], primary="evaluate", folder=config_dir, add=add_configs or [])

    from vidattr.run import dry_run as plan

    typer.echo(plan.configuration(found, as_json))


@app.command()
def doctor(config_dir: ConfigDir = None, add_configs: AddConfigs = None, as_json: Json = False) -> None:
    """Check the installation.

    Prints the versions of packages, the devices, and which data sets and weights are found where.
    """
    from vidattr.run import doctor as checks

    rows = checks.diagnosis(config_dir, add_configs or [])
    typer.echo(json.dumps(rows, indent=2) if as_json else checks.text(rows))


def main() -> None:
    """Runs the command line. A user error is one message and the exit code of its type; a bug keeps its traceback."""
    prepare()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names may hold bytes that no encoding can print
    try:
        app()
    except VidattrError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:  # of a disk or a path, where no more specific error was raised
        typer.echo(
            f"error: {error.strerror or error}" + (f": {str(error.filename)[:300]}" if error.filename else ""), err=True
        )
        sys.exit(1)
    except Exception as error:
        if not out_of_memory(error):
            raise
        remedy = "a smaller network or model.input.size, fewer runtime.workers, or more memory"
        typer.echo(f"error: out of memory: {error}\n  to do: {remedy}", err=True)
        sys.exit(1)
