from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear, max_pool2d
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet50

from vidattr.config.building import build
from vidattr.errors import ConfigError
from vidattr.models.network.lstm import Activation
from vidattr.models.vgg16lstm import BPTT, Average, Backbone, LSTMCell, RecurrentCNN
from vidattr.models.weights.checkpoint import Checkpoint
from vidattr.run.compose import choice
from vidattr.video.preprocessing import Channels, Geometry, Preprocessing, Resample, Sampling

VGG = RecurrentCNN()
FINETUNED = RecurrentCNN(
    bptt=BPTT.truncated,
    input=replace(
        VGG.input, channels=Channels.rgb, mean=[0.50463 * 255, 0.45796 * 255, 0.4076 * 255], resample=Resample.pillow
    ),
    classes=None,
)
RESNET = RecurrentCNN(
    Backbone.resnet50,
    bptt=BPTT.truncated,
    average=Average.logit,
    classes=None,
    input=Preprocessing(
        size=[112, 112],
        resample=Resample.pillow,
        sampling=Sampling.released_last,
        mean=[0.43216, 0.394666, 0.37645],
        std=[0.22803, 0.22145, 0.216989],
    ),
)
MODELS = {"vgg16lstm": VGG, "vgg16lstm_finetuned": FINETUNED, "resnet50lstm": RESNET}

# What `vgg16lstm_pytorch` and `Resnet50LSTM` of the released repository register, in its order.
CONVOLUTIONS = [
    (1, 1, 3, 64),
    (1, 2, 64, 64),
    (2, 1, 64, 128),
    (2, 2, 128, 128),
    (3, 1, 128, 256),
    (3, 2, 256, 256),
    (3, 3, 256, 256),
]
CONVOLUTIONS += [(4, 1, 256, 512), *((s, k, 512, 512) for s, k in ((4, 2), (4, 3), (5, 1), (5, 2), (5, 3)))]
VGG_SHAPES: dict[str, tuple[int, ...]] = {f"conv{s}_{k}.weight": (o, i, 3, 3) for s, k, i, o in CONVOLUTIONS}
VGG_SHAPES |= {f"conv{s}_{k}.bias": (o,) for s, k, _, o in CONVOLUTIONS}
VGG_SHAPES |= {"fc6.weight": (4096, 25088), "fc6.bias": (4096,), "fc7.weight": (4096, 4096), "fc7.bias": (4096,)}
VGG_SHAPES |= {"lstm1.fc_x.weight": (1024, 4096), "lstm1.fc_x.bias": (1024,), "lstm1.fc_h.weight": (1024, 256)}
RESNET_SHAPES: dict[str, tuple[int, ...]] = {
    "fc6.weight": (1024, 2048),
    "fc6.bias": (1024,),
    "fc7.weight": (512, 1024),
    "fc7.bias": (512,),
}
RESNET_SHAPES |= {"lstm1.fc_x.weight": (1024, 512), "lstm1.fc_x.bias": (1024,), "lstm1.fc_h.weight": (1024, 256)}


def released(backbone: Backbone, classes: int) -> dict[str, tuple[int, ...]]:
    head: dict[str, tuple[int, ...]] = {"fc8_final.weight": (classes, 256), "fc8_final.bias": (classes,)}
    if backbone is Backbone.vgg16:
        return VGG_SHAPES | head
    with torch.device("meta"):
        trunk = resnet50().state_dict()
    numbers = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    shapes = {name: tuple(t.shape) for name, t in trunk.items() if not name.startswith("fc.")}
    return (
        RESNET_SHAPES
        | head
        | {f"resnet.{numbers[n.split('.')[0]]}.{n.partition('.')[2]}": s for n, s in shapes.items()}
    )


def meta(model: RecurrentCNN, classes: int = 101) -> nn.Module:
    with torch.device("meta"):
        return model.build()(classes).eval()


@pytest.mark.parametrize("name", MODELS)
def test_the_yaml_says_what_the_code_says(name: str) -> None:
    config = choice("model", name)
    found = build(config, name)  # type: ignore[arg-type]
    assert isinstance(found, RecurrentCNN)
    assert found.input.mean == pytest.approx(MODELS[name].input.mean)
    assert replace(found, input=replace(found.input, mean=MODELS[name].input.mean)) == MODELS[name]
    assert set(config) - {"_target_"} == {field.name for field in fields(RecurrentCNN)}
    assert set(config.input) == {field.name for field in fields(Preprocessing)}


# --- Size and cost ---------------------------------------------------------------------------------------------------


def count(module: nn.Module, *names: str) -> int:
    return sum(p.numel() for name, p in module.named_parameters() if name.startswith(names or ("",)))


def test_parameters_of_vgg16_are_the_published_ones() -> None:
    module = meta(VGG)
    assert (
        count(module, "conv") == 14_714_688
    )  # Simonyan and Zisserman: 138 million, of which 123.6 in three linear layers
    assert count(module, "fc6") == 102_764_544
    assert count(module, "fc7") == 16_781_312
    assert count(module, "lstm1") == 4 * 256 * (4096 + 256 + 1)
    assert count(module) == 14_714_688 + 102_764_544 + 16_781_312 + 4_457_472 + 101 * 257
    assert round(count(module) / 1e6, 1) == 138.7


