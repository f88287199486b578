"""Turns the arguments of a command into overrides in Hydra's grammar: quotes values, expands sweeps, checks choices.

Hydra's grammar is made for short words. It cannot parse a class named `petting animal (not cat)`, a folder
`/data/视频` or a checkpoint `epoch=9-step=100.ckpt`. Such a value is quoted here if it has only one possible meaning:

- A value that Hydra cannot parse is text. The same holds for the parts between the commas of a sweep or a flat [list].
- A value of `dataset.…`, `model.…`, `method.…` or `paths.…` that is the path of an existing file or folder is that
  path, even if it contains commas, quotes, backslashes or `${…}`.
- `~` and `~/…` in these values stand for the home folder.

A value with two possible meanings is an error, and the message shows the quoted form.
"""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException

from vidattr.config.quoting import exists, is_text, quoted
from vidattr.errors import ConfigError, unknown

MOST_EXPERIMENTS = 10_000
_FORM = re.compile(
    r"(?P<sign>\+\+|\+|~)?(?P<key>[A-Za-z_][\w\-/]*(@[\w.:\-]*)?(\.[\w\-]+)*)(=(?P<value>.*))?", re.DOTALL | re.ASCII
)
_PATHS = ("dataset.", "model.", "method.", "paths.")
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}", re.ASCII)  # parsed without Hydra, which takes a millisecond
_FUNCTION = re.compile(r"(glob|choice|range|interval|shuffle|sort|tag|int|float|str|bool|json_str|extend_list)\(")


@dataclass(frozen=True)
class Setting:
    """One override at one point of a sweep.

    Attributes:
        key: The key that it sets, "method.score".
        override: The whole override in Hydra's grammar.
        shown: The form in a title, "method.score=prob".
        typed: A plain value as it was typed; None for a list, a mapping, null and quoted text.
        varies: Whether the override has several values.
        deletes: Whether it removes the key.
        chooses: Whether it names the config of a group.
        value: The parsed value, or the name of the choice.
        only: Role and name of the choice that it applies to, as in `method.step.iterations=40`; None: all.
    """

    key: str
    override: str
    shown: str
    typed: str | None = None
    varies: bool = False
    deletes: bool = False
    chooses: bool = False
    value: Any = field(default=None, compare=False)
    only: tuple[str, str] | None = None

    @property
    def typed_key(self) -> str:
        """The key as it was typed."""
        if self.only is None:
            return self.key
        role, name = self.only
        return f"{role}.{name}.{self.key.removeprefix(f'{role}.')}"

    @property
    def plain(self) -> bool:
        """Whether the value is a number, a text, null, true, false, or a list of these."""
        return not (self.deletes or self.chooses) and all(
            value is None or (isinstance(value, bool | int | float | str) and value != "???")
            for value in (self.value if isinstance(self.value, list) else [self.value])
        )


def axes(
    arguments: Sequence[str], groups: Sequence[str], choices: Callable[[str], list[str]], command: str
) -> list[list[Setting]]:
    """Returns the settings of each argument, one for each of its values.

    Args:
        arguments: As typed, KEY=VALUE.
        groups: The roles of which the command takes exactly one choice each.
        choices: Returns the names of a role's configs; an empty list if there is no such role.
        command: Name of the command, for messages.

    Raises:
        ConfigError: An argument is no override or has two possible meanings, or a choice is unknown.
    """
    return [_axis(_parsed(argument), groups, choices, command) for argument in arguments]


def too_many(count: str) -> ConfigError:
    """Returns the error for a sweep of too many points."""
    return ConfigError(f"the lists of values span {count} experiments", expected=f"at most {MOST_EXPERIMENTS}")


def is_override(argument: str) -> bool:
    """Returns whether an argument has the form of an override."""
    found = _FORM.fullmatch(argument)
    return found is not None and (found["value"] is not None or found["sign"] is not None)


