"""A small transformer with divided space-time attention for planted clips, with weights in the package."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from vidattr.models.network.network import VideoModel
from vidattr.models.planted.network import PlantedNetwork
from vidattr.models.planted.patches import SIDE, ConvolutionalPatches, grid_of
from vidattr.models.timesformer import TimeSformer, network_of

_WIDTH, _DEPTH, _HEADS = 32, 2, 4


class SmallTimeSformer(TimeSformer):
    """A TimeSformer of two blocks of 32 channels, whose patches are made by three convolutions; 52 k parameters."""

    def __init__(self, grid: tuple[int, int, int], classes: int) -> None:
        super().__init__(grid, classes, width=_WIDTH, depth=_DEPTH, heads=_HEADS, patch=SIDE)
        self.patch_embed = ConvolutionalPatches(_WIDTH, tube=1)  # type: ignore[assignment]


@dataclass(frozen=True)
class PlantedDivided(PlantedNetwork):
    """A small TimeSformer (after Bertasius et al., ICML 2021, arXiv 2102.05095) for planted clips.

    Unlike the paper, its patches are made by three convolutions, which learn from few clips.

    Attributes:
        family: The family of planted clips whose weights `weights=package` stands for.
        weights: "package": trained by the recipe `planted`; "random": untrained; else a checkpoint file.
        classes: Names of the outputs (`weights.class_names`); None: the checkpoint's own.
        output: What the outputs are: logits of classes that exclude each other (softmax) or do not (sigmoid), or
            probabilities (prob), or their logarithms (logprob).
        input: Preprocessing; height and width are multiples of 8, and weights fit one size.
    """

    version: ClassVar[int] = 1
    architecture: ClassVar[str] = "planted_divided"

    def load(self) -> VideoModel:
        """Returns the network, on the CPU; raises ConfigError if weights or class names are missing or do not fit."""
        module, classes = self.filled(partial(SmallTimeSformer, grid_of(self.input, 1)))
        return network_of(module, self.input, classes, self.output)
