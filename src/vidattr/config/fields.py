"""Declares fields of plug-ins that do not enter the run key by their value."""

from __future__ import annotations

from dataclasses import field
from types import MappingProxyType
from typing import Any

LATER = MappingProxyType({"identity": "unless default"})
"""Metadata of a field that enters the run key only if it differs from its default.

For a field that is added later: runs from before keep their key.
"""


def not_in_key(default: Any) -> Any:
    """Returns a dataclass field that changes no number (a folder, a subset of clips) and is not in the run key."""
    return field(default=default, metadata={"identity": "skip"})


def keyed_by_content(default: Any) -> Any:
    """Returns a dataclass field that names a file; the sha256 of its content enters the run key, its path does not."""
    return field(default=default, metadata={"identity": "sha256"})


def keyed_by_code(default: Any) -> Any:
    """Returns a dataclass field that names code, "package.module:name"; name and content enter the run key."""
    return field(default=default, metadata={"identity": "code"})
