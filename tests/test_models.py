from __future__ import annotations

import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision.models.video as released
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import conv3d, linear, max_pool3d
from torchvision.models.video import R2Plus1D_18_Weights

from vidattr.config.building import build
from vidattr.errors import ConfigError
from vidattr.models.c3d_light import C3DLight, UCF101C3DLight
from vidattr.models.custom import Custom
from vidattr.models.lrcn import UCF50LRCN
from vidattr.models.r2plus1d_light import R2Plus1DLight, UCF101R2Plus1DLight
from vidattr.models.torchvision_resnet import Architecture, TorchvisionResNet
from vidattr.run.compose import choice
from vidattr.video.preprocessing import Channels, Geometry, Preprocessing, Sampling

State = dict[str, Tensor]


def numbered(module: nn.Module) -> State:
    """A state in which no two entries and no running statistics are alike, of a size that keeps activations near 1."""
    generator = torch.Generator().manual_seed(2)
    state = module.state_dict()
    for name, tensor in state.items():
        if tensor.is_floating_point():
            spread = (12 / max(1, tensor[0].numel())) ** 0.5 if tensor.ndim > 1 else 0.2
            tensor.copy_((torch.rand(tensor.shape, generator=generator) - 0.5) * spread)
            tensor += name.endswith("var") or (tensor.ndim == 1 and name.endswith("weight"))
    return state


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(4))


def light(
    tmp_path: Path, kind: type[UCF101R2Plus1DLight] | type[UCF101C3DLight], classes: int = 4
) -> tuple[Any, State]:
    state = numbered((R2Plus1DLight if kind is UCF101R2Plus1DLight else C3DLight)(classes))
    names = [f"name {k}" for k in range(classes)]
    torch.save({"model_state_dict": state, "class_names": names}, tmp_path / "light.pth")
    return kind(weights=str(tmp_path / "light.pth")), state


def keras(tmp_path: Path, classes: int = 5) -> tuple[UCF50LRCN, dict[str, NDArray[np.float32]]]:
    rng = np.random.default_rng(0)
    shapes = {
        "time_distributed_3": (3, 3, 3, 16),
        "time_distributed_6": (3, 3, 16, 32),
        "time_distributed_9": (3, 3, 32, 64),
        "time_distributed_12": (3, 3, 64, 64),
        "dense_1": (32, classes),
    }
    arrays = {f"{name}.kernel": rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1])) for name, shape in shapes.items()}
    arrays |= {f"{name}.bias": rng.normal(size=shape[-1:]) * 0.1 for name, shape in shapes.items()}
    arrays |= {
        "lstm.lstm_cell.kernel": rng.normal(size=(256, 128)) / 8,
        "lstm.lstm_cell.recurrent_kernel": rng.normal(size=(32, 128)) / 4,
    }
    arrays |= {"lstm.lstm_cell.bias": rng.normal(size=128)}
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    np.savez(tmp_path / "lrcn.npz", allow_pickle=False, **arrays)
    return UCF50LRCN(weights=str(tmp_path / "lrcn.npz")), arrays


MODELS = {
    **{name: TorchvisionResNet(architecture=Architecture[name]) for name in ("r2plus1d_18", "r3d_18", "mc3_18")},
    "ucf101_r2plus1d_light": UCF101R2Plus1DLight(),
    "ucf101_c3d_light": UCF101C3DLight(),
    "ucf50_lrcn": UCF50LRCN(),
    "custom": Custom(),
}


@pytest.mark.parametrize(("name", "model"), MODELS.items(), ids=MODELS)
def test_the_yaml_says_what_the_code_says(name: str, model: Any) -> None:
    config = choice("model", name)
    assert build(config, name) == model
    assert set(config) - {"_target_"} == {field.name for field in fields(model)}
    assert set(config.input) == {field.name for field in fields(Preprocessing)}


