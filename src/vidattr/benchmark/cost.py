"""What a benchmark will cost: its experiments, and a forecast of passes, time and disk."""

from __future__ import annotations

from vidattr.benchmark.plan import BenchmarkPlan
from vidattr.cluster import forecast
from vidattr.run import dry_run
from vidattr.run.dry_run import size_text


def told(plan: BenchmarkPlan, shard: tuple[int, int]) -> str:
    """Returns the plan for people; nothing is computed.

    Args:
        plan: The plan.
        shard: As in `running.compute`.
    """
    chosen, tasks = plan.chosen, list(plan.tasks)[shard[0] - 1 :: shard[1]]
    ready = [task for task in tasks if not task.lack]
    lines = [
        f"scale={chosen.name}: {len(chosen.scale.families)} families, {len(chosen.scale.models)} networks, "
        f"{len(chosen.methods)} methods, {chosen.scale.clips} clips of each family",
        f"methods: {', '.join(chosen.methods)}",
    ]
    lines += [f"not compared: {name}: {reason}" for name, reason in chosen.left_out.items()]
    lines += [f"not judged: {task.name}: {task.lack}" for task in tasks if task.lack]
    if not ready:
        return "\n".join([*lines, "no network is there to be judged"])
    runs = [experiment for task in ready for experiment in task.runs.values()]
    rows = dry_run.plan(runs)
    forecast.extend(rows, runs)
    costs = [forecast.of_row(row) for row in rows]
    speeds = forecast.speeds_of(runs[0])
    judged = [
        forecast.judging_cost(judging.of(experiment), chosen.scale.clips, speeds)
        for task in ready
        for judging in plan.judging
        for experiment in task.runs.values()
        if judging.judges(experiment)
    ]
    disk = size_text(sum(cost.bytes for cost in costs))
    lines += [
        f"{len(runs)} runs, {disk}: {line}" if not n else line for n, line in enumerate(forecast.told(costs, speeds))
    ]
    lines += [
        f"{len(judged)} evaluations: {line}" if not n else line for n, line in enumerate(forecast.told(judged, speeds))
    ]
    return "\n".join(
        [*lines, "Clips that are not certified, and families that are not learned, are not judged: it may be less."]
    )
