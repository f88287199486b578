"""Parts of a training: recipes, the split by videos, random frames, the last layer, and the weights' preprocessing."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from conftest import ROOT, Command
from test_train import VIEW, recipe, run
from vidattr.api import load_model
from vidattr.datasets.ucf101 import UCF101
from vidattr.errors import ConfigError
from vidattr.labels import plain
from vidattr.models import huggingface
from vidattr.models.c3d_light import UCF101C3DLight
from vidattr.models.lrcn import UCF50LRCN
from vidattr.models.r2plus1d_light import UCF101R2Plus1DLight
from vidattr.models.tiny_cnn_lstm import TinyCNNLSTM
from vidattr.models.tiny_r2plus1d import TinyR2Plus1D
from vidattr.models.tsm import TSM
from vidattr.run.compose import experiments
from vidattr.training.composed import composed
from vidattr.training.frames import random_frames
from vidattr.training.head import last_layer, prepared
from vidattr.training.recipes import Apart, Head, Layers, Recipe, Schedule, Select, Start
from vidattr.training.sets import sets_of
from vidattr.training.split import held_out, video_of, without
from vidattr.types import Clip
from vidattr.video.preprocessing import PLACED, Preprocessing, Sampling
from vidattr.video.sampling import sample

RECIPES = sorted((ROOT / "configs" / "recipe").glob("*.yaml"))


def clip(name: str, label: str, video: str = "") -> Clip:
    return Clip(id=name, source=Path(name), label=label, video=video)


# --- recipes


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_lists_every_field_and_says_where_it_is_from(path: Path) -> None:
    head = path.read_text().splitlines()[:2]
    assert all(line.startswith("# ") for line in head)
    assert head[1].split(":")[0] in ("# Paper", "# Source")
    node = OmegaConf.load(path)
    assert set(map(str, node)) - {"_target_", "defaults"} == {field.name for field in fields(Recipe)}


@pytest.mark.parametrize(
    ("name", "batch", "epochs", "rates"),
    [
        ("step_r2plus1d_ucf101_24", 48, 40, {0: 1e-3, 19: 1e-3, 20: 1e-4, 39: 1e-4}),
        ("step_vgg16lstm_ucf101_24", 48, 40, {0: 1e-3, 39: 1e-3}),
        ("step_r2plus1d_epic_object", 48, 40, {0: 1e-2, 5: 1e-2, 6: 1e-3, 12: 1e-4, 39: 1e-8}),
        ("step_r2plus1d_epic_action", 48, 40, {0: 1e-2, 6: 1e-3}),
        ("step_vgg16lstm_epic_object", 48, 40, {0: 1e-3, 39: 1e-3}),
        ("step_vgg16lstm_epic_action", 48, 40, {0: 1e-3, 39: 1e-3}),
        ("aosa_fc_ucf101", 128, 200, {0: 0.1, 49: 0.1, 50: 0.01, 149: 1e-3, 199: 1e-4}),
    ],
)
def test_the_papers_recipes_have_their_constants(name: str, batch: int, epochs: int, rates: dict[int, float]) -> None:
    asked = composed([f"recipe={name}", "dataset.root=data"])
    found = asked.recipe
    assert (found.batch, found.epochs) == (batch, epochs)
    assert {epoch: pytest.approx(found.rate(epoch * 7, 7)[0]) for epoch in rates} == rates
    assert asked.names["dataset"] == name.split("_", 2)[2] if name.startswith("step") else "ucf101"
    if "epic" in name:
        assert (found.fit, found.test, found.apart) == ({"split": "train"}, {"split": "test"}, Apart.clip)
    else:
        assert (found.fit, found.test) == ({}, {"split": "data/annotations/testlist01.txt"})
        assert composed([f"recipe={name}", "dataset=synthetic", "~recipe.test.split"]).names["dataset"] == "synthetic"
        with pytest.raises(ConfigError, match=r"'data/annotations|~recipe\.test\.split"):
            composed([f"recipe={name}", "dataset=synthetic"])


def test_tiny_starts_from_random_weights_unless_some_are_named() -> None:
    assert composed(["recipe=tiny"]).model.weights == "random"
    assert composed(["recipe=tiny", "model.weights=package"]).model.weights == "package"
    assert composed([]).recipe.start is Start.model
    assert composed([]).model.weights == "package"


def test_recipe_of_the_package_trains_and_tests_on_different_clips() -> None:
    asked = composed(["recipe=tiny"])
    assert asked.dataset is None
    assert {part["split"] for part in asked.recipe.train.values()} == {"train"}
    assert {part["split"] for part in asked.recipe.held_out.values()} == {"val"}
    assert len(asked.recipe.flips) == 3


def test_one_cycle_rises_and_falls_as_torch_has_it() -> None:
    found = Recipe(schedule=Schedule.one_cycle, epochs=3, lr=0.01, warm_up=0.3)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], 0.01)
    wanted = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=30, pct_start=0.3)
    for step in range(30):
        group = optimizer.param_groups[0]
        assert found.rate(step, 10) == (pytest.approx(group["lr"]), pytest.approx(group["betas"][0]))
        optimizer.step()
        wanted.step() if step < 29 else None


def test_cosine_warms_up_and_ends_near_zero() -> None:
    found = Recipe(schedule=Schedule.cosine, epochs=10, lr=1.0, warm_up=0.1)
    rates = [found.rate(step, 10)[0] for step in range(100)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[10] == 1
    assert 0 < rates[0] < 0.1
    assert rates[-1] < 0.001


# --- the split


def test_the_split_is_by_videos_and_leaves_each_class_something_to_train_on() -> None:
    clips = [clip(f"{label}{k}{part}", label, f"{label}{k}") for label in "abc" for k in range(10) for part in range(3)]
    clips += [clip("lonely", "d")]
    training, chosen = held_out(clips, 0.2, 0)
    assert sorted(c.id for c in [*training, *chosen]) == sorted(c.id for c in clips)
    assert not {video_of(c) for c in training} & {video_of(c) for c in chosen}
    assert Counter(c.label for c in chosen) == {"a": 6, "b": 6, "c": 6}  # two videos of ten
    assert held_out(clips, 0.2, 0) == (training, chosen)
    assert held_out(clips[::-1], 0.2, 0)[1] == chosen[::-1]
    assert held_out(clips, 0.2, 1)[1] != chosen
    assert held_out(clips, 0.0, 0) == (clips, [])


def test_a_video_of_several_classes_goes_to_one_side() -> None:
    clips = [clip(f"{video}-{label}", label, video) for video in "uvwxyz" for label in ("open", "close")]
    training, chosen = held_out(clips, 0.3, 0)
    assert len({video_of(c) for c in chosen}) == 2
    assert {c.label for c in training} == {"open", "close"}
    assert not {video_of(c) for c in training} & {video_of(c) for c in chosen}


def test_clips_of_a_test_video_do_not_train() -> None:
    clips = [clip("a1", "a", "a"), clip("a2", "a", "a"), clip("b1", "b", "b"), clip("c", "c")]
    assert without(clips, [clips[1], clips[3]]) == [clips[2]]
    assert without(clips, [clips[1], clips[3]], Apart.clip) == [clips[0], clips[2]]


# --- random frames


@pytest.mark.parametrize("kind", [kind for kind in Sampling if kind not in PLACED])
def test_random_frames_of_the_whole_clip_are_one_of_each_segment(kind: Sampling) -> None:
    view = Preprocessing(frames=4, sampling=kind)
    found = [random_frames(21, view, None, seed) for seed in range(300)]
    released = kind in (Sampling.released_first, Sampling.released_last)
    # Released: blocks of five frames, 0-4 … 20-20, of which the last four count.
    segments = [(5, 9), (10, 14), (15, 19), (20, 20)] if released else [(0, 4), (5, 9), (10, 14), (15, 20)]
    for place, (first, last) in enumerate(segments):
        assert {frames[place] for frames in found} == set(range(first, last + 1))
    assert random_frames(21, view, None, 5) == found[5]
    assert random_frames(3, view, None, 0) == sample(3, view)


@pytest.mark.parametrize("kind", sorted(PLACED))
def test_random_frames_of_a_part_are_those_of_test_time_from_anywhere(kind: Sampling) -> None:
    view = Preprocessing(frames=4, sampling=kind, stride=2)
    found = [random_frames(40, view, None, seed) for seed in range(300)]
    assert {frames[-1] - frames[0] for frames in found} <= {6, 7, 8}
    starts = {frames[0] for frames in found}
    assert min(starts) == 0
    assert len(starts) >= (5 if kind is Sampling.windows else 30)
    assert max(frames[-1] for frames in found) <= 39


# --- the last layer

HEADS = [
    (TinyR2Plus1D("random"), "head"), (TinyCNNLSTM("random"), "head"), (UCF101R2Plus1DLight("random"), "classifier"),
    (UCF101C3DLight("random"), "fc"), (UCF50LRCN("random"), "dense"), (TSM(weights="random"), "new_fc"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "name"), HEADS, ids=lambda value: type(value).__name__)
def test_the_last_layer_is_found_and_replaced(model: Any, name: str) -> None:
    network = model.load()
    assert last_layer(network) == name
    before = {key: tensor.clone() for key, tensor in network.module.state_dict().items()}
    clips = [clip(str(k), label) for k, label in enumerate(("walk", "run", "walk", "sit_down"))]
    asked = recipe(head=Head.new, layers=Layers.head)
    prepared(network, asked, clips)
    assert network.classes == ("run", "sit_down", "walk")
    assert network.places == {plain(one): k for k, one in enumerate(("run", "sit_down", "walk"))}
    after = network.module.state_dict()
    assert len(after[f"{name}.weight"]) == 3
    assert all(torch.equal(before[key], after[key]) for key in before if not key.startswith(f"{name}."))
    assert {key for key, parameter in network.module.named_parameters() if parameter.requires_grad} == {
        f"{name}.weight",
        f"{name}.bias",
    }


def test_of_several_layers_with_as_many_outputs_the_last_to_run_is_the_head() -> None:
    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = torch.nn.Linear(5, 5)
            self.before = torch.nn.Linear(3, 5)

        def forward(self, frames: torch.Tensor) -> torch.Tensor:
            return self.out(self.before(frames.mean((2, 3, 4))))  # type: ignore[no-any-return]

    from vidattr.models.network.network import VideoModel

    network = VideoModel(Two(), VIEW, tuple("abcde"))
    assert last_layer(network) == "out"
    with pytest.raises(ConfigError, match="no linear layer with 2 outputs"):
        last_layer(VideoModel(torch.nn.Sequential(torch.nn.Linear(1, 3)), VIEW, ("a", "b")))


# --- weights bring their own preprocessing


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of weights of the tiny CNN-LSTM, trained at 8 frames of 32 × 32, on two classes of its own names."""
    asked = recipe(
        head=Head.new,
        epochs=1,
        train={"a": {"_target_": "vidattr.datasets.synthetic.Synthetic", "frames": 8, "size": 32, "clips": 4}},
    )
    asked = replace(asked, held_out={}, select=Select.last)
    return run(asked, TinyCNNLSTM("random", input=VIEW), tmp_path_factory.mktemp("trained")).weights


