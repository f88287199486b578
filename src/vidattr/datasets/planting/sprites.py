"""Small pictures that move over a clip in whole pixels, so that the voxels that they cover are known exactly.

Lengths are in frame sides and times in clip lengths, so that a scene is the same at any size and number of frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vidattr.datasets.shared.scenes import DISTRACTORS, RIM, RIM_SHADE, SHAPES
from vidattr.types import Box, Mask

Floats = NDArray[np.float32]
# A look returns, for a radius in pixels, the colours (P, P, 3) from 0 to 255 and the share (P, P) of each pixel that is
# covered, P = `window(radius)`.
Look = Callable[[float], tuple[Floats, Floats]]
OUTLINES = {**SHAPES, **DISTRACTORS}


def window(radius: float) -> int:
    """Returns the side in pixels, an odd number, of the smallest window that holds a sprite of this radius."""
    return 2 * int(np.ceil(radius)) + 1


def offsets(radius: float) -> Floats:
    """Returns the distance (P,) of the pixels of a window from its centre, in radii."""
    side = window(radius)
    return np.asarray((np.arange(side) - side // 2) / radius, np.float32)


@dataclass(frozen=True)
class Shape:
    """A shape of one colour with a dark outline.

    Attributes:
        outline: Name, one of `OUTLINES`.
        colour: RGB from 0 to 255.
        angle: Its rotation, in radians.
    """

    outline: str
    colour: tuple[float, float, float]
    angle: float

    def __call__(self, radius: float) -> tuple[Floats, Floats]:
        """Draws it, as a `Look`."""
        across = offsets(radius)
        x, y = across[None, :], across[:, None]
        cos, sin = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        distance = OUTLINES[self.outline](cos * x + sin * y, cos * y - sin * x) * radius
        cover = np.clip(0.5 - distance, 0, 1).astype(np.float32)
        fill = np.clip(0.5 - distance - RIM * radius, 0, 1)
        picture = (RIM_SHADE + (1 - RIM_SHADE) * fill)[..., None] * np.asarray(self.colour)
        return picture.astype(np.float32), cover


@dataclass(frozen=True)
class Course:
    """Where a sprite is at each time.

    Attributes:
        start: (x, y) at time 0: of the room that it has, from 0 to 1.
        velocity: (x, y) in frame sides per clip.
        wraps: Whether it leaves the frame at one edge and comes back at the opposite one; otherwise it bounces off.
    """

    start: tuple[float, float]
    velocity: tuple[float, float]
    wraps: bool = False

    def centre(self, time: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
        """Returns the centre (F, 2) in frame sides at times (F,) of a sprite of a radius in frame sides."""
        start, velocity = np.asarray(self.start), np.asarray(self.velocity)
        if self.wraps:
            return np.asarray((start + velocity * time[:, None]) % 1)
        room = 1 - 2 * radius
        # A bounce between two walls is uniform motion through a triangle wave.
        return np.asarray(radius + abs((start * room + velocity * time[:, None] + room) % (2 * room) - room))


@dataclass(frozen=True)
class PlantedSprite:
    """One moving picture of a clip.

    Attributes:
        look: What it looks like.
        radius: Of the circle around it, in frame sides.
        course: Where it is.
        shown: The first frame that shows it, and the first after it that does not, from 0.
    """

    look: Look
    radius: float
    course: Course
    shown: tuple[int, int]

    def places(self, size: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Returns the frames (F, 1, 1), rows (F, P, 1) and columns (F, 1, P) of its window in (count, size, size)."""
        frames = np.arange(*self.shown)
        # A pixel of room, because the centre is rounded to a pixel and the window's edge pixel is half covered.
        centre = self.course.centre((frames + 0.5) / count, self.radius + 1.5 / size)
        middle = np.floor(centre * size).astype(np.int64)
        side = window(self.radius * size)
        reach = np.arange(side) - side // 2
        x, y = middle[:, :1] + reach, middle[:, 1:] + reach
        return frames[:, None, None], y[:, :, None] % size, x[:, None, :] % size

    def paint(self, canvas: Floats) -> None:
        """Paints it over the frames of a (T, S, S, 3) canvas, in place."""
        picture, cover = self.look(self.radius * canvas.shape[1])
        places = self.places(canvas.shape[1], canvas.shape[0])
        under = canvas[places]
        under += cover[..., None] * (picture - under)
        canvas[places] = under

    def cover(self, into: Mask, least: float) -> None:
        """Sets the voxels (T, S, S) of which it covers `least` or more, in place."""
        covered = self.look(self.radius * into.shape[1])[1] >= least
        frames, rows, columns = np.broadcast_arrays(*self.places(into.shape[1], into.shape[0]))
        on = np.broadcast_to(covered, frames.shape)
        into[frames[on], rows[on], columns[on]] = True

    def boxes(self, size: int, count: int) -> dict[int, tuple[Box, ...]]:
        """Returns the number (1-based) of each frame that shows it to the boxes around all pixels that it touches.

        One box a frame; two or four where it lies across the edge of the frame.
        """
        touched = self.look(self.radius * size)[1] > 0
        _, rows, columns = self.places(size, count)
        found = {}
        for frame, y, x in zip(range(*self.shown), rows[:, :, 0], columns[:, 0], strict=True):
            pieces = [_box(touched[down, across], y[down], x[across]) for down in _runs(y) for across in _runs(x)]
            found[frame + 1] = tuple(box for box in pieces if box is not None)
        return found


def _runs(places: NDArray[np.int64]) -> list[slice]:
    """Returns the runs of consecutive places: two where a window lies across the edge of the frame, otherwise one."""
    ends = [0, *(np.flatnonzero(np.diff(places) != 1) + 1).tolist(), len(places)]
    return [slice(*pair) for pair in pairwise(ends)]


def _box(touched: Mask, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Box | None:
    """Returns the smallest box around the touched pixels of a piece of a window; None where there is none."""
    y, x = rows[touched.any(1)], columns[touched.any(0)]
    return (float(x[0]), float(y[0]), float(x[-1] + 1), float(y[-1] + 1)) if len(y) else None
