"""Puts the weights of a checkpoint into a network, if all names and shapes agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from vidattr.errors import ConfigError
from vidattr.models.weights.checkpoint import Checkpoint
from vidattr.models.weights.entries import listed

M = TypeVar("M", bound=nn.Module)


def fill(module: nn.Module, checkpoint: Checkpoint) -> None:
    """Copies the weights into the network; every name and every shape has to agree.

    Only BatchNorm's `num_batches_tracked` may be missing or of another type: old checkpoints lack it, and it is not
    used in eval mode.

    Raises:
        ConfigError: Some do not agree; the message lists them by kind.
    """
    wanted, found = module.state_dict(), checkpoint.state
    missing = [name for name in wanted if name not in found and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in found if name not in wanted]
    shapes = [(name, tuple(found[name].shape), tuple(wanted[name].shape)) for name in wanted if name in found]
    misshaped = [f"{name} is {file}, not {own}" for name, file, own in shapes if file != own]
    kinds = [
        (n, found[n].dtype, wanted[n].dtype) for n in wanted if n in found and not n.endswith("num_batches_tracked")
    ]
    misshaped += [
        f"{name} is {file}, not {own}" for name, file, own in kinds if file.is_floating_point != own.is_floating_point
    ]
    if not (missing or unexpected or misshaped):
        module.load_state_dict(dict(found), strict=False)
        return
    lines = [f"{checkpoint.path} does not fit {type(module).__name__}"]
    for kind, names in (("missing", missing), ("unexpected", unexpected), ("other shape", misshaped)):
        if names:
            lines.append(f"  {kind} ({len(names)}): {listed(names)}")
    raise ConfigError("\n".join(lines), expected="the network's own names and shapes", remedy=_hint(wanted, found))


def head_size(checkpoint: Checkpoint, key: str) -> int:
    """Returns the number of classes of a checkpoint, the rows of its weight `key`.

    A checkpoint without this weight belongs to another network: the result is 1, and `fill` lists what differs.
    """
    weight = checkpoint.state.get(key)
    return 1 if weight is None or weight.ndim == 0 else max(1, weight.shape[0])


def untrained(build: Callable[[], M]) -> M:
    """Builds a module with random weights, the same in every process, without changing the caller's random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()


def _hint(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    if len(wanted.keys() & found.keys()) * 2 > len(wanted):
        return (
            "it is nearly this network: take the variant (size, number of classes) that the checkpoint was trained for"
        )
    prefixes = [name.removesuffix(last) for last in list(wanted)[-1:] for name in found if name.endswith(f".{last}")]
    if prefixes:
        return f"its names begin with {prefixes[0]!r}: save it without"
    parts = dict.fromkeys(name.partition(".")[0] for name in found)
    return f"this is another network, with the parts {listed(list(parts))}: choose the model that it belongs to"
