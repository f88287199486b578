"""From a published table, a scale and the user's overrides to cells: experiments, and what is missing for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum, auto
from pathlib import Path

from vidattr.config.identity import describe
from vidattr.config.quoting import quoted
from vidattr.errors import ConfigError, VidattrError
from vidattr.protocols import NetworkMetric
from vidattr.reproduce.layers import chosen, layered, without
from vidattr.reproduce.paper import PaperTable, Scoring, TableScale, matches
from vidattr.run.batches import clips_of
from vidattr.run.compose import several
from vidattr.run.experiment import Experiment

ROLES = ("dataset", "model", "method", "metric")


class Protocol(StrEnum):
    """Whose evaluation a value follows: the paper's text, or the released code."""

    printed = auto()
    released = auto()


@dataclass(frozen=True)
class Lack:
    """Why a cell cannot be computed here.

    Attributes:
        found: What is missing.
        get: What to get, and where to put it; "": it is not known.
    """

    found: str
    get: str = ""


@dataclass(frozen=True)
class Cell:
    """One value of a published table under one protocol.

    Attributes:
        row: Name of its row.
        column: Name of its column.
        measure: Name of its measure.
        protocol: The protocol.
        published: The published value, in the table's unit.
        scoring: The metric, and its column.
        overrides: Of `vidattr evaluate`.
        experiment: What they compose; where the weights are missing, with random weights: it is never run.
        lack: Why it cannot be computed here; None: it can.
        stand_ins: What is in the place of which dataset, network, method or metric of the table.
        clips: How many clips the paper judges; 0: this is another dataset, or a part of it.
    """

    row: str
    column: str
    measure: str
    protocol: Protocol
    published: float
    scoring: Scoring
    overrides: tuple[str, ...]
    experiment: Experiment
    lack: Lack | None = None
    stand_ins: tuple[str, ...] = ()
    clips: int = 0

    @property
    def place(self) -> tuple[str, str, str, Protocol]:
        """What tells it from the other cells of its table."""
        return self.row, self.column, self.measure, self.protocol

    @property
    def needs_maps(self) -> bool:
        """Whether its metric judges maps, and not the network alone."""
        return not isinstance(self.experiment.metric, NetworkMetric)

    @property
    def run_overrides(self) -> tuple[str, ...]:
        """The overrides of `vidattr run`, whose maps it judges."""
        return tuple(without(self.overrides, "metric"))


@dataclass(frozen=True)
class Plan:
    """A table at a scale.

    Attributes:
        table: The table.
        scale: Name of the scale.
        caption: What the scale changes, in words.
        user: The user's own overrides.
        cells: Its cells, by column, measure and row; both protocols of a value follow each other.
    """

    table: PaperTable
    scale: str
    caption: str
    user: tuple[str, ...]
    cells: tuple[Cell, ...] = field(repr=False)

    @property
    def ready(self) -> list[Cell]:
        """The cells that can be computed here."""
        return [cell for cell in self.cells if cell.lack is None]


def plan(
    table: PaperTable,
    scale: tuple[str, TableScale],
    user: Sequence[str] = (),
    *,
    only: Sequence[str] = (),
    protocols: Sequence[Protocol] = tuple(Protocol),
    folder: Path | None = None,
    add: Sequence[Path] = (),
) -> Plan:
    """Composes the cells of a table and looks for what they need.

    Args:
        table: The table.
        scale: Name of a scale, and the scale.
        user: Overrides for every cell; they hold over those of table and scale.
        only: Patterns ROW/COLUMN of the cells that are wanted; empty: all.
        protocols: The protocols that are wanted.
        folder: As in `compose.experiments`.
        add: As in `compose.experiments`.

    Raises:
        ConfigError: A wrong override, or `only` names no cell.
    """
    drafts = [draft for draft in _drafts(table, scale[1], user) if draft.protocol in protocols and _wanted(draft, only)]
    if not drafts:
        rows, columns = ", ".join(table.rows), ", ".join(table.columns)
        raise ConfigError(
            f"--only {' '.join(only)}: {table.name} has no such cell" if only else f"{table.name} has no such cell",
            expected=f"ROW/COLUMN, such as '*/{next(iter(table.columns))}'; rows: {rows}; columns: {columns}",
        )
    composed = _composed([draft.tried for draft in drafts], folder, add)
    weights = [_weights(draft, experiment) for draft, experiment in zip(drafts, composed, strict=True)]
    final = [
        [*draft.overrides, f"model.weights={quoted(str(file))}"] if file is not None else draft.overrides
        for draft, file in zip(drafts, weights, strict=True)
    ]
    again = [n for n, file in enumerate(weights) if file is not None]
    for n, experiment in zip(again, _composed([final[n] for n in again], folder, add), strict=True):
        composed[n] = experiment
    looked: dict[str, Lack | None] = {}
    cells = []
    for draft, overrides, experiment, file in zip(drafts, final, composed, weights, strict=True):
        lack = _lack(table, draft, experiment, file, looked)
        stand_ins = tuple(
            f"{experiment.names[role]} for {name}"
            for role, name in draft.names.items()
            if role in experiment.names and experiment.names[role] != name
        )
        whole = experiment.names["dataset"] == draft.names["dataset"] and not any(
            one.startswith(("limit=", "per_class=", "dataset.per_class=")) for one in [*scale[1].overrides, *user]
        )
        cells.append(
            Cell(
                draft.row, draft.column, draft.measure, draft.protocol, draft.published, draft.scoring,
                tuple(overrides), experiment, lack, stand_ins, table.columns[draft.column].clips if whole else 0,
            )
        )  # fmt: skip
    return Plan(table, scale[0], scale[1].caption, tuple(user), tuple(cells))


