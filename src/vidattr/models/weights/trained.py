"""The metadata of weights that were trained by this project, and what a model config takes from it.

Weights are used with the preprocessing that they were trained with, whatever the model's YAML says, unless the user
sets another one. Every result states what was taken from the file, and how the user's settings differ from it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from vidattr.config.building import build
from vidattr.errors import ConfigError

if TYPE_CHECKING:
    from vidattr.protocols import ModelConfig

_APART = (
    "weights",
    "classes",
    "input",
    "revision",
)  # fields of the model's config that a file of weights does not repeat
_SHOWN = 80


@dataclass(frozen=True)
class Trained:
    """The content of the metadata: fields of the preprocessing, class and fields of the model, as plain values."""

    preprocessing: Mapping[str, Any]
    model: Mapping[str, Any]


def plain_fields(part: Any) -> dict[str, Any]:
    """Returns the fields of a plug-in's dataclass as plain values, as its YAML holds them."""
    return {item.name: _plain(getattr(part, item.name)) for item in dataclasses.fields(part)}


def metadata(model: ModelConfig, classes: Sequence[str]) -> dict[str, str]:
    """Returns the metadata of the weights for a safetensors file: JSON texts by name."""
    skipped = {item.name for item in dataclasses.fields(model) if item.metadata.get("identity") == "skip"}  # type: ignore[arg-type]
    values = {name: value for name, value in plain_fields(model).items() if name not in skipped}
    kept = {name: value for name, value in values.items() if name not in _APART}
    return {
        "class_names": json.dumps(list(classes), ensure_ascii=False),
        "preprocessing": json.dumps(values["input"], sort_keys=True),
        "model": json.dumps({"class": type(model).__qualname__, **kept}, sort_keys=True),
    }


def trained(path: Path) -> Trained | None:
    """Returns the metadata of a file of weights, or None if it has none; no tensor is read.

    Raises:
        ConfigError: The metadata is damaged.
    """
    if path.suffix.lower() != ".safetensors" or not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            said = file.metadata() or {}
    except (SafetensorError, OSError):  # loading the weights reports the error
        return None
    if "preprocessing" not in said:
        return None
    try:
        found = Trained(dict(json.loads(said["preprocessing"])), dict(json.loads(said.get("model", "{}"))))
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"{path}: its preprocessing cannot be read: {error}", expected="a file as `vidattr train` writes it"
        ) from error
    return found


def adopted(values: Mapping[str, Any], path: Path, asked: Collection[str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Returns a model's config with the preprocessing that its weights were trained with.

    Args:
        values: The config: fields to plain values, of which `input` is the preprocessing.
        path: The file of weights.
        asked: Dotted fields that the user gave, "input.size" or "input": these stay as they are.

    Returns:
        The config, and notes for the results: which fields were taken from the file, and in which fields the
        configuration differs from the training.
    """
    found = trained(path)
    if found is None:
        return dict(values), ()
    before: Mapping[str, Any] = values.get("input") or {}
    after, taken, other = dict(before), [], []
    for name, value in found.preprocessing.items():
        if before.get(name) == value:
            continue
        shown = f"input.{name}={_short(value)}"
        if "input" in asked or f"input.{name}" in asked:
            other.append(f"model.input.{name}={_short(before.get(name))}, trained with {_short(value)}")
        else:
            after[name] = value
            taken.append(shown)
    other += [
        f"model.{name}={_short(values[name])}, trained with {_short(value)}"
        for name, value in found.model.items()
        if name in values and values[name] != value
    ]
    notes = []
    if taken:
        notes.append(
            f"preprocessing that {path.name} was trained with, in place of the model config's: {', '.join(taken)}"
        )
    if other:
        notes.append(f"the network is not used as {path.name} was trained: {'; '.join(other)}")
    return {**values, "input": after}, tuple(notes)


def as_trained(
    model: ModelConfig, values: Mapping[str, Any], asked: Collection[str], typed: Mapping[str, str]
) -> tuple[ModelConfig, dict[str, Any], tuple[str, ...]]:
    """Returns a model with the preprocessing of its weights, its configuration, and notes for the results.

    Args:
        model: As it was configured.
        values: Its configuration: `_target_` and fields as plain values.
        asked: Dotted fields that the user gave.
        typed: As in `building.made`.

    Raises:
        ConfigError: The metadata of its file of weights is damaged.
    """
    file = model.weights_file() if values.get("weights") and hasattr(model, "weights_file") else None
    if file is None:
        return model, dict(values), ()
    changed, notes = adopted(values, file, asked)
    if changed == values:
        return model, changed, notes
    return build(changed, f"model.weights={file}", typed=typed), changed, notes


def _short(value: Any) -> str:
    text = json.dumps(value, default=str).strip('"')
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain_fields(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
