"""Backgrounds of the planted clips: clouds, one of four textures, a photograph, or a landscape that pans."""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from vidattr.datasets.planting import photographs
from vidattr.datasets.planting.sprites import Floats
from vidattr.datasets.shared.scenes import TEXTURES, TURN

# Paints the background of a clip: of the frame's side S and the number of frames T, (T, S, S, 3) or (1, S, S, 3).
Background = Callable[[int, int], Floats]
RGB = tuple[float, float, float]


def colour(random: Generator, saturation: tuple[float, float], value: tuple[float, float]) -> RGB:
    """Returns a colour of any hue, each channel from 0 to 255."""
    red, green, blue = colorsys.hsv_to_rgb(random.uniform(), random.uniform(*saturation), random.uniform(*value))
    return 255 * red, 255 * green, 255 * blue


def _axis(size: int) -> Floats:
    return np.asarray((np.arange(size) + 0.5) / size, np.float32)


def clouds(random: Generator, contrast: float) -> Background:
    """Returns a muted colour with soft clouds whose brightness differs by about `contrast` grey levels."""
    base = np.asarray(colour(random, (0.05, 0.3), (0.3, 0.55)), np.float32)
    waves = random.uniform(-1.5, 1.5, (4, 2)).astype(np.float32)
    phases = random.uniform(0, 1, 4).astype(np.float32)

    def paint(size: int, count: int) -> Floats:
        axis = _axis(size)
        turns = waves[:, 0, None, None] * axis + waves[:, 1, None, None] * axis[:, None] + phases[:, None, None]
        return np.asarray(base + contrast * np.sin(TURN * turns).sum(0)[..., None])[None]

    return paint


def texture(random: Generator, name: str, contrast: float) -> Background:
    """Returns one of `TEXTURES` in two muted colours.

    Args:
        random: Decides colours, period and phase, in the same way for every name.
        name: Of the texture.
        contrast: 1: the colours as drawn; 0: both are their mean.
    """
    colours = np.asarray([colour(random, (0.2, 0.5), (0.25, 0.4)), colour(random, (0.1, 0.4), (0.55, 0.75))])
    mean = colours.mean(0)
    dark, light = (mean + contrast * (colours - mean)).astype(np.float32)
    periods = random.uniform(4, 6)
    phase = random.uniform(0, 1, 2)

    def paint(size: int, count: int) -> Floats:
        axis = _axis(size) * np.float32(periods)
        level = TEXTURES[name](axis[None, :] + np.float32(phase[0]), axis[:, None] + np.float32(phase[1]))
        # The steepest slope of `level` is about 2 pi per period, so that an edge is one to two pixels wide.
        share = np.clip(0.5 + level * (size / periods / 8), 0, 1)[..., None]
        return np.asarray(dark + share * (light - dark), np.float32)[None]

    return paint


def photograph(random: Generator) -> Background:
    """Returns a part of a photograph of bricks, grass or gravel, tinted with a faint colour."""
    file = photographs.BACKGROUNDS[random.integers(len(photographs.BACKGROUNDS))]
    corner = random.uniform(), random.uniform()
    side, mirrored = random.uniform(0.3, 0.6), bool(random.integers(2))
    tint = np.asarray(colour(random, (0.05, 0.35), (0.6, 0.9)), np.float32) / 255

    def paint(size: int, count: int) -> Floats:
        return np.asarray(photographs.background(file, corner, side, mirrored, size) * tint, np.float32)[None]

    return paint


def panning(random: Generator, speed: tuple[float, float]) -> Background:
    """Returns a periodic landscape of soft patches in two colours that the camera pans over, in whole pixels.

    Args:
        random: Decides everything else.
        speed: Smallest and largest speed of the pan, in frame sides per clip; its direction is any.
    """
    dark = np.asarray(colour(random, (0.2, 0.5), (0.2, 0.4)), np.float32)
    light = np.asarray(colour(random, (0.1, 0.4), (0.5, 0.7)), np.float32)
    # Whole numbers of waves per frame side, so that the landscape has no seam.
    waves = random.integers(1, 6, (6, 2)) * random.choice([-1, 1], (6, 2))
    phases = random.uniform(0, 1, 6).astype(np.float32)
    heading, pace = random.uniform(0, TURN), random.uniform(*speed)
    velocity = pace * np.array([np.cos(heading), np.sin(heading)])

    def paint(size: int, count: int) -> Floats:
        axis = _axis(size)
        w = waves.astype(np.float32)
        turns = w[:, 0, None, None] * axis + w[:, 1, None, None] * axis[:, None] + phases[:, None, None]
        share = np.clip(0.5 + 0.6 * np.sin(TURN * turns).sum(0), 0, 1)[..., None]
        tile = np.asarray(dark + share * (light - dark), np.float32)
        wide = np.tile(tile, (2, 2, 1))
        moved = np.round(velocity * ((np.arange(count) + 0.5) / count)[:, None] * size).astype(np.int64)
        corners = (-moved) % size
        return np.stack([wide[y : y + size, x : x + size] for x, y in corners.tolist()])

    return paint
