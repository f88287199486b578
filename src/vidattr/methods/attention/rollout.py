"""The product of attention matrices from a transformer's last block to its first, applied to one row vector."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from vidattr.models.network.attention import Attention, DividedAttention, JointAttention


def rolled_out(attention: Attention, discard: float = 0.0) -> tuple[Tensor, Tensor]:
    """Returns the share of each token in what the head reads.

    Abnar and Zuidema (ACL 2020): a block with attention A mixes tokens by W_l = normalise(A + 1), whose rows sum to 1;
    the 1 is the residual connection. The row of R = W_L … W_1 that the head reads holds the share of each token of the
    first block. Only that row is computed: r ← r · W_l from the last block to the first, in O(L·S²) instead of O(L·S³).

    Args:
        attention: The blocks' attention, heads fused, one row per query.
        discard: Share of a block's weights, the smallest of each clip, that are set to 0; weights equal to the smallest
            one that is kept are kept too.

    Returns:
        (N, t, h, w), and the share (N,) of the class token; together they sum to 1.
    """
    return traced(attention, partial(with_residual, discard=discard))


def traced(attention: Attention, mixed: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Returns the row of W_L … W_1 that the head reads, with W_l = mixed(A_l).

    Args:
        attention: The blocks' matrices A, (N, …, queries, keys).
        mixed: Maps such matrices to the matrices by which their blocks mix the tokens, of the same shape.

    Returns:
        (N, t, h, w), and the class token's entry (N,).
    """
    if isinstance(attention, JointAttention):
        return _joint(attention, mixed)
    return _divided(attention, mixed)


def _joint(attention: JointAttention, mixed: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    like = attention.blocks[0]
    row = torch.zeros_like(like[:, :1])
    if attention.cls:
        row[..., 0] = 1
    else:  # the head reads the mean
        row += 1 / row.shape[-1]
    for block in reversed(attention.blocks):
        row = row @ mixed(block)
    tokens = row[:, 0, int(attention.cls) :]
    return tokens.reshape(-1, *attention.grid), row[:, 0, 0] if attention.cls else torch.zeros_like(row[:, 0, 0])


def _divided(attention: DividedAttention, mixed: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """W_l = B^S_l B^T_l: B^T acts at each position, B^S in each frame with 1/t of the class token's row."""
    t, h, w = attention.grid
    like = attention.spatial[0]
    cls, tokens = like.new_ones(len(like)), like.new_zeros(len(like), t, h * w)
    for temporal, spatial in zip(reversed(attention.temporal), reversed(attention.spatial), strict=True):
        copies = (cls / t)[:, None, None].expand(-1, t, 1)
        frames = (torch.cat([copies, tokens], 2)[:, :, None] @ mixed(spatial))[:, :, 0]
        cls, tokens = frames[:, :, 0].sum(1), frames[:, :, 1:]
        places = tokens.transpose(1, 2)[:, :, None] @ mixed(temporal)
        tokens = places[:, :, 0].transpose(1, 2)
    return tokens.reshape(-1, t, h, w), cls


def accumulated(attention: Attention) -> Tensor:
    """Returns the patches' entries (N, t, h, w) of the row of (1 + A_L) … (1 + A_1) that the head reads.

    The row of a network whose head reads the mean of all tokens is that of the product minus 1: the identity adds the
    same constant to every patch.
    """
    rows, _ = traced(attention, lambda block: block + _identity_like(block))
    if isinstance(attention, JointAttention) and not attention.cls:
        return rows - 1 / attention.blocks[0].shape[-1]
    return rows


def _identity_like(block: Tensor) -> Tensor:
    return torch.eye(block.shape[-1], dtype=block.dtype, device=block.device)


def with_residual(weights: Tensor, discard: float) -> Tensor:
    """Returns normalise(A + 1) of attention (N, …, queries, keys), the smallest weights of each clip set to 0."""
    if discard > 0:
        values = weights.flatten(1)
        count = min(int(discard * values.shape[1]), values.shape[1] - 1)
        threshold = values.sort(1).values[:, count]
        weights = weights * (values >= threshold[:, None]).view_as(weights)
    total = weights + _identity_like(weights)
    return total / total.sum(-1, keepdim=True)
