"""Overrides to cells: Hydra's grammar for what the user types, dataclasses for what it must mean.

Hydra's compose API takes one point, so a sweep is expanded here, and every point is composed and type-checked before a
network is loaded: a typo in the eightieth cell is reported at second 0.
"""

from __future__ import annotations

import importlib
import itertools
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vidattr.errors import ConfigError, VidattrError, unknown

if TYPE_CHECKING:
    from vidattr.render import Render
    from vidattr.runtime import Runtime
    from vidattr.train import Recipe
    from vidattr.types import Dataset, Method, Metric, Model

ROLES = ("dataset", "model", "method", "metric", "render", "runtime")
"""What a cell is made of."""


@dataclass(frozen=True)
class Cell:
    """One point of a sweep: the composed configuration, the names that were chosen, and the objects they describe."""

    config: DictConfig
    names: dict[str, str]
    title: str
    dataset: Dataset
    model: Model
    method: Method
    metric: Metric | None
    render: Render
    runtime: Runtime

    @property
    def label(self) -> str | None:
        """The folder's name that the user asked for."""
        return None if self.config.save_label is None else str(self.config.save_label)


def config_dir(explicit: Path | None = None) -> Path:
    """Returns the folder of configs: the one given, else `$VIDATTR_CONFIGS`, else the checkout's or the wheel's own."""
    named = explicit or (Path(os.environ["VIDATTR_CONFIGS"]) if os.environ.get("VIDATTR_CONFIGS") else None)
    folder = named or Path(str(files("vidattr.configs")))
    if not (folder / "run.yaml").is_file():
        raise ConfigError(
            f"no run.yaml in the config folder {folder}", remedy="--config-dir or $VIDATTR_CONFIGS name a folder like configs/"
        )
    return folder.resolve()


def build(node: DictConfig | dict[str, Any], where: str) -> Any:
    """Makes the dataclass that a config node describes, with every key and type checked.

    Args:
        node: A mapping with `_target_`, the dotted name of a dataclass, and its fields.
        where: What the node is, for messages ("method=grad_cam").

    Raises:
        ConfigError: The class cannot be imported, a key is unknown, a value has the wrong type or range.
    """
    values = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else dict(node)
    assert isinstance(values, dict)
    target = str(values.pop("_target_", ""))
    module, _, name = target.rpartition(".")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # a user's own plug-in beside the clips it explains
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{where}: cannot import _target_ {target!r}: {error}", expected="package.module.Class") from error
    if not is_dataclass(cls):
        raise ConfigError(f"{where}: {target} is no dataclass", expected="a frozen dataclass whose fields are the YAML's keys")
    try:
        schema = OmegaConf.structured(cls)
        for part_of in (schema, *(item for item in schema.values() if OmegaConf.is_config(item))):
            OmegaConf.set_readonly(part_of, False)  # frozen is what the finished object is, not what it is made from
        return OmegaConf.to_object(OmegaConf.merge(schema, values))
    except OmegaConfBaseException as error:
        if isinstance(error.__cause__, VidattrError):
            raise error.__cause__ from None
        key = getattr(error, "full_key", "") or ""
        if "not in" in str(error) and "Key" in str(error):
            raise _unknown_key(where, str(key), [field.name for field in fields(cls)]) from error
        raise ConfigError(f"{where}: {key}: {str(error).splitlines()[0]}") from error


def _unknown_key(where: str, key: str, choices: list[str]) -> ConfigError:
    error = unknown("option", key, choices)
    error.args = (f"{where}: {error.args[0]}",)
    return error


