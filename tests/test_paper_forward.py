from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool3d, linear

from paper_twins import State, hara_twin, i3d_twin, mfnet_twin, shift_twin, tsm_twin
from vidattr.errors import ConfigError
from vidattr.methods.cam.saliency_tubes import SaliencyTubes
from vidattr.models.i3d import I3D, InceptionI3D
from vidattr.models.mfnet import MFNet
from vidattr.models.network.linear_head import gap_linear_head
from vidattr.models.network.network import VideoModel
from vidattr.models.resnet3d import Convolution, Hara3DResNet, middle
from vidattr.models.tsm import TSM, TemporalShift, shift
from vidattr.types import Query
from vidattr.video.preprocessing import Geometry, Sampling


def lively(module: nn.Module) -> nn.Module:
    """Gives every BatchNorm other statistics, so that none of its four vectors can be left out."""
    generator = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d | nn.BatchNorm3d):
            assert part.running_mean is not None
            assert part.running_var is not None
            for vector, centre in (
                (part.weight, 1.0),
                (part.bias, 0.0),
                (part.running_mean, 0.0),
                (part.running_var, 1.0),
            ):
                vector.data = centre + 0.4 * (torch.rand(vector.shape, generator=generator) - 0.5)
    return module


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(4))


Twin = Callable[[State, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Case:
    """A network to try, its literal twin, a clip (T, H, W) with features of several cells, and fewer frames that do."""

    model: Any
    twin: Twin
    clip: tuple[int, int, int]
    few: int = 9


CASES = {
    "i3d": Case(I3D(), i3d_twin, (16, 64, 96)),
    "hara_r3d_18": Case(Hara3DResNet(depth=18), hara_twin, (32, 48, 64)),
    "hara_r2plus1d_18": Case(Hara3DResNet(Convolution.r2plus1d, 18), hara_twin, (32, 48, 64)),
    "r2plus1d_50": Case(Hara3DResNet(Convolution.r2plus1d, 50), hara_twin, (32, 48, 64)),
    "mfnet": Case(MFNet(), mfnet_twin, (8, 48, 64)),
    "tsm_r50": Case(TSM(input=replace(TSM().input, frames=4)), tsm_twin, (4, 48, 64), few=4),
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[VideoModel, Case]:
    one = CASES[request.param]
    network = replace(one.model, weights="random").load()
    lively(network.module)
    return network, one


def test_networks_compute_what_their_twins_do(case: tuple[VideoModel, Case]) -> None:
    network, one = case
    frames = noise(2, 3, one.few, 35, 45)  # odd sizes, where padding shows
    features, logits = one.twin(network.module.state_dict(), frames)
    answer, leaf = network.activations(frames)
    torch.testing.assert_close(leaf, features, rtol=1e-3, atol=1e-4 * features.abs().max().item())
    torch.testing.assert_close(answer, logits, rtol=1e-3, atol=1e-4 * logits.abs().max().item())
    assert (logits[0] - logits[1]).abs().max() > 1e-3 * logits.abs().max()


def test_the_head_is_linear_in_the_mean_of_the_features(case: tuple[VideoModel, Case]) -> None:
    network, one = case
    frames = noise(2, 3, *one.clip)
    layer, weight, bias = gap_linear_head(network, frames)
    assert layer == network.layer
    logits, leaf = network.activations(frames, layer)
    volume = network.volume(leaf, 2)
    assert volume.ndim == 5
    assert min(volume.shape[2:]) > 1
    assert bias is not None
    torch.testing.assert_close(
        linear(volume.mean((2, 3, 4)), weight, bias), logits, rtol=1e-4, atol=1e-5 * logits.abs().max().item()
    )


def short_sighted(module: nn.Module) -> None:
    """Leaves every kernel its middle alone, and I3D no running maxima, so that a cell sees only the pixels under it."""
    for name, part in module.named_modules():
        if isinstance(part, nn.Conv2d | nn.Conv3d):
            weight = part.weight.data
            middle_tap: Any = (..., *(side // 2 for side in weight.shape[2:]))
            kept = weight[middle_tap] * (weight[0, 0].numel() ** 0.5 if ".b3b." not in name else 0)
            weight.zero_()[middle_tap] = kept


@pytest.mark.parametrize("name", [name for name in CASES if name != "r2plus1d_50"])
def test_a_planted_patch_is_found_where_and_when_it_is(name: str) -> None:
    network = replace(CASES[name].model, weights="random").load()
    short_sighted(network.module)
    T, H, W = CASES[name].clip
    t, h, w = T // 2, H // 2, W // 2
    # I3D's SAME padding makes cells look ahead, so that a patch has to begin a little later to be seen by its cell
    # alone.
    later, lower = (2, 14) if name == "i3d" else (0, 0)
    background = 0.1 * noise(1, 3, T, H, W)
    clips = background.repeat(4, 1, 1, 1, 1)
    clips[0, :, : t - T // 8, : h - 8, : w - 8] += 3
    clips[1, :, t + later :, : h - 8, : w - 8] += 3
    clips[2, :, : t - T // 8, h + lower :, : w - 8] += 3
    clips[3, :, : t - T // 8, : h - 8, w + lower :] += 3
    planted, without = (
        SaliencyTubes()(network, Query(x, torch.full((len(x),), 7), (0,) * len(x))).map for x in (clips, background)
    )
    halves = avg_pool3d((planted - without).abs()[:, None], (t, h, w)).flatten(1)
    assert halves.argmax(1).tolist() == [0b000, 0b100, 0b010, 0b001]  # time, height, width


def test_the_channels_between_space_and_time_keep_the_weights() -> None:
    assert (middle(3, 64, 7, 7), middle(64, 64, 3, 3), middle(256, 512, 3, 3)) == (110, 144, 921)
    for inputs, outputs in ((64, 64), (64, 128), (512, 512)):
        m = middle(inputs, outputs, 3, 3)
        factored = 9 * inputs * m + 3 * m * outputs
        assert 0 <= 27 * inputs * outputs - factored < 9 * inputs + 3 * outputs


def test_of_more_than_two_steps_i3d_weighs_the_ends_by_half() -> None:
    network = replace(I3D(), weights="random").load()
    frames = noise(1, 3, 32, 32, 32)
    logits, leaf = network.activations(frames)
    weights = torch.tensor([0.5, 1, 1, 0.5]) / 3
    module = network.module
    assert isinstance(module, InceptionI3D)
    weight, bias = module.logits.conv3d.weight.flatten(1), module.logits.conv3d.bias
    weighed = (leaf.mean((3, 4)) * weights).sum(2)
    torch.testing.assert_close(linear(weighed, weight, bias), logits, rtol=1e-4, atol=1e-5)
    assert gap_linear_head(network, frames)[0] == "avg_pool"


@pytest.mark.parametrize("fold", [0, 1, 3])
def test_the_shift_is_the_papers(fold: int) -> None:
    clips = noise(2, 4, 7, 2, 3).double()
    shifted = shift(clips, fold)
    assert torch.equal(shifted, torch.stack([shift_twin(clip, fold) for clip in clips]))
    assert torch.equal(shifted[:, :-1, :fold], clips[:, 1:, :fold])
    assert (shifted[:, -1, :fold] == 0).all()


@pytest.fixture(scope="module")
def tsm() -> VideoModel:
    network = TSM(weights="random", input=replace(TSM().input, frames=4)).load()
    lively(network.module)
    return network


def test_frames_are_pictures_and_stay_apart_until_the_first_shift(tsm: VideoModel) -> None:
    clips = noise(2, 3, 4, 32, 48)
    _, before = tsm.activations(clips, "base_model.maxpool")
    other = clips.clone()
    other[1, :, 2] += 1
    changed = (
        (tsm.volume(tsm.activations(other, "base_model.maxpool")[1], 2) != tsm.volume(before, 2)).any(4).any(3).any(1)
    )
    assert changed.tolist() == [[False] * 4, [False, False, True, False]]
    seen: list[Tensor] = []

    def see(_module: nn.Module, inputs: Any, _output: Tensor) -> None:
        seen.append(inputs[0])

    with tsm.hooked("base_model.conv1", see), torch.no_grad():
        tsm(clips)
    assert torch.equal(seen[0].view(2, 4, 3, 32, 48), clips.transpose(1, 2))


def test_the_first_shift_carries_a_frame_to_its_neighbours_only(tsm: VideoModel) -> None:
    clips = noise(1, 3, 4, 32, 48)
    other = clips.clone()
    other[:, :, 0] += 1
    first = [tsm.volume(tsm.activations(x, "base_model.layer1.0")[1], 1) for x in (clips, other)]
    assert (first[0] != first[1]).any(4).any(3).any(1).tolist() == [[True, True, False, False]]


def test_the_order_of_frames_matters_by_the_shift_alone(tsm: VideoModel) -> None:
    clips = noise(1, 3, 4, 32, 48)
    unshifted = TSM(weights="random", input=replace(TSM().input, frames=4)).load()
    lively(unshifted.module)
    for part in unshifted.module.modules():
        if isinstance(part, TemporalShift):
            part.shift_div = 10**6  # no channel moves
    with torch.no_grad():
        assert (tsm(clips) - tsm(clips.flip(2))).abs().max() > 1e-3
        torch.testing.assert_close(unshifted(clips), unshifted(clips.flip(2)), rtol=1e-4, atol=1e-5)


def test_the_shift_field_decides_how_many_channels_move(tsm: VideoModel) -> None:
    clips = noise(1, 3, 4, 32, 48)
    other = replace(TSM(), weights="random", shift_div=4, input=replace(TSM().input, frames=4)).load()
    lively(other.module)
    with torch.no_grad():
        assert (tsm(clips) - other(clips)).abs().max() > 1e-3


def test_other_lengths_than_the_segments_are_refused(tsm: VideoModel) -> None:
    with pytest.raises(ConfigError, match=r"a clip of 8 frames\n.*model\.input\.frames=4"):
        tsm(noise(1, 3, 8, 32, 32))


def test_each_sees_what_it_was_trained_on() -> None:
    white = torch.full((1, 1, 1, 1, 3), 255, dtype=torch.uint8)
    black = torch.zeros_like(white)
    i3d, tsm, mfnet, hara = I3D().input, TSM().input, MFNet().input, Hara3DResNet().input
    assert (i3d.normalise(black).flatten().tolist(), i3d.normalise(white).flatten().tolist()) == (
        [-1, -1, -1],
        [1, 1, 1],
    )
    torch.testing.assert_close(
        tsm.normalise(black).flatten(), torch.tensor([-2.118, -2.036, -1.804]), rtol=0, atol=1e-3
    )
    torch.testing.assert_close(mfnet.normalise(white).flatten(), (255 - torch.tensor([124.0, 117, 104])) * 0.0167)
    torch.testing.assert_close(
        hara.normalise(white).flatten(),
        (1 - torch.tensor([0.4345, 0.4051, 0.3775])) / torch.tensor([0.2768, 0.2713, 0.2737]),
    )
    assert [(v.frames, v.size, v.resize) for v in (i3d, tsm)] == [(64, [224, 224], [256]), (8, [224, 224], [256])]
    assert (hara.frames, hara.size, hara.resize, hara.sampling, hara.stride) == (
        16,
        [112, 112],
        [112],
        Sampling.center,
        1,
    )
    assert (mfnet.frames, mfnet.size, mfnet.resize, mfnet.sampling, mfnet.stride) == (
        16,
        [224, 224],
        [256, 256],
        Sampling.windows,
        2,
    )
    assert {v.geometry for v in (i3d, tsm, mfnet, hara)} == {Geometry.crop}
