"""The families of planted evidence: for each, the scene of a class.

A family draws the evidence from one generator of random numbers and everything else from another one, and it draws the
same numbers whatever the class is. So a scene with the same generators and another class differs in the evidence only,
and in nothing but what decides the class: place, time, size, speed and colours of the evidence stay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from vidattr.datasets.planting import backgrounds, photographs
from vidattr.datasets.planting.backgrounds import Background
from vidattr.datasets.planting.photographs import Cutout
from vidattr.datasets.planting.scene import PlantedScene
from vidattr.datasets.planting.sprites import Course, Look, PlantedSprite, Shape
from vidattr.datasets.shared.scenes import DISTRACTORS, SHAPES, TEXTURES, TURN

DIRECTIONS = {"right": (1, 0), "left": (-1, 0), "down": (0, 1), "up": (0, -1)}
ORDERS = {
    "disc_square": ("disc", "square"),
    "square_disc": ("square", "disc"),
    "cross_triangle": ("cross", "triangle"),
    "triangle_cross": ("triangle", "cross"),
}
PAIRS = {f"{one}_{other}": (one, other) for one in ("disc", "square") for other in ("cross", "triangle")}
TARGET = "disc"  # of the family motion: the outline of what moves, whatever its direction


@dataclass(frozen=True)
class Hardness:
    """How hard the clips of a level are.

    Attributes:
        radius: Smallest and largest radius of a sprite, in frame sides.
        others: Smallest and largest number of distractors.
        noise: Largest change of a voxel by noise, in grey levels.
        clouds: Contrast of a cloudy background, in grey levels.
        texture: Contrast of a textured background (`backgrounds.texture`).
        flash: Frames that show a flash.
        event: Frames that show an event of the family order.
        grey: Whether photographs of objects are grey.
    """

    radius: tuple[float, float]
    others: tuple[int, int]
    noise: int
    clouds: float
    texture: float
    flash: int
    event: int
    grey: bool


LEVELS = {
    "easy": Hardness((0.15, 0.18), (1, 2), 5, 6, 1, flash=2, event=4, grey=False),
    "hard": Hardness((0.12, 0.15), (3, 4), 14, 12, 0.5, flash=1, event=2, grey=True),
}
SPEED = (0.5, 1.1)  # smallest and largest speed, in frame sides per clip, of all that moves, the camera included
PERIOD = (0.5, 0.75)  # smallest and largest share of the clip in which a sprite is shown


@dataclass(frozen=True)
class Request:
    """What a family draws a scene from.

    Attributes:
        label: Name of the class.
        subject: Random numbers of the evidence.
        rest: Random numbers of everything else.
        level: How hard it is.
        frames: Frames of the clip.
    """

    label: str
    subject: Generator
    rest: Generator
    level: Hardness
    frames: int

    def scene(
        self,
        evidence: tuple[PlantedSprite, ...],
        others: tuple[PlantedSprite, ...],
        background: Background,
        behind: bool = False,
    ) -> PlantedScene:
        """Returns the scene of these contents."""
        return PlantedScene(background, others, evidence, int(self.rest.integers(2**32)), self.level.noise, behind)

    def sprite(self, random: Generator, look: Look, **course: bool) -> PlantedSprite:
        """Returns a moving sprite of the level's size that is shown in one part of the clip."""
        return PlantedSprite(
            look, random.uniform(*self.level.radius), _course(random, **course), _period(random, self.frames)
        )

    def distractors(self, *, wraps: bool = False) -> tuple[PlantedSprite, ...]:
        """Returns moving sprites of shapes that belong to no class."""
        count = self.rest.integers(*self.level.others, endpoint=True)
        return tuple(self.sprite(self.rest, _distractor(self.rest), wraps=wraps) for _ in range(count))

    def clouds(self) -> Background:
        """Returns a background that belongs to no class."""
        return backgrounds.clouds(self.rest, self.level.clouds)

    def still(self, random: Generator, look: Look, first: int, length: int) -> PlantedSprite:
        """Returns a sprite that is shown at any place, without motion, for `length` frames from `first` on."""
        start = random.uniform(), random.uniform()
        course = Course(start, (0, 0))
        return PlantedSprite(
            look, random.uniform(*self.level.radius), course, (first, min(first + length, self.frames))
        )


def _course(random: Generator, *, wraps: bool = False) -> Course:
    heading, speed = random.uniform(0, TURN), random.uniform(*SPEED)
    start = random.uniform(), random.uniform()
    return Course(start, (speed * np.cos(heading), speed * np.sin(heading)), wraps)


def _period(random: Generator, frames: int) -> tuple[int, int]:
    length = round(random.uniform(*PERIOD) * frames)
    first = int(random.integers(0, frames - length, endpoint=True))
    return first, first + length


def _shape(random: Generator, outline: str) -> Shape:
    return Shape(outline, backgrounds.colour(random, (0.55, 0.9), (0.85, 1.0)), random.uniform(0, TURN))


def _distractor(random: Generator) -> Shape:
    names = list(DISTRACTORS)
    return _shape(random, names[random.integers(len(names))])


def _object(ask: Request) -> PlantedScene:
    """The class is the shape of one of the moving objects; the evidence is what this object covers."""
    target = ask.sprite(ask.subject, _shape(ask.subject, ask.label))
    return ask.scene((target,), ask.distractors(), ask.clouds())


