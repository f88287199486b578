"""The 3-D ResNets of Hara et al., plain and factored as R(2+1)D, with 18, 34, 50 or 101 layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum, auto
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool3d

from vidattr.config.fields import keyed_by_content
from vidattr.errors import ConfigError
from vidattr.models.network.network import VideoModel
from vidattr.models.network.output import Output
from vidattr.models.weights.loading import WeightsOrigin, loaded
from vidattr.video.preprocessing import Geometry, Preprocessing, Resample, Sampling, Short

_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
_WIDTHS = (64, 128, 256, 512)
_EXPANSION = 4  # of a bottleneck


class Convolution(StrEnum):
    """r3d: of time and space at once; r2plus1d: of space, and then of time."""

    r3d = auto()
    r2plus1d = auto()


def middle(inputs: int, outputs: int, time: int, side: int) -> int:
    """Returns M = ⌊t·d²·i·o / (d²·i + t·o)⌋ (Tran et al., 2018, section 3.5).

    A 1×d×d convolution to M channels and a t×1×1 convolution then have as many weights as a t×d×d convolution.
    """
    return time * side**2 * inputs * outputs // (side**2 * inputs + time * outputs)


def _add(
    module: nn.Module, kind: Convolution, number: int, inputs: int, outputs: int, side: int, stride: tuple[int, int]
) -> list[str]:
    """Gives `module` a convolution of `side`³ and its BatchNorm, or two of each; `stride` is in time and in space.

    Returns:
        The ends of the names `conv…` and `bn…` in the released checkpoints: "1", or "1_s" and "1_t".
    """
    step, pixels = stride
    if kind is Convolution.r3d or side == 1:
        convolutions = {f"{number}": nn.Conv3d(inputs, outputs, side, (step, pixels, pixels), side // 2, bias=False)}
    else:
        between = middle(inputs, outputs, side, side)
        spatial = nn.Conv3d(
            inputs, between, (1, side, side), (1, pixels, pixels), (0, side // 2, side // 2), bias=False
        )
        temporal = nn.Conv3d(between, outputs, (side, 1, 1), (step, 1, 1), (side // 2, 0, 0), bias=False)
        convolutions = {f"{number}_s": spatial, f"{number}_t": temporal}
    for name, convolution in convolutions.items():
        module.add_module(f"conv{name}", convolution)
        module.add_module(f"bn{name}", nn.BatchNorm3d(convolution.out_channels))
    return list(convolutions)


def _apply(module: nn.Module, names: list[str], x: Tensor) -> Tensor:
    """Applies the convolutions that `_add` named, each with its BatchNorm, and a ReLU between each two."""
    for index, name in enumerate(names):
        x = module.get_submodule(f"bn{name}")(module.get_submodule(f"conv{name}")(torch.relu(x) if index else x))
    return x


class Block(nn.Module):
    """A basic block of two layers, or a bottleneck of three, and a shortcut (projected if shapes differ: type B)."""

    def __init__(self, kind: Convolution, inputs: int, width: int, stride: int, *, bottleneck: bool) -> None:
        super().__init__()
        outputs = width * _EXPANSION if bottleneck else width
        sides = (1, 3, 1) if bottleneck else (3, 3)
        strided = 2 if bottleneck else 1  # the number of the layer that has the stride
        self.names: list[str] = []
        last = inputs
        for number, side in enumerate(sides, 1):
            following = outputs if number == len(sides) else width
            self.names += _add(
                self, kind, number, last, following, side, (stride, stride) if number == strided else (1, 1)
            )
            last = following
        projected = stride != 1 or inputs != outputs
        project = (
            nn.Sequential(nn.Conv3d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm3d(outputs))
            if projected
            else None
        )
        self.downsample = project

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, c, t, h, w) to the block's outputs, each axis divided by its stride."""
        return torch.relu(_apply(self, self.names, x) + (x if self.downsample is None else self.downsample(x)))


class ResNet3D(nn.Module):
    """A stem of 7×7×7, a maximum of 3×3×3, four stages of blocks, the global average and one linear layer."""

    def __init__(self, classes: int, kind: Convolution, depth: int) -> None:
        super().__init__()
        bottleneck = depth >= 50
        inputs = _WIDTHS[0]
        self.stem = _add(self, kind, 1, 3, inputs, 7, (1, 2))
        for stage, (width, count) in enumerate(zip(_WIDTHS, _BLOCKS[depth], strict=True), 1):
            blocks: list[nn.Module] = []
            for number in range(count):
                stride = 2 if stage > 1 and number == 0 else 1
                blocks.append(Block(kind, inputs, width, stride, bottleneck=bottleneck))
                inputs = width * _EXPANSION if bottleneck else width
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, classes)

    def forward(self, frames: Tensor) -> Tensor:
        """Maps (N, 3, T, H, W) to (N, K) logits."""
        x = max_pool3d(torch.relu(_apply(self, self.stem, frames)), 3, 2, 1)
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
        logits: Tensor = self.fc(x.mean((2, 3, 4)))
        return logits


