"""Composes the points of a sweep from their parts: each choice is read once, and each part is made once.

`Combiner` splits a point into choices (`method=step`), which Hydra or `Choices` compose, and values
(`method.score=prob`), which are put into the composed choice. A part (the method, say) depends on its own choice and
values, and on those of the roles that its interpolations refer to, and is made once for each of these combinations.
So ten thousand points cost little more than their distinct parts.

A point that cannot be split in this way raises `NotCombinedError`, and the caller lets Hydra compose it as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf

from vidattr.config.choices import Choices
from vidattr.config.hydra_errors import composed
from vidattr.config.overrides import Setting

TOP = ""
"""Stands for the keys at the top level (seed, target, …) where a role is named."""
_REFERENCE = re.compile(r"\$\{(?:(?P<root>[A-Za-z_]\w*)(?:\.\w+)*|oc\.env:[\w,./ -]*)\}")


@dataclass(frozen=True)
class Made:
    """The object of a role, and its configuration.

    Attributes:
        values: The configuration as `vidattr config show` prints it.
        part: The object.
        notes: Lines that are printed with the results.
    """

    values: Any
    part: Any
    notes: tuple[str, ...] = ()


Maker = Callable[[str, Any, str, Sequence[Setting]], Made]
"""Makes a role: the role, its values with interpolations resolved, name of the choice, the settings of its values."""


class NotCombinedError(Exception):
    """This point has to be composed as a whole."""


@dataclass(frozen=True)
class _Frame:
    """A configuration with all choices made and no value set.

    Attributes:
        nodes: Role, or `TOP`, to its values, interpolations unresolved.
        order: The keys of the whole configuration in their order.
        names: Role to the name of its choice.
        keys: Role to a key that identifies its values.
    """

    nodes: Mapping[str, Any]
    order: Sequence[str]
    names: Mapping[str, str]
    keys: Mapping[str, object]


@dataclass(frozen=True)
class _Node:
    """The values of one role at one point, interpolations unresolved.

    Attributes:
        value: The values.
        refers: The roles that the interpolations refer to; None: perhaps to all.
    """

    value: Any
    refers: frozenset[str] | None


class Combiner:
    """Composes the points of one sweep.

    Args:
        primary: "run" or "evaluate".
        groups: The roles, each of which has one choice.
        top: The keys at the top level.
        make: Makes a role, or `TOP`.
    """

    def __init__(self, primary: str, groups: Sequence[str], top: Sequence[str], make: Maker) -> None:
        self._primary, self._groups, self._top, self._make = primary, frozenset(groups), frozenset(top), make
        self._choices = Choices()
        self._plain = self._choices.is_plain(primary, groups, top)
        self._frames: dict[tuple[str, ...], _Frame] = {}
        self._nodes: dict[object, _Node] = {}
        self._parts: dict[object, Made] = {}

    def point(self, settings: Sequence[Setting]) -> tuple[dict[str, Any], Mapping[str, str], dict[str, Made]]:
        """Returns the configuration at a point, the name of each choice, and what is made of each role and of `TOP`.

        Raises:
            NotCombinedError: The point has to be composed as a whole.
            ConfigError: A part of it is wrong, or it is composed as a whole and something else is.
        """
        choices, values = self._split(settings)
        frame = self._frame(choices)
        nodes = {role: self._node(role, frame, values.get(role, ())) for role in frame.nodes}
        parts = {role: self._part(role, frame, nodes, values.get(role, ())) for role in nodes}
        config = {key: parts[key].values if key in parts else parts[TOP].values[key] for key in frame.order}
        return config, frame.names, parts

    def unknown_options(self, settings: Sequence[Setting]) -> Iterator[tuple[str, str, str, list[str]]]:
        """Yields the options at a point that are no key of their choice: role, choice, option, and the keys that are.

        No class is imported. What cannot be combined is left to the composition as a whole.
        """
        try:
            choices, values = self._split(settings)
            frame = self._frame(choices)
        except NotCombinedError:
            return
        for role in values.keys() - {TOP}:
            known = [str(key) for key in frame.nodes.get(role) or () if key != "_target_"]
            for setting in values[role]:
                _, first, *rest = setting.key.split(".")
                if first not in known:
                    yield role, frame.names.get(role, ""), ".".join([first, *rest]), known

    def defaults(self, names: Mapping[str, str]) -> Mapping[str, Any]:
        """Returns role, or `TOP`, to the values of its chosen config, interpolations unresolved; nothing is set.

        Args:
            names: Role to the name of its choice.
        """
        choices = [
            Setting(role, f"{role}={name}", f"{role}={name}", chooses=True, value=name)
            for role, name in names.items()
            if role in self._groups
        ]
        try:
            return self._frame(choices).nodes
        except NotCombinedError:
            return {}

    def choices_with(self, sweep: Iterable[Sequence[Setting]], role: str, option: str) -> list[str]:
        """Returns the choices of a role in a sweep whose config has an option."""
        named = {str(one.value) for point in sweep for one in point if one.chooses and one.key == role}
        return sorted(one for one in named if option.partition(".")[0] in (self._choices.node(role, one) or ()))

    def _split(self, settings: Sequence[Setting]) -> tuple[tuple[Setting, ...], dict[str, tuple[Setting, ...]]]:
        choices: dict[str, Setting] = {}
        values: dict[str, tuple[Setting, ...]] = {}
        for setting in settings:
            role, _, field = setting.key.partition(".")
            if setting.chooses:
                if setting.key in choices:
                    raise NotCombinedError(setting.key)
                choices[setting.key] = setting
                continue
            role = role if field else TOP
            if not setting.plain or (role not in self._groups if field else setting.key not in self._top):
                raise NotCombinedError(setting.key)
            values[role] = (*values.get(role, ()), setting)
        return tuple(choices.values()), values

    def _frame(self, choices: Sequence[Setting]) -> _Frame:
        key = tuple(setting.override for setting in choices)
        if key not in self._frames:
            combined = self._of_choices(choices) if self._plain and choices else None
            self._frames[key] = combined or self._of_hydra(key)
        return self._frames[key]

    def _of_hydra(self, overrides: tuple[str, ...]) -> _Frame:
        config, names = composed(self._primary, overrides)
        plain: Any = OmegaConf.to_container(config, resolve=False)
        if not plain.keys() <= self._groups | self._top or _has_missing(plain):
            raise NotCombinedError(overrides)
        nodes = {role: value for role, value in plain.items() if role in self._groups}
        nodes[TOP] = {key: value for key, value in plain.items() if key in self._top}
        return _Frame(nodes, list(plain), names, {role: (role, overrides) for role in nodes})

    def _of_choices(self, choices: Sequence[Setting]) -> _Frame | None:
        """Returns the default configuration with some roles replaced; None if a choice changes anything else."""
        base = self._frame(())
        nodes, names, keys = dict(base.nodes), dict(base.names), dict(base.keys)
        for setting in choices:
            role, name = setting.key, str(setting.value)
            node = self._choices.node(role, name) if role in self._groups and role in nodes else None
            if node is None:
                return None
            nodes[role], names[role], keys[role] = node, name, (role, name)
        return _Frame(nodes, base.order, names, keys)

    def _node(self, role: str, frame: _Frame, settings: tuple[Setting, ...]) -> _Node:
        key = _key(role, frame, settings)
        if key not in self._nodes:
            value = frame.nodes[role]
            for setting in settings:
                path = setting.key.split(".") if role == TOP else setting.key.split(".")[1:]
                value = _with(value, path, setting.value)
            self._nodes[key] = _Node(value, self._references(value))
        return self._nodes[key]

    def _references(self, value: Any) -> frozenset[str] | None:
        """Returns the roles that the interpolations in a value refer to; None: perhaps to all."""
        if isinstance(value, dict | list):
            found = [self._references(item) for item in (value.values() if isinstance(value, dict) else value)]
            return None if None in found else frozenset[str]().union(*(item for item in found if item is not None))
        if not isinstance(value, str) or "${" not in value:
            return frozenset()
        rest = _REFERENCE.sub("", value)
        if "$" in rest or "\\" in rest:
            return None
        roots = {match["root"] or next(iter(self._top)) for match in _REFERENCE.finditer(value)}  # None: oc.env
        if not roots <= self._groups | self._top:
            return None
        return frozenset(root if root in self._groups else TOP for root in roots)

    def _part(self, role: str, frame: _Frame, nodes: Mapping[str, _Node], settings: tuple[Setting, ...]) -> Made:
        """Resolves the interpolations of a role, and makes it."""
        needed = _reached(role, nodes)
        key = (role, tuple(id(nodes[other]) for other in sorted(needed)), frame.names.get(role))
        if key not in self._parts:
            value = nodes[role].value
            if nodes[role].refers != frozenset():
                whole = {other: nodes[other].value for other in needed if other != TOP}
                config = OmegaConf.create({**(nodes[TOP].value if TOP in needed else {}), **whole})
                plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
                value = {name: plain[name] for name in value} if role == TOP else plain[role]
            self._parts[key] = self._make(role, value, frame.names.get(role, ""), settings)
        return self._parts[key]


def _key(role: str, frame: _Frame, settings: Sequence[Setting]) -> object:
    return frame.keys[role], tuple(setting.override for setting in settings)


def _reached(role: str, nodes: Mapping[str, _Node]) -> set[str]:
    """Returns the roles that a role depends on by interpolations, directly or not, and itself."""
    if nodes[role].refers == frozenset():
        return {role}
    reached, ahead = set[str](), [role]
    while ahead:
        other = ahead.pop()
        if other not in nodes:
            raise NotCombinedError(other)
        if other in reached:
            continue
        reached.add(other)
        refers = nodes[other].refers
        ahead += nodes if refers is None else refers
    return reached


def _with(node: Any, path: Sequence[str], value: Any) -> Any:
    """Returns a copy of a mapping with one value set; what is not on the path is shared."""
    if not isinstance(node, dict):
        raise NotCombinedError(path)
    first, *rest = path
    if rest:
        if first not in node:
            raise NotCombinedError(path)
        return {**node, first: _with(node[first], rest, value)}
    if isinstance(node.get(first), dict) and isinstance(value, list):
        raise NotCombinedError(path)
    return {**node, first: value}


def _has_missing(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(_has_missing(item) for item in (value.values() if isinstance(value, dict) else value))
    return isinstance(value, str) and value == "???"
