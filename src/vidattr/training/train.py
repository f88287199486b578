"""Trains a network on the clips of a dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vidattr.config.identity import describe
from vidattr.config.runtime import Backend, Precision, Runtime
from vidattr.errors import ConfigError
from vidattr.protocols import Dataset, ModelConfig
from vidattr.training.head import prepared
from vidattr.training.loop import Loop
from vidattr.training.material import Material
from vidattr.training.processes import started
from vidattr.training.recipes import Recipe
from vidattr.training.sets import sets_of
from vidattr.training.trainable import check_class, check_loads
from vidattr.writing import explained, sweep


@dataclass(frozen=True)
class Result:
    """The result of a training.

    Attributes:
        weights: The file of weights that the recipe selects; `model.weights` takes it.
        epoch: The epoch of these weights.
        last: The last epoch.
        accuracy: Set of clips ("train" and the measured sets) to its accuracy in that epoch, as in the log.
        left_out: Number of clips that are missing or cannot be decoded; `errors.jsonl` names them.
        first: Whether this is the process that writes and prints.
    """

    weights: Path
    epoch: int
    last: int
    accuracy: Mapping[str, str]
    left_out: int
    first: bool

    def text(self) -> str:
        """Returns the result for people."""
        accuracy = ", ".join(f"{name} {value}" for name, value in self.accuracy.items())
        return f"weights of epoch {self.epoch} of {self.last}, accuracy: {accuracy}: {self.weights}"


def train(
    recipe: Recipe,
    model: ModelConfig,
    dataset: Dataset | None = None,
    *,
    out: Path,
    runtime: Runtime | None = None,
    notes: Sequence[str] = (),
    force: bool = False,
    quiet: bool = False,
) -> Result:
    """Trains a network from the model's own weights, and writes into `out` after each epoch.

    The files are: `state.safetensors`, from which a killed training continues, with the same result as without the kill
    (bit for bit on a CPU with the same number of threads); `last.safetensors`, and `best.safetensors` if the recipe
    selects an epoch: weights with class names and preprocessing, for `model.weights`; `log.csv`, `curves.png`, and
    `errors.jsonl` if a clip was left out.

    Args:
        recipe: The recipe.
        model: The model config; its weights are the initial weights.
        dataset: The clips, in addition to the datasets that the recipe names.
        out: The folder; it is made if it does not exist. If it holds a part of this training, training continues.
        runtime: Device, precision, decoding threads, and the largest number of clips in a pass when accuracy is
            measured.
        notes: Notes about the model, which are printed.
        force: Whether an existing folder is renamed, and training starts from the beginning.
        quiet: Whether progress is kept silent.

    Raises:
        ConfigError: Nothing can be trained, a clip's class is not one of the network's, or `out` holds another
            training.
        VidattrError: The loss diverged, or another process of this training ended.
        OutputError: A file cannot be written.
    """
    runtime = runtime or Runtime()
    if runtime.backend is not Backend.torch:
        raise ConfigError(
            f"vidattr train with runtime.backend={runtime.backend}",
            expected="torch, which computes gradients",
            remedy="leave out runtime.backend",
        )
    check_class(type(model), type(model).__name__)
    with started(runtime.torch_device()) as (processes, device):
        quiet = quiet or not processes.first
        found = sets_of(recipe, dataset)
        found.notes += notes
        network = model.load()
        prepared(network, recipe, found.all(), found.classes)
        check_loads(network, model, out, processes)
        network.run_with(runtime, device, fold=False)
        if recipe.mixed_precision and device.type == "cuda" and torch.cuda.is_bf16_supported():
            network.precision = Precision.bfloat16
        material = Material(found, network, recipe, processes, workers=runtime.threads(), quiet=quiet)
        if processes.first:
            material.tell()
            if force:
                _move_aside(out)
            sweep(out)
        processes.gathered(None)  # nobody reads the folder before it is tidy
        identity = {
            "recipe": describe(recipe),
            "model": describe(model),
            "dataset": None if dataset is None else describe(dataset),
            "clips": material.identity(),
            "classes": list(network.classes),
            "precision": runtime.precision.value,
            "processes": processes.count,
        }
        loop = Loop(network, model, recipe, material, identity, processes, out=out, quiet=quiet)
        with network.arithmetic(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            loop.resume()
            loop.run()
        return _result(loop)


def _result(loop: Loop) -> Result:
    best = loop.best()
    epoch = loop.state.epoch if best is None else best
    row: dict[str, Any] = dict(loop.state.rows[epoch - 1])
    return Result(
        weights=loop.out / ("last.safetensors" if best is None else "best.safetensors"),
        epoch=epoch,
        last=loop.state.epoch,
        accuracy={name: row[name] for name in ("train", *loop.material.measured)},
        left_out=len(loop.material.errors),
        first=loop.processes.first,
    )


def _move_aside(out: Path) -> None:
    if not out.exists():
        return
    aside = next(path for n in range(1, 10**6) if not (path := out.with_name(f"{out.name}.old-{n}")).exists())
    try:
        out.rename(aside)
    except OSError as error:
        raise explained(error, aside) from error
