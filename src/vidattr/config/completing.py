"""What a shell proposes while an override is typed: roles, then the names of their choices. Only folders are read."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from vidattr.errors import ConfigError

ROLES = ("dataset", "model", "method", "metric", "recipe", "render")


def overrides(args: list[str], incomplete: str) -> list[str]:
    """Returns what an argument may become: `method=` for `me`, `method=grad_cam` for `method=grad`.

    Of a sweep the last value is completed. Bash splits a word at `=`: then `args` ends with `method` and `=`, and
    names are proposed without the role.

    Args:
        args: The words before it.
        incomplete: The word as typed so far.
    """
    if incomplete == "=" and args and args[-1] in ROLES:
        return _names(args[-1], "", "")
    if len(args) > 1 and args[-1] == "=" and args[-2] in ROLES:
        return _names(args[-2], incomplete, "")
    role, equals, value = incomplete.partition("=")
    if not equals:
        return [f"{one}=" for one in ROLES if one.startswith(incomplete)]
    return _names(role, value, f"{role}=") if role in ROLES else []


def _names(role: str, value: str, head: str) -> list[str]:
    """Returns the values that begin with the names typed before the last comma, and end with each name that fits."""
    from vidattr.config.folders import added_folders  # imports Hydra, which --help must not wait for

    before, comma, last = value.rpartition(",")
    try:
        folders = [*added_folders(), Path(str(files("vidattr.configs")))]
    except ConfigError:
        return []
    found = sorted({path.stem for folder in folders for path in (folder / role).glob("*.yaml")})
    taken = before.split(",")
    return [f"{head}{before}{comma}{name}" for name in found if name.startswith(last) and name not in taken]
