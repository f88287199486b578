"""Files that name the outputs of a network: lists, numbered lists, JSON, and the tables of several data sets."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vidattr.errors import ConfigError

_LARGEST = 256 * 2**20  # bytes; the training table of Kinetics-700 has 27 million
_NUMBERED = re.compile(r"(\d+)[\s,;:]+(\S.*)")  # "2 Biking", as in UCF101's classInd.txt
_NUMBERED_BEHIND = re.compile(r"(\S.*)\t\s*(\d+)")
_KEY_COLUMNS = ("class_key", "key")  # of EPIC-KITCHENS-55 and -100
_INDEX_COLUMNS = ("index", "id", "idx", "class_id", "class_index", "label_id", "")
_NAME_COLUMNS = ("name", "class", "label", "class_name", "label_name", "category")
EXPECTED = (
    "a text file with a name a line, or an index and a name (classInd.txt); JSON, a list of names, or names with their "
    "indices; or a CSV file with an index and a name a row, of EPIC-KITCHENS' classes, or of Kinetics' training clips"
)


def read_names(path: Path, lists: Iterable[str]) -> tuple[str, ...]:
    """Returns the names in a file, in the order of the outputs.

    * Text: one name a line; or `<index> <name>` or `<name><tab><index>` on every line.
    * JSON: a list of names; an object of names and indices either way round; one that holds such a thing under
      `id2label`, `label2id`, `labels` or `class_names`.
    * CSV with EPIC-KITCHENS' columns: the first is the index, `class_key` or `key` the name.
    * CSV with Kinetics' columns `label` and `youtube_id`: the labels in the order in which they first appear, which is
      how 3D-ResNets number them.
    * CSV with a column of indices and a column of names, with or without a heading.

    Indices are 0 … K−1 or 1 … K, each once.

    Raises:
        ConfigError: There is no such file, or it is none of these.
    """
    if not path.is_file():
        expected = f"one of {', '.join(lists)}; or {EXPECTED}"
        what = "a folder" if path.is_dir() else "no such list or file"
        raise ConfigError(f"model.classes={path}: {what}", expected=expected)
    try:
        if (size := path.stat().st_size) > _LARGEST:
            raise ConfigError(f"model.classes={path} has {size >> 20} MiB", expected=EXPECTED)
        text = path.read_bytes().decode("utf-8-sig")
        names = tuple(_READERS.get(path.suffix.lower(), _from_lines)(text, path))
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"model.classes={path} is no text: {error}", expected=EXPECTED, remedy="save it as UTF-8"
        ) from error
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise ConfigError(
            f"model.classes={path} cannot be read: {str(error)[:200] or type(error).__name__}", expected=EXPECTED
        ) from error
    if not names or not all(name and "\0" not in name for name in names):
        raise ConfigError(
            f"model.classes={path} {'has an empty name' if names else 'names no class'}", expected=EXPECTED
        )
    return names


def _from_lines(text: str, path: Path) -> Sequence[str]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for pattern, index, name in ((_NUMBERED, 1, 2), (_NUMBERED_BEHIND, 2, 1)):
        found = [pattern.fullmatch(line) for line in lines]
        if lines and all(found):
            return _ordered([(int(match[index]), match[name].strip()) for match in found if match], path)
    return lines


def _from_json(text: str, path: Path) -> Sequence[str]:
    content: Any = json.loads(text)
    if isinstance(content, Mapping):
        for name in ("id2label", "label2id", "labels", "class_names"):
            if isinstance(content.get(name), Mapping | list):
                content = content[name]
                break
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        return [_bare(name) for name in content]
    if isinstance(content, Mapping):
        if all(isinstance(name, str) and _is_index(index) for index, name in content.items()):
            return _ordered([(int(index), _bare(name)) for index, name in content.items()], path)
        if all(type(index) is int for index in content.values()):
            return _ordered([(index, _bare(name)) for name, index in content.items()], path)
    raise ConfigError(f"model.classes={path} holds neither names nor names and indices", expected=EXPECTED)


def _bare(name: str) -> str:
    # The released indices of Kinetics have quotation marks of the CSV file's around names of several words.
    return name[1:-1].strip() if len(name) > 2 and name[0] == name[-1] == '"' else name.strip()


def _from_table(text: str, path: Path) -> Sequence[str]:
    rows = [row for row in csv.reader(text.splitlines()) if any(cell.strip() for cell in row)]
    if not rows:
        raise ConfigError(f"{path} has the columns (none)", expected=EXPECTED)
    head = [cell.strip().lower() for cell in rows[0]]
    short = next((row for row in rows if len(row) < min(2, len(head))), None)
    if short is not None or len(head) < 2:
        raise ConfigError(f"{path} has a row of one column: {(short or rows[0])[0][:80]!r}", expected=EXPECTED)
    if {"label", "youtube_id"} <= set(head):
        place = head.index("label")
        return list(dict.fromkeys(_cell(row, place, path) for row in rows[1:]))
    key = next((head.index(name) for name in _KEY_COLUMNS if name in head), None)
    if key is not None:
        return _ordered([(_number(_cell(row, 0, path), path), _cell(row, key, path)) for row in rows[1:]], path)
    index = next((head.index(name) for name in _INDEX_COLUMNS if name in head), None)
    name = next((head.index(name) for name in _NAME_COLUMNS if name in head), None)
    if index is not None and name is not None:
        return _ordered([(_number(_cell(row, index, path), path), _cell(row, name, path)) for row in rows[1:]], path)
    if len(head) == 2 and _is_index(head[0]):  # no heading
        return _ordered([(_number(row[0], path), _cell(row, 1, path)) for row in rows], path)
    raise ConfigError(
        f"{path} has the columns {', '.join(head)[:300]}",
        expected=f"a column of indices ({', '.join(_INDEX_COLUMNS[:-1])}) and a column of names "
        f"({', '.join((*_KEY_COLUMNS, *_NAME_COLUMNS))}), or Kinetics' label and youtube_id",
    )


def _cell(row: Sequence[str], place: int, path: Path) -> str:
    if place >= len(row):
        raise ConfigError(f"{path} has a row that is too short: {','.join(row)[:80]!r}", expected=EXPECTED)
    return row[place].strip()


def _is_index(text: str) -> bool:
    return text.strip().isascii() and text.strip().isdigit() and len(text) < 10


def _number(text: str, path: Path) -> int:
    if not _is_index(text):
        raise ConfigError(
            f"{path} has {text[:80]!r} where the index of a class should be", expected="0, 1, 2, … or 1, 2, 3, …"
        )
    return int(text)


def _ordered(pairs: Sequence[tuple[int, str]], path: Path) -> Sequence[str]:
    """Returns the names in the order of their indices, which have to be 0 … K − 1 or 1 … K."""
    numbers = sorted(index for index, _ in pairs)
    first = numbers[0] if numbers else 0
    if first not in (0, 1) or numbers != list(range(first, first + len(numbers))):
        gap = next((k for k, number in enumerate(numbers, start=min(first, 1)) if k != number), first)
        raise ConfigError(
            f"{path} does not number its classes one by one: {len(numbers)} of them, from {first} to {numbers[-1]}, "
            f"and {gap} is missing or repeated",
            expected="0, 1, 2, … or 1, 2, 3, …: one for each output",
            remedy="where the numbers belong to the names, write them as a JSON list",
        )
    return [name for _, name in sorted(pairs)]


_READERS: Mapping[str, Callable[[str, Path], Sequence[str]]] = {".json": _from_json, ".csv": _from_table}
