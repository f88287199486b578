"""Which networks can be used now: their weights are bundled, stored on this machine, or downloaded by name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vidattr.config.choices import Choices
from vidattr.config.folders import added_folders, config_dir, hydra, options
from vidattr.errors import ConfigError


def no_model(video: str, folder: Path | None, add: Sequence[Path], out: str = "visual_res") -> ConfigError:
    """Returns the error for a command that was told no network; it lists what there is and how to choose.

    Args:
        video: Named in the command that the message proposes.
        folder: Config folder.
        add: Further config folders.
        out: Where networks that were trained here are looked for.
    """
    kinds = _kinds(folder, add)
    trained = sorted(Path(out).glob("train/*/*/best.safetensors"))
    lines = [
        _line("weights on this machine", kinds["found"]),
        _line("weights downloaded at first use", kinds["downloaded"]),
        _line("with model.weights=FILE", kinds["file"]),
        _line("bundled, for the drawn shapes of dataset=synthetic only", kinds["package"]),
        *(f"\n    trained here: model={path.parts[-3]} model.weights={path}" for path in trained[:5]),
    ]
    first = next((names[0] for kind in ("found", "downloaded") if (names := kinds[kind])), "NAME")
    return ConfigError(
        "no network was chosen",
        expected="model=NAME" + "".join(lines),
        remedy=f"vidattr explain {video[:200]} model={first}; docs/NETWORKS.md compares the networks, "
        "`vidattr doctor` looks for all weights, model=custom takes a network of your own",
    )


def _line(what: str, names: Sequence[str]) -> str:
    return f"\n    {what}: {', '.join(names)}" if names else ""


def _kinds(folder: Path | None, add: Sequence[Path]) -> dict[str, list[str]]:
    """Returns the names of models by where their weights are, from their YAML files; no class is imported."""
    kinds: dict[str, list[str]] = {"found": [], "downloaded": [], "file": [], "package": []}
    with hydra(config_dir(folder), added_folders(add)):
        choices = Choices()
        for name in options("model"):
            weights: Any = (choices.node("model", name) or {}).get("weights")
            if weights is None:
                kinds["file"].append(name)
            elif weights == "package":
                kinds["package"].append(name)
            elif os.path.exists(os.path.expanduser(str(weights))) or any(_downloads().glob(f"{name}-*.pth")):
                kinds["found"].append(name)
            elif os.sep in str(weights) or weights == "random":
                kinds["file"].append(name)
            else:
                kinds["downloaded"].append(name)
    return kinds


def _downloads() -> Path:
    """Returns the folder in which torch keeps weights that it downloaded."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("TORCH_HOME") or os.path.join(cache, "torch")
    return Path(os.path.expanduser(home)) / "hub" / "checkpoints"