@pytest.mark.parametrize("architecture", Architecture)
def test_torchvision_networks_answer_as_torchvision_does(tmp_path: Path, architecture: Architecture) -> None:
    twin = getattr(released, architecture.value)(num_classes=7)
    state = numbered(twin)
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, tmp_path / "w.pth")
    network = TorchvisionResNet(architecture=architecture, weights=str(tmp_path / "w.pth")).load()
    twin.load_state_dict(state)
    frames = noise(1, 3, 4, 24, 32)
    with torch.no_grad():
        answer = network(frames)
        assert torch.equal(answer, twin.eval()(frames))
    assert torch.isfinite(answer).all()
    assert answer.std() > 0.01
    assert network.classes == tuple(f"class {k}" for k in range(7))
    assert network.volume(network.activations(frames)[1], 1).shape[:2] == (1, 512)


def test_kinetics_frames_are_landscape_before_the_crop() -> None:
    view, preset = TorchvisionResNet().input, R2Plus1D_18_Weights.KINETICS400_V1.transforms()
    assert (view.frames, view.geometry, view.max_value, view.channels) == (16, Geometry.crop, 1.0, Channels.rgb)
    assert (view.resize, view.size) == (list(preset.resize_size), list(preset.crop_size))
    assert (view.mean, view.std) == (list(preset.mean), list(preset.std))


def test_released_weights_are_downloaded_with_their_hash_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    state = numbered(released.r3d_18())
    asked: list[Any] = []

    def download(url: str, **options: Any) -> State:
        asked.append((url, options["check_hash"], options["weights_only"]))
        return state

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", download)
    model = TorchvisionResNet(architecture=Architecture.r3d_18)
    network = model.load()
    assert asked == [("https://download.pytorch.org/models/r3d_18-b3b3357e.pth", True, True)]
    assert torch.equal(network.module.fc.bias, state["fc.bias"])  # type: ignore[union-attr]
    assert (len(network.classes), network.classes[0], network.classes[399]) == (400, "abseiling", "zumba")
    assert model.weights_file() is None


@pytest.mark.parametrize("error", [URLError("no route to host"), RuntimeError("invalid hash value")])
def test_without_internet_the_file_to_fetch_is_named(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def download(url: str, **_: Any) -> State:
        raise error

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", download)
    with pytest.raises(ConfigError) as caught:
        TorchvisionResNet().load()
    for part in (
        "https://download.pytorch.org/models/r2plus1d_18-91a641e6.pth",
        "model.weights=r2plus1d_18-91a641e6.pth",
    ):
        assert part in str(caught.value)


def test_random_weights_are_the_same_every_time_and_cost_no_randomness() -> None:
    before = torch.random.get_rng_state()
    one, other = (TorchvisionResNet(architecture=Architecture.mc3_18, weights="random").load() for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.module.parameters(), other.module.parameters(), strict=True))
    assert one.classes[:2] == ("class 0", "class 1")


def test_kinetics_names_are_given_to_a_file_of_400_classes(tmp_path: Path) -> None:
    torch.save(released.mc3_18().state_dict(), tmp_path / "w.pth")
    model = TorchvisionResNet(architecture=Architecture.mc3_18, weights=str(tmp_path / "w.pth"))
    assert model.load().classes[0] == "abseiling"
    assert model.weights_file() == tmp_path / "w.pth"


def test_another_networks_checkpoint_is_refused_with_the_difference(tmp_path: Path) -> None:
    torch.save(released.r3d_18(num_classes=2).state_dict(), tmp_path / "r3d.pth")
    torch.save(C3DLight(3).state_dict(), tmp_path / "c3d.pth")
    shapes = r"stem\.0\.weight is \(64, 3, 3, 7, 7\), not \(45, 3, 1, 7, 7\)"
    with pytest.raises(
        ConfigError,
        match=rf"missing \(101\): stem\.3\.weight(.|\n)*unexpected \(16\)(.|\n)*other shape \(5\): {shapes}",
    ):
        TorchvisionResNet(weights=str(tmp_path / "r3d.pth")).load()
    with pytest.raises(
        ConfigError, match=r"does not fit R2Plus1DLight\n  missing (.|\n)*the parts conv1, conv2, conv3, fc"
    ):
        UCF101R2Plus1DLight(weights=str(tmp_path / "c3d.pth")).load()
    with pytest.raises(ConfigError, match=r"does not fit LRCN\n  missing \("):
        UCF50LRCN(weights=str(tmp_path / "c3d.pth")).load()


