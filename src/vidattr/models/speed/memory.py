"""Memory that runs out, on a GPU or a CPU: smaller batches, and freed memory kept or handed back."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import TypeVar

import torch
from tqdm import tqdm

from vidattr.errors import OutOfMemoryError, out_of_memory
from vidattr.models.network.network import VideoModel

R = TypeVar("R")
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # glibc's <malloc.h>


def keep_memory() -> None:
    """Asks the C library to keep what is freed for the next tensor, instead of handing it back to the system.

    A tensor of some MB otherwise comes as fresh pages, each of which the system clears at its first touch: of a small
        3-D CNN
    on a CPU that is up to half of the time, the more the larger the batch. Without effect where the C library is not
    glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def within_memory(network: VideoModel | None, work: Callable[[], R]) -> R:
    """Does `work`, halving the network's `max_batch` each time memory runs out, on a GPU or a CPU.

    The smaller batch stays: what did not fit once will not fit again. It is said on the terminal, because another batch
        may give
    other last bits. With a batch of one the error is the user's to mend.

    Raises:
        OutOfMemoryError: With one clip in a pass it still does not fit.
    """
    while True:
        try:
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
    """Gives work to a pool, or does it here where there is no room for another thread."""
    try:
        return pool.submit(work)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
    done: Future[R] = Future()
    done.set_result(work())
    return done


def free_memory() -> None:
    """Hands back what is not in use: on a GPU to other processes, on a CPU to the system."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
