"""The corrected person tubes of UCF101-24, from `pyannot.pkl` or `finalAnnots.mat`; both hold the same tubes.

A pickle can run code when it is loaded. `array_pickle` reads numbers, text and arrays from it without running anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidattr.array_pickle import arrays_of
from vidattr.datasets.shared import matlab as _matlab5
from vidattr.datasets.shared.files import parsing
from vidattr.errors import ConfigError
from vidattr.types import Box

FRAME_SIZE = (320, 240)
"""(width, height) of the frames that the tubes were drawn on."""


@dataclass(frozen=True)
class PersonTube:
    """One person over some frames.

    Attributes:
        first: Number of the first frame, 1-based.
        boxes: (n, 4) int64: x, y, width and height in frames of `FRAME_SIZE`, on frames first … first + n − 1; x and y
            of the corner, 1-based.
    """

    first: int
    boxes: NDArray[np.int64]


@dataclass(frozen=True)
class PersonTubes:
    """The tubes of one video of `frames` frames, in the order of the file."""

    frames: int
    tubes: tuple[PersonTube, ...]

    def boxes(self) -> dict[int, tuple[Box, ...]]:
        """Returns frame number to boxes, 0-based with exclusive far edges.

        x0 = x − 1 and x1 = x0 + width. No box then reaches the frame's last column, so the width may have been counted
        without the last column; the error would be one pixel of 320.
        """
        found: dict[int, list[Box]] = {}
        for tube in self.tubes:
            for number, (x, y, w, h) in enumerate(tube.boxes.tolist(), start=tube.first):
                found.setdefault(number, []).append((x - 1.0, y - 1.0, x - 1.0 + w, y - 1.0 + h))
        return {number: tuple(boxes) for number, boxes in sorted(found.items())}

    def segment(self) -> tuple[int, int] | None:
        """Returns the first and last frame with a tube; None if there is no tube or if they span the whole video."""
        if not self.tubes:
            return None
        first = min(tube.first for tube in self.tubes)
        last = max(tube.first + len(tube.boxes) - 1 for tube in self.tubes)
        return None if first <= 1 and last >= self.frames else (first, last)


def load(path: str) -> Mapping[str, Callable[[], PersonTubes]]:
    """Reads an annotation file.

    Returns:
        `<Class>/<video>` to a function that returns the tubes, or raises ValueError if the entry is invalid.

    Raises:
        ConfigError: The file is missing, of another format, or holds code.
    """
    kind = "the UCF101-24 annotations: pyannot.pkl or finalAnnots.mat"
    remedy = "dataset.annotations=FILE, or dataset.annotations='' to do without boxes"
    if not Path(path).is_file():
        raise ConfigError(f"no such file: dataset.annotations={path}", expected=kind, remedy=remedy)
    with parsing(path, kind, remedy):
        return _matlab(path) if path.endswith(".mat") else _pickled(path)


def _pickled(path: str) -> dict[str, Callable[[], PersonTubes]]:
    content = arrays_of(Path(path).read_bytes())
    return {str(name): partial(_from_dict, entry) for name, entry in content.items()}


def _from_dict(entry: dict[str, Any]) -> PersonTubes:
    try:
        # sf is 0-based, ef exclusive.
        tubes = tuple(_tube(int(t["sf"]) + 1, int(t["ef"]), t["boxes"].values) for t in entry["annotations"])
        return PersonTubes(int(entry["numf"]), tubes)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an annotation: {error}") from error


def _matlab(path: str) -> dict[str, Callable[[], PersonTubes]]:
    return {str(one["name"]): partial(_from_struct, one) for one in _matlab5.variable(Path(path).read_bytes(), "annot")}


def _from_struct(entry: Any) -> PersonTubes:
    # Here sf is 1-based and ef inclusive. A video without tubes has an empty array of numbers.
    tubes = tuple(_tube(_scalar(t["sf"]), _scalar(t["ef"]), t["boxes"]) for t in entry["tubes"])
    return PersonTubes(_scalar(entry["num_imgs"]), tubes)


def _scalar(value: NDArray[Any]) -> int:
    return int(value.item())


def _tube(first: int, last: int, boxes: NDArray[Any]) -> PersonTube:
    if not np.isfinite(boxes).all():
        raise ValueError(f"boxes that are not finite on frames {first} to {last}")
    # The file stores uint8, in which x + width would overflow.
    tube = PersonTube(first, np.asarray(boxes).astype(np.int64))
    if first < 1 or tube.boxes.shape != (last - first + 1, 4):
        raise ValueError(f"boxes of shape {tube.boxes.shape} for frames {first} to {last}")
    return tube
