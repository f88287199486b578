"""Divided space-time attention (Bertasius et al., ICML 2021): how its tokens lie, and what its attention weights are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from math import sqrt

from torch import Tensor, nn

from vidattr.models.network.attention import DividedAttention, Fuse
from vidattr.models.network.network import VideoModel


def unfold_divided(grid: tuple[int, int, int], tokens: Tensor, clips: int) -> Tensor:
    """Turns tokens as they lie anywhere in a TimeSformer into (N, width, t, h, w), without the class token.

    Args:
        grid: (t, h, w); P = h·w.
        tokens: (N·t, 1 + P, width) beside a spatial attention, (N·P, t, width) beside a temporal one, (N, 1 + P·t,
            width), time fastest, between blocks. Any other tensor comes back as it is.
        clips: N.
    """
    t, h, w = grid
    shape, width = tokens.shape[:-1], tokens.shape[-1]
    if shape == (clips * t, 1 + h * w):
        return tokens[:, 1:].reshape(clips, t, h, w, width).permute(0, 4, 1, 2, 3)
    if shape == (clips * h * w, t):
        return tokens.reshape(clips, h, w, t, width).permute(0, 4, 3, 1, 2)
    if shape == (clips, 1 + h * w * t):
        return tokens[:, 1:].reshape(clips, h, w, t, width).permute(0, 4, 3, 1, 2)
    return tokens


def attention_weights(qkv: Tensor, heads: int) -> Tensor:
    """Returns the (rows, heads, S, S) weights, softmax(q·kᵀ/√d), of a (rows, S, 3·heads·d) projection; rows sum to 1."""
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
    """Returns what runs a TimeSformer and computes its attention from the projections to queries, keys and values.

    Args:
        temporal: Per block the name of the module that puts them out for its temporal attention.
        spatial: The same for its spatial attention.
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
