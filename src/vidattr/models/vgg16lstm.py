"""CNN-LSTMs of the attribution papers: VGG16 or ResNet-50 on each frame, an LSTM over time, scores at every step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum, auto
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, relu
from torchvision.models import resnet50

from vidattr.config.fields import keyed_by_content
from vidattr.errors import ConfigError
from vidattr.models.network.lstm import Activation, unrolled_lstm
from vidattr.models.network.network import VideoModel
from vidattr.models.network.output import Output
from vidattr.models.network.unfold import frames_in_batch
from vidattr.models.weights.loading import WeightsOrigin, loaded
from vidattr.video.preprocessing import Channels, Geometry, Preprocessing, Sampling

_HIDDEN = 256
_DROPOUT = 0.5  # after both linear layers and the LSTM, while training
_REDUCTION = 32  # of a frame's sides, to the last features
_UCF101 = 101
_ORIGIN = WeightsOrigin(
    "VGG16_LSTM of github.com/sbargal/Caffe-ExcitationBP-RNNs, converted, or the networks of "
    "github.com/shinkyo0513/Spatio-Temporal-Perturbations-for-Video-Attribution"
)


class Backbone(StrEnum):
    """The CNN that runs on each frame."""

    vgg16 = auto()
    resnet50 = auto()


class BPTT(StrEnum):
    """Whether gradients flow through time: through all steps, or not at all, with h and c detached between steps."""

    full = auto()
    truncated = auto()


class Average(StrEnum):
    """What is averaged over the steps: class probabilities, or scores before the softmax."""

    prob = auto()
    logit = auto()


class LSTMCell(nn.Module):
    """An LSTM with its gates in the order i, f, o, g, and one bias."""

    def __init__(self, inputs: int, activation: Activation, bptt: BPTT) -> None:
        super().__init__()
        self.fc_x = nn.Linear(inputs, 4 * _HIDDEN)
        self.fc_h = nn.Linear(_HIDDEN, 4 * _HIDDEN, bias=False)
        self.activation, self.truncated = activation, bptt is BPTT.truncated

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, T, D) to (N, T, H)."""
        weight, bias = self.fc_x.weight, self.fc_x.bias
        return unrolled_lstm(x, weight, bias, self.fc_h.weight, activation=self.activation, truncated=self.truncated)


class RecurrentHead(nn.Module):
    """Two linear layers, the LSTM, and the classes' layer, at every step."""

    def __init__(
        self, inputs: int, widths: tuple[int, int], classes: int, activation: Activation, bptt: BPTT, average: Average
    ) -> None:
        super().__init__()
        self.fc6, self.fc7 = nn.Linear(inputs, widths[0]), nn.Linear(widths[0], widths[1])
        self.lstm1 = LSTMCell(widths[1], activation, bptt)
        self.fc8_final = nn.Linear(_HIDDEN, classes)
        self.average = average

    def scored(self, features: Tensor, clips: int) -> Tensor:
        """Maps (N·T, …) features to (N, K) logits."""
        x = self._dropped(relu(self.fc7(self._dropped(relu(self.fc6(features.flatten(1)))))))
        scores: Tensor = self.fc8_final(self._dropped(self.lstm1(x.view(clips, -1, x.shape[1]))))
        if self.average is Average.logit:
            return scores.mean(1)
        return torch.log_softmax(scores, 2).logsumexp(1) - math.log(scores.shape[1])

    def _dropped(self, x: Tensor) -> Tensor:
        return dropout(x, _DROPOUT) if self.training else x


class VGG16LSTM(RecurrentHead):
    """The thirteen convolutions of VGG16, `conv1_1` … `conv5_3`, and five pools; 138.7 M parameters for 101 classes.

    Args:
        classes: K.
        grid: (h, w) after the last pool, `pool5`.
        activation: Of the LSTM.
        bptt: Whether gradients move in time.
        average: What is averaged over the steps.
    """

    def __init__(
        self, classes: int, grid: tuple[int, int], activation: Activation, bptt: BPTT, average: Average
    ) -> None:
        super().__init__(512 * grid[0] * grid[1], (4096, 4096), classes, activation, bptt, average)
        inputs = 3
        for stage, (count, outputs) in enumerate(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)), start=1):
            for k in range(1, count + 1):
                self.add_module(f"conv{stage}_{k}", nn.Conv2d(inputs, outputs, 3, padding=1))
                inputs = outputs
            self.add_module(f"pool{stage}", nn.MaxPool2d(2))

    def forward(self, frames: Tensor) -> Tensor:
        """Maps (N, 3, T, H, W) to (N, K) logits, log of the mean probability unless `average` is logit."""
        x = frames.transpose(1, 2).flatten(0, 1)  # all frames of all clips in one pass
        for name, part in self.named_children():
            if name.startswith("conv"):
                x = relu(part(x))
            elif name.startswith("pool"):
                x = part(x)
        return self.scored(x, len(frames))


class ResNet50LSTM(RecurrentHead):
    """torchvision's ResNet-50 up to its global average, as `resnet.0` … `resnet.8`; `resnet.7` is its last stage.

    Args:
        classes: K.
        activation: Of the LSTM.
        bptt: Whether gradients move in time.
        average: What is averaged over the steps.
    """

    def __init__(self, classes: int, activation: Activation, bptt: BPTT, average: Average) -> None:
        super().__init__(2048, (1024, 512), classes, activation, bptt, average)
        self.resnet = nn.Sequential(*list(resnet50().children())[:-1])

    def forward(self, frames: Tensor) -> Tensor:
        """Maps (N, 3, T, H, W) to (N, K) logits, log of the mean probability unless `average` is logit."""
        return self.scored(self.resnet(frames.transpose(1, 2).flatten(0, 1)), len(frames))


