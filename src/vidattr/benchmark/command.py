"""`vidattr benchmark`: methods on clips whose truth is planted, a leaderboard, and which metric can be trusted."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vidattr.cli_options import AddConfigs, ConfigDir, DryRun, Quiet, Shard, shard_of

if TYPE_CHECKING:
    from vidattr.benchmark.plan import BenchmarkPlan
    from vidattr.benchmark.running import Outcome

Page = Annotated[
    Path | None,
    typer.Option("--page", help="Also write the page and its pictures here, for example docs/BENCHMARK.md."),
]


def benchmark(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="scale=demo, small or full; family=, model= and method= choose some, by names or patterns; clips=N of "
            "each family; other overrides are set in every experiment, such as runtime.device=cuda.",
        ),
    ] = None,
    config_dir: ConfigDir = None,
    add_configs: AddConfigs = None,
    dry_run: DryRun = False,
    shard: Shard = "1/1",
    page: Page = None,
    quiet: Quiet = False,
) -> None:
    """Rank methods on clips whose evidence is known.

    Certifies the clips for each network, explains and judges them, and writes the leaderboard, a sheet of maps for each
    kind of evidence, and the agreement of each metric with the truth. What is stored is not computed again. --shard
    computes the i-th of n parts of the networks and families; without it all is joined and shown. Methods in a folder
    that --add-configs names are compared too. Exit code 0: done; 1: clips failed; 2: the command is wrong.
    """
    from vidattr.benchmark.plan import plan as plan_of
    from vidattr.benchmark.scale import chosen

    part = shard_of(shard)
    plan = plan_of(chosen(overrides or [], folder=config_dir, add=add_configs or []))
    if dry_run:
        typer.echo(_planned(plan, part))
        return
    from vidattr.benchmark.running import compute

    outcome = compute(plan, shard=part, quiet=quiet)
    if part == (1, 1):
        words = [*(overrides or []), *(f"--add-configs {shlex.quote(str(one))}" for one in add_configs or [])]
        typer.echo(
            _written(plan, outcome, shlex.join(["vidattr", "benchmark"]) + "".join(f" {one}" for one in words), page)
        )
    _tell(outcome)


def _planned(plan: BenchmarkPlan, part: tuple[int, int]) -> str:
    from vidattr.benchmark.cost import told

    return told(plan, part)


def _written(plan: BenchmarkPlan, outcome: Outcome, command: str, page: Path | None) -> str:
    """Writes page, pictures and scores, and returns what is printed."""
    from vidattr.benchmark.written import leaderboard_text, write

    summary, path = write(plan, outcome, command, page)
    return f"{leaderboard_text(plan, outcome, summary)}\nWritten: {path}"


def _tell(outcome: Outcome) -> None:
    """Prints doubts and failures; exits with 1 where a clip failed."""
    from vidattr.errors import failure_lines
    from vidattr.run.outcome import tell_doubts

    tell_doubts(outcome.doubts)
    for line in failure_lines(outcome.failures, all_clips="all clips", most=20):
        typer.echo(line, err=True)
    if outcome.failures:
        raise typer.Exit(1)
