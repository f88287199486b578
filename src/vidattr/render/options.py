"""How pictures are drawn, and what they show beside a map."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, auto

import cv2

from vidattr.errors import ConfigError, unknown
from vidattr.types import Box, Pixels

_RANGES = {
    "largest": (16, 16384),
    "desaturate": (0, 1),
    "opacity": (0, 1),
    "gamma": (0.01, 10),
    "percentile": (50, 100),
    "columns": (1, 64),
    "tile": (16, 2048),
    "animation_tile": (16, 2048),
    "fps": (0.1, 50),
}

_RATE = 5.0  # frames per second of an animation of frames without times


class Style(StrEnum):
    """How importance is shown: as a heat map over the frame, or by blackening unimportant pixels."""

    heat = auto()
    cutout = auto()


class Signed(StrEnum):
    """Which values of a map with negative values are shown.

    From 0 upwards; from the lowest value upwards; or both signs, positive values in red and negative ones in blue on a
    scale that is symmetric around 0.
    """

    positive = auto()
    range = auto()
    both = auto()


class Surface(StrEnum):
    """On what a map is drawn: the network's input, or the source's own frames, to which the map is resized back."""

    network = auto()
    original = auto()


class StillFormat(StrEnum):
    """The file format of the pictures that stand still. In pdf and svg a sheet is an image at its own resolution."""

    png = auto()
    webp = auto()
    pdf = auto()
    svg = auto()


@dataclass(frozen=True)
class Render:
    """Which pictures are made, and how a map is drawn.

    Attributes:
        grid: Write a PNG of all frames over their heat maps.
        gif: Write an animated GIF.
        mp4: Write the same animation as MP4, which is a tenth of the size.
        comparison: Write a sheet that compares all methods of a run on one clip, and one that compares the explained
            classes if there are several.
        format: File format of the pictures that stand still: png, webp, pdf or svg.
        frames: network: maps are drawn on the network's input. original: they are drawn on the source's own frames, in
            their aspect and resolution; what the network does not see of them is dark.
        largest: Original frames whose longer side has more pixels are reduced to it; None: none are.
        style: heat, or cutout.
        colormap: Name of an OpenCV colour map. jet: as in the papers; turbo, viridis, inferno, cividis: even steps.
        desaturate: 0…1, how far the frames below a heat map lose their colours, which can look like heat; 1: grey.
        opacity: 0…1, the share of its colour in the most important pixel; cutout: of black in the least important one.
        gamma: Exponent of the heat map's blending; smaller shows weaker heat.
        signed: positive: a map with negative values is shown from 0 upwards; range: from its lowest value; both: red
            for positive and blue for negative values, whatever `colormap` says.
        percentile: Values above this percentile of the clip, and below its complement, are clipped, so that a few
            extreme voxels of a gradient do not darken all others; 100: no clipping.
        columns: Frames in a row of a sheet.
        tile: Smallest length in pixels of the longer side of a frame in a sheet.
        animation_tile: The same for an animation.
        fps: Frames per second of an animation; None: as fast as the clip itself, or 5 where its times are unknown.
        boxes: Draw the annotated boxes.
    """

    grid: bool = True
    gif: bool = True
    mp4: bool = True
    comparison: bool = True
    format: StillFormat = StillFormat.png
    frames: Surface = Surface.network
    largest: int | None = None
    style: Style = Style.heat
    colormap: str = "jet"
    desaturate: float = 0.0
    opacity: float = 0.8
    gamma: float = 0.8
    signed: Signed = Signed.positive
    percentile: float = 99.5
    columns: int = 8
    tile: int = 160
    animation_tile: int = 224
    fps: float | None = None
    boxes: bool = True

    def __post_init__(self) -> None:
        names = [name.removeprefix("COLORMAP_").lower() for name in dir(cv2) if name.startswith("COLORMAP_")]
        if self.colormap not in names:
            raise unknown("render.colormap", self.colormap, names)
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ConfigError(f"render.{name}={value}", expected=f"{low} to {high}")

    def rate(self, seconds: tuple[float, ...] | None) -> float:
        """Returns the frames per second of an animation of frames that are shown at these times."""
        if self.fps is not None:
            return self.fps
        if seconds is None or len(seconds) < 2 or seconds[-1] <= seconds[0]:
            return _RATE
        low, high = _RANGES["fps"]
        return min(max((len(seconds) - 1) / (seconds[-1] - seconds[0]), low), high)


@dataclass(frozen=True)
class Scene:
    """One clip as the network saw it, and the network's output: what pictures show beside a map.

    Attributes:
        clip: Id of the clip, safe as a file name.
        pixels: (T, H, W, 3) uint8 RGB at the network's size.
        numbers: The T frame numbers (1-based) in the source.
        model: Name of the network.
        target: Name of the class that was explained.
        probability: The network's probability for it.
        predicted: Name of the class with the highest probability.
        predicted_probability: Its probability.
        label: Name of the clip's own class, "" where it is not known.
        boxes: The boxes on each of the T frames, in pixels of `pixels`; empty: the clip has no boxes.
        seconds: When each of the T frames is shown, in seconds after the source's first frame; None if unknown.
        unseen: Whether `pixels` shows, darkened, parts of the frames that the network does not see.
    """

    clip: str
    pixels: Pixels
    numbers: tuple[int, ...]
    model: str
    target: str
    probability: float
    predicted: str
    predicted_probability: float
    label: str = ""
    boxes: tuple[tuple[Box, ...], ...] = ()
    seconds: tuple[float, ...] | None = None
    unseen: bool = False

    def caption(self, t: int) -> str:
        """Returns the number of the t-th frame, and its time if that is known."""
        time = "" if self.seconds is None else f"  ·  {self.time(t)}"
        return f"frame {self.numbers[t]}{time}"

    def time(self, t: int) -> str:
        """Returns the time of the t-th frame, to a tenth of a second, or a hundredth where frames lie closer."""
        if self.seconds is None:
            return f"{self.numbers[t]}"
        closest = min((b - a for a, b in zip(self.seconds, self.seconds[1:], strict=False) if b > a), default=1.0)
        return f"{self.seconds[t]:.{2 if closest < 0.1 else 1}f} s"
