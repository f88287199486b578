"""What there is to choose from, and what of it works on this machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vidattr.config.compose import added_folders, config_dir, part
from vidattr.errors import ConfigError, VidattrError

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


def folders(explicit: Path | None, add: Sequence[Path]) -> list[Path]:
    """Returns the config folders in the order in which they are searched; raises ConfigError where one is missing."""
    return [*added_folders(add), config_dir(explicit)]


def listing(role: str, where: Sequence[Path]) -> list[dict[str, str]]:
    """Returns name, summary and source of every choice of a role, from the two comment lines that open its YAML."""
    rows: dict[str, dict[str, str]] = {}
    for folder in where:
        for path in sorted((folder / role).glob("*.yaml")):
            head = [line.removeprefix("#").strip() for line in _first_lines(path) if line.startswith("#")]
            summary, source = (*head, "", "")[:2]
            name = path.stem
            rows.setdefault(
                name,
                {"name": name, "summary": summary, "source": source.partition(":")[2].strip(), "config": str(path)},
            )
    return [rows[name] for name in sorted(rows)]


def _first_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()[:2]
    except OSError as error:
        return [f"# cannot be read: {error.strerror}"]


def text(rows: Sequence[dict[str, str]]) -> str:
    """Returns a listing for people: name, summary, and the source beneath."""
    width = max((len(row["name"]) for row in rows), default=0)
    return "\n".join(f"{row['name']:<{width}}  {row['summary']}\n{'':<{width}}  {row['source']}" for row in rows)


def diagnosis(explicit: Path | None, add: Sequence[Path]) -> list[dict[str, Any]]:
    """Returns a row per thing that a run may need: what it is, whether it is there, and what to do where it is not."""
    import torch

    from vidattr import __version__

    where = folders(explicit, add)
    rows = [_row("vidattr", True, f"{__version__}, python {platform.python_version()}, configs {where[-1]}")]
    for name in _PACKAGES:
        try:
            rows.append(_row(name, True, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            rows.append(_row(name, False, "not installed", f"pip install {name}"))
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            gpu = torch.cuda.get_device_properties(i)
            rows.append(_row(f"cuda:{i}", True, f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB"))
    else:
        rows.append(_row("cuda", False, "torch sees no GPU; the CPU is used", "runtime.device=cpu is what auto takes"))
    rows.append(_row("cpu", True, f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads"))
    for row in listing("dataset", where):
        rows.append(_probe(f"dataset {row['name']}", lambda name=row["name"]: _dataset(name, explicit, add)))
    for row in listing("model", where):
        rows.append(_probe(f"model {row['name']}", lambda name=row["name"]: _weights(name, explicit, add)))
    return rows


def _row(name: str, ok: bool, found: str, to_do: str | None = None) -> dict[str, Any]:
    return {"name": name, "ok": ok, "found": found, "to_do": to_do}


def _probe(name: str, look: Any) -> dict[str, Any]:
    try:
        return _row(name, True, look())
    except VidattrError as error:
        return _row(name, False, error.found, error.remedy)


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


def diagnosis_text(rows: Sequence[dict[str, Any]]) -> str:
    """Returns the diagnosis for people."""
    width = max(len(row["name"]) for row in rows)
    return "\n".join(
        f"{'ok' if row['ok'] else '--'}  {row['name']:<{width}}  {row['found']}"
        + (f"\n    {'':<{width}}  to do: {row['to_do']}" if row["to_do"] and not row["ok"] else "")
        for row in rows
    )
