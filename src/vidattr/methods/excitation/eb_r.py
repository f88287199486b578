"""Excitation backprop, through recurrent layers and through plain networks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import ClassVar, NoReturn

import torch
from torch import Tensor
from torch.autograd.graph import Node

from vidattr.errors import MethodUndefinedError
from vidattr.methods.excitation.redistribute import redistribute
from vidattr.methods.excitation.trace import Operation, OperationKind, Trace, Weighted
from vidattr.methods.shared.scores import chunks
from vidattr.methods.shared.upsampling import TimeUpsample, upsampled
from vidattr.models.network.network import VideoModel
from vidattr.profiling import stage
from vidattr.types import Explanation, Query

# Operations that may follow the layer that scores the classes: they weigh all time steps equally.
_AFTER_HEAD = {OperationKind.copy, OperationKind.average, OperationKind.scale, OperationKind.sum}
_NORMALISING = {"softmax", "log_softmax", "logsumexp", "sigmoid", "log_sigmoid", "clamp_min", "log"}


class Steps(StrEnum):
    """Time steps at which the class's unit is excited: all steps with scores of the classes, or the last of them."""

    every = auto()
    last = auto()


@dataclass(frozen=True)
class ExcitationBackprop:
    """Excitation backprop (Zhang et al., ECCV 2016) and EB-R, for recurrent networks (Bargal et al., CVPR 2018).

    The unit of class y, in the layer that scores the classes, gets the mass 1 at S time steps: at every step (a
    CNN-LSTM has scores at each frame, most 3-D CNNs once) or at the last. The mass is propagated down to `layer`:

    - convolutions, linear layers and average pools: p_in(j) = u_j Σ_i W⁺_ij p_out(i) / Σ_k W⁺_ik u_k (Zhang et al., eq.
      4), u being the layer's input, with 0/0 = 0;
    - maxima: to the largest input; sums of branches: in proportion to the branches; biases, BatchNorm and activations:
      unchanged;
    - LSTMs: all mass of W_x x_t + W_h h_(t-1) goes to x_t, and the unit uses its ordinary derivative, so that mass
      moves in time through the cell only. This follows the released Caffe code, not the text of the paper.

    At the input of the LSTM, or of the scoring layer if there is no LSTM, the mass is scaled to a total of S.
    Contrastive excitation subtracts the mass that −W of the scoring layer sends there, scaled in the same way. The map
    is max(0, Σ_c p_c) at `layer`.

    Unlike the papers, whose features are never negative, negative inputs count as 0. The ordinary derivative of an LSTM
    with tanh can be negative (with ReLU it cannot), so Σ|p| is scaled to S. A branch that bypasses `layer` and joins
    later, as in SlowFast, keeps its share of the mass.

    Attributes:
        contrastive: Whether evidence that is shared with the other classes is subtracted.
        steps: The time steps at which the class's unit is excited.
        layer: Name of the module whose output is explained; None: the network's own last convolution. Bargal et al.
            take conv5_1 of their VGG16, Li et al. (WACV 2021) do not say.
        time_upsample: How t steps are upsampled to T frames; in space, upsampling is bilinear.

    The explanation's extras: `cam` (N, t, h, w), the map at the features' resolution.
    """

    version: ClassVar[int] = 1

    contrastive: bool = False
    steps: Steps = Steps.every
    layer: str | None = None
    time_upsample: TimeUpsample = TimeUpsample.linear

    @property
    def passes(self) -> int:
        """One."""
        return 1

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Explains N clips by one forward pass each and a backward pass that ends at `layer`.

        Raises:
            MethodUndefinedError: There is no rule for an operation between `layer` and the classes.
        """
        cam = torch.cat([self._cam(model, x, y) for x, y in chunks(model, query.frames, query.target)])
        T, H, W = query.frames.shape[2:]
        return Explanation(upsampled(cam, (T, H, W), self.time_upsample).float(), {"cam": cam})

    @torch.enable_grad()
    def _cam(self, model: VideoModel, frames: Tensor, target: Tensor) -> Tensor:
        trace = Trace()
        with trace.over(model.module, frames):
            logits, leaf = model.activations(frames, self.layer)
        # If N equals T of a time-first LSTM, the axis of the clips is ambiguous: the chunk is split.
        if len(frames) > 1 and len(frames) in trace.time_first:
            return torch.cat(
                [self._cam(model, x, y) for x, y in zip(frames.tensor_split(2), target.tensor_split(2), strict=True)]
            )
        mass = torch.zeros_like(leaf)
        if logits.requires_grad:
            with stage("network"):
                mass = self._mass(trace, logits, leaf, target)
        return model.volume(mass.detach(), len(frames)).sum(1).clamp(min=0)

    def _mass(self, trace: Trace, logits: Tensor, leaf: Tensor, target: Tensor) -> Tensor:
        heads = scoring_runs(trace, logits, leaf)
        first = trace.recurrent[0][0] if trace.recurrent else None
        mids = [x for weight, x in trace.recurrent if weight is first] or [head.input for head in heads]
        if trace.recurrent and _node_of(leaf) in nodes_below((head.input for head in heads), mids):
            refuse("a way from the features to the classes that bypasses the LSTM", "the network")
        units = units_of(heads, target, self.steps, bool(trace.time_first))
        total = sizes(units, len(target))  # S

        def arriving(sign: int) -> list[Tensor]:
            """Returns the mass that the heads' W, or −W, sends to `mids`, scaled to a total of S."""
            sent = [_sent(head, unit, sign) for head, unit in zip(heads, units, strict=True)]
            if trace.recurrent:
                inputs = [head.input for head in heads]
                sent = list(torch.autograd.grad(inputs, mids, sent, retain_graph=True, materialize_grads=True))
            size = sizes(sent, len(target))
            scale = torch.where(size > 0, total / size.where(size > 0, 1), 0)
            return [(part.reshape(len(target), -1) * scale[:, None]).view_as(part) for part in sent]

        mass = arriving(1)
        if self.contrastive:
            mass = [own - other for own, other in zip(mass, arriving(-1), strict=True)]
        (found,) = torch.autograd.grad(mids, leaf, mass, materialize_grads=True)
        return found


