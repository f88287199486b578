"""A small (2+1)D residual network for 64 × 64 clips, whose weights come with the package."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from vidattr.config.fields import keyed_by_content
from vidattr.datasets.synthetic import CLASSES
from vidattr.models.network.network import VideoModel
from vidattr.models.network.output import Output
from vidattr.models.weights.loading import WeightsOrigin, loaded
from vidattr.video.preprocessing import Preprocessing

_WIDTHS = (16, 32, 64)
_FIRST_SCALE = 8.0  # of the last features, before training


def _factored(inputs: int, outputs: int, side: int, stride: tuple[int, int]) -> nn.Sequential:
    """Returns a convolution of 1 × side × side and one of 3 × 1 × 1; `stride` is in time and in space."""
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, (1, side, side), (1, stride[1], stride[1]), (0, side // 2, side // 2), bias=False),
        nn.BatchNorm3d(outputs),
        nn.ReLU(),
        nn.Conv3d(outputs, outputs, (3, 1, 1), (stride[0], 1, 1), (1, 0, 0), bias=False),
        nn.BatchNorm3d(outputs),
    )


class Residual(nn.Module):
    """Two factored convolutions beside an average pool with a linear projection."""

    def __init__(self, inputs: int, outputs: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self.first = _factored(inputs, outputs, 3, stride)
        self.second = _factored(outputs, outputs, 3, (1, 1))
        pool = nn.AvgPool3d((stride[0], stride[1], stride[1]))
        self.skip = nn.Sequential(pool, nn.Conv3d(inputs, outputs, 1, bias=False), nn.BatchNorm3d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, T, H, W) to fewer frames and pixels by the stride, as many channels as outputs."""
        return torch.relu(self.skip(x) + self.second(torch.relu(self.first(x))))


class R2Plus1D(nn.Module):
    """A stem, two residual blocks, the global average and one linear layer: 106 thousand parameters.

    The features are `block2`'s, (N, 64, T/2, H/8, W/8). An object covers few of their cells, so at first the average
    hardly depends on it and nothing is learnt; the last features therefore start out larger than BatchNorm makes them.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        stem, middle, last = _WIDTHS
        self.stem = nn.Sequential(_factored(3, stem, 5, (2, 2)), nn.ReLU())
        self.block1 = Residual(stem, middle, (1, 2))
        self.block2 = Residual(middle, last, (1, 2))
        self.head = nn.Linear(last, classes)
        for norm in (self.block2.second[-1], self.block2.skip[-1]):
            nn.init.constant_(norm.get_parameter("weight"), _FIRST_SCALE)

    def forward(self, frames: Tensor) -> Tensor:
        """Maps (N, 3, T, H, W) to (N, K) logits; T a multiple of 2, H and W of 8."""
        features = self.block2(self.block1(self.stem(frames)))
        logits: Tensor = self.head(features.mean((2, 3, 4)))
        return logits


_ORIGIN = WeightsOrigin(package="tiny_r2plus1d")


def _view() -> Preprocessing:
    return Preprocessing(frames=16, size=[64, 64], mean=[0.4, 0.4, 0.4], std=[0.25, 0.25, 0.25])


@dataclass(frozen=True)
class TinyR2Plus1D:
    """A small R(2+1)D (after Tran et al., CVPR 2018, arXiv 1711.11248) for the synthetic clips.

    Each convolution is factored into space and time as in the paper. Unlike the paper, a factored convolution has as
    many channels inside as outside, the stem takes every other frame, and the shortcut averages before it projects.

    Attributes:
        weights: "package": trained by the recipe `tiny`; "random": untrained; else a checkpoint file.
        classes: Names of the outputs (`weights.class_names`); None: the checkpoint's own.
        output: What the outputs are: logits of classes that exclude each other (softmax) or do not (sigmoid), or
            probabilities (prob), or their logarithms (logprob).
        input: Preprocessing; the size may be changed, at a loss.
    """

    version: ClassVar[int] = 1

    weights: str = keyed_by_content("package")
    classes: str | None = keyed_by_content(None)
    output: Output = Output.softmax
    input: Preprocessing = field(default_factory=_view)

    def weights_file(self) -> Path | None:
        """Returns the checkpoint file, or None for random weights."""
        return _ORIGIN.file(self.weights)

    def load(self) -> VideoModel:
        """Returns the network, on the CPU; raises ConfigError if weights or class names are missing or do not fit."""
        module, classes = loaded(
            self.weights, _ORIGIN, R2Plus1D, "head.weight", self.classes, untrained_classes=CLASSES
        )
        return VideoModel(module, self.input, classes, layer="block2", max_batch=32, output=self.output)