def test_a_file_of_weights_is_used_as_it_was_trained(weights: Path) -> None:
    (experiment,) = experiments(["model=tiny_cnn_lstm", f"model.weights={weights}"])
    assert experiment.model.input == VIEW
    assert experiment.values["model"]["input"]["size"] == [32, 32]
    assert experiment.model.load().classes == ("cross", "disc", "square", "triangle")
    (note,) = experiment.notes
    assert "input.frames=8" in note
    assert "input.size=[32, 32]" in note
    assert "mean" not in note  # the same in both


def test_what_the_user_asks_for_wins_and_the_difference_is_told(weights: Path) -> None:
    (experiment,) = experiments(
        ["model=tiny_cnn_lstm", f"model.weights={weights}", "model.input.size=[64,64]", "model.output=sigmoid"]
    )
    assert (experiment.model.input.size, experiment.model.input.frames) == ([64, 64], 8)
    taken, other = experiment.notes
    assert "input.frames=8" in taken
    assert "size" not in taken
    assert "model.input.size=[64, 64], trained with [32, 32]" in other
    assert "model.output=sigmoid, trained with softmax" in other
    (experiment,) = experiments(["model=tiny_cnn_lstm", "model.weights=package"])
    assert experiment.notes == ()


def test_it_is_told_with_the_results_and_in_python(weights: Path, vidattr: Command) -> None:
    arguments = (
        "method=gradient",
        "dataset.clips=1",
        "model=tiny_cnn_lstm",
        f"model.weights={weights}",
        "render.gif=false",
        "render.mp4=false",
    )
    found = vidattr("run", *arguments, "--quiet")
    assert found.code == 0
    assert "preprocessing that last.safetensors was trained with" in found.err
    found = vidattr("evaluate", *arguments, "metric=s_pt", "--quiet")
    assert "preprocessing that last.safetensors was trained with" in found.err
    with pytest.warns(UserWarning, match="trained with"):
        network = load_model("tiny_cnn_lstm", weights=str(weights))
    assert network.view == VIEW
    with pytest.warns(UserWarning, match=r"model\.input\.size=\[64, 64\], trained with"):
        assert load_model("tiny_cnn_lstm", weights=str(weights), input={"size": [64, 64]}).view.size == [64, 64]


