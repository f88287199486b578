"""What can be chosen: graphs, kernels and the flow on the device against what they replace; and whether loops wait."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

import vidattr
from gpu.core import Bench
from gpu.inputs import Row, moving, query_of, spearman
from vidattr.config.runtime import GraphMode, Precision
from vidattr.methods.occlusion.flow import Flow, Gray, optical_flow
from vidattr.methods.perturbation.descent import Descent
from vidattr.models.network.network import VideoModel
from vidattr.models.network.passes import Passes
from vidattr.models.speed.kernels import without_kernels
from vidattr.protocols import Method
from vidattr.types import Query

_STEP: Row = {"iterations": 8, "core_start": 3, "areas": [0.1, 0.2]}
_TINY: Row = {"core_kernel": [3, 11, 11], "seed_sigma": 5.0}


def loops(bench: Bench, network: VideoModel) -> Iterator[tuple[str, Method, Query]]:
    """Yields each method with a loop that is recorded or has kernels, and clips for it."""
    still = moving(network, 1)
    yield "aosa", vidattr.load_method("aosa", **({"stride": 16} if bench.tiny else {})), still
    yield "osa", vidattr.load_method("osa", **({"stride": 16} if bench.tiny else {})), still
    yield "rise", vidattr.load_method("rise", masks=48 if bench.tiny else 256), still
    step = _STEP | (_TINY if bench.tiny else {})
    yield "step", vidattr.load_method("step_demo", **step), query_of(network, 1 if bench.tiny else 4)


def fresh(query: Query) -> Query:
    """Returns a query without what an earlier call kept."""
    return dataclasses.replace(query, memo={})


def choices(bench: Bench) -> Iterator[Row]:
    """Runs each loop with and without graphs and kernels: its time, and the largest difference of its map."""
    name = "tiny" if bench.tiny else "r3d_50"
    ways: dict[str, tuple[GraphMode, Callable[[], AbstractContextManager[None]]]] = {
        "neither": (GraphMode.off, without_kernels),
        "kernels": (GraphMode.off, nullcontext),
        "graphs": (GraphMode.auto, without_kernels),
        "both": (GraphMode.auto, nullcontext),
    }
    for precision in (Precision.float32,) if bench.quick or bench.tiny else (Precision.float32, Precision.bfloat16):
        network = bench.network(name, precision, 16)
        for what, method, query in loops(bench, network):
            first: Tensor | None = None
            for way, (graphs, context) in ways.items():
                network = bench.network(name, precision, 16, graphs)
                with context():
                    timed = bench.clock(lambda m=method, n=network, q=query: m(n, fresh(q)), 0.2)  # type: ignore[misc]
                    found = method(network, fresh(query)).map
                first = found if first is None else first
                row: Row = {"method": what, "precision": precision.value, "with": way, "ms": timed["ms"]}
                row["difference"] = float((found - first).abs().max() / first.abs().max().clamp(min=1e-30))
                row["rank"] = spearman(found, first)
                yield row | {"recorded": network.graphs.on}


def waiting(bench: Bench) -> Iterator[Row]:
    """Runs each loop with torch's error mode for synchronisations: one that waits for the device fails by name."""
    name = "tiny" if bench.tiny else "r3d_50"
    for graphs in GraphMode:
        network = bench.network(name, Precision.float32, 16, graphs)
        for what, method, query in loops(bench, network):
            for _ in range(2):  # the first calls may wait: libraries choose their kernels
                method(network, fresh(query))
            row: Row = {"method": what, "graphs": graphs.value}
            with strict(bench.cuda) as bodies:
                try:
                    method(network, fresh(query))
                except RuntimeError as error:
                    row["waited"] = str(error).splitlines()[0]
            row["loop_bodies"] = len(bodies)
            row["waits_of_the_call"] = bench.waits(lambda m=method, n=network, q=query: m(n, fresh(q)))  # type: ignore[misc]
            yield row


@contextmanager
def strict(cuda: bool) -> Iterator[list[str]]:
    """Makes iterations of descent and chunks of passes fail where they wait; yields the list of those that ran."""
    ran: list[str] = []

    def guarded(work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any, **named: Any) -> Any:
            ran.append(work.__name__)
            before = torch.cuda.get_sync_debug_mode() if cuda else 0
            if cuda:
                torch.cuda.set_sync_debug_mode("error")
            try:
                return work(*given, **named)
            finally:
                if cuda:
                    torch.cuda.set_sync_debug_mode(before)

        return run

    with (
        patch.object(Descent, "iterate", guarded(Descent.iterate)),
        patch.object(Passes, "replayed", guarded(Passes.replayed)),
    ):
        yield ran


def flows(bench: Bench) -> Iterator[Row]:
    """Times the flow of OpenCV on the host and on the device, and compares them away from the borders."""
    network = bench.network("tiny" if bench.tiny else "r3d_50", Precision.float32, 16)
    for clips in (1, 2) if bench.tiny else (1, 8):
        pixels = network.view.denormalise(moving(network, clips).frames)
        found = {}
        for flow in (Flow.farneback, Flow.farneback_torch):
            timed = bench.clock(lambda f=flow, p=pixels: optical_flow(p, f, Gray.rgb, None), 0.2)  # type: ignore[misc]
            found[flow] = optical_flow(pixels, flow, Gray.rgb, None)[..., 8:-8, 8:-8]
            far = (found[flow] - found[Flow.farneback]).abs()
            yield {"flow": flow.value, "clips": clips, "ms": timed["ms"], "largest_difference_px": float(far.max())}
