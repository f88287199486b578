"""Rules of layer-wise relevance propagation as the backward pass of a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor

from vidattr.methods.excitation.call import Call
from vidattr.methods.excitation.redistribute import PassOn
from vidattr.methods.excitation.trace import EXCITATION, OperationKind, Rule, Trace, Weighted
from vidattr.methods.relevance.recurrent import RECURRENT
from vidattr.methods.relevance.shares import Propagate, shared, stabilised


@dataclass(frozen=True)
class Layer:
    """A convolution or matrix product, with the BatchNorm after it merged into its weight and bias.

    Attributes:
        index: Its place among the layers, in the order in which they run.
        weight: W.
        bias: b, broadcast to the output; None: there is none.
        compute: Maps an input and a weight to the output without bias.
        bounds: The lowest and highest input, if the layer reads the clip's own voxels.
        source: The weight as it is in the network.
    """

    index: int
    weight: Tensor
    bias: Tensor | None
    compute: Callable[[Tensor, Tensor], Tensor]
    bounds: tuple[Tensor, Tensor] | None
    source: Tensor


@dataclass
class Propagation:
    """The rules of one pass; which layer follows which is decided when the whole pass has been seen.

    Attributes:
        epsilon: ε, in units of the root mean square of a layer's outputs.
        gamma: γ.
        lower: Share of the layers below the heads, from the input, that follow LRP-γ.
        box: Whether layers that read the voxels follow the z^B rule.
        bounds: The lowest and highest voxel, of the frames' shape.
        layers: All layers, in the order in which they ran.
        heads: The weights of layers that score the classes: LRP-0.
    """

    epsilon: float
    gamma: float
    lower: float
    box: bool
    bounds: tuple[Tensor, Tensor]
    layers: list[Layer] = field(default_factory=list)
    heads: list[Tensor] = field(default_factory=list)

    def trace(self, frames: Tensor) -> Trace:
        """Returns the mode of the pass on these frames."""
        self._raw: list[tuple[Tensor, tuple[Tensor, Tensor]]] = [(frames, self.bounds)]
        self._outputs: list[tuple[Tensor, Tensor, Layer]] = []
        rules: dict[OperationKind, Rule] = {
            **EXCITATION,
            OperationKind.copy: self._copy,
            OperationKind.slice: self._copy,
            OperationKind.identity: self._identity,
            OperationKind.weighted: self._weighted,
            OperationKind.average: lambda trace, call: _linear(call),
            OperationKind.scale: self._scale,
            OperationKind.sum: self._sum,
            OperationKind.recurrent: self._recurrent,
        }
        return Trace(rules)

    def _copy(self, trace: Trace, call: Call) -> Any:
        result = call()
        bounds = self._bounds_of(call.args[0])
        if bounds is not None and isinstance(result, Tensor) and not call.in_place and call.name != "cat":
            self._raw.append((result, (call.of(bounds[0]), call.of(bounds[1]))))
        return result

    def _bounds_of(self, x: object) -> tuple[Tensor, Tensor] | None:
        return next((bounds for tensor, bounds in self._raw if tensor is x), None)

    def _identity(self, trace: Trace, call: Call) -> Any:
        x = call.args[0]
        if call.name != "batch_norm":
            return PassOn.apply(call.of, x)
        before = next((each for each in self._outputs if each[0] is x), None)
        if before is None:
            return _affine(call, x)
        _, source, layer = before
        # y = s z + b per channel, read off at 0 and 1.
        zero = x.new_zeros(1, x.shape[1], *(1 for _ in x.shape[2:]))
        shift = call.of(zero)
        scale = call.of(zero + 1) - shift
        weight = layer.weight * scale.view(-1, *(1 for _ in layer.weight.shape[1:]))
        bias = shift if layer.bias is None else layer.bias * scale + shift
        merged = replace(layer, weight=weight, bias=bias)
        self.layers[layer.index] = merged
        return Propagate.apply(lambda _: call.of(x.detach()), self._rule(merged), source)

    def _weighted(self, trace: Trace, call: Call) -> Any:
        if len(call.args) < 2 or trace.varies(call.args[1]):
            return NotImplemented
        bounds = self._bounds_of(call.args[0])
        x, weight, rest = call.args[0].view_as(call.args[0]), call.args[1], call.args[3:]
        keywords = {key: value for key, value in call.kwargs.items() if key != "bias"}
        product = call.name in ("matmul", "mm")
        middle = () if product else (None,)

        def compute(u: Tensor, w: Tensor) -> Tensor:
            return cast(Tensor, call.function(u, w, *middle, *rest, **keywords))

        convolves = call.name.startswith("conv")
        bias = None if product else call.args[2] if len(call.args) > 2 else call.kwargs.get("bias")
        if bias is not None and convolves:
            bias = bias.view(1, -1, *(1 for _ in weight.shape[2:]))
        layer = Layer(len(self.layers), weight, bias, compute, bounds, weight)
        self.layers.append(layer)
        output = cast(Tensor, Propagate.apply(call.of, self._rule(layer), x))
        trace.weighted.append(Weighted(x, weight, compute, output, 1 if convolves else -1))
        if convolves:
            self._outputs.append((output, x, layer))
        return output

    def _scale(self, trace: Trace, call: Call) -> Any:
        if len(call.args) != 2 or call.kwargs:
            return NotImplemented
        x, factor = call.args
        if not trace.varies(x):
            if call.name not in ("mul", "multiply"):  # a constant divided by features
                return NotImplemented
            x, factor = factor, x
        if trace.varies(factor):  # a gate
            return NotImplemented
        return Propagate.apply(lambda u: call.of(u, factor), lambda u, r: shared(lambda v: call.of(v, factor), u, r), x)

    def _sum(self, trace: Trace, call: Call) -> Any:
        if len(call.args) != 2 or call.kwargs:  # a factor `alpha`
            return NotImplemented
        x, y = call.args
        if trace.varies(x) and trace.varies(y):
            return Propagate.apply(call.of, lambda inputs, r: shared(call.of, inputs, r), x, y)
        if trace.varies(x):
            return _affine(call, x)
        own = replace(call, args=(y, x), function=lambda u, c, **kwargs: call.function(c, u, **kwargs))
        return _affine(own, y)

    def _rule(self, layer: Layer) -> Callable[..., tuple[Tensor, ...]]:
        def rule(inputs: Sequence[Tensor], relevance: Tensor) -> tuple[Tensor, ...]:
            if self._scores(layer):
                return _with_epsilon(layer, inputs[0], relevance, 0.0)
            if self.box and layer.bounds is not None:
                return (_boxed(layer, inputs[0], relevance),)
            if layer.index < self.lower * sum(not self._scores(each) for each in self.layers):
                return self._with_gamma(layer, inputs[0], relevance)
            return _with_epsilon(layer, inputs[0], relevance, self.epsilon)

        return rule

    def _with_gamma(self, layer: Layer, x: Tensor, relevance: Tensor) -> tuple[Tensor, ...]:
        weight, gamma = layer.weight, self.gamma
        bias = torch.zeros((), dtype=x.dtype, device=x.device) if layer.bias is None else layer.bias

        def parts(u: Tensor) -> tuple[Tensor, Tensor]:
            """Returns the sum of all contributions, and of the positive ones."""
            positive = layer.compute(u.clamp(min=0), weight.clamp(min=0)) + layer.compute(
                u.clamp(max=0), weight.clamp(max=0)
            )
            return layer.compute(u, weight), positive

        total, positive = parts(x)
        above = total + bias > 0

        def favoured(total: Tensor, positive: Tensor) -> Tensor:
            return total + gamma * torch.where(above, positive, total - positive)

        below = favoured(total + bias, positive + bias.clamp(min=0))
        return shared(lambda u: favoured(*parts(u)), [x], relevance, below)

    def _recurrent(self, trace: Trace, call: Call) -> Any:
        return RECURRENT[call.name](trace, call, self.epsilon)

    def _scores(self, layer: Layer) -> bool:
        return any(layer.source is head for head in self.heads)


def _with_epsilon(layer: Layer, x: Tensor, relevance: Tensor, epsilon: float) -> tuple[Tensor, ...]:
    total = layer.compute(x, layer.weight)
    total = total if layer.bias is None else total + layer.bias
    return shared(lambda u: layer.compute(u, layer.weight), [x], relevance, stabilised(total, epsilon))


def _boxed(layer: Layer, x: Tensor, relevance: Tensor) -> Tensor:
    assert layer.bounds is not None
    low, high = (bound.expand_as(x) for bound in layer.bounds)

    def contributions(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        return (
            layer.compute(x, layer.weight)
            - layer.compute(low, layer.weight.clamp(min=0))
            - layer.compute(high, layer.weight.clamp(max=0))
        )

    return torch.stack(shared(contributions, [x, low, high], relevance)).sum(0)


def _linear(call: Call) -> Tensor:
    return cast(Tensor, Propagate.apply(call.of, lambda inputs, r: shared(call.of, inputs, r), call.args[0]))


def _affine(call: Call, x: Tensor) -> Tensor:
    """Runs y = F(x) + c, whose constant c takes the share c/y of the relevance."""

    def rule(inputs: Sequence[Tensor], relevance: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        offset = call.of(torch.zeros_like(x)).detach()
        (found,) = shared(lambda u: call.of(u) - offset, [x], relevance, call.of(x))
        return (found,)

    return cast(Tensor, Propagate.apply(call.of, rule, x))