def _view() -> Preprocessing:
    return Preprocessing(
        frames=16,
        size=[112, 112],
        geometry=Geometry.crop,
        resize=[112],
        resample=Resample.pillow,
        sampling=Sampling.center,
        short=Short.loop,
        mean=[0.4345, 0.4051, 0.3775],
        std=[0.2768, 0.2713, 0.2737],
    )


@dataclass(frozen=True)
class Hara3DResNet:
    """A 3-D ResNet (Hara et al., CVPR 2018, arXiv 1711.09577; Kataoka et al., arXiv 2004.04968), plain or factored.

    Not torchvision's networks of the same names: after the stem a maximum halves time, height and width, so that 18
    layers cost 17 GFLOP where torchvision's cost 81. Its features are the output of `layer4`, (N, 512 or 2048, T/16, 4,
    4) for frames of 112 × 112; one cell in time for 16 frames.

    Names and shapes are those of the releases of 2020 of github.com/kenshohara/3D-ResNets-PyTorch (`r3d50_K_200ep.pth`,
    `r2p1d18_K_200ep.pth` and so on), under `state_dict`, with or without `module.`: `conv1`, `bn1` (R(2+1)D: `conv1_s`,
    `bn1_s`, `conv1_t`, `bn1_t`), `layer1.0.conv1` … `layer4.2.bn3`, `layer1.0.downsample.0` and `.1`, `fc`. K is
    Kinetics-700; KM has 1039 classes, KMS 1139, KS 800, M (Moments in Time) 339, MS 439, S (STAIR Actions) 100. The
    releases of 2017 and 2018 with 50 and more layers fit too, but took values of 0 … 255 minus a mean; those with 18
    and 34 have other shortcuts and are refused.

    Attributes:
        convolution: r3d or r2plus1d.
        depth: 18 or 34 layers, in basic blocks; 50 or 101, in bottlenecks.
        weights: A checkpoint file, of any number of classes; "random": untrained, to train from
            scratch or to measure speed.
        classes: Names of the outputs (`weights.class_names`), `class 0` and so on unless a file names them. The
            releases number Kinetics-700's classes in the order in which they first appear in its training CSV file (0
            slicing onion, 1 jetskiing, …), not in alphabetical order: give that file.
        output: What the outputs are: logits of classes that exclude each other (softmax) or do not (sigmoid), or
            probabilities (prob), or their logarithms (logprob).
        input: Preprocessing: the 16 middle frames, a shorter clip begun again (the repository's centre crop and loop in
            time; its test averages windows of 16 frames over the whole clip), short side 112 by Pillow, the centre 112
            × 112, mean and deviation of Kinetics.
    """

    version: ClassVar[int] = 2

    convolution: Convolution = Convolution.r3d
    depth: int = 50
    weights: str | None = keyed_by_content(None)
    classes: str | None = keyed_by_content(None)
    output: Output = Output.softmax
    input: Preprocessing = field(default_factory=_view)

    def __post_init__(self) -> None:
        if self.depth not in _BLOCKS:
            raise ConfigError(f"model.depth={self.depth}", expected=f"one of {', '.join(map(str, _BLOCKS))}")

    def weights_file(self) -> Path | None:
        """Returns the checkpoint file; None for random weights, and where none are named."""
        return self._origin().file(self.weights)

    def load(self) -> VideoModel:
        """Returns the network, on the CPU; raises ConfigError if weights or class names are missing or do not fit."""
        build = partial(ResNet3D, kind=self.convolution, depth=self.depth)
        module, classes = loaded(self.weights, self._origin(), build, "fc.weight", self.classes, untrained_classes=700)
        return VideoModel(
            module, self.input, classes, layer="layer4", memory_format=torch.channels_last_3d, output=self.output
        )

    def _origin(self) -> WeightsOrigin:
        prefix = "r3d" if self.convolution is Convolution.r3d else "r2p1d"
        return WeightsOrigin(f"github.com/kenshohara/3D-ResNets-PyTorch ({prefix}{self.depth}_K_200ep.pth)")
