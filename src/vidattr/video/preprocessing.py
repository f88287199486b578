"""The preprocessing of a network: frames, size, geometry, and the arithmetic from bytes to its input and back."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from enum import StrEnum, auto

import torch
from torch import Tensor

from vidattr.config.fields import LATER
from vidattr.errors import ConfigError


class Geometry(StrEnum):
    """How a frame becomes `size`: stretched, resized and cropped in the centre, or fitted with black bars."""

    squash = auto()
    crop = auto()
    letterbox = auto()


class Resample(StrEnum):
    """Bilinear resizing: `opencv` reads four neighbours, `pillow` applies a low-pass filter when it shrinks."""

    opencv = auto()
    pillow = auto()


class LongSide(StrEnum):
    """Rounding of the long side where the short side decides the size."""

    floor = auto()
    nearest = auto()


class CropAt(StrEnum):
    """Rounding of the offset of a centre crop that ends in half a pixel: to the even number, down or up."""

    even = auto()
    floor = auto()
    ceil = auto()


class Sampling(StrEnum):
    """The rule that selects the frames of a clip (`sampling.sample`)."""

    uniform = auto()
    ends = auto()
    floor = auto()
    stride = auto()
    center = auto()  # type: ignore[assignment]  # str has a method of that name
    dense = auto()
    windows = auto()
    span = auto()
    transformers = auto()
    released_first = auto()
    released_last = auto()


PLACED = frozenset(
    {Sampling.stride, Sampling.center, Sampling.dense, Sampling.windows, Sampling.span, Sampling.transformers},
)
"""The rules that use a part of the clip, of a length in frames or seconds; the others use the whole clip."""


class Short(StrEnum):
    """What follows the last frame of a clip that is too short: the last frame again, or the clip from its start."""

    hold = auto()
    loop = auto()


class Channels(StrEnum):
    """Order of the colour channels in the network's input."""

    rgb = auto()
    bgr = auto()


_LARGEST = 8192  # frames, or pixels of a side
_FARTHEST = 1_000_000  # frames between two that are taken


