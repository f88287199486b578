"""Photographs that the wheel of scikit-image holds: nothing is downloaded, and each file is known by its hash.

All are in the public domain, under CC0, or without known copyright restrictions (`docs/DATA.md` lists the sources).
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vidattr.datasets.planting.sprites import Floats, offsets, window
from vidattr.errors import ConfigError
from vidattr.types import Pixels

FILES = {
    "astronaut.png": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    "chelsea.png": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    "coffee.png": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
    "rocket.jpg": "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
    "coins.png": "f8d773fc9cfa6f4d8e5942dc34d0a0788fcaed2a4fefbbed0aef5398d7ef4cba",
    "retina.jpg": "38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6",
    "hubble_deep_field.jpg": "3a19c5dd8a927a9334bb1229a6d63711b1c0c767fb27e2286e7c84a3e2c2f5f4",
    "brick.png": "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf",
    "grass.png": "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89",
    "gravel.png": "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12",
}
# A file, and the centre (x, y) and the radius in its pixels of the disc that is cut out.
OBJECTS = {
    "astronaut": ("astronaut.png", (222, 110), 78),
    "cat": ("chelsea.png", (245, 150), 140),
    "coffee": ("coffee.png", (300, 180), 165),
    "rocket": ("rocket.jpg", (320, 230), 165),
}
OTHERS = {
    "coin": ("coins.png", (336, 44), 30),
    "retina": ("retina.jpg", (705, 705), 690),
    "stars": ("hubble_deep_field.jpg", (640, 440), 150),
}
BACKGROUNDS = ("brick.png", "grass.png", "gravel.png")


def check() -> None:
    """Raises ConfigError where a photograph is missing, or is another one than this version draws with."""
    for name in FILES:
        load(name)


@functools.cache
def load(name: str) -> Pixels:
    """Returns a photograph (H, W, 3); raises ConfigError where scikit-image or the file is missing or another one."""
    from PIL import Image

    remedy = "pip install --force-reinstall scikit-image, or choose another dataset.family"
    found = importlib.util.find_spec("skimage")
    if found is None or not found.submodule_search_locations:
        raise ConfigError(
            "dataset.family=photographs draws photographs of scikit-image, which is not installed", remedy=remedy
        )
    path = Path(found.submodule_search_locations[0]) / "data" / name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"no photograph {path}: {error.strerror}", remedy=remedy) from None
    if hashlib.sha256(content).hexdigest() != FILES[name]:
        raise ConfigError(
            f"the photograph {path} is not the one that clips are drawn with",
            expected=f"sha256 {FILES[name]}, as in scikit-image 0.26",
            remedy="pip install scikit-image==0.26.0, or choose another dataset.family",
        )
    with Image.open(path) as picture:
        return np.array(picture.convert("RGB"))


@dataclass(frozen=True)
class Cutout:
    """A disc that is cut out of a photograph.

    Attributes:
        name: One of `OBJECTS` and `OTHERS`.
        grey: Whether it is drawn without its colours, and with the mean and the contrast that all grey ones have.
        gain: Factor of its brightness.
    """

    name: str
    grey: bool
    gain: float

    def __call__(self, radius: float) -> tuple[Floats, Floats]:
        """Draws it, as a `Look`."""
        across = offsets(radius)
        distance = (np.hypot(across[None, :], across[:, None]) - 0.95) * radius
        cover = np.clip(0.5 - distance, 0, 1).astype(np.float32)
        return np.minimum(_cut(self.name, self.grey, window(radius)) * np.float32(self.gain), 255), cover


@functools.cache
def _cut(name: str, grey: bool, side: int) -> Floats:
    import cv2

    file, (x, y), radius = (OBJECTS | OTHERS)[name]
    photograph = load(file)[y - radius : y + radius, x - radius : x + radius]
    cut = cv2.resize(photograph, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
    if grey:
        level = cut.mean(2, keepdims=True)
        cut = np.repeat(np.clip(128 + 50 * (level - level.mean()) / level.std(), 0, 255), 3, 2)
    return np.asarray(cut, np.float32)


def background(file: str, corner: tuple[float, float], side: float, mirrored: bool, size: int) -> Floats:
    """Returns a square (size, size, 3) of a photograph.

    Args:
        file: One of `BACKGROUNDS`.
        corner: Its top left corner: share of the room that it has, (x, y).
        side: Side of the square, as a share of the photograph's.
        mirrored: Whether left and right are exchanged.
        size: Pixels of the result.
    """
    import cv2

    photograph = load(file)
    width = int(side * min(photograph.shape[:2]))
    x, y = (int(c * (length - width)) for c, length in zip(corner, photograph.shape[1::-1], strict=True))
    square = cv2.resize(photograph[y : y + width, x : x + width], (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(square[:, ::-1] if mirrored else square, np.float32)
