"""Makes frozen dataclasses from plain values and checks every key, type and number."""

from __future__ import annotations

import math
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vidattr.config import importing
from vidattr.config.quoting import escaped
from vidattr.errors import ConfigError, VidattrError, unknown

_LARGEST = 2**63  # the largest int64
_HUGE = 1e30  # the largest float: its square root is far below the limit of float32
_UNCLEAR: Any = object()  # a value that OmegaConf has to convert
_SHOWN = 120  # characters of a value in a message
_TARGET = "_target_: package.module.Class, a frozen dataclass, and its fields"


def build(node: Any, where: str, *, typed: Mapping[str, str] | None = None, deleted: Iterable[str] = ()) -> Any:
    """Makes the dataclass that a config node describes, with every key and type checked.

    Args:
        node: A mapping with `_target_`, the dotted name of a dataclass, and its fields.
        where: What the node is, for messages ("method=grad_cam").
        typed: As in `made`.
        deleted: As in `made`.

    Raises:
        ConfigError: The class cannot be imported, a key is unknown, a value has the wrong type or range.
    """
    try:
        values: Any = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    except OmegaConfBaseException as error:
        raise interpolation(error, where) from error
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: {_short(values)} is no mapping", expected=_TARGET)
    values = {str(name): value for name, value in values.items()}
    cls = dataclass_named(values.pop("_target_", None), where)
    return made(cls, values, where, typed=typed, deleted=deleted)


def dataclass_named(target: object, where: str) -> type:
    """Returns the dataclass that `_target_` names.

    Raises:
        ConfigError: It is no text, cannot be imported or is no dataclass.
    """
    if not isinstance(target, str):
        raise ConfigError(f"{where}: _target_ is {_short(target)}", expected=_TARGET)
    module, _, name = target.rpartition(".")
    cls = getattr(importing.module(module, f"{where}: _target_={target}", _TARGET), name, None)
    if cls is None:
        raise ConfigError(f"{where}: cannot import _target_ {target!r}: {module} has no {name!r}", expected=_TARGET)
    if not (is_dataclass(cls) and isinstance(cls, type)):
        raise ConfigError(
            f"{where}: {target} is no dataclass", expected="a frozen dataclass whose fields are the YAML's keys"
        )
    return cls


def made(
    cls: type,
    values: Mapping[str, Any],
    where: str,
    *,
    typed: Mapping[str, str] | None = None,
    deleted: Iterable[str] = (),
) -> Any:
    """Makes a dataclass of plain values.

    Args:
        cls: The dataclass.
        values: Its fields.
        where: What it is, for messages.
        typed: Dotted field to the text that was typed for it, where this looks like a number: a field of text takes the
            text (`007`).
        deleted: Dotted fields that the user removed with ~.

    Raises:
        ConfigError: A key is unknown or was removed, or a value has the wrong type or range.
    """
    for key in deleted:
        if _field(cls, key):
            raise ConfigError(
                f"{where}{': ' if where else ''}~{key}: every option has a value",
                remedy="set another value instead, null for none",
            )
    try:
        values = _fitted(cls, values, where, "", typed or {})
        if (arguments := _arguments(cls, values)) is not None:
            return cls(**arguments)
        schema = OmegaConf.structured(cls)
        for part_of in (schema, *(item for item in schema.values() if OmegaConf.is_config(item))):
            OmegaConf.set_readonly(part_of, False)  # only the finished object is frozen
        return OmegaConf.to_object(OmegaConf.merge(schema, escaped(values)))
    except OmegaConfBaseException as error:
        if isinstance(error.__cause__, VidattrError):
            raise error.__cause__ from None
        parts = [where, str(getattr(error, "full_key", "") or ""), _short(str(error).splitlines()[0], 300)]
        raise ConfigError(": ".join(part for part in parts if part)) from error


