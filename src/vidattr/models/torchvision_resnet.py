"""torchvision's three video ResNets with 18 layers: R(2+1)D-18, R3D-18 and MC3-18, trained on Kinetics-400."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum, auto
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from torchvision.models.video import (
    MC3_18_Weights,
    R2Plus1D_18_Weights,
    R3D_18_Weights,
    mc3_18,
    r2plus1d_18,
    r3d_18,
)

from vidattr.config.fields import keyed_by_content
from vidattr.models.network.network import VideoModel
from vidattr.models.network.output import Output
from vidattr.models.weights.loading import WeightsOrigin, loaded
from vidattr.models.weights.torchvision import download
from vidattr.video.preprocessing import Geometry, Preprocessing, Sampling


class Architecture(StrEnum):
    """Where time is convolved: factored in every block, in every block, or in the first stage only."""

    r2plus1d_18 = auto()
    r3d_18 = auto()
    mc3_18 = auto()


_BUILD = {Architecture.r2plus1d_18: r2plus1d_18, Architecture.r3d_18: r3d_18, Architecture.mc3_18: mc3_18}
_ORIGIN = {
    Architecture.r2plus1d_18: WeightsOrigin(released=partial(download, R2Plus1D_18_Weights.KINETICS400_V1)),
    Architecture.r3d_18: WeightsOrigin(released=partial(download, R3D_18_Weights.KINETICS400_V1)),
    Architecture.mc3_18: WeightsOrigin(released=partial(download, MC3_18_Weights.KINETICS400_V1)),
}


def _kinetics_view() -> Preprocessing:
    # Height by width: with the two swapped a landscape frame is squeezed into a portrait one before the crop.
    return Preprocessing(
        frames=16,
        size=[112, 112],
        geometry=Geometry.crop,
        resize=[128, 171],
        sampling=Sampling.center,
        fps=15.0,
        mean=[0.43216, 0.394666, 0.37645],
        std=[0.22803, 0.22145, 0.216989],
    )


@dataclass(frozen=True)
class TorchvisionResNet:
    """A video ResNet-18 (Tran et al., CVPR 2018, arXiv 1711.11248) as torchvision builds it.

    Its features are the output of `layer4`, (N, 512, T/8, 7, 7) for frames of 112 × 112; a global average pool and one
    linear layer follow. It is not the R(2+1)D-18 of the 3D-ResNets repository, which is five times cheaper.

    Attributes:
        architecture: Which of the three.
        weights: "kinetics400": the released weights, downloaded once into torch's hub folder; "random": untrained, for
            training from scratch or measuring speed; else a checkpoint file, of any number of classes.
        classes: Names of the outputs (`weights.class_names`). The released file's names are kinetics400
            (its own `categories`).
        output: What the outputs are: logits of classes that exclude each other (softmax) or do not (sigmoid), or
            probabilities (prob), or their logarithms (logprob).
        input: Preprocessing: 16 frames of 15 a second from the middle of the clip, the third of the five clips of
            torchvision's test; (128, 171) by resizing, the centre 112 × 112, and the mean and deviation of
            Kinetics-400. Unlike that test, which leaves out a video of fewer than 16 such frames, the last frame is
            repeated.
    """

    version: ClassVar[int] = 2

    architecture: Architecture = Architecture.r2plus1d_18
    weights: str = keyed_by_content("kinetics400")
    classes: str | None = keyed_by_content("released:kinetics400")
    output: Output = Output.softmax
    input: Preprocessing = field(default_factory=_kinetics_view)

    def weights_file(self) -> Path | None:
        """Returns the checkpoint file; None for random weights and torchvision's own."""
        return _ORIGIN[self.architecture].file(self.weights)

    def load(self) -> VideoModel:
        """Returns the network, on the CPU; raises ConfigError if weights or class names are missing or do not fit."""
        build = _BUILD[self.architecture]
        module, classes = loaded(
            self.weights,
            _ORIGIN[self.architecture],
            lambda count: build(num_classes=count),
            "fc.weight",
            self.classes,
            untrained_classes=400,
        )
        return VideoModel(
            module, self.input, classes, layer="layer4", memory_format=torch.channels_last_3d, output=self.output
        )