def _parsed(argument: str) -> Override:
    found = _FORM.fullmatch(argument)
    if found is None or not is_text(argument) or (found["value"] is None and found["sign"] != "~"):
        raise ConfigError(
            f"{argument[:200]!r} is no override",
            expected="KEY=VALUE, +KEY=VALUE or ~KEY, without spaces before the value",
        )
    key, value = found["key"], found["value"]
    if key.partition(".")[0].partition("/")[0] == "hydra":
        raise ConfigError(
            f"{argument[:200]}: Hydra's own settings cannot be changed", remedy="--add-configs adds folders of configs"
        )
    if value is None:
        return _parse(argument)
    head = f"{found['sign'] or ''}{key}="
    path = key.startswith(_PATHS)
    if path and (value == "~" or value.startswith("~/")):
        value = os.path.expanduser(value)
        if value.startswith("~"):
            raise ConfigError(f"{argument}: there is no home folder", expected="a path")
    try:
        override = _parse(head + value)
    except ConfigError as error:
        if path and exists(value):
            return _parse(head + quoted(value))
        return _parse(head + _requoted(head, value, error))
    if path and not _plain(override, value) and exists(value):
        if override.is_sweep_override() and all(exists(part.strip()) for part in value.split(",")):
            both = f"{_shell(head, value)}, or {_shell(head, *map(str.strip, value.split(',')))}"
            raise ConfigError(
                f"{argument}: there is a file of this name, and of each of its parts", remedy=f"say which: {both}"
            )
        return _parse(head + quoted(value))
    return override


def _parse(text: str) -> Override:
    try:
        loader = GlobalHydra.instance().hydra.config_loader  # type: ignore[union-attr] # lists the choices for glob(*)
        return OverridesParser.create(loader).parse_overrides([text])[0]
    except HydraException as error:
        raise ConfigError(f"{text[:200]}: {str(error).splitlines()[0][:200]}") from error


def _plain(override: Override, value: str) -> bool:
    parsed = override._value
    return isinstance(parsed, str) and parsed == value and "${" not in value


def _requoted(head: str, value: str, error: ConfigError) -> str:
    """Returns a value that Hydra cannot parse, with quotes around the parts that must be text.

    Raises:
        ConfigError: The value has two possible meanings; the message shows the quoted form.
    """
    inner = value.strip()
    listed = inner.startswith("[") and inner.endswith("]")
    body = inner[1:-1] if listed else value
    parts = body.split(",")
    unclear = re.search(r"[\[\]{}\"]|\$\{|^'|'$", body) or _FUNCTION.match(body)
    if unclear or (len(parts) > 1 and any(part.count("(") != part.count(")") for part in parts)):
        remedy = f"quote a text: {_shell(head, value)}"
        raise ConfigError(
            error.found, expected="a plain value, a,b,c, [list], {mapping: of values} or glob(*)", remedy=remedy
        ) from error
    done = ",".join(_alone(part, strip=len(parts) > 1 or listed) for part in parts)
    return f"[{done}]" if listed else done


def _alone(part: str, *, strip: bool) -> str:
    text = part.strip() if strip else part
    try:
        _parse(f"key={text}")
    except ConfigError:
        return quoted(text)
    return text if text else "''"


def _shell(head: str, *values: str) -> str:
    """Returns an override with its texts quoted for a shell."""
    return shlex.quote(head + ",".join(quoted(value, "'" if '"' in value else '"') for value in values))


