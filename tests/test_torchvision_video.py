from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchvision.models.video as released
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import WeightsEnum

from vidattr.config.building import build
from vidattr.errors import ConfigError
from vidattr.models.network.linear_head import gap_linear_head
from vidattr.models.torchvision_video import Architecture, TorchvisionVideo, unfold_mvit, unfold_swin
from vidattr.run.compose import choice
from vidattr.video.preprocessing import Geometry, Preprocessing

WEIGHTS: dict[Architecture, WeightsEnum] = {
    Architecture.s3d: released.S3D_Weights.KINETICS400_V1,
    Architecture.mvit_v2_s: released.MViT_V2_S_Weights.KINETICS400_V1,
    Architecture.swin3d_t: released.Swin3D_T_Weights.KINETICS400_V1,
}
# The smallest clip that each takes, and the grid of its features.
SMALLEST = {
    Architecture.s3d: ((14, 224, 224), (1024, 2, 7, 7)),
    Architecture.mvit_v2_s: ((16, 224, 224), (768, 8, 7, 7)),
    Architecture.swin3d_t: ((4, 64, 96), (768, 2, 2, 3)),
}


def small(architecture: Architecture, **options: Any) -> TorchvisionVideo:
    frames, *size = SMALLEST[architecture][0]
    return TorchvisionVideo(architecture=architecture, input=Preprocessing(frames=frames, size=size), **options)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("architecture", Architecture)
def test_the_yaml_says_what_torchvision_says(architecture: Architecture) -> None:
    config = choice("model", str(architecture))
    model, preset = build(config, architecture), WEIGHTS[architecture].transforms()
    assert (model.architecture, model.weights, model.classes) == (architecture, "kinetics400", "released:kinetics400")
    assert (model.input.mean, model.input.std) == (list(preset.mean), list(preset.std))
    assert (model.input.geometry, model.input.resize, model.input.size) == (
        Geometry.crop,
        list(preset.resize_size),
        list(preset.crop_size),
    )
    assert model.input.frames == {"s3d": 128, "mvit_v2_s": 16, "swin3d_t": 32}[architecture]
    assert set(config) - {"_target_"} == {field.name for field in fields(model)}
    assert set(config.input) == {field.name for field in fields(Preprocessing)}
    if architecture is Architecture.s3d:
        assert model == TorchvisionVideo()


@pytest.mark.parametrize("architecture", Architecture)
def test_its_size_and_its_cost_are_the_published_ones(architecture: Architecture) -> None:
    weights = WEIGHTS[architecture]
    with torch.device("meta"):
        module = getattr(released, architecture)().eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(torch.empty(1, 3, 16, 224, 224))
    assert sum(parameter.numel() for parameter in module.parameters()) == weights.meta["num_params"]
    assert counter.get_total_flops() / 2e9 == pytest.approx(weights.meta["_ops"], abs=1e-3)


@pytest.mark.parametrize(
    "architecture",
    [Architecture.s3d, pytest.param(Architecture.mvit_v2_s, marks=pytest.mark.slow), Architecture.swin3d_t],
)
def test_it_answers_as_torchvision_does_and_offers_its_features(tmp_path: Path, architecture: Architecture) -> None:
    torch.manual_seed(0)
    twin = getattr(released, architecture)(num_classes=7).eval()
    torch.save(
        {"state_dict": {f"module.{name}": tensor for name, tensor in twin.state_dict().items()}}, tmp_path / "w.pth"
    )
    network = small(architecture, weights=str(tmp_path / "w.pth")).load()
    size, grid = SMALLEST[architecture]
    clip = noise(1, 3, *size).requires_grad_()
    with torch.no_grad():
        expected = twin(clip)
    logits, features = network.activations(clip)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    assert expected.std() > 0.01
    assert network.classes == tuple(f"class {k}" for k in range(7))
    assert network.volume(features, 1).shape == (1, *grid)
    assert torch.autograd.grad(logits[0, 3], features)[0].abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in network.module.parameters())
    assert not any(getattr(module, "inplace", False) for module in network.module.modules())


def test_a_clip_stands_on_its_own_and_its_gradient_reaches_every_pixel() -> None:
    network = small(Architecture.swin3d_t, weights="random").load()
    frames = noise(3, 3, 4, 64, 96)
    torch.testing.assert_close(network(frames[1:2])[0], network(frames)[1], rtol=1e-4, atol=1e-5)
    clip = frames[:1].clone().requires_grad_()
    assert torch.autograd.grad(network(clip)[0, 2], clip)[0].abs().amax((0, 1)).gt(0).all()


