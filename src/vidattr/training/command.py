"""`vidattr train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidattr.cli_options import AddConfigs, ConfigDir, Overrides, Quiet


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
