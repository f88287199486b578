from __future__ import annotations

import csv
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from vidattr.datasets.synthetic import CLASSES, Synthetic
from vidattr.errors import ConfigError, OutputError
from vidattr.models.network.network import VideoModel
from vidattr.models.tiny_cnn_lstm import TinyCNNLSTM
from vidattr.models.tiny_r2plus1d import TinyR2Plus1D
from vidattr.models.weights.checkpoint import read
from vidattr.training import train as training
from vidattr.training.train import Axis, Recipe, accuracy, train
from vidattr.video.preprocessing import Preprocessing

CPU = torch.device("cpu")
VIEW = Preprocessing(frames=8, size=[32, 32], mean=[0.4, 0.4, 0.4], std=[0.25, 0.25, 0.25])
MODELS = pytest.mark.parametrize(
    "model", [TinyR2Plus1D("random", input=VIEW), TinyCNNLSTM("random", input=VIEW)], ids=["r2plus1d", "cnn_lstm"]
)


def node(**fields: Any) -> dict[str, Any]:
    return {"_target_": "vidattr.datasets.synthetic.Synthetic", "frames": 8, "size": 32, **fields}


def recipe(**fields: Any) -> Recipe:
    """Textures, which are learnt in a few steps."""
    sets = {
        "train": {"a": node(variant="texture", split="train", clips=24)},
        "held_out": {"b": node(variant="texture", clips=4)},
    }
    return Recipe(**{**sets, "epochs": 3, "batch": 8, "lr": 0.01, **fields})


def rows(path: Path) -> list[dict[str, str]]:
    with path.with_suffix(".csv").open(newline="") as file:
        return list(csv.DictReader(file))


@dataclass(frozen=True)
class Given:
    """A model that is whatever module the test made."""

    version: ClassVar[int] = 1

    module: nn.Module
    input: Preprocessing = VIEW
    classes: tuple[str, ...] = CLASSES

    def load(self) -> VideoModel:
        return VideoModel(self.module, self.input, self.classes)


