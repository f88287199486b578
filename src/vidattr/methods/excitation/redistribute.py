"""Redistribution of excitation among the inputs of one operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Positive = Callable[..., Tensor]


def redistribute(positive: Positive, inputs: Sequence[Tensor], mass: Tensor) -> tuple[Tensor, ...]:
    """Shares each output's mass among its inputs in proportion to their contributions.

    p_in(j) = u_j · Σ_i W⁺_ij p_out(i) / Σ_k W⁺_ik u_k (Zhang et al., ECCV 2016, eq. 4), with 0/0 := 0 and negative u
    counted as 0.

    Args:
        positive: Maps the clamped inputs to Σ_k W⁺_ik u_k; it must be linear, without negative weights and bias.
        inputs: u, one tensor, or several tensors that are summed.
        mass: p_out, of the shape of the output.
    """
    with torch.enable_grad():
        parts = [u.detach().clamp(min=0).requires_grad_() for u in inputs]
        total = positive(*parts)
        some = total > torch.finfo(total.dtype).tiny
        gradients = torch.autograd.grad(
            total, parts, mass / total.detach().where(some, 1) * some, materialize_grads=True
        )
    return tuple(part.detach() * gradient for part, gradient in zip(parts, gradients, strict=True))


class Share(torch.autograd.Function):
    """Computes a given function; its backward pass shares the mass among the inputs as `redistribute` does."""

    @staticmethod
    def forward(ctx: Any, compute: Positive, positive: Positive, *inputs: Tensor) -> Tensor:
        """Returns compute(*inputs)."""
        ctx.save_for_backward(*inputs)
        ctx.positive = positive
        return compute(*inputs)

    @staticmethod
    def backward(ctx: Any, mass: Tensor) -> tuple[Tensor | None, ...]:
        """Returns p_in for p_out = mass."""
        return (None, None, *redistribute(ctx.positive, ctx.saved_tensors, mass))


class PassOn(torch.autograd.Function):
    """Computes a given elementwise function; its backward pass returns the mass unchanged."""

    @staticmethod
    def forward(ctx: Any, compute: Positive, x: Tensor) -> Tensor:
        """Returns compute(x)."""
        return compute(x)

    @staticmethod
    def backward(ctx: Any, mass: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the mass unchanged."""
        return None, mass