@dataclass(frozen=True)
class _Draft:
    """A cell before it is composed.

    Attributes:
        names: Role to the name that the table gives it.
        weights: Name of the file of weights, without its suffix; "": none is looked for.
    """

    row: str
    column: str
    measure: str
    protocol: Protocol
    published: float
    scoring: Scoring
    overrides: list[str]
    names: dict[str, str]
    weights: str

    @property
    def tried(self) -> list[str]:
        """Overrides that compose whether or not the file of weights is there."""
        return [*self.overrides, "model.weights=random"] if self.weights else self.overrides


def _drafts(table: PaperTable, scale: TableScale, user: Sequence[str]) -> list[_Draft]:
    """Returns the cells in the order in which they are shown: by column, measure, row and protocol."""
    drafts = []
    for column_name, column in table.columns.items():
        for measure_name in column.measures:
            measure = table.measures[measure_name]
            for row_name, row in table.rows.items():
                published = table.published.get(row_name, {}).get(column_name, {}).get(measure_name)
                if published is None:
                    continue
                printed = [*row.overrides, *column.rows.get(row_name, [])]
                kinds = [(Protocol.printed, measure.printed, printed)]
                if measure.released.score or row.released:
                    scoring = measure.released if measure.released.score else measure.printed
                    kinds.append((Protocol.released, scoring, row.released or printed))
                for protocol, scoring, method in kinds:
                    base = layered(column.overrides, method, scoring.overrides)
                    names = {role: name for role in ROLES if (name := chosen(base, role)) is not None}
                    overrides = layered(base, scale.applied(names), user)
                    model = chosen(overrides, "model") or ""
                    own = column.weights and model == names.get("model")
                    own = own and not any(one.startswith("model.weights=") for one in overrides)
                    weights = column.weights.replace("{model}", model) if own else ""
                    place = row_name, column_name, measure_name, protocol
                    drafts.append(_Draft(*place, float(published), scoring, overrides, names, weights))
    return drafts


def _wanted(draft: _Draft, only: Sequence[str]) -> bool:
    return not only or any(matches(pattern, draft.row, draft.column) for pattern in only)


def _composed(lists: Sequence[Sequence[str]], folder: Path | None, add: Sequence[Path]) -> list[Experiment]:
    distinct = list(dict.fromkeys(map(tuple, lists)))  # the measures of one metric have the same
    found = dict(zip(distinct, several(distinct, primary="evaluate", folder=folder, add=add), strict=True))
    for overrides, experiments in found.items():
        if len(experiments) != 1:
            raise ConfigError(
                f"{' '.join(overrides)} spans {len(experiments)} experiments",
                expected="one value for each option: a cell of a published table is one experiment",
            )
    return [found[tuple(overrides)][0] for overrides in lists]


def _weights(draft: _Draft, experiment: Experiment) -> Path | None:
    """Returns the file of a cell's weights, whatever its suffix; None: there is none, or none is looked for."""
    if not draft.weights:
        return None
    folder = Path(experiment.paths.data) / "weights"
    return next((path for path in sorted(folder.glob(f"{draft.weights}.*")) if path.is_file()), None)


def _lack(
    table: PaperTable, draft: _Draft, experiment: Experiment, file: Path | None, looked: dict[str, Lack | None]
) -> Lack | None:
    """Returns what is missing for a cell: weights first, then clips; each network and dataset is looked at once."""
    data = experiment.paths.data

    def get(name: str) -> str:
        return table.get.get(name, "").replace("{data}", data)

    if draft.weights and file is None:
        return Lack(f"no weights {data}/weights/{draft.weights}.*", get(draft.weights))
    model = f"model {experiment.model!r}"
    if model not in looked:
        looked[model] = None
        try:
            describe(experiment.model)
            if getattr(experiment.model, "weights", "") is None:
                raise ConfigError(f"model={experiment.names['model']} has no weights", remedy="model.weights=FILE")
        except ConfigError as error:
            looked[model] = Lack(error.found, get(draft.weights) or error.remedy or "")
    asked = experiment.settings
    clips = f"clips {experiment.dataset!r} {asked.limit} {asked.per_class} {asked.seed}"
    if clips not in looked:
        looked[clips] = None
        try:
            clips_of(experiment)
        except VidattrError as error:
            looked[clips] = Lack(error.found, get(experiment.names["dataset"]) or error.remedy or "")
    return looked[model] or looked[clips]
