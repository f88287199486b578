"""The options and choices that several verbs of the command line share."""

from __future__ import annotations

from enum import StrEnum, auto
from pathlib import Path
from typing import Annotated

import typer

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="Choices and options, such as method=grad_cam model=i3d model.weights=FILE. A list (method=gradient,rise) "
        "or a pattern (method=glob(*)) is a sweep over its values; several sweeps are combined. See `vidattr list` and "
        "`vidattr config show`.",
    ),
]
ConfigDir = Annotated[
    Path | None, typer.Option("--config-dir", help="Folder of configs to use instead of vidattr's own.")
]
AddConfigs = Annotated[
    list[Path] | None,
    typer.Option(
        "--add-configs",
        help="Folder with dataset/, model/, method/ or metric/ configs of your own; may be given several times, and "
        "$VIDATTR_ADD_CONFIGS lists more folders.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Baseline = Annotated[
    str | None,
    typer.Option(
        "--baseline",
        help="Row to compare each method with: matched (noise as smooth as its own maps), the name of a row, or none.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress bars.")]


class Role(StrEnum):
    """What `vidattr list` lists."""

    methods = auto()
    models = auto()
    datasets = auto()
    metrics = auto()
    recipes = auto()


class Format(StrEnum):
    """How a table is printed."""

    terminal = auto()
    markdown = auto()
    csv = auto()
    latex = auto()
    json = auto()
