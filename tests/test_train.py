"""The training loop: it learns, is the same each time, goes on after a kill, and loses nothing on bad input."""

from __future__ import annotations

import copy
import csv
import itertools
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor, nn

from vidattr.config.runtime import Device, Runtime
from vidattr.datasets.clips import Clips
from vidattr.datasets.synthetic import CLASSES, Synthetic, Variant
from vidattr.errors import ConfigError, OutputError, VidattrError
from vidattr.labels import plain
from vidattr.models.network.network import VideoModel
from vidattr.models.tiny_cnn_lstm import TinyCNNLSTM
from vidattr.models.tiny_r2plus1d import TinyR2Plus1D
from vidattr.models.weights.checkpoint import read
from vidattr.models.weights.filling import fill
from vidattr.training import loop
from vidattr.training.augment import augmented, draws
from vidattr.training.clip_loader import ClipLoader
from vidattr.training.processes import Processes
from vidattr.training.recipes import Axis, Frames, Head, Layers, Optimizer, Recipe, Schedule, Select
from vidattr.training.sets import sets_of
from vidattr.training.steps import Steps, measure, optimizer_of
from vidattr.training.train import Result, train
from vidattr.video.preprocessing import Preprocessing

RUNTIME = Runtime(device=Device.cpu, workers=1)
VIEW = Preprocessing(frames=8, size=[32, 32], mean=[0.4, 0.4, 0.4], std=[0.25, 0.25, 0.25])
MODELS = pytest.mark.parametrize(
    "model", [TinyR2Plus1D("random", input=VIEW), TinyCNNLSTM("random", input=VIEW)], ids=["r2plus1d", "cnn_lstm"]
)


@pytest.fixture(autouse=True)
def no_picture(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than these trainings; the test of the picture asks for it."""
    if "picture" not in request.node.name:
        monkeypatch.setattr(loop.log, "write_curves", lambda *_, **__: None)


def node(**fields: Any) -> dict[str, Any]:
    return {"_target_": "vidattr.datasets.synthetic.Synthetic", "frames": 8, "size": 32, **fields}


def recipe(**fields: Any) -> Recipe:
    """Textures, which are learnt in a few steps."""
    sets = {
        "train": {"a": node(variant="texture", split="train", clips=24)},
        "held_out": {"b": node(variant="texture", clips=4)},
    }
    usual = {
        "select": Select.last,
        "share": 0.0,
        "head": Head.keep,
        "frames": Frames.preprocessing,
        "weight_decay": 0.01,
    }
    cycle = {"schedule": Schedule.one_cycle, "warm_up": 0.3}
    return Recipe(**{**sets, **usual, **cycle, "epochs": 3, "batch": 8, "lr": 0.01, **fields})


def run(recipe: Recipe, model: Any, out: Path, dataset: Any = None, **fields: Any) -> Result:
    return train(recipe, model, dataset, out=out, runtime=RUNTIME, quiet=True, **fields)


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def state(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Returns what a state file says, without how long the epochs took, and its tensors."""
    with safe_open(path, framework="pt") as file:
        said = json.loads(file.metadata()["training"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for row in said["rows"]:
        row.pop("seconds")
    return said, tensors


@dataclass(frozen=True)
class Given:
    """A model that is whatever module the test made."""

    version: ClassVar[int] = 1

    module: nn.Module = field(metadata={"identity": "skip"})
    weights: str | None = None
    input: Preprocessing = VIEW
    classes: tuple[str, ...] = CLASSES

    def load(self) -> VideoModel:
        module = self.module if self.weights is None else copy.deepcopy(self.module)
        if self.weights is not None:
            fill(module, read(Path(self.weights)))
        return VideoModel(module, self.input, self.classes)


class Watched(nn.Module):
    """Remembers what it is shown."""

    def __init__(self, fails_at: int | None = None) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(len(CLASSES)))
        self.fails_at, self.seen = fails_at, list[Tensor]()

    def forward(self, frames: Tensor) -> Tensor:
        if self.training:
            self.seen.append(frames.detach().clone())
        scale = float("nan") if self.fails_at is not None and len(self.seen) >= self.fails_at else 1.0
        return scale * self.bias.expand(len(frames), -1)


@MODELS
def test_loss_falls_and_weights_are_the_same_bytes_each_time(model: TinyR2Plus1D | TinyCNNLSTM, tmp_path: Path) -> None:
    paths = [run(recipe(), model, tmp_path / name).weights for name in ("once", "again")]
    losses = [float(row["loss"]) for row in rows(tmp_path / "once")]
    assert losses[-1] < losses[0] - 0.1
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert run(recipe(seed=1), model, tmp_path / "other").weights.read_bytes() != paths[0].read_bytes()


@MODELS
def test_weights_load_into_the_model_and_score_what_the_log_says(
    model: TinyR2Plus1D | TinyCNNLSTM, tmp_path: Path
) -> None:
    result = run(recipe(), model, tmp_path)
    assert result.weights == tmp_path / "last.safetensors"
    network = replace(model, weights=str(result.weights)).load()
    assert network.classes == CLASSES
    clips = sets_of(recipe(), None).measured["b"]
    loader = ClipLoader(clips, [network.places[plain(clip.label)] for clip in clips], network.view)
    accuracy, loss = measure(network, loader, Processes())
    assert accuracy == pytest.approx(float(rows(tmp_path)[-1]["b"]), abs=1e-4)
    assert loss == pytest.approx(float(rows(tmp_path)[-1]["b_loss"]), abs=1e-4)


def test_log_has_a_row_an_epoch_and_columns_for_each_held_out_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = itertools.count(100.0, 7.25)  # a clock that is read at the start and the end of an epoch, and in between
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: next(now)))
    sets = {"easy": node(variant="texture", clips=4), "hard": node(variant="object", clips=4)}
    run(recipe(epochs=2, held_out=sets), Given(Watched()), tmp_path)
    log = rows(tmp_path)
    assert [row["epoch"] for row in log] == ["1", "2"]
    assert list(log[0]) == ["epoch", "lr", "loss", "train", "easy", "easy_loss", "hard", "hard_loss", "seconds"]
    for row in log:
        assert 0 <= float(row["train"]) <= 1
        assert float(row["seconds"]) == 7.2
    # Logits that do not depend on the clip rank one class first: right once in four clips of four classes, or never.
    assert {float(row["easy"]) for row in log} <= {0.0, 0.25}


