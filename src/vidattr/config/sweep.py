"""The points of a sweep: every combination of the values that the user typed.

An option can apply to one choice of a role: `method=grad_cam,step method.step.iterations=40,80` gives three points,
because the option is used only where the method is `step`. The composed experiment and its key are those of
`method=step method.iterations=40`. The option `method.step.iterations` takes precedence over `method.iterations`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from vidattr.config.choices import Choices
from vidattr.config.hydra_errors import composed
from vidattr.config.overrides import MOST_EXPERIMENTS, Setting, axes, too_many
from vidattr.errors import ConfigError

Axis = Sequence[Setting]
"""The settings of one override, one for each of its values."""


def points(
    arguments: Sequence[str], groups: Sequence[str], choices: Callable[[str], list[str]], command: str
) -> Iterator[list[Setting]]:
    """Yields each point of the sweep that the arguments span.

    Args:
        arguments: As typed, KEY=VALUE.
        groups: The roles of which the command takes exactly one choice each.
        choices: Returns the names of a role's configs; an empty list if there is no such role.
        command: The primary config and name of the command: "run", "evaluate" or "train".

    Raises:
        ConfigError: An argument is no override, or may mean two things; an unknown choice; an option for a choice that
            is not made; more than `MOST_EXPERIMENTS` points.
    """
    found = axes(arguments, groups, choices, command)
    if any(axis[0].only for axis in found):
        yield from _with_options_of_choices(found, command)
        return
    if (count := math.prod(map(len, found))) > MOST_EXPERIMENTS:
        raise too_many(str(count))
    for point in itertools.product(*found):
        yield list(point)


def _with_options_of_choices(axes: Sequence[Axis], command: str) -> list[list[Setting]]:
    """Returns the points of a sweep in which some settings are for one choice, each with the settings that apply."""
    choosing = [place for place, axis in enumerate(axes) if axis[0].chooses]
    unused = {axis[0].only: axis[0] for axis in axes if axis[0].only is not None}
    chosen: dict[str, set[str]] = {role: set() for role, _ in unused}
    found: list[tuple[tuple[int, ...], list[Setting]]] = []
    for places in itertools.product(*(range(len(axes[place])) for place in choosing)):
        at = dict(zip(choosing, places, strict=True))
        names = _names([axes[place][number] for place, number in at.items()], chosen, command)
        for role in chosen:
            chosen[role].add(names[role])
            unused.pop((role, names[role]), None)
        counts = [
            [at[place]] if place in at else range(len(axis)) if _applies(axis[0], names) else [0]
            for place, axis in enumerate(axes)
        ]
        for numbers in itertools.product(*counts):
            if len(found) == MOST_EXPERIMENTS:
                raise too_many(f"more than {MOST_EXPERIMENTS}")
            point = [axis[number] for axis, number in zip(axes, numbers, strict=True) if _applies(axis[0], names)]
            found.append((numbers, sorted(point, key=lambda setting: setting.only is not None)))
    for (role, name), setting in unused.items():
        raise ConfigError(
            f"{setting.typed_key}: {role}={name} is not chosen",
            expected=f"options of {', '.join(sorted(chosen[role]))}",
            remedy=f"{role}={','.join([*sorted(chosen[role]), name])}, or leave the option out",
        )
    _check_meaning(axes, chosen, command)
    return [point for _, point in sorted(found, key=lambda one: one[0])]


def _applies(setting: Setting, names: Mapping[str, str]) -> bool:
    return setting.only is None or names[setting.only[0]] == setting.only[1]


def _names(choices: Sequence[Setting], roles: Mapping[str, Any], command: str) -> Mapping[str, str]:
    """Returns the choice of each of the roles at a point, by Hydra where it is not among the choices typed."""
    typed = {setting.key: str(setting.value) for setting in choices}
    if typed.keys() >= roles.keys():
        return typed
    return composed(command, [setting.override for setting in choices])[1]


def _check_meaning(axes: Sequence[Axis], chosen: Mapping[str, set[str]], command: str) -> None:
    """Raises ConfigError where `role.name.…` may also mean a mapping `name` in the config of another choice."""
    node = _reader(command)
    for axis in axes:
        if axis[0].only is None:
            continue
        role, name = axis[0].only
        for other in sorted(chosen[role]):
            if isinstance(node(role, other).get(name), dict):
                raise ConfigError(
                    f"{axis[0].typed_key}: {name} is a {role}, and also an option of {role}={other}",
                    remedy=f"run {role}={other} by a command of its own, or give the config {name} another name",
                )


def _reader(command: str) -> Callable[[str, str], Mapping[str, Any]]:
    """Returns a function from role and choice to the values of its config."""
    choices = Choices()

    def read(role: str, name: str) -> Mapping[str, Any]:
        node: Any = choices.node(role, name)
        if node is None:
            node = OmegaConf.to_container(composed(command, [f"{role}={name}"])[0], resolve=False)[role]  # type: ignore[call-overload, index]
        return node if isinstance(node, dict) else {}

    return read
