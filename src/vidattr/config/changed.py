"""The options of an experiment that differ from the configs of its choices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

ROLES = ("dataset", "model", "method", "metric")
TOP = ("seed", "target", "limit", "per_class")


def changed(defaults: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns role, or "" for the top level, to the options that differ from its config: dotted name to value.

    Args:
        defaults: Role to the values of its config, interpolations unresolved; "" to those of the top level.
        values: The configuration of the experiment.
    """
    found = {role: dict(_different(defaults.get(role), values.get(role))) for role in ROLES}
    top = defaults.get("", {})
    found[""] = {name: values[name] for name in TOP if name in values and values[name] != top.get(name)}
    return {role: options for role, options in found.items() if options}


def _different(default: Any, value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(default, Mapping) and isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _different(default.get(name), inner, f"{path}.{name}" if path else str(name))
    elif path and default != value and not (isinstance(default, str) and "${" in default):
        yield path, value


def text(options: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Returns options as they are typed: "model.input.frames=8"."""
    return [f"{prefix}{name}={as_typed(value)}" for name, value in options.items()]


def as_typed(value: Any) -> str:
    """Returns a value as it is typed on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"[{','.join(map(as_typed, value))}]" if isinstance(value, list) else str(value)
