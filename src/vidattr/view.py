"""How a network looks at a clip: frames, size, geometry, and the arithmetic from bytes to its input and back."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum, auto

import torch
from torch import Tensor

from vidattr.errors import ConfigError


class Geometry(StrEnum):
    """How a frame becomes `size`: stretched, resized and cropped in the centre, or fitted with black bars."""

    squash = auto()
    crop = auto()
    letterbox = auto()


class Sampling(StrEnum):
    """Which frames of a clip are taken (`video.sample`)."""

    uniform = auto()
    floor = auto()
    stride = auto()
    released_first = auto()
    released_last = auto()


class Channels(StrEnum):
    """Order of the colour channels in the network's input."""

    rgb = auto()
    bgr = auto()


@dataclass(frozen=True)
class View:
    """The preprocessing of one network.

    Attributes:
        frames: T, the number of frames.
        size: (H, W) of the input.
        geometry: How a frame becomes `size`.
        resize: With `crop`: [short side] or [height, width] before the crop; empty: the short side becomes min(size).
        sampling: Which frames are taken.
        stride: With `stride` sampling: the distance between two frames.
        mean: Per channel, in the input's channel order, after `max_value`.
        std: Per channel.
        max_value: What a white pixel is before mean and std: 1 or 255.
        channels: rgb or bgr.
    """

    frames: int = 16
    size: list[int] = field(default_factory=lambda: [112, 112])
    geometry: Geometry = Geometry.squash
    resize: list[int] = field(default_factory=list)
    sampling: Sampling = Sampling.uniform
    stride: int = 1
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
        if self.frames < 1 or self.stride < 1 or min(self.size) < 1:
            raise ConfigError(f"model.input: frames={self.frames} stride={self.stride} size={list(self.size)}", expected="positive numbers")

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
        return torch.tensor(list(values), dtype=like.dtype, device=like.device).view(-1, 1, 1, 1)
