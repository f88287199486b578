"""A light C3D: three 3×3×3 convolutions, 0.3 million parameters, trained on UCF101."""

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


class C3DLight(nn.Module):
    """Three times 3×3×3 convolution, BatchNorm, ReLU, 2×2×2 max-pool; global average pool; one linear layer."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = (
            nn.Sequential(
                nn.Conv3d(inputs, outputs, 3, padding=1, bias=False),
                nn.BatchNorm3d(outputs),
                nn.ReLU(),
                nn.MaxPool3d(2),
            )
            for inputs, outputs in ((3, 32), (32, 64), (64, 128))
        )
        self.dropout = nn.Dropout(0.3)
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.fc = nn.Linear(128, classes)

    def forward(self, frames: Tensor) -> Tensor:
        """Maps (N, 3, T, H, W) to (N, K) logits; T, H, W of at least 8."""
        x = self.conv3(self.conv2(self.conv1(frames)))
        logits: Tensor = self.fc(self.pool(self.dropout(x)).flatten(1))
        return logits


_ORIGIN = WeightsOrigin("the training that made it, or one of your own (vidattr train)")
_CLASSES = 101  # of UCF101


def _view() -> Preprocessing:
    return Preprocessing(
        frames=10, size=[224, 224], geometry=Geometry.letterbox, sampling=Sampling.stride, stride=15, max_value=255.0
    )


@dataclass(frozen=True)
class UCF101C3DLight:
    """The light C3D trained on UCF101; unlike the light R(2+1)D it takes values in 0..255.

    Its features are the output of `conv3`, (N, 128, 1, 28, 28) for ten frames of 224 × 224: time is pooled away.

    Attributes:
        weights: A checkpoint file, of any number of classes; "random": untrained, to train from
            scratch or to measure speed.
        classes: Names of the outputs (`weights.class_names`); None: the checkpoint's own.
        output: What the outputs are: logits of classes that exclude each other (softmax) or do not (sigmoid), or
            probabilities (prob), or their logarithms (logprob).
        input: Preprocessing: frames 0, 15, …, 135, letter-boxed to 224 × 224, values in 0..255. The network is fully
            convolutional, so that any `input.size` runs: 112 × 112 is cheaper, and less often right.
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
        module, classes = loaded(self.weights, _ORIGIN, C3DLight, "fc.weight", self.classes, untrained_classes=_CLASSES)
        return VideoModel(
            module, self.input, classes, layer="conv3", memory_format=torch.channels_last_3d, output=self.output
        )
