"""Draws the synthetic clips: shapes that move over a background, with exact boxes, from one random generator per clip.

Lengths are in frame sides and times in clip lengths, so that a scene is the same at any size and number of frames.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from vidattr.types import Box, Pixels

Array = NDArray[np.floating[Any]]

CENTRE = 0.22  # half the side of the central square, in frame sides
CENTRAL = 0.2  # the share of its time that a shape may spend in the central square
RIM = 0.16  # width of the dark outline, in radii of the shape
RIM_SHADE = 0.45  # brightness of the outline, relative to the fill
TURN = 2 * np.pi
GRAIN = 5  # largest change of a pixel from frame to frame, in grey levels


# Each function maps points, in radii from the shape's centre, to their approximate distance from its outline, negative
# inside. All shapes lie in the unit circle. An equilateral triangle is the intersection of three half-planes.
Distance = Callable[[Array, Array], Array]
SHAPES: dict[str, Distance] = {
    "disc": lambda x, y: np.hypot(x, y) - 0.88,
    "square": lambda x, y: np.maximum(abs(x), abs(y)) - 0.7,
    "triangle": lambda x, y: np.maximum(y, 0.75**0.5 * abs(x) - y / 2) - 0.5,
    "cross": lambda x, y: np.minimum(np.maximum(abs(x) - 0.62, abs(y)), np.maximum(abs(x), abs(y) - 0.62)) - 0.3,
}
DISTRACTORS: dict[str, Distance] = {
    "ring": lambda x, y: abs(np.hypot(x, y) - 0.72) - 0.24,
    "bar": lambda x, y: np.maximum(abs(x) - 0.95, abs(y) - 0.27),
    "crescent": lambda x, y: np.maximum(np.hypot(x, y) - 0.95, 0.8 - np.hypot(x - 0.5, y)),
}

# Each function maps points, in periods of the texture, to a number that is positive on one of the two colours.
TEXTURES: dict[str, Distance] = {
    "horizontal_stripes": lambda x, y: np.sin(TURN * y) + 0 * x,
    "vertical_stripes": lambda x, y: np.sin(TURN * x) + 0 * y,
    "checks": lambda x, y: np.sin(TURN * x) * np.sin(TURN * y),
    "dots": lambda x, y: 1 - 3 * np.hypot(x % 1 - 0.5, y % 1 - 0.5),
}


@dataclass(frozen=True)
class Sprite:
    """One moving shape of a clip.

    Attributes:
        distance: Its outline, one of `SHAPES` or `DISTRACTORS`.
        colour: RGB from 0 to 255.
        radius: Of the circle around it, in frame sides.
        start: (x, y) of its centre at time 0, in frame sides from the top left corner.
        velocity: (x, y) in frame sides per clip; it bounces off the frame's edges and never leaves the frame.
        angle: Its rotation at time 0, in radians.
        spin: Radians per clip.
        shown: When it appears and when it disappears, in shares of the clip's length.
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

    def path(self, time: Array, margin: float) -> Array:
        """Returns its centre (F, 2) in frame sides at times (F, 1) in [0, 1], at least `margin` away from the edges."""
        room = 1 - 2 * margin
        # A bounce between two walls is uniform motion through a triangle wave.
        return np.asarray(margin + abs((self.start - margin + self.velocity * time + room) % (2 * room) - room))

    def masks(self, size: int, count: int) -> tuple[Array, Array, NDArray[np.int64]]:
        """Draws it in small windows, one per frame that shows it.

        Returns:
            The share of each pixel that it covers, (F, P, P) in [0, 1]; the share that is fill, not outline; and the
            (column, row) of each window's corner in the (size, size) frame, (F, 2).
        """
        time = (np.array(self.frames(count))[:, None] + 0.5) / count
        centre = self.path(time, self.radius + 1 / size)
        edge = self.radius * size
        reach = int(np.ceil(edge)) + 1
        corner = np.floor(centre * size).astype(np.int64) - reach
        pixels = np.arange(2 * reach + 1) + 0.5
        offset = (pixels + corner[..., None] - size * centre[..., None]) / edge  # (F, 2, P)
        x, y = offset[:, 0, None, :], offset[:, 1, :, None]
        angle = (self.angle + self.spin * time)[..., None]
        cos, sin = np.cos(angle), np.sin(angle)
        distance = self.distance(cos * x + sin * y, cos * y - sin * x)
        cover = np.clip(0.5 - distance * edge, 0, 1)
        fill = np.clip(0.5 - (distance + RIM) * edge, 0, 1)
        return cover, fill, corner

    def boxes(self, size: int, count: int) -> dict[int, tuple[Box, ...]]:
        """Returns the number (1-based) of each frame that shows it to the smallest box around all pixels it touches."""
        cover, _, corner = self.masks(size, count)
        boxes: dict[int, tuple[Box, ...]] = {}
        for frame, touched, (x, y) in zip(self.frames(count), cover > 0, corner.tolist(), strict=True):
            columns, rows = np.flatnonzero(touched.any(0)).tolist(), np.flatnonzero(touched.any(1)).tolist()
            boxes[frame + 1] = (
                (float(x + columns[0]), float(y + rows[0]), float(x + columns[-1] + 1), float(y + rows[-1] + 1)),
            )
        return boxes

    def paint(self, canvas: Array) -> None:
        """Paints it over the frames of a (T, H, W, 3) canvas, in place."""
        cover, fill, corner = self.masks(canvas.shape[1], canvas.shape[0])
        window = cover.shape[-1]
        colour = (RIM_SHADE + (1 - RIM_SHADE) * fill)[..., None] * self.colour
        size = canvas.shape[1]
        for frame, paint, alpha, (x, y) in zip(
            self.frames(len(canvas)), colour, cover[..., None], corner.tolist(), strict=True
        ):
            # A window may exceed the frame by a pixel or two; the shape itself never does.
            inside = (slice(max(-y, 0), min(window, size - y)), slice(max(-x, 0), min(window, size - x)))
            patch = canvas[frame, max(y, 0) : y + window, max(x, 0) : x + window]
            patch += alpha[inside] * (paint[inside] - patch)


