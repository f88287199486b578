"""The verb `table` of the command line; torch and pandas are imported when they are needed."""

from __future__ import annotations

from typing import Annotated

import typer

from vidattr.cli_options import AddConfigs, Baseline, ConfigDir, Format, Json, Overrides
from vidattr.evaluate.look import Look, names_of

Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        help="Show this column, by its title, the last part of it, or its score; may be given several times.",
    ),
]
Rows = Annotated[
    list[str] | None, typer.Option("--row", help="Show this row, by its name; may be given several times.")
]
Names = Annotated[
    list[str] | None,
    typer.Option("--name", metavar="OLD=NEW", help="Show another name for a row or a part of a heading."),
]
Precision = Annotated[int | None, typer.Option("--precision", metavar="N", help="Decimals; by default three up to 10.")]
Intervals = Annotated[bool, typer.Option("--intervals/--no-intervals", help="95 % intervals behind the values.")]
Delta = Annotated[bool, typer.Option("--delta/--no-delta", help="Rows of differences to the baseline, with p-values.")]
Counts = Annotated[bool, typer.Option("--counts/--no-counts", help="The columns n, NaN and videos.")]
Notes = Annotated[bool, typer.Option("--notes/--no-notes", help="The notes below the table.")]
Label = Annotated[str, typer.Option("--label", metavar="NAME", help="Label of the LaTeX table, such as tab:main.")]
Wide = Annotated[
    bool | None,
    typer.Option("--wide/--narrow", help="LaTeX: a table* over two columns, or one column; by default as it fits."),
]
Pivot = Annotated[
    bool, typer.Option("--pivot", help="One table over all data sets, models and metrics, a row for each method.")
]

By = Annotated[
    str | None,
    typer.Option(
        "--by",
        metavar="KEY",
        help="Also draw the scores against this option, such as method.areas, which the overrides sweep: one line for "
        "each method, with intervals, as PNG, SVG and CSV beside the table.",
    ),
]


def table(
    overrides: Overrides = None,
    config_dir: ConfigDir = None,
    add_configs: AddConfigs = None,
    baseline: Baseline = "matched",
    form: Annotated[Format, typer.Option("--format", help="How to print the table.")] = Format.terminal,
    columns: Columns = None,
    rows: Rows = None,
    names: Names = None,
    precision: Precision = None,
    intervals: Intervals = True,
    delta: Delta = True,
    counts: Counts = True,
    notes: Notes = True,
    label: Label = "",
    wide: Wide = None,
    pivot: Pivot = False,
    by: By = None,
    as_json: Json = False,
) -> None:
    """Print the table of scores that `evaluate` stored.

    The whole table is written below paths.out/tables in every format; the options choose what is printed of it.
    """
    from vidattr.run import compose

    look = Look(
        columns=tuple(columns or ()),
        rows=tuple(rows or ()),
        names=names_of(names or ()),
        decimals=precision,
        intervals=intervals,
        differences=delta,
        counts=counts,
        notes=notes,
        label=label,
        wide=wide,
    )
    found = compose.experiments(overrides or [], primary="evaluate", folder=config_dir, add=add_configs or [])

    from vidattr.evaluate import evaluator, report

    groups = evaluator.stored_tables(found)
    text = report.show(groups, baseline, "json" if as_json else form.value, look, pivot=pivot, by=by)
    typer.echo(text.removesuffix("\n"))
