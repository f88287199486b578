"""One table over several models, data sets and metrics: the columns of all, a row for each method."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from vidattr.evaluate.summary import Entry
from vidattr.evaluate.table import GROUPS, Table

PARTS = ("dataset", "model", "metric")


def pivoted(tables: Sequence[Table], names: Sequence[Mapping[str, str]]) -> Table:
    """Joins tables: a column's heading begins with those names in which the tables differ.

    Args:
        tables: One for each combination of data set, model and metric.
        names: For each table its names of `PARTS`.

    Returns:
        A table in which a row without a score in a column is empty there; the best of each column is as in its table.
    """
    differ = [part for part in PARTS if len({one.get(part, "") for one in names}) > 1]
    heads = [", ".join(one.get(part, "") for part in differ) for one in names]
    if len(set(heads)) < len(heads):  # the tables differ in an option too
        heads = [f"{head}, {number}" if head else str(number) for number, head in enumerate(heads, start=1)]
    columns, entries = [], dict[tuple[str, str], dict[str, Entry]]()
    for head, table in zip(heads, tables, strict=True):
        titles = {column.title: ", ".join(filter(None, (head, column.title))) for column in table.columns}
        columns += [replace(column, title=titles[column.title]) for column in table.columns]
        for entry in table.entries:
            title = titles[entry.column]
            entries.setdefault((entry.group, entry.row), {})[title] = replace(entry, column=title)
    order = sorted(entries, key=lambda row: GROUPS.index(row[0]))
    whole = [
        entries[group, row].get(column.title) or Entry(row, group, column.title, math.nan, math.nan, math.nan, 0, 0, 0)
        for group, row in order
        for column in columns
    ]
    said = {part: dict.fromkeys(one[part] for one in names if one.get(part)) for part in PARTS}
    caption = "; ".join(f"{part}{'s' * (len(found) > 1)} {', '.join(found)}" for part, found in said.items() if found)
    captions = [f"{head}: {table.caption}." for head, table in zip(heads, tables, strict=True)]
    remarks = [*captions, *dict.fromkeys(remark for table in tables for remark in table.remarks)]
    runs = {key: run for table in tables for key, run in table.runs.items()}
    baselines = {table.baseline for table in tables if table.baseline is not None}
    baseline = baselines.pop() if len(baselines) == 1 else " or ".join(sorted(baselines)) or None
    return Table(caption, tuple(columns), tuple(whole), baseline, tuple(remarks), runs)
