"""Composition by Hydra, its errors turned into messages that say what to change."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

import yaml
from hydra import compose
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vidattr.config.building import interpolation
from vidattr.config.folders import open_added_folders, open_config_dir, options
from vidattr.errors import ConfigError, unknown


def composed(primary: str, overrides: Sequence[str]) -> tuple[DictConfig, dict[str, str]]:
    """Returns the configuration that Hydra composes, interpolations unresolved, and the choice of each group.

    Args:
        primary: Name of the config to start from: "run", "evaluate" or "train".
        overrides: In Hydra's grammar, without sweeps.

    The configuration without overrides is kept as long as no file changes, because each sweep starts from it; with
    folders of the user's own it is composed each time.

    Raises:
        ConfigError: An unknown choice, or a config that cannot be read or merged.
    """
    kept = not overrides and not open_added_folders()
    return _default(primary, _files()) if kept else _composed(primary, tuple(overrides))


@functools.lru_cache(maxsize=8)
def _default(primary: str, files: tuple[tuple[str, int, int], ...]) -> tuple[DictConfig, dict[str, str]]:
    config, choices = _composed(primary, ())
    OmegaConf.set_readonly(config, True)
    return config, choices


def _files() -> tuple[tuple[str, int, int], ...]:
    """Returns path, time of the last change and size of each file of the main config folder."""
    found = []
    for folder, _, names in os.walk(open_config_dir(), followlinks=True):
        for path in (os.path.join(folder, name) for name in names):
            with suppress(FileNotFoundError):  # a link to nothing
                found.append((path, (status := os.stat(path)).st_mtime_ns, status.st_size))
    return tuple(sorted(found))


def _composed(primary: str, overrides: tuple[str, ...]) -> tuple[DictConfig, dict[str, str]]:
    try:
        config = compose(primary, overrides=list(overrides), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        _check_yaml()
        missing = re.search(r"Could not find '([^']+)/([^']+)'", str(error))
        if missing:
            raise unknown(missing[1], missing[2], options(missing[1])) from error
        raise ConfigError(" ".join(line.strip() for line in str(error).splitlines() if line.strip())[:500]) from error
    except (yaml.YAMLError, ValueError, TypeError, OSError, RecursionError):
        _check_yaml()
        raise
    choices = {str(group): str(name) for group, name in config.hydra.runtime.choices.items() if "/" not in str(group)}
    return OmegaConf.masked_copy(config, [str(name) for name in config if name != "hydra"]), choices


def resolved(config: DictConfig) -> dict[str, Any]:
    """Returns a configuration as plain values, interpolations resolved.

    Raises:
        ConfigError: An interpolation refers to nothing.
    """
    try:
        return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
    except OmegaConfBaseException as error:
        raise interpolation(error) from error


def _check_yaml() -> None:
    """Raises ConfigError with the file and line where a YAML of the user's own folders cannot be read."""
    for folder in open_added_folders():
        for path in sorted(folder.rglob("*.yaml")):
            try:
                fine = isinstance(OmegaConf.load(path), DictConfig)
                reason = "a list or a single value"
            except (yaml.YAMLError, OmegaConfBaseException, ValueError, OSError, RecursionError) as error:
                fine, reason = False, " ".join(str(error).split())[:300]
            if not fine:
                raise ConfigError(f"{path} cannot be read: {reason}", expected="a YAML mapping in UTF-8, key: value")
