"""SlowFast networks with 50 layers: a slow pathway on few frames, and a thin fast pathway on all frames."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum, auto
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from vidattr.config.fields import keyed_by_content
from vidattr.models.network.network import VideoModel
from vidattr.models.network.output import Output
from vidattr.models.weights.loading import WeightsOrigin, loaded
from vidattr.models.weights.slowfast_names import from_mmaction2, from_pyslowfast
from vidattr.video.preprocessing import CropAt, Geometry, LongSide, Preprocessing, Sampling, Short

_BLOCKS = (3, 4, 6, 3)
_WIDTH = 64  # channels of the slow stem
_THINNER = 8  # 1/β: the fast pathway has 8 times fewer channels
_EXPANSION = 4
_FUSED = 2  # a lateral connection doubles the number of fast channels


class Variant(StrEnum):
    """Frames of the slow pathway × their distance in frames of the video: it takes 4 or 8 of the 32 frames."""

    r50_4x16 = auto()
    r50_8x8 = auto()


class Release(StrEnum):
    """Who trained the checkpoint; the two networks differ in more than names (`SlowFast`)."""

    mmaction2 = auto()
    pyslowfast = auto()


_FRAME_RATIO = {Variant.r50_4x16: 8, Variant.r50_8x8: 4}  # α: frames of the fast pathway for one of the slow one
_LATERAL_KERNEL = {Variant.r50_4x16: 5, Variant.r50_8x8: 7}


def _unit(
    inputs: int,
    outputs: int,
    kernel: tuple[int, int, int],
    stride: tuple[int, int, int] = (1, 1, 1),
    *,
    norm: bool = True,
    relu: bool = True,
) -> nn.Sequential:
    """A convolution without bias that keeps the size but for its stride, batch norm, ReLU."""
    t, h, w = kernel
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv3d(inputs, outputs, kernel, stride, padding=(t // 2, h // 2, w // 2), bias=False)
    )
    if norm:
        layers["bn"] = nn.BatchNorm3d(outputs)
    if relu:
        layers["relu"] = nn.ReLU()
    return nn.Sequential(layers)


class Bottleneck(nn.Module):
    """ReLU(1×1×1(1×3×3(t×1×1(x))) + x), time convolved in the first of the three if at all."""

    def __init__(self, inputs: int, width: int, *, temporal: bool, stride: int, projected: bool) -> None:
        super().__init__()
        outputs = width * _EXPANSION
        self.conv1 = _unit(inputs, width, (3 if temporal else 1, 1, 1))
        self.conv2 = _unit(width, width, (1, 3, 3), (1, stride, stride))
        self.conv3 = _unit(width, outputs, (1, 1, 1), relu=False)
        self.downsample = (
            _unit(inputs, outputs, (1, 1, 1), (1, stride, stride), relu=False) if projected else nn.Identity()
        )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, inputs, t, h, w) to (N, 4·width, t, h / stride, w / stride)."""
        out: Tensor = self.relu(self.conv3(self.conv2(self.conv1(x))) + self.downsample(x))
        return out


class Pathway(nn.Module):
    """A ResNet-50 that never strides in time.

    Args:
        width: Channels of its stem.
        span: Frames that the stem's kernel spans.
        temporal: For each of the four stages whether its blocks convolve time.
        lateral: Channels that a lateral connection adds to the stem's; it adds the same share to those of a stage.
    """

    def __init__(self, width: int, span: int, temporal: tuple[bool, ...], lateral: int = 0) -> None:
        super().__init__()
        self.conv1 = _unit(3, width, (span, 7, 7), (1, 2, 2))
        self.maxpool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
        inputs = width
        for number, (blocks, in_time) in enumerate(zip(_BLOCKS, temporal, strict=True)):
            inner = width << number
            fused = inputs + lateral * inputs // width
            stage = [Bottleneck(fused, inner, temporal=in_time, stride=1 + (number > 0), projected=True)]
            inputs = inner * _EXPANSION
            stage += [Bottleneck(inputs, inner, temporal=in_time, stride=1, projected=False) for _ in range(blocks - 1)]
            self.add_module(f"layer{number + 1}", nn.Sequential(*stage))

    def stem(self, frames: Tensor) -> Tensor:
        """Maps (N, 3, t, H, W) to (N, width, t, H/4, W/4)."""
        features: Tensor = self.maxpool(self.conv1(frames))
        return features


