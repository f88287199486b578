"""From overrides to checked experiments.

The overrides of a command line (`overrides`) span a sweep (`sweep`). Each point of it is composed (`combine`; where
that does not apply, by Hydra as a whole) and checked against the dataclasses (`building`) before any network is loaded:
a typo in the eightieth experiment is reported at once. Names of choices and options are compared with the YAML files
first, because importing a class imports torch, which takes seconds.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from functools import cache
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vidattr.config.building import build, made, unknown_key
from vidattr.config.changed import changed
from vidattr.config.choices import Choices
from vidattr.config.combine import TOP, Combiner, Made, NotCombinedError
from vidattr.config.folders import added_folders, config_dir, hydra, options
from vidattr.config.hydra_errors import composed, resolved
from vidattr.config.overrides import Setting
from vidattr.config.quoting import escaped
from vidattr.config.settings import Paths, Settings
from vidattr.config.sweep import points
from vidattr.config.typed import check_options, check_paths, check_whole
from vidattr.errors import ConfigError, VidattrError, unknown
from vidattr.models.weights.trained import as_trained
from vidattr.run.experiment import Experiment, check_backend

GROUPS = {
    "run": ("dataset", "model", "method", "render", "paths", "runtime"),
    "evaluate": ("dataset", "model", "method", "metric", "render", "paths", "runtime"),
    "train": ("recipe", "dataset", "model", "paths", "runtime"),
}
"""The roles that a command takes one choice of each, by its primary config."""
_OPTIONAL = {"train": ("dataset",)}  # a recipe may bring its own datasets
_TOP = tuple(field.name for field in fields(Settings))


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
        folder: Config folder; None: see `folders.config_dir`.
        add: The user's own config folders, searched first; `$VIDATTR_ADD_CONFIGS` names more.

    Raises:
        ConfigError: An unknown choice or option, or a value of the wrong type; that of the first wrong point.
    """
    return several([overrides], primary=primary, folder=folder, add=add)[0]


def several(
    lists: Sequence[Sequence[str]],
    *,
    primary: str = "run",
    folder: Path | None = None,
    add: Sequence[Path] = (),
) -> list[list[Experiment]]:
    """Composes the experiments of several lists of overrides; parts that are the same are made once for all of them.

    Args:
        lists: Each as in `experiments`.
        primary: As in `experiments`.
        folder: As in `experiments`.
        add: As in `experiments`.

    Raises:
        ConfigError: As `experiments`; that of the first wrong list.
    """
    with hydra(config_dir(folder), added_folders(add)):
        combiner = Combiner(primary, GROUPS[primary], _TOP, _made)
        choices = cache(options)  # Hydra lists a folder in some milliseconds, and is asked for every override
        sweeps = [list(points(one, GROUPS[primary], choices, primary)) for one in lists]
        for sweep in sweeps:
            check_options(sweep, combiner)
        return [[_experiment(primary, point, combiner) for point in sweep] for sweep in sweeps]


def chosen(
    overrides: Sequence[str], *, primary: str = "run", folder: Path | None = None, add: Sequence[Path] = ()
) -> dict[str, str]:
    """Checks the names of choices and options, and the paths that were typed; no class is imported.

    Args:
        overrides: As in `experiments`.
        primary: As in `experiments`.
        folder: As in `experiments`.
        add: As in `experiments`.

    Returns:
        Role to the choice of the first point, without roles whose default is taken.

    Raises:
        ConfigError: An unknown choice or option, or a path that leads nowhere.
    """
    with hydra(config_dir(folder), added_folders(add)):
        sweep = list(points(overrides, GROUPS[primary], options, primary))
        check_options(sweep, Combiner(primary, GROUPS[primary], _TOP, _made))
        check_paths(setting for point in sweep for setting in point)
        names = {setting.key: str(setting.value) for setting in sweep[0] if setting.chooses}
        if names.keys() - GROUPS[primary]:  # a group of the user's own may choose for several roles
            default = composed(primary, [])[1]
            named = composed(primary, [setting.override for setting in sweep[0] if setting.chooses])[1]
            names |= {role: name for role, name in named.items() if name != default.get(role)}
        return {role: name for role, name in names.items() if role in GROUPS[primary]}


def _experiment(primary: str, point: Sequence[Setting], combiner: Combiner) -> Experiment:
    combined = None
    with suppress(NotCombinedError, VidattrError, OmegaConfBaseException):
        combined = combiner.point(point)
    # Where a part is wrong, the error to report is the one that the point has as a whole.
    values, names, parts = combined or compose_whole(primary, point)
    swept = [
        setting.shown.removeprefix("method.")
        for setting in point
        if setting.varies and setting.key not in ("dataset", "model", "metric", "method")
    ]
    title = names["method"] + (f" ({', '.join(swept)})" if swept else "")
    objects = {role: made_of.part for role, made_of in parts.items() if role not in (TOP, "metric")}
    if primary == "run":
        check_backend(names["method"], objects["method"], objects["runtime"])
    return Experiment(
        values=values,
        names=names,
        title=title,
        settings=parts[TOP].part,
        metric=parts["metric"].part if "metric" in parts else None,
        notes=parts["model"].notes,
        overrides=tuple(setting.override for setting in point),
        changed=changed(combiner.defaults(names), values),
        **objects,
    )


