"""vidattr: which pixels, when, made a video network say what it said, and whether the explanation can be trusted."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# OpenCV reads these once, when it is imported. A picture whose header promises more pixels than any video has would
# exhaust the memory; and what it has to say about a bad file is in the error of the clip.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**27))
os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")

__version__ = "0.1.0"
__all__ = ["explain", "load_method", "load_model", "read_clip"]

if TYPE_CHECKING:
    from vidattr.api import explain, load_method, load_model, read_clip


def __getattr__(name: str) -> Any:
    """Imports the Python interface, and torch with it, only when it is used: `vidattr --help` needs neither."""
    if name in __all__:
        return getattr(import_module("vidattr.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
