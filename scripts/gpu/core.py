"""One run of the bench: its options, its clock, and the numbers that it has so far."""

from __future__ import annotations

import json
import os
import resource
import signal
import statistics
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from gpu.inputs import SMALL, Row, Work, shown
from vidattr.config.runtime import Device, GraphMode, Precision, Runtime
from vidattr.models.network.network import VideoModel
from vidattr.run import compose


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

    def __init__(
        self,
        device: str,
        out: Path,
        seconds: float,
        *,
        quick: bool,
        tiny: bool,
        clips: Path | None = None,
        weights: Path | None = None,
        only: Sequence[str] = (),
    ) -> None:
        self.clips, self.weights, self.only = clips, weights, only
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
        if self.only and name not in self.only:
            return
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

    def runtime(self, precision: Precision, batch: int, graphs: GraphMode = GraphMode.auto) -> Runtime:
        """Returns the settings of a run on the bench's device."""
        return Runtime(device=Device(self.device.type), max_batch=batch, precision=precision, graphs=graphs)

    def network(self, name: str, precision: Precision, batch: int, graphs: GraphMode = GraphMode.auto) -> VideoModel:
        """Loads a network once, and sets it to a precision and a batch size."""
        if name not in self.networks:
            torch.manual_seed(0)
            fields: Row = {"input": SMALL} if name == "tiny" else {"weights": "random"}
            model = compose.part("model", "tiny_r2plus1d" if name == "tiny" else name, fields)
            self.networks[name] = model.load()
        return self.hold(self.networks[name].run_with(self.runtime(precision, batch, graphs)))

    def hold(self, network: VideoModel) -> VideoModel:
        """Holds torch's number formats at the precision of a network, until the next one is held."""
        self.held.close()
        self.held.enter_context(network.arithmetic())
        return network

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
