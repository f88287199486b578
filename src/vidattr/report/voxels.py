"""Maps and frames in the form that a page carries: reduced in size, quantised with a stated error, and compressed."""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vidattr.render.heat import Map
from vidattr.types import Pixels

LEVELS = 127
"""Levels of each sign: a value v is stored as ±round(LEVELS·√(|v| / largest)), in one byte."""

_VOXELS = 320_000  # of all maps of a clip: then 100 clips of 5 noisy maps are less than 60 MB
_PIXELS = 1_000_000  # of all frames of a clip
_BYTES = 90_000  # of the picture that holds them
_QUALITIES = (78, 60, 40)


def map_size(shape: tuple[int, int, int], maps: int) -> tuple[int, int]:
    """Returns the (h, w) of the maps on a page: those of the network, or smaller where the maps are many or large."""
    T, H, W = shape
    factor = min(1.0, (_VOXELS / max(maps, 1) / (T * H * W)) ** 0.5)
    return max(1, int(H * factor)), max(1, int(W * factor))


def enlargement(shape: tuple[int, int, int]) -> int:
    """Returns the whole number by which the frames on a page can be larger than those of the network, at least 1."""
    T, H, W = shape
    return int(max(1, min((_PIXELS / (T * H * W)) ** 0.5, 384 / max(H, W))))


def fitted(frames: Pixels) -> Pixels:
    """Returns frames (T, H, W, 3) as large as a page carries them: smaller where they are many or large."""
    T, H, W = frames.shape[:3]
    factor = (_PIXELS / (T * H * W)) ** 0.5
    if factor >= 1:
        return frames
    size = max(1, int(W * factor)), max(1, int(H * factor))
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])


def reduced(map: Map, size: tuple[int, int]) -> NDArray[np.float32]:
    """Returns a map (T, H, W) at a smaller size (T, h, w): each value is the mean over its area."""
    if map.shape[1:] == size:
        return np.asarray(map, np.float32)
    return np.stack([cv2.resize(np.asarray(one, np.float32), size[::-1], interpolation=cv2.INTER_AREA) for one in map])


def packed(map: NDArray[np.float32]) -> dict[str, Any]:
    """Returns a finite map as the player reads it (`unpack` in clip.js).

    Returns:
        `largest`, the largest absolute value; `data`, base64 of zlib of the differences (modulo 256) between
        neighbouring bytes, in the order of the array; a byte is 128 plus the signed level.
    """
    largest = float(np.abs(map).max(initial=0.0))
    levels = np.sqrt(np.abs(map) / largest) * LEVELS if largest > 0 else np.zeros_like(map)
    quantised = (np.copysign(np.rint(levels), map) + 128).astype(np.uint8).ravel()
    steps = np.diff(quantised, prepend=np.uint8(0)).astype(np.uint8)
    return {"largest": largest, "data": base64.b64encode(zlib.compress(steps.tobytes(), 6)).decode()}


def shares(map: Map) -> list[float]:
    """Returns the share of the map's positive mass in each frame; zeros where nothing is positive."""
    mass = np.clip(map, 0, None).astype(np.float64).sum((1, 2))
    total = float(mass.sum())
    return [float(one) for one in (mass / total if total > 0 else mass)]


def sprite(frames: Pixels) -> dict[str, Any]:
    """Returns frames (T, H, W, 3) as one WebP picture, row by row, in an address that needs no file.

    Frames that compress badly are stored at a lower quality, and smaller if that is not enough.
    """
    T, H, W = frames.shape[:3]
    columns = int(np.ceil(T**0.5))
    rows = -(-T // columns)
    sheet = np.zeros((rows * columns, H, W, 3), np.uint8)
    sheet[:T] = frames
    whole = sheet.reshape(rows, columns, H, W, 3).swapaxes(1, 2).reshape(rows * H, columns * W, 3)
    for quality in _QUALITIES:
        if len(encoded := webp(whole, quality)) <= _BYTES:
            break
    else:
        if min(H, W) > 64:
            return sprite(
                np.stack([cv2.resize(one, (W * 3 // 4, H * 3 // 4), interpolation=cv2.INTER_AREA) for one in frames])
            )
    source = "data:image/webp;base64," + base64.b64encode(encoded).decode()
    return {"width": W, "height": H, "columns": columns, "source": source}


def webp(picture: Pixels, quality: int = _QUALITIES[0]) -> bytes:
    """Returns an (h, w, 3) RGB picture as WebP."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "WEBP", quality=quality, method=1)
    return file.getvalue()


def peaks(curve: Sequence[float], most: int) -> list[int]:
    """Returns at most `most` places of a curve in order: evenly spread ones, and always that of the largest value."""
    T = len(curve)
    if most >= T:
        return list(range(T))
    picked = {round(place) for place in np.linspace(0, T - 1, most)}
    peak = int(np.argmax(curve))
    if peak not in picked:
        picked.remove(min(picked, key=lambda place: abs(place - peak)))
        picked.add(peak)
    return sorted(picked)
