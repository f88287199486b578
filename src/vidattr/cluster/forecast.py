"""How long experiments take and how much disk they fill, before they are run.

Seconds of an experiment = clips · (seconds of reading, classifying, drawing and storing a clip + passes of the method ·
seconds of a pass). Each of these is, in this order of preference, measured on the device with the same network and
method, measured with the same network, or twice its multiply-adds at a stated rate (`speeds`). A pass with the gradient
of the input counts twice there. What is left out: starting Python, loading the network, and the decoding of videos
where it takes longer than the network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from vidattr.cluster.speeds import Speeds, gmac, network_of, this_device
from vidattr.config.identity import described_once
from vidattr.protocols import CountedPasses, ForwardOnly, Method, NetworkMetric
from vidattr.run import dry_run as plan
from vidattr.run.dry_run import size_text
from vidattr.run.experiment import Experiment

CLIP_SECONDS = 0.3
"""Seconds that are assumed for reading, drawing and storing a clip where they were not measured."""


class Basis(IntEnum):
    """What a forecast rests on, the best first."""

    method = 0  # this method was measured with this network
    network = 1  # passes of this network were measured
    rate = 2  # multiply-adds at a stated rate
    unknown = 3  # neither is known


@dataclass(frozen=True)
class Cost:
    """What some work costs.

    Attributes:
        passes: Passes of a clip through the network, forward, or forward and backward.
        seconds: On one device; None: nothing is known of the network's speed.
        bytes: Of the files that are written.
        basis: What `seconds` rests on.
    """

    passes: int
    seconds: float | None
    bytes: int
    basis: Basis

    def __add__(self, other: Cost) -> Cost:
        known = self.seconds is not None and other.seconds is not None
        return Cost(
            self.passes + other.passes,
            (self.seconds or 0.0) + (other.seconds or 0.0) if known else None,
            self.bytes + other.bytes,
            max(self.basis, other.basis),
        )


NOTHING = Cost(0, 0.0, 0, Basis.method)


def speeds_of(experiment: Experiment, rate: float | None = None) -> Speeds:
    """Returns what is known of the device that an experiment runs on, on this machine.

    Args:
        experiment: Any one that runs there.
        rate: TFLOP/s to assume in place of measurements.
    """
    if rate is not None:
        return Speeds(f"device of {rate:g} TFLOP/s", "cuda", rate)
    return Speeds(*this_device(experiment.runtime.device.value))


def cost(experiment: Experiment, clips: int, speeds: Speeds) -> Cost:
    """Returns what it costs to explain and store so many clips; the dataset need not be at hand."""
    method, network = experiment.method, network_of(experiment)
    each, basis = _pass(experiment, method, speeds)
    whole, of_clip = _clip(experiment, speeds)
    measured, drawn = speeds.row(network, _name(method)), speeds.row(network, "clip")
    view = experiment.model.input
    stored = measured.bytes if measured and measured.bytes else 4 * view.frames * view.size[0] * view.size[1]
    known = whole is not None and (each is not None or not method.passes)
    return Cost(
        passes=clips * (1 + method.passes),
        seconds=clips * ((whole or 0.0) + method.passes * (each or 0.0)) if known else None,
        bytes=clips * (stored + (drawn.bytes if drawn else 0)),
        basis=max(basis, of_clip),
    )


def judging_cost(experiment: Experiment, clips: int, speeds: Speeds) -> Cost:
    """Returns what it costs to judge so many maps by the experiment's metric.

    A metric that does not tell its passes (`CountedPasses`) costs as much as reading the clips.
    """
    metric, method = experiment.metric, experiment.method
    passes = metric.passes_of(method) if isinstance(metric, CountedPasses) else 0
    if isinstance(metric, NetworkMetric):
        passes += 1
    rerun = passes and hasattr(metric, "score_methods")
    each, basis = _pass(experiment, method if rerun else None, speeds) if passes else (0.0, Basis.method)
    seconds = None if each is None else clips * (passes * each + CLIP_SECONDS / 3)
    return Cost(clips * passes, seconds, clips * 200, basis)


def _clip(experiment: Experiment, speeds: Speeds) -> tuple[float | None, Basis]:
    """Returns the seconds of a clip without a method."""
    row = speeds.row(network_of(experiment), "clip")
    if row is not None:
        return row.seconds, Basis.method
    each, basis = _pass(experiment, None, speeds)
    return (None if each is None else each + CLIP_SECONDS), basis


def _pass(experiment: Experiment, method: Method | None, speeds: Speeds) -> tuple[float | None, Basis]:
    """Returns the seconds of one pass of a clip: of a method, or, without one, forward."""
    network = network_of(experiment)
    if method is not None and not method.passes:
        return 0.0, Basis.method
    if method is not None and (row := speeds.row(network, _name(method))) is not None:
        return row.seconds, Basis.method
    forward = method is None or isinstance(method, ForwardOnly)
    if (row := speeds.row(network, "forward" if forward else "backward")) is not None:
        return row.seconds, Basis.network
    count = gmac(experiment)
    if count is None:
        return None, Basis.unknown
    return 2 * count * (1 if forward else 2) / (1000 * speeds.rate), Basis.rate


def _name(method: Method) -> str:
    return f"method {type(method).__qualname__}"


method_name = _name


def extend(rows: list[dict[str, Any]], experiments: Sequence[Experiment], rate: float | None = None) -> Cost:
    """Adds `seconds`, `bytes` and `basis` to the rows of a plan (`run.dry_run`), and returns the sum.

    Args:
        rows: One for each experiment; `missing` is the number of clips that are still to be explained.
        experiments: The experiments.
        rate: TFLOP/s to assume in place of measurements.
    """
    found = NOTHING
    with described_once():
        for row, experiment in zip(rows, experiments, strict=True):
            one = cost(experiment, row["missing"], speeds_of(experiment, rate))
            stored = row["bytes"] if row["present"] else max(row["bytes"], one.bytes)
            one = Cost(row["passes"], one.seconds, stored, one.basis)
            row |= {"seconds": one.seconds, "bytes": one.bytes, "basis": one.basis.name}
            found += one
    return found


def told(costs: Iterable[Cost], speeds: Speeds) -> list[str]:
    """Returns the lines under a forecast: its sum, and what it rests on."""
    every = [one for one in costs if one.passes]
    whole = sum(every, NOTHING)
    known = sum((one.seconds or 0.0) for one in every)
    unknown = sum(one.seconds is None for one in every)
    hours = "GPU-hours" if speeds.kind == "cuda" else "hours"
    more = f", and {unknown} of which no speed is known" if unknown else ""
    lines = [
        f"in all {whole.passes} passes, {known / 3600:.3g} {hours} ({duration(known)}) on one {speeds.device}{more}"
    ]
    by = {basis: sum(one.basis is basis for one in every) for basis in Basis}
    if by[Basis.rate]:
        unit = "GFLOP/s" if speeds.rate < 1 else "TFLOP/s"
        rate = speeds.rate * (1000 if speeds.rate < 1 else 1)
        why = "as --rate says" if speeds.stated is not None else "assumed: `vidattr forecast --measure` measures it"
        lines.append(f"{by[Basis.rate]} of {len(every)} by multiply-adds at {rate:g} {unit} ({why})")
    if by[Basis.network]:
        lines.append(f"{by[Basis.network]} of {len(every)} by measured passes of the network, not of the method")
    if by[Basis.unknown]:
        lines.append("no speed is known of networks whose weights bring their code: `vidattr forecast --measure`")
    return lines


def duration(seconds: float | None) -> str:
    """Returns a time as people say it: 42 s, 3.5 min, 7.2 h, 12 d."""
    if seconds is None:
        return "?"
    for most, unit, of in ((100.0, "s", 1.0), (6000.0, "min", 60.0), (360000.0, "h", 3600.0)):
        if seconds < most:
            return f"{seconds / of:.2g} {unit}" if seconds / of < 10 else f"{seconds / of:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def row_of(experiment: Experiment, clips: int, speeds: Speeds) -> dict[str, Any]:
    """Returns the forecast of an experiment whose dataset need not be at hand."""
    one, names = cost(experiment, clips, speeds), experiment.names
    return {
        "experiment": experiment.title,
        "dataset": names["dataset"],
        "model": names["model"],
        "clips": clips,
        **plain(one),
    }


def plain(one: Cost) -> dict[str, Any]:
    """Returns a cost as the values of a row; `of_row` reads them."""
    return {"passes": one.passes, "seconds": one.seconds, "bytes": one.bytes, "basis": one.basis.name}


def of_row(row: Mapping[str, Any]) -> Cost:
    """Returns the cost that a row of a plan tells."""
    return Cost(row["passes"], row["seconds"], row["bytes"], Basis[row["basis"]])


def text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns a forecast as a table."""
    names = ("experiment", "dataset", "model", "clips", "passes")
    table = [[*names, "time", "disk"]]
    table += [[*(str(row[name]) for name in names), duration(row["seconds"]), size_text(row["bytes"])] for row in rows]
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    return "\n".join("  ".join(word.ljust(w) for word, w in zip(line, widths, strict=True)).rstrip() for line in table)


