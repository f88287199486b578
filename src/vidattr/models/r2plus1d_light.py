"""A light R(2+1)D: three residual (2+1)D blocks, 0.3 million parameters, trained on UCF101."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from vidattr.config.fields import keyed_by_content
from vidattr.models.network.network import VideoModel
from vidattr.models.network.output import Output
from vidattr.models.weights.loading import WeightsOrigin, loaded
from vidattr.video.preprocessing import Geometry, Preprocessing, Sampling


class Block(nn.Module):
    """A residual block of one (2+1)D convolution: ReLU(BN(temporal(ReLU(BN(spatial(x))))) + BN(1×1×1(x))).

    Between i input and o output channels there are ⌊27·i·o / (9·i + 3·o)⌋, as many as make the pair as large as one
    3×3×3 convolution (Tran et al., CVPR 2018, Sec. 3.5). Unlike the paper, a block has one such pair, not two.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        middle = 27 * inputs * outputs // (9 * inputs + 3 * outputs)
        self.spatial_conv = nn.Conv3d(inputs, middle, (1, 3, 3), padding=(0, 1, 1), bias=False)
        self.bn1 = nn.BatchNorm3d(middle)
        self.temporal_conv = nn.Conv3d(middle, outputs, (3, 1, 1), padding=(1, 0, 0), bias=False)
        self.bn2 = nn.BatchNorm3d(outputs)
        self.shortcut = nn.Sequential(nn.Conv3d(inputs, outputs, 1, bias=False), nn.BatchNorm3d(outputs))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, inputs, t, h, w) to (N, outputs, t, h, w)."""
        inner = self.relu(self.bn1(self.spatial_conv(x)))
        out: Tensor = self.relu(self.bn2(self.temporal_conv(inner)) + self.shortcut(x))
        return out


class R2Plus1DLight(nn.Module):
    """Three stages of a block and a 2×2×2 max-pool, global average pool, one linear layer."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = (
            nn.Sequential(Block(inputs, outputs), nn.MaxPool3d(2)) for inputs, outputs in ((3, 32), (32, 64), (64, 128))
        )
        self.dropout = nn.Dropout(0.3)
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.classifier = nn.Linear(128, classes)

    def forward(self, frames: Tensor) -> Tensor:
        """Maps (N, 3, T, H, W) to (N, K) logits; T, H, W of at least 8."""
        x = self.conv3(self.conv2(self.conv1(frames)))
        logits: Tensor = self.classifier(self.pool(self.dropout(x)).flatten(1))
        return logits


_ORIGIN = WeightsOrigin("the training that made it, or one of your own (vidattr train)")
_CLASSES = 101  # of UCF101


def _view() -> Preprocessing:
    return Preprocessing(frames=10, size=[224, 224], geometry=Geometry.letterbox, sampling=Sampling.stride, stride=15)


@dataclass(frozen=True)
class UCF101R2Plus1DLight:
    """The light R(2+1)D trained on UCF101.

    Its features are the output of `conv3`, (N, 128, 1, 28, 28) for ten frames of 224 × 224: time is pooled away.

    Attributes:
        weights: A checkpoint file, of any number of classes; "random": untrained, to train from
            scratch or to measure speed.
        classes: Names of the outputs (`weights.class_names`); None: the checkpoint's own.
        output: What the outputs are: logits of classes that exclude each other (softmax) or do not (sigmoid), or
            probabilities (prob), or their logarithms (logprob).
        input: Preprocessing: frames 0, 15, …, 135, letter-boxed to 224 × 224, values in 0..1. The network is fully
            convolutional, so that any `input.size` runs: 112 × 112 is seven times cheaper, and much less often right.
    """

    version: ClassVar[int] = 1

    weights: str | None = keyed_by_content(None)
    classes: str | None = keyed_by_content(None)
    output: Output = Output.softmax
    input: Preprocessing = field(default_factory=_view)

    def weights_file(self) -> Path | None:
        """Returns the checkpoint file; None for random weights, and where none are named."""
        return _ORIGIN.file(self.weights)

    def load(self) -> VideoModel:
        """Returns the network, on the CPU; raises ConfigError if weights or class names are missing or do not fit."""
        module, classes = loaded(
            self.weights, _ORIGIN, R2Plus1DLight, "classifier.weight", self.classes, untrained_classes=_CLASSES
        )
        return VideoModel(
            module, self.input, classes, layer="conv3", memory_format=torch.channels_last_3d, output=self.output
        )
