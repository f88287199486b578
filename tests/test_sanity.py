"""The cascade, the weights that it draws, and the sanity check from the command line."""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import video

import toys
from conftest import Command
from vidattr.datasets.synthetic import Synthetic
from vidattr.errors import ConfigError
from vidattr.evaluate.evaluator import stored_tables
from vidattr.evaluate.noise import map_scores
from vidattr.evaluate.pictures import draw_strips
from vidattr.evaluate.table import BASELINES
from vidattr.methods.baselines.random import Random
from vidattr.methods.cam.grad_cam import GradCAM
from vidattr.methods.gradients.gradient import Gradient
from vidattr.metrics.rerun.sanity import Sanity
from vidattr.metrics.shared.randomise import Part, parts, randomise, restored
from vidattr.metrics.shared.similarity import Similarity
from vidattr.models.lrcn import LRCN
from vidattr.models.network.network import VideoModel
from vidattr.models.r2plus1d_light import R2Plus1DLight
from vidattr.models.tiny_cnn_lstm import CNNLSTM
from vidattr.models.tiny_r2plus1d import R2Plus1D, TinyR2Plus1D
from vidattr.protocols import MapBatch
from vidattr.render.options import Render
from vidattr.render.strips import StoredStrip
from vidattr.run.compose import experiments
from vidattr.types import Explanation, Query
from vidattr.video.decode import read


class Tokens(nn.Module):
    """A wrapped network with a bare parameter, a normalisation layer of its own, and a list of blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(5, 4))
        self.embed = nn.Linear(3, 4)
        self.blocks = nn.ModuleList(nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4)) for _ in range(4))
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 2)


def linears(count: int) -> nn.Sequential:
    return nn.Sequential(*(nn.Linear(2, 2) for _ in range(count)))


RESNET = ["fc", "layer4", "layer3", "layer2", "layer1", "stem"]
NETWORKS: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "r3d_18": (video.r3d_18, RESNET),
    "mc3_18": (video.mc3_18, RESNET),
    "r2plus1d_18": (video.r2plus1d_18, RESNET),
    "wrapped": (lambda: nn.ModuleDict({"net": video.r3d_18()}), [f"net.{name}" for name in RESNET]),
    "tiny_r2plus1d": (lambda: R2Plus1D(5), ["head", "block2", "block1", "stem"]),
    "tiny_cnn_lstm": (lambda: CNNLSTM(5), ["head", "lstm", "cnn.3", "cnn.2", "cnn.1", "cnn.0"]),
    "r2plus1d_light": (lambda: R2Plus1DLight(5), ["classifier", "conv3", "conv2", "conv1"]),
    "lrcn": (lambda: LRCN(5), ["dense", "lstm", "conv4", "conv3", "conv2", "conv1"]),
    "tokens": (Tokens, ["head", "blocks.3", "blocks.2", "blocks.1", "blocks.0", "embed"]),
    "half is no trunk": (lambda: nn.Sequential(linears(2), nn.Linear(2, 2), nn.Linear(2, 2)), ["2", "1", "0"]),
    "more than half is": (
        lambda: nn.Sequential(linears(3), nn.Linear(2, 2), nn.Linear(2, 2)),
        ["2", "1", "0.2", "0.1", "0.0"],
    ),
    "conv_net": (toys.ConvNet, ["fc", "features", "stem"]),
    "bare": (toys.Linear, ["network"]),
    "flat": (lambda: nn.Sequential(nn.Conv3d(3, 4, 1), nn.BatchNorm3d(4), nn.ReLU(), nn.Conv3d(4, 4, 1)), ["3", "0"]),
    "without parameters": (nn.ReLU, []),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_parts_are_found_from_the_head_down_and_leave_no_layer_out(name: str) -> None:
    make, expected = NETWORKS[name]
    with torch.device("meta"):
        module = make()
    found = parts(module)
    assert [part.name for part in found] == expected
    owners = [name for name, layer in module.named_modules() if list(layer.parameters(recurse=False))]
    assert sorted(layer for part in found for layer in part.layers) == sorted(owners)


def test_what_a_split_module_owns_and_a_lone_norm_go_with_a_neighbour() -> None:
    layers = {part.name: part.layers for part in parts(Tokens())}
    assert layers["embed"] == ("", "embed")
    assert layers["blocks.3"] == ("blocks.3.0", "blocks.3.1", "norm")


class Mixed(nn.Module):
    """One layer of each kind, all with values that no initialisation gives."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv3d(8, 64, 3)
        self.second = nn.Conv3d(8, 64, 3)
        self.norm = nn.BatchNorm3d(64)
        self.lstm = nn.LSTM(16, 25)
        self.linear = nn.Linear(100, 40)
        self.attention = nn.MultiheadAttention(8, 2)
        self.scale = nn.ParameterList([torch.arange(7.0)])
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for tensor in (*self.parameters(), *self.buffers()):
                tensor.copy_(torch.randint(2, 99, tensor.shape, generator=generator))


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    for part in parts(module):
        randomise(module, part, seed)
    return module


