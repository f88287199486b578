"""MF-Net: a residual network of sixteen thin fibres, the network that Saliency Tubes were shown on."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool3d

from vidattr.config.fields import keyed_by_content
from vidattr.models.network.network import VideoModel
from vidattr.models.network.output import Output
from vidattr.models.weights.loading import WeightsOrigin, loaded
from vidattr.video.preprocessing import Geometry, Preprocessing, Sampling

_FIBRES = 16
_WIDTH = 96  # of the first stage; each one has twice the last one's
_BLOCKS = {"conv2": 3, "conv3": 4, "conv4": 6, "conv5": 3}

Axes = tuple[int, int, int]


class Activated(nn.Module):
    """BatchNorm, ReLU and a convolution that keeps the size, but for its stride."""

    def __init__(
        self, inputs: int, outputs: int, side: Axes = (1, 1, 1), stride: Axes = (1, 1, 1), fibres: int = 1
    ) -> None:
        super().__init__()
        t, h, w = side
        self.bn = nn.BatchNorm3d(inputs)
        self.conv = nn.Conv3d(inputs, outputs, side, stride, (t // 2, h // 2, w // 2), groups=fibres, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, `inputs`, t, h, w) to (N, `outputs`, …)."""
        y: Tensor = self.conv(torch.relu(self.bn(x)))
        return y


class MultiFibre(nn.Module):
    """A multiplexer (1×1×1 to a quarter and back, added), then fibres that do not see each other, beside a shortcut.

    In the first block of a stage the second convolution is not split but mixes the fibres, and the shortcut is
    projected.
    """

    def __init__(self, inputs: int, width: int, stride: Axes | None) -> None:
        super().__init__()
        first = stride is not None
        self.conv_i1 = Activated(inputs, width // 4)
        self.conv_i2 = Activated(width // 4, inputs)
        self.conv_m1 = Activated(inputs, width, (3, 3, 3), stride or (1, 1, 1), _FIBRES)
        self.conv_m2 = Activated(width, width) if first else Activated(width, width, (1, 3, 3), fibres=_FIBRES)
        self.conv_w1 = Activated(inputs, width, stride=stride) if stride is not None else None

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, c, t, h, w) to (N, `width`, …)."""
        mixed = x + self.conv_i2(self.conv_i1(x))
        y: Tensor = self.conv_m2(self.conv_m1(mixed)) + (x if self.conv_w1 is None else self.conv_w1(x))
        return y


class MFNet3D(nn.Module):
    """A stem, four stages of multi-fibre blocks, BatchNorm and ReLU, a linear layer on the average; 8.0 M."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        inputs = 16
        stem = nn.Conv3d(3, inputs, (3, 5, 5), (1, 2, 2), (1, 2, 2), bias=False)
        self.conv1 = nn.Sequential(OrderedDict(conv=stem, bn=nn.BatchNorm3d(inputs)))
        for index, (name, count) in enumerate(_BLOCKS.items()):
            width = _WIDTH * 2**index
            stride = (1, 2, 2) if index else (2, 1, 1)
            blocks = OrderedDict[str, nn.Module](B01=MultiFibre(inputs, width, stride))
            blocks |= {f"B{number:02d}": MultiFibre(width, width, None) for number in range(2, count + 1)}
            self.add_module(name, nn.Sequential(blocks))
            inputs = width
        self.tail = nn.Sequential(OrderedDict(bn=nn.BatchNorm3d(inputs), relu=nn.ReLU()))
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, frames: Tensor) -> Tensor:
        """Maps (N, 3, T, H, W) to (N, K) logits."""
        x = max_pool3d(torch.relu(self.conv1(frames)), (1, 3, 3), (1, 2, 2), (0, 1, 1))
        for name in _BLOCKS:
            x = self.get_submodule(name)(x)
        logits: Tensor = self.classifier(self.tail(x).mean((2, 3, 4)))
        return logits


_ORIGIN = WeightsOrigin("github.com/cypw/PyTorch-MFNet (MF-Net (3D), Kinetics)")


def _view() -> Preprocessing:
    return Preprocessing(
        frames=16,
        size=[224, 224],
        geometry=Geometry.crop,
        resize=[256, 256],
        sampling=Sampling.windows,
        stride=2,
        mean=[124.0, 117.0, 104.0],
        std=[59.88023952095808, 59.88023952095808, 59.88023952095808],  # 1 / 0.0167
        max_value=255.0,
    )


@dataclass(frozen=True)
class MFNet:
    """MF-Net 3D (Chen et al., "Multi-Fiber Networks for Video Recognition", ECCV 2018, arXiv 1807.11195).

    Its features are the output of `tail`, after the last BatchNorm and ReLU: (N, 768, T/2, 7, 7) for frames of 224 ×
    224. Unlike the released code, which takes 16 × 224 × 224 only, it averages over whatever there is, so that any size
    runs.

    Names and shapes are those of the checkpoints of github.com/cypw/PyTorch-MFNet (Kinetics, UCF101, HMDB51), under
    `state_dict` and `module.`: `conv1.conv`, `conv1.bn`, `conv2.B01.conv_i1.bn`, `….conv` … `conv5.B03.conv_m2.conv`
    with `conv_w1` in each `B01`, `tail.bn`, `classifier`.

    Attributes:
        weights: A checkpoint file, of any number of classes; "random": untrained, to train from
            scratch or to measure speed.
        classes: Names of the outputs (`weights.class_names`). The released file's names are kinetics400
            (dataset/Kinetics/raw/list_cvt/mapping_table.txt).
            Their UCF101 is numbered as `ucf101` is.
        output: What the outputs are: logits of classes that exclude each other (softmax) or do not (sigmoid), or
            probabilities (prob), or their logarithms (logprob).
        input: Preprocessing: every other frame of the middle one of the windows of 31 frames (the validation of the
            released code; its test draws them), the last frame repeated where the clip is shorter (unlike the code,
            which repeats a random one); squashed to 256 × 256, the centre 224 × 224, minus (124, 117, 104), times
            0.0167. The released Saliency Tubes divide by ImageNet's deviation instead, which the network was not
            trained with.
    """

    version: ClassVar[int] = 2

    weights: str | None = keyed_by_content(None)
    classes: str | None = keyed_by_content("released:kinetics400")
    output: Output = Output.softmax
    input: Preprocessing = field(default_factory=_view)

    def weights_file(self) -> Path | None:
        """Returns the checkpoint file; None for random weights, and where none are named."""
        return _ORIGIN.file(self.weights)

    def load(self) -> VideoModel:
        """Returns the network, on the CPU; raises ConfigError if weights or class names are missing or do not fit."""
        module, classes = loaded(
            self.weights, _ORIGIN, MFNet3D, "classifier.weight", self.classes, untrained_classes=400
        )
        return VideoModel(
            module, self.input, classes, layer="tail", memory_format=torch.channels_last_3d, output=self.output
        )
