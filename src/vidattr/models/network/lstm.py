"""The long short-term memory written out step by step, with the options that published CNN-LSTMs differ in."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum, auto

import torch
from torch import Tensor
from torch.nn.functional import linear
from torch.overrides import handle_torch_function, has_torch_function

State = tuple[Tensor, Tensor]


class Activation(StrEnum):
    """The activation of the candidate g and of the cell at the output: tanh, or ReLU as in the networks of EB-R."""

    tanh = auto()
    relu = auto()


ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {Activation.tanh: torch.tanh, Activation.relu: torch.relu}


def unrolled_lstm(
    x: Tensor, weight_x: Tensor, bias: Tensor, weight_h: Tensor, *, activation: Activation, truncated: bool
) -> Tensor:
    """Runs an LSTM over (N, T, D) features and returns its (N, T, H) outputs; it starts from zero.

    With the gates (i, f, o, g) = W_x x_t + b + W_h h_(t-1), and φ the activation: c_t = σ(f) c_(t-1) + σ(i) φ(g) and
    h_t = σ(o) φ(c_t). torch can intercept this function as a whole (`__torch_function__`), because excitation backprop
    has a rule for the whole unit and none for its products.

    Args:
        x: (N, T, D).
        weight_x: (4H, D), rows in the order i, f, o, g.
        bias: (4H,).
        weight_h: (4H, H).
        activation: φ.
        truncated: Whether h and c are detached between steps, so that no gradient moves in time.
    """
    if has_torch_function((x,)):
        outputs: Tensor = handle_torch_function(
            unrolled_lstm, (x,), x, weight_x, bias, weight_h, activation=activation, truncated=truncated
        )
        return outputs
    zero = x.new_zeros(len(x), weight_h.shape[1])
    return recurrence(linear(x, weight_x, bias), weight_h, (zero, zero), activation, cut_h=truncated, cut_c=truncated)[
        0
    ]


def recurrence(
    x_gates: Tensor, weight_h: Tensor, state: State, activation: Activation, *, cut_h: bool, cut_c: bool
) -> tuple[Tensor, State]:
    """Steps through (N, T, 4H) gate inputs of the order i, f, o, g.

    Args:
        x_gates: W_x x_t + b, the part of the gates that comes from the features.
        weight_h: (4H, H).
        state: h and c before the first step.
        activation: As in `unrolled_lstm`.
        cut_h: Whether the gates' dependence on h is detached.
        cut_c: Whether the cell is detached between steps.

    Returns:
        The (N, T, H) outputs, and the state after the last step.
    """
    h, c = state
    squash = ACTIVATIONS[activation]
    outputs = []
    for gates_x in x_gates.unbind(1):
        gates = gates_x + linear(h.detach() if cut_h else h, weight_h)
        i, f, o, g = gates.chunk(4, 1)
        c = f.sigmoid() * (c.detach() if cut_c else c) + i.sigmoid() * squash(g)
        h = o.sigmoid() * squash(c)
        outputs.append(h)
    return torch.stack(outputs, 1), (h, c)