def test_every_kind_of_layer_begins_as_its_kind_does() -> None:
    before = Mixed()
    after = randomised(copy.deepcopy(before))
    for conv in (after.first, after.second):
        assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 27)), rel=0.05)
        assert not conv.bias.any()
    assert not torch.equal(after.first.weight, after.second.weight), "one stream for two layers"
    assert (after.norm.weight == 1).all()
    assert (after.norm.bias == 0).all()
    for name, buffer in before.named_buffers():
        assert torch.equal(after.get_buffer(name), buffer)
    for parameter in after.lstm.parameters():
        assert 0.15 < parameter.abs().max() <= 1 / math.sqrt(25)
    assert 0.09 < after.linear.weight.abs().max() <= 0.1
    for name in ("scale.0", "attention.in_proj_weight"):
        new, old = after.get_parameter(name), before.get_parameter(name)
        assert not torch.equal(new, old)
        assert torch.equal(new.flatten().sort().values, old.flatten().sort().values)


def test_weights_depend_on_the_seed_alone() -> None:
    ours = randomised(Mixed()).state_dict()
    strided = Mixed().to(memory_format=torch.channels_last_3d)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    randomised(strided)
    assert torch.equal(torch.get_rng_state(), state)
    assert strided.first.weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert all(torch.equal(ours[name], value) for name, value in strided.state_dict().items())
    other = randomised(Mixed(), seed=1).state_dict()
    assert not torch.equal(other["first.weight"], ours["first.weight"])
    assert not torch.equal(other["linear.weight"], ours["linear.weight"])


def test_a_stage_changes_its_own_layers_only() -> None:
    module = toys.ConvNet()
    before = copy.deepcopy(module.state_dict())
    randomise(module, Part("features", ("features.0",)), 0)
    changed = {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"features.0.weight", "features.0.bias"}


def test_the_network_comes_back_to_the_bit() -> None:
    module = R2Plus1D(5)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    kept = {name: (id(parameter), parameter.data_ptr()) for name, parameter in module.named_parameters()}

    def interrupted() -> None:
        with restored(module):
            randomised(module)
            raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="luck"):
        interrupted()
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert {name: (id(parameter), parameter.data_ptr()) for name, parameter in module.named_parameters()} == kept


@dataclass(frozen=True)
class Flow:
    """Explains by the logit times something of the frames that is made once, and may fail."""

    made: list[int] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    fails_at: int | None = None

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        self.calls.append(1)
        if len(self.calls) == self.fails_at:
            raise RuntimeError("out of luck")
        flow = query.cached("flow", lambda: self.made.append(1) or query.frames.mean(1))
        return Explanation(flow * model(query.frames).gather(1, query.target[:, None]).view(-1, 1, 1, 1))


