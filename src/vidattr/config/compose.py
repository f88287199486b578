"""Overrides to experiments: Hydra's grammar for what the user types, dataclasses for what it must mean.

Hydra's compose API takes one point, so a sweep is expanded (`overrides`), and every point is composed and type-checked
(`building`) before a network is loaded: a typo in the eightieth experiment is reported at second 0.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vidattr.config.building import build, interpolation, made, unknown_key
from vidattr.config.overrides import Setting, escaped, points
from vidattr.config.settings import Paths, Settings
from vidattr.errors import ConfigError, unknown
from vidattr.models.weights.trained import as_trained

if TYPE_CHECKING:
    from vidattr.config.runtime import Runtime
    from vidattr.protocols import Dataset, Method, Metric, ModelConfig
    from vidattr.render.options import Render

ROLES = ("dataset", "model", "method", "metric", "render", "runtime")
"""What a experiment is made of."""

GROUPS = {
    "run": ("dataset", "model", "method", "render", "paths", "runtime"),
    "evaluate": ("dataset", "model", "method", "metric", "render", "paths", "runtime"),
    "train": ("recipe", "dataset", "model", "paths", "runtime"),
}
_OPTIONAL = {"train": ("dataset",)}  # a recipe may bring datasets of its own
_added: ContextVar[tuple[Path, ...]] = ContextVar("added", default=())


@dataclass(frozen=True)
class Experiment:
    """One point of a sweep: the composed configuration, the names that were chosen, and the objects they describe.

    `notes` say what the model takes from its file of weights, and where it differs from what they were trained with.
    """

    config: DictConfig
    names: dict[str, str]
    title: str
    dataset: Dataset
    model: ModelConfig
    method: Method
    metric: Metric | None
    render: Render
    runtime: Runtime
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> str | None:
        """The folder's name that the user asked for."""
        return None if self.config.save_label is None else str(self.config.save_label)


def config_dir(explicit: Path | None = None) -> Path:
    """Returns the folder of configs: the one given, else `$VIDATTR_CONFIGS`, else the checkout's or the wheel's own."""
    named = explicit or (Path(os.environ["VIDATTR_CONFIGS"]) if os.environ.get("VIDATTR_CONFIGS") else None)
    folder = named or Path(str(files("vidattr.configs")))
    try:
        if (folder / "run.yaml").is_file():
            return folder.resolve()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, a link that leads to itself
        pass
    raise ConfigError(
        f"no run.yaml in the config folder {str(folder)[:300]}",
        remedy="--config-dir or $VIDATTR_CONFIGS name a folder like configs/",
    )


def added_folders(add: Sequence[Path] = ()) -> tuple[Path, ...]:
    """Returns the folders of a user's own configs: those given, then those of `$VIDATTR_ADD_CONFIGS`, between colons.

    Raises:
        ConfigError: There is no such folder, or no configs are in it.
    """
    named = [Path(one) for one in os.environ.get("VIDATTR_ADD_CONFIGS", "").split(os.pathsep) if one]
    found = []
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
        found.append(folder)
    return tuple(dict.fromkeys(found))


class _AddedFolders(SearchPathPlugin):
    """Puts the user's own folders before all others."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in reversed(_added.get()):
            search_path.prepend("vidattr", f"file://{folder}")


@contextmanager
def hydra(folder: Path, add: Sequence[Path] = ()) -> Iterator[None]:
    """Makes Hydra ready for config folders and tidy again afterwards."""
    GlobalHydra.instance().clear()
    Plugins.instance().register(_AddedFolders)
    token = _added.set(tuple(add))
    try:
        with initialize_config_dir(str(folder), version_base="1.3"):
            yield
    finally:
        _added.reset(token)


def experiments(
    overrides: Sequence[str],
    *,
    primary: str = "run",
    folder: Path | None = None,
    add: Sequence[Path] = (),
) -> list[Experiment]:
    """Composes and checks every experiment that the overrides span, in the order of the sweep.

    Args:
        overrides: KEY=VALUE; lists of values and `glob(*)` span a grid.
        primary: "run", or "evaluate", which has a metric too.
        folder: Config folder; None: see `config_dir`.
        add: More config folders, a user's own choices, searched first; `$VIDATTR_ADD_CONFIGS` names more.

    Raises:
        ConfigError: An unknown choice or option, a wrong type, two experiments that would share a folder.
    """
    with hydra(config_dir(folder), added_folders(add)):
        return [_experiment(primary, point) for point in points(overrides, GROUPS[primary], options, primary)]


def _composed(primary: str, point: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns the configuration at one point, as plain values, and the choice of each group."""
    config = _config(primary, point)
    choices = {str(group): str(name) for group, name in config.hydra.runtime.choices.items() if "/" not in str(group)}
    return _resolved(OmegaConf.masked_copy(config, [str(name) for name in config if name != "hydra"])), choices


def _resolved(config: DictConfig) -> dict[str, Any]:
    try:
        return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
    except OmegaConfBaseException as error:
        raise interpolation(error) from error


