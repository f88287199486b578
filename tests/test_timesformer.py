from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm
from torch.utils.flop_counter import FlopCounterMode

from toys import reset
from vidattr.config.building import build
from vidattr.errors import ConfigError
from vidattr.models.network.network import VideoModel
from vidattr.models.network.unfold import divided_tokens
from vidattr.models.timesformer import Release, TimeSformer, TimeSformerB16, network_of
from vidattr.run.compose import choice
from vidattr.video.preprocessing import CropAt, LongSide, Preprocessing, Sampling, Short

Shapes = dict[str, tuple[int, ...]]
GRID = T, H, W = (3, 2, 4)
PATCH = 4


def layer(name: str, *shape: int) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def facebook(frames: int = 8, patches: int = 196, classes: int = 400) -> Shapes:
    """Names and shapes as TimeSformer's own timesformer/models/vit.py registers them, inside `model`."""
    shapes: Shapes = {"cls_token": (1, 1, 768), "pos_embed": (1, 1 + patches, 768), "time_embed": (1, frames, 768)}
    shapes |= layer("patch_embed.proj", 768, 3, 16, 16) | layer("norm", 768) | layer("head", classes, 768)
    for n in range(12):
        for name in ("norm1", "temporal_norm1", "norm2"):
            shapes |= layer(f"blocks.{n}.{name}", 768)
        for name in ("attn", "temporal_attn"):
            shapes |= layer(f"blocks.{n}.{name}.qkv", 2304, 768) | layer(f"blocks.{n}.{name}.proj", 768, 768)
        shapes |= layer(f"blocks.{n}.temporal_fc", 768, 768)
        shapes |= layer(f"blocks.{n}.mlp.fc1", 3072, 768) | layer(f"blocks.{n}.mlp.fc2", 768, 3072)
    return {f"model.{name}": shape for name, shape in shapes.items()}


def mmaction2(frames: int = 8, patches: int = 196, classes: int = 400) -> Shapes:
    """Names and shapes as mmaction2's TimeSformer and mmcv's FFN and MultiheadAttention register them."""
    shapes: Shapes = {"cls_token": (1, 1, 768), "pos_embed": (1, 1 + patches, 768), "time_embed": (1, frames, 768)}
    shapes |= layer("patch_embed.projection", 768, 3, 16, 16) | layer("norm", 768)
    for n in range(12):
        for order in (0, 1):
            name = f"transformer_layers.layers.{n}.attentions.{order}"
            shapes |= layer(f"{name}.norm", 768) | layer(f"{name}.attn.out_proj", 768, 768)
            shapes |= {f"{name}.attn.in_proj_weight": (2304, 768), f"{name}.attn.in_proj_bias": (2304,)}
        shapes |= layer(f"transformer_layers.layers.{n}.attentions.0.temporal_fc", 768, 768)
        name = f"transformer_layers.layers.{n}.ffns.0"
        shapes |= (
            layer(f"{name}.layers.0.0", 3072, 768) | layer(f"{name}.layers.1", 768, 3072) | layer(f"{name}.norm", 768)
        )
    return {f"backbone.{name}": shape for name, shape in shapes.items()} | layer("cls_head.fc_cls", classes, 768)


