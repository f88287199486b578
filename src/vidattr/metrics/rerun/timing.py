"""The time that a method needs for a map, and its parts.

Uchiyama, T. et al., "Visually explaining 3D-CNN predictions for video classification with an adaptive occlusion
sensitivity analysis", WACV 2023, table V.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from vidattr.config.runtime import Backend, Runtime
from vidattr.errors import ConfigError
from vidattr.models.network.network import VideoModel
from vidattr.profiling import stopwatch
from vidattr.protocols import MapBatch, Method
from vidattr.types import Column, Query, Scores

_NAMED = ("flow", "masks", "network")
_SCORES = ("total", *_NAMED, "assembly", "memory", "clips_per_second", "max_batch")
_MIB = 2**20


@dataclass(frozen=True)
class Timing:
    """Runs every method again on each clip by itself and measures the time, in milliseconds.

    The clock starts with the normalised frames on the device and stops with the map on the device: decoding, transfers
    and pictures do not count. Each run gets a query without stored results, so it computes optical flow again. The
    device's queue is emptied before a time is read.

    The run with the median total is reported for each clip and method, with its parts: `flow`, `masks` (tubes, occluded
    clips), `network` (forward and backward passes) and `assembly` (the rest). The methods run in turn, so that a slow
    phase of the machine affects all of them. The stored maps are not used.

    The paper names neither its machine nor its batch size. Here the machine, its threads, the number of clips in a
    forward pass, the precision and whether the network is compiled are part of the table's caption and of the name of
    the scores, so that a table never mixes times of two machines.

    Attributes:
        repeats: Timed runs per clip and method.
        warmup: Untimed runs per method and group of `runtime.clips` clips: a first run loads and tunes kernels.
        batch: Clips that are explained together; each gets an equal share of the time. 1: as in table V. If a group has
            fewer clips, they are repeated.
    """

    version: ClassVar[int] = 1
    unjudged: ClassVar[str] = ""

    repeats: int = 3
    warmup: int = 5
    batch: int = 1

    def __post_init__(self) -> None:
        for name, least in (("repeats", 1), ("warmup", 0), ("batch", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"metric.{name}={getattr(self, name)}", expected=f"{least} or more")

    def conditions(self, runtime: Runtime) -> dict[str, Any]:
        """Returns the conditions of the times beside clips, network and methods."""
        device = runtime.torch_device()
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
        threads = torch.get_num_threads()
        compiled: dict[str, Any] = {"compile": True} if runtime.compile else {}
        if runtime.backend is not Backend.torch:
            compiled["backend"] = runtime.backend.value
        if device.type == "cuda":
            compiled["graphs"] = runtime.graphs.value
        return {
            "device": name,
            "threads": threads,
            "max_batch": runtime.max_batch,
            "precision": runtime.precision.value,
            **compiled,
        }

    def passes_of(self, method: Method) -> int:
        """The passes of the method for each repetition, without the warm-up."""
        return self.repeats * method.passes

    def score_methods(self, batch: MapBatch, methods: Sequence[Method]) -> Scores:
        """Times the M `methods` on each of the N clips.

        Returns:
            `total`, `flow`, `masks`, `network`, `assembly` in milliseconds per clip; `memory`, the peak of the
            memory that the run added on the GPU, in MiB, NaN on a CPU; `clips_per_second`;
            `max_batch`, the largest forward pass, which is halved when memory runs out.
        """
        model, query = batch.network, batch.query
        N = len(query.seeds)
        clips = [[n % N for n in range(start, start + self.batch)] for start in range(0, N, self.batch)]
        for method in methods:
            for _ in range(self.warmup):
                method(model, _some(query, clips[0]))
        scores = torch.full((len(_SCORES), len(methods), N), torch.nan, dtype=torch.float64)
        for start, group in zip(range(0, N, self.batch), clips, strict=True):
            runs: list[list[dict[str, float]]] = [[] for _ in methods]
            for _ in range(self.repeats):
                for method, mine in zip(methods, runs, strict=True):
                    mine.append(_timed(model, method, _some(query, group)))
            for m, mine in enumerate(runs):
                median = sorted(mine, key=lambda run: run["total"])[(self.repeats - 1) // 2]
                row = torch.tensor(_row(median, self.batch, model), dtype=torch.float64)
                scores[:, m, start : start + self.batch] = row.unsqueeze(1)
        return Scores(dict(zip(_SCORES, scores, strict=True)))

    def summary(self) -> tuple[Column, ...]:
        """Returns mean, median and 95 % point of the total, the means of its parts, GPU memory, clips per second."""
        parts = (Column(f"{part}, ms".capitalize(), score=part, better="lower") for part in (*_NAMED, "assembly"))
        return (
            Column("Total, ms", score="total", better="lower"),
            Column("Median, ms", score="total", better="lower", statistic="median"),
            Column("95 % point, ms", score="total", better="lower", statistic="p95"),
            *parts,
            Column("Peak memory, MiB", score="memory", better="lower", optional=True),
            Column("Clips per second", score="clips_per_second"),
        )


def _some(query: Query, clips: Sequence[int]) -> Query:
    """Returns a query of some of the clips, with an empty cache."""
    places = list(clips)
    return Query(query.frames[places], query.target[places], tuple(query.seeds[i] for i in places))


def _timed(model: VideoModel, method: Method, query: Query) -> dict[str, float]:
    """Returns the seconds of one run by stage, `total`, and the memory that it took on a GPU in MiB."""
    on_gpu = query.frames.device.type == "cuda"
    before = 0
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(query.frames.device)
        before = torch.cuda.memory_allocated(query.frames.device)
    with stopwatch() as seconds:
        method(model, query)
    memory = (torch.cuda.max_memory_allocated(query.frames.device) - before) / _MIB if on_gpu else float("nan")
    return {**seconds, "memory": memory}


def _row(run: dict[str, float], clips: int, model: VideoModel) -> list[float]:
    named = [run.get(part, 0.0) for part in _NAMED]
    times = [1000 * seconds / clips for seconds in (run["total"], *named, run["total"] - sum(named))]
    return [*times, run["memory"], clips / run["total"], model.max_batch]


def _processor() -> str:
    """Returns the name of the processor if Linux reports it, else its architecture."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text("utf-8", errors="replace").splitlines() if facts.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
