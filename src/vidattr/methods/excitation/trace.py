"""A forward pass whose backward pass propagates excitation instead of gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum, auto
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from vidattr.methods.excitation.call import Call
from vidattr.methods.excitation.lstm import RECURRENT
from vidattr.methods.excitation.redistribute import PassOn, Share


class OperationKind(StrEnum):
    """The rule by which an operation propagates excitation.

    `copy` and `slice` move or drop values, `winner` selects the largest: they use their ordinary derivative. `identity`
    is an activation and passes the mass on. `weighted`, `average`, `scale` and `sum` share it in proportion.
    `recurrent` is an LSTM. `curve` is any other function of single values, `normalisation` a function of all channels
    or of a row of attention scores; excitation backprop has no rule for these, and neither for `unknown`.
    """

    copy = auto()
    slice = auto()
    winner = auto()
    identity = auto()
    weighted = auto()
    average = auto()
    scale = auto()
    sum = auto()
    recurrent = auto()
    curve = auto()
    normalisation = auto()
    unknown = auto()


_NAMES = {
    OperationKind.copy: "view view_as reshape flatten unflatten squeeze unsqueeze transpose permute movedim moveaxis "
    "swapaxes T mT expand repeat contiguous clone to type float double type_as cat concat stack pad dropout dropout1d "
    "dropout2d dropout3d setitem roll flip",
    OperationKind.slice: "getitem select narrow split chunk tensor_split unbind index_select",
    OperationKind.winner: "max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d "
    "adaptive_max_pool3d amax max maximum",
    OperationKind.identity: "relu relu6 leaky_relu elu tanh hardtanh silu gelu hardswish batch_norm",
    OperationKind.weighted: "conv1d conv2d conv3d linear matmul mm",
    OperationKind.average: "avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d "
    "adaptive_avg_pool3d mean sum",
    OperationKind.scale: "mul div truediv true_divide multiply divide",
    OperationKind.sum: "add sub subtract",
    OperationKind.recurrent: "lstm lstm_cell unrolled_lstm",
    OperationKind.normalisation: "layer_norm softmax",
    OperationKind.curve: "sigmoid logsigmoid log_sigmoid softplus selu celu mish hardsigmoid softsign hardshrink "
    "softshrink tanhshrink threshold exp expm1 log log1p log2 log10 sqrt rsqrt square pow abs neg negative reciprocal "
    "clamp clamp_min clamp_max clip sin cos erf atan rsub rdiv rtruediv",
}
_OPERATION_KINDS = {name: kind for kind, names in _NAMES.items() for name in names.split()}


@dataclass(frozen=True)
class Operation:
    """One operation on tensors that depend on the layer: its kind, name, enclosing module and graph nodes."""

    kind: OperationKind
    name: str
    module: str
    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class Weighted:
    """One convolution or matrix product: input, weight, the function of both without a bias, and output."""

    input: Tensor
    weight: Tensor
    compute: Callable[[Tensor, Tensor], Tensor]
    output: Tensor
    axis: int  # of the output's channels


@dataclass
class Trace(TorchFunctionMode):
    """A mode in which operations that depend on a tensor with a gradient get the backward pass of excitation backprop.

    Their results do not change, and neither do modules and weights: torch passes every call to a `TorchFunctionMode`.
    Other methods that redefine the backward pass give rules of their own.

    Attributes:
        rules: For each kind, the function that runs a call of it; it returns NotImplemented for a call without a rule.
        operations: All operations, in order.
        weighted: The convolutions and matrix products among them.
        recurrent: The weight and the input of each run of an LSTM layer, or of each step of a cell.
        time_first: The T of LSTM layers that take (T, N, D).
    """

    rules: Mapping[OperationKind, Rule] = field(default_factory=lambda: EXCITATION)
    operations: list[Operation] = field(default_factory=list)
    weighted: list[Weighted] = field(default_factory=list)
    recurrent: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    time_first: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()
        self._modules: list[str] = []
        self._of_clips = WeakTensorKeyDictionary()

    @contextmanager
    def over(self, module: nn.Module, frames: Tensor) -> Iterator[Trace]:
        """Enters the mode for one pass of `module` over these frames; operations get the names of its submodules."""
        self._of_clips[frames] = True
        with ExitStack() as stack:
            for name, part in module.named_modules():

                def enter(part: nn.Module, _inputs: object, name: str = name) -> None:
                    self._modules.append(f"{type(part).__name__} {name!r}" if name else type(part).__name__)

                def leave(_module: nn.Module, _inputs: object, _output: object) -> None:
                    self._modules.pop()

                stack.callback(part.register_forward_pre_hook(enter).remove)
                stack.callback(part.register_forward_hook(leave).remove)
            stack.enter_context(self)
            yield self

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs one call of torch, by the rule for its kind if it depends on the layer."""
        call = Call(_name(func), func, args, kwargs or {})
        inputs = list(tensors((args, call.kwargs)))
        follows = (
            any(self.varies(tensor) for tensor in inputs)
            and not call.name.endswith("_like")
            and not call.name.startswith("new_")
        )
        result = (
            self._run(call) if any(tensor.requires_grad for tensor in inputs) and torch.is_grad_enabled() else call()
        )
        if follows:
            written = args[:1] if call.in_place or call.name == "setitem" else ()
            for tensor in tensors((result, written)):
                self._of_clips[tensor] = True
        return result

    def varies(self, value: object) -> bool:
        """Returns whether a value depends on the clip, through the layer or not; weights and constants do not."""
        return isinstance(value, Tensor) and (value.requires_grad or value in self._of_clips)

    def _run(self, call: Call) -> Any:
        args = call.args
        kind = _OPERATION_KINDS.get(call.name, OperationKind.unknown) if args else OperationKind.unknown
        in_place = kind is not OperationKind.unknown and (call.in_place or call.kwargs.get("inplace", False))
        # The rule keeps a copy of the input that the call then overwrites.
        result = self.rules[kind](self, replace(call, args=(args[0].clone(), *args[1:])) if in_place else call)
        if result is NotImplemented:
            kind, result = OperationKind.unknown, call()
        elif in_place:
            result = args[0].copy_(result)
        nodes = tuple(tensor.grad_fn for tensor in tensors(result) if tensor.grad_fn is not None)
        if nodes:
            self.operations.append(Operation(kind, call.name, self.module, nodes))
        return result

    @property
    def module(self) -> str:
        """The module that is running, for messages."""
        return self._modules[-1] if self._modules else "the network"

    def read(self, weight: Tensor, x: Tensor) -> Tensor:
        """Records that a recurrent layer with this weight reads x, (N, T, D) or (N, D), and returns x."""
        x = x.view_as(x)  # a graph node of its own, at which the backward pass can stop
        if x.requires_grad:
            self.recurrent.append((weight, x))
        return x


