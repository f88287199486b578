"""Overrides of several origins as one list: of two that set the same key, the later holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def layered(*origins: Sequence[str]) -> list[str]:
    """Returns the overrides that hold, in their order.

    A later choice (`model=r3d_50`) also drops what earlier overrides set in the choice before it (`model.weights=…`).
    """
    found: dict[str, str] = {}
    for override in (one for origin in origins for one in origin):
        key = key_of(override)
        if "." not in key:
            found = {other: one for other, one in found.items() if not other.startswith(f"{key}.")}
        found.pop(key, None)
        found[key] = override
    return list(found.values())


def key_of(override: str) -> str:
    """Returns the key that an override sets."""
    return override.partition("=")[0].lstrip("+~")


def chosen(overrides: Iterable[str], role: str) -> str | None:
    """Returns the name that the last `<role>=<name>` of some overrides chooses; None: there is none."""
    names = [one.partition("=")[2] for one in overrides if key_of(one) == role]
    return names[-1] if names else None


def without(overrides: Iterable[str], role: str) -> list[str]:
    """Returns the overrides that neither choose a role nor set anything in it."""
    return [one for one in overrides if key_of(one) != role and not key_of(one).startswith(f"{role}.")]
