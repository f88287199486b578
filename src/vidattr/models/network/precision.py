"""Keeps torch's number formats at a network's precision while the network works, and puts the user's settings back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import torch
from torch import backends

from vidattr.config.runtime import Precision

_cudnn: Any = backends.cudnn
_mkldnn: Any = backends.mkldnn
_cuda: Any = backends.cuda
_FAMILIES: tuple[Any, ...] = (backends, _cudnn, _mkldnn)
_OPERATIONS = (_cudnn.conv, _cudnn.rnn, _cuda.matmul, _mkldnn.matmul, _mkldnn.conv, _mkldnn.rnn)
_WITH_TF32 = _OPERATIONS[:4]  # what `torch.set_float32_matmul_precision("high")` and `cudnn.allow_tf32` cover

_lock = Lock()
_active: list[Precision] = []  # the precisions of the calls that are running, the newest last
_user: list[list[str]] = []  # the user's settings while any call is running: at most one entry


@contextmanager
def held(precision: Precision, device: str) -> Iterator[None]:
    """Runs its block at a precision: TF32 as the precision says, and no autocast of the caller's.

    torch keeps these settings for the whole process (autocast: for the thread). They are put back when the block ends,
    also when it raises. Blocks may be nested. Blocks in several threads have to have the same precision.

    Args:
        precision: `tf32` allows TF32 in convolutions and matrix products. The other two do not: `bfloat16` is
            autocast, which only a forward pass switches on.
        device: The type of device whose autocast is switched off, such as "cuda".
    """
    _enter(precision)
    try:
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                yield
        else:
            yield
    finally:
        _leave(precision)


def _enter(precision: Precision) -> None:
    with _lock:
        if not _active:
            _user.append(_settings())
        if not _active or _active[-1] is not precision:
            _set(precision)
        _active.append(precision)


def _leave(precision: Precision) -> None:
    with _lock:
        del _active[len(_active) - 1 - _active[::-1].index(precision)]
        if not _active:
            _restore(_user.pop())
        elif _active[-1] is not precision:
            _set(_active[-1])


def _set(precision: Precision) -> None:
    for operation in _OPERATIONS:
        _write(operation, "tf32" if precision is Precision.tf32 and operation in _WITH_TF32 else "ieee")


def _settings() -> list[str]:
    """Returns each operation's own setting, "none" where it follows the family that it belongs to.

    Reading a setting gives the family's where the operation has none of its own. So the families' settings are
    cleared while those of the operations are read, the widest family first, and then put back in the other order.
    """
    families = []
    for family in _FAMILIES:
        families.append(family.fp32_precision)
        _write(family, "none")
    own = [operation.fp32_precision for operation in _OPERATIONS]
    for family, value in zip(reversed(_FAMILIES), reversed(families), strict=True):
        _write(family, value)
    return own


def _restore(settings: list[str]) -> None:
    for operation, value in zip(_OPERATIONS, settings, strict=True):
        operation.fp32_precision = value


def _write(place: Any, value: str) -> None:
    """Writes a setting where it differs: in torch 2.15 writing mkldnn's also overwrites the widest family's."""
    if place.fp32_precision != value:
        place.fp32_precision = value