def compose_whole(primary: str, point: Sequence[Setting]) -> tuple[dict[str, Any], Mapping[str, str], dict[str, Made]]:
    """Composes one point by Hydra alone.

    Returns:
        The configuration, the name of each choice, and what was made of each role and of `TOP`.

    Raises:
        ConfigError: An unknown choice or option, or a value of the wrong type.
    """
    config, names = composed(primary, [setting.override for setting in point])
    values = resolved(config)
    _check_keys(values, names, [*GROUPS[primary], *([] if primary == "train" else _TOP)])
    parts: dict[str, Made] = {}
    for role in GROUPS[primary]:
        if values.get(role) is None and role in _OPTIONAL.get(primary, ()):
            continue
        mine = [setting for setting in point if setting.key.startswith(f"{role}.")]
        parts[role] = _made(role, values.get(role), names.get(role), mine)
        values[role] = parts[role].values
    if primary != "train":
        top = [setting for setting in point if setting.key in _TOP]
        parts[TOP] = _made(TOP, {name: values[name] for name in _TOP if name in values}, "", top)
        values = {**values, **parts[TOP].values}
    return values, names, parts


def _check_keys(values: Mapping[str, Any], names: Mapping[str, str], known: Sequence[str]) -> None:
    """Raises ConfigError for the first key at the top of a configuration that has no meaning there."""
    for name in values:
        if name in known:
            continue
        if name in names:
            remedy = (
                "let the first line of its YAML be `# @package _global_`: "
                "its keys then stand for those of the whole configuration"
            )
            raise ConfigError(
                f"{name}={names[name]} sets keys of its own", expected=f"keys of {', '.join(known)}", remedy=remedy
            )
        error = unknown_key("configuration", name, known)
        if isinstance(values[name], str) and error.remedy is None:
            error = error.with_remedy(
                f"{name}=NAME takes a folder {name}/ of YAMLs in a folder that --add-configs names"
            )
        raise error


def _made(role: str, values: Any, name: str | None, settings: Sequence[Setting]) -> Made:
    """Makes the object of a role, or of `TOP`.

    Args:
        role: The role.
        values: Its configuration, interpolations resolved.
        name: The choice, for messages.
        settings: What the user set of it.
    """
    start = 0 if role == TOP else len(role) + 1
    typed: dict[str, str] = {}
    for setting in settings:
        typed.pop(setting.key[start:], None)
        if setting.typed is not None:
            typed[setting.key[start:]] = setting.typed
    deleted = [setting.key[start:] for setting in settings if setting.deletes]
    if role in (TOP, "paths"):
        part = made(Paths if role else Settings, values or {}, role, typed=typed, deleted=deleted)
        return Made(asdict(part), part)
    part = build(values, f"{role}={name}", typed=typed, deleted=deleted)
    check_whole(role, str(name), part, values)
    if role == "model":
        part, values, notes = as_trained(part, values, [setting.key[start:] for setting in settings], typed)
        return Made(values, part, notes)
    return Made(values, part)


def part(
    role: str, name: str, fields: Mapping[str, Any], *, folder: Path | None = None, add: Sequence[Path] = ()
) -> Any:
    """Makes one plug-in by the name of its config, for `load_model` and `load_method`.

    Args:
        role: "model", "method", …
        name: Name of a config of this role.
        fields: Fields that differ from the config.
        folder: Config folder; None: see `folders.config_dir`.
        add: The user's own config folders.

    Raises:
        ConfigError: An unknown name or field, a value of the wrong type, or a config that leaves out fields.
    """
    where = f"{role}={name}"
    with hydra(config_dir(folder), added_folders(add)):
        if name not in (names := options(role)):
            raise unknown(role, str(name), names)
        node = Choices().node(role, name)
        alone = node is not None and "${" not in str(node)  # refers to no other role
        config = OmegaConf.create({role: node}) if alone else composed("evaluate", [where])[0]
        known = [str(key) for key in config[role] if key != "_target_"]
        for field in fields:
            if field not in known:
                raise unknown_key(where, field, known)
        OmegaConf.set_struct(config, False)
        try:
            config[role] = OmegaConf.merge(config[role], escaped(dict(fields)))
            plugin = build(config[role], where)
            values = cast(dict[str, Any], OmegaConf.to_container(config[role], resolve=True))
        except OmegaConfBaseException as error:
            raise ConfigError(f"{where}: {' '.join(str(error).split())[:300]}") from error
        check_whole(role, name, plugin, values)
    if role != "model":
        return plugin
    asked = [name for name in fields if not isinstance(fields[name], Mapping)]
    asked += [f"{name}.{inner}" for name, one in fields.items() if isinstance(one, Mapping) for inner in one]
    plugin, _, notes = as_trained(plugin, values, asked, {})
    if notes:
        warnings.warn(f"{where}: {'; '.join(notes)}", stacklevel=3)
    return plugin


def choice(role: str, name: str, *, folder: Path | None = None, add: Sequence[Path] = ()) -> DictConfig:
    """Returns the config of one choice, with the fields of the config that it builds on; interpolations unresolved.

    Raises:
        ConfigError: There is no such choice, or it cannot be read.
    """
    with hydra(config_dir(folder), added_folders(add)):
        if name not in (names := options(role)):
            raise unknown(role, name, names)
        node: Any = Choices().node(role, name)
        if node is None:
            config, _ = composed("train" if role == "recipe" else "evaluate", [f"{role}={name}"])
            node = OmegaConf.to_container(config, resolve=False)[role]  # type: ignore[index, call-overload]
    return cast(DictConfig, OmegaConf.create(node))
