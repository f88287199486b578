"""The first steps of a network whose outputs depend on a neighbourhood only, found in the graph of its forward pass."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

_POOLS = (nn.MaxPool3d, nn.AvgPool3d)
_POOL_FUNCTIONS = {functional.max_pool3d, functional.avg_pool3d}
_POINTWISE = (
    nn.Identity,
    nn.Dropout,
    nn.Dropout3d,
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Sigmoid,
    nn.Tanh,
)
_POINTWISE_FUNCTIONS = {
    operator.add,
    operator.mul,
    torch.add,
    torch.mul,
    torch.relu,
    torch.sigmoid,
    torch.tanh,
    functional.silu,
}


@dataclass(frozen=True)
class Reach:
    """The receptive field along one axis: output o depends on the inputs stride·o − before … stride·o + after only.

    Inputs outside of the axis are padding.
    """

    stride: int = 1
    before: int = 0
    after: int = 0

    def then(self, following: Reach) -> Reach:
        """Returns the reach of this operation followed by another."""
        before, after = self.stride * following.before + self.before, self.stride * following.after + self.after
        return Reach(self.stride * following.stride, before, after)


Reaches = tuple[Reach, Reach, Reach]  # on t, h and w
Runs = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Step:
    """A convolution, or a block of them with all its branches, and the pointwise operations and pools that follow it.

    Attributes:
        run: Runs the operations of this step.
        graph: These operations.
        reach: How its outputs (N, c', t', h', w') depend on its inputs (N, c, t, h, w). Each input is in the reach of
            an output, except for inputs at the far border that no output depends on.
    """

    run: Runs
    graph: fx.Graph
    reach: Reaches

    def __call__(self, volume: Tensor) -> Tensor:
        """Runs this step alone."""
        return self.run(volume)


class Prefix:
    """The steps that frames pass first, one after the other, with no branch around them.

    They are found by tracing the forward pass. They end before the first operation that is not a 3-D convolution, a
    pool or pointwise (a global average, attention, squeeze and excitation), or that needs an earlier volume again. A
    network that cannot be traced, because its forward pass depends on its input, has no steps. Hooks do not run.

    Args:
        module: A network in eval mode. Its weights are read when a step runs.
        by: Makes what runs a module, in place of torch (`Converted`); None: torch runs the operations one by one.

    Attributes:
        module: The network.
        by: As above.
        steps: The steps in order.
    """

    def __init__(self, module: nn.Module, by: Callable[[nn.Module], Runs] | None = None) -> None:
        self.module, self.by = module, by
        self.steps: list[Step] = []
        self._rests: list[Runs] = []
        try:
            nodes = list(Tracer().trace(module).nodes)
        except Exception:  # whatever a forward pass does with a stand-in for its input
            return
        start = 0
        for part in _parts(nodes, dict(module.named_modules())):
            t, h, w = (
                Reach(axis.stride, axis.before, max(axis.after, axis.stride - 1 - axis.before)) for axis in part.reach
            )
            graph = _graph(nodes[start : part.end + 1])
            self.steps.append(Step(self._runs(graph), graph, (t, h, w)))
            self._rests.append(self._runs(_graph(nodes[part.end :])))
            start = part.end

    def rest(self, count: int, volume: Tensor) -> Tensor:
        """Runs the rest of the network on the output of the first `count` steps, at least one."""
        return self._rests[count - 1](volume)

    def _runs(self, graph: fx.Graph) -> Runs:
        if self.by is not None:
            return self.by(fx.GraphModule(self.module, graph))
        return partial(_run, self.module, graph)


class Tracer(fx.Tracer):
    """Traces a convolution as one operation, also if its class is defined in torchvision."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Returns True for a module that becomes a single operation of the graph."""
        return _convolves(m) or super().is_leaf_module(m, module_qualified_name)


def _convolves(module: nn.Module | None) -> bool:
    return isinstance(module, nn.Conv3d) and type(module).forward is nn.Conv3d.forward


def _run(module: nn.Module, graph: fx.Graph, volume: Tensor) -> Tensor:
    interpreter = fx.Interpreter(module, graph=graph)
    interpreter.extra_traceback = False  # errors inside keep their own message
    output: Tensor = interpreter.run(volume)
    return output


