"""Networks, clips and methods of the bench, and small helpers."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import vidattr
from vidattr.models.network.network import VideoModel
from vidattr.models.timesformer import TimeSformer, network_of
from vidattr.protocols import Method
from vidattr.run import compose
from vidattr.types import Query

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
TRANSFORMERS = {"attention_rollout", "generic_attention", "gradient_rollout", "transformer_attribution"}
"""Methods that are defined for networks with attention only."""


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
