"""Overrides to a training: recipe, dataset, model and runtime, all checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from vidattr.config.building import build, dataclass_named
from vidattr.config.folders import added_folders, config_dir, hydra, options
from vidattr.config.hydra_errors import composed as hydra_composed
from vidattr.config.overrides import Setting
from vidattr.config.runtime import Runtime
from vidattr.config.sweep import points
from vidattr.errors import ConfigError
from vidattr.protocols import Dataset, ModelConfig
from vidattr.run.compose import GROUPS, compose_whole
from vidattr.training.recipes import Recipe, Start
from vidattr.training.sets import check
from vidattr.training.trainable import check_class


@dataclass(frozen=True)
class Training:
    """A composed training: the names of the chosen configs, and their objects."""

    names: dict[str, str]
    recipe: Recipe
    dataset: Dataset | None
    model: ModelConfig
    runtime: Runtime
    notes: tuple[str, ...]
    out: Path

    @property
    def folder(self) -> Path:
        """Where its files are written unless `--out` names another folder."""
        data = f"{self.names['dataset']}-" if self.dataset is not None else ""
        return self.out / "train" / self.names["model"] / f"{data}{self.names['recipe']}"


def composed(overrides: Sequence[str], *, folder: Path | None = None, add: Sequence[Path] = ()) -> Training:
    """Composes the recipe, dataset, model and runtime of `vidattr train`.

    Raises:
        ConfigError: An unknown choice or option, a wrong type, a sweep, or a model that cannot be trained.
    """
    with hydra(config_dir(folder), added_folders(add)):
        first, *others = points(overrides, GROUPS["train"], options, "train")
        if others:
            several = ", ".join(sorted({setting.key for setting in first if setting.varies}))
            raise ConfigError(
                f"{several} names several values",
                expected="one: nothing is swept here",
                remedy="quote it to mean a text",
            )
        _check_model(first)
        values, names, parts = compose_whole("train", first)
    found: dict[str, Any] = {
        role: parts[role].part if role in parts else None for role in ("recipe", "dataset", "model", "runtime")
    }
    recipe = cast("Recipe", found["recipe"])
    if recipe.start is Start.random and not any(setting.key == "model.weights" for setting in first):
        found["model"] = build({**values["model"], "weights": "random"}, f"model={names['model']}")
    check(recipe, found["dataset"])  # a typo there is found before anything is loaded
    return Training(names=dict(names), out=Path(str(values["paths"]["out"])), notes=parts["model"].notes, **found)


def _check_model(point: Sequence[Setting]) -> None:
    """Raises ConfigError where the chosen model config cannot be trained, before it looks for its weights."""
    config, names = hydra_composed("train", [setting.override for setting in point])
    target, name = OmegaConf.select(config, "model._target_"), f"model={names.get('model')}"
    check_class(dataclass_named(target, name), name)