def scoring_runs(trace: Trace, logits: Tensor, leaf: Tensor, method: str = "excitation backprop") -> list[Weighted]:
    """Returns the runs, one or one per step, of the layer that scores the K classes: the last one with K outputs.

    Raises:
        MethodUndefinedError: There is none, or there is no rule for an operation above or below it.
    """
    above = nodes_below([logits], [])
    scoring = [w for w in trace.weighted if w.output.shape[w.axis] == logits.shape[1] and w.output.grad_fn in above]
    if not scoring:
        refuse(
            f"a network without a linear layer or convolution of {logits.shape[1]} outputs at its end",
            "the network",
            method,
        )
    heads = [w for w in scoring if w.weight is scoring[-1].weight]
    above = nodes_below([logits], [head.output for head in heads])
    if _node_of(leaf) in above:
        refuse("a way from the features to the classes that bypasses the last layer", "the network", method)
    below = nodes_below([head.input for head in heads], [])
    for operation in trace.operations:
        without_rule = operation.kind is OperationKind.unknown and _any_of(operation, below)
        uneven = operation.kind not in _AFTER_HEAD and operation.name not in _NORMALISING and _any_of(operation, above)
        if without_rule or uneven:
            refuse(operation.name, operation.module, method)
    return heads


def units_of(heads: list[Weighted], target: Tensor, steps: Steps, time_first: bool) -> list[Tensor]:
    """Returns for each run of the head the mass 1 at each step on the class's unit, spread over its positions."""
    found = []
    for k, head in enumerate(heads):
        scores = head.output.detach().movedim(head.axis, -1)  # (N, …, K), or (N·T, …, K)
        if len(scores) % len(target) or (time_first and len(scores) != len(target)):
            refuse(f"scores of shape {tuple(head.output.shape)} for {len(target)} clips", "the last layer")
        folded = len(scores) // len(target)
        in_batch = folded > 1 or scores.ndim == 2 or head.weight.ndim == 4  # a Conv2d has no time axis
        split = scores.reshape(len(target), folded if in_batch else scores.shape[1], -1, scores.shape[-1])
        unit = (torch.arange(split.shape[3], device=target.device) == target[:, None, None, None]).to(split).expand_as(
            split
        ) / split.shape[2]
        if steps is Steps.last:
            last = torch.arange(split.shape[1], device=target.device) == split.shape[1] - 1
            unit = unit * last[:, None, None] * (k == len(heads) - 1)
        found.append(unit.reshape(scores.shape).movedim(-1, head.axis))
    return found


def sizes(parts: list[Tensor], clips: int) -> Tensor:
    """Returns Σ|p| (N,) over parts whose first axis is clips, or clips and time steps."""
    return torch.stack([part.reshape(clips, -1).abs().sum(1) for part in parts]).sum(0)


def _sent(head: Weighted, unit: Tensor, sign: int) -> Tensor:
    weight = (sign * head.weight).clamp(min=0)
    return redistribute(lambda u: head.compute(u, weight), [head.input], unit)[0]


def _node_of(leaf: Tensor) -> Node:
    node = leaf.view_as(leaf).grad_fn
    assert node is not None
    below = node.next_functions[0][0]
    assert below is not None
    return below


def nodes_below(tops: Iterable[Tensor], stops: Iterable[Tensor]) -> set[Node]:
    """Returns the graph nodes that `tops` depend on, up to the nodes of `stops`."""
    ends = {stop.grad_fn for stop in stops}
    found: set[Node] = set()
    waiting = [top.grad_fn for top in tops]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found and node not in ends:
            found.add(node)
            waiting += [further for further, _ in node.next_functions]
    return found


def _any_of(operation: Operation, nodes: set[Node]) -> bool:
    return any(node in nodes for node in operation.nodes)


def refuse(what: str, where: str, method: str = "excitation backprop") -> NoReturn:
    """Raises MethodUndefinedError."""
    raise MethodUndefinedError(
        f"{method} has no rule for {what}, in {where}",
        expected="convolutions, linear layers, pools, BatchNorm, activations, sums of branches, concatenations and "
        "LSTMs, then scores of the classes that are at most averaged",
        remedy="choose a layer after it (method.layer=<module name>), or another method",
    )
