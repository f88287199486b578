"""The Rescale rule of DeepLIFT as the backward pass of a network, module or function alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import Node

from vidattr.errors import MethodUndefinedError
from vidattr.methods.excitation.call import Call
from vidattr.methods.excitation.trace import OperationKind, Rule, Trace, ordinary, tensors

Function = Callable[..., Tensor]

NEAR_ZERO = 1e-7
"""A Δx below which Δy/Δx is replaced by the derivative, as in the code of DeepLIFT's authors."""


@dataclass
class Reference:
    """The inputs of all nonlinear operations on the baselines, in order, and their use in the pass on the clips.

    DeepLIFT compares two passes of the network. The first, `recorded`, keeps these inputs; in the second, `compared`,
    each nonlinear operation takes its own baseline from here.
    """

    inputs: list[tuple[str, tuple[Tensor, ...]]] = field(default_factory=list)
    _used: int = 0

    def recorded(self) -> Trace:
        """Returns the mode of the pass on the baselines."""

        def keep(name: str, _function: Function, features: Sequence[Tensor]) -> None:
            self.inputs.append((name, tuple(x.detach().clone() for x in features)))

        return Trace(_rules(keep, keep))

    def compared(self) -> Trace:
        """Returns the mode of the pass on the clips, whose backward pass follows the Rescale rule."""

        def rescale(name: str, function: Function, features: Sequence[Tensor]) -> Tensor:
            found: Tensor = Rescale.apply(function, *features, *self._next(name, features))
            return found

        def winner(name: str, function: Function, features: Sequence[Tensor]) -> Tensor:
            found: Tensor = Winner.apply(function, len(features), *features, *self._next(name, features))
            return found

        return Trace(_rules(rescale, winner))

    def check_all_used(self) -> None:
        """Raises MethodUndefinedError if the pass on the clips ended before that on the baselines."""
        if self._used != len(self.inputs):
            self._differs()

    def _next(self, name: str, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        if self._used == len(self.inputs):
            self._differs()
        before, inputs = self.inputs[self._used]
        if before != name or [x.shape for x in inputs] != [x.shape for x in features]:
            self._differs()
        self._used += 1
        return inputs

    def _differs(self) -> NoReturn:
        refuse("a network that runs other operations on the clip than on the baseline", "the network")


def refuse(what: str, where: str) -> NoReturn:
    """Raises MethodUndefinedError."""
    raise MethodUndefinedError(
        f"DeepLIFT's Rescale rule is not defined for {what}, in {where}",
        expected="convolutions, linear layers, pools, BatchNorm, sums of branches, and activations of single values",
        remedy="take a network of these, or another method (integrated_gradients has a baseline too)",
    )


class Rescale(torch.autograd.Function):
    """Computes y = f(x) elementwise; its backward pass multiplies by Δy/Δx (Shrikumar et al., 2017, eq. 10 and 11)."""

    @staticmethod
    def forward(ctx: Any, function: Function, x: Tensor, x0: Tensor) -> Tensor:
        """Returns f(x)."""
        ctx.save_for_backward(x, x0)
        ctx.function = function
        return function(x)

    @staticmethod
    def backward(ctx: Any, multiplier: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the multiplier of x, given that of y; where Δx is near zero, the derivative takes Δy/Δx's place."""
        x, x0 = ctx.saved_tensors
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            y = ctx.function(leaf)
            (slope,) = torch.autograd.grad(y, leaf, multiplier)
        step = x - x0
        far = step.abs() > NEAR_ZERO
        return None, torch.where(far, multiplier * (y.detach() - ctx.function(x0)) / step.where(far, 1), slope), None


class Winner(torch.autograd.Function):
    """Computes y = max(x) over places or inputs; the multipliers share Δy between the largest inputs of both passes.

    Of Δy = y − y0, what lies above y0 is due to the clip's largest input, and what lies below y to the baseline's:
    a rise is attributed to the largest input of the clip, a fall to the largest of the baseline. That input differs
    from its baseline by at least Δy, so that Σ m Δx = Δy holds. SHAP's DeepExplainer and captum do the same.
    """

    @staticmethod
    def forward(ctx: Any, function: Function, count: int, *inputs: Tensor) -> Tensor:
        """Returns the maximum of the first `count` inputs; the others are their baselines."""
        ctx.save_for_backward(*inputs)
        ctx.function, ctx.count = function, count
        return function(*inputs[:count])

    @staticmethod
    def backward(ctx: Any, multiplier: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the multipliers of the inputs, given that of y."""
        inputs = ctx.saved_tensors
        both = (inputs[: ctx.count], inputs[ctx.count :])
        with torch.enable_grad():
            leaves = [[x.detach().requires_grad_() for x in each] for each in both]
            y, y0 = (ctx.function(*each) for each in leaves)
            change = (y - y0).detach()
            risen = torch.autograd.grad(y, leaves[0], multiplier * change.clamp(min=0))
            fallen = torch.autograd.grad(y0, leaves[1], multiplier * change.clamp(max=0))
        found = []
        for x, x0, up, down in zip(*both, risen, fallen, strict=True):
            step = x - x0
            moved = step != 0
            found.append(torch.where(moved, (up + down) / step.where(moved, 1), 0))
        return None, None, *found, *(None for _ in found)


Nonlinear = Callable[[str, Function, Sequence[Tensor]], Tensor | None]
"""Runs a nonlinear operation of this name on features; None: the call is to be run as it is."""


def _rules(curve: Nonlinear, winner: Nonlinear) -> dict[OperationKind, Rule]:
    """Returns the rules of a pass, given what happens at functions of single values and at maxima."""

    def elementwise(trace: Trace, call: Call) -> Any:
        if call.name == "batch_norm":  # in eval mode a factor and a summand for each channel
            return call()
        features, function = _features(trace, call)
        if len(features) > 1:
            refuse(f"{call.name} of two values that both depend on the clip", trace.module)
        found = curve(call.name, function, features)
        return call() if found is None else found

    def largest(trace: Trace, call: Call) -> Any:
        features, function = _features(trace, call)
        result = call()
        if isinstance(result, Tensor):
            found = winner(call.name, function, features)
            return result if found is None else found
        # (values, indices) of torch.max, or of a pool that returns its indices.
        found = winner(call.name, lambda *x: function(*x)[0], features)
        rest = tuple(result)[1:]
        return result if found is None else type(result)((found, *rest))

    def linear(trace: Trace, call: Call) -> Any:
        if sum(trace.varies(x) for x in tensors((call.args, call.kwargs))) > 1:
            refuse(f"{call.name}: a product of two values that both depend on the clip", trace.module)
        return call()

    def scale(trace: Trace, call: Call) -> Any:
        divides = call.name not in ("mul", "multiply")
        if divides and len(call.args) > 1 and trace.varies(call.args[1]) and not trace.varies(call.args[0]):
            return elementwise(trace, call)  # a constant divided by a feature
        return linear(trace, call)

    def recurrent(trace: Trace, call: Call) -> Any:
        refuse(f"{call.name}: the gates of an LSTM multiply two values that both depend on the clip", trace.module)

    def unknown(trace: Trace, call: Call) -> Any:
        result = call()
        if any(tensor.requires_grad for tensor in tensors(result)):
            refuse(f"{call.name}, which is neither linear nor a function of single values", trace.module)
        return result

    kinds: dict[OperationKind, Rule] = {
        OperationKind.copy: ordinary,
        OperationKind.slice: ordinary,
        OperationKind.winner: largest,
        OperationKind.identity: elementwise,
        OperationKind.weighted: linear,
        OperationKind.average: ordinary,
        OperationKind.scale: scale,
        OperationKind.sum: ordinary,
        OperationKind.recurrent: recurrent,
        OperationKind.curve: elementwise,
        OperationKind.normalisation: unknown,
        OperationKind.unknown: unknown,
    }
    assert kinds.keys() == set(OperationKind)
    return kinds


def _features(trace: Trace, call: Call) -> tuple[list[Tensor], Function]:
    """Returns the arguments of a call that depend on the clip, and the call as a function of these alone."""
    places = [k for k, argument in enumerate(call.args) if trace.varies(argument)]
    if any(trace.varies(value) for value in call.kwargs.values()) or not places:
        refuse(f"{call.name} with features as named arguments", trace.module)

    def function(*features: Tensor) -> Tensor:
        arguments = list(call.args)
        for place, feature in zip(places, features, strict=True):
            arguments[place] = feature
        return call.of(*arguments)

    return [call.args[place] for place in places], function


def check_only_known(score: Tensor) -> None:
    """Raises MethodUndefinedError if a custom autograd function lies below the score: torch hides it from a trace."""
    known = {f"{function.__name__}Backward" for function in (Rescale, Winner)}
    for node in _graph(score):
        if issubclass(type(node), BackwardCFunction) and type(node).__name__ not in known:
            refuse(f"the custom function {type(node).__name__.removesuffix('Backward')}", "the network")


def _graph(top: Tensor) -> Iterator[Node]:
    seen: set[Node] = set()
    waiting = [top.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [further for further, _ in node.next_functions]
            yield node
