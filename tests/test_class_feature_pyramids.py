"""Class Feature Pyramids: which convolutions are followed, and the selection written out number by number."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

import toys
from vidattr.api import read_clip
from vidattr.errors import ConfigError, MethodUndefinedError
from vidattr.methods.cam.back_steps import back_steps
from vidattr.methods.cam.class_feature_pyramids import ClassFeaturePyramids
from vidattr.models.c3d_light import UCF101C3DLight
from vidattr.models.network.network import VideoModel
from vidattr.models.r2plus1d_light import UCF101R2Plus1DLight
from vidattr.types import Query


def scaled(values: Sequence[float]) -> list[float]:
    """Returns numbers scaled to 0…1; −1 where all are equal."""
    low, high = min(values), max(values)
    return [(value - low) / (high - low) if high > low else -1.0 for value in values]


def twin(
    model: VideoModel, clip: Tensor, y: int, method: ClassFeaturePyramids, layer: str, head: str, steps: Sequence[str]
) -> tuple[Tensor, list[int]]:
    """Returns the tubes (depth, T, H, W) of one clip and how many channels each level has, kernel by kernel."""
    kept: dict[str, Tensor] = {}
    modules = dict(model.module.named_modules())
    handles = [
        modules[name].register_forward_hook(lambda _m, given, _out, name=name: kept.__setitem__(name, given[0]))
        for name in steps
    ]
    handles.append(modules[layer].register_forward_hook(lambda _m, _given, out: kept.__setitem__(layer, out)))
    with torch.no_grad():
        model.module(clip[None])
    for handle in handles:
        handle.remove()
    W = modules[head].weight.flatten(1)
    flat = scaled(W.flatten().tolist())
    chosen = {c for c in range(W.shape[1]) if flat[y * W.shape[1] + c] >= method.threshold}
    tubes, counts = [], []
    for level in range(method.depth):
        volume = kept[layer if level == 0 else steps[level - 1]][0]
        if level:
            conv = modules[steps[level - 1]]
            means = [float(volume[j].mean()) for j in range(len(volume))]
            out, size = conv.out_channels, conv.weight.shape[1]
            reached: set[int] = set()
            for k in chosen:
                first = k // (out // conv.groups) * size  # of the channels of k's group
                p = [float(conv.weight[k, j].mean()) * means[first + j] for j in range(size)]
                shares = scaled(p)
                if sum(p) > 0 and shares[0] >= 0:  # the division of the released code changes nothing here
                    assert shares == pytest.approx(scaled([value / sum(p) for value in p]))
                reached |= {first + j for j, share in enumerate(shares) if share >= method.threshold}
            chosen = reached
        tube = torch.zeros(volume.shape[1:], dtype=volume.dtype)
        for c in sorted(chosen):
            tube += volume[c]
        tube = interpolate(tube[None, None], tuple(clip.shape[1:]), mode="trilinear", align_corners=False)[0, 0]
        span = tube.max() - tube.min()
        tubes.append((tube - tube.min()) / span if span > 0 else torch.zeros_like(tube))
        counts.append(len(chosen))
    return torch.stack(tubes), counts


def agree(model: VideoModel, query: Query, method: ClassFeaturePyramids, layer: str, head: str) -> Tensor:
    """Asserts that the twin finds the same, and returns the numbers of channels."""
    found = method(model, query)
    steps = back_steps(model, query.frames, layer)
    for n, (clip, y) in enumerate(zip(query.frames, query.target, strict=True)):
        tubes, counts = twin(model, clip, int(y), method, layer, head, steps)
        assert found.extras["selected"][n].tolist() == counts
        torch.testing.assert_close(found.extras["pyramid"][n], tubes.float(), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found.map[n], tubes.mean(0).float(), rtol=1e-5, atol=1e-6)
    return found.extras["selected"]


@pytest.mark.parametrize("threshold", [0.3, 0.6, 0.8])
def test_against_its_steps(threshold: float) -> None:
    model, query = toys.network(toys.ConvNet(), layer="features", max_batch=2), toys.query()
    selected = agree(model, query, ClassFeaturePyramids(2, threshold), "features", "fc")
    assert (selected > 0).any()
    assert (selected < torch.tensor([8, 4])).any()


class Block(nn.Module):
    """A residual block with a convolution in its shortcut, which runs last, as in torchvision."""

    def __init__(self, channels: int, groups: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv3d(channels, 6, 3, padding=1, groups=groups)
        self.second = nn.Conv3d(6, 8, 1, groups=groups)
        self.shortcut = nn.Conv3d(channels, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return (self.second(self.first(x).relu()) + self.shortcut(x)).relu()


class Branches(nn.Module):
    """Two branches whose outputs are concatenated, one of which has as many channels as the whole has."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.left, self.right = nn.Conv3d(8, 8, 1), nn.Conv3d(8, 4, 1), nn.Conv3d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.left(self.wide(x).relu()), self.right(x)], 1).relu()


