"""A hash of the code of the user's networks and plug-ins, which is a part of a run's key.

For code outside the installed packages, the hash covers the file of the named module and all files outside the
installed packages that it imports, directly or not. Imports are found in the source text: `import`, `from … import`,
and `import_module` with a literal name; an import of a computed name is not followed. For an installed package, the
hash covers all its modules. No code is imported or run.
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
    """Returns the sha256 of a module's code; None if it belongs to this package or to Python, or is not found.

    Args:
        module: Its dotted name, searched among the installed modules and then in the current folder.
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
    """Yields name and file of a module and of all modules that it imports, without installed ones."""
    seen, todo = set[str](), [module]
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        todo += [parent for parent in (name.rpartition(".")[0],) if parent]  # Python runs the parent package first
        spec = _spec(name)
        if spec is None or not _is_users(spec) or _is_installed(spec):
            continue
        if spec.origin and os.path.isfile(spec.origin):
            yield name, spec.origin
            package = name if spec.submodule_search_locations is not None else name.rpartition(".")[0]
            todo += [_absolute(imported, package) for imported in _read(spec.origin)[1]]


def _package(top: ModuleSpec) -> Iterator[tuple[str, str]]:
    """Yields name and file of each module of an installed package, which may be a single file."""
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
    """Returns the path of a module; None for a built-in module."""
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
    """Returns the absolute name of an import in `package`; a relative name begins with a dot per level."""
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
    """Yields the names that a module imports.

    For `from a import b` these are `a` and `a.b`, because `b` may be a module or a name in `a`.
    """
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
                name.value for name in node.args[:1] if isinstance(name, ast.Constant) and isinstance(name.value, str)
            )
