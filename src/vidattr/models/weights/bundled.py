"""Weights of the two small networks that the package brings along, with their training logs."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from vidattr.models.weights.checkpoint import located


def weights_path(weights: str, name: str) -> Path | None:
    """Returns the file that a small network's `weights` stands for.

    Args:
        weights: "package", "random", or a file's path.
        name: The network's name in `vidattr.models.weights.data`.

    Returns:
        The file, or None for "random".

    Raises:
        ConfigError: The path is empty.
    """
    if weights == "random":
        return None
    return (
        Path(str(files("vidattr.models.weights.data") / f"{name}.safetensors"))
        if weights == "package"
        else located(weights or None)
    )