def test_the_average_of_swins_features_is_what_its_head_reads() -> None:
    network = small(Architecture.swin3d_t, weights="random").load()
    frames = noise(2, 3, 4, 64, 96)
    layer, weight, bias = gap_linear_head(network, frames)
    assert (layer, weight.shape) == ("avgpool.volume", (400, 768))
    logits, features = network.activations(frames)
    torch.testing.assert_close(features.mean((2, 3, 4)) @ weight.T + bias, logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("halvings", range(4))
@pytest.mark.parametrize(("frames", "size"), [(16, (224, 224)), (4, (64, 96))])
def test_mvits_tokens_land_on_their_places(frames: int, size: tuple[int, int], halvings: int) -> None:
    steps, height, width = frames // 2, *(side // 4 >> halvings for side in size)
    tokens = torch.zeros(2, 1 + steps * height * width, 3)
    t, row, column = steps - 1, height // 2, width - 2
    tokens[1, 0] = 9
    tokens[1, 1 + (t * height + row) * width + column, 2] = 1
    volume = unfold_mvit(Preprocessing(frames=frames, size=list(size)))(tokens, 2)
    assert volume.shape == (2, 3, steps, height, width)
    assert torch.nonzero(volume).tolist() == [[1, 2, t, row, column]]


def test_what_is_no_token_of_mvit_is_left_alone() -> None:
    unfold = unfold_mvit(Preprocessing(frames=16, size=[224, 224]))
    for shape in ((2, 400), (2, 8, 3), (2, 3, 8, 7, 7), (2, 8 * 49, 3)):
        assert unfold(torch.zeros(shape), 2).shape == shape


@pytest.mark.parametrize(
    ("layer", "grid"),
    [
        ("patch_embed.proj", (96, 2, 16, 24)),  # the last that puts channels first
        ("patch_embed", (96, 2, 16, 24)),
        ("features.0.1", (96, 2, 16, 24)),
        ("features.2.0.attn", (192, 2, 8, 12)),
        ("features.4.5.norm1", (384, 2, 4, 6)),
        ("features.6", (768, 2, 2, 3)),
        ("norm", (768, 2, 2, 3)),
    ],
)
def test_swins_channels_are_brought_to_the_front_wherever_they_are(layer: str, grid: tuple[int, ...]) -> None:
    network = small(Architecture.swin3d_t, weights="random").load()
    frames = noise(2, 3, 4, 64, 96)
    _, before = network.activations(frames, layer)
    volume = network.volume(before, 2)
    assert volume.shape == (2, *grid)
    assert torch.equal(volume, before.movedim(before.shape.index(grid[0]), 1))
    if layer == "norm":
        torch.testing.assert_close(volume, network.activations(frames)[1])


def test_odd_sizes_of_swin_are_padded_and_halved_upwards() -> None:
    unfold = unfold_swin(Preprocessing(frames=5, size=[50, 70]))
    for t, h, w in ((3, 13, 18), (3, 7, 9), (3, 4, 5), (3, 2, 3)):
        assert unfold(torch.zeros(2, t, h, w, 96), 2).shape == (2, 96, t, h, w)
        assert unfold(torch.zeros(2, 96, t, h, w), 2).shape == (2, 96, t, h, w)


@pytest.mark.parametrize(
    ("architecture", "view", "message"),
    [
        (Architecture.s3d, Preprocessing(frames=8, size=[224, 224]), r"input\.frames=8\n.*at least 14, for s3d"),
        (Architecture.s3d, Preprocessing(frames=16, size=[224, 112]), r"input\.size=224,112\n.*at least 224, for s3d"),
        (
            Architecture.mvit_v2_s,
            Preprocessing(frames=32, size=[224, 224]),
            r"input\.frames=32\n.*expected: 16, for mvit_v2_s",
        ),
        (
            Architecture.mvit_v2_s,
            Preprocessing(frames=16, size=[256, 256]),
            r"input\.size=256,256\n.*expected: 224, for mvit_v2_s",
        ),
    ],
)
def test_sizes_that_a_network_does_not_take_are_refused_at_once(
    architecture: Architecture, view: Preprocessing, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        TorchvisionVideo(architecture=architecture, input=view)


@pytest.mark.parametrize("architecture", [Architecture.s3d, Architecture.swin3d_t])
def test_released_weights_are_downloaded_with_their_hash_and_named(
    monkeypatch: pytest.MonkeyPatch, architecture: Architecture
) -> None:
    torch.manual_seed(0)
    state = getattr(released, architecture)().state_dict()
    asked: list[Any] = []

    def download(url: str, **options: Any) -> dict[str, Tensor]:
        asked.append((url, options["check_hash"], options["weights_only"]))
        return state

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", download)
    model = small(architecture)
    network = model.load()
    assert asked == [(WEIGHTS[architecture].url, True, True)]
    assert (network.classes[0], network.classes[399]) == ("abseiling", "zumba")
    assert model.weights_file() is None
    own = network.module.state_dict()
    assert own.keys() == state.keys()
    assert all(torch.equal(own[name], tensor) for name, tensor in state.items())


def test_without_internet_the_file_to_fetch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(url: str, **_: Any) -> dict[str, Tensor]:
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", download)
    with pytest.raises(
        ConfigError, match=r"cannot download s3d-d76dad2f\.pth: (.|\n)*model\.weights=s3d-d76dad2f\.pth"
    ):
        TorchvisionVideo().load()


def test_another_networks_checkpoint_is_refused_with_the_difference(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 2).state_dict(), tmp_path / "linear.pth")
    with pytest.raises(
        ConfigError, match=r"does not fit S3D\n  missing \(\d+\): features(.|\n)*unexpected \(2\): weight, bias"
    ):
        TorchvisionVideo(weights=str(tmp_path / "linear.pth")).load()


def test_random_weights_are_the_same_every_time() -> None:
    one, other = (TorchvisionVideo(weights="random").load() for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.module.parameters(), other.module.parameters(), strict=True))
    assert one.classes[0] == "class 0"
