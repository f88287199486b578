"""One choice as `vidattr list ROLE NAME` shows it: source, options, their defaults and what they mean.

The meaning of an option is read from the docstring of its class, without importing it, and from the comment beside it
in the YAML file, which lists what it may be.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from vidattr.config import importing
from vidattr.config.catalogue import listing
from vidattr.config.changed import as_typed
from vidattr.config.choices import Choices
from vidattr.config.folders import added_folders, config_dir, hydra, options, search_order
from vidattr.errors import ConfigError, unknown

_LINE = re.compile(r"^( *)([A-Za-z_]\w*):[^#]*?(?: # (.*))?$")


def described(role: str, name: str, folder: Path | None, add: Sequence[Path]) -> dict[str, Any]:
    """Returns name, summary, source, class and config of a choice, and its options: name, default, values and meaning.

    Args:
        role: "method", "model", "dataset", "metric" or "recipe".
        name: Of the choice.
        folder: Config folder; None: see `folders.config_dir`.
        add: Further config folders.

    Raises:
        ConfigError: There is no such choice, or only a whole configuration tells its options.
    """
    where = search_order(folder, add)
    with hydra(config_dir(folder), added_folders(add)):
        if name not in (names := options(role)):
            raise unknown(role, name, names)
        node = Choices().node(role, name)
    if node is None:
        raise ConfigError(
            f"{role}={name} builds on configs of other roles",
            remedy=f"vidattr config show {role}={name} shows its options",
        )
    (row,) = (row for row in listing(role, where) if row["name"] == name)
    target = str(node.get("_target_", ""))
    comments, meanings = dict(_comments(role, name, where)), dict(_meanings(target))
    fields = [
        {
            "name": f"{role}.{option}",
            "default": as_typed(default),
            "values": comments.get(option, ""),
            "meaning": meanings.get(option, ""),
        }
        for option, default in _flat(node)
        if option != "_target_"
    ]
    return {**row, "class": target, "options": fields}


def text(found: Mapping[str, Any]) -> str:
    """Returns a choice for people."""
    lines = [f"{found['name']}  {found['summary']}", f"{found['source']}", f"class {found['class']}", ""]
    for option in found["options"]:
        values = f"  # {option['values']}" if option["values"] else ""
        lines.append(f"  {option['name']}={option['default']}{values}")
        if option["meaning"]:
            lines.append(f"      {option['meaning']}")
    return "\n".join(lines)


def _flat(node: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def _comments(role: str, name: str, where: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Yields the options of a YAML file that have a comment, those of the configs that it builds on first."""
    path = next((path for folder in where if (path := folder / role / f"{name}.yaml").is_file()), None)
    if path is None:
        return
    content = path.read_text(encoding="utf-8", errors="replace")
    for base in (yaml.safe_load(content) or {}).get("defaults", ()):
        if isinstance(base, str) and base != "_self_" and "@" not in base and base != name:
            yield from _comments(role, base, where)
    parents: list[tuple[int, str]] = []
    for line in content.splitlines():
        found = _LINE.fullmatch(line)
        if found is None:
            continue
        indent = len(found[1])
        parents = [(depth, parent) for depth, parent in parents if depth < indent]
        if found[3]:
            yield ".".join([*(parent for _, parent in parents), found[2]]), found[3].strip()
        parents.append((indent, found[2]))


def _meanings(target: str) -> Iterator[tuple[str, str]]:
    """Yields the attributes that the docstrings of a class, its bases and its preprocessing explain."""
    module, _, name = target.rpartition(".")
    try:
        with importing.current_folder():
            spec = find_spec(module)
        tree = ast.parse(Path((spec and spec.origin) or "").read_text(encoding="utf-8"))
    except (ImportError, ValueError, OSError, SyntaxError):
        return
    paths = {one.name: f"{module}.{one.name}" for one in tree.body if isinstance(one, ast.ClassDef)}
    for one in tree.body:
        if isinstance(one, ast.ImportFrom) and one.module and not one.level:
            paths |= {alias.asname or alias.name: f"{one.module}.{alias.name}" for alias in one.names}
    cls = next((one for one in tree.body if isinstance(one, ast.ClassDef) and one.name == name), None)
    if cls is None:
        return
    for base in cls.bases:
        if isinstance(base, ast.Name) and paths.get(base.id, "").startswith(f"{module.partition('.')[0]}."):
            yield from _meanings(paths[base.id])
    yield from _attributes(ast.get_docstring(cls) or "")
    if "Preprocessing" in paths and name != "Preprocessing":
        yield from ((f"input.{inner}", meaning) for inner, meaning in _meanings(paths["Preprocessing"]))


def _attributes(docstring: str) -> Iterator[tuple[str, str]]:
    """Yields name and meaning of each attribute of a docstring in Google's style."""
    section = re.search(r"^Attributes:\n((?:[ ]{4}.*\n?|\n)+)", docstring, re.MULTILINE)
    for part in re.split(r"^ {4}(?=\w)", section[1] if section else "", flags=re.MULTILINE):
        names, colon, meaning = part.partition(":")
        if colon:
            for one in names.split(","):
                yield one.strip(), " ".join(meaning.split())