@contextmanager
def hydra(folder: Path) -> Iterator[None]:
    """Makes Hydra ready for one config folder and tidy again afterwards."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(folder), version_base="1.3"):
        yield


def _expand(overrides: Sequence[str]) -> Iterator[tuple[list[str], list[str]]]:
    """Yields each point of the sweep as plain overrides, and those of them that vary over the sweep."""
    loader = GlobalHydra.instance().hydra.config_loader  # type: ignore[union-attr]
    axes: list[list[str]] = []
    for override in OverridesParser.create(loader).parse_overrides(list(overrides)):
        axes.append(_axis(override))
    for point in itertools.product(*axes):
        yield list(point), [text for text, axis in zip(point, axes, strict=True) if len(axis) > 1]


def _axis(override: Override) -> list[str]:
    if not override.is_sweep_override():
        return [override.input_line or ""]
    if not override.is_discrete_sweep():
        raise ConfigError(f"{override.input_line}: an interval has no end of values", expected="a list (a,b,c), range(...) or glob(...)")
    points = [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
    if not points:
        raise ConfigError(f"{override.input_line}: matches nothing")
    return points


def cells(
    overrides: Sequence[str],
    *,
    primary: str = "run",
    folder: Path | None = None,
    add: Sequence[Path] = (),
) -> list[Cell]:
    """Composes and checks every cell that the overrides span, in the order of the sweep.

    Args:
        overrides: Hydra overrides; lists of values and `glob(*)` span a grid.
        primary: "run", or "evaluate", which has a metric too.
        folder: Config folder; None: see `config_dir`.
        add: More config folders, a user's own choices, searched first.

    Raises:
        ConfigError: An unknown choice or option, a wrong type, two cells that would share a folder.
    """
    search = _search(add)
    found = []
    with hydra(config_dir(folder)):
        try:
            points = list(_expand(overrides))
        except HydraException as error:
            raise ConfigError(str(error).splitlines()[0], remedy="an override is key=value, +key=value or ~key") from error
        for point, varying in points:
            config = _compose(primary, point, search)
            found.append(_cell(config, varying))
    return found


def _search(add: Sequence[Path]) -> list[str]:
    return [f"hydra.searchpath=[{','.join(f'file://{path.resolve()}' for path in add)}]"] if add else []


def _compose(primary: str, point: list[str], search: list[str]) -> DictConfig:
    try:
        return compose(primary, overrides=[*search, *point], return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise _explained(primary, point, search, error) from error


def _explained(primary: str, point: list[str], search: list[str], error: Exception) -> ConfigError:
    """Turns Hydra's complaint into ours: what was not found, and what there is."""
    text = str(error)
    ambiguous = re.search(r"Ambiguous value for argument '([^']+)'", text)
    if ambiguous:
        return ConfigError(
            f"{ambiguous.group(1)} names several values", expected="one: nothing is swept here", remedy="quote it to mean a string"
        )
    missing = re.search(r"Could not find '([^']+)/([^']+)'", text)
    if missing:
        role, name = missing.groups()
        return unknown(role, name, options(role))
    key = re.search(r"full_key: (\S+)", str(error.__cause__ or error)) or re.search(r"Could not override '([^']+)'", text)
    if key:
        parent, _, leaf = key.group(1).rpartition(".")
        if leaf in ROLES and not parent:
            other = "`vidattr evaluate` and `vidattr table`" if leaf == "metric" else "`vidattr run`"
            return ConfigError(f"`vidattr {primary}` takes no {leaf}", remedy=f"{leaf}= goes with {other}")
        groups = [item for item in point if item.partition("=")[0] in (*ROLES, "paths", "recipe")]
        config = compose(primary, overrides=[*search, *groups], return_hydra_config=True)
        role = parent.partition(".")[0]
        where = f"{role}={config.hydra.runtime.choices[role]}" if role in config.hydra.runtime.choices else "configuration"
        node = OmegaConf.select(config, parent) if parent else config
        names = [str(name) for name in node if name not in ("_target_", "hydra")] if isinstance(node, DictConfig) else []
        return _unknown_key(where, leaf, names)
    return ConfigError(" ".join(line.strip() for line in text.splitlines() if line.strip())[:500])


def options(role: str) -> list[str]:
    """Returns the choices of a role, from the config folders that Hydra has open."""
    return sorted(GlobalHydra.instance().hydra.config_loader.get_group_options(role))  # type: ignore[union-attr]


def _cell(config: DictConfig, varying: list[str]) -> Cell:
    names = {role: str(choice) for role, choice in config.hydra.runtime.choices.items() if "/" not in role}
    parts = {role: build(config[role], f"{role}={names[role]}") for role in ROLES if role in config}
    extra = [item for item in varying if item.partition("=")[0] not in ("dataset", "model", "metric", "method")]
    title = names["method"] + (f" ({', '.join(item.removeprefix('method.') for item in extra)})" if extra else "")
    return Cell(config=config, names=names, title=title, metric=parts.pop("metric", None), **parts)


def training(overrides: Sequence[str], *, folder: Path | None = None, add: Sequence[Path] = ()) -> tuple[Recipe, Model, Runtime]:
    """Composes what `vidattr train` needs: a recipe, a model and the runtime.

    Raises:
        ConfigError: An unknown choice or option, a wrong type, or a sweep.
    """
    with hydra(config_dir(folder)):
        config = _compose("train", list(overrides), _search(add))
        roles = config.hydra.runtime.choices
        return tuple(build(config[role], f"{role}={roles[role]}") for role in ("recipe", "model", "runtime"))


def part(role: str, name: str, fields: dict[str, Any], *, folder: Path | None = None) -> Any:
    """Makes one plug-in by its config's name, with some fields changed: what `load_model` and `load_method` stand on.

    Raises:
        ConfigError: An unknown name or field, or a value of the wrong type.
    """
    with hydra(config_dir(folder)):
        try:
            config = compose("run", overrides=[f"+{role}={name}" if role == "metric" else f"{role}={name}"])
        except (HydraException, OmegaConfBaseException) as error:
            raise _explained("run", [], [], error) from error
    known = [str(key) for key in config[role] if key != "_target_"]
    for field in fields:
        if field not in known:
            raise _unknown_key(f"{role}={name}", field, known)
    return build(cast(DictConfig, OmegaConf.merge(config[role], fields)), f"{role}={name}")
