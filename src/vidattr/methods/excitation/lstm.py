"""Rules of excitation backprop for LSTMs, torch's and this package's own.

The sum W_x x_t + b + W_h h_(t-1) passes all its mass to x_t, and the unit uses its ordinary derivative: mass moves in
time through the cell only, as in the code released with EB-R (Bargal et al., CVPR 2018).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import linear

from vidattr.methods.excitation.call import Call, Recorder
from vidattr.methods.excitation.redistribute import Share
from vidattr.models.network.lstm import Activation, recurrence


def _unrolled_lstm(trace: Recorder, call: Call) -> Any:
    x, weight_x, bias, weight_h = call.args
    gates, zero, cut = (
        _gates(trace.read(weight_x, x), weight_x, bias),
        x.new_zeros(len(x), weight_h.shape[1]),
        call.kwargs["truncated"],
    )
    return recurrence(gates, weight_h, (zero, zero), call.kwargs["activation"], cut_h=True, cut_c=cut)[0]


def _torch_lstm(trace: Recorder, call: Call) -> Any:
    if len(call.args) != 9 or isinstance(call.args[1], Tensor):  # packed sequences
        return NotImplemented
    x, state, weights, biased, layers, _dropout, _train, both_ways, batch_first = call.args
    per_layer = 4 if biased else 2
    if both_ways or x.ndim != 3 or len(weights) != layers * per_layer:  # the latter: with a projection
        return NotImplemented
    if not batch_first:
        trace.time_first.add(len(x))
    # Only the first layer reads the output of the rest of the network.
    steps, last = trace.read(weights[0], x if batch_first else x.transpose(0, 1)), []
    for k in range(layers):
        weight_x, weight_h, *biases = (_reordered(w) for w in weights[k * per_layer : (k + 1) * per_layer])
        gates = _gates(steps, weight_x, torch.stack(biases).sum(0) if biases else None)
        steps, (h, c) = recurrence(
            gates, weight_h, (state[0][k], state[1][k]), Activation.tanh, cut_h=True, cut_c=False
        )
        last.append((h, c))
    h_all, c_all = (torch.stack(tensors) for tensors in zip(*last, strict=True))
    return (steps if batch_first else steps.transpose(0, 1)), h_all, c_all


def _torch_cell(trace: Recorder, call: Call) -> Any:
    x, state, weight_x, weight_h, *biases = call.args
    biases = [_reordered(b) for b in biases if b is not None]
    gates = _gates(trace.read(weight_x, x), _reordered(weight_x), torch.stack(biases).sum(0) if biases else None)
    _, (h, c) = recurrence(gates[:, None], _reordered(weight_h), state, Activation.tanh, cut_h=True, cut_c=False)
    return h, c


def _gates(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return cast(Tensor, Share.apply(lambda u: linear(u, weight, bias), lambda u: linear(u, weight.clamp(min=0)), x))


def _reordered(rows: Tensor) -> Tensor:
    """Reorders torch's gates i, f, g, o to i, f, o, g."""
    i, f, g, o = rows.chunk(4)
    return torch.cat([i, f, o, g])


RECURRENT: dict[str, Callable[[Recorder, Call], Any]] = {
    "unrolled_lstm": _unrolled_lstm,
    "lstm": _torch_lstm,
    "lstm_cell": _torch_cell,
}
