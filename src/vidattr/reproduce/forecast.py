"""What a table will cost: passes, seconds and disk of its runs, and passes and seconds of its evaluations.

Cells whose clips are not here count with the number of clips that the table's file gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vidattr.cluster import forecast
from vidattr.cluster.forecast import Cost
from vidattr.cluster.speeds import Speeds
from vidattr.errors import VidattrError
from vidattr.reproduce import gpu
from vidattr.reproduce.plan import Cell, Plan
from vidattr.reproduce.state import scored
from vidattr.run import dry_run
from vidattr.run.batches import clips_of


def plain(plan: Plan, rate: float | None = None) -> dict[str, Any]:
    """Returns the runs and evaluations of a table with what they cost, and the cells that cannot be computed here.

    Args:
        plan: The table.
        rate: TFLOP/s to assume in place of what was measured here.
    """
    return {
        "table": plan.table.name,
        "scale": plan.scale,
        "runs": _runs(plan, rate),
        "evaluations": _evaluations(plan, rate),
        "cannot": [
            {
                "row": cell.row,
                "column": cell.column,
                "protocol": str(cell.protocol),
                "lack": cell.lack.found,
                "get": cell.lack.get,
            }
            for cell in plan.cells
            if cell.lack is not None
        ],
    }


def _runs(plan: Plan, rate: float | None) -> list[dict[str, Any]]:
    cells = {cell.run_overrides: cell for cell in reversed(plan.cells) if cell.needs_maps}
    here = [cell.experiment for cell in cells.values() if cell.lack is None]
    rows = dry_run.plan(here) if here else []
    forecast.extend(rows, here, rate)
    for cell in cells.values():
        if cell.lack is not None and cell.clips:
            rows.append(forecast.row_of(cell.experiment, cell.clips, _speeds(cell, rate)))
    return rows


def _evaluations(plan: Plan, rate: float | None) -> list[dict[str, Any]]:
    rows = []
    for cell in {(scored(cell) if cell.lack is None else cell.overrides): cell for cell in plan.cells}.values():
        if count := _count(cell):
            one, names = forecast.judging_cost(cell.experiment, count, _speeds(cell, rate)), cell.experiment.names
            rows.append({"method": names["method"], "metric": names["metric"], "clips": count, **forecast.plain(one)})
    return rows


def _count(cell: Cell) -> int:
    """Returns the number of clips of a cell: those at hand, or those of the paper."""
    try:
        return len(clips_of(cell.experiment)[0])
    except VidattrError:
        return cell.clips


def _speeds(cell: Cell, rate: float | None) -> Speeds:
    return forecast.speeds_of(cell.experiment, rate)


def text(plan: Plan, rate: float | None = None) -> str:
    """Returns the same for people."""
    lines = [f"{plan.table.name}: {plan.table.summary}; scale={plan.scale}"]
    runs, judged, speeds = _runs(plan, rate), _evaluations(plan, rate), _speeds(plan.cells[0], rate)
    if runs:
        lines += [forecast.text(runs), *_told("runs", runs, speeds)]
    if judged:
        lines += _told("evaluations", judged, speeds)
    if speeds.kind != "cuda" and (line := gpu.told(plan, rate)):
        lines.append(line)
    if not plan.ready:
        lines.append("no cell can be computed here")
    unknown = {cell.experiment.names["dataset"] for cell in plan.cells if cell.lack is not None and not cell.clips}
    if unknown:
        lines.append(f"not counted, since the number of their clips is not known: {', '.join(sorted(unknown))}")
    lacks = dict.fromkeys((cell.lack.found, cell.lack.get) for cell in plan.cells if cell.lack)
    return "\n".join([*lines, *(f"{lack}\n  to do: {get}" if get else lack for lack, get in lacks)])


def _told(what: str, rows: list[Mapping[str, Any]] | list[dict[str, Any]], speeds: Speeds) -> list[str]:
    costs: list[Cost] = [forecast.of_row(row) for row in rows]
    disk = dry_run.size_text(sum(cost.bytes for cost in costs))
    first, *rest = forecast.told(costs, speeds)
    return [f"{len(rows)} {what}, {disk}: {first}", *rest]
