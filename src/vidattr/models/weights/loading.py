"""Loads a network: builds it for as many classes as its weights have, fills it, and names its classes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

from torch import Tensor, nn

from vidattr.errors import ConfigError
from vidattr.models.weights.checkpoint import Checkpoint, read
from vidattr.models.weights.class_names import anonymous, class_names
from vidattr.models.weights.filling import fill, head_size, untrained

M = TypeVar("M", bound=nn.Module)
Rename = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]


@dataclass(frozen=True)
class WeightsOrigin:
    """Where the weights of a model come from.

    Whatever it is, `model.weights=random` means an untrained network, and any other text is the path of a file.

    Attributes:
        source: The page that offers the released file, for the message where no weights are named; None: there is none.
        package: Name of the file in `vidattr.models.weights.data` that `model.weights=package` stands for; None: no
            weights come with the package.
        released: Downloads the weights that `model.weights=kinetics400` stands for; None: there are none.
    """

    source: str | None = None
    package: str | None = None
    released: Callable[[], Checkpoint] | None = None

    def file(self, weights: str | None) -> Path | None:
        """Returns the checkpoint file that `model.weights` names.

        Returns:
            None for random and downloaded weights, and where no weights are named.
        """
        if weights is None or weights == "random" or (weights == "kinetics400" and self.released is not None):
            return None
        if weights == "package" and self.package is not None:
            return Path(str(files("vidattr.models.weights.data") / f"{self.package}.safetensors"))
        return located(weights)

    def checkpoint(self, weights: str | None) -> Checkpoint:
        """Reads the checkpoint that `model.weights` names, or downloads it.

        Raises:
            ConfigError: No weights are named, or they cannot be read or downloaded.
        """
        path = self.file(weights)
        if path is not None:
            return read(path)
        if self.released is not None and weights == "kinetics400":
            return self.released()
        raise ConfigError(
            "this model comes without weights",
            expected=None if self.source is None else f"a file of weights, from {self.source}",
            remedy="fetch it and say model.weights=FILE; model.weights=random is untrained",
        )


def loaded(
    weights: str | None,
    origin: WeightsOrigin,
    build: Callable[[int], M],
    head: str,
    classes: str | None,
    *,
    untrained_classes: int | Sequence[str],
    rename: Rename | None = None,
) -> tuple[M, tuple[str, ...]]:
    """Builds a network of as many classes as its checkpoint has, and fills it.

    Args:
        weights: The model's field of this name.
        origin: What the field may stand for.
        build: Builds the network for a number of classes, with random weights.
        head: Name of the network's weight whose rows are the classes.
        classes: The model's field of this name (`class_names`).
        untrained_classes: The classes of a network with random weights: how many, or their names.
        rename: Turns a release's names of the weights, or its layout, into the network's. It drops weights that the
            network has no use for, and leaves names that it does not know as they are.

    Returns:
        The network, and the names of its outputs in order.

    Raises:
        ConfigError: No weights are named, they cannot be read or do not fit, or the class names do not fit.
    """
    if weights == "random":
        names = anonymous(untrained_classes) if isinstance(untrained_classes, int) else tuple(untrained_classes)
        return untrained(lambda: build(len(names))), class_names(classes, len(names), names)
    checkpoint = origin.checkpoint(weights)
    if rename is not None:
        checkpoint = _renamed(checkpoint, rename, origin)
    count = head_size(checkpoint, head)
    module = untrained(lambda: build(count))
    fill(module, checkpoint)
    return module, class_names(classes, count, checkpoint.class_names)


def located(weights: str | None) -> Path:
    """Returns the path that `model.weights` names, with the home folder for `~`.

    Raises:
        ConfigError: It names none.
    """
    if not weights:
        raise ConfigError("this model comes without weights", remedy="say model.weights=FILE")
    return Path(os.path.expanduser(weights))  # unchanged where there is no such user


def _renamed(checkpoint: Checkpoint, rename: Rename, origin: WeightsOrigin) -> Checkpoint:
    try:
        return replace(checkpoint, state=rename(checkpoint.state))
    except (
        RuntimeError,
        ValueError,
        IndexError,
        KeyError,
    ) as error:  # names of this release, shapes of another network
        found = f"{checkpoint.path} is no checkpoint of this release: {str(error).splitlines()[0][:200]}"
        expected = None if origin.source is None else f"a released file, from {origin.source}"
        raise ConfigError(found, expected=expected) from error
