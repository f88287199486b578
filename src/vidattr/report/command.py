"""`vidattr report`: the verb of the command line."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from vidattr.cli_options import AddConfigs, ConfigDir, Json, Overrides, Quiet

_SHOWN = 5


def report(
    overrides: Overrides = None,
    config_dir: ConfigDir = None,
    add_configs: AddConfigs = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write to; default: paths.out/report/<dataset>-<key>.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a folder of pages about stored maps and scores, for a browser.

    Takes the choices of the run, also several models, methods or targets. The pages need neither a network nor a
    server: open index.html. Shown are tables, curves and distributions of all stored scores (or of those that metric=
    names), the agreement of the methods, a gallery with filters, and for each clip its frames with the maps laid over
    them. No map and no score is computed; what is missing is named on the pages.
    """
    from vidattr.run import compose

    asked = overrides or []
    names_metric = any(one.lstrip("+~").partition("=")[0].partition(".")[0] == "metric" for one in asked)
    primary = "evaluate" if names_metric else "run"
    compose.chosen(asked, primary=primary, folder=config_dir, add=add_configs or [])
    experiments = compose.experiments(asked, primary=primary, folder=config_dir, add=add_configs or [])

    from vidattr.config.settings import check_out
    from vidattr.errors import failure_lines
    from vidattr.report import build, collect

    check_out(experiments[0].paths.out)
    groups = collect.collect(experiments, folder=config_dir, add=add_configs or [])
    command = shlex.join(["vidattr", *sys.argv[1:]])
    made = build.write(groups, out or build.default_folder(groups), command, quiet=quiet or as_json)
    if as_json:
        row = {"folder": str(made.folder), "clips": made.clips, "bytes": made.bytes, "seconds": round(made.seconds, 1)}
        row["missing"] = made.missing
        row["failures"] = [failure.row() for failure in made.failures]
        typer.echo(json.dumps(row, indent=2))
    else:
        typer.echo(f"{made.clips} clips, {made.bytes / 1e6:.1f} MB, {made.seconds:.0f} s: {made.folder / 'index.html'}")
        for line in made.missing[:_SHOWN]:
            typer.echo(f"  not shown: {line}")
        if len(made.missing) > _SHOWN:
            typer.echo(f"  and {len(made.missing) - _SHOWN} more, on the first page")
        for line in failure_lines(made.failures, most=_SHOWN):
            typer.echo(line, err=True)
    if made.failures:
        raise typer.Exit(1)
