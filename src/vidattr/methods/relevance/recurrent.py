"""Layer-wise relevance propagation through LSTMs, torch's and this package's own.

Arras, Montavon, Müller and Samek (2017): a product of a gate and a signal passes all relevance to the signal, a sum
shares it in proportion, and W_x x_t + W_h h_(t-1) + b of the candidate follows LRP-ε, to x_t and to h_(t-1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import linear

from vidattr.methods.excitation.call import Call, Recorder
from vidattr.methods.excitation.redistribute import PassOn
from vidattr.methods.relevance.shares import Propagate, shared, stabilised
from vidattr.models.network.lstm import ACTIVATIONS, Activation, State


def _step(
    x: Tensor, state: State, weights: Sequence[Tensor], activation: Activation, epsilon: float, order: str
) -> State:
    """Runs one step and returns h and c; weights are W_x, W_h and b, whose rows are gates in this order."""
    h, c = state
    weight_x, weight_h, bias = weights
    squash = ACTIVATIONS[activation]
    rows = dict(
        zip(order, (linear(x.detach(), weight_x, bias) + linear(h.detach(), weight_h)).chunk(4, 1), strict=True)
    )
    i, f, o = (rows[gate].sigmoid() for gate in "ifo")
    place = order.index("g")
    weight, own = torch.cat([weight_x, weight_h], 1).chunk(4)[place], bias.chunk(4)[place]

    def rule(inputs: Sequence[Tensor], relevance: Tensor) -> tuple[Tensor, ...]:
        total = stabilised(linear(inputs[0], weight, own), epsilon)
        return shared(lambda u: linear(u, weight), inputs, relevance, total)

    g = PassOn.apply(squash, Propagate.apply(lambda u: linear(u, weight, own), rule, torch.cat([x, h], 1)))
    kept, new = PassOn.apply(lambda u: f * u, c), PassOn.apply(lambda u: i * u, g)
    c = cast(Tensor, Propagate.apply(torch.add, lambda inputs, r: shared(torch.add, inputs, r), kept, new))
    return PassOn.apply(lambda u: o * squash(u), c), c


def _unrolled_lstm(trace: Recorder, call: Call, epsilon: float) -> Any:
    x, weight_x, bias, weight_h = call.args
    zero = x.new_zeros(len(x), weight_h.shape[1])
    h, c, outputs = zero, zero, []
    for step in trace.read(weight_x, x).unbind(1):
        h, c = _step(step, (h, c), (weight_x, weight_h, bias), call.kwargs["activation"], epsilon, "ifog")
        outputs.append(h)
    return torch.stack(outputs, 1)


def _torch_lstm(trace: Recorder, call: Call, epsilon: float) -> Any:
    if len(call.args) != 9 or isinstance(call.args[1], Tensor):  # packed sequences
        return NotImplemented
    x, state, weights, biased, layers, _dropout, _train, both_ways, batch_first = call.args
    per_layer = 4 if biased else 2
    if both_ways or x.ndim != 3 or len(weights) != layers * per_layer:  # the latter: with a projection
        return NotImplemented
    if not batch_first:
        trace.time_first.add(len(x))
    steps, last = trace.read(weights[0], x if batch_first else x.transpose(0, 1)), []
    for k in range(layers):
        weight_x, weight_h, *biases = weights[k * per_layer : (k + 1) * per_layer]
        bias = torch.stack(biases).sum(0) if biases else weight_x.new_zeros(len(weight_x))
        h, c, outputs = state[0][k], state[1][k], []
        for step in steps.unbind(1):
            h, c = _step(step, (h, c), (weight_x, weight_h, bias), Activation.tanh, epsilon, "ifgo")
            outputs.append(h)
        steps = torch.stack(outputs, 1)
        last.append((h, c))
    h_all, c_all = (torch.stack(each) for each in zip(*last, strict=True))
    return (steps if batch_first else steps.transpose(0, 1)), h_all, c_all


def _torch_cell(trace: Recorder, call: Call, epsilon: float) -> Any:
    x, state, weight_x, weight_h, *biases = call.args
    biases = [bias for bias in biases if bias is not None]
    bias = torch.stack(biases).sum(0) if biases else weight_x.new_zeros(len(weight_x))
    return _step(trace.read(weight_x, x), state, (weight_x, weight_h, bias), Activation.tanh, epsilon, "ifgo")


RECURRENT: dict[str, Callable[[Recorder, Call, float], Any]] = {
    "unrolled_lstm": _unrolled_lstm,
    "lstm": _torch_lstm,
    "lstm_cell": _torch_cell,
}
