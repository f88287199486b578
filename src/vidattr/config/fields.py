"""Fields of plug-ins' dataclasses that enter the run key otherwise than by their value."""

from __future__ import annotations

from dataclasses import field
from types import MappingProxyType
from typing import Any

LATER = MappingProxyType({"identity": "unless default"})
"""Metadata of a field that enters the run key only where it is not its default: what was there before the field keeps its key."""


def not_in_key(default: Any) -> Any:
    """Returns a dataclass field that never changes a number (a folder, a subset of clips) and stays out of the run key."""
    return field(default=default, metadata={"identity": "skip"})


def keyed_by_content(default: Any) -> Any:
    """Returns a dataclass field that names a file and enters the run key by the sha256 of its content, never by its path."""
    return field(default=default, metadata={"identity": "sha256"})


def keyed_by_code(default: Any) -> Any:
    """Returns a dataclass field that names code, "package.module:name"; it enters the run key by name and content."""
    return field(default=default, metadata={"identity": "code"})