def test_each_part_is_a_run_and_the_flow_is_computed_once() -> None:
    model, query, method = toys.conv_net(), toys.query(), Flow()
    before = copy.deepcopy(model.module.state_dict())
    scores = Sanity().score_methods(MapBatch(method(model, query).map[None], query, [], model), [method])
    assert len(method.made) == 1
    assert len(method.calls) == 1 + 4
    assert tuple(scores.points) == ("unchanged", "fc", "features", "stem")
    for curve in scores.curves.values():
        assert curve.shape == (1, 3, 4)
    # Each later map is a multiple of the first, and only its sign can tell.
    signs = scores.curves["spearman"]
    torch.testing.assert_close(signs.abs(), torch.ones_like(signs))
    torch.testing.assert_close(scores.curves["spearman_abs"], torch.ones_like(signs))
    assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())


def test_a_method_that_fails_half_way_leaves_the_network_as_it_was() -> None:
    model, query = toys.conv_net(), toys.query()
    before = copy.deepcopy(model.module.state_dict())
    with pytest.raises(RuntimeError, match="luck"):
        Sanity().score_methods(MapBatch(torch.rand(1, 3, 4, 6, 8), query, [], model), [Flow(fails_at=3)])
    assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())


def test_the_curve_is_that_of_randomising_by_hand() -> None:
    query, methods = toys.query(), (Gradient(), GradCAM(), Random())
    model = toys.conv_net()
    maps = torch.stack([method(model, query).map for method in methods])
    scores = Sanity(seed=4).score_methods(MapBatch(maps, query, [], model), methods)
    by_hand = toys.conv_net()
    for step, part in enumerate(parts(by_hand.module), start=1):
        randomise(by_hand.module, part, 4)
        expected = torch.stack([method(by_hand, query).map for method in methods])
        torch.testing.assert_close(scores.strip.maps[:, :, step], expected[:, :, 2])
        torch.testing.assert_close(
            scores.curves["f0"][0, :, step], by_hand.probabilities(query.frames).gather(1, query.target[:, None])[:, 0]
        )
    assert torch.equal(scores.columns["ssim"], scores.curves["ssim"][..., -1])
    assert torch.equal(scores.columns["ssim_unchanged"], scores.curves["ssim"][..., 0])
    torch.testing.assert_close(scores.curves["spearman"][2], torch.ones(3, 4, dtype=torch.float64))


def test_zero_maps_are_nan_and_not_alike() -> None:
    model, query, method = toys.network(toys.Constant(), layer="features"), toys.query(), Gradient()
    scores = Sanity().score_methods(MapBatch(method(model, query).map[None], query, [], model), [method])
    assert scores.curves["spearman"][..., 0].isnan().all()
    assert all(scores.columns[kind.value].shape == (1, 3) for kind in Similarity)
    assert all(scores.columns[kind.value].isnan().all() for kind in Similarity)
    assert scores.curves["f0"].isfinite().all()


@pytest.mark.usefixtures("no_host_copies")
def test_maps_and_weights_stay_on_their_device() -> None:
    model, query, method = toys.cnn_lstm(), toys.query(), GradCAM()
    Sanity().score_methods(MapBatch(method(model, query).map[None], query, [], model), [method])


def test_without_a_network_or_a_method_for_each_map_nothing_starts() -> None:
    maps = torch.rand(2, 3, 4, 6, 8)
    with pytest.raises(ValueError, match="was given none"):
        Sanity().score_methods(MapBatch(maps, toys.query(), []), [Random(), Random()])
    with pytest.raises(ValueError, match="1 methods for 2 maps"):
        map_scores(Sanity(), MapBatch(maps, toys.query(), [], toys.conv_net()), [Random()])
    for wrong in ([], [Similarity.ssim, Similarity.ssim]):
        with pytest.raises(ConfigError, match="similarities"):
            Sanity(similarities=wrong)


@dataclass(frozen=True)
class Edges:
    """Shows where the frames change, whatever the network: the kind of map that the check is there to catch."""

    version: ClassVar[int] = 1

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        return Explanation(query.frames.mean(1).diff(dim=2, append=query.frames.mean(1)[:, :, -1:]).abs())