SHAPES: dict[Release, Callable[..., Shapes]] = {Release.mmaction2: mmaction2, Release.facebook: facebook}
FILES = {Release.mmaction2: "timesformer_divST.pth", Release.facebook: "TimeSformer_divST_8x32_224_K400.pyth"}
WRAPPERS: dict[Release, Callable[[dict[str, Tensor]], dict[str, Any]]] = {
    Release.mmaction2: lambda state: {"meta": {"epoch": 15}, "state_dict": state},
    Release.facebook: lambda state: {
        "epoch": 14,
        "model_state": state,
        "optimizer_state": {"state": {}},
        "cfg": "TRAIN:\n  ENABLE: true",
    },
}
# What block 3's weights are called in the two releases.
BLOCK_3 = {
    "temporal_norm1.weight": "attentions.0.norm.weight",
    "temporal_attn.qkv.weight": "attentions.0.attn.in_proj_weight",
    "temporal_attn.qkv.bias": "attentions.0.attn.in_proj_bias",
    "temporal_attn.proj.bias": "attentions.0.attn.out_proj.bias",
    "temporal_fc.weight": "attentions.0.temporal_fc.weight",
    "norm1.weight": "attentions.1.norm.weight",
    "attn.qkv.weight": "attentions.1.attn.in_proj_weight",
    "attn.proj.weight": "attentions.1.attn.out_proj.weight",
    "norm2.bias": "ffns.0.norm.bias",
    "mlp.fc1.weight": "ffns.0.layers.0.0.weight",
    "mlp.fc2.bias": "ffns.0.layers.1.bias",
}
THEIRS = {
    Release.facebook: {ours: f"model.blocks.3.{ours}" for ours in BLOCK_3},
    Release.mmaction2: {ours: f"backbone.transformer_layers.layers.3.{theirs}" for ours, theirs in BLOCK_3.items()},
}


def saved(folder: Path, release: Release, shapes: Shapes) -> tuple[str, dict[str, float]]:
    """Saves a checkpoint in which every tensor is one number, its own, repeated: no memory, and swapped names show."""
    values = {name: float(number) for number, name in enumerate(shapes)}
    state = {name: torch.tensor(values[name]).expand(shape) for name, shape in shapes.items()}
    torch.save(WRAPPERS[release](state), folder / FILES[release])
    return str(folder / FILES[release]), values


@pytest.mark.parametrize("name", ["timesformer", "timesformer_facebook"])
def test_the_yaml_says_what_the_code_says(name: str) -> None:
    config = choice("model", name)
    model, expected = build(config, name), TimeSformerB16()
    if name != "timesformer":
        frames = {"sampling": Sampling.span, "fps": 30.0, "place": 0.0, "short": Short.hold}
        rounding = {"long_side": LongSide.floor, "crop_at": CropAt.ceil}
        view = replace(expected.input, mean=[0.45] * 3, std=[0.225] * 3, **frames, **rounding)
        expected = TimeSformerB16(release=Release.facebook, input=view)
    assert model == expected
    assert (model.input.frames, model.input.size) == (8, [224, 224])
    assert set(config) - {"_target_"} == {field.name for field in fields(model)}
    assert set(config.input) == {field.name for field in fields(Preprocessing)}


@pytest.mark.parametrize("release", Release)
def test_the_released_names_and_shapes_are_loaded(tmp_path: Path, release: Release) -> None:
    path, values = saved(tmp_path, release, SHAPES[release]())
    network = TimeSformerB16(release=release, weights=path).load()
    assert (len(network.classes), network.classes[0], network.layer) == (400, "abseiling", "blocks.11.norm1")
    block = network.module.get_submodule("blocks.3").state_dict()
    for ours, theirs in THEIRS[release].items():
        assert block[ours].unique().tolist() == [values[theirs]], ours
    assert not any(parameter.requires_grad for parameter in network.module.parameters())
    assert not network.module.training


def test_the_other_release_and_another_length_are_refused_with_the_difference(tmp_path: Path) -> None:
    path, _ = saved(tmp_path, Release.mmaction2, mmaction2(frames=16))
    with pytest.raises(ConfigError, match=r"other shape \(1\): time_embed is \(1, 16, 768\), not \(1, 8, 768\)"):
        TimeSformerB16(weights=path).load()
    with pytest.raises(ConfigError, match=r"missing \(\d+\): cls_token(.|\n)*unexpected \(\d+\): backbone\.cls_token"):
        TimeSformerB16(release=Release.facebook, weights=path).load()


def test_what_cannot_be_cut_into_patches_or_has_no_weights_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.input\.size=\[224, 230\]\n.*multiples of 16"):
        TimeSformerB16(input=Preprocessing(frames=8, size=[224, 230]))
    with pytest.raises(ConfigError, match=r"without weights\n.*facebookresearch/TimeSformer\n.*model\.weights=FILE"):
        TimeSformerB16(release=Release.facebook).load()


