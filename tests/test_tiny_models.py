from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vidattr.datasets.synthetic import CLASSES, Synthetic, Variant
from vidattr.errors import ConfigError, MethodUndefinedError
from vidattr.models.network.linear_head import gap_linear_head
from vidattr.models.network.network import VideoModel
from vidattr.models.tiny_cnn_lstm import CNNLSTM, TinyCNNLSTM
from vidattr.models.tiny_r2plus1d import R2Plus1D, TinyR2Plus1D
from vidattr.video import decode

Tiny = TinyR2Plus1D | TinyCNNLSTM
KINDS = pytest.mark.parametrize("kind", [TinyR2Plus1D, TinyCNNLSTM])
FRESH_SEED = 1  # the weights were trained and measured on seed 0


def noise(clips: int = 2) -> Tensor:
    return torch.randn(clips, 3, 16, 64, 64, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def fresh() -> dict[Variant, tuple[Tensor, Tensor]]:
    """Clips that no training has seen: frames (N, C, T, H, W) and classes (N,) of each variant."""
    view = TinyR2Plus1D().input
    found = {}
    for variant in Variant:
        clips = Synthetic(variant=variant, seed=FRESH_SEED, clips=128).index().clips
        pixels = torch.stack([torch.from_numpy(decode.read(clip, view).pixels) for clip in clips])
        found[variant] = view.normalise(pixels), torch.tensor([CLASSES.index(clip.label) for clip in clips])
    return found


@pytest.mark.parametrize(
    ("kind", "variant"),
    [
        (TinyR2Plus1D, Variant.object),
        (TinyR2Plus1D, Variant.texture),
        (TinyCNNLSTM, Variant.object),
        (TinyCNNLSTM, Variant.texture),
    ],
)
def test_package_weights_rank_the_class_first(
    kind: type[Tiny], variant: Variant, fresh: dict[Variant, tuple[Tensor, Tensor]]
) -> None:
    frames, labels = fresh[variant]
    right = kind().load().probabilities(frames).argmax(1) == labels
    assert right.float().mean() >= 0.95


def test_both_networks_take_clips_alike() -> None:
    assert TinyR2Plus1D().input == TinyCNNLSTM().input


@KINDS
def test_package_weights_are_small_and_have_their_log(kind: type[Tiny]) -> None:
    path = kind().weights_file()
    assert path is not None
    assert path.stat().st_size < 1_000_000
    with path.with_suffix(".csv").open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    assert float(last["object"]) >= 0.95
    assert float(last["texture"]) >= 0.95


@KINDS
def test_features_have_axes_and_each_clip_is_on_its_own(kind: type[Tiny]) -> None:
    network = kind(weights="random").load()
    frames = noise(3)
    logits, leaf = network.activations(frames)
    volume = network.volume(leaf, 3)
    assert volume.shape == (3, 64, 8 if kind is TinyR2Plus1D else 16, 8, 8)
    for i in range(3):
        alone, leaf = network.activations(frames[i : i + 1])
        torch.testing.assert_close(alone[0], logits[i])
        torch.testing.assert_close(network.volume(leaf, 1)[0], volume[i])


def test_saliency_tubes_finds_the_head_of_the_one_with_an_average() -> None:
    network = TinyR2Plus1D(weights="random").load()
    layer, weight, bias = gap_linear_head(network, noise(1))
    assert layer == network.layer == "block2"
    assert torch.equal(weight, network.module.get_parameter("head.weight"))
    assert bias is not None
    with pytest.raises(MethodUndefinedError):
        gap_linear_head(TinyCNNLSTM(weights="random").load(), noise(1))


def test_unfolded_frame_is_that_frame_alone() -> None:
    network = TinyCNNLSTM(weights="random").load()
    frames = noise(2)
    _, leaf = network.activations(frames)
    volume = network.volume(leaf, 2)
    module = network.module
    assert isinstance(module, CNNLSTM)
    for clip, step in ((0, 3), (1, 15)):
        torch.testing.assert_close(volume[clip, :, step], module.cnn(frames[clip, :, step][None])[0])


def test_cnn_lstm_returns_the_logarithm_of_the_mean_probability() -> None:
    network = TinyCNNLSTM(weights="random").load()
    module, frames = network.module, noise(2)
    assert isinstance(module, CNNLSTM)
    with torch.no_grad():
        pooled = torch.stack([module.norm(module.cnn(frames[:, :, t]).amax((2, 3))) for t in range(16)], 1)
        steps = torch.stack([module.head(module.lstm(pooled)[0][:, t]).softmax(1) for t in range(16)])
        logits = network(frames)
    torch.testing.assert_close(logits.exp(), steps.mean(0))
    torch.testing.assert_close(logits.softmax(1), logits.exp())  # a probability already


@KINDS
def test_every_frame_gets_a_gradient(kind: type[Tiny]) -> None:
    frames = noise(1).requires_grad_()
    kind(weights="random").load()(frames)[0, 0].backward()  # type: ignore[no-untyped-call]
    assert frames.grad is not None
    assert (frames.grad.abs().sum((0, 1, 3, 4)) > 0).all()


def test_cnn_lstm_mixes_time_forwards_only() -> None:
    module = TinyCNNLSTM(weights="random").load().module
    assert isinstance(module, CNNLSTM)
    pooled = torch.randn(1, 16, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    module.lstm(pooled)[0][0, 7].sum().backward()  # type: ignore[no-untyped-call]
    assert pooled.grad is not None
    reached = pooled.grad.abs().sum((0, 2)) > 0
    assert reached.tolist() == [True] * 8 + [False] * 8


@KINDS
def test_random_weights_are_the_same_each_time_and_leave_the_generator_alone(kind: type[Tiny]) -> None:
    before = torch.get_rng_state()
    one, other = kind(weights="random").load(), kind(weights="random").load()
    assert torch.equal(before, torch.get_rng_state())
    for name, tensor in one.module.state_dict().items():
        assert torch.equal(tensor, other.module.state_dict()[name])
    assert kind(weights="random").weights_file() is None
    assert one.classes == CLASSES


@KINDS
def test_weights_of_the_other_network_are_refused(kind: type[Tiny], tmp_path: Path) -> None:
    from safetensors.torch import save_file

    other = (R2Plus1D if kind is TinyCNNLSTM else CNNLSTM)(len(CLASSES))
    save_file(other.state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(ConfigError):
        kind(weights=str(tmp_path / "other.safetensors")).load()
    with pytest.raises(ConfigError, match=r"none\.pt"):
        kind(weights=str(tmp_path / "none.pt")).load()


@KINDS
def test_head_may_have_another_size(kind: type[Tiny], tmp_path: Path) -> None:
    from safetensors.torch import save_file

    module = (R2Plus1D if kind is TinyR2Plus1D else CNNLSTM)(3)
    save_file(module.state_dict(), tmp_path / "three.safetensors", {"class_names": '["a", "b", "c"]'})
    network: VideoModel = kind(weights=str(tmp_path / "three.safetensors")).load()
    assert network.classes == ("a", "b", "c")
    assert math.isclose(float(network.probabilities(noise(1)).sum()), 1, rel_tol=1e-5)