class SlowFast(nn.Module):
    """Two pathways, joined by lateral connections from fast to slow, averaged, concatenated, one linear layer.

    The slow pathway sees every α-th frame and has a width of 64, the fast one all frames and a width of 8. After the
    stem and the first three stages the fast features, convolved with a stride of α in time, are added to the slow
    channels.

    Of the two releases, mmaction2 gives the slow pathway frames 0, α, 2α, … and its lateral connections are linear;
    PySlowFast spreads them from the first frame to the last (⌊i·(T−1)/(T/α−1)⌋), and adds batch norm and ReLU to the
    connections.
    """

    def __init__(self, variant: Variant, release: Release, classes: int) -> None:
        super().__init__()
        self.ratio, self.spread = _FRAME_RATIO[variant], release is Release.pyslowfast
        thin = _WIDTH // _THINNER
        self.slow_path = Pathway(_WIDTH, 1, (False, False, True, True), lateral=_FUSED * thin)
        self.fast_path = Pathway(thin, 5, (True, True, True, True))
        kernel, stride = (_LATERAL_KERNEL[variant], 1, 1), (self.ratio, 1, 1)
        for name, channels in (("conv1", thin), *((f"layer{n + 1}", (thin << n) * _EXPANSION) for n in range(3))):
            lateral = _unit(channels, _FUSED * channels, kernel, stride, norm=self.spread, relu=self.spread)
            self.slow_path.add_module(f"{name}_lateral", lateral)
        self.avg_pool = nn.AdaptiveAvgPool3d(1)
        self.dropout = nn.Dropout(0.5)
        self.fc_cls = nn.Linear((_WIDTH + thin) * 8 * _EXPANSION, classes)

    def forward(self, frames: Tensor) -> Tensor:
        """Maps (N, 3, T, H, W) to (N, K) logits; T a multiple of α, H and W of at least 32."""
        slow, fast = self.slow_path.stem(self._every_so_often(frames)), self.fast_path.stem(frames)
        for before, stage in pairwise(("conv1", "layer1", "layer2", "layer3", "layer4")):
            slow = torch.cat([slow, self.slow_path.get_submodule(f"{before}_lateral")(fast)], 1)
            slow, fast = self.slow_path.get_submodule(stage)(slow), self.fast_path.get_submodule(stage)(fast)
        pooled = torch.cat([self.avg_pool(fast), self.avg_pool(slow)], 1).flatten(1)
        logits: Tensor = self.fc_cls(self.dropout(pooled))
        return logits

    def _every_so_often(self, frames: Tensor) -> Tensor:
        if not self.spread:
            return frames[:, :, :: self.ratio]
        length = frames.shape[2]
        count = -(-length // self.ratio)
        return frames[:, :, [i * (length - 1) // max(count - 1, 1) for i in range(count)]]


_RENAME = {Release.mmaction2: from_mmaction2, Release.pyslowfast: from_pyslowfast}
_ORIGIN = {
    Release.mmaction2: WeightsOrigin("mmaction2's configs/recognition/slowfast"),
    Release.pyslowfast: WeightsOrigin("PySlowFast's model zoo"),
}


def _view() -> Preprocessing:
    return Preprocessing(
        frames=32,
        size=[256, 256],
        geometry=Geometry.crop,
        resize=[256],
        long_side=LongSide.nearest,
        crop_at=CropAt.floor,
        sampling=Sampling.center,
        stride=2,
        short=Short.loop,
        mean=[0.485, 0.456, 0.406],  # of 255: 123.675, 116.28, 103.53
        std=[0.229, 0.224, 0.225],  # of 255: 58.395, 57.12, 57.375
    )


@dataclass(frozen=True)
class SlowFastR50:
    """SlowFast with a ResNet-50 (Feichtenhofer et al., ICCV 2019, arXiv 1812.03982), without non-local blocks.

    Its features are the output of `slow_path.layer4`, (N, 2048, T/α, H/32, W/32): 4 or 8 time steps for 32 frames. The
    fast pathway's, `fast_path.layer4`, are (N, 256, T, H/32, W/32). The head reads both, so that no single volume has a
    linear head on its average.

    Checkpoints: mmaction2's `slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb_*.pth` and `…8x8x1…`, under `state_dict`:
    `backbone.slow_path.conv1.{conv,bn}.*`,
    `backbone.{slow,fast}_path.layer1.0.{conv1,conv2,conv3,downsample}.{conv,bn}.*`,
    `backbone.slow_path.{conv1,layer1,layer2,layer3}_lateral.conv.weight`, `cls_head.fc_cls.*`; and PySlowFast's
    `SLOWFAST_4x16_R50.pkl` and `SLOWFAST_8x8_R50.pkl`, under `model_state`: `s1.pathway0_stem.{conv,bn}.*`,
    `s1_fuse.{conv_f2s,bn}.*`, `s2.pathway0_res0.{branch1,branch1_bn,branch2.a,branch2.a_bn,…}.*`, `head.projection.*`.
    The two files of its model zoo are Caffe2's, arrays under `blobs`: `conv1_w`, `res_conv1_bn_{s,b,rm,riv}`,
    `res2_0_branch1_w`, `res2_0_branch2a_bn_s` …, the fast pathway's with `t_` before, `t_pool1_subsample_w`,
    `t_res2_2_branch2c_bn_subsample_w` …, `pred_w`; what training left beside them (`*_momentum`, `lr`, `model_iter`) is
    not read.

    Unlike PySlowFast's test, which averages probabilities over the windows of 7 × 7 features, the features are
    averaged: the same for frames of 224 × 224, and one network for any size.

    Attributes:
        variant: How many of the frames the slow pathway sees, r50_4x16 every eighth and r50_8x8 every fourth.
        release: Whose checkpoint it is. A checkpoint of the other is refused: their networks and colours differ.
        weights: The checkpoint file; "random": untrained, to train from
            scratch or to measure speed.
        classes: Names of the outputs (`weights.class_names`). The released file's names are kinetics400
            (mmaction2: tools/data/kinetics/label_map_k400.txt; PySlowFast:
            process_data/kinetics/classids.json of video-nonlocal-net).
        output: What the outputs are: logits of classes that exclude each other (softmax) or do not (sigmoid), or
            probabilities (prob), or their logarithms (logprob).
        input: Preprocessing, by default mmaction2's: every second of the 63 middle frames, a shorter clip begun again;
            short side 256, the centre 256 × 256 (the middle one of the three crops of its test), its mean and
            deviation. PySlowFast's YAML: 32 numbers spread over 64 frames of 30 a second (the sixth of its ten clips),
            the last one repeated; the crop's offset rounded up; mean 0.45, deviation 0.225.
    """

    version: ClassVar[int] = 2

    variant: Variant = Variant.r50_4x16
    release: Release = Release.mmaction2
    weights: str | None = keyed_by_content(None)
    classes: str | None = keyed_by_content("released:kinetics400")
    output: Output = Output.softmax
    input: Preprocessing = field(default_factory=_view)

    def weights_file(self) -> Path | None:
        """Returns the checkpoint file; None for random weights, and where none are named."""
        return _ORIGIN[self.release].file(self.weights)

    def load(self) -> VideoModel:
        """Returns the network, on the CPU; raises ConfigError if weights or class names are missing or do not fit."""
        module, classes = loaded(
            self.weights,
            _ORIGIN[self.release],
            partial(SlowFast, self.variant, self.release),
            "fc_cls.weight",
            self.classes,
            untrained_classes=400,
            rename=_RENAME[self.release],
        )
        return VideoModel(
            module,
            self.input,
            classes,
            layer="slow_path.layer4",
            memory_format=torch.channels_last_3d,
            output=self.output,
        )
