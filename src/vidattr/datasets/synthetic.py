"""Clips drawn by code from a seed, so that the evidence for the class is known by construction."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum, auto
from functools import partial
from typing import ClassVar

import numpy as np

from vidattr.config.fields import not_in_key
from vidattr.datasets.shared import scenes
from vidattr.datasets.shared.drawn_clips import DrawnClips
from vidattr.errors import ConfigError
from vidattr.types import Clip, Index, Pixels

CLASSES = (*scenes.SHAPES, *scenes.TEXTURES)


class Variant(StrEnum):
    """What decides the class: the shape of a moving object, or the texture of the background."""

    object = auto()
    texture = auto()


class Split(StrEnum):
    """Which stream of random numbers the clips come from; no two streams share a clip."""

    train = auto()
    val = auto()
    test = auto()


@dataclass(frozen=True)
class Synthetic:
    """Moving shapes over a background, with exact boxes and segments.

    In both variants an object, one of four shapes, moves through a contiguous 40 to 60 % of the clip and is absent
    otherwise, while one or two distractors of other shapes, of the same sizes, colours and speeds, move through the
    whole clip. `boxes` and `segment` say where and when the object is. With `variant=object` its shape is the class, on
    a plain background: the boxes hold all the evidence. With `variant=texture` the class is one of four textures that
    cover the background, and the object's shape is drawn independently of it: a map that follows the object is wrong.

    A clip depends only on seed, variant, split, its index, `frames` and `size`, so the first clips are the same
    whatever `clips` is. The label is the index modulo four, so consecutive clips are balanced over the classes.

    Attributes:
        variant: What decides the class.
        split: The bundled networks were trained on train, without model selection; explanations use test.
        seed: Another seed gives another dataset.
        clips: Number of clips.
        frames: Frames in a clip, at least 8.
        size: Height and width of a frame in pixels, at least 32.
    """

    version: ClassVar[int] = 1

    variant: Variant = Variant.object
    split: Split = Split.test
    seed: int = 0
    clips: int = not_in_key(48)
    frames: int = 32
    size: int = 128

    def __post_init__(self) -> None:
        if not (1 <= self.clips <= 10**7 and 8 <= self.frames <= 10**5 and 32 <= self.size <= 8192 and self.seed >= 0):
            raise ConfigError(
                f"dataset: clips={self.clips} frames={self.frames} size={self.size} seed={self.seed}",
                expected="1 to 10^7 clips, 8 to 10^5 frames (an object is shown in 40 % of them), 32 to 8192 pixels, "
                "a seed from 0",
            )

    def index(self) -> Index:
        """Returns the clips by number; a clip is laid out when it is accessed and drawn when its `source` is called."""
        return Index(DrawnClips(self, range(self.clips)))

    def scene(self, number: int) -> scenes.SyntheticScene:
        """Returns the scene of clip `number` (from 0)."""
        name = f"{self.seed}/{self.variant.value}/{self.split.value}/{number}"
        random = np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:16]))
        label = self._label(number)
        if self.variant is Variant.object:
            return scenes.scene(random, shape=label, texture=None)
        return scenes.scene(random, shape=None, texture=label)

    def _label(self, number: int) -> str:
        names = list(scenes.SHAPES if self.variant is Variant.object else scenes.TEXTURES)
        return names[number % len(names)]

    def clip(self, number: int) -> Clip:
        """Returns clip `number` (from 0)."""
        target = self.scene(number).target
        shown = target.frames(self.frames)
        # The number comes before the label, so that the first clips by id cover all classes.
        name = f"{self.variant.value}-{number:04d}-{self._label(number)}"
        return Clip(
            id=name,
            source=partial(_draw, self, number),
            label=self._label(number),
            video=name,
            boxes=target.boxes(self.size, self.frames),
            box_size=(self.size, self.size),
            segment=(shown.start + 1, shown.stop),
        )


def _draw(dataset: Synthetic, number: int) -> Pixels:
    return dataset.scene(number).draw(dataset.size, dataset.frames)
