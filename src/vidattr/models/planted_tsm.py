"""A small TSM for planted clips: 2-D convolutions between which channels move along time; weights in the package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from vidattr.models.network.network import VideoModel
from vidattr.models.network.unfold import frames_in_batch
from vidattr.models.planted.network import PlantedNetwork, frame_cnn
from vidattr.models.tsm import shift

_SHIFT_DIV = 8


class SmallTSM(nn.Module):
    """Four convolutions of each frame, a shift before all but the first: 62 thousand parameters.

    After the second and the third convolution the maximum of each pair of frames is taken, so that later shifts reach
    twice as far: a cell of the last features sees 16 frames. The logits are a linear layer of the maximum over space,
    averaged over the frames. The features are `cnn.3`'s, (N·T/4, 64, H/8, W/8).
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.cnn = frame_cnn()
        self.norm = nn.BatchNorm1d(64)
        self.head = nn.Linear(64, classes)

    def forward(self, frames: Tensor) -> Tensor:
        """Maps (N, 3, T, H, W) to (N, K) logits; T a multiple of 4."""
        clips = len(frames)

        def shifted(x: Tensor) -> Tensor:
            return shift(x.view(clips, -1, *x.shape[1:]), x.shape[1] // _SHIFT_DIV).flatten(0, 1)

        x = frames.transpose(1, 2).flatten(0, 1)
        for place, layer in enumerate(self.cnn):
            x = layer(shifted(x) if place else x)
            if place in (1, 2):
                x = x.view(-1, 2, *x.shape[1:]).amax(1)
        logits: Tensor = self.head(self.norm(x.amax((2, 3)))).view(clips, -1, self.head.out_features).mean(1)
        return logits


@dataclass(frozen=True)
class PlantedTSM(PlantedNetwork):
    """A small network with temporal shifts (after Lin et al., ICCV 2019, arXiv 1811.08383) for planted clips.

    Unlike the paper, the convolutions are not residual, and pairs of frames are pooled twice.

    Attributes:
        family: The family of planted clips whose weights `weights=package` stands for.
        weights: "package": trained by the recipe `planted`; "random": untrained; else a checkpoint file.
        classes: Names of the outputs (`weights.class_names`); None: the checkpoint's own.
        output: What the outputs are: logits of classes that exclude each other (softmax) or do not (sigmoid), or
            probabilities (prob), or their logarithms (logprob).
        input: Preprocessing; the number of frames is a multiple of 4.
    """

    version: ClassVar[int] = 1
    architecture: ClassVar[str] = "planted_tsm"

    def load(self) -> VideoModel:
        """Returns the network, on the CPU; raises ConfigError if weights or class names are missing or do not fit."""
        module, classes = self.filled(SmallTSM)
        return VideoModel(
            module, self.input, classes, layer="cnn.3", unfold=frames_in_batch, max_batch=32, output=self.output
        )
