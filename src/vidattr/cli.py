"""The command line: verbs, options and exit codes. Hydra parses every key=value.

A verb imports torch only when it needs it: `--help` and a mistyped verb, choice, option or path answer at once. Hence
the imports below `compose.chosen`, which checks names and paths and imports no class.
"""

from __future__ import annotations

import io
import json
import sys
from typing import Annotated

import typer

from vidattr import __version__
from vidattr.benchmark.command import benchmark
from vidattr.cli_list import list_
from vidattr.cli_options import (
    AddConfigs,
    Baseline,
    ConfigDir,
    DryRun,
    FailFast,
    Force,
    Form,
    Format,
    Json,
    Overrides,
    Quiet,
    Shard,
    shard_of,
)
from vidattr.cluster.command import PrintSbatch, Submit, forecast, planned, status, submitted
from vidattr.errors import VidattrError, out_of_memory
from vidattr.evaluate.command import table
from vidattr.process import prepare
from vidattr.report.command import report
from vidattr.reproduce.command import reproduce
from vidattr.training.command import train

app = typer.Typer(
    name="vidattr",
    help="Attribution maps for video networks: which pixels, at which time, decide the class, and how far to trust the "
    "map.\n\nStart with: vidattr list methods; vidattr run method=grad_cam; "
    "vidattr evaluate method=grad_cam metric=s_pt.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(help="Inspect the configuration.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(config_app, name="config")
app.command("list")(list_)
for verb in (table, train, forecast, status, report, reproduce, benchmark):
    app.command()(verb)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"vidattr {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Explains video networks."""


@app.command()
def run(
    overrides: Overrides = None,
    config_dir: ConfigDir = None,
    add_configs: AddConfigs = None,
    dry_run: DryRun = False,
    shard: Shard = "1/1",
    fail_fast: FailFast = False,
    force: Force = False,
    submit: Submit = None,
    print_sbatch: PrintSbatch = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Explain the clips of a dataset.

    Writes maps and pictures below paths.out (visual_res by default). Maps that are stored already are not computed
    again. Exit code 0: all done; 1: some clips failed, each a line of errors.jsonl; 2: the command is wrong.
    """
    from vidattr.run import compose

    part = shard_of(shard)
    refused = {"--shard": part != (1, 1), "--force": force, "--fail-fast": fail_fast, "--json": as_json}
    folders = config_dir, add_configs or []
    submitted("run", submit, overrides or [], *folders, print_sbatch, quiet, dry_run, refused)
    compose.chosen(overrides or [], folder=config_dir, add=add_configs or [])
    found = compose.experiments(overrides or [], folder=config_dir, add=add_configs or [])

    from vidattr.run import outcome, runner

    if dry_run:
        typer.echo(planned("run", found, part, as_json))
        return
    jobs = runner.run(found, shard=part, force=force, fail_fast=fail_fast, quiet=quiet or as_json)
    outcome.report(jobs, as_json, part)


@app.command()
def evaluate(
    overrides: Overrides = None,
    config_dir: ConfigDir = None,
    add_configs: AddConfigs = None,
    baseline: Baseline = "matched",
    form: Form = Format.terminal,
    dry_run: DryRun = False,
    shard: Shard = "1/1",
    submit: Submit = None,
    print_sbatch: PrintSbatch = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score the maps that `run` stored.

    Writes scores per clip, curves and a table, and prints the table. Only the metrics sanity, timing and min_ratio run
    the methods again.
    """
    from vidattr.run import compose

    part = shard_of(shard)
    refused = {"--shard": part != (1, 1), "--json": as_json}
    last = ("--format", form.value, "--baseline", baseline or "none")
    folders = config_dir, add_configs or []
    submitted("evaluate", submit, overrides or [], *folders, print_sbatch, quiet, dry_run, refused, last)
    compose.chosen(overrides or [], primary="evaluate", folder=config_dir, add=add_configs or [])
    found = compose.experiments(overrides or [], primary="evaluate", folder=config_dir, add=add_configs or [])

    from vidattr.evaluate import evaluator, report
    from vidattr.run import outcome

    if dry_run:
        typer.echo(planned("evaluate", found, part, as_json))
        return
    groups = evaluator.evaluate(found, quiet=quiet or as_json, shard=part)
    if part == (1, 1):
        typer.echo(report.show(groups, baseline, "json" if as_json else form.value).removesuffix("\n"))
    else:
        typer.echo(report.counts(groups, part, as_json))
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
