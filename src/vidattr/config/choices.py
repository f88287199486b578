"""Reads the config of a role without a full composition: the file of a choice, merged over the file it builds on.

Hydra composes every role, and its own settings, for each point. Most choices need only their own file, or one like

    defaults: [ep3d, _self_]
    core_kernel: [7, 11, 11]

which is `ep3d.yaml` with some fields changed. `Choices.node` reads those, by Hydra's own search path, and returns None
for a file that does more; Hydra then composes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import yaml
from hydra.core.default_element import ConfigDefault, GroupDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

_WORD = re.compile(r"[\w-]+", re.ASCII)


class Choices:
    """The configs that `folders.hydra` has open; each file is read once."""

    def __init__(self) -> None:
        self._repository: Any = GlobalHydra.instance().hydra.config_loader.repository  # type: ignore[union-attr]
        self._nodes: dict[tuple[str, str], dict[str, Any] | None] = {}

    def node(self, role: str, name: str) -> dict[str, Any] | None:
        """Returns the values of a choice, interpolations unresolved; None where only Hydra can compose it.

        The result is shared and must not be changed.
        """
        key = role, name
        if key not in self._nodes:
            self._nodes[key] = None  # of a config that builds on itself
            self._nodes[key] = self._read(role, name)
        return self._nodes[key]

    def _read(self, role: str, name: str) -> dict[str, Any] | None:
        found = None if "/" in name else self._file(f"{role}/{name}")
        if found is None or found.header.get("package") is not None:
            return None
        own: Any = OmegaConf.to_container(found.config, resolve=False)
        if not isinstance(own, dict) or _is_missing(own):
            return None
        merged: dict[str, Any] | None = {}
        bases = [_own_group(default) for default in found.defaults_list or ()]
        if bases and bases.count(("_self_", None)) != 1:
            return None
        for base, place in bases or [("_self_", None)]:
            above = own if base == "_self_" else self.node(role, base) if base else None
            if above is None or merged is None:
                return None
            merged = _merged(merged, {place: above} if place else above)
        return merged

    def is_plain(self, primary: str, groups: Iterable[str], top: Iterable[str]) -> bool:
        """Returns whether a primary config only lists the default choice of each group and sets keys at the top level.

        If so, the choice of a role changes nothing but this role's node.

        Args:
            primary: "run" or "evaluate".
            groups: The groups that may be listed.
            top: The keys that may be set.
        """
        found = self._file(primary)
        if found is None or found.header.get("package") is not None or not isinstance(found.config, DictConfig):
            return False
        if not {str(key) for key in found.config} <= set(top):
            return False
        for default in found.defaults_list or ():
            if isinstance(default, GroupDefault):
                plain = str(default.group) in groups and isinstance(default.value, str) and "$" not in default.value
                plain = plain and default.package is None and not default.override and not default.optional
            else:
                name, place = _own_group(default)
                plain = place is None and (name == "_self_" or (name is not None and self.is_plain(name, groups, top)))
            if not plain:
                return False
        return True

    def _file(self, path: str) -> ConfigResult | None:
        """Returns the content of a config file; None if there is none, or if Hydra has to report its error."""
        try:
            found: ConfigResult | None = self._repository.load_config(path)
        except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError, TypeError, OSError, RecursionError):
            return None
        return found


def _own_group(default: Any) -> tuple[str | None, str | None]:
    """Reads an entry of a defaults list that names a config of the same group.

    Returns:
        The name, and the key under which its values are put (`NAME@KEY`) or None. The name is None where it is
        another kind of entry.
    """
    if not isinstance(default, ConfigDefault) or not _WORD.fullmatch(default.path or ""):
        return None, None
    place = default.package
    return (default.path, place) if place is None or re.fullmatch(r"[A-Za-z]\w*", place) else (None, None)


def _merged(base: dict[str, Any], above: dict[str, Any]) -> dict[str, Any] | None:
    """Returns `base` with the values of `above`, mappings merged; None where a mapping meets another kind of value."""
    merged = dict(base)
    for key, value in above.items():
        if key not in base:
            merged[key] = value
        elif isinstance(value, dict) != isinstance(base[key], dict):
            return None
        elif isinstance(value, dict):
            inner = _merged(base[key], value)
            if inner is None:
                return None
            merged[key] = inner
        else:
            merged[key] = value
    return merged


def _is_missing(value: Any) -> bool:
    """Returns whether a value contains `???`, which leaves the value below it unchanged in a merge."""
    if isinstance(value, dict):
        return any(_is_missing(item) for item in value.values())
    return isinstance(value, str) and value == "???"
