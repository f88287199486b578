"""The options and choices that several verbs of the command line share."""

from __future__ import annotations

import re
from enum import StrEnum, auto
from pathlib import Path
from typing import Annotated

import typer

from vidattr.config import completing
from vidattr.errors import ConfigError

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        autocompletion=completing.overrides,
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
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Print what would be done (experiments, clips, passes, time, disk space) and do nothing."
    ),
]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="Stop at the first clip that fails.")]
Force = Annotated[
    bool, typer.Option("--force", help="Rename the folders of earlier results to <name>.old-<n> and start over.")
]
Shard = Annotated[
    str,
    typer.Option(
        "--shard",
        help="Do only the i-th of n parts of the clips, as i/n; a part is whole batches of runtime.clips. `evaluate` "
        "without --shard joins the scores of the parts.",
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


Form = Annotated[Format, typer.Option("--format", help="How to print the table.")]


def shard_of(text: str) -> tuple[int, int]:
    """Returns (i, n) of `--shard i/n`; raises ConfigError for anything else."""
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise ConfigError(f"--shard {text[:80]}", expected="i/n with 1 <= i <= n, say 2/8")
    return int(found[1]), int(found[2])
