"""A small 3-D convolutional network for planted clips, with weights in the package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from vidattr.models.network.network import VideoModel
from vidattr.models.planted.network import PlantedNetwork, convolution


class SmallC3D(nn.Module):
    """Convolutions of 1 × 5 × 5 and three of 3 × 3 × 3, the maximum over space, a linear layer; 182 k parameters.

    A cell of the last features sees 15 frames, so an order of events is within one cell. The features are `conv4`'s,
    (N, 64, T/4, H/8, W/8). It takes the maximum over space, because an object that covers few cells hardly changes an
    average, which slows learning; the four steps of time are averaged.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = convolution(3, 3, 16, (1, 5, 5), (1, 2, 2))
        self.conv2 = convolution(3, 16, 32, (3, 3, 3), (2, 2, 2))
        self.conv3 = convolution(3, 32, 64, (3, 3, 3), (2, 2, 2))
        self.conv4 = convolution(3, 64, 64, (3, 3, 3), (1, 1, 1))
        self.norm = nn.BatchNorm1d(64)
        self.head = nn.Linear(64, classes)

    def forward(self, frames: Tensor) -> Tensor:
        """Maps (N, 3, T, H, W) to (N, K) logits."""
        features = self.conv4(self.conv3(self.conv2(self.conv1(frames))))
        logits: Tensor = self.head(self.norm(features.amax((3, 4))).mean(2))
        return logits


@dataclass(frozen=True)
class PlantedC3D(PlantedNetwork):
    """A small 3-D CNN (after Tran et al., "Learning Spatiotemporal Features with 3D Convolutional Networks", 2015).

    Unlike the paper, it has four convolutions with strides in place of pools, and one linear layer.

    Attributes:
        family: The family of planted clips whose weights `weights=package` stands for.
        weights: "package": trained by the recipe `planted`; "random": untrained; else a checkpoint file.
        classes: Names of the outputs (`weights.class_names`); None: the checkpoint's own.
        output: What the outputs are: logits of classes that exclude each other (softmax) or do not (sigmoid), or
            probabilities (prob), or their logarithms (logprob).
        input: Preprocessing.
    """

    version: ClassVar[int] = 1
    architecture: ClassVar[str] = "planted_c3d"

    def load(self) -> VideoModel:
        """Returns the network, on the CPU; raises ConfigError if weights or class names are missing or do not fit."""
        module, classes = self.filled(SmallC3D)
        return VideoModel(module, self.input, classes, layer="conv4", max_batch=32, output=self.output)
