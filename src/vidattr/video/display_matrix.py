"""The display matrix of a video: how its pictures are turned and mirrored before anyone sees them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidattr.types import Pixels

IDENTITY = np.array([1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30], np.int32)


def matrix_of(side_data: Any) -> NDArray[np.int32]:
    """Returns the display matrix among the side data of a PyAV frame; the identity if there is none."""
    matrix = side_data.get("DISPLAYMATRIX")
    return IDENTITY if matrix is None else np.frombuffer(matrix, np.int32)


def upright(pixels: Pixels, matrix: NDArray[np.int32]) -> Pixels:
    """Returns a frame as a player shows it.

    A telephone held upright stores its pictures lying on the side, one with a front camera may mirror them. Quarter
    turns and mirrors move pixels; any other angle is turned by bilinear interpolation on a canvas of the same size,
    black where nothing comes to lie. All as ffmpeg and ffplay do by themselves.

    Args:
        pixels: (h, w, 3) as stored.
        matrix: The nine numbers a b u, c d v, x y w of a display matrix: the pixel (x, y) goes to (ax + cy, bx + dy),
            y pointing downwards. Shift and scale of the canvas are left aside.

    Returns:
        (h, w, 3), or (w, h, 3) after a quarter turn.
    """
    a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
    angle = math.degrees(math.atan2(b, a))  # clockwise
    if abs(angle - 90 * round(angle / 90)) > 1:
        return _turned(pixels, angle)
    if abs(b) > abs(a):  # x and y change places
        pixels, (a, d) = pixels.swapaxes(0, 1), (c, b)
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def turn(matrix: NDArray[np.int32]) -> int:
    """Returns the angle in degrees, 0 to 359, by which a display matrix turns the picture clockwise."""
    return round(math.degrees(math.atan2(int(matrix[1]), int(matrix[0])))) % 360


def _turned(pixels: Pixels, clockwise: float) -> Pixels:
    import cv2

    height, width = pixels.shape[:2]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -clockwise, 1.0)
    return np.asarray(cv2.warpAffine(pixels, turn, (width, height), flags=cv2.INTER_LINEAR), np.uint8)