def test_its_size_and_its_cost_are_the_published_ones() -> None:
    with torch.device("meta"):
        module = TimeSformer((8, 14, 14), 400).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(torch.empty(1, 3, 8, 224, 224))
    parameters = sum(parameter.numel() for parameter in module.parameters())
    assert round(parameters / 1e6) == 122  # mmaction2's table
    assert (
        round((parameters - (400 - 174) * 769) / 1e6, 1) == 121.4
    )  # the paper's, which is that of Something-Something's classes
    assert round(counter.get_total_flops() / 2e9) == 196


def tiny(classes: int = 5) -> VideoModel:
    module = TimeSformer(GRID, classes, width=16, depth=2, heads=4, patch=PATCH)
    reset(module)
    return network_of(
        module, Preprocessing(frames=T, size=[H * PATCH, W * PATCH]), tuple(f"class {k}" for k in range(classes))
    )


def clips(count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(6)
    return torch.randn(count, 3, T, H * PATCH, W * PATCH, dtype=torch.float64, generator=generator)


class Twin:
    """The paper's equations for one clip, one token after the other, on weights by TimeSformer's own names."""

    def __init__(self, state: dict[str, Tensor], heads: int = 4) -> None:
        self.state, self.heads = state, heads
        self.temporal: list[Tensor] = []
        self.spatial: list[Tensor] = []

    def linear(self, x: Tensor, name: str) -> Tensor:
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def norm(self, x: Tensor, name: str) -> Tensor:
        return layer_norm(x, x.shape[-1:], self.state[f"{name}.weight"], self.state[f"{name}.bias"], 1e-6)

    def attend(self, tokens: list[Tensor], name: str) -> tuple[list[Tensor], Tensor]:
        """Returns what every token gets, and the (heads, S, S) weights."""
        width = len(tokens[0])
        d = width // self.heads
        q, k, v = (
            torch.stack([self.linear(x, f"{name}.qkv")[i * width : (i + 1) * width] for x in tokens]) for i in range(3)
        )
        weights, out = [], []
        for head in range(self.heads):
            part = slice(head * d, (head + 1) * d)
            weights.append(torch.softmax(q[:, part] @ k[:, part].T / math.sqrt(d), -1))
            out.append(weights[-1] @ v[:, part])
        return [self.linear(x, f"{name}.proj") for x in torch.cat(out, 1)], torch.stack(weights)

    def __call__(self, clip: Tensor) -> Tensor:
        kernel, s = self.state["patch_embed.proj.weight"], PATCH
        tokens = {}
        for t in range(T):
            for n in range(H * W):
                row, column = divmod(n, W)
                patch = clip[:, t, row * s : (row + 1) * s, column * s : (column + 1) * s]
                token = (kernel * patch).sum((1, 2, 3)) + self.state["patch_embed.proj.bias"]
                tokens[n, t] = token + self.state["pos_embed"][0, 1 + n] + self.state["time_embed"][0, t]
        cls = self.state["cls_token"][0, 0] + self.state["pos_embed"][0, 0]
        for block in ("blocks.0", "blocks.1"):
            over_time = {}
            attention = []
            for n in range(H * W):
                got, weights = self.attend(
                    [self.norm(tokens[n, t], f"{block}.temporal_norm1") for t in range(T)], f"{block}.temporal_attn"
                )
                attention.append(weights)
                over_time |= {(n, t): self.linear(x, f"{block}.temporal_fc") for t, x in enumerate(got)}
            self.temporal.append(torch.stack(attention))
            tokens = {place: x + over_time[place] for place, x in tokens.items()}
            attention, copies = [], []
            for t in range(T):
                scene = [self.norm(x, f"{block}.norm1") for x in (cls, *(tokens[n, t] for n in range(H * W)))]
                got, weights = self.attend(scene, f"{block}.attn")
                attention.append(weights)
                copies.append(got[0])
                tokens |= {(n, t): tokens[n, t] + x for n, x in enumerate(got[1:])}
            self.spatial.append(torch.stack(attention))
            cls = cls + sum(copies) / T
            cls = cls + self.mlp(cls, block)
            tokens = {place: x + self.mlp(x, block) for place, x in tokens.items()}
        return self.linear(self.norm(cls, "norm"), "head")

    def mlp(self, x: Tensor, block: str) -> Tensor:
        return self.linear(gelu(self.linear(self.norm(x, f"{block}.norm2"), f"{block}.mlp.fc1")), f"{block}.mlp.fc2")


def test_it_computes_the_papers_equations_and_tells_its_attention() -> None:
    network, frames = tiny(), clips()
    twins = [Twin(network.module.state_dict()) for _ in frames]
    expected = torch.stack([twin(clip) for twin, clip in zip(twins, frames, strict=True)])
    assert expected.std() > 0.1
    torch.testing.assert_close(network(frames), expected, rtol=1e-10, atol=1e-10)
    for fuse in (lambda weights: weights.mean(-3), lambda weights: weights.amax(-3)):
        told = network.attention(frames, fuse)
        assert told.grid == GRID
        for block in range(2):
            temporal = torch.stack([fuse(twin.temporal[block]) for twin in twins])
            spatial = torch.stack([fuse(twin.spatial[block]) for twin in twins])
            torch.testing.assert_close(told.temporal[block], temporal, rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(told.spatial[block], spatial, rtol=1e-10, atol=1e-10)
    assert not any(module._forward_hooks for module in network.module.modules())


def test_a_clip_stands_on_its_own_and_its_gradient_reaches_every_pixel() -> None:
    network, frames = tiny(), clips(3)
    torch.testing.assert_close(network(frames[1:2])[0], network(frames)[1], rtol=1e-10, atol=1e-10)
    clip = frames[:1].requires_grad_()
    (gradient,) = torch.autograd.grad(network(clip)[0, 2], clip)
    assert gradient.ne(0).all()


@pytest.mark.parametrize("place", [(0, 0, 0), (2, 1, 3), (1, 0, 2)])
@pytest.mark.parametrize("layer_name", ["blocks.0.temporal_norm1", "blocks.0.norm1", "blocks.0"])
def test_a_planted_patch_is_found_where_it_was_planted(place: tuple[int, int, int], layer_name: str) -> None:
    network, blank = tiny(), clips(2)
    for name in ("temporal_fc", "attn.proj", "mlp.fc2"):  # so that the first block moves nothing from place to place
        for parameter in network.module.get_submodule(f"blocks.0.{name}").parameters():
            parameter.zero_()
    t, row, column = place
    planted = blank.clone()
    planted[1, :, t, row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH] += 3
    before, after = (network.volume(network.activations(frames, layer_name)[1], 2) for frames in (blank, planted))
    moved = (after - before).abs().sum(1)
    assert moved.shape == (2, *GRID)
    assert torch.nonzero(moved > 1e-9).tolist() == [[1, *place]]


def test_the_features_of_grad_cam_are_what_the_last_spatial_attention_sees() -> None:
    network = tiny()
    logits, features = network.activations(clips())
    assert features.shape == (2 * T, 1 + H * W, 16)
    assert network.volume(features, 2).shape == (2, 16, *GRID)
    (slope,) = torch.autograd.grad(logits[:, 0].sum(), features)
    assert network.volume(slope, 2).abs().sum(1).gt(0).all()


def test_tokens_of_another_shape_are_left_alone() -> None:
    assert divided_tokens(GRID)(torch.zeros(2, 5, 16), 2).shape == (2, 5, 16)


def test_random_weights_are_the_same_every_time_and_their_classes_are_anonymous() -> None:
    network = TimeSformerB16(weights="random").load()
    assert (len(network.classes), network.classes[7]) == (400, "class 7")
    assert TimeSformerB16(weights="random").weights_file() is None
