"""Which cells of a table are computed already, which can be, and which cannot and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from vidattr.config.identity import described_once
from vidattr.evaluate.network import network_folder
from vidattr.evaluate.scores import ScoreSheet, read_scores
from vidattr.reproduce.plan import Cell, Lack, Plan
from vidattr.run.batches import clips_of
from vidattr.run.experiment import Experiment
from vidattr.run.job import run_folder
from vidattr.run.store import RunFolder


def scored(cell: Cell) -> Path:
    """Returns the file of the scores of a cell; the measures of one metric share it."""
    return ScoreSheet(cell.experiment, _folder(cell), pd.DataFrame(), {}).path


def _folder(cell: Cell) -> RunFolder:
    return run_folder(cell.experiment) if cell.needs_maps else network_folder(cell.experiment)


@dataclass(frozen=True)
class CellState:
    """How far a cell is.

    Attributes:
        cell: The cell.
        clips: How many clips it has here; 0 where it lacks something.
        maps: How many of them have a map; None: its metric needs none.
        scores: How many of them have a score.
    """

    cell: Cell
    clips: int
    maps: int | None
    scores: int

    @property
    def word(self) -> str:
        """`done`, `missing` or `cannot`."""
        return "cannot" if self.cell.lack else "done" if self.clips and self.scores >= self.clips else "missing"

    def row(self) -> dict[str, Any]:
        """Returns the state as plain values."""
        lack = self.cell.lack or Lack("")
        return {
            "row": self.cell.row,
            "column": self.cell.column,
            "measure": self.cell.measure,
            "protocol": str(self.cell.protocol),
            "state": self.word,
            "clips": self.clips,
            "maps": self.maps,
            "scores": self.scores,
            "lack": lack.found,
            "get": lack.get,
        }


def states(cells: Sequence[Cell]) -> list[CellState]:
    """Returns the state of each cell, from the files of its results."""
    found: list[CellState] = []
    known: dict[Path, CellState] = {}
    clips: dict[str, set[str]] = {}
    with described_once():
        for cell in cells:
            if cell.lack is not None:
                found.append(CellState(cell, 0, 0 if cell.needs_maps else None, 0))
                continue
            what = scored(cell)
            if what not in known:
                asked = _asked(cell.experiment)
                if asked not in clips:
                    clips[asked] = {clip.id for clip in clips_of(cell.experiment)[0]}
                sheet, mine = read_scores(cell.experiment, folder=_folder(cell)), clips[asked]
                maps = len(sheet.folder.stored() & mine) if cell.needs_maps else None
                known[what] = CellState(cell, len(mine), maps, len(sheet.judged() & mine))
            state = known[what]
            found.append(CellState(cell, state.clips, state.maps, state.scores))
    return found


def _asked(experiment: Experiment) -> str:
    settings = experiment.settings
    return f"{experiment.dataset!r} {settings.limit} {settings.per_class} {settings.seed}"


def summary(plan: Plan) -> dict[str, Any]:
    """Returns how many cells of a table are done, missing and cannot be computed here, and what they lack."""
    found = states(plan.cells)
    counts = Counter(state.word for state in found)
    lacks = dict.fromkeys((cell.lack.found, cell.lack.get) for cell in plan.cells if cell.lack)
    return {
        "table": plan.table.name,
        "summary": plan.table.summary,
        "scale": plan.scale,
        "cells": len(found),
        **{word: counts[word] for word in ("done", "missing", "cannot")},
        "lacks": [{"found": lack, "get": get} for lack, get in lacks],
    }


def listing(rows: Sequence[dict[str, Any]]) -> str:
    """Returns the summaries of tables for people: a line each, and below it what is missing."""
    lines = []
    for row in rows:
        counts = ", ".join(f"{row[word]} {word}" for word in ("done", "missing") if row[word]) or "none can be computed"
        cannot = f", {row['cannot']} cannot run here:" if row["cannot"] else ""
        lines.append(f"{row['table']:<8}  {row['summary']}")
        lines.append(f"{'':<8}  {row['cells']} cells at scale={row['scale']}: {counts}{cannot}")
        lines += [f"{'':<10}  {lack['found']}" for lack in row["lacks"]]
    return "\n".join([*lines, "What to get for a table, and where to put it: vidattr reproduce TABLE --status"])


def text(plan: Plan, found: Sequence[CellState]) -> str:
    """Returns the state of each cell for people, and what to get for those that cannot be computed here."""
    names = ("cell", "measure", "protocol", "state", "clips", "maps", "scores")
    table = [names]
    for state in found:
        cell = state.cell
        numbers = (str(state.clips), "" if state.maps is None else str(state.maps), str(state.scores))
        table.append((f"{cell.row}/{cell.column}", cell.measure, str(cell.protocol), state.word, *numbers))
    widths = [max(len(line[i]) for line in table) for i in range(len(names))]
    lines = ["  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip() for line in table]
    lacks = dict.fromkeys((cell.lack.found, cell.lack.get) for cell in plan.cells if cell.lack)
    return "\n".join([*lines, *(f"{lack}\n  to do: {get}" if get else lack for lack, get in lacks)])