class Net(nn.Module):
    """A stem, one or more blocks, a global average and a linear layer."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, 4, 3, padding=1)
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(8, len(toys.CLASSES))
        toys.reset(self)

    def forward(self, frames: Tensor) -> Tensor:
        return self.fc(self.blocks(self.stem(frames).relu()).mean((2, 3, 4)))


def test_the_block_is_followed_and_not_its_shortcut() -> None:
    model, query = toys.network(Net(Block(4), Block(8)), layer="blocks"), toys.query()
    expected = ("blocks.1.second", "blocks.1.first", "blocks.0.second", "blocks.0.first")
    assert back_steps(model, query.frames, "blocks") == expected
    agree(model, query, ClassFeaturePyramids(5, 0.5), "blocks", "fc")


@pytest.mark.parametrize("groups", [1, 2])
def test_a_kernel_leads_to_the_channels_of_its_group_only(groups: int) -> None:
    model, query = toys.network(Net(Block(4, groups)), layer="blocks"), toys.query()
    assert back_steps(model, query.frames, "blocks") == ("blocks.0.second", "blocks.0.first")
    agree(model, query, ClassFeaturePyramids(3, 0.4), "blocks", "fc")


def test_concatenated_branches_end_the_pyramid() -> None:
    model, query = toys.network(Net(Block(4), Branches()), layer="blocks"), toys.query()
    assert back_steps(model, query.frames, "blocks") == ()
    agree(model, query, ClassFeaturePyramids(1, 0.5), "blocks", "fc")
    with pytest.raises(MethodUndefinedError, match=r"method\.depth=2: 1 levels can be reached(.|\n)*method\.depth=1"):
        ClassFeaturePyramids(2)(model, query)


def test_networks_without_a_linear_head_and_options_out_of_range() -> None:
    with pytest.raises(MethodUndefinedError, match="head is not a global average and one linear layer"):
        ClassFeaturePyramids(1)(toys.cnn_lstm(), toys.query())
    for wrong in ({"depth": 0}, {"threshold": 0.0}, {"threshold": 1.1}, {"threshold": float("nan")}):
        ((name, value),) = wrong.items()
        with pytest.raises(ConfigError, match=rf"method\.{name}={value}"):
            ClassFeaturePyramids(**wrong)


def test_the_largest_weight_alone_is_selected_at_1() -> None:
    model, query = toys.conv_net(), toys.query(4, target=[0, 1, 2, 3])
    y, c = divmod(int(model.module.fc.weight.argmax()), 8)
    found = ClassFeaturePyramids(1, 1.0)(model, query)
    assert found.extras["selected"][:, 0].tolist() == [int(n == y) for n in range(4)]
    assert not found.map[[n for n in range(4) if n != y]].any()
    A = model.activations(query.frames[y : y + 1])[1].detach()[:, c]
    tube = interpolate(A[None], tuple(query.frames.shape[2:]), mode="trilinear", align_corners=False)[0, 0]
    torch.testing.assert_close(found.map[y], ((tube - tube.min()) / (tube.max() - tube.min())).float())


@pytest.mark.real
@pytest.mark.parametrize(("kind", "file", "depth"), [(UCF101C3DLight, "c3d", 3), (UCF101R2Plus1DLight, "r2plus1d", 5)])
def test_real_clips_and_networks(real: Path, kind: type, file: str, depth: int) -> None:
    view = dataclasses.replace(kind().input, size=[32, 32])
    model = kind(weights=str(real / "weights" / f"{file}_light_ucf101.pth"), input=view).load()
    model.module.double()
    names = ["Biking", "CliffDiving"]
    frames = read_clip(real / "ucf101_24" / "UCF-101" / "Biking" / "v_Biking_g01_c01.avi", model)
    query = Query(
        frames.double().expand(2, -1, -1, -1, -1), torch.tensor([model.classes.index(one) for one in names]), (0, 1)
    )
    heads = [name for name, module in model.module.named_modules() if isinstance(module, nn.Linear | nn.Conv3d)]
    selected = agree(model, query, ClassFeaturePyramids(depth, 0.5), "conv3", heads[-1])
    assert (selected > 0).all()
    assert not torch.equal(selected[0], selected[1])
