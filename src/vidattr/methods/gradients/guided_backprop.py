"""The gradient of the class score, with another rule for the backward pass through every ReLU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import ClassVar

import torch
from torch import Tensor
from torch.autograd.graph import Node

from vidattr.errors import MethodUndefinedError
from vidattr.methods.shared.gradients import Polarity, Reduce, derivative, to_map
from vidattr.methods.shared.scores import Score, chunks, score_of
from vidattr.models.network.network import VideoModel
from vidattr.types import Explanation, Query


class Rule(StrEnum):
    """What a ReLU passes back: guided backpropagation, or the deconvnet's rule."""

    guided = auto()
    deconvnet = auto()


@dataclass(frozen=True)
class GuidedBackprop:
    """Guided backpropagation (Springenberg et al., 2015) and deconvnet (Zeiler and Fergus, ECCV 2014).

    R is the gradient of the class score s_y, except at each ReLU f = max(x, 0), which passes back

    * guided: R_x = [x > 0] · max(R_f, 0), so that what lowers the score is dropped at every ReLU,
    * deconvnet: R_x = max(R_f, 0), the ReLU of what arrives, whatever x was.

    a is R at the frames; the map is reduce_c polarity(a_c). As in both papers, max-pools and all other operations keep
    their own derivative (for a max-pool: the "switches").

    The rule holds for each ReLU that the forward pass computes: as a module, as a function (`torch.relu`, in place or
    not), or written as a clamp or threshold at 0, ReLU6 included. They are found in the graph that the pass leaves for
    differentiation. Other activations, such as SiLU beside ReLU, keep their derivative. A ReLU cannot be recognised if
    it is written as arithmetic (x · [x > 0]) or is computed in place on a slice of a tensor.

    Attributes:
        rule: guided or deconvnet.
        score: s_y: the logit (the papers), the probability, its logarithm, or its log-odds.
        polarity: Which part of a the map shows.
        reduce: How channels become one number.

    The explanation's extras: `attribution` (N, C, T, H, W), a itself.

    Raises:
        MethodUndefinedError: The network computes no ReLU, so that a would be the plain gradient; or a part of it hides
            its operations (TorchScript, a custom autograd function), and with them its ReLUs.
    """

    version: ClassVar[int] = 1

    rule: Rule = Rule.guided
    score: Score = Score.logit
    polarity: Polarity = Polarity.both
    reduce: Reduce = Reduce.mean

    @property
    def passes(self) -> int:
        """One."""
        return 1

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Explains N clips by one forward and one backward pass each."""
        parts = []
        with torch.enable_grad(), model.uncompiled():
            for x, y in chunks(model, query.frames, query.target):
                leaf = x.detach().requires_grad_()
                score = score_of(model(leaf), y, self.score, model.output)
                for relu in _relus(score.grad_fn, self.rule):
                    relu.register_hook(_HOOKS[self.rule])
                parts.append(derivative(score, leaf))
        attribution = torch.cat(parts)
        return Explanation(to_map(attribution, self.polarity, self.reduce), {"attribution": attribution})


_Gradients = tuple[Tensor | None, ...]


def _guided(inputs: _Gradients, _outputs: _Gradients) -> _Gradients:
    # [x > 0] · R_f and [x > 0] · max(R_f, 0) differ in sign only, so the ReLU's own derivative can come first.
    return tuple(None if gradient is None else gradient.clamp(min=0) for gradient in inputs)


def _deconvnet(inputs: _Gradients, outputs: _Gradients) -> _Gradients:
    (arriving,) = outputs
    return (None if arriving is None else arriving.clamp(min=0), *inputs[1:])


_HOOKS: dict[Rule, Callable[[_Gradients, _Gradients], _Gradients]] = {Rule.guided: _guided, Rule.deconvnet: _deconvnet}

# Operations that are a ReLU if the value saved under this name is 0; torch's names of their derivatives.
_LEVELS = {
    "ReluBackward0": None,
    "ThresholdBackward0": "_saved_threshold",
    "ThresholdBackward1": "_saved_threshold",
    "ClampMinBackward0": "_saved_min",
    "ClampBackward1": "_saved_min",
    "HardtanhBackward0": "_saved_min_val",
}
_OTHERS = ("Gelu", "Silu", "Tanh", "Sigmoid", "LeakyRelu", "Elu", "Hardswish", "Hardsigmoid", "Mish", "Prelu")


def _relus(last: Node | None, rule: Rule) -> list[Node]:
    """Returns the derivatives of all ReLUs that the result `last` depends on.

    Raises:
        MethodUndefinedError: There are none, or an operation hides others.
    """
    nodes = list(_graph(last))
    hidden = [node.name() for node in nodes if _hides(node)]
    if hidden:
        raise MethodUndefinedError(
            f"method.rule={rule} cannot see the ReLUs inside of {hidden[0]}, a part of this network",
            expected="a network of plain torch operations, without TorchScript and custom autograd functions",
        )
    relus = [node for node in nodes if _is_relu(node)]
    if not relus:
        others = [name for name in _OTHERS if any(node.name().startswith(f"{name}Backward") for node in nodes)]
        raise MethodUndefinedError(
            f"method.rule={rule} changes the backward pass of ReLUs, and this network computes none"
            + (f"; its activations: {', '.join(others)}" if others else ""),
            expected="a network with ReLUs; without them the map would be that of method=gradient",
            remedy="take another method, such as method=gradient or method=integrated_gradients",
        )
    return relus


def _graph(last: Node | None) -> Iterator[Node]:
    """Yields each operation of the graph once."""
    seen: set[Node] = set()
    rest = [last]
    while rest:
        node = rest.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            rest += [earlier for earlier, _ in node.next_functions]


def _is_relu(node: Node) -> bool:
    name = node.name()
    if name not in _LEVELS:
        return False
    level = _LEVELS[name]
    return level is None or getattr(node, level) == 0


def _hides(node: Node) -> bool:
    """Returns True for a custom function of Python, and for a compiled graph of TorchScript."""
    custom: object = node
    return isinstance(custom, torch.autograd.function.BackwardCFunction) or "DifferentiableGraph" in node.name()
