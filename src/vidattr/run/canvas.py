"""What the maps of a clip are drawn on: the network's input, or the source's own frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from vidattr.errors import ClipError
from vidattr.render.heat import Map
from vidattr.render.options import Render, Surface
from vidattr.types import Clip, Pixels, Sample
from vidattr.video.decode import read
from vidattr.video.geometry import Placement
from vidattr.video.preprocessing import Geometry, Preprocessing, Resample

_DARK = 0.35  # brightness of what the network does not see


@dataclass(frozen=True)
class Canvas:
    """The frames that maps are drawn on.

    Attributes:
        sample: The frames, with their boxes.
        place: Takes a (T, H, W) map of the network's input to the frames; a voxel that the network does not see gets 0.
        unseen: Whether the frames show, darkened, what the network does not see.
    """

    sample: Sample
    place: Callable[[Map], Map]
    unseen: bool = False


def canvas(clip: Clip, sample: Sample, view: Preprocessing, render: Render) -> Canvas:
    """Returns what the maps of a clip are drawn on, as `render.frames` says.

    Args:
        clip: The clip.
        sample: The clip as the network saw it.
        view: The network's preprocessing.
        render: How to draw.

    Raises:
        ClipError: The original frames cannot be read, or others are read than those that the network saw.
    """
    if render.frames is Surface.network:
        return Canvas(sample, lambda map: map)
    if sample.origin is None:
        raise ClipError("the size of its source is unknown", remedy="render.frames=network")
    width, height = sample.origin.size
    factor = min(1.0, (render.largest or max(width, height)) / max(width, height))
    size = max(1, round(height * factor)), max(1, round(width * factor))
    placement = Placement.of((height, width), view)
    whole = replace(view, size=list(size), geometry=Geometry.squash, resize=[], resample=Resample.opencv)
    found = read(clip, whole)
    if found.numbers != sample.numbers:
        raise ClipError("its frames are others than those of its map", remedy="`vidattr run` with the same overrides")
    seen = _back(placement, size, np.ones((1, *placement.size), np.float32))[0] > 0.5
    pixels = found.pixels if seen.all() else _darkened(found.pixels, seen)
    return Canvas(replace(found, pixels=pixels), partial(_back, placement, size), unseen=not bool(seen.all()))


def _back(placement: Placement, size: tuple[int, int], map: Map) -> Map:
    import cv2

    whole = placement.lifted(map.astype(np.float32))
    return np.stack([cv2.resize(frame, size[::-1], interpolation=cv2.INTER_LINEAR) for frame in whole])


def _darkened(pixels: Pixels, seen: NDArray[np.bool_]) -> Pixels:
    weight = np.where(seen, np.float32(1), np.float32(_DARK))[..., None]
    return np.stack([(frame * weight + 0.5).astype(np.uint8) for frame in pixels])
