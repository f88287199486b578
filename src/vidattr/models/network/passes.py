"""How a network's forward passes run: their device and precision, and whether folded, compiled or from part-way."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Self

import torch
from torch import Tensor, nn

from vidattr.config.runtime import Backend, GraphMode, Precision, Runtime
from vidattr.models.network.precision import held
from vidattr.models.speed.compiled import Compiled
from vidattr.models.speed.converted import Converted
from vidattr.models.speed.folded import Folded
from vidattr.models.speed.graphs import CudaRecorder, Graphs
from vidattr.models.speed.prefix import Prefix
from vidattr.profiling import stage


class Passes:
    """A module in eval mode, frozen, with in-place operations switched off, and the ways to run it.

    Args:
        module: Maps (N, C, T, H, W) float32 to its answer.
        max_batch: The largest number of clips in one forward pass.
        memory_format: How weights and frames lie in memory. `torch.channels_last_3d`, a voxel's channels side by side,
            makes two or more clips of a small 3-D CNN 1.5 to 1.9 times as fast on a CPU.

    Attributes:
        precision: What the products in a pass are computed in. With bfloat16, input and output of a pass are float32,
            and so is the whole pass while a hook is registered.
        compile: Whether whole passes run compiled (`torch.compile`). A pass with a hook runs as it is written.
        backend: What computes the passes. A pass with a hook is torch's; OpenVINO refuses one that records a gradient.
        graphs: What of this network's work is recorded and replayed; nothing on a CPU.
    """

    def __init__(self, module: nn.Module, max_batch: int, memory_format: torch.memory_format) -> None:
        self.module = module.eval().requires_grad_(False)
        if memory_format is not torch.contiguous_format:
            self.module.to(memory_format=memory_format)
        for part in module.modules():
            if hasattr(part, "inplace"):
                setattr(part, "inplace", False)  # noqa: B010 - a plain bool, which nn.Module's annotations do not know
        self.max_batch = max_batch
        self.precision = Precision.float32
        self.compile = False
        self.backend = Backend.torch
        self.graphs = Graphs()
        self._recorded_for: tuple[int, ...] = ()
        self._memory_format = memory_format
        self._folded: Folded | None = None
        self._compiled: Compiled | None = None
        self._converted: Converted | None = None
        self._prefix: Prefix | None = None
        self._recurrent = any(isinstance(part, nn.RNNBase) for part in module.modules())

    @property
    def device(self) -> torch.device:
        """Where the network's weights are."""
        for tensor in (*self.module.parameters(), *self.module.buffers()):
            return tensor.device
        return torch.device("cpu")

    def to(self, device: torch.device | str) -> Self:
        """Moves the network and returns it."""
        self.module.to(device)
        self._folded = None
        return self

    def run_with(self, runtime: Runtime, device: torch.device | None = None, *, fold: bool = True) -> Self:
        """Moves the network to the run's device, takes over its other settings, and returns the network.

        Args:
            runtime: The settings of the run.
            device: The device; None: as `runtime` says.
            fold: Whether passes may run through a folded copy (`fold`): not while the network is trained.
        """
        self.max_batch, self.compile, self.precision = runtime.max_batch, runtime.compile, runtime.precision
        self.backend = runtime.backend
        self.to(device or runtime.torch_device())
        recorded = runtime.graphs is GraphMode.auto and self.device.type == "cuda"
        self.graphs = Graphs(CudaRecorder() if recorded else None)
        return self.fold() if fold else self

    def fold(self) -> Self:
        """Makes passes run through a copy whose batch normalisation is part of its convolutions; returns the network.

        The copy is used only while it stands for the original (`Folded.stands_in`): a hook sees the modules as written.
        """
        self._folded = Folded(self.module)
        return self

    def in_float64(self) -> Self:
        """Returns a copy of the network whose weights are float64, for sums in which float32 loses too many digits."""
        twin = copy.copy(self)
        twin.module = copy.deepcopy(self.module).double()
        twin.compile, twin.precision, twin.graphs = False, Precision.float32, Graphs()
        twin.backend = Backend.torch
        twin._folded = twin._compiled = twin._converted = twin._prefix = None
        return twin

    def arithmetic(self) -> AbstractContextManager[None]:
        """Holds torch's number formats at this network's precision for a block of forward and backward passes."""
        return held(self.precision, self.device.type)

    @property
    def runs(self) -> nn.Module:
        """The module that the next pass runs through: `module`, or its folded copy."""
        return self._folded.module if self._folded is not None and self._folded.stands_in() else self.module

    @property
    def prefix(self) -> Prefix | None:
        """The first steps of what the next pass runs through, or None where a hook would miss them."""
        runs = self.runs
        if self._hooked():
            return None
        by = Converted if self.backend is Backend.openvino else None
        if self._prefix is None or self._prefix.module is not runs or self._prefix.by is not by:
            self._prefix = Prefix(runs, by)
        return self._prefix

    def through(self, part: Callable[[Tensor], Tensor], volume: Tensor) -> Tensor:
        """Runs (N, C, t, h, w) through a part of the network, as a pass would."""
        half = self.precision is Precision.bfloat16 and not self._hooked()
        autocast = torch.autocast(volume.device.type, torch.bfloat16) if half else nullcontext()
        with stage("network"), self.arithmetic(), _without_cudnn() if self._recurrent else nullcontext(), autocast:
            found = part(volume.contiguous(memory_format=self.takes()[1]))
        return found.to(torch.promote_types(volume.dtype, torch.float32)) if half else found

    def takes(self) -> tuple[torch.dtype | None, torch.memory_format]:
        """Returns the number format that frames may have already, None for their own, and how they lie in memory."""
        half = self.precision is Precision.bfloat16 and not self._hooked()
        converted = self.backend is Backend.openvino and not self._hooked()
        return torch.bfloat16 if half else None, torch.contiguous_format if converted else self._memory_format

    def replayed(self, name: Hashable, work: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """Returns `work(*inputs)`, whose only other input is this network; by a CUDA graph where there is one.

        Args:
            name: Tells the work apart from other work on inputs of the same shapes.
            work: Forward passes and what belongs to them, without a look at a value of the device.
            inputs: The tensors that change from call to call. Chunks of a loop should have equal shapes.

        Returns:
            The result, to be used before the next call.
        """
        if not self.records:
            return work(*inputs)
        runs = self.runs
        state = (id(runs), *(tensor.data_ptr() for tensor in (*runs.parameters(), *runs.buffers())))
        if state != self._recorded_for:  # other weights, or the original in place of its folded copy
            self.graphs.clear()
            self._recorded_for = state
        return self.graphs.run((name, self.precision, self.compile), work, *inputs)

    @property
    def records(self) -> bool:
        """Whether work of this network is recorded now: a hook has to see every pass."""
        return self.graphs.on and not self._hooked()

    def whole(self) -> Callable[[Tensor], Tensor]:
        """Returns what runs the whole network in the next pass: the module or its folded copy, or that compiled."""
        runs = self.runs
        if self.backend is Backend.openvino and not self._hooked():
            if self._converted is None or self._converted.module is not runs:
                self._converted = Converted(runs)
            return self._converted
        if not self.compile or self._hooked():
            return runs
        if self._compiled is None or self._compiled.module is not runs:
            self._compiled = Compiled(runs)
        return self._compiled

    @contextmanager
    def uncompiled(self) -> Iterator[None]:
        """Runs the passes of a block without the compiler, so that the graph of a pass holds each single operation."""
        before, self.compile = self.compile, False
        try:
            yield
        finally:
            self.compile = before

    def _hooked(self) -> bool:
        return any(part._forward_hooks or part._forward_pre_hooks for part in self.module.modules())


@contextmanager
def _without_cudnn() -> Iterator[None]:
    """Switches cuDNN off: its recurrent kernels refuse a backward pass in eval mode, and torch's own do not."""
    before = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = before
