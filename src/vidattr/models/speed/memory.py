"""What to do when memory runs out, on a GPU or a CPU: smaller batches, and unused memory returned."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeVar

import torch
from tqdm import tqdm

from vidattr.errors import OutOfMemoryError, out_of_memory

R = TypeVar("R")


class Batched(Protocol):
    """The part of a network that this module uses (`VideoModel`)."""

    max_batch: int

    def arithmetic(self) -> AbstractContextManager[None]:
        """Holds torch's number formats at the network's precision."""


def within_memory(network: Batched | None, work: Callable[[], R]) -> R:
    """Does `work` at the network's precision, and again with half the `max_batch` each time memory runs out.

    The smaller batch is kept for all later work. A line on the terminal says so, because another batch size may change
    the last bits of a map. Without a network the work is done once.

    Raises:
        OutOfMemoryError: Memory ran out with one clip in a forward pass, or without a network.
    """
    while True:
        try:
            with nullcontext() if network is None else network.arithmetic():
                return work()
        except Exception as error:
            if not out_of_memory(error):
                raise
            if network is None or network.max_batch == 1:
                raise OutOfMemoryError(
                    f"out of memory with one clip in a forward pass: {error}",
                    remedy="a smaller model.input.size, fewer runtime.clips and runtime.workers, or a larger device",
                ) from error
        network.max_batch = max(1, network.max_batch // 2)
        words = f"out of memory: runtime.max_batch={network.max_batch} from here on; maps may differ in their last bits"
        tqdm.write(words, sys.stderr)
        free_memory()


def submitted(pool: Executor, work: Callable[[], R]) -> Future[R]:
    """Submits work to a pool, or does it in this thread where there is no memory for another thread."""
    try:
        return pool.submit(work)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
    done: Future[R] = Future()
    done.set_result(work())
    return done


def free_memory() -> None:
    """Returns unused memory: on a GPU to other processes, on a CPU to the system."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