def _texture(ask: Request) -> PlantedScene:
    """The class is the texture of the background, over which objects of all shapes move.

    The evidence is all of the background that no object covers.
    """
    names = [*SHAPES, *DISTRACTORS]
    count = 1 + ask.rest.integers(*ask.level.others, endpoint=True)
    objects = tuple(ask.sprite(ask.rest, _shape(ask.rest, names[ask.rest.integers(len(names))])) for _ in range(count))
    return ask.scene((), objects, backgrounds.texture(ask.subject, ask.label, ask.level.texture), behind=True)


def _flash(ask: Request) -> PlantedScene:
    """The class is a shape that is shown at one place for two frames, or for one; the evidence is what it covers.

    Distractors move through the clip, and as many flash, for as long.
    """
    length = ask.level.flash
    first = int(ask.subject.integers(0, ask.frames - length, endpoint=True))
    target = ask.still(ask.subject, _shape(ask.subject, ask.label), first, length)
    moving = ask.distractors()
    flashes = tuple(
        ask.still(
            ask.rest, _distractor(ask.rest), int(ask.rest.integers(0, ask.frames - length, endpoint=True)), length
        )
        for _ in moving
    )
    return ask.scene((target,), (*moving, *flashes), ask.clouds())


def _order(ask: Request) -> PlantedScene:
    """The class is the order of two events, in which a shape is shown at one place; the evidence is both events.

    Two classes have the same two events, so a network that does not know the order is right in half of the clips.
    Distractors move through the clip, and as many have an event of their own.
    """
    length = ask.level.event
    # Two times at least `length` apart, all such pairs being equally likely.
    gaps = np.sort(ask.subject.choice(ask.frames - 2 * length + 2, 2, replace=False))
    times = (int(gaps[0]), int(gaps[1]) + length - 1)
    events = tuple(
        ask.still(ask.subject, _shape(ask.subject, outline), first, length)
        for outline, first in zip(ORDERS[ask.label], times, strict=True)
    )
    moving = ask.distractors()
    more = tuple(
        ask.still(
            ask.rest, _distractor(ask.rest), int(ask.rest.integers(0, ask.frames - length, endpoint=True)), length
        )
        for _ in moving
    )
    return ask.scene(events, (*moving, *more), ask.clouds())


def _motion(ask: Request) -> PlantedScene:
    """The class is the direction in which a disc moves; the evidence is what the disc covers.

    Discs of all classes look the same. Everything wraps around the edges of the frame, so that in each single frame the
    disc is anywhere, whatever its direction is. Distractors have other shapes and move in any direction.
    """
    subject = ask.subject
    look = _shape(subject, TARGET)
    radius, speed = subject.uniform(*ask.level.radius), subject.uniform(*SPEED)
    start = subject.uniform(), subject.uniform()
    x, y = DIRECTIONS[ask.label]
    target = PlantedSprite(
        look, radius, Course(start, (speed * x, speed * y), wraps=True), _period(subject, ask.frames)
    )
    return ask.scene((target,), ask.distractors(wraps=True), ask.clouds())


def _both(ask: Request) -> PlantedScene:
    """The class is the pair of two moving objects; each alone leaves two classes. The evidence is what both cover."""
    one, other = PAIRS[ask.label]
    targets = (
        ask.sprite(ask.subject, _shape(ask.subject, one)),
        ask.sprite(ask.subject, _shape(ask.subject, other)),
    )
    return ask.scene(targets, ask.distractors(), ask.clouds())


def _camera(ask: Request) -> PlantedScene:
    """The class is the shape of a moving object, while the camera pans; the evidence is what this object covers.

    The background and the object move at speeds from the same range, so that the amount of motion does not tell them
    apart.
    """
    target = ask.sprite(ask.subject, _shape(ask.subject, ask.label), wraps=True)
    return ask.scene((target,), ask.distractors(wraps=True), backgrounds.panning(ask.rest, SPEED))


def _photographs(ask: Request) -> PlantedScene:
    """The class is which cut-out of a photograph moves, over a photograph; the evidence is what this cut-out covers.

    All cut-outs are discs. On level hard they are grey, with the same mean and contrast.
    """
    grey = ask.level.grey
    target = ask.sprite(ask.subject, Cutout(ask.label, grey, ask.subject.uniform(0.8, 1.2)))
    names = list(photographs.OTHERS)
    count = ask.rest.integers(*ask.level.others, endpoint=True)
    others = tuple(
        ask.sprite(ask.rest, Cutout(names[ask.rest.integers(len(names))], grey, ask.rest.uniform(0.8, 1.2)))
        for _ in range(count)
    )
    return ask.scene((target,), others, backgrounds.photograph(ask.rest))


@dataclass(frozen=True)
class Kind:
    """A family: its classes, and what draws a scene of one of them."""

    classes: tuple[str, ...]
    scene: Callable[[Request], PlantedScene]


FAMILIES = {
    "object": Kind(tuple(SHAPES), _object),
    "texture": Kind(tuple(TEXTURES), _texture),
    "flash": Kind(tuple(SHAPES), _flash),
    "order": Kind(tuple(ORDERS), _order),
    "motion": Kind(tuple(DIRECTIONS), _motion),
    "both": Kind(tuple(PAIRS), _both),
    "camera": Kind(tuple(SHAPES), _camera),
    "photographs": Kind(tuple(photographs.OBJECTS), _photographs),
}
