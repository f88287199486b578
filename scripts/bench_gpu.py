"""Agreement and speed on a GPU, from nothing to all numbers in one command of at most six minutes.

    PYTHONPATH=src python scripts/bench_gpu.py [--out FILE] [--seconds S] [--quick] [--device cuda|cpu] [--tiny]

In order: the device; every method on a small clip, the device against the network in float64 on the CPU; peak rates of
    copies and matrix
products; each target with its plain loop, its share of the peak and its memory; a profile of the worst; bare passes by
batch size. The file is written anew after every number, so that a run that is cut short still counts. A section that
fails is recorded, and the next one goes on. It needs neither captum nor files: weights are random, for speed does not
ask what a network knows.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import math
import os
import platform
import resource
import signal
import statistics
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

import vidattr
from vidattr.config.folders import config_dir
from vidattr.config.runtime import Device, Precision, Runtime
from vidattr.errors import ConfigError
from vidattr.methods.occlusion.flow import Flow, Gray, optical_flow
from vidattr.models.network.network import VideoModel
from vidattr.models.network.precision import held
from vidattr.models.speed.memory import within_memory
from vidattr.models.timesformer import TimeSformer, network_of
from vidattr.process import prepare
from vidattr.protocols import MapBatch, Method
from vidattr.run import compose
from vidattr.types import Query, Truth

Row = dict[str, Any]
Work = Callable[[], object]

SMALL = {"frames": 8, "size": [32, 32]}
# What a method that would take long is set to where only agreement is asked for.
SHORT: Row = {
    "masks": 24,
    "iterations": 2,
    "areas": [0.2, 0.4],
    "n": 4,
    "steps": 4,
    "stride": 4,
    "late_from": 2,
    "core_start": 1,
    "stop_window": None,
}
SHORT |= {"channels": 16}
SHORT |= {"core_kernel": [3, 11, 11], "seed_sigma": 5.0, "stride_frames": 4}
SHORT |= {"segments": 24, "scales": [12, 24], "min_voxels": 4, "cells_t": 2, "cells_h": 3, "cells_w": 3}
TRANSFORMERS = {"attention_rollout", "gradient_rollout", "transformer_attribution"}
"""Methods that are defined for networks with attention only."""


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


R50 = [
    Target("r3d_50", "aosa", 60, 728),
    Target("r3d_50", "aosa", 200, 2548, {"stride": 4}),
    Target("r3d_50", "aosa_approx", 15, 302),
    Target("r3d_50", "aosa_approx", 18, 1028, {"stride": 4}),
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


class Cut(BaseException):  # and no Exception, which others may catch
    """Ends a section whose time is over."""


class Flops(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations of convolutions and products, also of a backward pass, by torch's own formulas.

    Unlike torch's `FlopCounterMode` it leaves modules alone, and so counts where a gradient of a leaf is asked for.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs one operation and adds its cost."""
        out = func(*args, **(kwargs or {}))
        cost = flop_registry.get(func._overloadpacket)
        if cost is not None:
            self.total += float(cost(*args, **(kwargs or {}), out_val=out))
        return out


