"""What the device is, what it can do at best, and whether every method gives the CPU's maps on it."""

from __future__ import annotations

import os
import platform
import traceback
from collections.abc import Callable, Iterator

import torch

from gpu.core import Bench
from gpu.inputs import (
    TRANSFORMERS,
    Row,
    Work,
    forward,
    gradient,
    has,
    moving,
    on,
    query_of,
    short,
    spearman,
    tiny_network,
    tiny_transformer,
)
from vidattr.config.folders import config_dir
from vidattr.config.runtime import Device, Precision, Runtime
from vidattr.models.network.network import VideoModel
from vidattr.models.network.precision import held
from vidattr.protocols import Method


def describe(bench: Bench) -> Iterator[Row]:
    """Says on what all of this was measured."""
    name = torch.cuda.get_device_name() if bench.cuda else platform.processor() or platform.machine()
    row: Row = {
        "device": name,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
    }
    if bench.cuda:
        row |= {
            "gib": torch.cuda.get_device_properties(0).total_memory / 2**30,
            "cudnn": torch.backends.cudnn.version(),
        }  # type: ignore[no-untyped-call]
    yield row | {"cpus": os.cpu_count(), "threads": torch.get_num_threads(), "triton": has("triton")}


def correctness(bench: Bench) -> Iterator[Row]:
    """Compares every method on the device, in each precision, with itself in float64 on the CPU."""
    for name in sorted(path.stem for path in (config_dir() / "method").glob("*.yaml")):
        make = tiny_transformer if name in TRANSFORMERS else tiny_network
        try:
            yield {"method": name} | agreement(bench, make, short(name))
        except Exception as error:  # one method that fails hides none of the others
            bench.found["failed"][f"correctness of {name}"] = traceback.format_exc()
            yield {"method": name, "error": f"{type(error).__name__}: {error}"}


def agreement(bench: Bench, make: Callable[[], VideoModel], method: Method) -> Row:
    """Compares the device's maps with float64's: largest difference over largest value, and Spearman's rho."""
    exact = make()
    clips = moving(exact, 1 if bench.tiny else 2)
    exact.module.double()
    # By a hook, and not with frames in float64, for which a method would draw other random numbers.
    exact.module.register_forward_pre_hook(lambda _module, inputs: (inputs[0].double(),))
    if hasattr(method, "iterations"):  # descent on masks keeps its record in the frames' own precision
        exact.module.register_forward_hook(lambda _module, _inputs, logits: logits.float())
    wanted = method(exact, clips).map.double()
    row: Row = {}
    for precision in (
        (Precision.float32, Precision.tf32, Precision.bfloat16)
        if bench.cuda
        else (Precision.float32, Precision.bfloat16)
    ):
        network = bench.hold(make().run_with(Runtime(device=Device(bench.device.type), precision=precision)))
        found = method(network, on(bench.device, clips)).map.double().cpu()
        row[precision.value] = float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1e-30))
        row[f"{precision.value}_rank"] = spearman(found, wanted)
    return row


def peaks(bench: Bench) -> Iterator[Row]:
    """Measures what the device can do at best: bytes copied, and products of square matrices."""
    size = 2**20 if bench.tiny else 2**30
    data = torch.empty(size, dtype=torch.uint8, device=bench.device)
    target, host = torch.empty_like(data), torch.empty(size // 4, dtype=torch.uint8, pin_memory=bench.cuda)
    copies: dict[str, tuple[Work, int]] = {"on the device": (lambda: target.copy_(data), 2 * size)}
    copies["from pinned memory"] = (lambda: data[: size // 4].copy_(host, non_blocking=True), size // 4)
    for name, (work, moved) in copies.items():
        yield {"copy": name, "gb_per_s": moved / bench.clock(work, 0.3)["ms"] / 1e6}
    n = 128 if bench.tiny else 8192
    for precision in Precision:
        dtype = torch.bfloat16 if precision is Precision.bfloat16 else torch.float32
        a, b = (torch.randn(n, n, device=bench.device).to(dtype) for _ in range(2))
        with held(precision, bench.device.type):
            seconds = bench.clock(lambda a=a, b=b: a @ b, 0.3)["ms"] / 1e3  # type: ignore[misc]
        bench.peak[precision.value] = 2 * n**3 / seconds
        yield {"matmul": precision.value, "n": n, "tflop_per_s": bench.peak[precision.value] / 1e12}


def bare(bench: Bench) -> Iterator[Row]:
    """Measures bare passes by batch size, and by how weights lie in memory: what no method can be faster than."""
    names = ["tiny"] if bench.tiny else ["r3d_50", "r2plus1d_18"]
    sizes = (1, 2) if bench.tiny else (8, 64) if bench.quick else (1, 8, 32, 64, 128, 256)
    for name in names:
        for precision in bench.precisions():
            network = bench.network(name, precision, max(sizes))
            once, clip = (
                bench.flops(lambda n=network: forward(n, query_of(n, 1).frames)),
                query_of(network, 1).frames,
            )  # type: ignore[misc]
            for size in sizes:
                for layout in (torch.contiguous_format, torch.channels_last_3d):
                    network.module.to(memory_format=layout)
                    network._memory_format = layout  # what it costs is asked here; no other place sets it
                    network.fold()
                    frames = clip.expand(size, -1, -1, -1, -1).contiguous()
                    timed = bench.clock(lambda n=network, x=frames: forward(n, x), 0.2)  # type: ignore[misc]
                    row: Row = {
                        "network": name,
                        "precision": precision.value,
                        "batch": size,
                        "layout": str(layout)[6:],
                    }
                    row |= {
                        "ms_per_clip": timed["ms"] / size,
                        "share_of_peak": bench.share(once * size, timed["ms"], precision),
                    }
                    if size >= 8 or bench.tiny:
                        both = bench.clock(lambda n=network, x=frames: gradient(n, x), 0.2)  # type: ignore[misc]
                        row["ms_per_clip_with_gradient"] = both["ms"] / size
                    yield row
        del bench.networks[name]  # as it was written, for what follows
        bench.empty()
