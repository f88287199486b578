"""What one planted clip shows, how it is drawn, and which of its voxels are the evidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vidattr.datasets.planting.backgrounds import Background
from vidattr.datasets.planting.sprites import PlantedSprite
from vidattr.types import Box, Mask, Pixels


@dataclass(frozen=True)
class PlantedScene:
    """The content of one clip, painted in the order background, others, evidence, grain.

    Attributes:
        background: Paints the background.
        others: Sprites that have nothing to do with the class.
        evidence: Sprites that decide the class; nothing is painted over them but a later one of them.
        behind: Whether the background decides the class instead; then `evidence` is empty.
        grain: Seed of the noise that differs from voxel to voxel.
        noise: Largest change by the noise, in grey levels.
    """

    background: Background
    others: tuple[PlantedSprite, ...]
    evidence: tuple[PlantedSprite, ...]
    grain: int
    noise: int
    behind: bool = False

    def draw(self, size: int, count: int) -> Pixels:
        """Returns the (count, size, size, 3) uint8 RGB frames."""
        canvas = np.empty((count, size, size, 3), np.float32)
        canvas[:] = self.background(size, count)
        for sprite in (*self.others, *self.evidence):
            sprite.paint(canvas)
        random = np.random.default_rng(self.grain)
        # Half a level is added, because the conversion to integers rounds down.
        canvas += random.integers(-self.noise, self.noise, canvas.shape[:3], np.int8, endpoint=True)[..., None] + 0.5
        return np.clip(canvas, 0, 255, out=canvas).astype(np.uint8)

    def voxels(self, size: int, count: int) -> Mask:
        """Returns which voxels (count, size, size) are evidence.

        A voxel counts if a sprite of the evidence covers at least half of it; where the background is the evidence, if
        no sprite covers any of it.
        """
        covered = np.zeros((count, size, size), np.bool_)
        for sprite in self.others if self.behind else self.evidence:
            sprite.cover(covered, least=1e-6 if self.behind else 0.5)
        return ~covered if self.behind else covered

    def boxes(self, size: int, count: int) -> dict[int, tuple[Box, ...]]:
        """Returns the boxes around the evidence of each frame that shows some; none where the background is it."""
        found: dict[int, tuple[Box, ...]] = {}
        for sprite in self.evidence:
            for number, boxes in sprite.boxes(size, count).items():
                found[number] = (*found.get(number, ()), *boxes)
        return dict(sorted(found.items()))

    def segment(self) -> tuple[int, int] | None:
        """Returns the first and the last frame (from 1) that show evidence; None where the background is it."""
        if not self.evidence:
            return None
        return min(one.shown[0] for one in self.evidence) + 1, max(one.shown[1] for one in self.evidence)
