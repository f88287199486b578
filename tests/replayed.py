"""A recorder as CUDA's, on a CPU: it writes down the operations of work, with their tensors, and does them again.

Like a CUDA graph, a replay knows no Python: a number that changes from call to call, a tensor that is another one, or a
branch that was not taken at the recording gives wrong results.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Work = Callable[[], object]


class _Log(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.steps: list[tuple[Any, Any, Any, list[Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func._overloadpacket.__name__ in ("_local_scalar_dense", "nonzero", "lift_fresh", "unique_dim"):
            raise RuntimeError(f"operation not permitted when stream is capturing: {func}")
        taken = {each.untyped_storage()._cdata for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)}
        made = [each for each in tree_leaves(out) if isinstance(each, Tensor)]
        fresh = [each for each in made if each.untyped_storage()._cdata not in taken]
        if fresh or any(each.is_mutable for each in (func._schema,)):
            self.steps.append((func, args, kwargs or {}, made if fresh else []))
        return out


class Replayer:
    """Counts what it warms, records and replays."""

    def __init__(self) -> None:
        self.warmed = self.recorded = self.replayed = 0

    def warm(self, work: Work) -> None:
        """Runs work."""
        self.warmed += 1
        work()

    def record(self, work: Work) -> Work:
        """Runs work and writes it down; its first replay, which belongs to this run, does nothing."""
        self.recorded += 1
        with _Log() as log:
            work()
        ran = True

        def replay() -> None:
            nonlocal ran
            self.replayed += 1
            if ran:
                ran = False
                return
            with torch.no_grad():
                for func, args, kwargs, made in log.steps:
                    again = [each for each in tree_leaves(func(*args, **kwargs)) if isinstance(each, Tensor)]
                    for old, new in zip(made, again, strict=bool(made)):
                        old.copy_(new.view_as(old))  # an axis of length 1 may have been added in place

        return replay


class Refusing(Replayer):
    """Cannot record anything."""

    def record(self, work: Work) -> Work:
        """Fails as a network does that looks at a value."""
        raise RuntimeError("operation not permitted when stream is capturing\nmore words")