def _axis(
    override: Override, groups: Sequence[str], choices: Callable[[str], list[str]], command: str
) -> list[Setting]:
    key, only = _scope(override.key_or_group, groups, choices)
    names = [] if "." in key else choices(key)
    if override.is_delete():
        if key in groups:
            raise ConfigError(
                f"~{key}: `vidattr {command}` needs a {key}", expected=f"{key}=NAME, one of {', '.join(names)}"
            )
        if key.count(".") < 2:  # deeper keys are entries of the user's own mappings, such as a recipe's datasets
            raise ConfigError(f"~{key}: every option has a value", remedy="set another value instead, null for none")
        return [Setting(key, override.input_line or "", f"~{key}", deletes=True)]
    values = _values(override)
    if override.package is not None or names or key in groups:
        if names and key not in groups and (key in _ROLES):
            other = "`vidattr evaluate` and `vidattr table`" if key == "metric" else "`vidattr run`"
            raise ConfigError(f"`vidattr {command}` takes no {key}", remedy=f"{key}= goes with {other}")
        sign = "" if key in groups else override.get_key_element().partition(key)[0]
        return [_choice(override, key, value, sign, names, choices, len(values) > 1) for value in values]
    settings = []
    for text, value in values:
        # Always as an addition (++): the dataclasses check which keys exist, not Hydra.
        typed = text.strip() if isinstance(value, int | float) else None
        varies = len(values) > 1
        settings.append(Setting(key, f"++{key}={text}", f"{key}={text}", typed, varies, value=value, only=only))
    return settings


def _scope(key: str, groups: Sequence[str], choices: Callable[[str], list[str]]) -> tuple[str, tuple[str, str] | None]:
    """Splits the key of an option for one choice, `method.step.iterations`, into `method.iterations` and the choice."""
    role, _, rest = key.partition(".")
    name, _, inner = rest.partition(".")
    if inner and role in groups and name in choices(role):
        return f"{role}.{inner}", (role, name)
    return key, None


_ROLES = ("dataset", "model", "method", "metric", "render", "runtime", "recipe")


def _values(override: Override) -> list[tuple[str, Any]]:
    """Returns the values of an override, each as text in Hydra's grammar and parsed."""
    swept = override._value
    line = override.input_line or ""
    if isinstance(swept, IntervalSweep):
        raise ConfigError(
            f"{line}: an interval has no end of values", expected="a list (a,b,c), range(...) or glob(...)"
        )
    if isinstance(swept, RangeSweep):
        start, stop, step = swept.start or 0, swept.stop or 0, swept.step
        if not (math.isfinite(start) and math.isfinite(stop) and math.isfinite(step) and step != 0):
            raise ConfigError(
                f"{line}: no range", expected="range(start,stop) or range(start,stop,step), a step that is not 0"
            )
        if (stop - start) / step > MOST_EXPERIMENTS:
            raise ConfigError(f"{line}: {(stop - start) / step:.0f} values", expected=f"at most {MOST_EXPERIMENTS}")
    if not isinstance(swept, ChoiceSweep | RangeSweep | Glob):
        return [(line.partition("=")[2], override.value())]
    texts = _swept(override, line)
    if not texts:
        raise ConfigError(f"{line}: matches nothing")
    return [(text, int(text) if _WHOLE.fullmatch(text) else _parse(f"key={text}").value()) for text in texts]


def _swept(override: Override, line: str) -> list[str]:
    try:
        return list(override.sweep_string_iterator())
    except (HydraException, ValueError, TypeError, ZeroDivisionError) as error:
        raise ConfigError(f"{line}: {error}") from error


def _choice(
    override: Override,
    key: str,
    value: tuple[str, Any],
    sign: str,
    names: Sequence[str],
    choices: Callable[[str], list[str]],
    varies: bool,
) -> Setting:
    text, name = value
    package = override.package
    if package is not None:
        raise ConfigError(f"{override.input_line}: the key of a {key} cannot be changed", remedy=f"{key}=NAME")
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{key}={text[:80]}", expected=f"the name of one {key}: {', '.join(names)}")
    folder, _, leaf = name.rpartition("/")
    if name not in names and (
        leaf not in choices(f"{key}/{folder}") or not folder or any(set(part) <= {"."} for part in folder.split("/"))
    ):
        raise unknown(key, name, names)
    return Setting(key, f"{sign}{key}={text}", f"{key}={name}", varies=varies, chooses=True, value=name)