def test_parameters_of_the_resnet_are_torchvisions_without_its_head() -> None:
    assert count(meta(RESNET), "resnet") == 25_557_032 - 2048 * 1000 - 1000


@dataclass(frozen=True)
class Cost:
    model: RecurrentCNN
    shape: tuple[int, ...]
    flop: float  # two for each multiply-add
    source: str


COSTS = [
    Cost(VGG, (16, 224, 224), 495e9, "VGG16, 16 frames: 15.47 GMAC each"),
    Cost(RESNET, (8, 224, 224), 65.4e9, "ResNet-50, 8 frames: 4.09 GMAC each"),
]


@pytest.mark.parametrize("cost", COSTS, ids=lambda cost: cost.model.backbone)
def test_cost_is_the_published_one(cost: Cost) -> None:
    module = meta(cost.model)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(torch.empty(1, 3, *cost.shape, device="meta"))
    assert counter.get_total_flops() == pytest.approx(cost.flop, rel=0.005), cost.source


# --- The released checkpoints ----------------------------------------------------------------------------------------


@pytest.fixture
def on_meta(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Makes `read` find the returned state, and networks without storage: half a gigabyte is only named, never held."""
    state: dict[str, Tensor] = {}
    monkeypatch.setattr("vidattr.models.weights.loading.read", lambda path: Checkpoint(path, state))
    original = RecurrentCNN.build

    def build(self: RecurrentCNN) -> Any:
        make = original(self)

        def without_storage(classes: int) -> nn.Module:
            with torch.device("meta"):
                return make(classes)

        return without_storage

    monkeypatch.setattr(RecurrentCNN, "build", build)
    return state


def states(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


@pytest.mark.parametrize("model", [VGG, RESNET], ids=lambda model: model.backbone)
@pytest.mark.parametrize("classes", [101, 24])
def test_names_and_shapes_are_the_released_ones(model: RecurrentCNN, classes: int, on_meta: dict[str, Tensor]) -> None:
    on_meta |= states(released(model.backbone, classes))
    network = replace(model, weights="released.pt").load()
    assert len(network.classes) == classes
    assert network.classes[0] == ("ApplyEyeMakeup" if classes == 101 and model is VGG else "class 0")
    assert {name: tuple(t.shape) for name, t in network.module.state_dict().items()} == released(
        model.backbone, classes
    )
    clip = torch.empty(2, 3, 3, *model.input.size, device="meta")
    with torch.no_grad():
        assert network(clip).shape == (2, classes)
    features = network.activations(clip)[1]
    side = model.input.size[0] // 32 + (model.backbone is Backbone.resnet50)  # a ResNet rounds up
    assert network.volume(features, 2).shape == (
        2,
        *{Backbone.vgg16: (512, 3, 7, 7), Backbone.resnet50: (2048, 3, side, side)}[model.backbone],
    )


def test_another_checkpoint_is_refused_with_the_difference(on_meta: dict[str, Tensor]) -> None:
    on_meta |= states(released(Backbone.resnet50, 24))
    with pytest.raises(
        ConfigError,
        match=r"does not fit VGG16LSTM\n  missing \(26\): conv1_1\.weight(.|\n)*unexpected \(318\): resnet\.0\.weight",
    ) as caught:
        replace(VGG, weights="r50l.pt").load()
    assert "other shape (5)" in str(caught.value)
    assert "fc6.weight is (1024, 2048), not (4096, 25088)" in str(caught.value)
    on_meta.clear()
    on_meta |= states(released(Backbone.vgg16, 24))
    del on_meta["lstm1.fc_h.weight"]
    with pytest.raises(ConfigError, match=r"missing \(1\): lstm1\.fc_h\.weight"):
        replace(VGG, weights="v16l.pt").load()


def test_a_file_under_module_is_loaded_and_filled(tmp_path: Path) -> None:
    model = replace(RESNET, weights="random", input=replace(RESNET.input, size=[32, 32]))
    module = model.build()(3)
    torch.save({f"module.{name}": tensor for name, tensor in module.state_dict().items()}, tmp_path / "r50l.pt")
    network = replace(model, weights=str(tmp_path / "r50l.pt")).load()
    assert network.classes == ("class 0", "class 1", "class 2")
    for name, tensor in network.module.state_dict().items():
        assert torch.equal(tensor, module.state_dict()[name]), name


def test_without_weights_it_says_where_they_are_from() -> None:
    assert VGG.weights_file() is None
    with pytest.raises(ConfigError, match=r"without weights\n.*Caffe-ExcitationBP-RNNs"):
        VGG.load()


def test_vgg16_takes_sizes_that_five_pools_halve() -> None:
    with pytest.raises(ConfigError, match=r"size=\[112, 120\]\n.*multiples of 32"):
        replace(VGG, input=replace(VGG.input, size=[112, 120]))
    assert VGG.input.geometry is Geometry.crop
    red = torch.tensor([255, 0, 0], dtype=torch.uint8).expand(1, 1, 1, 1, 3)
    torch.testing.assert_close(VGG.input.normalise(red).flatten(), torch.tensor([-103.939, -116.779, 255 - 128.68]))


# --- The equations ---------------------------------------------------------------------------------------------------


def reference(module: nn.Module, frames: Tensor, convolved: Tensor | None, squash: Any, average: Average) -> Tensor:
    """The released forward pass, one clip, one frame at a time."""
    state = module.state_dict()

    def layer(name: str, x: Tensor) -> Tensor:
        return linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))

    answers = []
    for n, clip in enumerate(frames):
        h = c = torch.zeros(256, dtype=frames.dtype)
        scores = []
        for t in range(clip.shape[1]):
            if convolved is None:
                x = clip[None, :, t]
                for stage, layers in ((1, 2), (2, 2), (3, 3), (4, 3), (5, 3)):
                    for k in range(1, layers + 1):
                        x = conv2d(
                            x, state[f"conv{stage}_{k}.weight"], state[f"conv{stage}_{k}.bias"], padding=1
                        ).relu()
                    x = max_pool2d(x, 2)
            else:
                x = convolved[n, t]
            x = layer("fc7", layer("fc6", x.flatten()).relu()).relu()
            i, f, o, g = (layer("lstm1.fc_x", x) + layer("lstm1.fc_h", h)).view(4, 256)
            c = f.sigmoid() * c + i.sigmoid() * squash(g)
            h = o.sigmoid() * squash(c)
            scores.append(layer("fc8_final", h))
        steps = torch.stack(scores)
        answers.append(steps.mean(0) if average is Average.logit else steps.softmax(1).mean(0).log())
    return torch.stack(answers)


def frames(clips: int, steps: int, side: int) -> Tensor:
    return 2 * torch.randn(clips, 3, steps, side, side, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def test_vgg16lstm_computes_the_released_equations() -> None:
    network = replace(VGG, weights="random", input=replace(VGG.input, size=[32, 32])).load()
    for name, parameter in network.module.named_parameters():  # PyTorch's start lets thirteen layers fade to nothing
        if name.startswith("conv") and name.endswith("weight"):
            parameter.mul_(6**0.5)
    clips = frames(2, 3, 32)
    found = network(clips)
    assert found.exp().sum(1) == pytest.approx(torch.ones(2))
    expected = reference(network.module, clips, None, torch.relu, Average.prob)
    assert (expected[0] - expected[1]).abs().max() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("average", Average)
@pytest.mark.parametrize(("activation", "squash"), [(Activation.relu, torch.relu), (Activation.tanh, torch.tanh)])
def test_resnet50lstm_computes_the_released_equations(average: Average, activation: Activation, squash: Any) -> None:
    model = replace(
        RESNET, weights="random", average=average, activation=activation, input=replace(RESNET.input, size=[32, 32])
    )
    network = model.load()
    clips = frames(2, 3, 32)
    trunk = network.module.resnet(clips.transpose(1, 2).flatten(0, 1)).view(2, 3, -1)  # type: ignore[operator]
    expected = reference(network.module, clips, trunk, squash, average)
    torch.testing.assert_close(network(clips), expected, rtol=1e-4, atol=1e-5)


def cell(activation: Activation, bptt: BPTT) -> LSTMCell:
    torch.manual_seed(0)
    return LSTMCell(5, activation, bptt).double()


def test_truncation_changes_no_answer_and_cuts_every_gradient_in_time() -> None:
    x = torch.randn(2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    full, cut = (cell(Activation.relu, bptt)(x) for bptt in BPTT)
    assert torch.equal(full, cut)
    for s in range(4):
        (of_full,), (of_cut,) = (torch.autograd.grad(y[:, s].sum(), x, retain_graph=True) for y in (full, cut))
        assert (of_cut.abs().sum((0, 2)) > 0).tolist() == [t == s for t in range(4)]
        assert (of_full.abs().sum((0, 2)) > 0).tolist() == [t <= s for t in range(4)]


def test_with_tanh_it_is_torchs_lstm() -> None:
    own = cell(Activation.tanh, BPTT.full)
    theirs = nn.LSTM(5, 256, batch_first=True).double()
    i, f, o, g = range(4)
    order = torch.cat([torch.arange(256) + 256 * gate for gate in (i, f, g, o)])
    theirs.load_state_dict(
        {
            "weight_ih_l0": own.fc_x.weight[order],
            "weight_hh_l0": own.fc_h.weight[order],
            "bias_ih_l0": own.fc_x.bias[order],
            "bias_hh_l0": torch.zeros(1024),
        }
    )
    x = torch.randn(2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(own(x), theirs(x)[0], rtol=1e-12, atol=1e-12)
