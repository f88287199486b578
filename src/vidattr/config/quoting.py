"""Texts in Hydra's grammar and in OmegaConf: quoted and escaped so that they mean exactly what was typed."""

from __future__ import annotations

import os
import re
from typing import Any


def quoted(text: str, mark: str = "'") -> str:
    """Returns a text as a quoted value of Hydra's grammar, which stands for exactly this text."""
    text = escaped(text)
    text = re.sub(
        rf"(\\*){mark}", lambda found: found[1] * 2 + "\\" + mark, text
    )  # only what stands before a quote is special
    return mark + re.sub(r"(\\+)\Z", lambda found: found[1] * 2, text) + mark


def escaped(value: Any) -> Any:
    """Returns a value of which OmegaConf takes no text for an interpolation."""
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + "\\${", value)
    if isinstance(value, os.PathLike):
        return escaped(os.fspath(value))
    if hasattr(value, "tolist"):  # of numpy or torch
        return escaped(value.tolist())
    if isinstance(value, dict):
        return {name: escaped(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [escaped(one) for one in value]
    return value


def is_text(text: str) -> bool:
    """Says whether a command line may hold this text."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def exists(path: str) -> bool:
    """Says whether there is a file, a folder or a link of this name; false for what can be no name."""
    try:
        return os.path.lexists(path)
    except ValueError:
        return False