@pytest.mark.parametrize("model", [UCF101R2Plus1DLight(), UCF101C3DLight(), UCF50LRCN()])
def test_networks_without_weights_ask_for_them(model: Any) -> None:
    assert model.weights_file() is None
    with pytest.raises(ConfigError, match=r"without weights\n(.|\n)*model\.weights=FILE"):
        model.load()


def batch_norm(x: Tensor, state: State, name: str) -> Tensor:
    mean, var, weight, bias = (
        state[f"{name}.{key}"].view(-1, 1, 1, 1) for key in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


def test_the_light_r2plus1d_computes_its_equations(tmp_path: Path) -> None:
    model, state = light(tmp_path, UCF101R2Plus1DLight)
    x = frames = noise(2, 3, 9, 16, 24)
    for stage in ("conv1.0", "conv2.0", "conv3.0"):
        inner = batch_norm(
            conv3d(x, state[f"{stage}.spatial_conv.weight"], padding=(0, 1, 1)), state, f"{stage}.bn1"
        ).relu()
        main = batch_norm(
            conv3d(inner, state[f"{stage}.temporal_conv.weight"], padding=(1, 0, 0)), state, f"{stage}.bn2"
        )
        short = batch_norm(conv3d(x, state[f"{stage}.shortcut.0.weight"]), state, f"{stage}.shortcut.1")
        x = max_pool3d((main + short).relu(), 2)
    network = model.load()
    logits, features = network.activations(frames)
    torch.testing.assert_close(features, x, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        logits, linear(x.mean((2, 3, 4)), state["classifier.weight"], state["classifier.bias"]), rtol=1e-4, atol=1e-4
    )
    assert network.classes == ("name 0", "name 1", "name 2", "name 3")
    assert sum(p.numel() for p in R2Plus1DLight(101).parameters()) == 303_576


def test_the_light_c3d_computes_its_equations(tmp_path: Path) -> None:
    model, state = light(tmp_path, UCF101C3DLight)
    x = frames = noise(2, 3, 9, 16, 24)
    for stage in ("conv1", "conv2", "conv3"):
        x = max_pool3d(batch_norm(conv3d(x, state[f"{stage}.0.weight"], padding=1), state, f"{stage}.1").relu(), 2)
    logits, features = model.load().activations(frames)
    torch.testing.assert_close(features, x, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        logits, linear(x.mean((2, 3, 4)), state["fc.weight"], state["fc.bias"]), rtol=1e-4, atol=1e-4
    )


def test_the_two_light_networks_differ_in_the_range_of_their_input() -> None:
    ours, theirs = UCF101R2Plus1DLight().input, UCF101C3DLight().input
    assert (ours.max_value, theirs.max_value) == (1.0, 255.0)
    assert replace(theirs, max_value=1.0) == ours
    assert (ours.frames, ours.sampling, ours.stride, ours.geometry) == (10, Sampling.stride, 15, Geometry.letterbox)


def keras_forward(arrays: dict[str, NDArray[np.float32]], clip: NDArray[np.float32]) -> NDArray[np.float32]:
    """Keras's own equations, frame by frame on (T, H, W, C): `clip` to (K,) logits."""

    def sigmoid(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return 1 / (1 + np.exp(-x))

    h = c = np.zeros(32, np.float32)
    for image in clip:
        x = image
        for name, pool in (
            ("time_distributed_3", 4),
            ("time_distributed_6", 4),
            ("time_distributed_9", 2),
            ("time_distributed_12", 2),
        ):
            kernel, (rows, columns) = arrays[f"{name}.kernel"], x.shape[:2]
            padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
            taps = [padded[i : i + rows, j : j + columns] @ kernel[i, j] for i in range(3) for j in range(3)]
            x = np.maximum(np.sum(taps, axis=0) + arrays[f"{name}.bias"], 0)
            x = x.reshape(rows // pool, pool, columns // pool, pool, -1).max((1, 3))
        cell = "lstm.lstm_cell"
        gates = (
            x.reshape(-1) @ arrays[f"{cell}.kernel"] + h @ arrays[f"{cell}.recurrent_kernel"] + arrays[f"{cell}.bias"]
        )
        i, f, g, o = np.split(gates, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    return h @ arrays["dense_1.kernel"] + arrays["dense_1.bias"]


def test_the_cnn_lstm_computes_keras_equations(tmp_path: Path) -> None:
    model, arrays = keras(tmp_path)
    frames = noise(2, 3, 3, 128, 128)
    expected = np.stack([keras_forward(arrays, clip.permute(1, 2, 3, 0).numpy()) for clip in frames])
    network = model.load()
    torch.testing.assert_close(network(frames), torch.from_numpy(expected), rtol=1e-4, atol=1e-5)
    assert network.classes == ("Biking", "Diving", "GolfSwing", "Punch", "Rowing")


def test_the_cnn_lstm_unfolds_its_frames(tmp_path: Path) -> None:
    network = keras(tmp_path)[0].load()
    frames = noise(2, 3, 3, 128, 128)
    features = network.activations(frames)[1]
    volume = network.volume(features, 2)
    assert (features.shape, volume.shape) == ((6, 64, 4, 4), (2, 64, 3, 4, 4))
    alone = network.volume(network.activations(frames[1:, :, 2:])[1], 1)
    torch.testing.assert_close(volume[1:, :, 2:], alone)


def test_the_cnn_lstm_sees_bgr_and_one_size_only() -> None:
    view = UCF50LRCN().input
    assert (view.frames, view.size, view.sampling, view.geometry) == (20, [128, 128], Sampling.floor, Geometry.squash)
    red = torch.tensor([255, 0, 0], dtype=torch.uint8).expand(1, 1, 1, 1, 3)
    assert view.normalise(red).flatten().tolist() == [0, 0, 1]
    with pytest.raises(ConfigError, match=r"size=\[112, 112\]\n.*\[128, 128\]"):
        UCF50LRCN(input=replace(view, size=[112, 112]))


OWN = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes=2, **_):
        super().__init__()
        self.features = nn.Sequential(nn.Conv3d(3, 4, 3, padding=1), nn.ReLU(inplace=True))
        self.fc = nn.Linear(4, classes)
    def forward(self, x):
        return self.fc(self.features(x).mean((2, 3, 4)))

class PerFrame(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(3, 4, 3)
    def forward(self, x):
        return self.features(x.transpose(1, 2).flatten(0, 1)).mean((2, 3)).view(len(x), -1, 4).mean(1)

class Answers(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape
    def forward(self, x):
        return torch.zeros(list(self.shape)) if self.shape else {"logits": x}

class Small(nn.Module):
    def forward(self, x):
        return x.view(1, 3 * 4 * 4 * 4)[:, :2]

def build(classes):
    return Net(classes)

def no_module():
    return 3

number = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Preprocessing:
    (tmp_path / "own_network.py").write_text(OWN)
    (tmp_path / "needs_more.py").write_text("import surely_not_installed")
    monkeypatch.chdir(tmp_path)
    for name in ("own_network", "needs_more"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return Preprocessing(frames=4, size=[8, 8])


@pytest.mark.parametrize("target", ["own_network:Net", "own_network:build"])
def test_a_class_or_function_in_the_current_folder_makes_a_network(own: Preprocessing, target: str) -> None:
    path = list(sys.path)
    network = Custom(target=target, arguments={"classes": 3}, input=own, layer="features").load()
    assert sys.path == path
    assert network.classes == ("class 0", "class 1", "class 2")
    assert network.activations(noise(2, 3, 4, 8, 8))[1].shape == (2, 4, 4, 8, 8)
    assert not any(getattr(module, "inplace", False) or module.training for module in network.module.modules())


def test_weights_and_names_of_an_own_network(own: Preprocessing, tmp_path: Path) -> None:
    state = {
        "features.0.weight": noise(4, 3, 3, 3, 3),
        "features.0.bias": noise(4),
        "fc.weight": noise(2, 4),
        "fc.bias": noise(2),
    }
    torch.save({"state_dict": state, "class_names": ["x", "y"]}, "w.pth")
    network = Custom(target="own_network:Net", weights="w.pth", input=own).load()
    assert torch.equal(network.module.fc.bias, state["fc.bias"])  # type: ignore[union-attr]
    assert network.classes == ("x", "y")
    (tmp_path / "names.txt").write_text("ä\nb c\n")
    assert Custom(target="own_network:Net", weights="w.pth", input=own, classes="names.txt").load().classes == (
        "ä",
        "b c",
    )
    with pytest.raises(ConfigError, match=r"names 2 classes\n.*3 names"):
        Custom(target="own_network:build", arguments={"classes": 3}, input=own, classes="names.txt").load()
    with pytest.raises(ConfigError, match=r"classes=nowhere\.txt: no such list or file"):
        Custom(target="own_network:Net", input=own, classes="nowhere.txt").load()
    with pytest.raises(ConfigError, match=r"other shape \(2\): fc\.weight is \(2, 4\), not \(3, 4\)"):
        Custom(target="own_network:Net", arguments={"classes": 3}, weights="w.pth", input=own).load()


def test_frames_that_an_own_network_folds_into_the_batch_are_unfolded(own: Preprocessing) -> None:
    network = Custom(target="own_network:PerFrame", input=own, layer="features").load()
    features = network.activations(noise(2, 3, 4, 8, 8))[1]
    assert (features.shape, network.volume(features, 2).shape) == ((8, 4, 6, 6), (2, 4, 4, 6, 6))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (None, "model.target is None\n.*package.module:builder"),
        ("own_network.Net", "model.target is 'own_network.Net'\n.*package.module:builder"),
        ("nowhere_at_all:Net", "cannot import 'nowhere_at_all'.*\n.*installed or in the current folder"),
        ("needs_more:Net", "cannot import 'needs_more'.*No module named 'surely_not_installed'"),
        ("own_network:Nets", r"own_network \(.*own_network\.py\) has no function or class 'Nets'"),
        ("own_network:number", "has no function or class 'number'"),
        ("own_network:no_module", "returned a int\n.*an nn.Module"),
        (
            "own_network:Small",
            r"refused a clip of shape \(1, 3, 4, 6, 6\): (.|\n)*set model\.input\.frames and model\.input\.size",
        ),
    ],
)
def test_a_builder_that_cannot_be_had_is_named(own: Preprocessing, target: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Custom(target=target, input=replace(own, size=[6, 6])).load()


@pytest.mark.parametrize("arguments", [{}, {"classes": 3, "colour": 1}])
def test_arguments_that_the_builder_does_not_take_are_refused(own: Preprocessing, arguments: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"model\.arguments=.*\n.*what own_network:build takes"):
        Custom(target="own_network:build", arguments=arguments, input=own).load()


@pytest.mark.parametrize(
    ("shape", "found"),
    [([], "a dict"), ([1, 2, 4], r"a tensor of shape \(1, 2, 4\)"), ([4, 2], r"a tensor of shape \(4, 2\)")],
)
def test_an_answer_that_is_no_row_of_logits_is_refused(own: Preprocessing, shape: list[int], found: str) -> None:
    with pytest.raises(ConfigError, match=f"returned {found} for one clip\n.*logits\n.*wrap it"):
        Custom(target="own_network:Answers", arguments={"shape": shape}, input=own).load()
