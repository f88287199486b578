"""Clips with planted evidence, drawn by code from a seed: the voxels that decide the class are known exactly."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum, auto
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.random import Generator

from vidattr.config.fields import not_in_key
from vidattr.datasets.planting import photographs
from vidattr.datasets.planting.families import FAMILIES, LEVELS, Request
from vidattr.datasets.planting.scene import PlantedScene
from vidattr.datasets.shared.drawn_clips import DrawnClips
from vidattr.datasets.synthetic import Split
from vidattr.errors import ConfigError
from vidattr.types import Clip, Index, Mask, Part, Pixels


class Family(StrEnum):
    """The kind of evidence that decides the class (`Planted`)."""

    object = auto()
    texture = auto()
    flash = auto()
    order = auto()
    motion = auto()
    both = auto()
    camera = auto()
    photographs = auto()


class Difficulty(StrEnum):
    """How hard the clips are: on hard ones, objects are smaller, distractors more, noise and clouds stronger."""

    easy = auto()
    hard = auto()


@dataclass(frozen=True)
class Planted:
    """Clips of eight families, each with another kind of evidence, with the truth for every voxel.

    Each family has four classes:

    * `object`: the shape of one of several moving objects. Evidence: the voxels that this object covers.
    * `texture`: the texture of the background, over which objects move. Evidence: all voxels that no object touches.
    * `flash`: a shape that is shown for two frames (easy) or one (hard). Evidence: what it covers in these frames.
    * `order`: which of two shapes is shown first, each for four frames (easy) or two (hard). Two classes have the same
      two shapes, so that no single frame decides. Evidence: what both shapes cover.
    * `motion`: the direction in which a disc moves; the disc looks the same in all classes, and in each single frame
      its place has the same distribution. Evidence: what the disc covers, along its path.
    * `both`: the pair of two moving objects; each alone leaves two classes. Evidence: what both cover.
    * `camera`: as `object`, while the camera pans over a landscape. Object and landscape move at speeds from the same
      range, so that the amount of optical flow does not tell where the evidence is.
    * `photographs`: which of four cut-outs of photographs moves over a photograph. Evidence: what this cut-out covers.

    A covered voxel is evidence if at least half of it is covered. All that belongs to no class, and place, time, size,
    speed and colour of the evidence, has the same distribution in every class. `boxes` hold the evidence of each frame,
    and `segment` the frames from the first evidence to the last; `texture` has neither. The segment of `order` also
    holds the frames between its events, and that of `both` the frames that show one of its objects.

    `Clip.resampled` draws a part of a clip again. New evidence is that of each other class in turn, with place, time,
    size, speed and colours unchanged; further draws change these too. `rest` draws distractors, background and noise
    again.

    A clip depends only on seed, family, level, split, its index, `frames` and `size`, so the first clips are the same
    whatever `clips` is. The label is the index modulo four: the classes of 4·n clips are exactly balanced.

    Attributes:
        family: What decides the class.
        level: How hard the clips are.
        split: Which stream of random numbers the clips come from; networks are trained on train and val, and
            explanations use test.
        seed: Another seed gives another dataset.
        clips: Number of clips.
        frames: Frames in a clip, at least 8.
        size: Height and width of a frame in pixels, at least 32.
    """

    version: ClassVar[int] = 1

    family: Family = Family.object
    level: Difficulty = Difficulty.easy
    split: Split = Split.test
    seed: int = 0
    clips: int = not_in_key(48)
    frames: int = 16
    size: int = 48

    def __post_init__(self) -> None:
        if not (1 <= self.clips <= 10**7 and 8 <= self.frames <= 10**4 and 32 <= self.size <= 1024 and self.seed >= 0):
            raise ConfigError(
                f"dataset: clips={self.clips} frames={self.frames} size={self.size} seed={self.seed}",
                expected="1 to 10^7 clips, 8 to 10^4 frames, 32 to 1024 pixels, a seed from 0",
            )

    def index(self) -> Index:
        """Returns the clips by number; a clip is laid out when it is accessed and drawn when its `source` is called.

        Raises:
            ConfigError: The photographs of the family `photographs` are not installed.
        """
        if self.family is Family.photographs:
            photographs.check()
        return Index(DrawnClips(self, range(self.clips)))

    def class_names(self) -> tuple[str, ...]:
        """Returns the names of all classes, in the order of a network's outputs."""
        return FAMILIES[self.family.value].classes

    def label(self, number: int) -> str:
        """Returns the class of clip `number` (from 0)."""
        names = self.class_names()
        return names[number % len(names)]

    def scene(self, number: int, part: Part | None = None, draw: int = 0) -> PlantedScene:
        """Returns the scene of clip `number` (from 0).

        Args:
            number: Of the clip.
            part: What is drawn again (`Clip.resampled`); None: nothing.
            draw: Number of this draw, from 0.
        """
        names = self.class_names()
        turn, other = divmod(draw, len(names) - 1)
        label = names[(number + (other + 1 if part == "evidence" else 0)) % len(names)]
        request = Request(
            label=label,
            subject=self._stream(number, "evidence", turn if part == "evidence" else 0),
            rest=self._stream(number, "rest", draw + 1 if part == "rest" else 0),
            level=LEVELS[self.level.value],
            frames=self.frames,
        )
        return FAMILIES[self.family.value].scene(request)

    def _stream(self, number: int, part: Part, draw: int) -> Generator:
        name = f"{self.seed}/{self.family.value}/{self.level.value}/{self.split.value}/{number}/{part}/{draw}"
        return np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:16]))

    def clip(self, number: int) -> Clip:
        """Returns clip `number` (from 0)."""
        scene, label = self.scene(number), self.label(number)
        # The number comes before the label, so that the first clips by id cover all classes.
        name = f"{self.family.value}-{self.level.value}-{number:07d}-{label}"
        return Clip(
            id=name,
            source=partial(_draw, self, number),
            label=label,
            video=name,
            boxes=scene.boxes(self.size, self.frames),
            box_size=(self.size, self.size),
            segment=scene.segment(),
            evidence=partial(_evidence, self, number),
            resampled=partial(_resampled, self, number),
        )


def _draw(dataset: Planted, number: int) -> Pixels:
    return dataset.scene(number).draw(dataset.size, dataset.frames)


def _evidence(dataset: Planted, number: int) -> Mask:
    return dataset.scene(number).voxels(dataset.size, dataset.frames)


def _resampled(dataset: Planted, number: int, part: Part, draw: int) -> Pixels:
    return dataset.scene(number, part, draw).draw(dataset.size, dataset.frames)
