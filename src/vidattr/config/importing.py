"""Imports code that a configuration names, from the installed modules, then from the current folder.

The current folder is on the import path only while a module is imported that is not installed. Otherwise every command
would run any file there that has the name of an optional dependency (for example `colorama.py`).
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from vidattr.config.moved import moved
from vidattr.errors import ConfigError, VidattrError


@contextmanager
def current_folder() -> Iterator[None]:
    """Puts the current folder at the end of the import path for the block."""
    folder = os.getcwd()
    if folder in sys.path:
        yield
        return
    sys.path.append(folder)
    importlib.invalidate_caches()  # files that were written a moment ago
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def from_current_folder(module: ModuleType) -> bool:
    """Returns whether a module lies in the current folder, where modules that it imports later may lie too."""
    path = getattr(module, "__file__", None)  # None: built in
    return path is not None and Path(path).is_relative_to(os.getcwd())


def module(name: str, where: str, expected: str) -> ModuleType:
    """Imports a module by its dotted name.

    Args:
        name: "package.module".
        where: What names it, for messages ("model.target=mynet:build").
        expected: What would have been right, for messages.

    Raises:
        ConfigError: There is no such module, or its code fails while it is imported.
    """
    if not name or not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(f"{where}: {name!r} is no name of a module", expected=expected)
    try:
        return _imported(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            remedy = (
                moved(error)
                or f"check the name, install it, or run where the module is; looked for it also in {os.getcwd()}"
            )
            raise ConfigError(f"{where}: cannot import {name!r}: {error}", expected=expected, remedy=remedy) from error
        raise failed(f"{where}: cannot import {name!r}", error) from error
    except VidattrError:
        raise
    except (Exception, SystemExit) as error:
        raise failed(f"{where}: cannot import {name!r}", error) from error


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise
    with current_folder():
        return importlib.import_module(name)


def failed(what: str, error: BaseException) -> ConfigError:
    """Returns the error for an exception in the user's code, with the line, as in Python's own message."""
    line, trace = "", error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if "importlib" not in code.co_filename and code.co_filename != __file__:
            line = f"{code.co_filename}, line {trace.tb_lineno}"
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and error.filename:
        line = f"{error.filename}, line {error.lineno}"
    new = moved(error) if isinstance(error, ImportError) else None
    remedy = "; ".join(filter(None, (new, f"see {line}" if line else None)))
    return ConfigError(f"{what}: {type(error).__name__}: {error}", remedy=remedy or None)
