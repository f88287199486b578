"""Checks the entries of a checkpoint: text to dense tensors of real numbers on the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidattr.errors import ConfigError

WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net")
"""Entries under which the weights may lie."""
WANTED = "name to tensor, as torch.save(model.state_dict(), FILE) writes"
_SHOWN = 10  # names of one kind in a message; the rest is a count
_LONGEST = 80  # characters of one of them
_REPEATED = (
    2**29
)  # bytes of the largest tensor that may repeat fewer numbers than it has; no layer of a network here has more
_NUMBERS = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool, torch.uint8})
_NUMBERS |= {torch.int8, torch.int16, torch.int32, torch.int64}


def refuse(path: Path, content: Mapping[Any, Any]) -> None:
    """Raises an error if an entry of a file cannot be a weight.

    Raises:
        ConfigError: There are no entries; a name is not text; a value is not a tensor; a tensor is sparse, quantised,
            complex or nested, or not on the CPU; or a large tensor repeats a few stored numbers, so that a file of some
            bytes would fill the memory.
    """
    if nameless := [repr(name) for name in content if not isinstance(name, str)]:
        raise ConfigError(f"{path} holds entries whose names are no text: {listed(nameless)}", expected=WANTED)
    strange = [name for name, value in content.items() if not isinstance(value, Tensor)]
    if strange or not content:
        raise ConfigError(
            f"{path} holds no weights"
            if not content
            else f"{path} holds entries that are not weights: {listed(strange)}",
            expected=f"name to tensor, alone or under one of {', '.join(WRAPPERS)}",
            remedy="save it again with torch.save(model.state_dict(), FILE)",
        )
    if odd := [f"{name} ({_kind(value)})" for name, value in content.items() if not _plain(value)]:
        raise ConfigError(
            f"{path} holds weights that are no plain arrays of real numbers: {listed(odd)}",
            expected="dense tensors of floating-point or whole numbers, on the CPU",
            remedy="save the weights as they were before they were quantised, made sparse or expanded",
        )


def _plain(tensor: Tensor) -> bool:
    if (
        tensor.layout is not torch.strided
        or tensor.is_nested
        or tensor.device.type != "cpu"
        or tensor.dtype not in _NUMBERS
    ):
        return False
    size = tensor.numel() * tensor.element_size()
    return size <= _REPEATED or tensor.untyped_storage().nbytes() >= size


def _kind(tensor: Tensor) -> str:
    layout = "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.")
    where = "" if tensor.device.type == "cpu" else f", on {tensor.device}"
    return f"{layout}, {str(tensor.dtype).removeprefix('torch.')}{where}"


def listed(names: Sequence[str]) -> str:
    """Returns the first names, each shortened to a line, and the number of the others."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    printed = (name if name.isprintable() else ascii(name)[1:-1] for name in names[:_SHOWN])
    return ", ".join(name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…" for name in printed) + more
