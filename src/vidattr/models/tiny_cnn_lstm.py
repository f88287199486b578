"""A small CNN-LSTM for 64 × 64 clips, whose weights come with the package."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from vidattr.config.fields import keyed_by_content
from vidattr.datasets.synthetic import CLASSES
from vidattr.models.network.network import VideoModel
from vidattr.models.network.output import Output
from vidattr.models.network.unfold import frames_in_batch
from vidattr.models.weights.loading import WeightsOrigin, loaded
from vidattr.video.preprocessing import Preprocessing

_WIDTHS = (16, 32, 64, 64)
_SIDES = (5, 3, 3, 3)
_STRIDES = (2, 2, 2, 1)
_HIDDEN = 32


class CNNLSTM(nn.Module):
    """Four convolutions, the maximum over each frame, an LSTM over the frames, a softmax at each step; 74 k parameters.

    It takes the maximum, because an object that covers few cells hardly changes an average, which slows learning.

    The features are the last convolution's, of one frame each: (N·T, 64, H/8, W/8). Time is mixed by the LSTM alone,
    and forwards only, with no detached state: step s depends on the frames up to s, and so does the gradient, in full.
    The answer is the mean probability of all steps, so an early frame has an influence through all later steps.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for outputs, side, stride in zip(_WIDTHS, _SIDES, _STRIDES, strict=True):
            convolution = nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False)
            layers.append(nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU()))
            inputs = outputs
        self.cnn = nn.Sequential(*layers)
        self.norm = nn.BatchNorm1d(inputs)
        self.lstm = nn.LSTM(inputs, _HIDDEN, batch_first=True)
        self.head = nn.Linear(_HIDDEN, classes)

    def forward(self, frames: Tensor) -> Tensor:
        """Maps (N, 3, T, H, W) to (N, K) logarithms of the mean over time of the class probabilities."""
        clips, _, time = frames.shape[:3]
        features = self.cnn(frames.transpose(1, 2).flatten(0, 1))  # all frames of all clips in one pass
        steps, _ = self.lstm(self.norm(features.amax((2, 3))).view(clips, time, -1))
        scores: Tensor = self.head(steps)
        return torch.log_softmax(scores, 2).logsumexp(1) - math.log(time)


_ORIGIN = WeightsOrigin(package="tiny_cnn_lstm")


def _view() -> Preprocessing:
    return Preprocessing(frames=16, size=[64, 64], mean=[0.4, 0.4, 0.4], std=[0.25, 0.25, 0.25])


@dataclass(frozen=True)
class TinyCNNLSTM:
    """A small CNN-LSTM (after Donahue et al., CVPR 2015, arXiv 1411.4389) for the synthetic clips.

    As in the paper, each step makes its own prediction and the clip's is their mean.

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
        module, classes = loaded(self.weights, _ORIGIN, CNNLSTM, "head.weight", self.classes, untrained_classes=CLASSES)
        return VideoModel(
            module, self.input, classes, layer="cnn.3", unfold=frames_in_batch, max_batch=32, output=self.output
        )
