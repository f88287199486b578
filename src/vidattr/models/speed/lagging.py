"""Copies between host and GPU that run beside other work of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Lagging:
    """Copies flags to the host while the GPU goes on, and hands them out one call later.

    The results do not depend on when a copy arrives: a call returns what the call before it was given. On a CPU, where
    nothing has to wait, a call returns what it is given.

    Args:
        behind: Whether flags are handed out one call later.
    """

    def __init__(self, *, behind: bool) -> None:
        self._behind = behind
        self._last: Download | None = None

    def __call__(self, flags: Tensor) -> NDArray[np.uint8] | None:
        """Returns the flags (n,) of the call before, 0 or 1; None at the first call."""
        values = flags.to(torch.uint8)
        if not self._behind:
            return _on_host(values)
        before, self._last = self._last, Download({"flags": values})
        # The copy was begun many iterations ago and has long been made.
        return None if before is None else _on_host(before.arrived()["flags"])


class Download:
    """Tensors on their way to the host: only `arrived` waits for them. Those of a CPU are there already.

    Args:
        tensors: Any number, by name, of one device. They may be freed at once, since the copies precede all later work
            of the stream.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._host = {name: each if each.device.type == "cpu" else _begun(each) for name, each in tensors.items()}
        self._copied = _recorded(any(each.is_cuda for each in tensors.values()))

    def arrived(self) -> dict[str, Tensor]:
        """Returns the tensors on the host; any thread may wait for them here."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._host


class Upload:
    """A tensor of the host on its way to a device, on a stream of its own: work on earlier tensors goes on meanwhile.

    Args:
        host: The tensor.
        device: Where to.
    """

    def __init__(self, host: Tensor, device: torch.device) -> None:
        on_gpu = device.type == "cuda"
        # Streams come from a fixed pool; other threads keep their own current stream.
        with torch.cuda.stream(torch.cuda.Stream(device) if on_gpu else None):  # type: ignore[no-untyped-call]
            self._there = onto(device, host)
            self._copied = _recorded(on_gpu)

    def arrived(self) -> Tensor:
        """Returns the tensor for the current stream, which waits for the copy; the host does not."""
        if self._copied is not None:
            stream = torch.cuda.current_stream(self._there.device)
            stream.wait_event(self._copied)
            self._there.record_stream(stream)
        return self._there


def _begun(there: Tensor) -> Tensor:
    host = torch.empty(there.shape, dtype=there.dtype, pin_memory=there.is_cuda)
    return host.copy_(there, non_blocking=True)


def _recorded(on_gpu: bool) -> torch.cuda.Event | None:
    """Returns an event of the current stream, after all its work so far."""
    if not on_gpu:
        return None
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return event


def _on_host(values: Tensor) -> NDArray[np.uint8]:
    return cast(NDArray[np.uint8], np.from_dlpack(values))


def on_host(*tensors: Tensor) -> list[Tensor]:
    """Returns tensors of one device on the host, which waits once for all of them; those of a CPU as they are."""
    if all(each.device.type == "cpu" for each in tensors):
        return list(tensors)
    # Copies of one stream are made in order: when the last one has been made, all have.
    return [
        torch.empty(each.shape, dtype=each.dtype, pin_memory=each.is_cuda).copy_(
            each, non_blocking=each is not tensors[-1]
        )
        for each in tensors
    ]


def onto(device: torch.device, numbers: Sequence[int] | NDArray[np.int64] | Tensor) -> Tensor:
    """Returns integers (as int64), or a tensor of the host, on a device; the host does not wait for the copy."""
    host = numbers if isinstance(numbers, Tensor) else torch.tensor(numbers, dtype=torch.int64)
    if host.device.type != "cpu":
        return host.to(device)
    return (host.pin_memory() if device.type == "cuda" else host).to(device, non_blocking=True)
