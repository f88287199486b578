"""A CNN-LSTM (long-term recurrent convolutional network), made in Keras and trained on five classes of UCF50."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from vidattr.config.fields import keyed_by_content
from vidattr.errors import ConfigError
from vidattr.models.network.network import VideoModel
from vidattr.models.network.output import Output
from vidattr.models.network.unfold import frames_in_batch
from vidattr.models.weights.loading import WeightsOrigin, loaded
from vidattr.video.preprocessing import Channels, Geometry, Preprocessing, Sampling

_SIDE = 128
# Keras's automatic layer names, in the order of the layers.
_KERAS_CONVOLUTIONS = ("time_distributed_3", "time_distributed_6", "time_distributed_9", "time_distributed_12")


class LRCN(nn.Module):
    """Per frame four times 3×3 convolution, ReLU, max-pool; over the frames an LSTM; its last output is classified."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.conv4 = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(pool))
            for inputs, outputs, pool in ((3, 16, 4), (16, 32, 4), (32, 64, 2), (64, 64, 2))
        )
        self.lstm = nn.LSTM(256, 32, batch_first=True)
        self.dense = nn.Linear(32, classes)

    def forward(self, frames: Tensor) -> Tensor:
        """Maps (N, 3, T, 128, 128) to (N, K) logits."""
        x = frames.transpose(1, 2).flatten(0, 1)  # (N·T, 3, 128, 128): all frames of all clips in one pass
        x = self.conv4(self.conv3(self.conv2(self.conv1(x))))
        x = x.permute(0, 2, 3, 1).flatten(1)  # Keras flattens in the order H, W, C
        outputs, _ = self.lstm(x.view(frames.shape[0], frames.shape[2], -1))
        logits: Tensor = self.dense(outputs[:, -1])
        return logits


_ORIGIN = WeightsOrigin()
_CLASSES = 5


def _view() -> Preprocessing:
    return Preprocessing(
        frames=20, size=[_SIDE, _SIDE], geometry=Geometry.squash, sampling=Sampling.floor, channels=Channels.bgr
    )


@dataclass(frozen=True)
class UCF50LRCN:
    """The CNN-LSTM (after Donahue et al., CVPR 2015, arXiv 1411.4389) for Biking, Diving, GolfSwing, Punch and Rowing.

    Its features are the last convolution's output after the ReLU and before the pool, `conv4.1`, (N, 64, T, 4, 4): the
    2 × 2 cells after the pool hardly tell places apart. Frames are folded into the batch, and `VideoModel.volume`
    takes them out again.

    Attributes:
        weights: The .npz file with Keras's arrays by Keras's names, or a file of a further training; "random":
            untrained, to train from scratch or to measure speed.
        classes: Names of the outputs (`weights.class_names`). The released file's names are ucf50_five.
        output: What the outputs are: logits of classes that exclude each other (softmax) or do not (sigmoid), or
            probabilities (prob), or their logarithms (logprob).
        input: Preprocessing: frames i·⌊n/20⌋, BGR, squashed to 128 × 128, values in 0..1.
    """

    version: ClassVar[int] = 1

    weights: str | None = keyed_by_content(None)
    classes: str | None = keyed_by_content("released:ucf50_five")
    output: Output = Output.softmax
    input: Preprocessing = field(default_factory=_view)

    def __post_init__(self) -> None:
        if list(self.input.size) != [_SIDE, _SIDE]:
            raise ConfigError(
                f"model.input.size={list(self.input.size)}", expected=f"[{_SIDE}, {_SIDE}]: its LSTM takes no other"
            )

    def weights_file(self) -> Path | None:
        """Returns the checkpoint file; None for random weights, and where none are named."""
        return _ORIGIN.file(self.weights)

    def load(self) -> VideoModel:
        """Returns the network, on the CPU; raises ConfigError if weights or class names are missing or do not fit."""
        module, classes = loaded(
            self.weights, _ORIGIN, LRCN, "dense.weight", self.classes, untrained_classes=_CLASSES, rename=from_keras
        )
        return VideoModel(module, self.input, classes, layer="conv4.1", unfold=frames_in_batch, output=self.output)


def from_keras(arrays: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Returns Keras's arrays with PyTorch's names and layouts; arrays with unknown names are returned unchanged.

    Keras keeps convolutions as (h, w, in, out) and matrices as (in, out). Its LSTM gates stand in PyTorch's order
    (i, f, g, o), with one bias where PyTorch adds two: the second is zero.
    """
    state = dict(arrays)
    found: dict[str, Tensor] = {}
    layers = {name: f"conv{k}.0" for k, name in enumerate(_KERAS_CONVOLUTIONS, start=1)} | {"dense_1": "dense"}
    names = {f"{keras}.kernel": f"{own}.weight" for keras, own in layers.items()}
    names |= {f"{keras}.bias": f"{own}.bias" for keras, own in layers.items()}
    names |= {"lstm.lstm_cell.kernel": "lstm.weight_ih_l0", "lstm.lstm_cell.recurrent_kernel": "lstm.weight_hh_l0"}
    names |= {"lstm.lstm_cell.bias": "lstm.bias_ih_l0"}
    for keras, own in names.items():
        if keras in state:
            tensor = state.pop(keras)
            found[own] = tensor if tensor.ndim == 1 else tensor.movedim((-1, -2), (0, 1))
    if "lstm.bias_ih_l0" in found:
        found["lstm.bias_hh_l0"] = torch.zeros_like(found["lstm.bias_ih_l0"])
    return found | state
