"""Folders of frames: which file is which frame, and its pixels."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidattr.types import Pixels
from vidattr.video.footage import MAX_PIXELS, Footage, Load, Trouble, UnreadableError
from vidattr.video.picture_size import declared_size

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})

_MAX_BYTES = 2**30
_MOST_DEFLATED = 1032  # bytes that one byte of a deflated stream holds at most
_CLOCK_DIGITS = 9  # seconds since 1970 have ten
_PNG = b"\x89PNG\r\n\x1a\n"
_STAMP = re.compile(r"[0-9]+\.[0-9]+")


def folder(path: Path, first: int, aligned: bool) -> Footage:
    """Opens a folder of images that are named by number or by time.

    * A name that ends in digits: they are the frame number, padded or not, with gaps or not; a folder that counts from
      `first` has its frame 1 there.
    * Names that are time stamps in seconds and nothing else (`1305031102.175304.png`): the frames are numbered from 1
      in the order of time.

    Args:
        path: The folder.
        first: The number of the first frame in the names.
        aligned: Boxes or a segment hang on the frame numbers: then a number below `first` is an error.

    Raises:
        UnreadableError: Names without a number, two files of one number, or a number below `first`.
    """
    numbered, stamped = frame_files(path, first)
    remarks = []
    if stamped and aligned:
        remarks.append("its frames are named by time: numbered from 1 in this order, for boxes and segment too")
    numbers = sorted(numbered)
    if aligned and numbers and numbers[0] < 1:
        found = numbers[0] + first - 1
        raise UnreadableError(
            f"{numbered[numbers[0]].name} is frame {found}, and its frames are said to count from {first}: "
            "every box would be on a "
            f"wrong frame (dataset.first_frame={found}, if the names count from there)"
        )
    bits, remark = _bits([numbered[number] for number in numbers])
    if remark:
        remarks.append(remark)

    def frames() -> Iterator[tuple[int, Load]]:
        footage.trouble = Trouble(remarks=list(remarks))
        yield from ((number, partial(image, numbered[number], bits)) for number in numbers)

    times: dict[int, float] = {}
    if stamped:
        start = Decimal(numbered[1].stem)
        times = {number: float(Decimal(file.stem) - start) for number, file in numbered.items()}
    footage = Footage(numbers, frames, times=times)
    return footage


def frame_files(path: Path, first: int) -> tuple[dict[int, Path], bool]:
    """Returns the images of a folder by frame number, and whether their names are time stamps.

    Raises:
        UnreadableError: Names without a number, or two files of one number.
    """
    files = _images(path)
    if stamped := _stamped(files):
        return dict(enumerate(stamped, start=1)), True
    return {number - first + 1: file for number, file in numbered(files).items()}, False


def image(path: Path, bits: int = 16) -> Pixels:
    """Returns the pixels of a picture, (h, w, 3) uint8 RGB.

    Args:
        path: The file.
        bits: How many bits of 16 the values of a 16-bit picture fill; of them the upper eight are kept.

    Raises:
        UnreadableError: No regular file, no picture, or one too large to be decoded.
    """
    return picture(path.name, _content(path), bits)


def picture(name: str, data: bytes, bits: int = 16) -> Pixels:
    """Returns the pixels of a picture of these bytes, (h, w, 3) uint8 RGB.

    Args:
        name: What it is called in messages.
        data: The content of a file.
        bits: As in `image`.

    Raises:
        UnreadableError: It is no picture, or one too large to be decoded.
    """
    import cv2

    pixels = _decoded(name, data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise UnreadableError(f"{name} is not a readable image")
    if pixels.dtype == np.uint16:
        pixels = np.minimum(np.asarray(pixels, np.uint16) >> (bits - 8), 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)


def _decoded(name: str, data: bytes, how: int) -> NDArray[Any]:
    """Returns the values of a picture as OpenCV has them."""
    import cv2

    _check_size(name, data)
    try:
        # From memory: given a file's name that is not UTF-8, OpenCV ends the process.
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), how)
    except (cv2.error, MemoryError) as error:
        raise UnreadableError(f"{name} is not a readable image: {error}") from error
    if pixels is None:
        raise UnreadableError(f"{name} is not a readable image")
    return np.asarray(pixels)


def _check_size(name: str, data: bytes) -> None:
    """Raises UnreadableError if a header declares more pixels than a frame may have, or than its PNG file can hold.

    OpenCV would allocate memory for all of them. Its own limit is higher, and is set for the whole process.
    """
    size = declared_size(data)
    if size is None:
        reason = ": its content is no whole BMP, JPEG, PNG, PNM, TIFF or WebP" if data else ": it is empty"
        raise UnreadableError(f"{name} is not a readable image{reason}")
    width, height = size
    png = data[:8] == _PNG
    # In the smallest PNG files a row takes one bit a pixel and one byte, before it is compressed.
    if width * height > MAX_PIXELS or (png and height * (1 + width // 8) > _MOST_DEFLATED * len(data)):
        raise UnreadableError(f"{name} says that it is {width} x {height} pixels large, in {len(data)} bytes")
    if png:
        _check_whole(name, data)


def _check_whole(name: str, data: bytes) -> None:
    """Raises UnreadableError where the last chunk of a PNG file ends beyond the file."""
    place = 8
    while place + 12 <= len(data):
        place += 12 + int.from_bytes(data[place : place + 4])
    if place > len(data):
        raise UnreadableError(f"{name} is not a readable image: it is {place - len(data)} bytes too short")


def _content(path: Path) -> bytes:
    """Reads a regular file; anything else (a pipe, a device) might never end."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(handle, "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise UnreadableError(f"{path.name} is no regular file")
            if found.st_size > _MAX_BYTES:
                raise UnreadableError(f"{path.name} has {found.st_size} bytes: too many for a picture")
            return file.read()
    except FileNotFoundError as error:
        raise UnreadableError(
            f"{path.name} is a link to nothing" if path.is_symlink() else f"{path.name} is gone"
        ) from error
    except OSError as error:
        raise UnreadableError(f"{path.name}: {error.strerror}") from error


