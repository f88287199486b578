"""A small CNN-LSTM for planted clips, which keeps where things are; weights in the package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_max_pool2d

from vidattr.models.network.network import VideoModel
from vidattr.models.network.unfold import frames_in_batch
from vidattr.models.planted.network import PlantedNetwork, frame_cnn

_CHANNELS = 64  # of the features
_HIDDEN = 32
_PLACES = 6  # rows and columns of what the LSTM sees of the places of things
_PLACED = 4  # channels of it


class PlacedCNNLSTM(nn.Module):
    """Four convolutions of each frame, an LSTM over the frames, one linear layer: 93 thousand parameters.

    The LSTM sees the maximum of each channel over a frame (what is there) and a 6 × 6 grid of four channels (where it
    is): without the grid it could not tell a direction of motion. The linear layer reads the LSTM's step and the
    maxima beside it, which are learned faster. The answer is the mean of the logits of all steps, so an early frame
    acts through all later steps. The features are `cnn.3`'s, of one frame each, (N·T, 64, H/8, W/8).
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.cnn = frame_cnn()
        self.place = nn.Sequential(nn.Conv2d(_CHANNELS, _PLACED, 1), nn.Flatten())
        self.norm = nn.BatchNorm1d(_CHANNELS + _PLACED * _PLACES**2)
        self.lstm = nn.LSTM(_CHANNELS + _PLACED * _PLACES**2, _HIDDEN, batch_first=True)
        self.head = nn.Linear(_HIDDEN + _CHANNELS, classes)

    def forward(self, frames: Tensor) -> Tensor:
        """Maps (N, 3, T, H, W) to (N, K) logits."""
        clips, _, time = frames.shape[:3]
        features = self.cnn(frames.transpose(1, 2).flatten(0, 1))
        placed = self.place(adaptive_max_pool2d(features, _PLACES))
        seen = self.norm(torch.cat([features.amax((2, 3)), placed], 1)).view(clips, time, -1)
        steps, _ = self.lstm(seen)
        logits: Tensor = self.head(torch.cat([steps, seen[:, :, :_CHANNELS]], 2)).mean(1)
        return logits


@dataclass(frozen=True)
class PlantedCNNLSTM(PlantedNetwork):
    """A small CNN-LSTM (after Donahue et al., CVPR 2015, arXiv 1411.4389) for planted clips.

    Unlike the paper, the steps' logits are averaged, not their probabilities.

    Attributes:
        family: The family of planted clips whose weights `weights=package` stands for.
        weights: "package": trained by the recipe `planted`; "random": untrained; else a checkpoint file.
        classes: Names of the outputs (`weights.class_names`); None: the checkpoint's own.
        output: What the outputs are: logits of classes that exclude each other (softmax) or do not (sigmoid), or
            probabilities (prob), or their logarithms (logprob).
        input: Preprocessing.
    """

    version: ClassVar[int] = 1
    architecture: ClassVar[str] = "planted_cnn_lstm"

    def load(self) -> VideoModel:
        """Returns the network, on the CPU; raises ConfigError if weights or class names are missing or do not fit."""
        module, classes = self.filled(PlacedCNNLSTM)
        return VideoModel(
            module, self.input, classes, layer="cnn.3", unfold=frames_in_batch, max_batch=32, output=self.output
        )
