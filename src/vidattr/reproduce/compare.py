"""Our values beside the published ones: differences, intervals, the order of the methods, and the footnotes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vidattr.evaluate.summary import Entry
from vidattr.reproduce.order import agreement
from vidattr.reproduce.plan import Cell, Plan, Protocol
from vidattr.reproduce.running import Results

WORDS = {Protocol.printed: "as printed", Protocol.released: "as released"}


@dataclass(frozen=True)
class Value:
    """One of our values, in the unit of the published ones.

    Attributes:
        ours: The value.
        low: Lower end of its 95 % interval; NaN where there is none.
        high: Upper end.
        n: Clips judged.
        n_nan: Clips that could not be judged.
        videos: Videos that the judged clips come from.
        published: The published value; NaN of a baseline.
        lack: Number of the footnote that says why there is no value; 0: there is one.
    """

    ours: float
    low: float
    high: float
    n: int
    n_nan: int
    videos: int
    published: float = math.nan
    lack: int = 0

    @property
    def difference(self) -> float:
        """Ours less the published value."""
        return self.ours - self.published

    @property
    def inside(self) -> bool | None:
        """Whether the published value lies in our interval; None where one of them is missing."""
        if math.isnan(self.low) or math.isnan(self.published):
            return None
        return self.low <= self.published <= self.high


@dataclass(frozen=True)
class TableLine:
    """A row of a block.

    Attributes:
        name: Of the row in the config of the table, or of a baseline.
        title: As it is shown.
        published: NaN of a baseline.
        values: Protocol to value; a protocol without its own value is missing.
        marks: Numbers of its footnotes.
    """

    name: str
    title: str
    published: float
    values: Mapping[Protocol, Value]
    marks: tuple[int, ...] = ()


@dataclass(frozen=True)
class Order:
    """How the order of the methods in a column agrees with the published one: τ, its p-value, how many methods."""

    tau: float
    p: float
    methods: int


@dataclass(frozen=True)
class Block:
    """One column of the published table under one measure.

    Attributes:
        column: Name of the column.
        measure: Name of the measure.
        title: Of both.
        lines: A line for each method.
        baselines: What trivial answers score on the same clips.
        orders: Protocol to the agreement of the order.
    """

    column: str
    measure: str
    title: str
    lines: tuple[TableLine, ...]
    baselines: tuple[TableLine, ...]
    orders: Mapping[Protocol, Order]


@dataclass(frozen=True)
class Sheet:
    """A published table beside ours, ready to be printed.

    Attributes:
        table: Its name.
        scale: Name of the scale.
        unit: Of all values but τ and p.
        caption: What it shows, at what scale, with what in the place of what.
        blocks: Column by column.
        notes: Footnotes; those with a number are marked at their rows.
    """

    table: str
    scale: str
    unit: str
    caption: str
    blocks: tuple[Block, ...]
    notes: tuple[str, ...]

    @property
    def protocols(self) -> list[Protocol]:
        """The protocols of which there is a value."""
        return [one for one in Protocol if any(one in line.values for block in self.blocks for line in block.lines)]


@dataclass
class _Notes:
    """Footnotes in the order in which they are first needed."""

    texts: list[str] = field(default_factory=list)

    def number(self, text: str) -> int:
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1


def sheet(plan: Plan, results: Results) -> Sheet:
    """Returns our values beside the published ones.

    Args:
        plan: The table.
        results: What was computed for its cells.
    """
    notes, blocks = _Notes(), []
    for column, measure in dict.fromkeys((cell.column, cell.measure) for cell in plan.cells):
        cells = [cell for cell in plan.cells if (cell.column, cell.measure) == (column, measure)]
        blocks.append(_block(plan, results, cells, notes))
    table = plan.table
    general = [doubt.says for doubt in table.doubts if _is_general(doubt.cells)]
    words = [f"As printed: {table.protocol.printed}", f"As released: {table.protocol.released}"]
    about = [
        f"Published and ours in the paper's unit ({table.unit}); brackets: our 95 % interval over videos; in: whether "
        "the published value lies in it; n: clips judged.",
        "τ: Kendall's τ-b of our order of the methods and the published one; p: two-sided permutation test, n! orders "
        "up to 7 methods.",
    ]
    numbered = [f"[{number}] {text}" for number, text in enumerate(notes.texts, start=1)]
    return Sheet(
        table.name, plan.scale, table.unit, _caption(plan), tuple(blocks), (*about, *words, *general, *numbered)
    )


def _is_general(pattern: str) -> bool:
    return pattern == "*/*"


def _caption(plan: Plan) -> str:
    table = plan.table
    facts = [
        f"{table.name}: {table.summary} ({table.source})",
        f"scale={plan.scale}{f': {plan.caption}' if plan.caption else ''}",
    ]
    if plan.user:
        facts.append(f"with {' '.join(plan.user)}")
    if stand_ins := dict.fromkeys(one for cell in plan.ready for one in cell.stand_ins):
        facts.append(f"stand-ins: {', '.join(stand_ins)}")
    return "; ".join(facts)


def _block(plan: Plan, results: Results, cells: Sequence[Cell], notes: _Notes) -> Block:
    table, first = plan.table, cells[0]
    times = table.measures[first.measure].times
    lines = []
    for row in dict.fromkeys(cell.row for cell in cells):
        mine = [cell for cell in cells if cell.row == row]
        values = {cell.protocol: _value(results, cell, times, notes) for cell in mine}
        doubts = [table.doubts[place] for place in table.doubts_of(row, first.column)]
        marks = tuple(notes.number(doubt.says) for doubt in doubts if not _is_general(doubt.cells))
        lines.append(TableLine(row, table.rows[row].title, mine[0].published, values, marks))
    others: dict[str, dict[Protocol, Value]] = {}
    for cell in cells:
        if cell.place in results.found:
            for entry in (one for one in results.found[cell.place].others if one.n):
                others.setdefault(entry.row, {}).setdefault(cell.protocol, _scaled(entry, times))
    orders = {protocol: _order(lines, protocol, plan) for protocol in Protocol}
    return Block(
        first.column,
        first.measure,
        f"{table.columns[first.column].title}: {table.measures[first.measure].title}",
        tuple(lines),
        tuple(TableLine(name, name, math.nan, values) for name, values in others.items()),
        {protocol: order for protocol, order in orders.items() if not math.isnan(order.tau)},
    )


def _value(results: Results, cell: Cell, times: float, notes: _Notes) -> Value:
    if cell.place in results.found:
        return _scaled(results.found[cell.place].entry, times, cell.published)
    lack = results.lacks[cell.place]
    number = notes.number(f"{lack.found}; to do: {lack.get}" if lack.get else lack.found)
    return Value(math.nan, math.nan, math.nan, 0, 0, 0, cell.published, number)


def _scaled(entry: Entry, times: float, published: float = math.nan) -> Value:
    values = (entry.value / times, entry.low / times, entry.high / times)
    return Value(*values, entry.n, entry.n_nan, entry.n_videos, published)


def _order(lines: Sequence[TableLine], protocol: Protocol, plan: Plan) -> Order:
    pairs = [
        (line.values[protocol].ours, line.published)
        for line in lines
        if protocol in line.values and not math.isnan(line.values[protocol].ours)
    ]
    seed = plan.cells[0].experiment.settings.seed
    tau, p = agreement([ours for ours, _ in pairs], [published for _, published in pairs], seed=seed)
    return Order(tau, p, len(pairs))
