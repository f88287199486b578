"""The targets: each with its plain loop, its share of the peak and its memory, and a profile of the worst."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator

import torch
from torch import Tensor

import vidattr
from gpu.core import Bench
from gpu.inputs import Row, Work, moving, query_of
from vidattr.config.runtime import Precision
from vidattr.methods.occlusion.flow import Flow, Gray, optical_flow
from vidattr.models.network.network import VideoModel
from vidattr.models.speed.graphs import Graphs
from vidattr.models.speed.memory import within_memory
from vidattr.protocols import MapBatch
from vidattr.run import compose
from vidattr.types import Truth


@dataclasses.dataclass(frozen=True)
class Target:
    """One line of the table: what is measured, and how fast it should be on an H100 or H200.

    Attributes:
        what: A method's config, "deletion_insertion", or "step".
        fields: Fields of the method.
        goal: Milliseconds of one clip; of "step": of one clip and iteration; None: no target.
        paper: Milliseconds that were published, of R3D-50 on another GPU, or were in the authors' logs.
    """

    network: str
    what: str
    goal: float | None = None
    paper: float | None = None
    fields: Row = dataclasses.field(default_factory=dict)

    @property
    def title(self) -> str:
        """Names it in the table."""
        fields = " ".join(f"{name}={value}" for name, value in self.fields.items())
        return f"{self.network}: {self.what} {fields}".rstrip()


ON_DEVICE: Row = {"flow": "farneback_torch"}
R50 = [
    Target("r3d_50", "aosa", 60, 728, ON_DEVICE),
    Target("r3d_50", "aosa", 200, 2548, ON_DEVICE | {"stride": 4}),
    Target("r3d_50", "aosa_approx", 15, 302, ON_DEVICE),
    Target("r3d_50", "aosa_approx", 18, 1028, ON_DEVICE | {"stride": 4}),
    Target("r3d_50", "osa", 400, 4759),
    Target("r3d_50", "smoothgrad", 60, 2256, {"n": 50}),
    Target("r3d_50", "grad_cam", 8, 21),
    Target("r3d_50", "saliency_tubes", 8, 21),
    Target("r3d_50", "deletion_insertion", 30),
]
STEP = [Target("r2plus1d_18", "step", 1.0, 35)]
R18 = [
    dataclasses.replace(target, network="r3d_18", goal=None, paper=None)
    for target in R50
    if target.what != "saliency_tubes"
]
STEP_TF32 = 2.5  # milliseconds of one clip and iteration
TINY = {
    target.what: dataclasses.replace(target, network="tiny", fields={"stride": 16} if "os" in target.what else {})
    for target in R50 + STEP
}


def targets(bench: Bench, rows: list[Target], precision: Precision) -> Iterator[Row]:
    """Measures each target, its plain loop, its share of the peak and its memory."""
    for target in rows:
        batch = 4 if bench.tiny else 64 if target.what == "step" else 128
        network = bench.network(target.network, precision, batch)
        work, units = work_of(bench, target, network)
        goal = STEP_TF32 if target.what == "step" and precision is Precision.tf32 else target.goal
        bench.empty()
        before = bench.memory()
        timed = within_memory(network, lambda w=work: bench.clock(w))  # type: ignore[misc]
        per = timed["ms"] / units
        row: Row = {
            "target": target.title,
            "precision": precision.value,
            "ms": per,
            "goal_ms": goal,
            "paper_ms": target.paper,
        }
        row |= {
            "reached": None if goal is None else per <= goal,
            "spread_ms": timed["spread_ms"] / units,
            "rounds": timed["rounds"],
        }
        row |= {"max_batch": network.max_batch, "extra_gib": bench.memory() - before, "waits": bench.waits(work)}
        network.graphs = Graphs()  # operations cannot be counted in a replay
        flops = bench.flops(work)
        row |= {"tflop": flops / 1e12 / units, "share_of_peak": bench.share(flops, timed["ms"], precision)}
        plain = loop(bench, target, bench.network(target.network, Precision.tf32, 1))
        yield row | {"plain_loop_ms": plain, "times_as_fast": plain / per}


def work_of(bench: Bench, target: Target, network: VideoModel) -> tuple[Work, int]:
    """Returns what is timed, and how many clips, or clips × iterations, it is."""
    if target.what == "step":
        # Cores from the start: what an iteration costs once it has all its terms. Four ratios a clip, as `step`
        # has.
        count, areas = 2 if bench.tiny else 10, [0.02, 0.05, 0.1, 0.2]
        fields: Row = {"core_kernel": [3, 11, 11], "seed_sigma": 5.0} if bench.tiny else {}
        method = vidattr.load_method("step_demo", iterations=count, core_start=0, areas=areas, **fields)
        query = query_of(network, network.max_batch // len(areas))
        return (lambda: method(network, query)), network.max_batch * count
    query = moving(network, 1)
    if target.what == "deletion_insertion":
        metric = compose.part("metric", "deletion_insertion", {})
        maps = torch.rand(1, 1, *query.frames.shape[2:], generator=torch.Generator().manual_seed(1)).to(network.device)
        empty: tuple[tuple[tuple[float, float, float, float], ...], ...] = ((),) * query.frames.shape[2]
        batch = MapBatch(maps, query, [Truth("clip", "", "clip", empty, None)], network)
        return (lambda: metric.score_maps(batch)), 1
    method = vidattr.load_method(target.what, **target.fields)
    return (lambda: method(network, dataclasses.replace(query, memo={}))), 1  # without what an earlier call kept


def loop(bench: Bench, target: Target, network: VideoModel) -> float:
    """Times the plain way: the network as written, one clip a pass, TF32, masks made on the host, in milliseconds.

    Of many equal passes twelve are timed and the time is scaled.
    """
    query = moving(network, 1)
    x, module = query.frames, network.module
    mask = torch.ones(x.shape[2:]).index_fill_(1, torch.arange(8), 0.0)

    @torch.no_grad()
    def occluded() -> Tensor:
        out: Tensor = module(x * mask.to(x.device)).softmax(1)
        return out

    def backward(noise: float = 0.0) -> Tensor:
        leaf = (x + noise * torch.randn_like(x)).requires_grad_()
        return torch.autograd.grad(module(leaf)[:, 0].sum(), leaf)[0]

    def tubes(number: int) -> None:
        optical_flow(network.view.denormalise(x), Flow.farneback, Gray.rgb, None)
        field = backward().sum(1)
        for _ in range(number):
            (field * mask.to(x.device)).sum()

    if target.what in ("grad_cam", "saliency_tubes", "step"):
        return float(bench.clock(backward, 0.5)["ms"])
    if target.what == "aosa_approx":
        return float(
            bench.clock(
                lambda: tubes(getattr(vidattr.load_method("aosa_approx", **target.fields), "anchors", 196)), 0.5
            )["ms"]
        )
    if target.what == "deletion_insertion":
        count, work = 58, occluded
    else:
        count = vidattr.load_method(target.what, **target.fields).passes
        work = occluded if target.what != "smoothgrad" else lambda: backward(0.1)
    timed = min(count, 2 if bench.tiny else 12)
    return float(bench.clock(lambda: [work() for _ in range(timed)], 0.5)["ms"]) * count / timed


def profile(bench: Bench) -> Iterator[Row]:
    """Profiles the target that is furthest from its goal: where the time of one call goes."""
    sections = [rows for name, rows in bench.found["sections"].items() if name.startswith("targets")]
    rows = [row for rows in sections for row in rows if row.get("goal_ms")]
    if not rows:
        raise RuntimeError("no target was measured")
    worst = max(rows, key=lambda row: row["ms"] / row["goal_ms"])
    target = next(t for t in (*R50, *STEP, *TINY.values()) if t.title == worst["target"])
    work, _ = work_of(bench, target, bench.network(target.network, Precision(worst["precision"]), worst["max_batch"]))
    work()
    kinds = [torch.profiler.ProfilerActivity.CPU] + [torch.profiler.ProfilerActivity.CUDA] * bench.cuda
    bench.wait()
    with torch.profiler.profile(activities=kinds) as profiler:
        start = time.perf_counter()
        work()
        bench.wait()
        wall = time.perf_counter() - start
    events = profiler.key_averages()
    own = "self_device_time_total" if bench.cuda else "self_cpu_time_total"
    events_by_time = sorted(events, key=lambda event: -float(getattr(event, own, 0)))
    total = sum(float(getattr(event, own, 0)) for event in events) / 1e6
    yield {
        "target": worst["target"],
        "precision": worst["precision"],
        "wall_ms": wall * 1e3,
        "busy_share": total / wall,
    }
    for event in events_by_time[:25]:
        yield {"name": event.key[:90], "ms": float(getattr(event, own, 0)) / 1e3, "calls": event.count}
