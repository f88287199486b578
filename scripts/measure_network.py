"""Measures one network at its own size, one clip at a time, and prints a row of docs/NETWORKS.md as JSON.

python scripts/measure_network.py r3d_18
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from small_networks import clip_size, query, untrained_network
from vidattr.config.runtime import Runtime
from vidattr.models.network.network import VideoModel
from vidattr.process import prepare

HEADING = ["model", "clip", "device", "forward, s", "peak, GiB", "forward and input gradient, s", "peak, GiB"]
ROUNDS = 3


def device() -> str:
    """Returns the name of what the network runs on."""
    threads = torch.get_num_threads()
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {threads} thread{'s' * (threads > 1)}"


def measure(name: str) -> list[str]:
    """Returns the row of a network, held as a run holds it."""
    network = untrained_network(name).run_with(Runtime(max_batch=1))
    clip = query(network).frames.to(network.device)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()  # to load it took more than to hold it
    loaded = _memory()
    row = [f"`{name}`", clip_size(network.view), device()]
    for work in (_forward, _gradient):  # in this order: the peak of a process never falls
        _, *seconds = (_seconds(work, network, clip) for _ in range(1 + ROUNDS))
        row.append(f"{statistics.median(seconds):.3g}")
        row.append(f"{(_memory() - loaded) / 2**30:.2f}")
    return row


def _memory() -> int:
    """Returns the most bytes that were held at once so far."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@torch.no_grad()
def _forward(network: VideoModel, clip: Tensor) -> None:
    network(clip)


def _gradient(network: VideoModel, clip: Tensor) -> None:
    frames = clip.clone().requires_grad_()
    with network.arithmetic():
        torch.autograd.grad(network(frames)[:, 0].sum(), frames)


def _seconds(work: Callable[[VideoModel, Tensor], None], network: VideoModel, clip: Tensor) -> float:
    start = time.perf_counter()
    work(network, clip)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    prepare()
    print(json.dumps(measure(sys.argv[1])))
