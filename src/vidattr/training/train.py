"""Trains a network on clips that fit into memory; this made the weights that come with the package."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor
from tqdm import tqdm

from vidattr.config.building import build
from vidattr.errors import ConfigError, unknown
from vidattr.labels import plain
from vidattr.models.network.network import VideoModel
from vidattr.models.network.output import loss_of
from vidattr.protocols import Dataset, ModelConfig
from vidattr.run.doubts import told
from vidattr.types import Clip, Sample
from vidattr.video import decode
from vidattr.writing import sweep, write_bytes, write_text

_READERS = 2


class Axis(IntEnum):
    """An axis of (N, T, H, W, 3) pixels along which a flipped clip keeps its class."""

    time = 1
    height = 2
    width = 3


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    AdamW (Loshchilov and Hutter, ICLR 2019, arXiv 1711.05101) on the cross-entropy, its rate going up and down once
    (Smith and Topin, 2018, arXiv 1708.07120). The weights are those after the last epoch: nothing is chosen by the
    held-out clips.

    Attributes:
        train: Name to the config of a dataset (`_target_` and fields); the clips of all of them are mixed.
        held_out: The same for datasets on which the accuracy is measured after each epoch, each on its own.
        epochs: Passes over the clips.
        batch: Clips in a step. The last few clips of an epoch that do not fill one are left out, others in each epoch.
        lr: The highest rate.
        warm_up: Share of the steps in which the rate rises.
        weight_decay: Of AdamW.
        flips: Axes, of time, height and width, along which a clip is flipped with probability 1/2.
        permute_colours: Whether the colour channels of a clip are put into a random order.
        seed: Of order and augmentation. Where the weights begin is the model's affair.
    """

    train: dict[str, Any] = field(default_factory=dict)
    held_out: dict[str, Any] = field(default_factory=dict)
    epochs: int = 10
    batch: int = 16
    lr: float = 0.004
    warm_up: float = 0.3
    weight_decay: float = 0.01
    flips: list[Axis] = field(default_factory=list)
    permute_colours: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "lr"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"recipe.{name}={getattr(self, name)}", expected="a positive number")
        for name in ("weight_decay", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"recipe.{name}={getattr(self, name)}", expected="zero or more")
        if not 0 < self.warm_up < 1:
            raise ConfigError(f"recipe.warm_up={self.warm_up}", expected="a share between 0 and 1")
        if not self.train:
            raise ConfigError(
                "recipe.train names no dataset", expected="a name, and under it _target_ and the fields of a dataset"
            )


@dataclass(frozen=True)
class _Footage:
    """Decoded clips: (N, T, H, W, 3) uint8 pixels, and the index of each clip's class."""

    pixels: Tensor
    labels: Tensor


def train(recipe: Recipe, model: ModelConfig, *, device: torch.device, out: Path, quiet: bool = False) -> Path:
    """Trains from the model's own weights and writes `out/<model>.safetensors` and `out/<model>.csv` after each epoch.

    On a CPU, the same recipe, model and number of threads give the same bytes of weights.

    Args:
        recipe: How.
        model: What; its weights are where training starts ("random", where a model offers it).
        device: On what.
        out: A folder, made if need be; files of the same names are replaced, whole.
        quiet: Whether progress is kept silent.

    Returns:
        The file of weights, which `model.weights` accepts.

    Raises:
        ConfigError: Nothing can be trained, a clip is of a class that the network does not know, or the loss diverged.
    """
    network = model.load().to(device)
    parameters = list(network.module.requires_grad_().parameters())
    if not parameters:
        raise ConfigError(f"{type(model).__name__} has no parameters", expected="a network that can be trained")
    mixed = _footage(_clips(recipe.train, "train", quiet), network, device, quiet)
    held_out = {
        name: _footage(_clips({name: node}, "held_out", quiet), network, device, quiet)
        for name, node in recipe.held_out.items()
    }
    steps = len(mixed.labels) // recipe.batch
    if not steps:
        raise ConfigError(
            f"recipe.batch={recipe.batch} with {len(mixed.labels)} clips", expected="at least one full batch of clips"
        )

    optimiser = torch.optim.AdamW(parameters, recipe.lr, weight_decay=recipe.weight_decay)
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.lr, total_steps=recipe.epochs * steps, pct_start=recipe.warm_up
    )
    random = torch.Generator().manual_seed(recipe.seed)
    path = out / f"{type(model).__module__.rpartition('.')[2]}.safetensors"
    sweep(out)
    rows: list[dict[str, str]] = []
    for epoch in range(1, recipe.epochs + 1):
        start = time.monotonic()
        losses, hits = [], []
        network.module.train()
        for frames, labels in tqdm(
            _batches(mixed, network, recipe, random), f"epoch {epoch}", steps, leave=False, disable=quiet
        ):
            logits = network(frames)
            loss = loss_of(logits, labels, network.output)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            rate.step()
            losses.append(loss.detach())
            hits.append(logits.argmax(1) == labels)
        network.module.eval()
        row = {"loss": torch.stack(losses).mean().item(), "train": torch.cat(hits).float().mean().item()}
        if not torch.isfinite(torch.tensor(row["loss"])):
            raise ConfigError(
                f"the loss is {row['loss']} in epoch {epoch}", expected="a number", remedy="a smaller recipe.lr"
            )
        row |= {name: accuracy(network, footage.pixels, footage.labels) for name, footage in held_out.items()}
        shown = {name: f"{value:.4f}" for name, value in row.items()}
        rows.append({"epoch": str(epoch), **shown, "seconds": f"{time.monotonic() - start:.1f}"})
        if not quiet:
            tqdm.write("  ".join(f"{name} {value}" for name, value in rows[-1].items()), sys.stderr)
        _write(path, network, rows)
    return path


