"""Copies between host and GPU for which neither waits."""

from __future__ import annotations

from collections.abc import Sequence
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
        self._last: tuple[Tensor, torch.cuda.Event | None] | None = None

    def __call__(self, flags: Tensor) -> NDArray[np.uint8] | None:
        """Returns the flags (n,) of the call before, 0 or 1; None at the first call."""
        values = flags.to(torch.uint8)
        if not self._behind:
            return _on_host(values)
        before = self._last
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=values.is_cuda)
        host.copy_(values, non_blocking=True)
        event = torch.cuda.Event() if values.is_cuda else None  # type: ignore[no-untyped-call]
        if event is not None:
            event.record()
        self._last = host, event
        if before is None:
            return None
        host, copied = before
        if copied is not None:
            copied.synchronize()  # recorded many iterations ago: the copy has long been made
        return _on_host(host)


def _on_host(values: Tensor) -> NDArray[np.uint8]:
    return cast(NDArray[np.uint8], np.from_dlpack(values))


def onto(device: torch.device, numbers: Sequence[int] | NDArray[np.int64] | Tensor) -> Tensor:
    """Returns integers (as int64), or a tensor of the host, on a device; the host does not wait for the copy."""
    host = numbers if isinstance(numbers, Tensor) else torch.tensor(numbers, dtype=torch.int64)
    return (host.pin_memory() if device.type == "cuda" else host).to(device, non_blocking=True)