def _graph(nodes: Sequence[fx.Node]) -> fx.Graph:
    """Returns the graph that takes the first node's value and returns the last one's."""
    graph = fx.Graph()
    copies = {nodes[0]: graph.placeholder("volume")}
    for node in nodes[1:]:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    if nodes[-1].op != "output":
        graph.output(copies[nodes[-1]])
    return graph


@dataclass(frozen=True)
class _Part:
    """The nodes from the previous part to node `end`, the only node of them that later nodes use."""

    end: int
    reach: Reaches
    convolves: bool


def _parts(nodes: Sequence[fx.Node], modules: dict[str, nn.Module]) -> Iterator[_Part]:
    """Yields parts with one convolution or block each; other operations join the part before them, or the first."""
    whole: _Part | None = None
    for part in _cuts(nodes, modules):
        if whole is not None and not (whole.convolves and part.convolves):
            t, h, w = (near.then(far) for near, far in zip(whole.reach, part.reach, strict=True))
            part = _Part(part.end, (t, h, w), whole.convolves or part.convolves)
        elif whole is not None:
            yield whole
        whole = part
    if whole is not None and whole.convolves:
        yield whole


def _cuts(nodes: Sequence[fx.Node], modules: dict[str, nn.Module]) -> Iterator[_Part]:
    """Yields the smallest parts, until the first operation that is not local."""
    place = {node: index for index, node in enumerate(nodes)}
    still = (Reach(), Reach(), Reach())
    known = {nodes[0]: still}  # the reach of each node of the current part, in the part's input
    convolves = False
    for index, node in enumerate(nodes[1:], 1):
        own = _local(node, modules)
        sources = [known[source] for source in node.all_input_nodes if source in known]
        if own is None or not sources or len(sources) < len(node.all_input_nodes):
            return
        if len({tuple(axis.stride for axis in source) for source in sources}) > 1:
            return
        t, h, w = (_widest(axes).then(last) for axes, last in zip(zip(*sources, strict=True), own, strict=True))
        known[node] = (t, h, w)
        convolves |= _convolves(_module(node, modules))
        if all(place[user] <= index for earlier in known if earlier is not node for user in earlier.users):
            yield _Part(index, known[node], convolves)
            known, convolves = {node: still}, False


def _widest(axes: Sequence[Reach]) -> Reach:
    return Reach(axes[0].stride, max(axis.before for axis in axes), max(axis.after for axis in axes))


def _module(node: fx.Node, modules: dict[str, nn.Module]) -> nn.Module | None:
    return modules[str(node.target)] if node.op == "call_module" else None


def _local(node: fx.Node, modules: dict[str, nn.Module]) -> Reaches | None:
    """Returns the reach of one operation, or None if it is unknown."""
    module = _module(node, modules)
    if isinstance(module, nn.Conv3d):
        # Named padding ("same") has no numbers; padding other than zeros (such as reflection) reads other inputs.
        if not _convolves(module) or isinstance(module.padding, str) or module.padding_mode != "zeros":
            return None
        return _window(module.kernel_size, module.stride, module.padding, module.dilation)
    if isinstance(module, _POOLS):
        return _window(module.kernel_size, module.stride, module.padding, getattr(module, "dilation", 1))
    if isinstance(module, _POINTWISE) or (isinstance(module, nn.BatchNorm3d) and module.running_mean is not None):
        return Reach(), Reach(), Reach()
    if node.op != "call_function" or node.kwargs.get("inplace"):
        return None
    if node.target in _POOL_FUNCTIONS:
        given = dict(zip(("input", "kernel_size", "stride", "padding"), node.args, strict=False)) | node.kwargs
        size = given["kernel_size"]
        return _window(size, given.get("stride") or size, given.get("padding", 0), given.get("dilation", 1))
    channels = node.target is torch.cat and (node.args[1:] == (1,) or node.kwargs == {"dim": 1})
    relu = node.target is functional.relu
    return (Reach(), Reach(), Reach()) if channels or relu or node.target in _POINTWISE_FUNCTIONS else None


def _window(size: Any, stride: Any, padding: Any, dilation: Any) -> Reaches:
    """Returns the reach of a sliding window; each argument is a number or a triple."""
    axes = zip(
        *((value,) * 3 if isinstance(value, int) else value for value in (size, stride, padding, dilation)), strict=True
    )
    t, h, w = (Reach(step, before, max(0, gap * (side - 1) - before)) for side, step, before, gap in axes)
    return t, h, w