@pytest.mark.parametrize("said", ["no json", '{"frames": "many"}', '{"frmes": 3}', '{"size": [0, 0]}', "[1]", "3"])
def test_damaged_preprocessing_is_refused_in_words(said: str, weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    save_file(load_file(weights), path, {"class_names": json.dumps(["a", "b", "c", "d"]), "preprocessing": said})
    with pytest.raises(ConfigError, match=r"odd\.safetensors|frames|frmes|size"):
        experiments(["model=tiny_cnn_lstm", f"model.weights={path}"])


def test_the_command_line_trains_says_where_and_goes_on(vidattr: Command) -> None:
    data = ("dataset=synthetic_texture", "dataset.clips=12", "dataset.frames=8", "dataset.size=32")
    arguments = (
        *data,
        "model.input.frames=8",
        "model.input.size=[32,32]",
        "recipe.epochs=2",
        "recipe.patience=null",
        "runtime.device=cpu",
    )
    found = vidattr("train", *arguments)
    assert found.code == 0, found.err
    folder = Path("visual_res/train/tiny_r2plus1d/synthetic_texture-finetune")
    assert f"{folder}/best.safetensors" in found.out
    assert {path.name for path in folder.iterdir()} == {
        "best.safetensors", "last.safetensors", "state.safetensors", "log.csv", "curves.png",
    }  # fmt: skip
    assert "epoch 2/2" in found.err
    again = vidattr("train", *arguments)
    assert (again.code, again.out) == (0, found.out)
    assert "was done already" in again.err
    other = vidattr("train", *arguments, "recipe.lr=0.1", "--quiet")
    assert other.code == 2
    assert "recipe.lr: 0.1 now, 0.0003 stored" in other.err
    assert vidattr("list", "recipes").out.count("\n") >= 2 * len(RECIPES) - 1


@pytest.mark.parametrize(("overrides", "message"), [
    (["model=hf", "model.weights=nobody/nothing"], "model=hf cannot be trained: its weights are a folder"),
    (["model=hf"], "model=hf cannot be trained: its weights are a folder"),
    (["model=weightless"], "model=weightless cannot be trained: Weightless has no field `weights`"),
    (["model=tiny_r2plus1d,tiny_cnn_lstm"], "model names several values"),
])  # fmt: skip
def test_a_model_that_cannot_be_trained_is_refused_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str], message: str
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/weightless.yaml").write_text("_target_: weightless.Weightless\n")
    (tmp_path / "weightless.py").write_text(
        "from dataclasses import dataclass\n\n@dataclass(frozen=True)\nclass Weightless:\n    version = 1\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface, "_transformers", lambda: pytest.fail("the library is asked for the model"))
    with pytest.raises(ConfigError, match=re.escape(message)):
        composed(["dataset=clips", "dataset.root=nowhere", *overrides], add=[tmp_path])


def test_a_split_that_cannot_be_had_keeps_the_datasets_advice_and_says_how_to_do_without(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"dataset\.split=FILE.*~recipe\.test\.split recipe\.select=held_out"
    ) as caught:
        sets_of(
            recipe(train={}, held_out={}, test={"split": str(tmp_path / "no.txt")}),
            UCF101(str(ROOT / "test_data/ucf101_24")),
        )
    assert "no such split file" in str(caught.value)
