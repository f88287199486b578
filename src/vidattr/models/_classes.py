"""The names of a network's classes: those of its file, of a well-known data set, or of a file of the user's."""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files
from pathlib import Path

from vidattr.errors import ConfigError, unknown
from vidattr.models._checkpoint import anonymous

_SIZES = {"kinetics400": 400, "kinetics600": 600, "kinetics700": 700, "ucf101": 101}
_TABLE_COLUMNS = ("class_key", "key")  # of EPIC-KITCHENS-55 and -100


@cache
def shipped(dataset: str) -> tuple[str, ...]:
    """Returns the class names of kinetics400, kinetics600, kinetics700 or ucf101, in the order of a network's outputs.

    Raises:
        ConfigError: It is none of these.
    """
    if dataset not in _SIZES:
        raise unknown("list of classes", dataset, _SIZES)
    return tuple(files("vidattr.classes").joinpath(f"{dataset}.txt").read_text("utf-8").splitlines())


def known(count: int) -> tuple[str, ...]:
    """Returns the names of the one well-known data set that has `count` classes; none where there is no such."""
    return next((shipped(dataset) for dataset, size in _SIZES.items() if size == count), ())


def class_names(classes: str | None, count: int, own: tuple[str, ...] | None = None) -> tuple[str, ...]:
    """Returns the names of a network's `count` outputs, in order.

    Args:
        classes: A model's field of this name: "kinetics400" and the like (`shipped`); a text file with one name a line; or
            a CSV file of EPIC-KITCHENS (`EPIC_noun_classes.csv`, `EPIC_verb_classes.csv`, `EPIC_100_noun_classes.csv`, …).
            None: the network's own names, else those of the data set that has as many classes, else `class 0` and so on.
        count: K.
        own: The names that came with the weights.

    Raises:
        ConfigError: There is no such list or file, it cannot be read, or it does not name K classes.
    """
    if classes is None:
        names = own or known(count) or anonymous(count)
        source = "the checkpoint"
    else:
        names = shipped(classes) if classes in _SIZES else _from_file(classes)
        source = f"model.classes={classes}"
    if len(names) != count:
        raise ConfigError(f"{source} names {len(names)} classes", expected=f"{count} names, one for each output")
    return names


def _from_file(name: str) -> tuple[str, ...]:
    path = Path(name).expanduser()
    if not path.is_file():
        expected = f"one of {', '.join(_SIZES)}, a text file with one class name a line, or a CSV of EPIC-KITCHENS"
        raise ConfigError(f"model.classes={name}: no such list or file", expected=expected)
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"model.classes={name} is no text: {error}", expected="one class name a line, in UTF-8") from error
    return _from_table(path, text) if path.suffix.lower() == ".csv" else tuple(line.strip() for line in text.splitlines() if line.strip())


def _from_table(path: Path, text: str) -> tuple[str, ...]:
    """Reads the rows `<number>,<name>,…` of EPIC-KITCHENS; the numbers are the outputs."""
    rows = csv.DictReader(text.splitlines())
    columns = rows.fieldnames or ()
    key = next((name for name in _TABLE_COLUMNS if name in columns), None)
    if key is None:
        raise ConfigError(
            f"{path} has the columns {', '.join(columns) or '(none)'}",
            expected=f"the number of a class first, and its name under {' or '.join(_TABLE_COLUMNS)}",
        )
    names = {row[columns[0]]: row[key] for row in rows}
    if list(names) != [str(k) for k in range(len(names))]:
        expected = "0, 1, 2, …: one row for each output, in order"
        raise ConfigError(f"{path} numbers its classes otherwise under {columns[0]!r}", expected=expected)
    return tuple(names.values())
