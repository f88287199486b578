"""The verb `list` of the command line."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from vidattr.cli_options import AddConfigs, ConfigDir, Json, Role


def list_(
    role: Role,
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="Show the options of this one, their defaults and meaning.")
    ] = "",
    config_dir: ConfigDir = None,
    add_configs: AddConfigs = None,
    as_json: Json = False,
) -> None:
    """List the methods, models, datasets, metrics or recipes that there are, or the options of one of them."""
    from vidattr.config import catalogue, described
    from vidattr.config.folders import search_order

    kind = role.value.removesuffix("s")
    if name:
        found = described.described(kind, name, config_dir, add_configs or [])
        typer.echo(json.dumps(found, indent=2) if as_json else described.text(found))
        return
    rows = catalogue.listing(kind, search_order(config_dir, add_configs or []))
    typer.echo(json.dumps(rows, indent=2) if as_json else catalogue.text(rows))