def _images(path: Path) -> list[Path]:
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from error
    return [path / name for name in names if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES]


def numbered(files: Iterable[Path]) -> dict[int, Path]:
    """Returns files by the digits at the end of their names; raises UnreadableError if there are none or duplicates."""
    found: dict[int, Path] = {}
    for file in files:
        digits = re.search(r"[0-9]+$", file.stem)
        if digits is None:
            raise UnreadableError(f"{file.name} has no frame number at the end of its name")
        number = int(digits[0][-18:])  # a longer one is no frame number, and does not fit anywhere
        if number in found:
            raise UnreadableError(f"{found[number].name} and {file.name} are both frame {number}")
        found[number] = file
    return found


def _stamped(files: Sequence[Path]) -> list[Path]:
    """Returns the files by time where all names are time stamps, none where they are not.

    Names such as `0001.0001.png` are a clip and a frame: numbers of one and the same second are times only where they
    are as long as those of a clock.
    """
    stems = [file.stem for file in files]
    if not stems or not all(map(_STAMP.fullmatch, stems)):
        return []
    seconds = {stem.partition(".")[0] for stem in stems}
    if len(seconds) == 1 and len(stems[0].partition(".")[0]) < _CLOCK_DIGITS:
        return []
    times: dict[Decimal, Path] = {}
    for file in files:
        other = times.setdefault(Decimal(file.stem), file)
        if other is not file:
            raise UnreadableError(f"{other.name} and {file.name} are of the same time")
    return [times[time] for time in sorted(times)]


def _bits(files: Sequence[Path]) -> tuple[int, str]:
    """Returns how many bits the values of 16-bit pictures fill, and a remark where that is a guess.

    A PNG file scales its values to all 16 bits. Cameras write their 12 bits as they come; shown as 16 they are black.
    So where the file's sBIT chunk names fewer bits, and no picture of the folder goes beyond them, they are believed;
    without one, a folder whose values all stay below 2^12 is taken for 12 bits, and that is remarked.
    """
    try:
        head = _content(files[0])[:4096] if files else b""
    except UnreadableError:
        return 16, ""
    if (
        files
        and files[0].suffix.lower() not in (".ppm", ".tif", ".tiff")
        and not (head[:8] == _PNG and head[24:25] == b"\x10")
    ):
        return 16, ""
    chunk = head.find(b"sBIT") if head[:8] == _PNG else -1
    said = max(head[chunk + 4 : chunk + 4 + int.from_bytes(head[chunk - 4 : chunk])], default=16) if chunk > 8 else 16
    bits = said if 8 <= said < 16 else 12
    brightest = 0
    for file in files:
        brightest = max(brightest, _brightest(file))
        if brightest >= 2**bits:
            return 16, ""
    if not brightest or said < 16:
        return (bits, "") if brightest else (16, "")
    return (
        bits,
        f"the brightest of its 16-bit values is {brightest}: taken for 12-bit values, "
        "for an sBIT chunk that says so is missing",
    )


def _brightest(file: Path) -> int:
    import cv2

    try:
        pixels = _decoded(file.name, _content(file), cv2.IMREAD_UNCHANGED)
    except UnreadableError:
        return 0
    return int(pixels.max()) if pixels.dtype == np.uint16 else 2**16
