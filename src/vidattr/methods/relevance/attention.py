"""Relevance of a transformer's attention weights, by the LRP rules of Chefer, Gur and Wolf (CVPR 2021)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NoReturn, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import Node

from vidattr.errors import MethodUndefinedError
from vidattr.methods.excitation.call import Call
from vidattr.methods.excitation.redistribute import PassOn
from vidattr.methods.excitation.trace import OperationKind, Rule, Trace, Weighted, ordinary
from vidattr.methods.relevance.shares import Propagate, shared
from vidattr.models.network.attention import Attention, DividedAttention
from vidattr.models.network.network import VideoModel
from vidattr.profiling import stage

_STABLE = 1e-9  # added to the size of denominators, as in the released code
_ACTIVATIONS = "transformers.activations"  # the library writes some of its activations as several operations
_ABOVE_HEAD = {"softmax", "log_softmax", "sigmoid", "log_sigmoid", "logsigmoid", "clamp_min", "clamp", "log"}


@torch.enable_grad()
def relevance_of_attention(model: VideoModel, frames: Tensor, target: Tensor) -> list[Tensor]:
    """Returns R^(A) of each attention matrix, of all heads, in the order in which the network computes them.

    The relevance 1 of the class's output is propagated down by these rules (sections 3.1 and 3.2 of the paper):

    - linear layers: R_j = Σ_i c⁺_ij R_i / Σ_k c⁺_ik over the positive contributions c_ij = x_j w_ij (eq. 7); the
      relevance of an output without any is lost;
    - A·V and Q·Kᵀ: each factor gets R_j = x_j Σ_i (∂z_i/∂x_j) R_i / z_i (eq. 8, 9), which sums to Σ R for both factors:
      the normalisation (eq. 11) halves them;
    - sums of two branches: the same rule, then R^u ← R^u · |ΣR^u| / (|ΣR^u| + |ΣR^v|) · ΣR / ΣR^u (eq. 11), the sums
      taken over each clip;
    - LayerNorm, BatchNorm, softmax, activations, constant factors and terms: R is unchanged; means share R in
      proportion to what they average, maxima pass it to the largest.

    The denominators z_i are moved away from 0 by 1e-9.

    The copies of the class token in divided attention share their weight on the class token itself: its relevance is
    the mean over the copies, because as one matrix over all tokens these weights are one entry.

    Args:
        model: A network that offers its attention. The first axis of what it adds has to be clips, or clips and
            something else with the clips outermost.
        frames: (N, C, T, H, W).
        target: The class y (N,).

    Raises:
        MethodUndefinedError: The network offers no attention, no linear layer puts out its scores, or there is no rule
            for an operation between the scores and the attention.
    """
    weights: list[Tensor] = []

    def keep(found: Tensor) -> Tensor:
        weights.append(found)
        return found

    leaf = frames.detach().requires_grad_()
    trace = Trace(_rules(len(frames)))
    with _activations(model.module), trace.over(model.module, leaf):
        logits, attention = model.attention_graph(leaf, keep)
    if not logits.requires_grad or not all(each.requires_grad for each in weights):
        return [torch.zeros_like(each) for each in weights]
    head = _head(trace, logits)
    _check(trace, head.output, weights)
    start = torch.zeros_like(head.output).scatter_(1, target[:, None], 1)
    with stage("network"):
        found = list(torch.autograd.grad(head.output, weights, start, materialize_grads=True))
    return _one_class_token(found, weights, attention)


def _one_class_token(found: list[Tensor], weights: Sequence[Tensor], attention: Attention) -> list[Tensor]:
    if isinstance(attention, DividedAttention):
        for relevance, own in zip(found, weights, strict=True):
            if any(own is spatial for spatial in attention.spatial):
                relevance[..., 0, 0] = relevance[..., 0, 0].mean(1, keepdim=True)
    return found


def _rules(clips: int) -> Mapping[OperationKind, Rule]:
    def add(trace: Trace, call: Call) -> Any:
        if len(call.args) != 2 or call.kwargs:  # a factor `alpha`
            return NotImplemented
        x, y = call.args
        if not (trace.varies(x) and trace.varies(y)):
            return _pass_on(trace, call)
        if x.shape != y.shape:
            size = call.of(x.detach(), y.detach()).shape
            x, y = x.expand(size), y.expand(size)
        if len(x) % clips:
            return NotImplemented

        def rule(inputs: Sequence[Tensor], relevance: Tensor) -> tuple[Tensor, ...]:
            parts = shared(call.of, inputs, relevance, stable(call.of(*inputs)))
            return normalised(parts, relevance, clips)

        return Propagate.apply(call.of, rule, x, y)

    rules: dict[OperationKind, Rule] = {
        OperationKind.copy: ordinary,
        OperationKind.slice: ordinary,
        OperationKind.winner: ordinary,
        OperationKind.identity: lambda trace, call: PassOn.apply(call.of, call.args[0]),
        OperationKind.normalisation: lambda trace, call: PassOn.apply(call.of, call.args[0]),
        OperationKind.weighted: _product,
        OperationKind.average: lambda trace, call: _in_proportion(call, call.args[0]),
        OperationKind.scale: _pass_on,
        OperationKind.sum: add,
        OperationKind.recurrent: _no_rule,
        OperationKind.curve: _no_rule,
        OperationKind.unknown: ordinary,
    }
    assert rules.keys() == set(OperationKind)
    return rules


def _no_rule(trace: Trace, call: Call) -> Any:
    return NotImplemented


def stable(total: Tensor) -> Tensor:
    """Returns z + 1e-9·sign(z), with sign(0) = 1."""
    return total + torch.where(total < 0, -_STABLE, _STABLE).to(total.dtype)


def normalised(parts: Sequence[Tensor], relevance: Tensor, clips: int) -> tuple[Tensor, ...]:
    """Scales the relevance of several inputs so that they share ΣR in proportion to |ΣR^u|, in each clip (eq. 11)."""
    sums = torch.stack([part.reshape(clips, -1).sum(1) for part in parts])
    sizes = sums.abs()
    shares = sizes / sizes.sum(0).clamp(min=torch.finfo(sizes.dtype).tiny) * relevance.reshape(clips, -1).sum(1)
    factors = torch.where(sums != 0, shares / sums.where(sums != 0, 1), 0)
    return tuple(
        (part.reshape(clips, -1) * factor[:, None]).view_as(part) for part, factor in zip(parts, factors, strict=True)
    )


def _in_proportion(call: Call, *inputs: Tensor, share: float = 1.0) -> Tensor:
    def rule(inputs: Sequence[Tensor], relevance: Tensor) -> tuple[Tensor, ...]:
        return shared(call.of, inputs, relevance * share, stable(call.of(*inputs)))

    return cast(Tensor, Propagate.apply(call.of, rule, *inputs))


def _product(trace: Trace, call: Call) -> Any:
    if len(call.args) < 2:
        return NotImplemented
    x, weight, rest = call.args[0], call.args[1], call.args[3:]
    product = call.name in ("matmul", "mm")
    if trace.varies(weight):
        return _in_proportion(call, x, weight, share=0.5) if product and trace.varies(x) else NotImplemented
    keywords = {key: value for key, value in call.kwargs.items() if key != "bias"}
    middle = () if product else (None,)

    def compute(u: Tensor, w: Tensor) -> Tensor:
        return cast(Tensor, call.function(u, w, *middle, *rest, **keywords))

    def positive(u: Tensor) -> Tensor:
        return compute(u.clamp(min=0), weight.clamp(min=0)) + compute(u.clamp(max=0), weight.clamp(max=0))

    def rule(inputs: Sequence[Tensor], relevance: Tensor) -> tuple[Tensor, ...]:
        return shared(positive, inputs, relevance, stable(positive(inputs[0])))

    output = cast(Tensor, Propagate.apply(call.of, rule, x))
    trace.weighted.append(Weighted(x, weight, compute, output, 1 if call.name.startswith("conv") else -1))
    return output


def _pass_on(trace: Trace, call: Call) -> Any:
    """The rule of x + c and c·x with a constant c."""
    if len(call.args) != 2 or call.kwargs:
        return NotImplemented
    x, constant = call.args
    if not trace.varies(x):
        if call.name not in ("add", "subtract", "sub", "mul", "multiply"):
            return NotImplemented
        x, constant = constant, x
        call = Call(call.name, lambda u, c, function=call.function: function(c, u), (x, constant), {})
    if trace.varies(constant):  # a gate
        return NotImplemented
    if isinstance(constant, Tensor) and constant.shape != x.shape:
        x = x.expand(call.of(x.detach(), constant).shape)
    return PassOn.apply(lambda u: call.of(u, constant), x)


@contextmanager
def _activations(module: nn.Module) -> Iterator[None]:
    """Makes activations of the transformers library pass relevance on, however many operations they are made of."""

    def pass_on(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return cast(Tensor, PassOn.apply(lambda _: output.detach(), inputs[0]))

    with ExitStack() as stack:
        for part in module.modules():
            if type(part).__module__ == _ACTIVATIONS:
                stack.callback(part.register_forward_hook(pass_on).remove)
        yield


def _head(trace: Trace, logits: Tensor) -> Weighted:
    """Returns the layer that puts out the scores, of which nothing but probabilities are computed."""
    above = _below(logits.grad_fn)
    heads = [each for each in trace.weighted if each.output.shape == logits.shape and each.output.grad_fn in above]
    if not heads:
        refuse(f"a network that does not end in a linear layer of {logits.shape[1]} outputs", "the network")
    above -= _below(heads[-1].output.grad_fn)
    for operation in trace.operations:
        known = operation.kind in (OperationKind.copy, OperationKind.slice) or operation.name in _ABOVE_HEAD
        if not known and not above.isdisjoint(operation.nodes):
            refuse(f"{operation.name} of the scores", operation.module)
    return heads[-1]


def _check(trace: Trace, top: Tensor, ends: Sequence[Tensor]) -> None:
    """Raises MethodUndefinedError if an operation between the scores and the attention weights has no rule."""
    below, parents = _below(top.grad_fn), dict[Node, list[Node]]()
    for node in below:
        for further, _ in node.next_functions:
            if further is not None:
                parents.setdefault(further, []).append(node)
    between: set[Node] = set()
    waiting = [parent for end in ends for parent in parents.get(cast(Node, end.grad_fn), [])]
    while waiting:
        node = waiting.pop()
        if node not in between:
            between.add(node)
            waiting += parents.get(node, [])
    for operation in trace.operations:
        if operation.kind is OperationKind.unknown and not between.isdisjoint(operation.nodes):
            refuse(operation.name, operation.module)
    own = {f"{function.__name__}Backward" for function in (Propagate, PassOn)}
    for node in between:
        if issubclass(type(node), BackwardCFunction) and type(node).__name__ not in own:
            refuse(f"the custom function {type(node).__name__.removesuffix('Backward')}", "the network")


def _below(top: Node | None) -> set[Node]:
    found: set[Node] = set()
    waiting = [top]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found.add(node)
            waiting += [further for further, _ in node.next_functions]
    return found


def refuse(what: str, where: str) -> NoReturn:
    """Raises MethodUndefinedError."""
    raise MethodUndefinedError(
        f"the relevance of attention weights has no rule for {what}, in {where}",
        expected="linear layers, products of queries, keys, weights and values, sums of branches, means, LayerNorm, "
        "softmax and activations between the attention and the scores of the classes",
        remedy="take method=generic_attention, which needs gradients only, or another method",
    )
