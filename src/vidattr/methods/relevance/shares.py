"""Relevance of an operation's output, shared among its inputs in proportion to their contributions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., Tensor]


class Propagate(torch.autograd.Function):
    """Computes a given function; its backward pass is a given rule, from the output's relevance to the inputs'."""

    @staticmethod
    def forward(ctx: Any, compute: Function, rule: Callable[..., tuple[Tensor, ...]], *inputs: Tensor) -> Tensor:
        """Returns compute(*inputs)."""
        ctx.save_for_backward(*inputs)
        ctx.rule = rule
        return compute(*inputs)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the relevance of the inputs."""
        return (None, None, *ctx.rule(ctx.saved_tensors, relevance))


def shared(
    contributions: Function, inputs: Sequence[Tensor], relevance: Tensor, total: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Returns R_j = Σ_i c_ij R_i / total_i for contributions c_ij, with 0/0 := 0.

    Args:
        contributions: Maps the inputs to Σ_j c_ij, homogeneous of degree 1, so that c_ij = x_j ∂/∂x_j.
        inputs: x.
        relevance: R_i, of the shape of the output.
        total: The denominator; None: Σ_j c_ij itself.
    """
    with torch.enable_grad():
        parts = [x.detach().requires_grad_() for x in inputs]
        found = contributions(*parts)
        below = found.detach() if total is None else total
        some = below.abs() > torch.finfo(below.dtype).tiny
        ratio = torch.where(some, relevance / below.where(some, 1), 0)
        gradients = torch.autograd.grad(found, parts, ratio, materialize_grads=True)
    return tuple(part.detach() * gradient for part, gradient in zip(parts, gradients, strict=True))


def stabilised(total: Tensor, epsilon: float) -> Tensor:
    """Returns z + ε·rms(z)·sign(z), the mean square taken over each row of the first axis, and sign(0) = 1."""
    sign = torch.where(total < 0, -1.0, 1.0).to(total.dtype)
    rms = total.flatten(1).square().mean(1).sqrt().view(-1, *(1 for _ in total.shape[1:]))
    return total + epsilon * rms * sign
