"""Attention weights multiplied by the gradient of the explained score."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vidattr.methods.shared.gradients import derivative
from vidattr.methods.shared.scores import Score, score_of
from vidattr.models.network.attention import Attention, DividedAttention
from vidattr.models.network.network import VideoModel


def weighted_attention(
    model: VideoModel,
    frames: Tensor,
    target: Tensor,
    score: Score,
    fused: Callable[[Tensor], Tensor],
    relevance: Sequence[Tensor] | None = None,
) -> Attention:
    """Returns the blocks' matrices fused(∂s_y/∂A ⊙ A), A being the weights of all heads, in one pass and its gradient.

    With `relevance` they are fused(∂s_y/∂A ⊙ R).

    The class token of divided attention has a copy in each of t frames, and the copies are averaged afterwards. As one
    matrix over all tokens, the block therefore has the entries A_f/t for frame f in the class token's row, and the
    product ∂s_y/∂A ⊙ A of this matrix equals that of A_f. The row of a copy is multiplied by t, so that the mean over
    the copies is this row. The relevance of A_f/t is that of A_f, and ∂s_y/∂(A_f/t) ⊙ R is t times the product of A_f:
    with `relevance` the row of a copy is multiplied by t².

    Args:
        model: A network that offers its attention.
        frames: (N, C, T, H, W).
        target: The class y (N,).
        score: Which score s of it.
        fused: Fuses the heads, axis -3 of (N, …, heads, queries, keys).
        relevance: R of each matrix, of all heads, in the order in which the network computes them.

    Raises:
        MethodUndefinedError: The network offers no attention.
    """
    factors = None if relevance is None else iter(relevance)

    def fuse(weights: Tensor) -> Tensor:
        factor = weights.detach() if factors is None else next(factors)
        found = torch.zeros_like(weights.detach().select(-3, 0))

        # A hook, so that the products of all heads exist for one block at a time. It does not run, and the matrix stays
        # 0, where the score does not depend on the weights.
        def multiply(gradient: Tensor) -> None:
            found.copy_(fused(gradient * factor))

        weights.register_hook(multiply)  # type: ignore[no-untyped-call]
        return found

    leaf = frames.detach().requires_grad_()
    logits, attention = model.attention_graph(leaf, fuse)
    with torch.enable_grad():
        derivative(score_of(logits, target, score, model.output), leaf)
    if isinstance(attention, DividedAttention):
        for spatial in attention.spatial:
            spatial[..., 0, :] *= attention.grid[0] ** (1 if relevance is None else 2)
    return attention