@torch.no_grad()
def accuracy(network: VideoModel, pixels: Tensor, labels: Tensor) -> float:
    """Returns the share of clips, (N, T, H, W, 3) uint8, whose class (N,) the network ranks first."""
    chunks = zip(torch.split(pixels, network.max_batch), torch.split(labels, network.max_batch), strict=True)
    return (
        torch.cat([network(network.view.normalise(chunk)).argmax(1) == wanted for chunk, wanted in chunks])
        .float()
        .mean()
        .item()
    )


def _clips(nodes: Mapping[str, Any], role: str, quiet: bool) -> list[Clip]:
    clips: list[Clip] = []
    for name, node in nodes.items():
        dataset: Dataset = build(node, f"recipe.{role}.{name}")
        index = dataset.index()
        clips += index.clips
        for text in told({}, index.notes):
            tqdm.write(f"recipe.{role}.{name}: {text}", sys.stderr)
        if index.problems and not quiet:
            first = index.problems[0]
            tqdm.write(
                f"recipe.{role}.{name}: {len(index.problems)} clips left out, first {first.clip}: {first.message}",
                sys.stderr,
            )
    return clips


def _footage(clips: Sequence[Clip], network: VideoModel, device: torch.device, quiet: bool) -> _Footage:
    for clip in clips:
        if plain(clip.label) not in network.places:
            raise unknown(f"label of clip {clip.id}:", clip.label, network.classes)

    def read(clip: Clip) -> Sample:
        return decode.read(clip, network.view)

    with ThreadPoolExecutor(_READERS) as pool:
        samples = list(tqdm(pool.map(read, clips), "reading", len(clips), leave=False, disable=quiet))
    for text in told({clip.id: sample.warnings for clip, sample in zip(clips, samples, strict=True)}):
        tqdm.write(text, sys.stderr)
    pixels = [torch.from_numpy(sample.pixels) for sample in samples]
    labels = torch.tensor([network.places[plain(clip.label)] for clip in clips])
    return _Footage(torch.stack(pixels).to(device), labels.to(device))


def _batches(
    footage: _Footage, network: VideoModel, recipe: Recipe, random: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields the clips in random order as the network takes them, augmented, and their labels."""
    device = footage.labels.device
    order = torch.randperm(len(footage.labels), generator=random)
    for batch in torch.split(order[: len(order) // recipe.batch * recipe.batch], recipe.batch):
        chosen = batch.to(device)
        pixels = footage.pixels[chosen]
        for axis in recipe.flips:
            flipped = torch.rand(len(pixels), 1, 1, 1, 1, generator=random).to(device) < 0.5
            pixels = torch.where(flipped, pixels.flip(axis), pixels)
        if recipe.permute_colours:
            channels = torch.rand(len(pixels), 1, 1, 1, 3, generator=random).argsort(-1).to(device)
            pixels = torch.take_along_dim(pixels, channels, -1)
        # Convolutions on a CPU are faster by half when a pixel's channels lie side by side.
        yield network.view.normalise(pixels).contiguous(memory_format=torch.channels_last_3d), footage.labels[chosen]


def _write(path: Path, network: VideoModel, rows: Sequence[Mapping[str, str]]) -> None:
    """Writes weights and log, each whole."""
    state = {name: tensor.contiguous().cpu() for name, tensor in network.module.state_dict().items()}
    metadata = {"class_names": json.dumps(network.classes)}  # one entry: safetensors writes several in any order
    write_bytes(path, save(state, metadata))
    table = io.StringIO(newline="")
    log = csv.DictWriter(table, list(rows[0]))
    log.writeheader()
    log.writerows(rows)
    write_text(path.with_suffix(".csv"), table.getvalue())