def synthetic(model: TinyR2Plus1D, clips: int) -> Query:
    samples = [read(clip, model.input) for clip in Synthetic(clips=clips, frames=16, size=64).index().clips]
    frames = model.input.normalise(torch.from_numpy(np.stack([sample.pixels for sample in samples])))
    return Query(frames, torch.zeros(clips, dtype=torch.int64), tuple(range(clips)))


def test_a_trained_network_passes_and_an_edge_detector_does_not() -> None:
    config = TinyR2Plus1D()
    model, query = config.load(), synthetic(config, 3)
    query = Query(query.frames, model.probabilities(query.frames).argmax(1), query.seeds)
    methods = (Gradient(), GradCAM(), Edges())
    maps = torch.stack([method(model, query).map for method in methods])
    spearman = (
        Sanity(similarities=[Similarity.spearman])
        .score_methods(MapBatch(maps, query, [], model), methods)
        .curves["spearman"]
    )
    torch.testing.assert_close(spearman[..., 0], torch.ones(3, 3, dtype=torch.float64))
    end = spearman[..., -1].nanmedian(1).values
    assert end[:2].abs().max() < 0.3
    assert end[2] == pytest.approx(1)
    assert (spearman[0].mean(0).diff() < 0).all(), "the gradient forgets more at each part"


SMALL = (
    "dataset.clips=4",
    "dataset.frames=16",
    "dataset.size=64",
    "model.input.frames=8",
    "model.input.size=[32,32]",
    "limit=2",
    "--quiet",
)
PLAIN = (*SMALL, "render.grid=false", "render.gif=false", "render.mp4=false", "render.comparison=false")


def test_from_the_command_line(vidattr: Command, tmp_path: Path) -> None:
    vidattr("run", "model=tiny_cnn_lstm", "method=gradient,grad_cam", *PLAIN)
    asked = ("model=tiny_cnn_lstm", "metric=sanity")
    found = vidattr("evaluate", "method=gradient", *asked, *SMALL, "--json")
    assert found.code == 0, found.err
    (table,) = json.loads(found.out)
    entries = {(entry["row"], entry["column"]): entry for entry in table["entries"]}
    for row in ("gradient", *BASELINES):
        assert entries[row, "Unchanged: spearman"]["value"] == pytest.approx(1, abs=1e-6)
        assert entries[row, "Unchanged: spearman"]["n"] == 2
    assert entries["gradient", "Random: spearman, median"]["value"] < 0.9
    for row in BASELINES:
        assert entries[row, "Random: spearman, median"]["value"] == pytest.approx(1)
    (curve,) = (tmp_path / "visual_res/gradient").rglob("sanity-*.spearman.csv")
    heading = ["clip", "0 unchanged", "1 head", "2 lstm", "3 cnn.3", "4 cnn.2", "5 cnn.1", "6 cnn.0"]
    assert list(pd.read_csv(curve).columns) == heading
    sheets = sorted((tmp_path / "visual_res/tables").rglob("*-sanity-*/*.png"))
    assert len(sheets) == 2
    with Image.open(sheets[0]) as image:
        narrow = image.size
    assert narrow[0] > 7 * 160
    # A method that is judged later joins the others on a sheet of its own company; nothing is judged twice.
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("scores/**/*.safetensors")}
    assert len(before) == (1 + len(BASELINES)) * 2
    both = vidattr("evaluate", "method=gradient,grad_cam", *asked, *SMALL, "--format", "csv")
    assert both.code == 0, both.err
    assert {path: path.stat().st_mtime_ns for path in before} == before
    new = sorted(set((tmp_path / "visual_res/tables").rglob("*-sanity-*/*.png")) - set(sheets))
    assert [path.name for path in new] == [path.name for path in sheets]
    with Image.open(new[0]) as image:
        assert image.size[0] >= narrow[0]
        assert image.size[1] > narrow[1] + 160, "one more row"
    # Shown again, it reads the same and draws nothing.
    drawn = {path: path.stat().st_mtime_ns for path in new}
    assert vidattr("table", "method=gradient,grad_cam", *asked, *SMALL[:-1], "--format", "csv").out == both.out
    assert {path: path.stat().st_mtime_ns for path in new} == drawn


