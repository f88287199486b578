"""Files of a training: weights for `model.weights`, and a state from which a killed training continues.

Each file is written whole (`vidattr.writing`). The state of an epoch is one file and is written first. Weights, log and
picture can be made from it, so that a kill between two files loses nothing. No file is a pickle.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from vidattr.config.identity import difference
from vidattr.errors import ConfigError
from vidattr.models.network.network import VideoModel
from vidattr.models.weights.trained import metadata
from vidattr.protocols import ModelConfig
from vidattr.writing import write_bytes

FORMAT = 1
"""Version of the state file; raised when older files can no longer be read."""

_WEIGHTS, _OPTIMIZER = "weights.", "optimizer."


@dataclass
class State:
    """The progress of a training.

    There is no random state: the random numbers of an epoch depend on the recipe's seed and the epoch's number alone.

    Attributes:
        identity: All that decides the training, as plain values.
        epoch: Number of completed epochs.
        rows: The log, one row per epoch, column to text.
        accumulate: Parts into which a batch is divided.
    """

    identity: dict[str, Any]
    epoch: int = 0
    rows: list[dict[str, str]] = field(default_factory=list)
    accumulate: int = 1


def serialised(tensors: Mapping[str, Tensor], said: Mapping[str, str]) -> bytes:
    """Returns the bytes of a safetensors file; the same tensors and texts always give the same bytes."""
    content = save({name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}, dict(said))
    # The library writes the entries of the metadata in a random order.
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(said.items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=True).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def weights(network: VideoModel, model: ModelConfig) -> bytes:
    """Returns a checkpoint of the network.

    It holds the network's weights, and the metadata that `model.weights` needs (`trained.metadata`).

    Args:
        network: The network.
        model: The config that it was loaded from.
    """
    return serialised(network.module.state_dict(), metadata(model, network.classes))


def write_state(path: Path, state: State, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Writes weights, optimizer and progress into one file, whole."""
    tensors = {f"{_WEIGHTS}{name}": tensor for name, tensor in module.state_dict().items()}
    for number, values in optimizer.state_dict()["state"].items():
        tensors |= {
            f"{_OPTIMIZER}{number}.{name}": value for name, value in values.items() if isinstance(value, Tensor)
        }
    said = {
        "format": FORMAT,
        "identity": state.identity,
        "epoch": state.epoch,
        "rows": state.rows,
        "accumulate": state.accumulate,
    }
    write_bytes(path, serialised(tensors, {"training": json.dumps(said, ensure_ascii=False)}))


def read_state(
    path: Path, identity: Mapping[str, Any], module: nn.Module, optimizer: torch.optim.Optimizer
) -> State | None:
    """Fills module and optimizer from a state file and returns the progress; None if there is no file.

    Raises:
        ConfigError: The file is damaged, or it belongs to another training; the message lists the differences.
    """
    if not path.is_file():
        return None
    remedy = "--force moves the folder aside and starts afresh; or another folder with --out"
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            said = json.loads((file.metadata() or {})["training"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        state = State(
            dict(said["identity"]), int(said["epoch"]), [_row(row) for row in said["rows"]], int(said["accumulate"])
        )
        readable = said["format"] == FORMAT and len(state.rows) == state.epoch and state.accumulate > 0
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError, OSError) as error:
        raise ConfigError(
            f"{path} cannot be read: {error}", expected="the state of a training", remedy=remedy
        ) from error
    if not readable:
        raise ConfigError(f"{path} is of another version of vidattr, or damaged", remedy=remedy)
    lines = difference(identity, state.identity)
    if lines:
        more = [f"and {len(lines) - 10} more"] if len(lines) > 10 else []
        raise ConfigError("\n    ".join([f"{path.parent} holds another training:", *lines[:10], *more]), remedy=remedy)
    try:
        _fill(module, {name.removeprefix(_WEIGHTS): t for name, t in tensors.items() if name.startswith(_WEIGHTS)})
        _fill_optimizer(
            optimizer, {name.removeprefix(_OPTIMIZER): t for name, t in tensors.items() if name.startswith(_OPTIMIZER)}
        )
    except (RuntimeError, ValueError, KeyError, IndexError) as error:
        reason = str(error).splitlines()[0][:300]
        raise ConfigError(
            f"{path} does not fit the network: {reason}", expected="the state of this training", remedy=remedy
        ) from error
    return state


def _row(row: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): str(value) for name, value in row.items()}


def _fill(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    module.load_state_dict(dict(tensors))


def _fill_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    parameters: Sequence[Tensor] = [p for group in optimizer.param_groups for p in group["params"]]
    for name, tensor in tensors.items():
        number, _, key = name.partition(".")
        parameter = parameters[int(number)]
        if tensor.ndim and tensor.shape != parameter.shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, not {tuple(parameter.shape)}")
        # As the optimizer would have made it: on the parameter's device, in its layout; a counter of steps stays on the
        # CPU.
        value = (
            torch.empty_like(parameter, memory_format=torch.preserve_format).copy_(tensor) if tensor.ndim else tensor
        )
        optimizer.state[parameter][key] = value
