"""Divided space-time attention (Bertasius et al., ICML 2021): its attention weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from math import sqrt

from torch import Tensor, nn

from vidattr.models.network.attention import DividedAttention, Fuse
from vidattr.models.network.network import VideoModel


def attention_weights(qkv: Tensor, heads: int) -> Tensor:
    """Returns the weights softmax(q·kᵀ/√d), (rows, heads, S, S), of a (rows, S, 3·heads·d) projection."""
    query, key, _ = split_heads(qkv, heads)
    return (query @ key.transpose(-1, -2) / sqrt(query.shape[-1])).softmax(-1)


def split_heads(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Splits a (rows, S, 3·heads·d) projection into queries, keys and values, each (rows, heads, S, d)."""
    rows, length, _ = qkv.shape
    query, key, value = qkv.view(rows, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
    return query, key, value


def divided_attention(
    temporal: Sequence[str], spatial: Sequence[str], heads: int, grid: tuple[int, int, int]
) -> Callable[[VideoModel, Tensor, Fuse], DividedAttention]:
    """Returns a function that runs a TimeSformer and computes its attention from its projections to queries and keys.

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

        with ExitStack() as hooks:
            for name in (*temporal, *spatial):
                hooks.enter_context(network.hooked(name, partial(keep, name)))
            network(frames)
        return DividedAttention(tuple(kept[name] for name in temporal), tuple(kept[name] for name in spatial), grid)

    return run
