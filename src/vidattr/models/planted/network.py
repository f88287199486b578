"""The fields and the loading of a small network for planted clips; each architecture is a file `planted_*.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import ClassVar

from torch import nn

from vidattr.config.fields import keyed_by_content
from vidattr.datasets.planted import Family, Planted
from vidattr.errors import ConfigError
from vidattr.models.network.output import Output
from vidattr.models.weights.loading import M, WeightsOrigin, loaded
from vidattr.video.preprocessing import Preprocessing

LEARNED = 0.95
"""The accuracy on easy clips that a network in the package has; `planted.csv` beside the weights also lists others."""


def planted_view() -> Preprocessing:
    """Returns the preprocessing of all networks of the planted clips: every frame and pixel as it was drawn."""
    return Preprocessing(frames=16, size=[48, 48], mean=[0.4, 0.4, 0.4], std=[0.25, 0.25, 0.25])


@dataclass(frozen=True)
class PlantedNetwork:
    """A network of one architecture, trained on the clips of one family (`datasets/planted.py`).

    Attributes:
        family: The family of planted clips whose weights `weights=package` stands for.
        weights: "package": trained by the recipe `planted`; "random": untrained; else a checkpoint file.
        classes: Names of the outputs (`weights.class_names`); None: the checkpoint's own.
        output: What the outputs are: logits of classes that exclude each other (softmax) or do not (sigmoid), or
            probabilities (prob), or their logarithms (logprob).
        input: Preprocessing.
        architecture: Begins the name of the files of weights in the package.
    """

    architecture: ClassVar[str]

    family: Family = Family.object
    weights: str = keyed_by_content("package")
    classes: str | None = keyed_by_content(None)
    output: Output = Output.softmax
    input: Preprocessing = field(default_factory=planted_view)

    @property
    def _origin(self) -> WeightsOrigin:
        return WeightsOrigin(package=f"{self.architecture}-{self.family.value}")

    def weights_file(self) -> Path | None:
        """Returns the checkpoint file, or None for random weights."""
        return self._origin.file(self.weights)

    def filled(self, build: Callable[[int], M]) -> tuple[M, tuple[str, ...]]:
        """Builds the module for the classes of its weights and fills it.

        Returns:
            The module, and the names of its outputs.

        Raises:
            ConfigError: Weights or class names are missing or do not fit.
        """
        path = self.weights_file()
        if self.weights == "package" and path is not None and not path.is_file():
            raise ConfigError(
                f"no weights of {self.architecture} for family={self.family.value} come with the package",
                expected=f"one that it has learned to {LEARNED:.0%}: {', '.join(learned(self.architecture)) or 'none'}",
                remedy="model.weights=FILE or random takes others",
            )
        return loaded(
            self.weights,
            self._origin,
            build,
            "head.weight",
            self.classes,
            untrained_classes=Planted(family=self.family).class_names(),
        )


def learned(architecture: str) -> list[str]:
    """Returns the families for which the package has weights of an architecture."""
    folder = Path(str(files("vidattr.models.weights.data")))
    return sorted(path.stem.removeprefix(f"{architecture}-") for path in folder.glob(f"{architecture}-*.safetensors"))


def frame_cnn() -> nn.Sequential:
    """Returns four convolutions of single frames, those of `tiny_cnn_lstm`: (F, 3, H, W) to (F, 64, H/8, W/8)."""
    widths, sides, strides = (3, 16, 32, 64, 64), (5, 3, 3, 3), (2, 2, 2, 1)
    return nn.Sequential(
        *(
            convolution(2, inputs, outputs, (side, side), (stride, stride))
            for inputs, outputs, side, stride in zip(widths, widths[1:], sides, strides, strict=False)
        )
    )


def convolution(
    dimensions: int, inputs: int, outputs: int, kernel: tuple[int, ...], stride: tuple[int, ...]
) -> nn.Sequential:
    """Returns a convolution of 2 or 3 dimensions that keeps the size up to the stride, BatchNorm and ReLU."""
    padding = tuple(side // 2 for side in kernel)
    if dimensions == 2:
        layer: nn.Module = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)  # type: ignore[arg-type]
        return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())
    layer = nn.Conv3d(inputs, outputs, kernel, stride, padding, bias=False)  # type: ignore[arg-type]
    return nn.Sequential(layer, nn.BatchNorm3d(outputs), nn.ReLU())