def test_picture_of_the_curves_is_drawn(tmp_path: Path) -> None:
    run(recipe(epochs=2), Given(Watched()), tmp_path)
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 600


def test_last_epoch_survives_a_write_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(recipe(epochs=1), Given(Watched()), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="disk is full"):
        run(recipe(epochs=1, train={"a": node(clips=8)}), Given(Watched()), tmp_path / "other")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    assert not list((tmp_path / "other").iterdir())


VARIANTS = {
    "adamw": {"frames": Frames.random, "crop": 0.7, "flips": [Axis.width], "schedule": Schedule.cosine},
    "sgd": {
        "optimizer": Optimizer.sgd,
        "schedule": Schedule.steps,
        "milestones": [2],
        "frames": Frames.frozen,
        "clips_per_video": 2,
    },
    "chosen": {"select": Select.held_out, "share": 0.25, "permute_colours": True, "head": Head.new},
}


class Stop(KeyboardInterrupt):
    """Stands for a kill at a moment that the test chooses."""


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("where", ["state", "last"])
def test_a_resumed_training_equals_an_undisturbed_one_bit_for_bit(
    variant: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dropping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.body = nn.Sequential(nn.Conv3d(3, 8, 3, 2), nn.BatchNorm3d(8), nn.ReLU(), nn.Dropout(0.5))
            self.head = nn.Linear(8, len(CLASSES))

        def forward(self, frames: Tensor) -> Tensor:
            return self.head(self.body(frames).mean((2, 3, 4)))  # type: ignore[no-any-return]

    asked = recipe(
        epochs=4, train={"a": node(variant="texture", split="train", clips=12, frames=16)}, **VARIANTS[variant]
    )

    def model() -> Any:
        return TinyR2Plus1D("random", input=VIEW) if variant == "chosen" else Given(Dropping())

    whole = run(asked, model(), tmp_path / "whole")
    real, count = loop.checkpoint.write_state if where == "state" else loop._write_if_new, 0

    def stopping(path: Path, *arguments: Any) -> None:
        nonlocal count
        count += path.name == f"{where}.safetensors"
        if count == 3:  # in the third epoch, before its state or right after it
            raise Stop
        real(path, *arguments)  # type: ignore[operator]

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(*((loop.checkpoint, "write_state") if where == "state" else (loop, "_write_if_new")), stopping)
        run(asked, model(), tmp_path / "killed")
    again = run(asked, model(), tmp_path / "killed")
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert {path.name for path in (tmp_path / "killed").iterdir()} == names
    for name in names - {"log.csv", "state.safetensors"}:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    (said, tensors), (other, others) = (state(tmp_path / one / "state.safetensors") for one in ("whole", "killed"))
    assert said == other
    assert tensors.keys() == others.keys()
    assert all(torch.equal(tensors[name], others[name]) for name in tensors)
    assert (again.epoch, again.accuracy) == (whole.epoch, whole.accuracy)


def test_a_finished_training_is_not_trained_again_and_another_one_is_refused(tmp_path: Path) -> None:
    run(recipe(epochs=2), Given(Watched()), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    watched = Watched()
    run(recipe(epochs=2), Given(watched), tmp_path)
    assert not watched.seen
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    for other in (recipe(epochs=3), recipe(epochs=2, seed=1), recipe(epochs=2, train={"a": node(clips=8)})):
        with pytest.raises(ConfigError, match="holds another training"):
            run(other, Given(Watched()), tmp_path)
    run(recipe(epochs=3), Given(Watched()), tmp_path, force=True)
    assert len(rows(tmp_path)) == 3
    assert len(rows(tmp_path.with_name(f"{tmp_path.name}.old-1"))) == 2


@pytest.mark.parametrize("content", [b"", b"no safetensors", b"\x02\0\0\0\0\0\0\0{}", b"\xff" * 64])
def test_a_damaged_state_is_refused_in_words(content: bytes, tmp_path: Path) -> None:
    run(recipe(epochs=1), Given(Watched()), tmp_path)
    (tmp_path / "state.safetensors").write_bytes(content)
    with pytest.raises(ConfigError, match=r"state\.safetensors cannot be read"):
        run(recipe(epochs=1), Given(Watched()), tmp_path)


def shown(**fields: Any) -> tuple[list[Tensor], Tensor]:
    """Returns the frames that a network is trained on, one clip each, and all clips as they are."""
    asked = Recipe(train={"a": node(clips=8)}, epochs=6, batch=4, **{"frames": Frames.preprocessing, **fields})
    clips = list(Synthetic(clips=8, frames=8, size=32).index().clips)
    network = Given(Watched()).load()
    loader = ClipLoader(clips, [0] * 8, network.view)
    whole = torch.stack([torch.from_numpy(loader.pixels(k, 0)) for k in range(8)])
    frames = []
    for epoch in range(1, 7):
        for batch in loop.epoch_batches(8, 2, 0, epoch):
            frames += list(network.view.normalise(augmented(whole[batch], draws(8, asked, epoch)[batch], asked)))
    return frames, network.view.normalise(whole)


def test_without_augmentation_each_epoch_shows_each_clip_as_it_is(tmp_path: Path) -> None:
    _, clips = shown()
    watched = Watched()
    run(recipe(train={"a": node(clips=8)}, held_out={}, epochs=3, batch=4), Given(watched), tmp_path)
    frames = [clip for batch in watched.seen for clip in batch]
    assert len(frames) == 24
    for epoch in range(3):
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
    ordered = [view.denormalise(clips)[i].sort(-1).values for i in range(len(clips))]
    for clip in frames:
        assert any(torch.equal(view.denormalise(clip[None])[0].sort(-1).values, one) for one in ordered)
    assert sum(any(torch.equal(clip, one) for one in clips) for clip in frames) < 24  # one order of six is the first


def test_a_crop_is_a_window_resized_the_same_in_all_frames() -> None:
    ramp = torch.arange(32, dtype=torch.uint8).mul(4)
    clip = torch.stack((ramp[:, None].expand(32, 32), ramp[None].expand(32, 32), torch.zeros(32, 32).byte()), -1)
    pixels = clip.expand(5, 3, 32, 32, 3).contiguous()
    drawn = torch.rand(5, 9, generator=torch.Generator().manual_seed(1))
    cut = augmented(pixels, drawn, Recipe(train={"a": {}}, crop=0.5)).float()
    side = 0.5 + 0.5 * drawn[:, 3]
    for clip_cut, share, (down, right) in zip(cut, side, drawn[:, 4:6], strict=True):
        for channel, place in ((0, down), (1, right)):
            along = clip_cut[..., channel] if channel == 0 else clip_cut[..., channel].transpose(1, 2)
            centre = 31 / 2 + (2 * place - 1) * (1 - share) * 32 / 2
            wanted = (centre + share * (torch.arange(32) - 31 / 2)).clamp(0, 31) * 4
            assert (along - wanted[None, :, None]).abs().max() <= 0.51


def test_training_goes_on_from_the_weights_that_the_model_names(tmp_path: Path) -> None:
    model = TinyR2Plus1D("random", input=VIEW)
    first = run(recipe(epochs=4), model, tmp_path / "a").weights
    second = run(recipe(epochs=1, lr=1e-6), replace(model, weights=str(first)), tmp_path / "b").weights
    start, end = read(first).state["head.weight"], read(second).state["head.weight"]
    assert (start - end).abs().max() < 1e-3 < (start - model.load().module.state_dict()["head.weight"]).abs().max()


def test_a_new_head_has_the_clips_classes_and_only_it_is_trained_where_asked(tmp_path: Path) -> None:
    model = TinyR2Plus1D("package", input=VIEW)
    before = model.load().module.state_dict()
    asked = recipe(head=Head.new, layers=Layers.head, epochs=2)
    network = replace(model, weights=str(run(asked, model, tmp_path).weights)).load()
    assert network.classes == tuple(sorted(CLASSES[4:]))
    after = network.module.state_dict()
    assert after["head.weight"].shape[0] == 4
    assert all(torch.equal(before[name], after[name]) for name in before if not name.startswith("head."))


class Plain(nn.Module):
    """Without batch normalisation and dropout: a batch may be divided."""

    def __init__(self, room: int = 10**9) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Conv3d(3, 4, 3, 2)
        self.norm = nn.BatchNorm3d(4).eval() if room else nn.Identity()
        self.head = nn.Linear(4, len(CLASSES))
        self.room, self.sizes = room, list[int]()

    def forward(self, frames: Tensor) -> Tensor:
        features = torch.relu(self.body(frames)).mean((2, 3, 4))
        if len(frames) > self.room:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        self.sizes.append(len(frames))
        return self.head(features)  # type: ignore[no-any-return]


@pytest.mark.parametrize(("accumulate", "room", "sizes"), [(3, 100, {3, 2}), (8, 100, {1}), (1, 3, {2})])
def test_a_divided_batch_gives_the_same_step(
    accumulate: int, room: int, sizes: set[int], capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = torch.randint(256, (8, 8, 32, 32, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    labels, asked = torch.arange(8), recipe(optimizer=Optimizer.sgd)
    found = []
    for parts, most in ((1, 100), (accumulate, room)):
        module = Plain(most)
        network = Given(module).load()
        module.requires_grad_()
        steps = Steps(network, optimizer_of(list(module.parameters()), asked), asked, Processes(), parts)
        steps.take(pixels, labels, draws(8, asked, 1), 8)
        found.append(module)
    assert set(found[1].sizes) == sizes
    for one, other in zip(*(module.parameters() for module in found), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)
    assert ("out of memory" in capsys.readouterr().err) == (room < 8)


WRONG = [
    {"epochs": 0}, {"batch": 0}, {"lr": 0.0}, {"weight_decay": -1.0}, {"warm_up": 1.0}, {"share": 1.0},
    {"momentum": 1.0}, {"crop": 0.0},
    {"patience": 0}, {"milestones": [0]}, {"gamma": 0.0}, {"accumulate": 0},
    {"select": Select.held_out}, {"select": Select.test},
    {"patience": 2}, {"clips_per_video": 2},
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_values_that_train_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        recipe(**wrong)


def test_a_batch_may_be_larger_than_the_data(tmp_path: Path) -> None:
    watched = Watched()
    run(recipe(batch=32, epochs=1), Given(watched), tmp_path)
    assert [len(batch) for batch in watched.seen] == [24]


def test_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing to train on"):
        sets_of(recipe(train={}), None)


def test_a_network_without_parameters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no parameters"):
        run(recipe(), Given(nn.Identity()), tmp_path)


def test_a_model_that_would_not_take_its_weights_back_is_refused_before_a_clip_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, len(CLASSES))

        def forward(self, frames: Tensor) -> Tensor:
            return self.head(frames.mean((2, 3, 4)))  # type: ignore[no-any-return]

    @dataclass(frozen=True)
    class Stubborn(Given):
        def load(self) -> VideoModel:
            module = Fixed()
            if self.weights is not None:
                fill(module, read(Path(self.weights)))
            return VideoModel(module, self.input, self.classes)

    monkeypatch.setattr("vidattr.training.train.Material", lambda *_, **__: pytest.fail("clips are read"))
    with pytest.raises(ConfigError, match=r"trained weights of 4 classes back(.|\n)*num_classes: 4"):
        run(recipe(head=Head.new), Stubborn(Fixed()), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_label_that_the_network_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'horizontal_stripes'(.|\n)*recipe\.head=new"):
        run(recipe(), Given(Watched(), classes=("disc", "square")), tmp_path)


def test_one_class_only_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="all 1 clips are of one class"):
        run(recipe(train={"a": node(clips=1)}, held_out={}), Given(Watched()), tmp_path)


def test_a_dataset_with_a_wrong_field_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="clip_count"):
        run(recipe(train={"a": node(clip_count=3)}), Given(Watched()), tmp_path)


@pytest.mark.parametrize("held_out", ["loss", "test", "train", "x_loss"])
def test_a_held_out_set_with_the_name_of_another_column_is_refused(held_out: str) -> None:
    with pytest.raises(ConfigError, match="another column"):
        sets_of(recipe(held_out={held_out: node(clips=4)}), None)


def test_a_loss_that_is_no_number_stops_training_and_keeps_the_epoch_before(tmp_path: Path) -> None:
    with pytest.raises(VidattrError, match=r"diverged in epoch 1: the loss is nan; no epoch"):
        run(recipe(), Given(Watched(fails_at=1)), tmp_path / "first")
    assert not (tmp_path / "first").exists()
    run(recipe(epochs=1, schedule=Schedule.steps), Given(Watched()), tmp_path / "one")
    with pytest.raises(VidattrError, match=r"diverged in epoch 2: the loss is nan; the weights of epoch 1 stay"):
        run(
            recipe(schedule=Schedule.steps), Given(Watched(fails_at=4)), tmp_path / "second"
        )  # three steps are an epoch
    kept = (tmp_path / "second/last.safetensors").read_bytes()
    assert kept == (tmp_path / "one/last.safetensors").read_bytes()


def test_a_rate_that_is_far_too_high_is_told_as_such(tmp_path: Path) -> None:
    asked = recipe(optimizer=Optimizer.sgd, schedule=Schedule.steps, lr=1e25, epochs=5)
    with pytest.raises(VidattrError, match=r"training diverged in epoch \d"):
        run(asked, TinyR2Plus1D("random", input=VIEW), tmp_path)


def frames_folder(root: Path, label: str, count: int) -> None:
    for clip in range(count):
        folder = root / label / f"{label}{clip}"
        folder.mkdir(parents=True)
        for number in range(1, 5):
            colour = (200, 30, 30) if label == "red" else (30, 30, 200)
            Image.new("RGB", (40, 32), colour).save(folder / f"{number:05d}.png")


def test_unreadable_clips_are_named_and_the_rest_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for label in ("red", "blue"):
        frames_folder(tmp_path / "data", label, 4)
    for name in ("00001.png", "00002.png", "00003.png", "00004.png"):
        (tmp_path / "data/red/red1" / name).write_bytes(b"no picture")
    (tmp_path / "data/blue/cut.mp4").write_bytes(b"\0" * 100)
    watched = Watched()
    asked = recipe(train={}, held_out={}, epochs=1, batch=10)
    result = run(asked, Given(watched, classes=("red", "blue")), tmp_path / "out", Clips(root=str(tmp_path / "data")))
    assert sum(map(len, watched.seen)) == 7
    assert result.left_out == 2
    lines = [json.loads(line) for line in (tmp_path / "out/errors.jsonl").read_text().splitlines()]
    assert {line["clip"] for line in lines} == {"red-red1", "blue-cut"}
    err = capsys.readouterr().err
    assert "2 clips are left out" in err
    assert "red1" in err


def test_where_unreadable_clips_leave_one_class_they_are_named(tmp_path: Path) -> None:
    for label in ("red", "blue"):
        frames_folder(tmp_path / "data", label, 1)
    (tmp_path / "data/green").mkdir()
    (tmp_path / "data/green/cut.mp4").write_bytes(b"\0" * 100)
    for path in (tmp_path / "data/red").glob("*/*"):
        path.write_bytes(b"no picture")
    asked = recipe(train={}, held_out={}, epochs=1, batch=10)
    model = Given(Watched(), classes=("red", "blue", "green"))
    with pytest.raises(
        ConfigError, match=r"all 1 clips are of one class: blue; 2 clips are left out, the first: .*cut"
    ):
        run(asked, model, tmp_path / "out", Clips(root=str(tmp_path / "data")))


def test_without_any_readable_clip_nothing_is_trained(tmp_path: Path) -> None:
    for label in ("red", "blue"):
        (tmp_path / "data" / label).mkdir(parents=True)
        (tmp_path / "data" / label / f"{label}.mp4").write_bytes(b"\0" * 100)
    with pytest.raises(ConfigError, match="none of the 2 clips of train can be decoded"):
        run(
            recipe(train={}, held_out={}),
            Given(Watched(), classes=("red", "blue")),
            tmp_path / "out",
            Clips(root=str(tmp_path / "data")),
        )
    assert not (tmp_path / "out").exists()


def test_accuracy_is_the_share_of_clips_ranked_first_and_loss_their_mean() -> None:
    network = Given(Watched()).load()
    network.max_batch = 3
    network.module.bias.data[2] = 1.0  # always class 2
    labels = [2, 2, 0, 1, 2, 3, 4, 5]
    clips = list(Synthetic(clips=8, frames=8, size=32).index().clips)
    accuracy, loss = measure(network, ClipLoader(clips, labels, network.view), Processes())
    assert accuracy == pytest.approx(3 / 8)
    other = torch.log(torch.tensor([7 + torch.e]))
    assert loss == pytest.approx(float(other) - 3 / 8)


def test_training_stops_when_nothing_improves(tmp_path: Path) -> None:
    asked = recipe(epochs=20, select=Select.held_out, share=0.25, patience=2, lr=1e-30, held_out={})
    result = run(asked, Given(Watched()), tmp_path)
    assert (result.epoch, result.last, len(rows(tmp_path))) == (1, 3, 3)
    assert result.weights.name == "best.safetensors"
    assert run(asked, Given(Watched()), tmp_path).last == 3


def test_clips_of_the_test_split_are_measured_and_not_trained_on(tmp_path: Path) -> None:
    watched = Watched()
    asked = recipe(train={}, held_out={}, test={"split": "val", "clips": 4}, select=Select.test, epochs=1, batch=99)
    dataset = Synthetic(variant=Variant.texture, clips=8, frames=8, size=32)
    result = run(asked, Given(watched), tmp_path, dataset)
    assert sum(map(len, watched.seen)) == 4  # a clip's id does not tell its split: 4 of 8 are the test split's
    assert set(result.accuracy) == {"train", "test"}
    with pytest.raises(ConfigError, match=r"recipe\.test: unknown option 'splitt'"):
        sets_of(recipe(train={}, held_out={}, test={"splitt": "val"}), dataset)
