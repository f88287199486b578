"""The columns and rows of a table that are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vidattr.errors import unknown
from vidattr.evaluate.look import Look
from vidattr.evaluate.table import Table
from vidattr.types import Column


def chosen(tables: Sequence[Table], look: Look) -> list[Table]:
    """Returns the tables with the columns and rows of a look, and this look; one without any column is left out.

    Raises:
        ConfigError: A column or row that no table has.
    """
    for asked in look.columns:
        if not any(_means(asked, column) for table in tables for column in table.columns):
            raise unknown("column", asked, {column.title for table in tables for column in table.columns})
    names = {entry.row for table in tables for entry in table.entries}
    for asked in look.rows:
        if asked not in names:
            raise unknown("row", asked, names)
    return [_shown(table, look) for table in tables if _columns(table, look)]


def _columns(table: Table, look: Look) -> list[Column]:
    if not look.columns:
        return list(table.columns)
    return list(dict.fromkeys(one for asked in look.columns for one in table.columns if _means(asked, one)))


def _means(asked: str, column: Column) -> bool:
    return asked in (column.title, column.score) or column.title.endswith(f", {asked}")


def _shown(table: Table, look: Look) -> Table:
    columns, entries = _columns(table, look), []
    for group in dict.fromkeys(entry.group for entry in table.entries):
        inside = list(dict.fromkeys(entry.row for entry in table.entries if entry.group == group))
        for row in [one for one in look.rows if one in inside] if look.rows else inside:
            for column in columns:
                entries += [e for e in table.entries if (e.row, e.group, e.column) == (row, group, column.title)]
    return replace(table, columns=tuple(columns), entries=tuple(entries), look=look)