def _config(primary: str, point: Sequence[str]) -> DictConfig:
    try:
        return compose(primary, overrides=list(point), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        _check_yaml()
        missing = re.search(r"Could not find '([^']+)/([^']+)'", str(error))
        if missing:
            raise unknown(missing[1], missing[2], options(missing[1])) from error
        raise ConfigError(" ".join(line.strip() for line in str(error).splitlines() if line.strip())[:500]) from error
    except (yaml.YAMLError, ValueError, TypeError, OSError, RecursionError):
        _check_yaml()
        raise


def _check_yaml() -> None:
    """Raises ConfigError where a YAML of the user's own folders cannot be read, with the file and the line."""
    for folder in _added.get():
        for path in sorted(folder.rglob("*.yaml")):
            try:
                fine = isinstance(OmegaConf.load(path), DictConfig)
                reason = "a list or a single value"
            except (yaml.YAMLError, OmegaConfBaseException, ValueError, OSError, RecursionError) as error:
                fine, reason = False, " ".join(str(error).split())[:300]
            if not fine:
                raise ConfigError(f"{path} cannot be read: {reason}", expected="a YAML mapping in UTF-8, key: value")


def options(role: str) -> list[str]:
    """Returns the choices of a role, from the config folders that Hydra has open."""
    return sorted(GlobalHydra.instance().hydra.config_loader.get_group_options(role))  # type: ignore[union-attr]


def parts(primary: str, point: Sequence[Setting]) -> tuple[dict[str, Any], dict[str, str], dict[str, Any]]:
    """Returns the configuration at one point of a sweep, the choice of each group, and the object of each role; `notes`."""
    values, names = _composed(primary, [setting.override for setting in point])
    top = [] if primary == "train" else [field.name for field in fields(Settings)]
    known = [*GROUPS[primary], *top]
    for name in values:
        if name not in known and name in names:
            remedy = "let the first line of its YAML be `# @package _global_`: its keys then stand for those of the whole configuration"
            raise ConfigError(
                f"{name}={names[name]} sets keys of its own", expected=f"keys of {', '.join(known)}", remedy=remedy
            )
        if name not in known:
            error = unknown_key("configuration", name, known)
            if isinstance(values[name], str) and error.remedy is None:
                error = error.with_remedy(
                    f"{name}=NAME takes a folder {name}/ of YAMLs in a folder that --add-configs names"
                )
            raise error
    typed: dict[str, str] = {}
    for setting in point:
        typed.pop(setting.key, None)
        if setting.typed is not None:
            typed[setting.key] = setting.typed
    deleted = dict.fromkeys((setting.key for setting in point if setting.deletes), "")
    found: dict[str, Any] = {}
    for role in GROUPS[primary]:
        mine, gone = _below(role, typed), _below(role, deleted)
        if role == "paths":
            found[role] = made(Paths, values.get(role) or {}, role, typed=mine, deleted=gone)
        elif values.get(role) is None and role in _OPTIONAL.get(primary, ()):
            found[role] = None
        else:
            found[role] = build(values.get(role), f"{role}={names.get(role)}", typed=mine, deleted=gone)
        if role == "model":
            asked = [setting.key.removeprefix("model.") for setting in point]
            found[role], values[role], found["notes"] = as_trained(found[role], values[role], asked, mine)
    if top:
        plain = {name: values[name] for name in top if name in values}
        settings = made(Settings, plain, "", typed=typed, deleted=deleted)
        values = {**values, **asdict(settings)}
    return {**values, "paths": asdict(found.pop("paths"))}, names, found


def _below(role: str, keys: Mapping[str, str]) -> dict[str, str]:
    return {key.removeprefix(f"{role}."): text for key, text in keys.items() if key.startswith(f"{role}.")}


def _experiment(primary: str, point: Sequence[Setting]) -> Experiment:
    values, names, made_of = parts(primary, point)
    extra = [
        s.shown.removeprefix("method.")
        for s in point
        if s.varies and s.key not in ("dataset", "model", "metric", "method")
    ]
    title = names["method"] + (f" ({', '.join(extra)})" if extra else "")
    return Experiment(
        config=OmegaConf.create(escaped(values)),
        names=names,
        title=title,
        metric=made_of.pop("metric", None),
        **made_of,
    )


def part(
    role: str, name: str, fields: Mapping[str, Any], *, folder: Path | None = None, add: Sequence[Path] = ()
) -> Any:
    """Makes one plug-in by its config's name, with some fields changed: what `load_model` and `load_method` stand on.

    Raises:
        ConfigError: An unknown name or field, or a value of the wrong type.
    """
    where = f"{role}={name}"
    with hydra(config_dir(folder), added_folders(add)):
        if name not in (names := options(role)):
            raise unknown(role, str(name), names)
        config = _config("evaluate", [where])
    known = [str(key) for key in config[role] if key != "_target_"]
    for field in fields:
        if field not in known:
            raise unknown_key(where, field, known)
    OmegaConf.set_struct(config, False)
    try:
        config[role] = OmegaConf.merge(config[role], escaped(dict(fields)))
        made_of = build(config[role], where)
        values = cast(dict[str, Any], OmegaConf.to_container(config[role], resolve=True))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{where}: {' '.join(str(error).split())[:300]}") from error
    if role != "model":
        return made_of
    asked = [name for name in fields if not isinstance(fields[name], Mapping)]
    asked += [f"{name}.{inner}" for name, one in fields.items() if isinstance(one, Mapping) for inner in one]
    made_of, _, notes = as_trained(made_of, values, asked, {})
    if notes:
        warnings.warn(f"{where}: {'; '.join(notes)}", stacklevel=3)
    return made_of
