"""The width and height that a picture file declares, read before decoding, which allocates memory for all pixels."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

_NUMBERS = re.compile(rb"P[1-6](?:\s|#[^\n\r]*[\n\r])+(\d{1,19})(?:\s|#[^\n\r]*[\n\r])+(\d{1,19})[\s#]")
_WIDTH, _HEIGHT = 256, 257  # tags of TIFF
_BYTES = {1: 1, 3: 2, 4: 4, 6: 1, 8: 2, 9: 4, 16: 8, 17: 8}  # bytes of an integer, by its type number in TIFF


def declared_size(data: bytes) -> tuple[int, int] | None:
    """Returns the (width, height) in the header of a BMP, JPEG, PNG, PNM, TIFF or WebP file.

    Returns:
        None if the content has none of these formats, whatever the file's name is, or if its header is incomplete. Only
        the two numbers are checked.
    """
    for mark, size_of in _READERS:
        if mark.match(data):
            return size_of(data)
    return None


def _png(data: bytes) -> tuple[int, int] | None:
    return (_big(data, 16, 4), _big(data, 20, 4)) if len(data) >= 24 else None


def _bmp(data: bytes) -> tuple[int, int] | None:
    if len(data) < 26:
        return None
    if _little(data, 14, 4) == 12:  # the header of OS/2
        return _little(data, 18, 2), _little(data, 20, 2)
    width, height = (int.from_bytes(data[place : place + 4], "little", signed=True) for place in (18, 22))
    return abs(width), abs(height)  # a negative height: rows from top to bottom


def _jpeg(data: bytes) -> tuple[int, int] | None:
    """Finds the first frame header as libjpeg does: it moves from marker to marker and skips the bytes between."""
    place = 2
    while (place := data.find(b"\xff", place)) >= 0:
        while data[place : place + 1] == b"\xff":
            place += 1
        marker = data[place : place + 1]
        place += 1
        if marker in _FRAME_HEADERS:
            return (_big(data, place + 5, 2), _big(data, place + 3, 2)) if place + 7 <= len(data) else None
        if marker in _WITHOUT_LENGTH:
            continue
        place += max(_big(data, place, 2), 2)
    return None


def _pnm(data: bytes) -> tuple[int, int] | None:
    found = _NUMBERS.match(data[:65536])
    return (int(found[1]), int(found[2])) if found else None


def _tiff(data: bytes) -> tuple[int, int] | None:
    """Reads the first directory of a TIFF or BigTIFF file; a number that occurs twice counts with its larger value."""
    order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"

    def number(place: int, length: int) -> int:
        return int.from_bytes(data[place : place + length], order)

    large = number(2, 2) == 43
    start = number(8, 8) if large else number(4, 4)
    count, entries, entry = (number(start, 8), start + 8, 20) if large else (number(start, 2), start + 2, 12)
    found: dict[int, int] = {}
    for place in range(entries, min(entries + count * entry, len(data) - entry + 1), entry):
        tag, kind = number(place, 2), number(place + 2, 2)
        if tag in (_WIDTH, _HEIGHT) and kind in _BYTES:
            value = number(place + (12 if large else 8), _BYTES[kind])
            found[tag] = max(found.get(tag, 0), value)
    return (found[_WIDTH], found[_HEIGHT]) if len(found) == 2 else None


def _webp(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if len(data) < 30:
        return None
    if kind == b"VP8X":  # with animation, transparency or metadata
        return _little(data, 24, 3) + 1, _little(data, 27, 3) + 1
    if kind == b"VP8L":  # without loss
        bits = _little(data, 21, 4)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return (_little(data, 26, 2) & 0x3FFF, _little(data, 28, 2) & 0x3FFF) if kind == b"VP8 " else None


def _big(data: bytes, place: int, length: int) -> int:
    return int.from_bytes(data[place : place + length], "big")


def _little(data: bytes, place: int, length: int) -> int:
    return int.from_bytes(data[place : place + length], "little")


_FRAME_HEADERS = frozenset(bytes([number]) for number in range(0xC0, 0xD0) if number not in (0xC4, 0xC8, 0xCC))
_WITHOUT_LENGTH = frozenset(bytes([number]) for number in (0x00, 0x01, *range(0xD0, 0xD9)))
_READERS: tuple[tuple[re.Pattern[bytes], Callable[[bytes], tuple[int, int] | None]], ...] = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), _png),
    (re.compile(rb"\xff\xd8\xff"), _jpeg),
    (re.compile(rb"BM"), _bmp),
    (re.compile(rb"P[1-6]"), _pnm),
    (re.compile(rb"(?s)RIFF....WEBP"), _webp),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), _tiff),
)