def _view() -> Preprocessing:
    return Preprocessing(
        frames=16,
        size=[224, 224],
        geometry=Geometry.crop,
        resize=[240, 320],
        sampling=Sampling.released_last,
        mean=[103.939, 116.779, 128.68],
        max_value=255.0,
        channels=Channels.bgr,
    )


_LAYER = {Backbone.vgg16: "pool5", Backbone.resnet50: "resnet.7"}


@dataclass(frozen=True)
class RecurrentCNN:
    """A CNN-LSTM (after Donahue et al., CVPR 2015) of Bargal et al. (CVPR 2018) and Li et al. (WACV, TCSVT 2021).

    Each frame goes through the CNN and two linear layers (`fc6`, `fc7`), and the frames through an LSTM with 256 units;
    every step scores the classes, and the clip's answer is the mean of the steps. Its features are the output of
    `pool5`, (N·T, 512, 7, 7), or of `resnet.7`, (N·T, 2048, 7, 7); Li et al. take `resnet.6` for their maps.

    Names and shapes of the checkpoints, both from Li et al., plain or under `module.`:
    VGG16, their conversion of Bargal et al.'s Caffe network: `conv1_1.weight`, `conv1_1.bias` … `conv5_3.bias`, `fc6`
    (4096, 25088), `fc7` (4096, 4096), `lstm1.fc_x.weight` (1024, 4096) with bias, `lstm1.fc_h.weight` (1024, 256),
    `fc8_final` (K, 256). ResNet-50: `resnet.0.weight`, `resnet.1.*`, `resnet.4.0.conv1.weight` … `resnet.7.2.bn3.*`,
    `fc6` (1024, 2048), `fc7` (512, 1024), `lstm1.fc_x` (1024, 512), `lstm1.fc_h`, `fc8_final`. Theirs has variants with
    `layer3` features or one linear layer; those are refused.

    Conventions differ. Bargal et al.'s network takes BGR with the means 103.939, 116.779, 128.68 (their own; VGG's
    third is 123.68), the default here. Li et al. trained further on RGB, without swapping the channels of the weights,
    and with the same means in RGB's order: their fine-tuned networks need that. They also detach h and c at each step
    in the forward pass, so that frame t gets no gradient from later steps (`bptt=truncated`); logits are the same.

    Attributes:
        backbone: vgg16 or resnet50.
        activation: relu, as both networks have it, or tanh, as an LSTM usually has.
        bptt: Whether gradients move in time.
        average: prob (VGG16) or logit (ResNet-50); with prob the logits are the logarithm of the mean probability.
        weights: A checkpoint file, of any number of classes; "random": untrained, to train from
            scratch or to measure speed.
        classes: Names of the outputs (`weights.class_names`).
            Bargal et al.'s are numbered as `ucf101` is (models/VGG16_LSTM/catName.txt); how Li et al. number theirs is
            not known.
        output: What the outputs are: logits of classes that exclude each other (softmax) or do not (sigmoid), or
            probabilities (prob), or their logarithms (logprob).
        input: Preprocessing: 16 frames, resized to 240 × 320 (as frames of UCF101 are), the centre 224 × 224, values in
            0..255. The YAML files of Li et al.'s two networks resize by Pillow; whether accimage, which they used where
            it was there, filters in the same way is not verified. VGG16's linear layers are made for the size: a
            trained network takes no other.

    Raises:
        ConfigError: A VGG16 whose size is no multiple of 32.
    """

    version: ClassVar[int] = 1

    backbone: Backbone = Backbone.vgg16
    activation: Activation = Activation.relu
    bptt: BPTT = BPTT.full
    average: Average = Average.prob
    weights: str | None = keyed_by_content(None)
    classes: str | None = keyed_by_content("released:ucf101")
    output: Output = Output.softmax
    input: Preprocessing = field(default_factory=_view)

    def __post_init__(self) -> None:
        if self.backbone is Backbone.vgg16 and any(side % _REDUCTION for side in self.input.size):
            raise ConfigError(
                f"model.input.size={list(self.input.size)}", expected=f"multiples of {_REDUCTION} for VGG16"
            )

    def weights_file(self) -> Path | None:
        """Returns the checkpoint file; None for random weights, and where none are named."""
        return _ORIGIN.file(self.weights)

    def load(self) -> VideoModel:
        """Returns the network, on the CPU; raises ConfigError if weights or class names are missing or do not fit."""
        module, classes = loaded(
            self.weights, _ORIGIN, self.build(), "fc8_final.weight", self.classes, untrained_classes=_UCF101
        )
        return VideoModel(
            module,
            self.input,
            classes,
            layer=_LAYER[self.backbone],
            unfold=frames_in_batch,
            max_batch=4,
            output=self.output,
        )

    def build(self) -> Callable[[int], VGG16LSTM | ResNet50LSTM]:
        """Returns what makes the network, untrained, for a number of classes."""
        if self.backbone is Backbone.resnet50:
            return partial(ResNet50LSTM, activation=self.activation, bptt=self.bptt, average=self.average)
        rows, columns = (side // _REDUCTION for side in self.input.size)
        return partial(
            VGG16LSTM, grid=(rows, columns), activation=self.activation, bptt=self.bptt, average=self.average
        )
