"""The names of a network's classes: from its checkpoint, from a known data set, or from a file of the user.

Names are never guessed from the number of outputs, which does not tell their order: one release for Kinetics-700 has
the classes in alphabetical order, another in the order in which a CSV file first lists them.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

from vidattr.errors import ConfigError, unknown
from vidattr.models.weights.class_files import read_names

_SIZES = {"kinetics400": 400, "kinetics600": 600, "kinetics700": 700, "ucf101": 101, "ucf50_five": 5}
_RELEASED = "released:"


@cache
def shipped(dataset: str) -> tuple[str, ...]:
    """Returns the class names of kinetics400, kinetics600, kinetics700, ucf101 or ucf50_five, in the data set's order.

    Raises:
        ConfigError: It is none of these.
    """
    if dataset not in _SIZES:
        raise unknown("list of classes", dataset, _SIZES)
    return tuple(files("vidattr.models.weights.data").joinpath(f"{dataset}.txt").read_text("utf-8").splitlines())


def class_names(classes: str | None, count: int, own: tuple[str, ...] | None = None) -> tuple[str, ...]:
    """Returns the names of a network's `count` outputs, in order.

    Args:
        classes: A model's field of this name. A file (`class_files.read_names`) or the name of a known list
            (`shipped`), such as "kinetics400", is used whatever names came with the weights. "released:kinetics400" is
            the list of the file that a model's authors released: it is used if the weights have no names and there are
            as many outputs; otherwise, as for weights that were trained further, outputs are called `class 0` and so
            on. None: the weights' own names, else `class 0` and so on.
        count: K.
        own: The names that came with the weights.

    Raises:
        ConfigError: There is no such list or file, it cannot be read, or it does not name K classes.
    """
    source = f"model.classes={classes}"
    if classes is None or classes.startswith(_RELEASED):
        released = () if classes is None else shipped(classes.removeprefix(_RELEASED))
        names, source = own or (released if len(released) == count else anonymous(count)), "the checkpoint"
    else:
        names = shipped(classes) if classes in _SIZES else read_names(Path(classes).expanduser(), _SIZES)
    if len(names) != count:
        raise ConfigError(
            f"{source} names {len(names)} classes",
            expected=f"{count} names, one for each output",
            remedy="model.classes=FILE with their names in order, or model.classes=null, which calls them class 0, "
            "class 1 and so on",
        )
    return names


def anonymous(count: int) -> tuple[str, ...]:
    """Returns `class 0`, `class 1` and so on, for `count` classes without names."""
    return tuple(f"class {k}" for k in range(count))
