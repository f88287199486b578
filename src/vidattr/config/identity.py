"""The identity of a run: all that decides its numbers, and the key that is computed from it.

The identity is a plain dictionary: the config's name, the class, its version and its fields for dataset, model and
method, the target, the seed, and the precision of the network if it is not float32. Folders, subsets and run-time
options are left out by the declaration of their fields (`fields.not_in_key`). Files enter by the sha256 of their
content (`fields.keyed_by_content`), and so does code outside this package: the code of a plug-in's class, and code that
a field names (`fields.keyed_by_code`). A run has the same key on every machine, and a module that is moved or
renamed changes no key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import Field, fields, is_dataclass
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any

from vidattr.config.user_code import sha256_of_code

KEY_VERSION = 2
"""The form of identities: 1 held the Python path of each class, 2 holds its bare name.

Raise it when the form changes, so that no old run is taken for a new one; `describe` still gives the earlier forms,
under which stored runs are found again.
"""
EARLIER = (1,)
"""Key versions whose stored runs are still read, newest first."""


def key(identity: dict[str, Any]) -> str:
    """Returns ten hexadecimal digits that stand for an identity."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


_DESCRIBED: ContextVar[dict[tuple[int, int], tuple[Any, dict[str, Any]]] | None] = ContextVar("described", default=None)


@contextmanager
def described_once() -> Iterator[None]:
    """Makes `describe` compute each part once in the block, for many experiments that share parts.

    No file that a part names may change in the block.
    """
    if _DESCRIBED.get() is not None:
        yield
        return
    token = _DESCRIBED.set({})
    try:
        yield
    finally:
        _DESCRIBED.reset(token)


def describe(part: Any, version: int = KEY_VERSION) -> dict[str, Any]:
    """Returns the class of a plug-in, its version and the fields that change numbers, in the form of a key version.

    The module of a class is left out: moving or renaming a module changes no key. A class that is not this package's is
    identified by the content of its code.
    """
    known = _DESCRIBED.get()
    if known is None:
        return _describe(part, version)
    if (id(part), version) not in known:
        known[id(part), version] = part, _describe(part, version)  # the part is kept, so that no other takes its id
    return known[id(part), version][1]


def _describe(part: Any, version: int) -> dict[str, Any]:
    cls = type(part)
    if version == 1:
        return {**describe(part), "class": _path_in_version_1(cls)}
    found: dict[str, Any] = {
        "class": cls.__qualname__,
        "version": cls.version,
    }
    if (code := sha256_of_code(cls.__module__)) is not None:
        found["code"] = {"sha256": code}
    for field in fields(part):
        rule = field.metadata.get("identity")
        if rule == "skip":
            continue
        value = getattr(part, field.name)
        if _unsaid(field, value):
            continue
        if rule == "sha256":
            found[field.name] = _content(part, field.name, value)
        elif rule == "code":
            found[field.name] = _named(value)
        else:
            found[field.name] = _plain(_files(value) if rule == "files" else value)
    return found


_RENAMED = {
    "spatial_pointing": "s_pt",
    "temporal_pointing": "t_pt",
}  # modules that had another name under key version 1


def _path_in_version_1(cls: type) -> str:
    """Returns the Python path that a class had under key version 1.

    Each plug-in of this package was then a file directly in the folder of its role.
    """
    package, *inner = cls.__module__.split(".")
    if package != "vidattr" or inner[0] not in ("datasets", "models", "methods", "metrics"):
        return f"{cls.__module__}.{cls.__qualname__}"
    return f"{package}.{inner[0]}.{_RENAMED.get(inner[-1], inner[-1])}.{cls.__qualname__}"


def _named(value: str | None) -> Any:
    """Returns the name of code, "package.module:name", and the hash of its content if it is the user's."""
    code = sha256_of_code(value.partition(":")[0]) if value else None
    return value if code is None else {"name": value, "sha256": code}


def _files(value: Any) -> Any:
    """Returns a value with the content of each file that is named in it."""
    if isinstance(value, dict):
        return {name: _files(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_files(item) for item in value]
    path = Path(value).expanduser() if isinstance(value, str) and value and "\0" not in value else None
    try:
        return {"file": path.name, **sha256_of_files([path])} if path is not None and path.is_file() else value
    except (OSError, RuntimeError):
        return value


def _content(part: Any, name: str, value: Any) -> Any:
    """Returns the sha256 of the file that a field names, or the value of the field if it names no file.

    If a field can be a name that stands for a file, the plug-in's method `<field>_file` returns the file. If it stands
    for several files, or for no file on this machine, the method `<field>_content` returns what enters the key.
    """
    if (decide := getattr(part, f"{name}_content", None)) is not None:
        return decide()
    resolve = getattr(part, f"{name}_file", None)
    path = resolve() if resolve is not None else (Path(value).expanduser() if value else None)
    if path is None or not Path(path).is_file():
        return value
    return sha256_of_files([path])


def sha256_of_files(paths: Iterable[Path]) -> dict[str, str]:
    """Returns `{"sha256": …}` of a file's content, or of the names and contents of several."""
    found = sorted((path.name, _sha256(path)) for path in map(Path, paths))
    if len(found) == 1:
        return {"sha256": found[0][1]}
    return {"sha256": hashlib.sha256("".join(f"{name} {digest}\n" for name, digest in found).encode()).hexdigest()}


def _sha256(path: Path) -> str:
    stat = path.stat()
    # A replaced file of the same size and modification time has another inode number or another change time.
    return _hashed(str(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)


@lru_cache(maxsize=256)
def _hashed(path: str, *_look: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unsaid(field: Field[Any], value: Any) -> bool:
    """Whether a field that was added later (`fields.LATER`) has its default, the behaviour before it was added."""
    return field.metadata.get("identity") == "unless default" and bool(value == field.default)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _plain(getattr(value, field.name))
            for field in fields(value)
            if not _unsaid(field, getattr(value, field.name))
        }
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def difference(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """Returns one line per leaf in which two identities differ: "method.score: logit here, prob there"."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        lines = []
        for name in sorted({*ours, *theirs}):
            lines += difference(ours.get(name), theirs.get(name), f"{path}.{name}" if path else name)
        return lines
    return [] if ours == theirs else [f"{path}: {ours!r} now, {theirs!r} stored"]
