"""Computes what a plan lacks: maps by `run`, scores by `evaluate`; cells are ordinary experiments of both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vidattr.config.identity import described_once
from vidattr.errors import Failure
from vidattr.evaluate import evaluator, report
from vidattr.evaluate.scores import ScoreSheet
from vidattr.evaluate.summary import Entry
from vidattr.reproduce.plan import Cell, Lack, Plan, Protocol
from vidattr.reproduce.state import scored
from vidattr.run import runner
from vidattr.run.doubts import Doubts
from vidattr.run.job import Job, run_folder


@dataclass(frozen=True)
class Found:
    """What was computed for one cell, in the metric's own unit.

    Attributes:
        entry: The value, its interval and n.
        others: The entries of the baselines and references of its table, in the same column.
    """

    entry: Entry
    others: tuple[Entry, ...]


@dataclass
class Results:
    """What a plan's cells are, and what went wrong.

    Attributes:
        found: A cell's place to what was computed for it.
        lacks: A cell's place to why it has no value.
        failures: Of clips that could not be explained or judged.
        doubts: What is doubtful about the clips.
    """

    found: dict[tuple[str, str, str, Protocol], Found] = field(default_factory=dict)
    lacks: dict[tuple[str, str, str, Protocol], Lack] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    doubts: list[Doubts] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every cell has a value, and no clip failed."""
        return not self.lacks and not self.failures


def compute(plan: Plan, *, quiet: bool = False) -> Results:
    """Runs and evaluates the cells of a plan that can be computed here; what is stored is not computed again.

    Raises:
        ConfigError: An experiment cannot be started.
        OutputError: A file cannot be written.
    """
    results = Results(lacks={cell.place: cell.lack for cell in plan.cells if cell.lack is not None})
    with described_once():
        cells = {cell.place: scored(cell) for cell in plan.ready}
        distinct = {cells[cell.place]: cell for cell in reversed(plan.ready)}
    failed = _run(distinct.values(), results, quiet)
    judged = _evaluate([cell for what, cell in reversed(distinct.items()) if what not in failed], plan, results, quiet)
    for cell in plan.ready:
        what = cells[cell.place]
        found = _of_cell(cell, judged[what]) if what in judged else failed[what]
        if isinstance(found, Found):
            results.found[cell.place] = found
        else:
            results.lacks[cell.place] = found
    return results


def _run(cells: Iterable[Cell], results: Results, quiet: bool) -> dict[Path, Lack]:
    """Runs what judges maps, and returns why those without any map have none."""
    wanted = [cell for cell in cells if cell.needs_maps]
    if not wanted:
        return {}
    jobs = runner.run([cell.experiment for cell in wanted], quiet=quiet)
    results.failures += [failure for job in jobs for failure in job.failures]
    results.doubts += [job.doubts for job in jobs]
    by_folder = {job.folder.path: job for job in jobs}
    failed = {}
    with described_once():
        for cell in wanted:
            folder = run_folder(cell.experiment)
            if not folder.stored():
                failed[scored(cell)] = Lack(_reason(by_folder[folder.path]))
    return failed


def _reason(job: Job) -> str:
    if job.failed is not None:
        return job.failed.found
    return f"no clip has a map; the first error: {job.failures[0].error}" if job.failures else "no clip has a map"


def _evaluate(
    cells: Sequence[Cell], plan: Plan, results: Results, quiet: bool
) -> dict[Path, tuple[ScoreSheet, tuple[Entry, ...]]]:
    """Evaluates cells, and returns for each its score sheet and all entries of the table that it is in."""
    if not cells:
        return {}
    experiments = [replace(cell.experiment, title=_title(plan, cell)) for cell in cells]
    judged = {}
    for sheets in evaluator.evaluate(experiments, quiet=quiet):
        entries = report.build(sheets, None).entries
        for sheet in sheets:
            results.failures += sheet.failures
            results.doubts.append(sheet.doubts)
            if not sheet.baseline:
                judged[sheet.path] = (sheet, entries)
    return judged


def _title(plan: Plan, cell: Cell) -> str:
    """Returns a name that no other cell of the same metric table has."""
    row = plan.table.rows[cell.row]
    return row.title + (", as released" if cell.protocol is Protocol.released and row.released else "")


def _of_cell(cell: Cell, judged: tuple[ScoreSheet, tuple[Entry, ...]]) -> Found | Lack:
    sheet, entries = judged
    mine = [entry for entry in entries if entry.column == cell.scoring.score]
    own = [entry for entry in mine if entry.row == sheet.title and entry.group in ("method", "baseline")]
    if not own:
        titles = ", ".join(dict.fromkeys(entry.column for entry in entries)) or "no clip was judged"
        return Lack(f"the metric has no column {cell.scoring.score!r}: {titles}")
    if own[0].n == 0:
        return Lack("no clip could be judged", "the errors above, or `vidattr status`, say why")
    return Found(own[0], tuple(entry for entry in mine if entry.group in ("baseline", "reference")))
