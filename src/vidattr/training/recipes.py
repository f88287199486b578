"""A recipe: all that decides a training, except the model and the dataset."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum, auto
from typing import Any, ClassVar

from vidattr.errors import ConfigError

_START_DIVISOR, _END_DIVISOR = 25.0, 25.0 * 1e4  # of the highest rate, at both ends of one cycle; torch's OneCycleLR
_MOMENTUM = (0.95, 0.85)  # of one cycle: where the rate is lowest and where it is highest; torch's OneCycleLR


class Axis(IntEnum):
    """An axis of (N, T, H, W, 3) pixels along which a flipped clip keeps its class."""

    time = 1
    height = 2
    width = 3


class Optimizer(StrEnum):
    """AdamW (Loshchilov and Hutter, ICLR 2019, arXiv 1711.05101), or SGD with momentum."""

    adamw = auto()
    sgd = auto()


class Schedule(StrEnum):
    """The change of the learning rate.

    `one_cycle`: up and down once, step by step (Smith and Topin, 2018, arXiv 1708.07120). `cosine`: a linear warm-up,
    then half a cosine to zero, step by step (Loshchilov and Hutter, ICLR 2017, arXiv 1608.03983). `steps`: times
    `gamma` at each milestone.
    """

    one_cycle = auto()
    cosine = auto()
    steps = auto()


class Frames(StrEnum):
    """The selection of a training clip's frames.

    `preprocessing`: the frames of test time. `random`: random frames in each epoch. `frozen`: random frames, the same
    in all epochs. Held-out and test clips always have the frames of test time.
    """

    preprocessing = auto()
    random = auto()
    frozen = auto()


class Select(StrEnum):
    """Which epoch's weights are the result.

    It is the most accurate epoch on held-out videos or on the test split, or the last epoch.
    """

    held_out = auto()
    test = auto()
    last = auto()


class Apart(StrEnum):
    """How training clips are kept apart from the test split.

    `video`: no training clip is from a video of the test split. `clip`: no training clip is a clip of the test split.
    """

    video = auto()
    clip = auto()


class Start(StrEnum):
    """The weights that training starts from unless `model.weights` is given: the model config's own, or random ones."""

    model = auto()
    random = auto()


class Head(StrEnum):
    """Whether the network keeps its last layer or gets a new one.

    A kept layer's classes must be those of the clips; a new one is made for their classes.
    """

    keep = auto()
    new = auto()


