"""Divided space-time attention (Bertasius et al., ICML 2021): its attention weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vidattr.models.network.attention import DividedAttention, Fuse
from vidattr.models.network.network import VideoModel


def attention_weights(qkv: Tensor, heads: int) -> Tensor:
    """Returns the weights softmax(q·kᵀ/√d), (rows, heads, S, S), of a (rows, S, 3·heads·d) projection."""
    query, key, _ = split_heads(qkv, heads)
    return _weights(query, key)


def _weights(query: Tensor, key: Tensor) -> Tensor:
    return (query @ key.transpose(-1, -2) / sqrt(query.shape[-1])).softmax(-1)


def split_heads(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Splits a (rows, S, 3·heads·d) projection into queries, keys and values, each (rows, heads, S, d)."""
    rows, length, _ = qkv.shape
    query, key, value = qkv.view(rows, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
    return query, key, value


class _InGraph(TorchFunctionMode):
    """A mode in which the attention after each of the named projections gives its weights to `fuse`.

    The weights are those that the network multiplies its values by, so that they have a gradient. A fused attention
    (`scaled_dot_product_attention`) is written out for that; its result differs by rounding.
    """

    def __init__(self, clips: int, fuse: Fuse) -> None:
        super().__init__()
        self.clips, self.fuse = clips, fuse
        self.kept: dict[str, Tensor] = {}
        self.projected: str | None = None  # the projection whose attention comes next

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs one call of torch."""
        name = getattr(func, "__name__", "")
        if self.projected is None or name not in ("softmax", "scaled_dot_product_attention"):
            return func(*args, **(kwargs or {}))
        whole = name == "scaled_dot_product_attention"
        weights: Tensor = _weights(*args[:2]) if whole else func(*args, **(kwargs or {}))
        block = weights.view(self.clips, -1, *weights.shape[1:])  # (N, places or frames, heads, S, S)
        self.kept[self.projected], self.projected = self.fuse(block), None
        return block.flatten(0, 1) @ args[2] if whole else block.flatten(0, 1)


def divided_attention(
    temporal: Sequence[str], spatial: Sequence[str], heads: int, grid: tuple[int, int, int]
) -> Callable[[VideoModel, Tensor, Fuse], DividedAttention]:
    """Returns a function that runs a TimeSformer and computes its attention from its projections to queries and keys.

    If gradients are enabled, the weights are taken from the pass itself (`_InGraph`).

    Args:
        temporal: Name of the module in each block that projects for temporal attention.
        spatial: The same for spatial attention.
        heads: Number of heads.
        grid: (t, h, w) of the tokens.
    """

    def run(network: VideoModel, frames: Tensor, fuse: Fuse) -> DividedAttention:
        kept: dict[str, Tensor] = {}

        def keep(name: str, _module: nn.Module, _inputs: object, qkv: Tensor) -> None:
            weights = attention_weights(qkv, heads)
            kept[name] = fuse(weights.view(len(frames), -1, *weights.shape[1:]))  # (N, places or frames, heads, S, S)

        def announce(mode: _InGraph, name: str, _module: nn.Module, _inputs: object, _output: Tensor) -> None:
            mode.projected = name

        with ExitStack() as hooks:
            hook: Callable[..., None] = keep
            if torch.is_grad_enabled():
                mode = hooks.enter_context(_InGraph(len(frames), fuse))
                hook, kept = partial(announce, mode), mode.kept
            for name in (*temporal, *spatial):
                hooks.enter_context(network.hooked(name, partial(hook, name)))
            network(frames)
        return DividedAttention(tuple(kept[name] for name in temporal), tuple(kept[name] for name in spatial), grid)

    return run
