"""What is installed, and which datasets and weights are found on this machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from vidattr.config.catalogue import listing
from vidattr.config.folders import search_order
from vidattr.errors import ConfigError, VidattrError
from vidattr.run.compose import part

_PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "av",
    "opencv-python-headless",
    "scikit-image",
    "hydra-core",
    "safetensors",
    "matplotlib",
)
_EXTRAS = {"transformers": "hf", "openvino": "openvino"}
"""Package to the extra of vidattr that installs it."""


def diagnosis(explicit: Path | None, add: Sequence[Path]) -> list[dict[str, Any]]:
    """Returns a row per thing that a run may need: what it is, whether it works, and what to do where it does not.

    Args:
        explicit: Config folder; None: see `folders.config_dir`.
        add: The user's own config folders.

    Raises:
        ConfigError: A config folder is missing.
    """
    import torch

    from vidattr import __version__

    where = search_order(explicit, add)
    rows = [_row("vidattr", True, f"{__version__}, python {platform.python_version()}, configs {where[-1]}")]
    for name in _PACKAGES:
        try:
            rows.append(_row(name, True, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            rows.append(_row(name, False, "not installed", f"pip install {name}"))
    rows += [_probe(name, partial(_extra, name)) for name in _EXTRAS]
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            gpu = torch.cuda.get_device_properties(i)
            rows.append(_row(f"cuda:{i}", True, f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB"))
    else:
        rows.append(_row("cuda", False, "torch sees no GPU; the CPU is used", "runtime.device=cpu is what auto takes"))
    rows.append(_row("cpu", True, f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads"))
    for row in listing("dataset", where):
        rows.append(_probe(f"dataset {row['name']}", partial(_dataset, row["name"], explicit, add)))
    for row in listing("model", where):
        rows.append(_probe(f"model {row['name']}", partial(_weights, row["name"], explicit, add)))
    return rows


def _row(name: str, ok: bool, found: str, to_do: str | None = None) -> dict[str, Any]:
    return {"name": name, "ok": ok, "found": found, "to_do": to_do}


def _probe(name: str, look: Callable[[], str]) -> dict[str, Any]:
    try:
        return _row(name, True, look())
    except VidattrError as error:
        return _row(name, False, error.found, error.remedy)


def _extra(name: str) -> str:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError as error:
        raise ConfigError("not installed", remedy=f"pip install 'vidattr[{_EXTRAS[name]}]'") from error
    return f"{version}, {_converts()}" if name == "openvino" else version


def _converts() -> str:
    """Converts one convolution, and returns a line that it works; raises ConfigError where it does not."""
    import torch

    from vidattr.models.speed.converted import Converted

    with torch.no_grad():
        Converted(torch.nn.Conv3d(1, 2, 3).requires_grad_(False))(torch.ones(1, 1, 4, 4, 4))
    return "runtime.backend=openvino converts a convolution"


def _dataset(name: str, folder: Path | None, add: Sequence[Path]) -> str:
    index = part("dataset", name, {}, folder=folder, add=add).index()
    problems = f", {len(index.problems)} problems" if index.problems else ""
    return "; ".join([f"{len(index.clips)} clips{problems}", *index.notes])


def _weights(name: str, folder: Path | None, add: Sequence[Path]) -> str:
    model = part("model", name, {}, folder=folder, add=add)
    path = model.weights_file()
    if path is None and model.weights is None:
        raise ConfigError("no weights are named", remedy="model.weights=FILE")
    if path is not None and not path.is_file():
        raise ConfigError(f"no such file: {path}", remedy="model.weights=FILE")
    return f"weights {path}" if path else f"weights {model.weights!r}, by name: downloaded at first use"


def text(rows: Sequence[dict[str, Any]]) -> str:
    """Returns the diagnosis for people."""
    width = max(len(row["name"]) for row in rows)
    return "\n".join(
        f"{'ok' if row['ok'] else '--'}  {row['name']:<{width}}  {row['found']}"
        + (f"\n    {'':<{width}}  to do: {row['to_do']}" if row["to_do"] and not row["ok"] else "")
        for row in rows
    )
