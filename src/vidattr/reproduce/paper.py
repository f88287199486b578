"""A published table as `configs/paper/<name>.yaml` describes it, and the scale at which it is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from vidattr.config.building import made, unknown_key
from vidattr.config.catalogue import listing
from vidattr.config.folders import search_order
from vidattr.errors import ConfigError
from vidattr.run.compose import choice


@dataclass(frozen=True)
class Scoring:
    """How a protocol gets its number: the metric, and the title of its column in the metric's own table; "": not."""

    overrides: list[str] = field(default_factory=list)
    score: str = ""


@dataclass(frozen=True)
class Measure:
    """What the published values of a column are.

    Attributes:
        title: Its name and unit.
        times: A published value times this has the unit of our metric (0.01 for percent).
        printed: The metric that follows the paper's text.
        released: The metric that follows the released evaluator. Its score is "" where none was released: rows whose
            maps the released code computes otherwise are then judged by `printed`.
    """

    title: str = ""
    times: float = 1.0
    printed: Scoring = field(default_factory=Scoring)
    released: Scoring = field(default_factory=Scoring)


@dataclass(frozen=True)
class TableRow:
    """A method.

    Attributes:
        title: Its name in the paper.
        overrides: `method=…` and its options (`model=…` in a table of networks), following the paper's text.
        released: The same, following the released code; empty: as printed.
    """

    title: str = ""
    overrides: list[str] = field(default_factory=list)
    released: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class TableColumn:
    """A dataset and a network.

    Attributes:
        title: Its name.
        overrides: `dataset=…`, `model=…` and their options.
        weights: Name of the file of weights below `<paths.data>/weights`, without its suffix; "{model}" in it stands
            for the name of the model's config.
        clips: How many clips the paper judges, for forecasts where the dataset is not at hand.
        measures: Names of the measures that are published for it.
        rows: Name of a row to further overrides of its printed protocol in this column.
    """

    title: str = ""
    overrides: list[str] = field(default_factory=list)
    weights: str = ""
    clips: int = 0
    measures: list[str] = field(default_factory=list)
    rows: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Doubt:
    """What is known to be wrong or unknown about some of the published values.

    Attributes:
        cells: A pattern ROW/COLUMN, as of `--only`.
        says: The footnote.
    """

    cells: str = ""
    says: str = ""


@dataclass(frozen=True)
class Protocols:
    """How the values came about, in words: as the paper prints it, and as the released code does it."""

    printed: str = ""
    released: str = ""


@dataclass(frozen=True)
class PaperTable:
    """A published table.

    Attributes:
        name: Of its config, "step_3".
        summary: What it shows.
        source: The paper and the table's number.
        unit: Of the published values: fraction, percent or seconds.
        protocol: In words.
        measures: Name to measure.
        columns: Name to column.
        rows: Name to row.
        published: TableRow to column to measure to value; what the paper leaves out is missing.
        doubts: Footnotes.
        get: Name of a dataset's config, or of a file of weights, to what to get and where to put it; "{data}" in it
            stands for `paths.data`.
    """

    name: str
    summary: str
    source: str
    unit: str
    protocol: Protocols
    measures: Mapping[str, Measure]
    columns: Mapping[str, TableColumn]
    rows: Mapping[str, TableRow]
    published: Mapping[str, Mapping[str, Mapping[str, float]]]
    doubts: Sequence[Doubt]
    get: Mapping[str, str]

    def doubts_of(self, row: str, column: str) -> list[int]:
        """Returns the places of the footnotes of one cell."""
        return [place for place, doubt in enumerate(self.doubts) if matches(doubt.cells, row, column)]


@dataclass(frozen=True)
class TableScale:
    """At what cost a table is computed: what is set in every cell, and what stands in for its parts.

    Attributes:
        caption: What a reader must know; "": nothing.
        overrides: Set in every cell.
        dataset: Name of a dataset's config in the table, or a pattern, to the overrides where a cell has it.
        model: The same by model.
        method: The same by method.
        metric: The same by metric.
    """

    caption: str = ""
    overrides: list[str] = field(default_factory=list)
    dataset: dict[str, list[str]] = field(default_factory=dict)
    model: dict[str, list[str]] = field(default_factory=dict)
    method: dict[str, list[str]] = field(default_factory=dict)
    metric: dict[str, list[str]] = field(default_factory=dict)

    def applied(self, names: Mapping[str, str]) -> list[str]:
        """Returns the overrides for a cell whose parts have these names in the table."""
        found = list(self.overrides)
        for role in ("dataset", "model", "method", "metric"):
            for pattern, overrides in getattr(self, role).items():
                if role in names and fnmatchcase(names[role], pattern):
                    found += overrides
        return found