def tensors(found: object) -> Iterator[Tensor]:
    """Yields the tensors in nested lists, tuples and mappings."""
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, Mapping):
        yield from tensors(tuple(found.values()))
    elif isinstance(found, list | tuple):
        for part in found:
            yield from tensors(part)


def _name(function: Any) -> str:
    name = getattr(function, "__name__", str(function))
    if name == "__get__":  # an attribute: x.T
        name = getattr(function.__self__, "__name__", name)
    return str(name).strip("_")


Rule = Callable[[Trace, Call], Any]


def ordinary(trace: Trace, call: Call) -> Any:
    """Runs a call whose ordinary derivative is its rule."""
    return call()


def _none(trace: Trace, call: Call) -> Any:
    return NotImplemented


def _identity(trace: Trace, call: Call) -> Any:
    return PassOn.apply(call.of, call.args[0])


def _average(trace: Trace, call: Call) -> Any:
    return Share.apply(call.of, call.of, call.args[0])


def _weighted(trace: Trace, call: Call) -> Any:
    if len(call.args) < 2 or trace.varies(call.args[1]):  # attention, or weights that depend on the clip
        return NotImplemented
    x, weight, rest = call.args[0].view_as(call.args[0]), call.args[1], call.args[3:]
    keywords = {key: value for key, value in call.kwargs.items() if key != "bias"}
    middle = () if call.name in ("matmul", "mm") else (None,)

    def compute(u: Tensor, w: Tensor) -> Tensor:
        return cast(Tensor, call.function(u, w, *middle, *rest, **keywords))

    output = cast(Tensor, Share.apply(lambda u: call.of(u), lambda u: compute(u, weight.clamp(min=0)), x))
    trace.weighted.append(Weighted(x, weight, compute, output, 1 if call.name.startswith("conv") else -1))
    return output


def _scale(trace: Trace, call: Call) -> Any:
    if len(call.args) != 2 or call.kwargs:  # a rounding mode
        return NotImplemented
    x, factor = call.args
    if not isinstance(x, Tensor) or not x.requires_grad:
        if call.name not in ("mul", "multiply"):  # a constant divided by features
            return NotImplemented
        x, factor = factor, x
    if trace.varies(factor):  # a gate
        return NotImplemented
    # Each output has one input, which gets all the mass unless the factor is negative.
    return Share.apply(lambda u: call.of(u, factor), lambda u: u * (factor > 0), x)


def _sum(trace: Trace, call: Call) -> Any:
    if len(call.args) != 2 or call.kwargs:  # a factor `alpha`
        return NotImplemented
    x, y = call.args if trace.varies(call.args[0]) else reversed(call.args)
    if call.name != "add" and (y is call.args[0] or trace.varies(y)):  # a negative weight
        return NotImplemented
    if trace.varies(y):
        return Share.apply(torch.add, torch.add, x, y)
    # A bias gets no mass; the features keep all of it.
    if isinstance(y, Tensor) and y.shape != x.shape:
        x = x.expand_as(x.detach() + y)
    return PassOn.apply(lambda u: call.of(u, y), x)


def _recurrent(trace: Trace, call: Call) -> Any:
    return RECURRENT[call.name](trace, call)


EXCITATION: Mapping[OperationKind, Rule] = {
    OperationKind.copy: ordinary,
    OperationKind.slice: ordinary,
    OperationKind.winner: ordinary,
    OperationKind.identity: _identity,
    OperationKind.weighted: _weighted,
    OperationKind.average: _average,
    OperationKind.scale: _scale,
    OperationKind.sum: _sum,
    OperationKind.recurrent: _recurrent,
    OperationKind.curve: _none,
    OperationKind.normalisation: _none,
    OperationKind.unknown: ordinary,
}
