"""Networks of the papers: their weights are files that their authors released, and that the user has to fetch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from torch import nn

from vidattr.errors import ConfigError
from vidattr.models.weights.checkpoint import anonymous, fill, head_size, located, read, untrained
from vidattr.models.weights.class_names import class_names

M = TypeVar("M", bound=nn.Module)


def released_file(weights: str | None) -> Path | None:
    """Returns the checkpoint file that `weights` names, or None for "random" and where nothing is named."""
    return None if weights in (None, "random") else located(weights)


def released(
    weights: str | None,
    build: Callable[[int], M],
    head: str,
    classes: str | None,
    *,
    count: int,
    source: str,
    unused: str | None = None,
    rename: Callable[[str], str] | None = None,
) -> tuple[M, tuple[str, ...]]:
    """Builds a network of as many classes as its checkpoint knows, and fills it.

    Args:
        weights: "random": untrained; else a checkpoint file.
        build: Makes the network for a number of classes.
        head: Name of the weight whose rows are the classes.
        classes: Names of the classes, as `_classes.class_names` takes them.
        count: How many classes the released weights have, and so has an untrained network.
        source: Where the released weights are, for the message where none are named.
        unused: What the names of weights begin with that the network has no use for.
        rename: Turns a name of another release into the network's, and leaves all others alone.

    Returns:
        The network and the names of its outputs.

    Raises:
        ConfigError: No weights are named, or they cannot be read or do not fit, or the class names do not.
    """
    if weights is None:
        raise ConfigError(
            "this model comes without weights",
            expected=f"the released file, from {source}",
            remedy="fetch it and say model.weights=FILE; model.weights=random is untrained",
        )
    if weights == "random":
        return untrained(lambda: build(count)), class_names(classes, count, anonymous(count))
    checkpoint = read(located(weights))
    if rename is not None:
        checkpoint = replace(checkpoint, state={rename(name): tensor for name, tensor in checkpoint.state.items()})
    if unused is not None:
        kept = {name: tensor for name, tensor in checkpoint.state.items() if not name.startswith(unused)}
        checkpoint = replace(checkpoint, state=kept)
    count = head_size(checkpoint, head)
    module = build(count)
    fill(module, checkpoint)
    return module, class_names(classes, count, checkpoint.class_names)


def loaded(
    path: Path | None, build: Callable[[int], M], head: str, classes: str | None, *, untrained_classes: Sequence[str]
) -> tuple[M, tuple[str, ...]]:
    """Builds a network of as many classes as its checkpoint knows, and fills it.

    Args:
        path: The checkpoint; None: random weights.
        build: Makes the network for a number of classes.
        head: Name of the weight whose rows are the classes.
        classes: Names of the classes, as `_classes.class_names` takes them.
        untrained_classes: The classes that random weights would be trained for.

    Returns:
        The network and the names of its outputs.

    Raises:
        ConfigError: The file cannot be read or does not fit, or the class names do not.
    """
    if path is None:
        names = tuple(untrained_classes)
        return untrained(lambda: build(len(names))), class_names(classes, len(names), names)
    checkpoint = read(path)
    count = head_size(checkpoint, head)
    module = build(count)
    fill(module, checkpoint)
    return module, class_names(classes, count, checkpoint.class_names)