class Layers(StrEnum):
    """The layers that are trained: the whole network, or its last layer."""

    all = auto()
    head = auto()


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: on the cross-entropy, with every clip exactly once in an epoch.

    Attributes:
        train: Name to the config of a further dataset (`_target_` and fields), whose clips are added to those of
            `dataset=`.
        held_out: The same for datasets on which accuracy and loss are measured after each epoch, each on its own.
        fit: Fields of `dataset=` with other values, which make it the training split; empty: it is as configured.
        test: Fields of `dataset=` with other values, which make it the test split. Empty: there is no test split.
        apart: Whether all clips of the test split's videos are left out of the training clips, or only its clips.
        select: The epoch whose weights are the result.
        share: Share of the training videos that is held out; at least one video of each class is kept for training.
        start: The initial weights.
        head: Whether the last layer is replaced.
        layers: The trained layers. With `head` the other layers do not change, nor do their batch statistics.
        epochs: Passes over the clips.
        batch: Largest number of clips in an optimisation step; the sizes of an epoch's batches differ by at most one.
        accumulate: Parts into which a batch is divided, with one pass each, whose gradients are added. The step is the
            same up to rounding, except for batch normalisation (statistics of a part) and dropout (another order of
            random numbers). Doubled automatically if memory runs out.
        frames: The selection of a training clip's frames.
        clips_per_video: How often each training clip appears in an epoch, with other frames each time.
        optimizer: adamw or sgd.
        lr: The highest learning rate.
        momentum: Momentum of sgd.
        weight_decay: Weight decay of the optimizer.
        schedule: The change of the rate.
        warm_up: Share of the steps in which the rate of one_cycle or cosine rises.
        milestones: Epochs, counted from 0, at whose start the rate of `steps` falls.
        gamma: The factor of this fall.
        flips: Axes, of time, height and width, along which a training clip is flipped with probability 1/2.
        crop: Smallest height and width of a random crop, as a share of the frame's; resized to the frame's size. 1: no
            crop.
        permute_colours: Whether the colour channels of a clip are put into a random order.
        mixed_precision: Whether products are computed in bfloat16 on a GPU that supports it; weights stay float32.
        patience: Epochs without improvement (`select`) after which training stops; null: it never stops early.
        seed: Seed of the split, the order, the frames, the augmentation, the dropout and a new last layer.
    """

    version: ClassVar[int] = 1

    train: dict[str, Any] = field(default_factory=dict)
    held_out: dict[str, Any] = field(default_factory=dict)
    fit: dict[str, Any] = field(default_factory=dict)
    test: dict[str, Any] = field(default_factory=dict)
    apart: Apart = Apart.video
    select: Select = Select.held_out
    share: float = 0.2
    start: Start = Start.model
    head: Head = Head.new
    layers: Layers = Layers.all
    epochs: int = 30
    batch: int = 16
    accumulate: int = 1
    frames: Frames = Frames.random
    clips_per_video: int = 1
    optimizer: Optimizer = Optimizer.adamw
    lr: float = 0.0003
    momentum: float = 0.9
    weight_decay: float = 0.05
    schedule: Schedule = Schedule.cosine
    warm_up: float = 0.1
    milestones: list[int] = field(default_factory=list)
    gamma: float = 0.1
    flips: list[Axis] = field(default_factory=list)
    crop: float = 1.0
    permute_colours: bool = False
    mixed_precision: bool = False
    patience: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "accumulate", "clips_per_video", "lr", "gamma"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"recipe.{name}={getattr(self, name)}", expected="a positive number")
        for name in ("weight_decay", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"recipe.{name}={getattr(self, name)}", expected="zero or more")
        for name in ("warm_up", "share", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"recipe.{name}={getattr(self, name)}", expected="0 or more, less than 1")
        if not 0 < self.crop <= 1:
            raise ConfigError(
                f"recipe.crop={self.crop}", expected="more than 0, at most 1: a share of the frame's height and width"
            )
        if self.patience is not None and self.patience < 1:
            raise ConfigError(f"recipe.patience={self.patience}", expected="1 or more epochs, or null")
        if any(milestone < 1 for milestone in self.milestones):
            raise ConfigError(f"recipe.milestones={list(self.milestones)}", expected="epochs, 1 or more")
        if self.select is Select.held_out and not self.share:
            raise ConfigError(
                "recipe.select=held_out with recipe.share=0",
                expected="a share of the training videos to hold out",
                remedy="recipe.share=0.2, or recipe.select=last",
            )
        if self.select is Select.test and not self.test:
            raise ConfigError(
                "recipe.select=test, and recipe.test is empty",
                expected="fields of the dataset that make its test split",
                remedy="recipe.test.split=FILE, or recipe.select=held_out",
            )
        if self.patience is not None and self.select is Select.last:
            raise ConfigError(
                f"recipe.patience={self.patience} with recipe.select=last",
                expected="a measure that stops improving",
                remedy="recipe.select=held_out, or recipe.patience=null",
            )
        if self.frames is Frames.preprocessing and self.clips_per_video > 1:
            raise ConfigError(
                f"recipe.clips_per_video={self.clips_per_video} with "
                "recipe.frames=preprocessing, which takes the same frames each time",
                remedy="recipe.frames=frozen or random",
            )

    def rate(self, step: int, steps: int) -> tuple[float, float | None]:
        """Returns the learning rate of an optimisation step, and its momentum.

        The momentum (Adam's first beta) is given where the schedule decides it.

        Args:
            step: Of the whole training, from 0.
            steps: In an epoch.
        """
        if self.schedule is Schedule.steps:
            return self.lr * self.gamma ** sum(step // steps >= milestone for milestone in self.milestones), None
        total = self.epochs * steps
        if self.schedule is Schedule.cosine:
            rising = self.warm_up * total
            if step < rising:
                return self.lr * (step + 1) / (rising + 1), None
            return self.lr * _between(1.0, 0.0, (step - rising) / max(total - rising, 1)), None
        top = max(self.warm_up * total - 1, 0)
        if step <= top and top:
            share = step / top
            return self.lr * _between(1 / _START_DIVISOR, 1.0, share), _between(_MOMENTUM[0], _MOMENTUM[1], share)
        share = min((step - top) / max(total - 1 - top, 1), 1.0)
        return self.lr * _between(1.0, 1 / _END_DIVISOR, share), _between(_MOMENTUM[1], _MOMENTUM[0], share)


def _between(start: float, end: float, share: float) -> float:
    """Returns a value on half a cosine from `start` (share 0) to `end` (share 1)."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
