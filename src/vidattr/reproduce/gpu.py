"""What tables cost on one GPU of which nothing was measured: GPU-hours before there is a GPU."""

from __future__ import annotations

from collections.abc import Sequence

from vidattr.cluster.forecast import NOTHING, Cost, cost, judging_cost
from vidattr.cluster.speeds import RATES, Speeds
from vidattr.reproduce.plan import Plan
from vidattr.run.dry_run import size_text


def on_gpu(plan: Plan, rate: float | None = None) -> tuple[Cost, Cost]:
    """Returns what all runs and all evaluations of a table cost, as if nothing was computed yet.

    Args:
        plan: The table; of each cell as many clips are counted as the paper has.
        rate: TFLOP/s; None: `cluster.speeds.RATES`.
    """
    speeds = Speeds("one GPU", "cuda", rate or RATES["cuda"])
    runs = {cell.run_overrides: cell for cell in plan.cells if cell.needs_maps}
    judged = {cell.overrides: cell for cell in plan.cells}
    return (
        sum((cost(cell.experiment, cell.clips, speeds) for cell in runs.values()), NOTHING),
        sum((judging_cost(cell.experiment, cell.clips, speeds) for cell in judged.values()), NOTHING),
    )


def told(plan: Plan, rate: float | None = None) -> str:
    """Returns the GPU-hours of a table in one line; "" where the number of its clips is not known."""
    if not all(cell.clips for cell in plan.cells):
        return ""
    run, judged = on_gpu(plan, rate)
    why = "as --rate says" if rate else "assumed"
    return (
        f"the whole table on one GPU at {rate or RATES['cuda']:g} TFLOP/s ({why}): {_hours(run)} GPU-hours of runs, "
        f"{_hours(judged)} of evaluations"
    )


def markdown(plans: Sequence[Plan]) -> str:
    """Returns what tables cost on one GPU as a Markdown table."""
    lines = ["| table | clips of a cell | passes | GPU-hours of runs | GPU-hours of evaluations | disk |"]
    lines.append("| --- |" + " ---: |" * 5)
    for plan in plans:
        run, judged = on_gpu(plan)
        clips = sorted({cell.clips for cell in plan.cells})
        span = "–".join(map(str, dict.fromkeys((clips[0], clips[-1]))))
        cells = [plan.table.name, span, f"{run.passes + judged.passes:,}", _hours(run), _hours(judged)]
        lines.append(f"| {' | '.join([*cells, size_text(run.bytes + judged.bytes)])} |")
    about = f"One GPU at {RATES['cuda']:g} TFLOP/s (assumed, not measured), from the multiply-adds of each network."
    return "\n".join([about, "", *lines])


def _hours(one: Cost) -> str:
    if one.seconds is None:
        return "?"
    hours = one.seconds / 3600
    return f"{hours:.3g}" if hours < 1000 else f"{hours:,.0f}"
