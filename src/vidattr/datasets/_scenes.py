"""Draws the synthetic clips: shapes that move over a background, with exact boxes, from one random generator a clip.

Lengths are in frame sides and times in clip lengths, so a scene drawn larger or with more frames is the same scene.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from vidattr.types import Box, Pixels

Array = NDArray[np.float32]

RIM = 0.16  # width of the dark outline, in radii of the shape
RIM_SHADE = 0.45  # brightness of the outline, relative to the fill
GRAIN = 5  # largest change of a pixel from frame to frame, in grey levels


def _disc(x: Array, y: Array) -> Array:
    return np.hypot(x, y) - np.float32(0.88)


def _square(x: Array, y: Array) -> Array:
    return np.maximum(abs(x), abs(y)) - np.float32(0.7)


def _triangle(x: Array, y: Array) -> Array:
    # An equilateral triangle is where three half-planes, 120 degrees apart, meet.
    slope = np.float32(np.sqrt(0.75))
    return np.maximum(y, np.maximum(slope * x, -slope * x) - y / 2) - np.float32(0.5)


def _cross(x: Array, y: Array) -> Array:
    x, y = abs(x), abs(y)
    return np.minimum(np.maximum(x - np.float32(0.92), y), np.maximum(x, y - np.float32(0.92))) - np.float32(0.32)


def _ring(x: Array, y: Array) -> Array:
    return abs(np.hypot(x, y) - np.float32(0.72)) - np.float32(0.24)


def _bar(x: Array, y: Array) -> Array:
    return np.maximum(abs(x) - np.float32(0.95), abs(y) - np.float32(0.27))


def _crescent(x: Array, y: Array) -> Array:
    return np.maximum(np.hypot(x, y) - np.float32(0.95), np.float32(0.8) - np.hypot(x - np.float32(0.5), y))


# Each maps points, in radii from the shape's centre, to about their distance from its outline: negative inside.
Distance = Callable[[Array, Array], Array]
SHAPES: dict[str, Distance] = {"disc": _disc, "square": _square, "triangle": _triangle, "cross": _cross}
DISTRACTORS: dict[str, Distance] = {"ring": _ring, "bar": _bar, "crescent": _crescent}


def _waves(points: Array) -> Array:
    return np.sin(np.float32(2 * np.pi) * points)


def _dots(x: Array, y: Array) -> Array:
    # Discs of a third of the period around the points of a square lattice.
    return np.float32(0.33) - np.hypot((x % 1) - np.float32(0.5), (y % 1) - np.float32(0.5))


# Each maps points, in periods of the texture, to a number that is positive on one of its two colours.
TEXTURES: dict[str, Distance] = {
    "horizontal_stripes": lambda x, y: _waves(y) + 0 * x,
    "vertical_stripes": lambda x, y: _waves(x) + 0 * y,
    "checks": lambda x, y: _waves(x) * _waves(y),
    "dots": lambda x, y: 3 * _dots(x, y),
}


@dataclass(frozen=True)
class Sprite:
    """One shape on its way through a clip.

    Attributes:
        distance: Its outline, one of `SHAPES` or `DISTRACTORS`.
        colour: RGB from 0 to 255.
        radius: Of the circle around it, in frame sides.
        start: (x, y) of its centre at time 0, in frame sides from the top left corner.
        velocity: (x, y) in frame sides per clip; it bounces off the frame's edges and never leaves the frame.
        angle: Its rotation at time 0, in radians.
        spin: Radians per clip.
        shown: Share of the clip's length at which it appears, and at which it is gone.
    """

    distance: Distance
    colour: Array
    radius: float
    start: Array
    velocity: Array
    angle: float
    spin: float
    shown: tuple[float, float] = (0.0, 1.0)

    def frames(self, count: int) -> range:
        """Returns the frames, counted from 0, that show it in a clip of `count` frames."""
        return range(round(self.shown[0] * count), round(self.shown[1] * count))

    def masks(self, size: int, count: int) -> tuple[Array, Array, NDArray[np.int64]]:
        """Draws it in small windows, one for each frame that shows it.

        Returns:
            The share of each pixel that it covers, (F, P, P) from 0 to 1; the share that is fill and not outline; and
            the (column, row) of each window's corner in the (size, size) frame, (F, 2).
        """
        time = (np.array(self.frames(count), np.float32)[:, None] + np.float32(0.5)) / np.float32(count)
        margin = self.radius + 1 / size
        room = np.float32(1 - 2 * margin)
        # Bouncing between two walls is uniform motion folded into a triangle wave.
        centre = margin + abs((self.start - margin + self.velocity * time + room) % (2 * room) - room)
        reach = int(np.ceil(self.radius * size)) + 1
        corner = np.floor(centre * size).astype(np.int64) - reach
        pixels = np.arange(2 * reach + 1, dtype=np.float32) + np.float32(0.5)
        offset = (pixels + corner[..., None] - size * centre[..., None]) / np.float32(self.radius * size)  # (F, 2, P)
        x, y = offset[:, 0, None, :], offset[:, 1, :, None]
        angle = (self.angle + self.spin * time)[..., None]
        cos, sin = np.cos(angle), np.sin(angle)
        distance = self.distance(cos * x + sin * y, cos * y - sin * x)
        edge = np.float32(self.radius * size)
        cover = np.clip(np.float32(0.5) - distance * edge, 0, 1)
        fill = np.clip(np.float32(0.5) - (distance + np.float32(RIM)) * edge, 0, 1)
        return cover, fill, corner

    def boxes(self, size: int, count: int) -> dict[int, tuple[Box, ...]]:
        """Returns, for each frame number (1-based) that shows it, the smallest box around every pixel that it touches."""
        cover, _, corner = self.masks(size, count)
        boxes: dict[int, tuple[Box, ...]] = {}
        for frame, touched, (x, y) in zip(self.frames(count), cover > 0, corner.tolist(), strict=True):
            columns, rows = np.flatnonzero(touched.any(0)).tolist(), np.flatnonzero(touched.any(1)).tolist()
            boxes[frame + 1] = ((float(x + columns[0]), float(y + rows[0]), float(x + columns[-1] + 1), float(y + rows[-1] + 1)),)
        return boxes

    def paint(self, canvas: Array) -> None:
        """Paints it over the frames of a (T, H, W, 3) canvas, in place."""
        cover, fill, corner = self.masks(canvas.shape[1], canvas.shape[0])
        window = cover.shape[-1]
        colour = (RIM_SHADE + (1 - RIM_SHADE) * fill)[..., None] * self.colour
        size = canvas.shape[1]
        for frame, paint, alpha, (x, y) in zip(self.frames(len(canvas)), colour, cover[..., None], corner.tolist(), strict=True):
            # A window may stick out of the frame by a pixel or two, what it covers never does.
            inside = (slice(max(-y, 0), min(window, size - y)), slice(max(-x, 0), min(window, size - x)))
            patch = canvas[frame, max(y, 0) : y + window, max(x, 0) : x + window]
            patch += alpha[inside] * (paint[inside] - patch)


@dataclass(frozen=True)
class Scene:
    """Everything in one clip. The order of painting is background, distractors, object.

    Attributes:
        shape: Name of the object's shape.
        target: The object.
        distractors: Shapes of no class, shown in the whole clip.
        texture: Two colours, periods per frame side, and the phase of the background; its name is a key of `TEXTURES`.
        grain: Seed of the noise that differs from frame to frame.
    """

    shape: str
    target: Sprite
    distractors: tuple[Sprite, ...]
    background: Callable[[int], Array]
    grain: int

    def draw(self, size: int, count: int, *, with_object: bool = True) -> Pixels:
        """Returns the (count, size, size, 3) uint8 RGB frames, with the object or without it."""
        canvas = np.repeat(self.background(size)[None], count, 0)
        for sprite in (*self.distractors, self.target) if with_object else self.distractors:
            sprite.paint(canvas)
        grain = np.random.default_rng(self.grain).integers(-GRAIN, GRAIN, (count, size, size, 1), np.int8, endpoint=True)
        canvas += grain
        return np.clip(canvas + np.float32(0.5), 0, 255).astype(np.uint8)


def _colour(random: Generator, saturation: tuple[float, float], value: tuple[float, float]) -> Array:
    rgb = colorsys.hsv_to_rgb(random.uniform(), random.uniform(*saturation), random.uniform(*value))
    return 255 * np.array(rgb, np.float32)


def _sprite(random: Generator, distance: Distance, shown: tuple[float, float] = (0.0, 1.0)) -> Sprite:
    heading = random.uniform(0, 2 * np.pi)
    speed = random.uniform(0.5, 1.3)
    return Sprite(
        distance=distance,
        colour=_colour(random, (0.55, 0.9), (0.85, 1.0)),
        radius=random.uniform(0.11, 0.15),
        start=random.uniform(0.15, 0.85, 2).astype(np.float32),
        velocity=np.array([speed * np.cos(heading), speed * np.sin(heading)], np.float32),
        angle=random.uniform(0, 2 * np.pi),
        spin=random.uniform(-2, 2),
        shown=shown,
    )


def _plain(random: Generator) -> Callable[[int], Array]:
    """Returns a grey background with a faint tint and soft clouds."""
    base = _colour(random, (0.05, 0.2), (0.3, 0.55))
    waves = random.uniform(-1.5, 1.5, (4, 2)).astype(np.float32)
    phases = random.uniform(0, 1, 4).astype(np.float32)

    def paint(size: int) -> Array:
        axis = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
        clouds = sum(_waves(wave[0] * axis[None, :] + wave[1] * axis[:, None] + phase) for wave, phase in zip(waves, phases, strict=True))
        return base + np.float32(6) * np.asarray(clouds, np.float32)[..., None]

    return paint


def _textured(random: Generator, name: str) -> Callable[[int], Array]:
    """Returns a background that one of `TEXTURES` covers, in two muted colours."""
    dark = _colour(random, (0.2, 0.5), (0.25, 0.4))
    light = _colour(random, (0.1, 0.4), (0.55, 0.75))
    periods = random.uniform(5, 8)
    phase = random.uniform(0, 1, 2).astype(np.float32)

    def paint(size: int) -> Array:
        axis = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(periods / size)
        level = TEXTURES[name](axis[None, :] + phase[0], axis[:, None] + phase[1])
        # The steepest slope of `level` is about 2 pi a period: this makes an edge one to two pixels wide.
        share = np.clip(np.float32(0.5) + level * np.float32(size / periods / 8), 0, 1)[..., None]
        return dark + share * (light - dark)

    return paint


def scene(random: Generator, *, shape: str | None, texture: str | None) -> Scene:
    """Draws the lots for one clip.

    Args:
        random: Decides everything that is not asked for.
        shape: The object's shape; None: any.
        texture: The background's texture; None: a plain background.
    """
    name = shape or random.choice(list(SHAPES)).item()
    length = random.uniform(0.4, 0.6)
    first = random.uniform(0, 1 - length)
    return Scene(
        shape=name,
        target=_sprite(random, SHAPES[name], (first, first + length)),
        distractors=tuple(_sprite(random, DISTRACTORS[kind]) for kind in random.choice(list(DISTRACTORS), random.integers(1, 3))),
        background=_textured(random, texture) if texture else _plain(random),
        grain=int(random.integers(2**32)),
    )
