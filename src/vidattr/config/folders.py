"""The folders that are searched for configs, and opening them in Hydra."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.resources import files
from pathlib import Path

from hydra import initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from vidattr.errors import ConfigError

ROLES = ("dataset", "model", "method", "metric", "render", "runtime")
"""The parts of an experiment; each is chosen by the name of a config."""
_MAIN: ContextVar[Path] = ContextVar("main")
_ADDED: ContextVar[tuple[Path, ...]] = ContextVar("added", default=())


def config_dir(explicit: Path | None = None) -> Path:
    """Returns the main config folder: `explicit`, else `$VIDATTR_CONFIGS`, else the one that belongs to this package.

    Raises:
        ConfigError: The folder has no `run.yaml`.
    """
    named = explicit or (Path(os.environ["VIDATTR_CONFIGS"]) if os.environ.get("VIDATTR_CONFIGS") else None)
    folder = named or Path(str(files("vidattr.configs")))
    try:
        if (folder / "run.yaml").is_file():
            return folder.resolve()
    except (OSError, ValueError, RuntimeError):  # the name is too long, holds a NUL, or is a link to itself
        pass
    raise ConfigError(
        f"no run.yaml in the config folder {str(folder)[:300]}",
        remedy="--config-dir or $VIDATTR_CONFIGS name a folder like configs/",
    )


def added_folders(add: Sequence[Path] = ()) -> tuple[Path, ...]:
    """Returns the folders of a user's own configs: those of `add`, then those that `$VIDATTR_ADD_CONFIGS` lists.

    Raises:
        ConfigError: A folder does not exist or holds no configs.
    """
    named = [Path(folder) for folder in os.environ.get("VIDATTR_ADD_CONFIGS", "").split(os.pathsep) if folder]
    folders = []
    expected = f"a folder with {'/, '.join(ROLES)}/ or others, and YAMLs in them"
    for path in (*add, *named):
        try:
            folder = path.expanduser().resolve()
            there = folder.is_dir()
        except (OSError, ValueError, RuntimeError):
            there = False
        if not there:
            raise ConfigError(f"--add-configs {str(path)[:300]}: no such folder", expected=expected)
        if not any(folder.glob("*/*.yaml")):
            remedy = f"--add-configs {folder.parent}" if folder.name in (*ROLES, "recipe") else None
            raise ConfigError(f"--add-configs {path}: no configs in it", expected=expected, remedy=remedy)
        folders.append(folder)
    return tuple(dict.fromkeys(folders))


def search_order(explicit: Path | None, add: Sequence[Path]) -> list[Path]:
    """Returns all config folders in the order in which they are searched; raises ConfigError if one is missing."""
    return [*added_folders(add), config_dir(explicit)]


class _AddedFolders(SearchPathPlugin):
    """Puts the user's own folders in front of Hydra's search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in reversed(_ADDED.get()):
            search_path.prepend("vidattr", f"file://{folder}")


@contextmanager
def hydra(folder: Path, add: Sequence[Path] = ()) -> Iterator[None]:
    """Opens the config folders in Hydra for the block; afterwards Hydra is as before, in case the program uses it too.

    Args:
        folder: From `config_dir`.
        add: From `added_folders`; searched first.
    """
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    Plugins.instance().register(_AddedFolders)
    main, token = _MAIN.set(folder), _ADDED.set(tuple(add))
    try:
        with initialize_config_dir(str(folder), version_base="1.3"):
            yield
    finally:
        _MAIN.reset(main)
        _ADDED.reset(token)
        GlobalHydra.instance().hydra = before


def open_config_dir() -> Path:
    """Returns the main config folder that `hydra` has open."""
    return _MAIN.get()


def open_added_folders() -> tuple[Path, ...]:
    """Returns the user's own folders that `hydra` has open."""
    return _ADDED.get()


def options(role: str) -> list[str]:
    """Returns the names of a role's configs in the folders that `hydra` has open, sorted; none of an unknown role."""
    return sorted(GlobalHydra.instance().hydra.config_loader.get_group_options(role))  # type: ignore[union-attr]
