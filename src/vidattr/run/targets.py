"""The class to explain in a clip."""

from __future__ import annotations

from collections.abc import Sequence

from vidattr.errors import ClipError
from vidattr.labels import index_of, plain
from vidattr.models.network.network import VideoModel
from vidattr.types import Clip

_LISTED = 10  # classes that an error message lists


def class_index(network: VideoModel, name: str | int) -> int:
    """Returns the index of a class of the network.

    Args:
        network: The network.
        name: The class's name in any spelling that `labels.plain` accepts, its index as `#2`, or its index as a number.

    Raises:
        ConfigError: There is no such class.
    """
    return index_of(name, network.classes, network.places)


def target_of(network: VideoModel, target: str, clip: Clip, likeliest: Sequence[int]) -> int:
    """Returns the index of the class to explain in one clip.

    Args:
        network: The network.
        target: "predicted", "second" (the class with the second highest probability), "label", or a class as in
            `class_index`.
        clip: The clip.
        likeliest: The classes with the highest and the second highest probability; of a network with one output, one.

    Raises:
        ClipError: The clip's label is no class of the network, or the network has no second class.
        ConfigError: `target` is no class of the network.
    """
    if target == "predicted":
        return likeliest[0]
    if target == "second":
        if len(likeliest) > 1:
            return likeliest[1]
        raise ClipError("the network has one output, and no second class", remedy="target=predicted")
    if target != "label":
        return class_index(network, target)
    # A label is a name, never an index, whatever it looks like.
    if (place := network.places.get(plain(clip.label))) is not None:
        return place
    raise ClipError(
        f"its label {clip.label!r} is none of the network's {len(network.classes)} classes"
        if clip.label
        else "it has no label",
        expected=f"one of {', '.join(network.classes)}" if len(network.classes) <= _LISTED else None,
        remedy="target=predicted, or choose with dataset.classes the classes that the network knows",
    )