def plan_text(rows: Sequence[dict[str, Any]], experiment: Experiment) -> str:
    """Returns the plan of a run with its forecast, which `extend` added."""
    return "\n".join([plan.text(rows, columns(rows)), *told(map(of_row, rows), speeds_of(experiment))])


def judging_plan(experiments: Sequence[Experiment], shard: tuple[int, int] = (1, 1)) -> list[dict[str, Any]]:
    """Returns a row for each experiment to evaluate: clips with and without a map, and the forecast.

    Raises:
        ConfigError: As `run.dry_run.plan`.
    """
    rows = plan.plan(experiments, shard)
    for row, experiment in zip(rows, experiments, strict=True):
        clips = row["clips"] if isinstance(experiment.metric, NetworkMetric) else row["present"]
        one = judging_cost(experiment, clips, speeds_of(experiment))
        row |= plain(one)
        row["metric"] = experiment.names["metric"]
    return rows


def judging_text(rows: Sequence[dict[str, Any]], experiment: Experiment) -> str:
    """Returns the plan of an evaluation as a table; the baselines of its tables are not counted."""
    names = ("experiment", "dataset", "model", "metric", "clips", "present", "passes")
    table = [[*names, "time"], *([*(str(row[name]) for name in names), duration(row["seconds"])] for row in rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    lines = ["  ".join(word.ljust(w) for word, w in zip(line, widths, strict=True)).rstrip() for line in table]
    return "\n".join([*lines, *told(map(of_row, rows), speeds_of(experiment))])


def columns(rows: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """Returns the columns that a forecast adds to the plan of a run."""
    return {"time": [duration(row["seconds"]) for row in rows], "disk": [size_text(row["bytes"]) for row in rows]}