class Bench:
    """One run: its options, its clock, and what it has found, in a file that is always whole."""

    def __init__(self, device: str, out: Path, seconds: float, *, quick: bool, tiny: bool) -> None:
        self.cuda, self.out, self.quick, self.tiny = device == "cuda", out, quick, tiny
        self.device = Runtime(device=Device(device)).torch_device()
        self.end = time.monotonic() + seconds
        self.found: dict[str, Any] = {"command": sys.argv[1:], "sections": {}, "failed": {}}
        self.peak: dict[str, float] = {}  # measured operations a second of a matrix product, by precision
        self.networks: dict[str, VideoModel] = {}
        self.held = ExitStack()

    def save(self) -> None:
        """Writes what there is, whole or not at all."""
        part = self.out.with_name(f".{self.out.name}.{os.getpid()}.part")
        part.write_text(json.dumps(self.found, indent=1) + "\n")
        os.replace(part, self.out)

    def section(self, name: str, limit: float, work: Callable[[], Iterator[Row]]) -> None:
        """Runs one section for at most `limit` seconds and keeps each row as it comes, errors included."""
        start = time.monotonic()
        limit = min(limit, self.end - start)
        rows = self.found["sections"][name] = []
        try:
            if limit < 1:
                raise Cut
            with alarm(limit):
                for row in work():
                    rows.append(row)
                    self.save()
                    print(
                        f"[{name}] "
                        + "  ".join(f"{key}={shown(value)}" for key, value in row.items() if key != "table"),
                        flush=True,
                    )
        except Cut:
            self.found["failed"][name] = f"cut after {time.monotonic() - start:.0f} s: no time left"
        except Exception:
            self.found["failed"][name] = traceback.format_exc()
        if name in self.found["failed"]:
            print(f"[{name}] {self.found['failed'][name]}", flush=True)
        self.found.setdefault("seconds", {})[name] = round(time.monotonic() - start, 1)
        self.save()

    def wait(self) -> None:
        """Waits until the device has nothing left to do."""
        if self.cuda:
            torch.cuda.synchronize()

    def clock(self, work: Work, budget: float = 1.0) -> Row:
        """Times a call: once to warm up, then for `budget` seconds, at least three times (with `--quick` once)."""
        times: list[float] = []
        first, least, budget = 0.0, 1 if self.quick or self.tiny else 3, 0.0 if self.tiny else budget
        while len(times) < least or (sum(times) < budget and len(times) < 20):
            self.wait()
            start = time.perf_counter()
            work()
            self.wait()
            if first:
                times.append(time.perf_counter() - start)
            else:
                first = time.perf_counter() - start
        return {
            "ms": statistics.median(times) * 1e3,
            "spread_ms": (max(times) - min(times)) * 1e3,
            "rounds": len(times),
            "first_ms": first * 1e3,
        }

    def network(self, name: str, precision: Precision, batch: int) -> VideoModel:
        """Loads a network once, and sets it to a precision and a batch size."""
        if name not in self.networks:
            torch.manual_seed(0)
            fields: Row = {"input": SMALL} if name == "tiny" else {"weights": "random"}
            model = compose.part("model", "tiny_r2plus1d" if name == "tiny" else name, fields)
            self.networks[name] = model.load()
        runtime = Runtime(device=Device(self.device.type), max_batch=batch, precision=precision)
        return self.hold(self.networks[name].run_with(runtime))

    def hold(self, network: VideoModel) -> VideoModel:
        """Holds torch's number formats at the precision of a network, until the next one is held."""
        self.held.close()
        self.held.enter_context(network.arithmetic())
        return network

    # -- sections, in their order ------------------------------------------------------------------------------------

    def describe(self) -> Iterator[Row]:
        """Says on what all of this was measured."""
        name = torch.cuda.get_device_name() if self.cuda else platform.processor() or platform.machine()
        row: Row = {
            "device": name,
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "python": platform.python_version(),
        }
        if self.cuda:
            row |= {
                "gib": torch.cuda.get_device_properties(0).total_memory / 2**30,
                "cudnn": torch.backends.cudnn.version(),
            }  # type: ignore[no-untyped-call]
        yield row | {"cpus": os.cpu_count(), "threads": torch.get_num_threads(), "triton": has("triton")}

    def correctness(self) -> Iterator[Row]:
        """Compares every method on the device, in each precision, with itself in float64 on the CPU."""
        for name in sorted(path.stem for path in (config_dir() / "method").glob("*.yaml")):
            make = tiny_transformer if name in TRANSFORMERS else tiny_network
            try:
                yield {"method": name} | self.agreement(make, short(name))
            except Exception as error:  # one method that fails hides none of the others
                self.found["failed"][f"correctness of {name}"] = traceback.format_exc()
                yield {"method": name, "error": f"{type(error).__name__}: {error}"}

    def agreement(self, make: Callable[[], VideoModel], method: Method) -> Row:
        """Compares the device's maps with float64's: largest difference over largest value, and Spearman's rho."""
        exact = make()
        clips = moving(exact, 1 if self.tiny else 2)
        exact.module.double()
        # By a hook, and not with frames in float64, for which a method would draw other random numbers.
        exact.module.register_forward_pre_hook(lambda _module, inputs: (inputs[0].double(),))
        if hasattr(method, "iterations"):  # descent on masks keeps its record in the frames' own precision
            exact.module.register_forward_hook(lambda _module, _inputs, logits: logits.float())
        wanted = method(exact, clips).map.double()
        row: Row = {}
        for precision in (
            (Precision.float32, Precision.tf32, Precision.bfloat16)
            if self.cuda
            else (Precision.float32, Precision.bfloat16)
        ):
            network = self.hold(make().run_with(Runtime(device=Device(self.device.type), precision=precision)))
            found = method(network, on(self.device, clips)).map.double().cpu()
            row[precision.value] = float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1e-30))
            row[f"{precision.value}_rank"] = spearman(found, wanted)
        return row

    def peaks(self) -> Iterator[Row]:
        """Measures what the device can do at best: bytes copied, and products of square matrices."""
        size = 2**20 if self.tiny else 2**30
        data = torch.empty(size, dtype=torch.uint8, device=self.device)
        target, host = torch.empty_like(data), torch.empty(size // 4, dtype=torch.uint8, pin_memory=self.cuda)
        copies: dict[str, tuple[Work, int]] = {"on the device": (lambda: target.copy_(data), 2 * size)}
        copies["from pinned memory"] = (lambda: data[: size // 4].copy_(host, non_blocking=True), size // 4)
        for name, (work, moved) in copies.items():
            yield {"copy": name, "gb_per_s": moved / self.clock(work, 0.3)["ms"] / 1e6}
        n = 128 if self.tiny else 8192
        for precision in Precision:
            dtype = torch.bfloat16 if precision is Precision.bfloat16 else torch.float32
            a, b = (torch.randn(n, n, device=self.device).to(dtype) for _ in range(2))
            with held(precision, self.device.type):
                seconds = self.clock(lambda a=a, b=b: a @ b, 0.3)["ms"] / 1e3  # type: ignore[misc]
            self.peak[precision.value] = 2 * n**3 / seconds
            yield {"matmul": precision.value, "n": n, "tflop_per_s": self.peak[precision.value] / 1e12}

    def bare(self) -> Iterator[Row]:
        """Measures bare passes by batch size, and by how weights lie in memory: what no method can be faster than."""
        names = ["tiny"] if self.tiny else ["r3d_50", "r2plus1d_18"]
        sizes = (1, 2) if self.tiny else (8, 64) if self.quick else (1, 8, 32, 64, 128, 256)
        for name in names:
            for precision in self.precisions():
                network = self.network(name, precision, max(sizes))
                once, clip = (
                    self.flops(lambda n=network: forward(n, query_of(n, 1).frames)),
                    query_of(network, 1).frames,
                )  # type: ignore[misc]
                for size in sizes:
                    for layout in (torch.contiguous_format, torch.channels_last_3d):
                        network.module.to(memory_format=layout)
                        network._memory_format = layout  # what it costs is asked here; no other place sets it
                        network.fold()
                        frames = clip.expand(size, -1, -1, -1, -1).contiguous()
                        timed = self.clock(lambda n=network, x=frames: forward(n, x), 0.2)  # type: ignore[misc]
                        row: Row = {
                            "network": name,
                            "precision": precision.value,
                            "batch": size,
                            "layout": str(layout)[6:],
                        }
                        row |= {
                            "ms_per_clip": timed["ms"] / size,
                            "share_of_peak": self.share(once * size, timed["ms"], precision),
                        }
                        if size >= 8 or self.tiny:
                            both = self.clock(lambda n=network, x=frames: gradient(n, x), 0.2)  # type: ignore[misc]
                            row["ms_per_clip_with_gradient"] = both["ms"] / size
                        yield row
            del self.networks[name]  # as it was written, for what follows
            self.empty()

    def targets(self, rows: list[Target], precision: Precision) -> Iterator[Row]:
        """Measures each target, its plain loop, its share of the peak and its memory."""
        for target in rows:
            batch = 4 if self.tiny else 64 if target.what == "step" else 128
            network = self.network(target.network, precision, batch)
            work, units = self.work(target, network)
            goal = STEP_TF32 if target.what == "step" and precision is Precision.tf32 else target.goal
            self.empty()
            before = self.memory()
            timed = within_memory(network, lambda w=work: self.clock(w))  # type: ignore[misc]
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
            row |= {"max_batch": network.max_batch, "extra_gib": self.memory() - before, "waits": self.waits(work)}
            flops = self.flops(work)
            row |= {"tflop": flops / 1e12 / units, "share_of_peak": self.share(flops, timed["ms"], precision)}
            loop = self.loop(target, self.network(target.network, Precision.tf32, 1))
            yield row | {"plain_loop_ms": loop, "times_as_fast": loop / per}

    def work(self, target: Target, network: VideoModel) -> tuple[Work, int]:
        """Returns what is timed, and how many clips, or clips × iterations, it is."""
        if target.what == "step":
            # Cores from the start: what an iteration costs once it has all its terms. Four ratios a clip, as `step`
            # has.
            count, areas = 2 if self.tiny else 10, [0.02, 0.05, 0.1, 0.2]
            fields: Row = {"core_kernel": [3, 11, 11], "seed_sigma": 5.0} if self.tiny else {}
            method = vidattr.load_method("step_demo", iterations=count, core_start=0, areas=areas, **fields)
            query = query_of(network, network.max_batch // len(areas))
            return (lambda: method(network, query)), network.max_batch * count
        query = moving(network, 1)
        if target.what == "deletion_insertion":
            metric = compose.part("metric", "deletion_insertion", {})
            maps = torch.rand(1, 1, *query.frames.shape[2:], generator=torch.Generator().manual_seed(1)).to(
                network.device
            )
            empty: tuple[tuple[tuple[float, float, float, float], ...], ...] = ((),) * query.frames.shape[2]
            batch = MapBatch(maps, query, [Truth("clip", "", "clip", empty, None)], network)
            return (lambda: metric.score_maps(batch)), 1
        method = vidattr.load_method(target.what, **target.fields)
        return (lambda: method(network, dataclasses.replace(query, memo={}))), 1  # without what an earlier call kept

    def loop(self, target: Target, network: VideoModel) -> float:
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
            return float(self.clock(backward, 0.5)["ms"])
        if target.what == "aosa_approx":
            return float(
                self.clock(
                    lambda: tubes(getattr(vidattr.load_method("aosa_approx", **target.fields), "anchors", 196)), 0.5
                )["ms"]
            )
        if target.what == "deletion_insertion":
            count, work = 58, occluded
        else:
            count = vidattr.load_method(target.what, **target.fields).passes
            work = occluded if target.what != "smoothgrad" else lambda: backward(0.1)
        timed = min(count, 2 if self.tiny else 12)
        return float(self.clock(lambda: [work() for _ in range(timed)], 0.5)["ms"]) * count / timed

    def profile(self) -> Iterator[Row]:
        """Profiles the target that is furthest from its goal: where the time of one call goes."""
        sections = [rows for name, rows in self.found["sections"].items() if name.startswith("targets")]
        rows = [row for rows in sections for row in rows if row.get("goal_ms")]
        if not rows:
            raise RuntimeError("no target was measured")
        worst = max(rows, key=lambda row: row["ms"] / row["goal_ms"])
        target = next(t for t in (*R50, *STEP, *TINY.values()) if t.title == worst["target"])
        work, _ = self.work(target, self.network(target.network, Precision(worst["precision"]), worst["max_batch"]))
        work()
        kinds = [torch.profiler.ProfilerActivity.CPU] + [torch.profiler.ProfilerActivity.CUDA] * self.cuda
        self.wait()
        with torch.profiler.profile(activities=kinds) as profiler:
            start = time.perf_counter()
            work()
            self.wait()
            wall = time.perf_counter() - start
        events = profiler.key_averages()
        own = "self_device_time_total" if self.cuda else "self_cpu_time_total"
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

    # -- what sections share -----------------------------------------------------------------------------------------

    def precisions(self) -> list[Precision]:
        """The precisions that targets are stated in."""
        return [Precision.bfloat16] if self.quick else [Precision.bfloat16, Precision.tf32]

    def share(self, flops: float, ms: float, precision: Precision) -> float | None:
        """Returns the share of the measured peak, or None where that was not measured."""
        peak = self.peak.get(precision.value)
        return flops / (ms / 1e3) / peak if peak else None

    def flops(self, work: Work) -> float:
        """Counts the floating-point operations (a multiplication and an addition are two) of one call."""
        with Flops() as counter:
            work()
        return float(counter.total)

    def memory(self) -> float:
        """Returns the largest memory so far, in GiB: of the device's tensors since `empty`, or of the process."""
        if self.cuda:
            return torch.cuda.max_memory_allocated() / 2**30
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    def empty(self) -> None:
        """Hands free memory back, and counts its largest use from here."""
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def waits(self, work: Work) -> int | None:
        """Counts how often one call makes the host wait for the device; None without a GPU."""
        if not self.cuda:
            return None
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return sum("synchroniz" in str(one.message) for one in caught)

    def run(self) -> None:
        """Runs all sections, the most wanted first."""
        quick = self.quick
        room = 10 if self.tiny else 1  # a test on a busy machine is no measurement
        self.section("device", 20 * room, self.describe)
        self.section("correctness", (25 if quick else 70) * room, self.correctness)
        self.section("peaks", 15 * room, self.peaks)
        main, step, more = ([*TINY.values()], [], []) if self.tiny else (R50, STEP, R18)
        for precision in self.precisions():
            rows = main + step
            self.section(
                f"targets in {precision.value}",
                (40 if quick else 70) * room,
                lambda r=rows, p=precision: self.targets(r, p),
            )  # type: ignore[misc]
        self.section("profile", 20 * room, self.profile)
        if not quick:
            self.section("bare passes", 60 * room, self.bare)
            self.section("targets of r3d_18", 50 * room, lambda: self.targets(more, Precision.bfloat16))
        self.found["complete"] = not self.found["failed"]
        self.save()


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Raises Cut in what runs longer than `seconds`."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise Cut

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def tiny_network() -> VideoModel:
    """The network in the package, on the CPU, on small clips."""
    network: VideoModel = tiny_model().load()
    return network


@functools.cache
def tiny_model() -> Any:
    """The model of `tiny_network`."""
    return compose.part("model", "tiny_r2plus1d", {"input": SMALL})


def tiny_transformer() -> VideoModel:
    """A TimeSformer of two narrow blocks, the same each time."""
    torch.manual_seed(0)
    view = tiny_network().view
    module = TimeSformer((8, 4, 4), 4, width=24, depth=2, heads=2, patch=8)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2)
    return network_of(module, view, ("a", "b", "c", "d"))


def short(name: str) -> Method:
    """Loads a method with few passes."""
    method = vidattr.load_method(name)
    own = {field: getattr(method, field) for field in SHORT if hasattr(method, field)}
    # A field of the same name may mean something else, and without a core loss there is no kernel to shorten.
    fields = {
        field: SHORT[field]
        for field, value in own.items()
        if value != [] and (value is None or type(value) in (type(SHORT[field]), float))
    }
    short: Method = dataclasses.replace(method, **fields)  # type: ignore[type-var]
    return short


def query_of(network: VideoModel, clips: int) -> Query:
    """Makes seeded noise clips of the network's own size."""
    frames = torch.randn(clips, 3, network.view.frames, *network.view.size, generator=torch.Generator().manual_seed(0))
    return Query(
        frames.to(network.device), torch.zeros(clips, dtype=torch.int64, device=network.device), tuple(range(clips))
    )


def moving(network: VideoModel, clips: int) -> Query:
    """Makes clips of a blurred, drifting pattern for optical flow to follow, in whole grey levels: none is rounded."""
    query = query_of(network, clips)
    pattern = torch.nn.functional.avg_pool2d(query.frames[:, :, 0].cpu(), 9, 1, 4) * 400 + 128
    drift = torch.stack([pattern.roll((t, 2 * t), (2, 3)) for t in range(network.view.frames)], 1)  # (N, T, C, H, W)
    pixels = drift.permute(0, 1, 3, 4, 2).clamp(0, 255).to(torch.uint8)
    return dataclasses.replace(query, frames=network.view.normalise(pixels).to(network.device))


def on(device: torch.device, query: Query) -> Query:
    """Returns a query on another device."""
    return dataclasses.replace(query, frames=query.frames.to(device), target=query.target.to(device), memo={})


@torch.no_grad()
def forward(network: VideoModel, frames: Tensor) -> Tensor:
    """One pass."""
    return network(frames)


def gradient(network: VideoModel, frames: Tensor) -> Tensor:
    """One pass and the gradient of its input."""
    leaf = frames.clone().requires_grad_()
    return torch.autograd.grad(network(leaf)[:, 0].sum(), leaf)[0]


def spearman(one: Tensor, other: Tensor) -> float:
    """Returns the rank correlation of two maps, equal values sharing their rank."""
    ranks = []
    for values in (one.flatten(), other.flatten()):
        _, place, count = torch.unique(values, return_inverse=True, return_counts=True)
        middle = count.cumsum(0).double() - count.double() / 2
        ranks.append(middle[place])
    a, b = (rank - rank.mean() for rank in ranks)
    norm = float(a.norm() * b.norm())
    return float(a @ b) / norm if norm else math.nan


def has(module: str) -> str | None:
    """Returns a module's version, or None where it is missing."""
    try:
        return str(__import__(module).__version__)
    except ImportError:
        return None


def shown(value: object) -> str:
    """Shortens a number."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Reads the options and runs; the exit code is 1 where a section failed or was cut."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--out", type=Path, default=Path("bench_gpu.json"), help="the file of numbers")
    parser.add_argument("--seconds", type=float, help="for all of it (330; with --quick 85)")
    parser.add_argument("--quick", action="store_true", help="bfloat16 only, one round of each")
    parser.add_argument("--tiny", action="store_true", help="a tiny network: whether this script works, not how fast")
    arguments = parser.parse_args()
    prepare()
    seconds = arguments.seconds or (85 if arguments.quick else 330)
    try:
        bench = Bench(arguments.device, arguments.out, seconds, quick=arguments.quick, tiny=arguments.tiny)
    except ConfigError as error:
        parser.error(str(error))
    bench.run()
    print(f"written: {arguments.out}" + "".join(f"; failed: {name}" for name in bench.found["failed"]))
    sys.exit(bool(bench.found["failed"]))


if __name__ == "__main__":
    main()
