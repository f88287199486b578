"""The content of code that is not this package's: networks and plug-ins of the user's, as a part of a run's key.

Of code that lies anywhere but among the installed packages, that is the file of the module that is named, and all such
files that it imports, directly or not, wherever Python's grammar tells it: `import`, `from … import`, and
`import_module` with a literal name. An import of a computed name is not followed. Of an installed package it is all its
modules. Nothing is imported or run.
"""

from __future__ import annotations

import ast
import hashlib
import os
import sysconfig
from collections.abc import Iterator
from functools import lru_cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path

from vidattr.config import importing

_OURS = os.path.realpath(Path(__file__).parents[1])
_PYTHON = tuple(os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))
_INSTALLED = frozenset({"site-packages", "dist-packages"})


def sha256_of_code(module: str) -> str | None:
    """Returns a sha256 for the code of a module, or None if it belongs to this package or Python, or is not found.

    Args:
        module: Its dotted name; looked for among the installed modules, then in the current folder.
    """
    if module.partition(".")[0] == "vidattr":
        return None
    with importing.current_folder():
        top = _spec(module.partition(".")[0])
        if top is None or not _is_users(top):
            return None
        found = {name: _read(path)[0] for name, path in (_package(top) if _is_installed(top) else _reached(module))}
    if not found:
        return None
    return hashlib.sha256("".join(f"{name} {found[name]}\n" for name in sorted(found)).encode()).hexdigest()


def _reached(module: str) -> Iterator[tuple[str, str]]:
    """Yields name and file of a module and of all that it imports and that is the user's own and not installed."""
    seen, todo = set[str](), [module]
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        todo += [parent for parent in (name.rpartition(".")[0],) if parent]  # is run first
        spec = _spec(name)
        if spec is None or not _is_users(spec) or _is_installed(spec):
            continue
        if spec.origin and os.path.isfile(spec.origin):
            yield name, spec.origin
            package = name if spec.submodule_search_locations is not None else name.rpartition(".")[0]
            todo += [_absolute(one, package) for one in _read(spec.origin)[1]]


def _package(top: ModuleSpec) -> Iterator[tuple[str, str]]:
    """Yields name and file of each module of an installed package, or of one that is a single file."""
    folders = list(top.submodule_search_locations or [])
    if not folders and top.origin:
        yield top.name, top.origin
    for folder in folders:
        yield from ((path.relative_to(folder).as_posix(), str(path)) for path in sorted(Path(folder).rglob("*.py")))


def _spec(name: str) -> ModuleSpec | None:
    """Finds a module without running its package."""
    top, *rest = name.split(".")
    try:
        spec = find_spec(top) if top else None
        for depth, _ in enumerate(rest, start=2):
            if spec is None or spec.submodule_search_locations is None:
                return None
            spec = PathFinder.find_spec(".".join([top, *rest][:depth]), list(spec.submodule_search_locations))
    except (ImportError, ValueError, AttributeError):
        return None
    return spec


def _place(spec: ModuleSpec) -> str | None:
    """Returns where a module lies, None where it is built in."""
    place = spec.origin if spec.has_location else next(iter(spec.submodule_search_locations or []), None)
    return None if place is None else os.path.realpath(place)


def _is_users(spec: ModuleSpec) -> bool:
    place = _place(spec)
    if place is None or _within(place, _OURS):
        return False
    return _is_installed(spec) or not any(_within(place, folder) for folder in _PYTHON)


def _is_installed(spec: ModuleSpec) -> bool:
    return not _INSTALLED.isdisjoint((_place(spec) or "").split(os.sep))


def _within(path: str, folder: str) -> bool:
    return path.startswith(folder + os.sep)


def _absolute(name: str, package: str) -> str:
    """Returns the name of an import from within `package`: a dot for each level is in front of one that is relative."""
    level = len(name) - len(name.lstrip("."))
    if not level:
        return name
    base = package.split(".")[: len(package.split(".")) - level + 1]
    return ".".join([*base, *filter(None, [name.lstrip(".")])])


def _read(path: str) -> tuple[str, tuple[str, ...]]:
    """Returns the sha256 of a file and the names that it imports."""
    found = os.stat(path)
    return _content(path, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@lru_cache(maxsize=4096)
def _content(path: str, _size: int, _changed: int, _moved: int) -> tuple[str, tuple[str, ...]]:
    content = Path(path).read_bytes()
    installed = not _INSTALLED.isdisjoint(os.path.realpath(path).split(os.sep))
    names = () if installed or not path.endswith(".py") else tuple(dict.fromkeys(_imports(content)))
    return hashlib.sha256(content).hexdigest(), names


def _imports(content: bytes) -> Iterator[str]:
    """Yields what a module imports; of a name taken from a package both, for either may be the module."""
    try:
        nodes = list(ast.walk(ast.parse(content)))
    except (SyntaxError, ValueError):
        return
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield base
            yield from (
                f"{base}{'' if base.endswith('.') else '.'}{alias.name}" for alias in node.names if alias.name != "*"
            )
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in (
            "import_module",
            "__import__",
        ):
            yield from (
                one.value for one in node.args[:1] if isinstance(one, ast.Constant) and isinstance(one.value, str)
            )
