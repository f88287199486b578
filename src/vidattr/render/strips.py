"""Maps of one frame of a clip under several states of the network, stored by a metric beside its scores, and drawn."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from vidattr.errors import ClipError
from vidattr.render import encoding as encode
from vidattr.render.options import Render, Scene
from vidattr.render.sheets import strip as layout
from vidattr.writing import write_bytes


@dataclass(frozen=True)
class StoredStrip:
    """The strip of one clip and method, on the CPU.

    Attributes:
        maps: (S, H, W) float32, raw.
        values: (S,) float64, the number below each map.
        pixels: (H, W, 3) uint8 RGB, the frame.
        name: Name of the number.
        number: Number of the frame in the source, from 1.
        points: Names of the S states of the network.
    """

    maps: Tensor
    values: Tensor
    pixels: Tensor
    name: str
    number: int
    points: tuple[str, ...]

    def save(self, path: Path) -> None:
        """Writes the strip, whole."""
        tensors = {name: getattr(self, name).contiguous() for name in ("maps", "values", "pixels")}
        facts = {"name": self.name, "number": self.number, "points": self.points}
        write_bytes(path, save(tensors, {"vidattr": json.dumps(facts)}))

    @classmethod
    def load(cls, path: Path) -> StoredStrip:
        """Reads a strip; raises ClipError where the file is damaged."""
        try:
            with safe_open(path, "pt") as file:
                facts = json.loads(file.metadata()["vidattr"])
                maps, values, pixels = (file.get_tensor(name) for name in ("maps", "values", "pixels"))
            return cls(maps, values, pixels, facts["name"], facts["number"], tuple(facts["points"]))
        except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
            raise ClipError(
                f"{path} is damaged: {error}", remedy="delete the scores beside it and evaluate again"
            ) from error


def png(scene: Scene, strips: Mapping[str, StoredStrip], render: Render) -> bytes:
    """Returns the picture of the strips of one clip, a row per method, as a PNG.

    Args:
        scene: The clip, with the frame of the strips only.
        strips: Method to its strip; all show the same frame and the same states.
        render: How to draw.
    """
    maps = {name: strip.maps.numpy() for name, strip in strips.items()}
    words = {
        name: [f"{strip.name} –" if math.isnan(x) else f"{strip.name} {x:.2f}" for x in strip.values.tolist()]
        for name, strip in strips.items()
    }
    points = next(iter(strips.values())).points
    return encode.png(layout(scene, maps, words, points, render))
