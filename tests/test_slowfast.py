from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import batch_norm, conv3d, linear, max_pool3d
from torch.utils.flop_counter import FlopCounterMode

from vidattr.config.building import build
from vidattr.errors import ConfigError
from vidattr.models.slowfast import Release, SlowFast, SlowFastR50, Variant
from vidattr.models.weights.slowfast_names import from_pyslowfast
from vidattr.run.compose import choice
from vidattr.video.preprocessing import Preprocessing

State = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]
RATIO = {Variant.r50_4x16: 8, Variant.r50_8x8: 4}
KERNEL = {Variant.r50_4x16: 5, Variant.r50_8x8: 7}
STATISTICS = ("weight", "bias", "running_mean", "running_var")
# Stage: channels inside a block, blocks, frames of the first kernel in the slow and in the fast pathway.
STAGES = {1: (64, 3, 1, 3), 2: (128, 4, 1, 3), 3: (256, 6, 3, 3), 4: (512, 3, 3, 3)}


def normed(name: str, channels: int) -> Shapes:
    return {**{f"{name}.{part}": (channels,) for part in STATISTICS}, f"{name}.num_batches_tracked": ()}


def mmaction2(variant: Variant, classes: int = 400) -> Shapes:
    """Names and shapes as mmaction2's resnet3d_slowfast.py and slowfast_head.py register them."""
    shapes: Shapes = {"cls_head.fc_cls.weight": (classes, 2304), "cls_head.fc_cls.bias": (classes,)}
    for path, part, span in (("slow", 1, 1), ("fast", 8, 5)):
        stem = f"backbone.{path}_path.conv1"
        shapes |= {f"{stem}.conv.weight": (64 // part, 3, span, 7, 7)} | normed(f"{stem}.bn", 64 // part)
        inputs = 64 // part
        for stage, (wide, blocks, slow, fast) in STAGES.items():
            width, t = wide // part, slow if path == "slow" else fast
            for block in range(blocks):
                lateral = inputs // 4 if path == "slow" and block == 0 else 0
                name = f"backbone.{path}_path.layer{stage}.{block}"
                shapes |= {f"{name}.conv1.conv.weight": (width, inputs + lateral, t, 1, 1)} | normed(
                    f"{name}.conv1.bn", width
                )
                shapes |= {f"{name}.conv2.conv.weight": (width, width, 1, 3, 3)} | normed(f"{name}.conv2.bn", width)
                shapes |= {f"{name}.conv3.conv.weight": (4 * width, width, 1, 1, 1)} | normed(
                    f"{name}.conv3.bn", 4 * width
                )
                if block == 0:
                    shapes |= {f"{name}.downsample.conv.weight": (4 * width, inputs + lateral, 1, 1, 1)}
                    shapes |= normed(f"{name}.downsample.bn", 4 * width)
                inputs = 4 * width
    for name, channels in (("conv1", 8), ("layer1", 32), ("layer2", 64), ("layer3", 128)):
        shapes[f"backbone.slow_path.{name}_lateral.conv.weight"] = (2 * channels, channels, KERNEL[variant], 1, 1)
    return shapes


def pyslowfast(variant: Variant, classes: int = 400) -> Shapes:
    """Names and shapes as PySlowFast's stem, resnet and head helpers and video_model_builder.py register them."""
    shapes: Shapes = {"head.projection.weight": (classes, 2304), "head.projection.bias": (classes,)}
    for path, part, span in ((0, 1, 1), (1, 8, 5)):
        shapes |= {f"s1.pathway{path}_stem.conv.weight": (64 // part, 3, span, 7, 7)} | normed(
            f"s1.pathway{path}_stem.bn", 64 // part
        )
        inputs = 64 // part
        for stage, (wide, blocks, slow, fast) in STAGES.items():
            width, t = wide // part, fast if path else slow
            for block in range(blocks):
                lateral = 0 if path or block else inputs // 4
                name = f"s{stage + 1}.pathway{path}_res{block}"
                if block == 0:
                    shapes |= {f"{name}.branch1.weight": (4 * width, inputs + lateral, 1, 1, 1)} | normed(
                        f"{name}.branch1_bn", 4 * width
                    )
                shapes |= {f"{name}.branch2.a.weight": (width, inputs + lateral, t, 1, 1)} | normed(
                    f"{name}.branch2.a_bn", width
                )
                shapes |= {f"{name}.branch2.b.weight": (width, width, 1, 3, 3)} | normed(f"{name}.branch2.b_bn", width)
                shapes |= {f"{name}.branch2.c.weight": (4 * width, width, 1, 1, 1)} | normed(
                    f"{name}.branch2.c_bn", 4 * width
                )
                inputs = 4 * width
    for stage, channels in ((1, 8), (2, 32), (3, 64), (4, 128)):
        shapes[f"s{stage}_fuse.conv_f2s.weight"] = (2 * channels, channels, KERNEL[variant], 1, 1)
        shapes |= normed(f"s{stage}_fuse.bn", 2 * channels)
    return shapes


SHAPES: dict[Release, Callable[..., Shapes]] = {Release.mmaction2: mmaction2, Release.pyslowfast: pyslowfast}
FILES = {Release.mmaction2: "slowfast.pth", Release.pyslowfast: "SLOWFAST.pkl"}
WRAPPERS: dict[Release, Callable[[State], dict[str, Any]]] = {
    Release.mmaction2: lambda state: {"meta": {"mmengine_version": "0.8.4"}, "state_dict": state},
    Release.pyslowfast: lambda state: {
        "epoch": 195,
        "model_state": state,
        "optimizer_state": {"state": {}},
        "cfg": "TRAIN:\n  ENABLE: true",
    },
}


def caffe2(variant: Variant, classes: int = 400) -> Shapes:
    """Names and shapes of the blobs in SLOWFAST_4x16_R50.pkl and SLOWFAST_8x8_R50.pkl (see c2_model_loading.py)."""
    shapes: Shapes = {"pred_w": (classes, 2304), "pred_b": (classes,)}

    def bn(name: str, channels: int) -> Shapes:
        return {f"{name}_bn_{part}": (channels,) for part in ("s", "b", "rm", "riv")}

    for prefix, part, span in (("", 1, 1), ("t_", 8, 5)):
        shapes |= {f"{prefix}conv1_w": (64 // part, 3, span, 7, 7)} | bn(f"{prefix}res_conv1", 64 // part)
        inputs = 64 // part
        for stage, (wide, blocks, slow, fast) in STAGES.items():
            width, t = wide // part, fast if prefix else slow
            for block in range(blocks):
                lateral = 0 if prefix or block else inputs // 4
                name = f"{prefix}res{stage + 1}_{block}_branch"
                if block == 0:
                    shapes |= {f"{name}1_w": (4 * width, inputs + lateral, 1, 1, 1)} | bn(f"{name}1", 4 * width)
                shapes |= {f"{name}2a_w": (width, inputs + lateral, t, 1, 1)} | bn(f"{name}2a", width)
                shapes |= {f"{name}2b_w": (width, width, 1, 3, 3)} | bn(f"{name}2b", width)
                shapes |= {f"{name}2c_w": (4 * width, width, 1, 1, 1)} | bn(f"{name}2c", 4 * width)
                inputs = 4 * width
    laterals = {"t_pool1": 8, "t_res2_2_branch2c_bn": 32, "t_res3_3_branch2c_bn": 64, "t_res4_5_branch2c_bn": 128}
    for name, channels in laterals.items():
        shapes |= {f"{name}_subsample_w": (2 * channels, channels, KERNEL[variant], 1, 1)} | bn(
            f"{name}_subsample", 2 * channels
        )
    return shapes


def empty(shapes: Shapes) -> State:
    """One number of memory for each tensor, whatever its shape."""
    return {
        name: torch.zeros((), dtype=torch.int64 if name.endswith("tracked") else torch.float32).expand(s)
        for name, s in shapes.items()
    }


def numbered(shapes: Shapes) -> State:
    generator = torch.Generator().manual_seed(2)

    def fill(name: str, shape: tuple[int, ...]) -> Tensor:
        if name.endswith("tracked"):
            return torch.tensor(7)
        spread = (6 / max(1, torch.Size(shape[1:]).numel())) ** 0.5 if len(shape) > 1 else 0.2
        values = (torch.rand(shape, generator=generator) - 0.5) * 2 * spread
        return values + (name.endswith("var") or (len(shape) == 1 and name.endswith("weight")))

    return {name: fill(name, shape) for name, shape in shapes.items()}


def saved(folder: Path, release: Release, state: State) -> str:
    torch.save(WRAPPERS[release](state), folder / FILES[release])
    return str(folder / FILES[release])


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(4))


NAMES = [f"slowfast_r50_{variant}{release}" for variant in ("4x16", "8x8") for release in ("", "_pyslowfast")]


@pytest.mark.parametrize("name", NAMES)
def test_the_yaml_says_what_the_code_says(name: str) -> None:
    config = choice("model", name)
    model = build(config, name)
    variant = Variant.r50_4x16 if "4x16" in name else Variant.r50_8x8
    expected = SlowFastR50(variant=variant)
    if "pyslowfast" in name:
        assert (model.release, model.input.mean, model.input.std) == (Release.pyslowfast, [0.45] * 3, [0.225] * 3)
        model = SlowFastR50(variant=model.variant, weights=model.weights, classes=model.classes)
    assert model == expected
    assert set(config) - {"_target_"} == {field.name for field in fields(model)}
    assert set(config.input) == {field.name for field in fields(Preprocessing)}


def test_the_colours_are_those_of_mmaction2() -> None:
    view = SlowFastR50().input
    assert [255 * mean for mean in view.mean] == pytest.approx([123.675, 116.28, 103.53])
    assert [255 * std for std in view.std] == pytest.approx([58.395, 57.12, 57.375])
    assert (view.frames, view.size, view.resize, view.max_value) == (32, [256, 256], [256], 1.0)


@pytest.mark.parametrize("release", Release)
@pytest.mark.parametrize("variant", Variant)
def test_the_released_names_and_shapes_are_loaded(tmp_path: Path, variant: Variant, release: Release) -> None:
    path = saved(tmp_path, release, empty(SHAPES[release](variant)))
    network = SlowFastR50(variant=variant, release=release, weights=path).load()
    assert (len(network.classes), network.classes[0], network.layer) == (400, "abseiling", "slow_path.layer4")
    assert not any(parameter.any() for parameter in network.module.parameters())
    assert not any(parameter.requires_grad for parameter in network.module.parameters())
    assert not network.module.training


@pytest.mark.parametrize(
    ("release", "other"), [(Release.mmaction2, Release.pyslowfast), (Release.pyslowfast, Release.mmaction2)]
)
def test_the_other_release_is_refused_with_the_difference(tmp_path: Path, release: Release, other: Release) -> None:
    path = saved(tmp_path, other, empty(SHAPES[other](Variant.r50_4x16)))
    with pytest.raises(ConfigError, match=r"does not fit SlowFast\n  missing \(\d+\): (.|\n)*  unexpected \(\d+\): "):
        SlowFastR50(release=release, weights=path).load()


def test_the_other_variant_is_refused_with_the_difference(tmp_path: Path) -> None:
    path = saved(tmp_path, Release.mmaction2, empty(mmaction2(Variant.r50_8x8)))
    shapes = r"slow_path\.conv1_lateral\.conv\.weight is \(16, 8, 7, 1, 1\), not \(16, 8, 5, 1, 1\)"
    with pytest.raises(ConfigError, match=rf"other shape \(4\): {shapes}(.|\n)*nearly this network"):
        SlowFastR50(weights=path).load()


def test_without_weights_it_says_where_they_are() -> None:
    assert SlowFastR50().weights_file() is None
    with pytest.raises(
        ConfigError, match=r"without weights\n.*mmaction2's configs/recognition/slowfast\n.*model\.weights=FILE"
    ):
        SlowFastR50().load()


class Twin:
    """SlowFast's equations, one operation after the other, on the weights by their released names."""

    def __init__(self, state: State, variant: Variant) -> None:
        self.state, self.ratio, self.kernel = state, RATIO[variant], KERNEL[variant]

    def norm(self, x: Tensor, name: str) -> Tensor:
        mean, var, weight, bias = (
            self.state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return batch_norm(x, mean, var, weight, bias)

    def conv(self, x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = self.state[f"{name}.weight"]
        return conv3d(x, weight, stride=(1, stride, stride), padding=[side // 2 for side in weight.shape[2:]])

    def lateral(self, x: Tensor, name: str) -> Tensor:
        return conv3d(x, self.state[f"{name}.weight"], stride=(self.ratio, 1, 1), padding=(self.kernel // 2, 0, 0))

    def mmaction2(self, frames: Tensor) -> Tensor:
        slow, fast = frames[:, :, range(0, frames.shape[2], self.ratio)], frames
        for stage in range(5):
            slow, fast = (
                self._stage(x, f"backbone.{path}_path", stage) for x, path in ((slow, "slow"), (fast, "fast"))
            )
            if stage < 4:
                name = f"backbone.slow_path.{f'layer{stage}' if stage else 'conv1'}_lateral.conv"
                slow = torch.cat([slow, self.lateral(fast, name)], 1)
        pooled = torch.cat([fast.mean((2, 3, 4)), slow.mean((2, 3, 4))], 1)
        return linear(pooled, self.state["cls_head.fc_cls.weight"], self.state["cls_head.fc_cls.bias"])

    def _stage(self, x: Tensor, path: str, stage: int) -> Tensor:
        if stage == 0:
            x = self.norm(self.conv(x, f"{path}.conv1.conv", 2), f"{path}.conv1.bn").relu()
            return max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
        for block in range(STAGES[stage][1]):
            name, stride = f"{path}.layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            inner = self.norm(self.conv(x, f"{name}.conv1.conv"), f"{name}.conv1.bn").relu()
            inner = self.norm(self.conv(inner, f"{name}.conv2.conv", stride), f"{name}.conv2.bn").relu()
            inner = self.norm(self.conv(inner, f"{name}.conv3.conv"), f"{name}.conv3.bn")
            x = x if block else self.norm(self.conv(x, f"{name}.downsample.conv", stride), f"{name}.downsample.bn")
            x = (x + inner).relu()
        return x

    def pyslowfast(self, frames: Tensor) -> Tensor:
        length = frames.shape[2]
        slow, fast = frames[:, :, torch.linspace(0, length - 1, length // self.ratio).long()], frames
        for stage in range(1, 6):
            slow, fast = (self._res(x, stage, path) for path, x in enumerate((slow, fast)))
            if stage < 5:
                fused = self.norm(self.lateral(fast, f"s{stage}_fuse.conv_f2s"), f"s{stage}_fuse.bn").relu()
                slow = torch.cat([slow, fused], 1)
        pooled = torch.cat([slow.mean((2, 3, 4)), fast.mean((2, 3, 4))], 1)
        return linear(pooled, self.state["head.projection.weight"], self.state["head.projection.bias"])

    def _res(self, x: Tensor, stage: int, path: int) -> Tensor:
        if stage == 1:
            x = self.norm(self.conv(x, f"s1.pathway{path}_stem.conv", 2), f"s1.pathway{path}_stem.bn").relu()
            return max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
        for block in range(STAGES[stage - 1][1]):
            name, stride = f"s{stage}.pathway{path}_res{block}", 2 if stage > 2 and block == 0 else 1
            inner = self.norm(self.conv(x, f"{name}.branch2.a"), f"{name}.branch2.a_bn").relu()
            inner = self.norm(self.conv(inner, f"{name}.branch2.b", stride), f"{name}.branch2.b_bn").relu()
            inner = self.norm(self.conv(inner, f"{name}.branch2.c"), f"{name}.branch2.c_bn")
            x = x if block else self.norm(self.conv(x, f"{name}.branch1", stride), f"{name}.branch1_bn")
            x = (x + inner).relu()
        return x


@pytest.mark.parametrize(
    ("variant", "release"), [(Variant.r50_4x16, Release.mmaction2), (Variant.r50_8x8, Release.pyslowfast)]
)
def test_it_computes_the_equations_of_its_release(tmp_path: Path, variant: Variant, release: Release) -> None:
    state = numbered(SHAPES[release](variant, classes=5))
    network = SlowFastR50(variant=variant, release=release, weights=saved(tmp_path, release, state)).load()
    frames = noise(2, 3, 16, 32, 32)
    with torch.no_grad():
        ours, theirs = network(frames), getattr(Twin(state, variant), release.value)(frames)
    assert theirs.std() > 0.1
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * theirs.abs().max().item())
    assert network.classes == tuple(f"class {k}" for k in range(5))
    # A clip on its own, the gradient back to its pixels, and the features that Grad-CAM reads.
    clip = frames[1:].clone().requires_grad_()
    logits, features = network.activations(clip)
    torch.testing.assert_close(logits, ours[1:], rtol=1e-3, atol=1e-3 * ours.abs().max().item())
    assert network.volume(features, 1).shape == (1, 2048, 16 // RATIO[variant], 1, 1)
    assert torch.autograd.grad(network(clip)[0, 3], clip)[0].abs().amax((0, 1, 3, 4)).gt(0).all()


@pytest.mark.parametrize(
    ("variant", "release", "seen"),
    [
        (Variant.r50_4x16, Release.mmaction2, [0, 8, 16, 24]),
        (Variant.r50_8x8, Release.mmaction2, [0, 4, 8, 12, 16, 20, 24, 28]),
        (Variant.r50_4x16, Release.pyslowfast, [0, 10, 20, 31]),
        (Variant.r50_8x8, Release.pyslowfast, [0, 4, 8, 13, 17, 22, 26, 31]),
    ],
)
def test_the_slow_pathway_sees_the_frames_of_its_release(variant: Variant, release: Release, seen: list[int]) -> None:
    with torch.device("meta"):
        module = SlowFast(variant, release, 1)
    frames = torch.arange(32.0).view(1, 1, 32, 1, 1)
    assert module._every_so_often(frames).flatten().tolist() == seen


def counted(variant: Variant, release: Release) -> Iterator[float]:
    with torch.device("meta"):
        module = SlowFast(variant, release, 400).eval()
        yield sum(parameter.numel() for parameter in module.parameters()) / 1e6
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(torch.empty(1, 3, 32, 256, 256))
    yield counter.get_total_flops() / 2e9


@pytest.mark.parametrize(
    ("variant", "parameters", "macs"), [(Variant.r50_4x16, 34.5, 36.1), (Variant.r50_8x8, 34.6, 65.7)]
)
@pytest.mark.parametrize("release", Release)
def test_its_size_and_its_cost_are_the_published_ones(
    variant: Variant, release: Release, parameters: float, macs: float
) -> None:
    # Parameters: mmaction2's table. Multiply-adds at 32 × 256 × 256: Table 2 of the paper; mmaction2's 36.3 and 66.1
    # are of the same size, whatever its table says of 224, and count normalisation and pooling too.
    ours = tuple(counted(variant, release))
    assert (round(ours[0], 1), round(ours[1], 1)) == (parameters, macs)


def test_random_weights_are_the_same_every_time() -> None:
    one, other = (SlowFastR50(weights="random").load() for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.module.parameters(), other.module.parameters(), strict=True))
    assert one.classes[0] == "class 0"
    assert SlowFastR50(weights="random").weights_file() is None


PYSLOWFAST_NAME = (
    (r"^t_pool1_subsample_bn", "s1_fuse.bn"),
    (r"^t_pool1_subsample", "s1_fuse.conv_f2s"),
    (r"^t_res(\d)_\d_branch2c_bn_subsample_bn", r"s\1_fuse.bn"),
    (r"^t_res(\d)_\d_branch2c_bn_subsample", r"s\1_fuse.conv_f2s"),
    (r"^(?:res_)?conv1", "s1.pathway0_stem"),
    (r"^t_(?:res_)?conv1", "s1.pathway1_stem"),
    (r"^res(\d)_(\d)_branch2([abc])", r"s\1.pathway0_res\2.branch2.\3"),
    (r"^t_res(\d)_(\d)_branch2([abc])", r"s\1.pathway1_res\2.branch2.\3"),
    (r"^res(\d)_(\d)_branch1", r"s\1.pathway0_res\2.branch1"),
    (r"^t_res(\d)_(\d)_branch1", r"s\1.pathway1_res\2.branch1"),
    (r"^pred", "head.projection"),
    (r"(stem)_(w|bn)", lambda match: f"{match[1]}.{'conv_w' if match[2] == 'w' else 'bn'}"),
    (r"_s$", ".weight"),
    (r"_w$", ".weight"),
    (r"_rm$", ".running_mean"),
    (r"_riv$", ".running_var"),
    (r"_b$", ".bias"),
)


def of_pyslowfast(blob: str) -> str:
    for theirs, form in PYSLOWFAST_NAME:
        blob = re.sub(theirs, form, blob)
    return blob


@pytest.mark.parametrize("variant", Variant)
def test_every_blob_of_caffe2_has_a_place_and_its_shape(variant: Variant) -> None:
    blobs, expected = caffe2(variant), pyslowfast(variant)
    assert {of_pyslowfast(name): shape for name, shape in blobs.items()} == {
        n: s for n, s in expected.items() if not n.endswith("tracked")
    }
    ours = from_pyslowfast(empty(blobs))
    assert ours.keys() == {name for name in from_pyslowfast(empty(expected)) if not name.endswith("tracked")}


def pickled(path: Path, content: object) -> str:
    path.write_bytes(pickle.dumps(content, protocol=2))
    return str(path)


def test_the_caffe2_files_of_pyslowfasts_model_zoo_are_read_as_arrays(tmp_path: Path) -> None:
    variant = Variant.r50_4x16
    state = {name: tensor for name, tensor in numbered(pyslowfast(variant, 5)).items() if not name.endswith("tracked")}
    blobs = {blob: state[of_pyslowfast(blob)].numpy() for blob in caffe2(variant, 5)}
    blobs["res2_0_branch2a_w"] = blobs["res2_0_branch2a_w"][..., 0, 0]  # Caffe2 may leave out axes of length 1
    training = {
        "conv1_w_momentum": np.zeros(3, np.float32),
        "lr": np.float32(0.1),
        "model_iter": np.array([7], np.int64),
    }
    path = pickled(tmp_path / "SLOWFAST_4x16_R50.pkl", {"blobs": blobs | training, "cfg": "MODEL:\n  NUM_CLASSES: 5"})
    of_caffe2 = SlowFastR50(variant=variant, release=Release.pyslowfast, weights=path).load().module.state_dict()
    torch.save({"model_state": state}, tmp_path / "checkpoint.pyth")
    own = (
        SlowFastR50(variant=variant, release=Release.pyslowfast, weights=str(tmp_path / "checkpoint.pyth"))
        .load()
        .module.state_dict()
    )
    assert of_caffe2.keys() == own.keys()
    assert all(torch.equal(tensor, own[name]) for name, tensor in of_caffe2.items())


class Runs:
    """What pickles to a call, as any pickle may."""

    def __init__(self, call: object, *arguments: object) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> Any:
        return self.call, self.arguments


@pytest.mark.parametrize("call", [os.mkdir, eval, np.load, torch.zeros, Path])
def test_a_pickle_that_holds_code_is_refused_and_never_run(tmp_path: Path, call: object) -> None:
    argument = str(tmp_path / "made")
    path = pickled(
        tmp_path / "w.pkl", {"blobs": {"pred_w": np.zeros((5, 2304), np.float32), "lr": Runs(call, argument)}}
    )
    with pytest.raises(ConfigError, match=r"w\.pkl was not loaded: it holds code \(\w+"):
        SlowFastR50(release=Release.pyslowfast, weights=path).load()
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (["a"], r"holds a list\n.*arrays by name"),
        ({"blobs": {}}, r"holds no weights"),
        ({"blobs": {"pred_w": "a text"}}, r"entries that are not weights: pred_w"),
        ({"blobs": {"pred_w": np.array([b"text"])}}, r"entries that are not weights: pred_w"),
        ({"blobs": {"pred_w": np.full((5, 2304), np.nan, np.float32)}}, r"not finite: pred_w"),
        ({"blobs": {"pred_w": np.zeros((5, 2304), np.float32), "conv9_w": np.zeros(3)}}, r"unexpected \(1\): conv9_w"),
    ],
)
def test_a_pickle_of_something_else_is_named(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SlowFastR50(release=Release.pyslowfast, weights=pickled(tmp_path / "w.pkl", content)).load()


def test_a_pickle_that_breaks_off_is_named(tmp_path: Path) -> None:
    whole = pickle.dumps({"blobs": {"pred_w": np.zeros((5, 2304), np.float32)}}, protocol=2)
    (tmp_path / "w.pkl").write_bytes(whole[:-1000])
    with pytest.raises(ConfigError, match=r"w\.pkl cannot be read: "):
        SlowFastR50(release=Release.pyslowfast, weights=str(tmp_path / "w.pkl")).load()