def _arguments(cls: type, values: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the arguments of a dataclass for checked values; None if OmegaConf has to convert one of them.

    OmegaConf needs milliseconds for what takes microseconds here, and a sweep makes thousands of objects.
    """
    hints, arguments = _hints(cls), {}
    for field in fields(cls):
        if not field.init:
            return None
        if field.name in values:
            value = _converted(hints[field.name], values[field.name])
            if value is _UNCLEAR:
                return None
            arguments[field.name] = value
        elif field.default is MISSING and field.default_factory is MISSING:
            return None
    return arguments


def _converted(hint: Any, value: Any) -> Any:
    """Returns a value as the type of its field, or `_UNCLEAR`."""
    (kind, optional), found = _hint(hint), _UNCLEAR
    if value is None:
        return None if optional and kind is not Any else _UNCLEAR
    if kind in (bool, str):
        found = value if type(value) is kind and value != "???" else _UNCLEAR
    elif kind is int:
        found = value if type(value) is int else _UNCLEAR
    elif kind is float:
        found = float(value) if type(value) in (int, float) else _UNCLEAR
    elif isinstance(kind, type) and is_dataclass(kind) and isinstance(value, Mapping):
        complete = value.keys() == {field.name for field in fields(kind)}
        arguments = _arguments(kind, value) if complete else None
        found = _UNCLEAR if arguments is None else kind(**arguments)
    elif isinstance(kind, type) and issubclass(kind, Enum):
        found = kind.__members__.get(value, _UNCLEAR) if type(value) is str else _UNCLEAR
    elif get_origin(kind) is list and type(value) is list:
        items = [_converted(get_args(kind)[0], item) for item in value]
        found = _UNCLEAR if any(item is _UNCLEAR for item in items) else items
    elif value == {} and (kind is dict or get_origin(kind) is dict):
        found = {}
    return found


def interpolation(error: OmegaConfBaseException, where: str = "") -> ConfigError:
    """Returns the error for a `${…}` that cannot be resolved."""
    key = str(getattr(error, "full_key", "") or "")
    remedy = (
        r"${…} stands for another key or ${oc.env:NAME}; "
        r"to mean the characters, put a backslash before the dollar sign: \${…}"
    )
    return ConfigError(
        f"{where}{': ' if where and key else ''}{key}: {_short(str(error).splitlines()[0], 300)}", remedy=remedy
    )


def unknown_key(where: str, key: str, choices: Iterable[str]) -> ConfigError:
    """Returns the error for an option that is none of `choices`."""
    error = unknown("option", key, choices)
    error.found = f"{where}: {error.found}"
    error.args = (f"{where}: {error.args[0]}",)
    return error


def _field(cls: type, key: str) -> bool:
    """Returns whether a dotted key is a field of a dataclass, or of a dataclass in it."""
    first, _, rest = key.partition(".")
    hints = _hints(cls)
    if first not in {field.name for field in fields(cls)}:
        return False
    return not rest or (is_dataclass(hints[first]) and _field(hints[first], rest))


def _fitted(cls: type, values: Mapping[str, Any], where: str, path: str, typed: Mapping[str, str]) -> dict[str, Any]:
    """Returns the values after checks that OmegaConf does not make, or for which its messages are unclear.

    A number in a text field is replaced by the text that was typed.
    """
    hints, known = _hints(cls), [field.name for field in fields(cls)]
    out = dict(values)
    for name, value in values.items():
        if name not in known:
            raise unknown_key(f"{where}{'.' if path else ''}{path[:-1]}", str(name), known)
        key, hint, optional = f"{path}{name}", *_hint(hints[name])
        if value is None and not optional:
            raise _wrong(where, key, value, hint)
        if isinstance(hint, type) and is_dataclass(hint):
            if not isinstance(value, Mapping):
                raise _wrong(where, key, value, hint)
            out[name] = _fitted(hint, value, where, f"{key}.", typed)
        elif hint is str and key in typed and isinstance(value, int | float):
            out[name] = typed[key]
        elif get_origin(hint) is list and value is not None:
            if not isinstance(value, Sequence) or isinstance(value, str):
                raise _wrong(where, key, value, hint)
            (inner,) = get_args(hint)
            for item in value:
                _check(item, inner, where, key, hint)
        elif value is not None:
            _check(value, hint, where, key, hints[name])
    return out


def _check(value: Any, hint: Any, where: str, key: str, shown: Any) -> None:
    """Raises ConfigError for a value of a wrong type that OmegaConf would convert, such as 3 for true, or NaN."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    named = shown is not str  # in a list, and where null is allowed, an empty text is an error
    fine = True
    if hint is bool:
        fine = isinstance(value, bool)
    elif hint is int:
        whole = isinstance(value, int) and number and -_LARGEST <= value < _LARGEST
        fine = whole or (isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,18}", value) is not None)
    elif hint is float:
        fine = number and math.isfinite(value) and abs(value) < _HUGE
    elif hint is str:
        fine = isinstance(value, str | int | float) and (value != "" or not named)
    elif isinstance(hint, type) and issubclass(hint, Enum):
        fine = isinstance(value, hint) or (isinstance(value, str) and value in hint.__members__)
    if not fine:
        raise _wrong(where, key, value, shown)


def _wrong(where: str, key: str, value: Any, hint: Any) -> ConfigError:
    return ConfigError(f"{where}{': ' if where else ''}{key}={_short(value)}", expected=_expected(hint))


@lru_cache(maxsize=512)
def _hints(cls: type) -> dict[str, Any]:
    """Returns the type of each field of a dataclass."""
    return get_type_hints(cls)


def _hint(hint: Any) -> tuple[Any, bool]:
    """Returns a type without its `| None`, and whether it had one."""
    if get_origin(hint) not in (Union, types.UnionType):
        return hint, hint is Any
    inner = [one for one in get_args(hint) if one is not types.NoneType]
    return (inner[0] if len(inner) == 1 else hint), len(inner) < len(get_args(hint))


def _expected(hint: Any) -> str:
    hint, optional = _hint(hint)
    if optional and hint is not Any:
        return f"{_expected(hint)}, or null"
    words = {bool: "true or false", int: "a whole number", float: "a finite number", str: "a text"}
    if isinstance(hint, type) and is_dataclass(hint):
        return f"a mapping of {', '.join(field.name for field in fields(hint))}"
    if get_origin(hint) is list:
        many = {bool: "true or false", int: "whole numbers", float: "finite numbers", str: "texts"}
        (inner,) = get_args(hint)
        return f"a list of {many.get(inner, getattr(inner, '__name__', str(inner)))}, [a,b,c]"
    if get_origin(hint) is dict or hint is dict:
        return "a mapping, {name: value}"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return f"one of {', '.join(hint.__members__)}"
    return words.get(hint, str(getattr(hint, "__name__", hint)))


def _short(value: Any, most: int = _SHOWN) -> str:
    """Returns a value as it is typed on the command line, shortened."""
    plain = isinstance(value, str) and value.isprintable() and value.strip()
    text = {None: "null", True: "true", False: "false"}.get(value) if value is None or isinstance(value, bool) else None
    text = text or (value if plain else repr(value))
    return text if len(text) <= most else f"{text[: most - 1]}…"