@dataclass(frozen=True)
class Preprocessing:
    """The preprocessing of one network.

    Attributes:
        frames: T, the number of frames.
        size: (H, W) of the input.
        geometry: How a frame becomes `size`.
        resize: With `crop`: [short side] or [height, width] before the crop; empty: the short side becomes min(size).
        resample: Interpolation of the resizing.
        long_side: With `crop` and one number in `resize`: rounding of the long side.
        crop_at: With `crop`: rounding of the offset.
        sampling: The rule that selects frames. `stride`, `place`, `start` and `short` only matter for rules that use a
            part of the clip (`PLACED`).
        stride: Distance between two selected frames.
        fps: Frames per second to which a video is resampled first; None: it is not resampled.
        place: Position of the part in the clip: 0 at its start, 0.5 in its middle, 1 at its end; `stride` starts at 0.
        start: Start of the part in seconds; None: by `place`.
        short: What follows the last frame of a clip that is too short.
        unknown_fps: Frames per second of a source without a frame rate, such as a folder of frames; None: such a source
            is not resampled.
        mean: Per channel, in the input's channel order, after `max_value`.
        std: Per channel.
        max_value: Value of a white pixel before mean and std are applied: 1 or 255.
        channels: rgb or bgr.
    """

    frames: int = 16
    size: list[int] = field(default_factory=lambda: [112, 112])
    geometry: Geometry = Geometry.squash
    resize: list[int] = field(default_factory=list)
    resample: Resample = field(default=Resample.opencv, metadata=LATER)
    long_side: LongSide = field(default=LongSide.floor, metadata=LATER)
    crop_at: CropAt = field(default=CropAt.even, metadata=LATER)
    sampling: Sampling = Sampling.uniform
    stride: int = 1
    fps: float | None = field(default=None, metadata=LATER)
    place: float = field(default=0.5, metadata=LATER)
    start: float | None = field(default=None, metadata=LATER)
    short: Short = field(default=Short.hold, metadata=LATER)
    unknown_fps: float | None = field(default=None, metadata=LATER)
    mean: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    std: list[float] = field(default_factory=lambda: [1.0, 1.0, 1.0])
    max_value: float = 1.0
    channels: Channels = Channels.rgb

    def __post_init__(self) -> None:
        for name, length in (("size", (2,)), ("resize", (0, 1, 2)), ("mean", (3,)), ("std", (3,))):
            value = getattr(self, name)
            if len(value) not in length:
                raise ConfigError(
                    f"model.input.{name} has {len(value)} values: {list(value)}",
                    expected=" or ".join(str(n) for n in length) + " values",
                )
        for name, low, high in (
            ("frames", 1, _LARGEST),
            ("stride", 1, _FARTHEST),
            ("size", 1, _LARGEST),
            ("resize", 1, _LARGEST),
        ):
            value = getattr(self, name)
            if not all(low <= one <= high for one in (value if isinstance(value, list | tuple) else [value])):
                raise ConfigError(f"model.input.{name}={value}", expected=f"positive numbers, at most {high}")
        for name, positive in (("mean", False), ("std", True), ("max_value", True)):
            value = getattr(self, name)
            numbers = value if isinstance(value, list | tuple) else [value]
            if not all(math.isfinite(one) and (one > 0 or not positive) for one in numbers):
                raise ConfigError(
                    f"model.input.{name}={value}", expected=f"{'positive' if positive else 'finite'} numbers"
                )
        if any(rate is not None and not 0 < rate < math.inf for rate in (self.fps, self.unknown_fps)):
            raise ConfigError(
                f"model.input: fps={self.fps} unknown_fps={self.unknown_fps}", expected="positive numbers, or null"
            )
        if not 0 <= self.place <= 1:
            raise ConfigError(f"model.input.place={self.place}", expected="0 (the start of the clip) to 1 (its end)")
        if self.start is not None and not 0 <= self.start < math.inf:
            raise ConfigError(f"model.input.start={self.start}", expected="seconds from the start of the clip, or null")
        if self.start is not None and self.sampling not in PLACED:
            raise ConfigError(
                f"model.input.start={self.start} with sampling={self.sampling.value}, which uses the whole clip",
                expected=f"input.sampling={'|'.join(kind.value for kind in Sampling if kind in PLACED)}",
            )

    @property
    def timed(self) -> bool:
        """Whether the selected frames depend on the frame rate of the source."""
        return self.fps is not None or self.start is not None

    @property
    def taken(self) -> str:
        """The selection of frames, for captions: "32 frames, center sampling (stride 2, 30 fps, place 0.5, loop)"."""
        words = f"{self.frames} frames, {self.sampling.value} sampling"
        rate = [] if self.fps is None else [f"{self.fps:g} fps"]
        if self.sampling not in PLACED:
            return f"{words} ({rate[0]})" if rate else words
        place = "from the start" if self.sampling is Sampling.stride else f"place {self.place:.3g}"
        first = place if self.start is None else f"from {self.start:g} s"
        return f"{words} ({', '.join([f'stride {self.stride}', *rate, first, self.short.value])})"

    def normalise(self, pixels: Tensor) -> Tensor:
        """Turns (N, T, H, W, 3) uint8 RGB into the network's (N, C, T, H, W) float32 input, on the same device."""
        x = pixels.permute(0, 4, 1, 2, 3).float().mul_(self.max_value / 255)
        if self.channels is Channels.bgr:
            x = x.flip(1)
        return (x - self._column(self.mean, x)).div_(self._column(self.std, x)).contiguous()

    def denormalise(self, frames: Tensor) -> Tensor:
        """Inverts `normalise`: (N, C, T, H, W) float32 to (N, T, H, W, 3) uint8 RGB, for pictures and optical flow."""
        x = frames * self._column(self.std, frames) + self._column(self.mean, frames)
        if self.channels is Channels.bgr:
            x = x.flip(1)
        x = x.mul(255 / self.max_value).round_().clamp_(0, 255)
        return x.to(torch.uint8).permute(0, 2, 3, 4, 1).contiguous()

    def colour(self, frames: Tensor, level: float) -> Tensor:
        """Returns the input value (C, 1, 1, 1) of a uniform grey pixel, `level` 0 being black and 1 white."""
        return (level * self.max_value - self._column(self.mean, frames)) / self._column(self.std, frames)

    @staticmethod
    def _column(values: list[float], like: Tensor) -> Tensor:
        return _constant(tuple(values), like.dtype, like.device)


@functools.lru_cache(maxsize=64)  # a copy to a GPU makes the host wait for it
def _constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=dtype, device=device).view(-1, 1, 1, 1)
