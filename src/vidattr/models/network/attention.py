"""Records of a transformer's attention weights, block by block, with the heads fused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Fuse = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class JointAttention:
    """Every token attends to every token of the clip (ViViT, VideoMAE).

    The network calls a `Fuse` on each block's attention after the softmax, (N, heads, S, S) with a row per query, as
    soon as it is computed: the heads of all blocks together would take gigabytes.

    Attributes:
        blocks: The fused attention (N, S, S) of each block, the first block first.
        grid: (t, h, w) of the tokens, which are in this order, w fastest.
        cls: Whether a class token precedes the others, S = t·h·w + 1, and the head reads it. Without a class token the
            head reads the mean of all tokens, and S = t·h·w.
    """

    blocks: tuple[Tensor, ...]
    grid: tuple[int, int, int]
    cls: bool


@dataclass(frozen=True)
class DividedAttention:
    """Each place attends over time, then each frame over space with its own copy of the class token (TimeSformer).

    There are P = h·w places in the order of the grid, w fastest. The class token takes no part in temporal attention.
    After a block's spatial attention its copies are averaged.

    Attributes:
        temporal: Per block (N, P, t, t), fused from (N, P, heads, t, t).
        spatial: Per block (N, t, P + 1, P + 1), fused from (N, t, heads, P + 1, P + 1); index 0 is the class token.
        grid: (t, h, w) of the tokens.
    """

    temporal: tuple[Tensor, ...]
    spatial: tuple[Tensor, ...]
    grid: tuple[int, int, int]


Attention = JointAttention | DividedAttention
