"""Draws text, tiles, boxes, legends and bars into (h, w, 3) uint8 RGB arrays, with numpy, OpenCV and Pillow.

matplotlib would take a second per sheet, and a run draws a sheet per clip and method while the network runs.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vidattr.types import Box, Pixels

Colour = tuple[int, int, int]

PAPER: Colour = (255, 255, 255)
INK: Colour = (26, 28, 34)
GREY: Colour = (104, 108, 118)
LIGHT: Colour = (206, 210, 218)
ACCENT: Colour = (208, 52, 44)

MARGIN = 16
GAP = 6
TITLE, BODY, SMALL = 17, 13, 12

_FREETYPE = threading.Lock()  # a FreeType face must not be used by two threads at once


def sheet(height: int, width: int) -> Pixels:
    """Returns an empty (height, width, 3) page."""
    return np.full((height, width, 3), PAPER, np.uint8)


def line_height(size: int) -> int:
    """Returns the pixels from one line of text to the next."""
    return math.ceil(size * 1.4)


def text(page: Pixels, x: int, y: int, words: str, size: int, colour: Colour = INK, *, bold: bool = False) -> None:
    """Writes one line of text with its top left corner at (x, y); the part beyond the page is cut off."""
    ink = _glyphs(words, size, bold)[: max(page.shape[0] - y, 0), : max(page.shape[1] - x, 0), None]
    under = page[y : y + ink.shape[0], x : x + ink.shape[1]]
    under[:] = (under + (np.asarray(colour, np.float32) - under) * ink + 0.5).astype(np.uint8)


def text_width(words: str, size: int, *, bold: bool = False) -> int:
    """Returns the width of one line in pixels."""
    return int(_glyphs(words, size, bold).shape[1])


def shorten(words: str, size: int, width: int, *, bold: bool = False) -> str:
    """Returns a line of text no wider than `width`: characters in its middle are replaced by an ellipsis if need be.

    The middle, because names differ at their ends as often as at their beginnings.
    """
    if text_width(words, size, bold=bold) <= width:
        return words
    low, high = 0, len(words)  # bisection for the largest number of characters that fits
    while low < high:
        keep = (low + high + 1) // 2
        low, high = (keep, high) if text_width(_elide(words, keep), size, bold=bold) <= width else (low, keep - 1)
    return _elide(words, low)


def flow(pieces: Iterable[str], size: int, width: int) -> list[str]:
    """Returns lines no wider than `width`, each made of as many of the pieces of text as fit, joined by dots.

    A piece that is wider than a line is shortened.
    """
    lines: list[str] = []
    for piece in pieces:
        longer = f"{lines[-1]}  ·  {piece}" if lines else piece
        if lines and text_width(longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(shorten(piece, size, width))
    return lines


def enlarge(frames: Pixels, tile: int) -> Pixels:
    """Enlarges (T, H, W, 3) frames until their longer side is `tile` pixels; larger frames are returned as they are."""
    h, w = frames.shape[1:3]
    factor = tile / max(h, w)
    if factor <= 1:
        return frames
    size = max(round(w * factor), 1), max(round(h * factor), 1)
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC) for frame in frames])


def outline(tile: Pixels, boxes: Sequence[Box], height: int, width: int) -> None:
    """Draws boxes into an enlarged tile of a frame, as a white line between two black ones.

    White and black together stand out on every colour of every map.

    Args:
        tile: The enlarged frame.
        boxes: In pixels of the frame before it was enlarged.
        height: Of that frame.
        width: Of that frame.
    """
    sx, sy = tile.shape[1] / width, tile.shape[0] / height
    for x0, y0, x1, y1 in boxes:
        left, top, right, bottom = round(x0 * sx), round(y0 * sy), round(x1 * sx) - 1, round(y1 * sy) - 1
        for inset, shade in ((-1, 0), (1, 0), (0, 255)):
            cv2.rectangle(tile, (left + inset, top + inset), (right - inset, bottom - inset), (shade, shade, shade), 1)


def bars(
    page: Pixels, x: int, y: int, width: int, height: int, values: NDArray[np.float64], active: int | None = None
) -> None:
    """Draws one bar per value from a common zero line; the bar number `active` has the accent colour."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    unit = height / (high - low) if high > low else 0.0
    zero = y + round(high * unit)
    pitch = _pitch(width, len(values))
    edges = x + np.arange(len(values) + 1) * pitch
    room = 2 if pitch > 5 else 0  # no gap between narrow bars
    cv2.line(page, (x, min(zero, y + height - 1)), (x + width - 1, min(zero, y + height - 1)), LIGHT, 1)
    for i, value in enumerate(values):
        ends = sorted((zero, y + round((high - float(value)) * unit)))
        left, right = round(float(edges[i])), max(round(float(edges[i + 1])) - room, round(float(edges[i])) + 1)
        page[ends[0] : max(ends[1], ends[0] + 1), left:right] = ACCENT if i == active else LIGHT


def ticks(page: Pixels, x: int, y: int, width: int, labels: Sequence[str]) -> None:
    """Writes labels below the bars that `bars` draws: the first, and every further one that has room."""
    pitch, right = _pitch(width, len(labels)), 0
    for i, label in enumerate(labels):
        middle = x + round((i + 0.5) * pitch)
        left = max(x, middle - text_width(label, SMALL) // 2)
        if left >= right and left + text_width(label, SMALL) <= x + width:
            cv2.line(page, (middle, y), (middle, y + 2), GREY, 1)
            text(page, left, y + 2, label, SMALL, GREY)
            right = left + text_width(label, SMALL) + 2 * MARGIN


def _pitch(width: int, count: int) -> float:
    return min(width / count, 48)


def _elide(words: str, keep: int) -> str:
    head = (keep + 1) // 2
    return f"{words[:head]}…{words[len(words) - (keep - head) :]}"


@lru_cache(maxsize=4096)
def _glyphs(words: str, size: int, bold: bool) -> NDArray[np.float32]:
    """Returns the coverage of one line of text, (h, w) in 0…1; cached, since every sheet repeats names and numbers."""
    # The name of a class or file may hold line breaks and other characters that cannot be drawn in a line.
    words = "".join(character if character.isprintable() else "\ufffd" for character in words)
    with _FREETYPE:
        font = _font(size, bold)
        image = Image.new("L", (max(math.ceil(font.getlength(words)), 1), line_height(size)))
        ImageDraw.Draw(image).text((0, size), words, fill=255, font=font, anchor="ls")
    ink = np.asarray(image, np.float32) / np.float32(255)
    ink.flags.writeable = False
    return ink


@lru_cache(maxsize=32)
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Returns DejaVu Sans as matplotlib ships it; it has the accented letters that Pillow's own font lacks."""
    package = find_spec("matplotlib")  # not imported, which takes a second
    if package is not None and package.origin is not None:
        file = (
            Path(package.origin).parent / "mpl-data/fonts/ttf" / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")
        )
        if file.is_file():
            return ImageFont.truetype(str(file), size)
    return ImageFont.load_default(size)
