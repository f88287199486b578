"""CUDA graphs: work on fixed tensors is recorded once, and replayed without a launch of each of its kernels."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from vidattr.errors import out_of_memory
from vidattr.profiling import stage

_WARM = 2  # direct runs before the recording: libraries choose their kernels and allocate workspace in them
_KEPT = 8  # recorded kinds of chunk at a time; each one holds the memory of its intermediate results

Work = Callable[[], object]


class Recorder(Protocol):
    """Records work for replay; a test may take another one than CUDA's."""

    def warm(self, work: Work) -> None:
        """Runs work once, as it has to run before it can be recorded."""

    def record(self, work: Work) -> Work:
        """Records work without running it, and returns what replays it."""


class CudaRecorder:
    """Records by `torch.cuda.CUDAGraph`."""

    def warm(self, work: Work) -> None:
        """Runs work on a stream of its own, because a recording must not share its stream with unfinished work."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            work()
        torch.cuda.current_stream().wait_stream(stream)

    def record(self, work: Work) -> Work:
        """Records work; other threads may use the GPU meanwhile."""
        graph, waits = torch.cuda.CUDAGraph(), torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("default")  # a recording begins by waiting for the GPU, once
        try:
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                work()
        finally:
            torch.cuda.set_sync_debug_mode(waits)
        return graph.replay


class Captured:
    """Work that changes fixed tensors in place: run directly twice, then recorded and replayed.

    Each call does the work once. Without a recorder every call runs it directly.

    Args:
        work: It must not read a value of the device, and must launch the same kernels on the same tensors each time.
        graphs: The graphs of the network that it uses.
    """

    def __init__(self, work: Work, graphs: Graphs) -> None:
        self._work, self._graphs = work, graphs
        self._left = _WARM
        self._replay: Work | None = None

    def __call__(self) -> None:
        """Does the work once."""
        recorder = self._graphs.recorder
        if recorder is None:
            self._work()
        elif self._left:
            self._left -= 1
            recorder.warm(self._work)
        else:
            if self._replay is None:
                self._replay = self._recorded(recorder)
            with stage("network"):
                self._replay()

    def _recorded(self, recorder: Recorder) -> Work:
        try:
            return recorder.record(self._work)
        except Exception as error:  # a network may do anything that a recording forbids
            if out_of_memory(error):
                raise
            self._graphs.give_up(error)
            return self._work


class Graphs:
    """The recorded chunks of one network.

    Args:
        recorder: None: nothing is recorded.

    Attributes:
        recorder: As given, until a recording fails; then None.
    """

    def __init__(self, recorder: Recorder | None = None) -> None:
        self.recorder = recorder
        self._chunks: OrderedDict[Hashable, _Chunk] = OrderedDict()

    @property
    def on(self) -> bool:
        """Whether work is recorded: then chunks have to be of equal size."""
        return self.recorder is not None

    def give_up(self, error: Exception) -> None:
        """Records nothing from here on, and says so in one line on the terminal."""
        self.recorder = None
        self._chunks.clear()
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        tqdm.write(f"runtime.graphs: this network cannot be recorded and runs without graphs: {reason}", sys.stderr)

    def clear(self) -> None:
        """Forgets all recorded chunks: the network is another one."""
        self._chunks.clear()

    def run(self, name: Hashable, work: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """Returns `work(*inputs)`, replayed where a chunk of this name and of inputs of these shapes was recorded.

        Args:
            name: It tells work apart that differs in more than its inputs. Equal names must mean equal work.
            work: Must depend on nothing that changes but the inputs.
            inputs: Copied into fixed tensors where they are not the tensors of the call before.

        Returns:
            The result; it is overwritten by the next call of this name.
        """
        if self.recorder is None:
            return work(*inputs)
        key = (name, *((each.shape, each.dtype, each.stride(), each.device) for each in inputs))
        chunk = self._chunks.get(key)
        if chunk is None:
            chunk = self._chunks[key] = _Chunk(work, inputs, self)
            if len(self._chunks) > _KEPT:
                self._chunks.popitem(last=False)  # the one that was not used for the longest time
        self._chunks.move_to_end(key)
        try:
            return chunk(inputs)
        except BaseException:
            self._chunks.pop(key, None)  # its memory is wanted, or its state unknown
            raise


class _Chunk:
    """One kind of chunk, on tensors of its own."""

    def __init__(self, work: Callable[..., Tensor], inputs: Sequence[Tensor], graphs: Graphs) -> None:
        self._inputs = [torch.empty_like(each) for each in inputs]
        self._seen: list[tuple[Tensor, int] | None] = [None] * len(inputs)
        self._result = torch.empty(0)

        def run() -> None:
            self._result = work(*self._inputs)

        self._captured = Captured(run, graphs)

    def __call__(self, inputs: Sequence[Tensor]) -> Tensor:
        for place, (own, given) in enumerate(zip(self._inputs, inputs, strict=True)):
            seen = self._seen[place]
            if seen is None or seen[0] is not given or seen[1] != given._version:
                own.copy_(given)
                self._seen[place] = (given, given._version)
        self._captured()
        return self._result


def padded(rows: Tensor, size: int) -> Tensor:
    """Returns rows (n, …) with the last one repeated up to `size` rows."""
    return rows if len(rows) == size else torch.cat([rows, rows[-1:].expand(size - len(rows), *rows.shape[1:])])