def test_a_damaged_strip_is_told(vidattr: Command, tmp_path: Path) -> None:
    vidattr("run", "method=center", *PLAIN)
    assert vidattr("evaluate", "method=center", "metric=sanity", *SMALL).code == 0
    (picture, *_) = (tmp_path / "visual_res/tables").rglob("*-sanity-*/*.png")
    picture.unlink()
    (strip,) = (tmp_path / "visual_res/center").rglob(f"scores/**/{picture.stem}.safetensors")
    strip.write_bytes(strip.read_bytes()[:50])
    found = vidattr("evaluate", "method=center", "metric=sanity", *SMALL)
    assert found.code == 1
    assert "is damaged" in found.err
    assert "delete the scores beside it" in found.err


def test_a_picture_of_strips_is_drawn_again_when_what_it_shows_has_changed(vidattr: Command, tmp_path: Path) -> None:
    vidattr("run", "method=center", *PLAIN)
    asked = ("method=center", "metric=sanity", *SMALL[:-2], "limit=1")
    assert vidattr("evaluate", *asked).code == 0
    (picture,) = (tmp_path / "visual_res/tables").rglob("*-sanity-*/*.png")
    first = picture.read_bytes()
    (sheets,) = stored_tables(experiments(asked, primary="evaluate"))

    def drawn(**options: object) -> bool:
        """Returns whether the picture is written, whatever the times of its files are."""
        os.utime(picture, ns=(10**18, 10**18))
        render = replace(Render(), **options)  # type: ignore[arg-type]
        found = [replace(sheet, experiment=replace(sheet.experiment, render=render)) for sheet in sheets]
        assert draw_strips(found, picture.parent) is picture.exists()
        assert not any(sheet.failures for sheet in found)
        return picture.exists() and picture.stat().st_mtime_ns != 10**18

    assert not drawn()
    assert not drawn(fps=3.0, gif=False, animation_tile=100)  # options of other pictures
    for name, value in {"colormap": "turbo", "opacity": 0.3, "tile": 100, "percentile": 80.0}.items():
        assert drawn(**{name: value}), name
        assert picture.read_bytes() != first
        assert not drawn(**{name: value}), name
    assert drawn()
    assert picture.read_bytes() == first
    # The content of a strip counts, and not that its file is older than the picture.
    (strip,) = (tmp_path / "visual_res/center").rglob(f"scores/**/{picture.stem}.safetensors")
    stored = StoredStrip.load(strip)
    replace(stored, maps=stored.maps.roll(3, 2)).save(strip)
    os.utime(strip, ns=(0, 0))
    assert drawn()
    assert picture.read_bytes() != first
    # A picture that is not wanted stays while it is current.
    assert not drawn(comparison=False)
    assert picture.exists()
    assert not drawn(comparison=False, opacity=0.5)
    assert not picture.exists()


def test_the_middle_frame_is_kept_with_its_pixels(tmp_path: Path) -> None:
    values, pixels = torch.tensor([1.0, math.nan, 0.5]), torch.zeros(4, 5, 3, dtype=torch.uint8)
    strip = StoredStrip(torch.rand(3, 4, 5), values, pixels, "ssim", 9, ("a", "b", "c"))
    strip.save(tmp_path / "new" / "clip.safetensors")
    back = StoredStrip.load(tmp_path / "new" / "clip.safetensors")
    assert (back.name, back.number, back.points) == ("ssim", 9, ("a", "b", "c"))
    for name in ("maps", "values", "pixels"):
        ours: Tensor = getattr(strip, name)
        assert torch.equal(ours.nan_to_num(-1), getattr(back, name).nan_to_num(-1))
