"""What a table will cost: passes, and bytes of maps, for the cells whose clips are here."""

from __future__ import annotations

from typing import Any

from vidattr.reproduce.plan import Plan
from vidattr.reproduce.state import scored
from vidattr.run import dry_run


def plain(plan: Plan) -> dict[str, Any]:
    """Returns the plan of the runs that a table needs, and the cells that cannot be computed here."""
    return {
        "table": plan.table.name,
        "scale": plan.scale,
        "runs": _runs(plan),
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


def _runs(plan: Plan) -> list[dict[str, Any]]:
    distinct = {cell.run_overrides: cell.experiment for cell in plan.ready if cell.needs_maps}
    return dry_run.plan(list(distinct.values())) if distinct else []


def text(plan: Plan) -> str:
    """Returns the same for people."""
    lines = [f"{plan.table.name}: {plan.table.summary}; scale={plan.scale}"]
    rows = _runs(plan)
    lines += [dry_run.text(rows)] if rows else []
    scores = {scored(cell) for cell in plan.ready}
    lines.append(f"then {len(scores)} files of scores from them" if scores else "no cell can be computed here")
    lacks = dict.fromkeys((cell.lack.found, cell.lack.get) for cell in plan.cells if cell.lack)
    return "\n".join([*lines, *(f"{lack}\n  to do: {get}" if get else lack for lack, get in lacks)])