class Watched(nn.Module):
    """Remembers what it is shown."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(len(CLASSES)))
        self.scale, self.seen = scale, list[Tensor]()

    def forward(self, frames: Tensor) -> Tensor:
        if self.training:
            self.seen.append(frames.detach().clone())
        return self.scale * self.bias.expand(len(frames), -1)


@MODELS
def test_loss_falls_and_weights_are_the_same_bytes_each_time(model: TinyR2Plus1D | TinyCNNLSTM, tmp_path: Path) -> None:
    paths = [train(recipe(), model, device=CPU, out=tmp_path / name, quiet=True) for name in ("once", "again")]
    losses = [float(row["loss"]) for row in rows(paths[0])]
    assert losses[-1] < losses[0] - 0.1
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert (
        train(recipe(seed=1), model, device=CPU, out=tmp_path / "other", quiet=True).read_bytes()
        != paths[0].read_bytes()
    )


@MODELS
def test_weights_load_into_the_model_and_score_what_the_log_says(
    model: TinyR2Plus1D | TinyCNNLSTM, tmp_path: Path
) -> None:
    path = train(recipe(), model, device=CPU, out=tmp_path, quiet=True)
    assert path == tmp_path / f"{type(model).__module__.rpartition('.')[2]}.safetensors"
    network = replace(model, weights=str(path)).load()
    assert network.classes == CLASSES
    clips = training._footage(training._clips(recipe().held_out, "held_out", True), network, CPU, True)
    assert accuracy(network, clips.pixels, clips.labels) == pytest.approx(float(rows(path)[-1]["b"]), abs=1e-4)


def test_log_has_a_row_an_epoch_and_a_column_a_held_out_set(tmp_path: Path) -> None:
    sets = {"easy": node(variant="texture", clips=4), "hard": node(variant="object", clips=4)}
    path = train(recipe(epochs=2, held_out=sets), Given(Watched()), device=CPU, out=tmp_path, quiet=True)
    log = rows(path)
    assert [row["epoch"] for row in log] == ["1", "2"]
    assert list(log[0]) == ["epoch", "loss", "train", "easy", "hard", "seconds"]
    for row in log:
        assert 0 <= float(row["train"]) <= 1
        assert float(row["seconds"]) >= 0
    # Logits that do not depend on the clip rank one class first: right once in four clips of four classes, or never.
    assert {float(row["easy"]) for row in log} <= {0.0, 0.25}


def test_file_names_the_classes(tmp_path: Path) -> None:
    path = train(recipe(epochs=1), Given(Watched()), device=CPU, out=tmp_path, quiet=True)
    assert read(path).class_names == CLASSES


def test_last_epoch_survives_a_write_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = train(recipe(epochs=1), Given(Watched()), device=CPU, out=tmp_path, quiet=True)
    before = path.read_bytes(), path.with_suffix(".csv").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="disk is full"):
        train(recipe(epochs=2), Given(Watched()), device=CPU, out=tmp_path, quiet=True)
    assert (path.read_bytes(), path.with_suffix(".csv").read_bytes()) == before


def shown(**fields: Any) -> tuple[list[Tensor], Tensor]:
    """Returns the frames that a network is trained on, one clip each, and all clips as they are."""
    watched = Watched()
    clips = {"a": node(clips=8)}
    asked = Recipe(train=clips, epochs=6, batch=4, **fields)
    network = Given(watched).load()
    given = training._footage(training._clips(clips, "train", True), network, CPU, True)
    random = torch.Generator().manual_seed(0)
    frames = [clip for _ in range(6) for batch, _ in training._batches(given, network, asked, random) for clip in batch]
    return frames, network.view.normalise(given.pixels)


def test_without_augmentation_each_epoch_shows_each_clip_as_it_is() -> None:
    frames, clips = shown()
    for epoch in range(6):
        which = [
            int((clips - clip[None]).abs().amax((1, 2, 3, 4)).argmin()) for clip in frames[8 * epoch : 8 * epoch + 8]
        ]
        assert sorted(which) == list(range(8))
    assert all(any(torch.equal(clip, one) for one in clips) for clip in frames)


@pytest.mark.parametrize("axis", list(Axis))
def test_a_flip_turns_about_half_of_the_clips_around_its_own_axis(axis: Axis) -> None:
    frames, clips = shown(flips=[axis])
    turned = clips.flip(int(axis) + 1)  # pixels have their channels last, frames first
    kept = sum(any(torch.equal(clip, one) for one in clips) for clip in frames)
    flipped = sum(any(torch.equal(clip, one) for one in turned) for clip in frames)
    assert kept + flipped == len(frames) == 48
    assert 10 < flipped < 38


def test_permuted_colours_are_the_same_pixels() -> None:
    frames, clips = shown(permute_colours=True)
    view = Given(Watched()).input
    plain = [view.denormalise(clips)[i].sort(-1).values for i in range(len(clips))]
    for clip in frames:
        assert any(torch.equal(view.denormalise(clip[None])[0].sort(-1).values, one) for one in plain)
    assert sum(any(torch.equal(clip, one) for one in clips) for clip in frames) < 24  # one order of six is the first


def test_training_goes_on_from_the_weights_that_the_model_names(tmp_path: Path) -> None:
    model = TinyR2Plus1D("random", input=VIEW)
    first = train(recipe(epochs=4), model, device=CPU, out=tmp_path / "a", quiet=True)
    second = train(
        recipe(epochs=1, lr=1e-6), replace(model, weights=str(first)), device=CPU, out=tmp_path / "b", quiet=True
    )
    start, end = read(first).state["head.weight"], read(second).state["head.weight"]
    assert (start - end).abs().max() < 1e-3 < (start - model.load().module.state_dict()["head.weight"]).abs().max()


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"batch": 0}, {"lr": 0.0}, {"weight_decay": -1.0}, {"warm_up": 1.0}, {"train": {}}]
)
def test_values_that_train_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        recipe(**wrong)


def test_a_batch_larger_than_the_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"batch=32 with 24 clips"):
        train(recipe(batch=32), Given(Watched()), device=CPU, out=tmp_path, quiet=True)


def test_a_network_without_parameters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no parameters"):
        train(recipe(), Given(nn.Identity()), device=CPU, out=tmp_path, quiet=True)


def test_a_label_that_the_network_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'horizontal_stripes'"):
        train(recipe(), Given(Watched(), classes=("disc", "square")), device=CPU, out=tmp_path, quiet=True)


def test_a_dataset_with_a_wrong_field_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="clip_count"):
        train(recipe(train={"a": node(clip_count=3)}), Given(Watched()), device=CPU, out=tmp_path, quiet=True)


def test_a_loss_that_is_no_number_stops_training_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="loss is nan"):
        train(recipe(), Given(Watched(scale=float("nan"))), device=CPU, out=tmp_path, quiet=True)
    assert not list(tmp_path.iterdir())


def test_accuracy_is_the_share_of_clips_ranked_first() -> None:
    network = Given(Watched()).load()
    network.max_batch = 3
    network.module.bias.data[2] = 1.0  # always class 2
    pixels = torch.zeros(8, 8, 32, 32, 3, dtype=torch.uint8)
    assert accuracy(network, pixels, torch.tensor([2, 2, 0, 1, 2, 3, 4, 5])) == pytest.approx(3 / 8)


def test_recipe_of_the_package_trains_and_tests_on_different_clips() -> None:
    from omegaconf import OmegaConf

    from vidattr.config.compose import build, config_dir

    packaged = build(OmegaConf.load(config_dir() / "recipe" / "tiny.yaml"), "recipe=tiny")  # type: ignore[arg-type]
    assert {part["split"] for part in packaged.train.values()} == {"train"}
    assert {part["split"] for part in packaged.held_out.values()} == {"val"}
    assert Synthetic().split.value == "test"
    assert packaged.flips == list(Axis)
