"""Whether kernels written in Triton run: on a GPU where Triton is installed, in float32."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import torch
from torch import Tensor

_off = 0  # blocks of `without_kernels` that are running


@functools.cache
def _installed() -> bool:
    return find_spec("triton") is not None


def runs_kernels(like: Tensor) -> bool:
    """Returns whether work on tensors like this one is done by Triton's kernels; otherwise by torch's operations."""
    return not _off and like.is_cuda and like.dtype is torch.float32 and _installed()


@contextmanager
def without_kernels() -> Iterator[None]:
    """Does the work of its block by torch's operations, to compare both."""
    global _off
    _off += 1
    try:
        yield
    finally:
        _off -= 1
