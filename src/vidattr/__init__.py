"""vidattr: which pixels, when, made a video network say what it said, and whether the explanation can be trusted."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "ClipExplanation",
    "Judgement",
    "StoredRun",
    "explain",
    "judge",
    "load_method",
    "load_metric",
    "load_model",
    "open_run",
    "read_clip",
]

if TYPE_CHECKING:
    from vidattr.api import (
        ClipExplanation,
        Judgement,
        StoredRun,
        explain,
        judge,
        load_method,
        load_metric,
        load_model,
        open_run,
        read_clip,
    )


def __getattr__(name: str) -> Any:
    """Imports the Python interface, and torch with it, only when it is used: `vidattr --help` needs neither."""
    if name in __all__:
        return getattr(import_module("vidattr.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Returns the Python interface: what `from vidattr import` gives, whether or not it is imported yet."""
    return sorted([*__all__, "__doc__", "__version__"])