def matches(pattern: str, row: str, column: str) -> bool:
    """Says whether ROW/COLUMN names a cell: each part may hold * and ?, and several rows or columns between |."""
    rows, _, columns = pattern.partition("/")
    return all(
        any(fnmatchcase(name, one) for one in (names or "*").split("|"))
        for names, name in ((rows, row), (columns, column))
    )


def names_of_tables(folder: Path | None = None, add: Sequence[Path] = ()) -> list[str]:
    """Returns the names of all tables in the config folders."""
    return [row["name"] for row in listing("paper", search_order(folder, add))]


def paper_table(name: str, *, folder: Path | None = None, add: Sequence[Path] = ()) -> PaperTable:
    """Reads `paper/<name>.yaml` of the config folders.

    Raises:
        ConfigError: There is no such table, or its file has an unknown key, a value of a wrong type, or a published
            value of a row, column or measure that it does not describe.
    """
    values = _values("paper", name, folder, add)
    head = next(row for row in listing("paper", search_order(folder, add)) if row["name"] == name)
    where = f"paper={name}"
    known = ("unit", "protocol", "measures", "columns", "rows", "published", "doubts", "get")
    for key in values:
        if key not in known:
            raise unknown_key(where, str(key), known)
    for key in known:
        if not isinstance(values.get(key), list if key == "doubts" else str if key == "unit" else dict):
            kind = "a list" if key == "doubts" else "a text" if key == "unit" else "a mapping"
            raise ConfigError(f"{where}: {key} is {values.get(key)!r:.80}", expected=kind)

    def each(key: str, cls: type) -> dict[str, Any]:
        return {str(one): _whole(cls, part, f"{where}: {key}.{one}") for one, part in values[key].items()}

    table = PaperTable(
        name=name,
        summary=head["summary"],
        source=head["source"],
        unit=values["unit"],
        protocol=_whole(Protocols, values["protocol"], f"{where}: protocol"),
        measures=each("measures", Measure),
        columns=each("columns", TableColumn),
        rows=each("rows", TableRow),
        published=values["published"],
        doubts=[_whole(Doubt, one, f"{where}: doubts") for one in values["doubts"]],
        get={str(key): str(text) for key, text in values["get"].items()},
    )
    _check(table)
    return table


def scale(name: str, *, folder: Path | None = None, add: Sequence[Path] = ()) -> TableScale:
    """Reads `scale/<name>.yaml` of the config folders; raises ConfigError where there is none, or it is wrong."""
    return cast(TableScale, _whole(TableScale, _values("scale", name, folder, add), f"scale={name}"))


def _values(role: str, name: str, folder: Path | None, add: Sequence[Path]) -> dict[str, Any]:
    return cast(dict[str, Any], OmegaConf.to_container(choice(role, name, folder=folder, add=add), resolve=False))


def _whole(cls: type, values: Any, where: str) -> Any:
    """Makes one of the dataclasses above of a mapping that names all of its fields."""
    found = made(cls, _mapping(values, where), where)
    if missing := [one.name for one in fields(cls) if one.name not in values]:
        raise ConfigError(f"{where} has no {missing[0]}", expected=f"{', '.join(one.name for one in fields(cls))}")
    return found


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{where} is {value!r:.80}", expected="a mapping, {name: value}")
    return value


def _check(table: PaperTable) -> None:
    """Raises ConfigError for a published value of nothing, and for a column or row without one."""
    where, seen = f"paper={table.name}", set()
    for row, columns in table.published.items():
        if row not in table.rows:
            raise unknown_key(f"{where}: published", row, table.rows)
        for column, measures in _mapping(columns, f"{where}: published.{row}").items():
            if column not in table.columns:
                raise unknown_key(f"{where}: published.{row}", column, table.columns)
            for measure, value in _mapping(measures, f"{where}: published.{row}.{column}").items():
                if measure not in table.columns[column].measures or measure not in table.measures:
                    raise unknown_key(f"{where}: published.{row}.{column}", measure, table.columns[column].measures)
                if isinstance(value, bool) or not isinstance(value, int | float):
                    raise ConfigError(f"{where}: published.{row}.{column}.{measure}={value!r:.80}", expected="a number")
                seen |= {("columns", column), ("rows", row)}
    for kind, names in (("columns", table.columns), ("rows", table.rows)):
        for name in names:
            if (kind, name) not in seen:
                raise ConfigError(
                    f"{where}: {kind}.{name} has no published value", expected="one or more below published"
                )
