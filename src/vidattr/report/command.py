"""`vidattr report`: the verb of the command line."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from vidattr.cli_options import AddConfigs, ConfigDir, Json, Quiet

_SHOWN = 5


def report(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[VIDEO]... [KEY=VALUE]...",
            help="The choices of `vidattr run`, or videos and options as for `vidattr explain`. A metric= with its "
            "options names scores that were not made with the defaults.",
        ),
    ] = None,
    config_dir: ConfigDir = None,
    add_configs: AddConfigs = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write to; default: paths.out/report/<dataset>-<key>.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a folder of pages about stored maps and scores, for a browser.

    Takes the choices of the run, also several models, methods or targets, or the videos that were explained. The pages
    need neither a network nor a server: open index.html. They show tables, curves and distributions of the stored
    scores, the agreement of the methods, a gallery with filters, and for each clip its frames with the maps laid over
    them. No map and no score is computed; what is missing is named on the pages.
    """
    from vidattr.config.overrides import is_override
    from vidattr.config.quoting import exists
    from vidattr.run import compose

    asked = overrides or []
    if any(not is_override(one) or exists(one) for one in asked):
        from vidattr.run.explain import experiments_on

        experiments = experiments_on(asked, folder=config_dir, add=add_configs or [])
    else:
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