@dataclass(frozen=True)
class SyntheticScene:
    """The content of one clip, painted in the order background, distractors, object.

    Attributes:
        shape: Name of the object's shape.
        target: The object.
        distractors: Shapes that belong to no class, shown in the whole clip.
        background: Paints one frame, (size, size, 3) from 0 to 255, that all frames share.
        grain: Seed of the noise that differs from frame to frame.
    """

    shape: str
    target: Sprite
    distractors: tuple[Sprite, ...]
    background: Callable[[int], Array]
    grain: int

    def draw(self, size: int, count: int, *, with_object: bool = True) -> Pixels:
        """Returns the (count, size, size, 3) uint8 RGB frames, with the object or without it."""
        canvas = np.repeat(self.background(size)[None].astype(np.float32), count, 0)
        for sprite in (*self.distractors, self.target) if with_object else self.distractors:
            sprite.paint(canvas)
        grain = np.random.default_rng(self.grain).integers(
            -GRAIN, GRAIN, (count, size, size, 1), np.int8, endpoint=True
        )
        canvas += grain
        return np.asarray(np.clip(canvas + 0.5, 0, 255).astype(np.uint8))


def _colour(random: Generator, saturation: tuple[float, float], value: tuple[float, float]) -> Array:
    rgb = colorsys.hsv_to_rgb(random.uniform(), random.uniform(*saturation), random.uniform(*value))
    return 255 * np.array(rgb)


def _sprite(random: Generator, distance: Distance, shown: tuple[float, float] = (0.0, 1.0)) -> Sprite:
    """Draws a shape whose path mostly avoids the frame's centre; otherwise a map of the centre would score well."""
    while True:
        sprite = _any_sprite(random, distance, shown)
        time = np.linspace(*shown, 16)[:, None]
        central = (abs(sprite.path(time, sprite.radius) - 0.5) < CENTRE).all(1).mean()
        if central <= CENTRAL:
            return sprite


def _any_sprite(random: Generator, distance: Distance, shown: tuple[float, float]) -> Sprite:
    heading = random.uniform(0, TURN)
    speed = random.uniform(0.4, 1.1)
    return Sprite(
        distance=distance,
        colour=_colour(random, (0.55, 0.9), (0.85, 1.0)),
        radius=random.uniform(0.145, 0.185),
        start=random.uniform(0.15, 0.85, 2),
        velocity=speed * np.array([np.cos(heading), np.sin(heading)]),
        angle=random.uniform(0, TURN),
        spin=random.uniform(-1, 1),
        shown=shown,
    )


def _plain(random: Generator) -> Callable[[int], Array]:
    """Returns a grey background with a faint tint and soft clouds."""
    base = _colour(random, (0.05, 0.2), (0.3, 0.55))
    waves = random.uniform(-1.5, 1.5, (4, 2))
    phases = random.uniform(0, 1, 4)

    def paint(size: int) -> Array:
        axis = (np.arange(size) + 0.5) / size
        clouds = np.sin(TURN * (waves[:, 0] * axis[None, :, None] + waves[:, 1] * axis[:, None, None] + phases)).sum(
            2, keepdims=True
        )
        return np.asarray(base + 6 * clouds)

    return paint


def _textured(random: Generator, name: str) -> Callable[[int], Array]:
    """Returns a background that one of `TEXTURES` covers, in two muted colours."""
    dark = _colour(random, (0.2, 0.5), (0.25, 0.4))
    light = _colour(random, (0.1, 0.4), (0.55, 0.75))
    periods = random.uniform(5, 8)
    phase = random.uniform(0, 1, 2)

    def paint(size: int) -> Array:
        axis = (np.arange(size) + 0.5) * (periods / size)
        level = TEXTURES[name](axis[None, :] + phase[0], axis[:, None] + phase[1])
        # The steepest slope of `level` is about 2 pi per period, so that an edge is one to two pixels wide.
        share = np.clip(0.5 + level * (size / periods / 8), 0, 1)[..., None]
        return np.asarray(dark + share * (light - dark))

    return paint


def scene(random: Generator, *, shape: str | None, texture: str | None) -> SyntheticScene:
    """Returns a random scene.

    Args:
        random: Decides everything but the shape or texture that is given.
        shape: The object's shape; None: any.
        texture: The background's texture; None: a plain background.
    """
    name = shape or random.choice(list(SHAPES)).item()
    length = random.uniform(0.4, 0.6)
    first = random.uniform(0, 1 - length)
    return SyntheticScene(
        shape=name,
        target=_sprite(random, SHAPES[name], (first, first + length)),
        distractors=tuple(
            _sprite(random, DISTRACTORS[kind]) for kind in random.choice(list(DISTRACTORS), random.integers(1, 3))
        ),
        background=_textured(random, texture) if texture else _plain(random),
        grain=int(random.integers(2**32)),
    )
