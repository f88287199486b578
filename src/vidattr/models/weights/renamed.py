"""Networks whose checkpoints come from several places, each with names of its own for the same weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from torch import Tensor, nn

from vidattr.errors import ConfigError
from vidattr.models.weights.checkpoint import Checkpoint, anonymous, fill, head_size, located, read, untrained
from vidattr.models.weights.class_names import class_names

M = TypeVar("M", bound=nn.Module)
Rename = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]


def renamed(
    weights: str | None,
    build: Callable[[int], M],
    head: str,
    rename: Rename,
    *,
    source: str,
    classes: str | None,
    count: int,
) -> tuple[M, tuple[str, ...]]:
    """Builds a network of as many classes as its checkpoint knows, and fills it.

    Args:
        weights: "random": untrained; else a checkpoint file.
        build: Makes the network for a number of classes.
        head: Name of the network's weight whose rows are the classes.
        rename: Turns the file's weights into the network's.
        source: Where the released files are, for the message where none is named.
        classes: A model's field of this name (`class_names`).
        count: Number of classes of an untrained network.

    Returns:
        The network and the names of its outputs.

    Raises:
        ConfigError: No weights are named, they cannot be read or do not fit, or the class names do not.
    """
    if weights is None:
        raise ConfigError(
            "this model comes without weights",
            expected=f"a released file, from {source}",
            remedy="fetch it and say model.weights=FILE; model.weights=random is untrained",
        )
    if weights == "random":
        return untrained(lambda: build(count)), class_names(classes, count, anonymous(count))
    file = read(located(weights))
    try:
        state = rename(file.state)
    except (
        RuntimeError,
        ValueError,
        IndexError,
        KeyError,
    ) as error:  # names of this release with shapes of another network
        found = f"{file.path} is no checkpoint of this release: {str(error).splitlines()[0][:200]}"
        raise ConfigError(found, expected=f"a released file, from {source}") from error
    checkpoint = Checkpoint(file.path, state, file.class_names)
    outputs = head_size(checkpoint, head)
    module = build(outputs)
    fill(module, checkpoint)
    return module, class_names(classes, outputs, checkpoint.class_names)
