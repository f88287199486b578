"""What a transformer tells of its attention, block by block, heads already fused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Fuse = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class JointAttention:
    """Every token attends to every token of the clip (ViViT, VideoMAE).

    A network makes it by calling a `Fuse` on each block's attention after the softmax, (N, heads, S, S), rows being
    queries, as soon as it is there: all heads of all blocks together would be gigabytes.

    Attributes:
        blocks: Per block, the first block first, (N, S, S): what is left when heads are fused.
        grid: (t, h, w) of the tokens; they are in this order, w fastest.
        cls: Whether a class token, which the head reads, stands before them: S = t·h·w + 1. Without one the head reads
            the mean of the tokens, and S = t·h·w.
    """

    blocks: tuple[Tensor, ...]
    grid: tuple[int, int, int]
    cls: bool


@dataclass(frozen=True)
class DividedAttention:
    """First each place over time, then each frame over space with its own copy of the class token (TimeSformer).

    With P = h·w places in the order of the grid, w fastest. After a block's spatial attention the copies of the class
    token are averaged; it takes no part in temporal attention.

    Attributes:
        temporal: Per block (N, P, t, t), fused from (N, P, heads, t, t).
        spatial: Per block (N, t, P + 1, P + 1), fused from (N, t, heads, P + 1, P + 1); index 0 is the class token.
        grid: (t, h, w) of the tokens.
    """

    temporal: tuple[Tensor, ...]
    spatial: tuple[Tensor, ...]
    grid: tuple[int, int, int]


Attention = JointAttention | DividedAttention
