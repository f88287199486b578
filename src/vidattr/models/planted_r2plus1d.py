"""A small (2+1)D residual network for planted clips, with weights in the package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vidattr.models.network.network import VideoModel
from vidattr.models.planted.network import PlantedNetwork
from vidattr.models.tiny_r2plus1d import R2Plus1D


@dataclass(frozen=True)
class PlantedR2Plus1D(PlantedNetwork):
    """The network of `tiny_r2plus1d` (after Tran et al., CVPR 2018, arXiv 1711.11248) for planted clips.

    Attributes:
        family: The family of planted clips whose weights `weights=package` stands for.
        weights: "package": trained by the recipe `planted`; "random": untrained; else a checkpoint file.
        classes: Names of the outputs (`weights.class_names`); None: the checkpoint's own.
        output: What the outputs are: logits of classes that exclude each other (softmax) or do not (sigmoid), or
            probabilities (prob), or their logarithms (logprob).
        input: Preprocessing.
    """

    version: ClassVar[int] = 1
    architecture: ClassVar[str] = "planted_r2plus1d"

    def load(self) -> VideoModel:
        """Returns the network, on the CPU; raises ConfigError if weights or class names are missing or do not fit."""
        module, classes = self.filled(R2Plus1D)
        return VideoModel(module, self.input, classes, layer="block2", max_batch=32, output=self.output)
