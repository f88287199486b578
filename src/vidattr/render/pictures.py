"""Maps become pictures: a grid, an animation, and a sheet that sets the methods of a run side by side.

A map is raw; what is done here to make it visible (one scale per clip, colours, blending) never reaches a metric.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from vidattr.errors import ConfigError, unknown
from vidattr.render import encoding as encode
from vidattr.render.heat import Map, Scale, Signed, Style, overlay
from vidattr.render.sheets import animation, comparison, cutouts, grid
from vidattr.writing import write_bytes

if TYPE_CHECKING:
    from vidattr.types import Box, Pixels

__all__ = [
    "Render",
    "Scale",
    "Scene",
    "Signed",
    "Style",
    "animation",
    "comparison",
    "cutouts",
    "grid",
    "overlay",
    "write",
    "write_comparison",
    "write_cutouts",
]


_RANGES = {
    "opacity": (0, 1),
    "gamma": (0.01, 10),
    "percentile": (50, 100),
    "columns": (1, 64),
    "tile": (16, 2048),
    "animation_tile": (16, 2048),
    "fps": (0.1, 50),
}


@dataclass(frozen=True)
class Render:
    """Which pictures are made, and how a map is drawn.

    Attributes:
        grid: Write a PNG of all frames over their heat maps.
        gif: Write an animated GIF.
        mp4: Write the same animation as MP4, a tenth of the size.
        comparison: Write a sheet with all methods of a run on one clip.
        style: heat, or cutout.
        colormap: Name of an OpenCV colour map: jet as in the papers; turbo, viridis, inferno, cividis have even steps.
        opacity: 0…1, how far the most important pixel is covered by its colour (or the least important one blackened).
        gamma: Exponent of the heat map's blending; smaller shows weaker heat.
        signed: positive: a map with negative values is shown from 0 upwards; range: from its lowest value.
        percentile: Values above this percentile of the clip (and below its complement) are drawn alike, so that a few
            extreme voxels of a gradient do not darken all others; 100: nothing is clipped.
        columns: Frames in a row of a sheet.
        tile: Pixels that the longer side of a frame has at least in a sheet.
        animation_tile: The same in an animation.
        fps: Frames per second of an animation.
        boxes: Draw the annotated boxes.
    """

    grid: bool = True
    gif: bool = True
    mp4: bool = True
    comparison: bool = True
    style: Style = Style.heat
    colormap: str = "jet"
    opacity: float = 0.8
    gamma: float = 0.8
    signed: Signed = Signed.positive
    percentile: float = 99.5
    columns: int = 8
    tile: int = 160
    animation_tile: int = 224
    fps: float = 5.0
    boxes: bool = True

    def __post_init__(self) -> None:
        names = [name.removeprefix("COLORMAP_").lower() for name in dir(cv2) if name.startswith("COLORMAP_")]
        if self.colormap not in names:
            raise unknown("render.colormap", self.colormap, names)
        for name, (low, high) in _RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"render.{name}={getattr(self, name)}", expected=f"{low} to {high}")


@dataclass(frozen=True)
class Scene:
    """One clip as the network saw it, and what the network said: all that its pictures show beside a map.

    Attributes:
        clip: Id of the clip, safe as a file name.
        pixels: (T, H, W, 3) uint8 RGB at the network's size.
        numbers: The T frame numbers (1-based) in the source.
        model: Name of the network.
        target: Name of the class that was explained.
        probability: The network's probability for it.
        predicted: Name of the likeliest class.
        predicted_probability: The network's probability for that one.
        label: Name of the clip's own class, "" where it is not known.
        boxes: For each of the T frames its boxes, in pixels of `pixels`; empty: there are none.
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


def write(folder: Path, scene: Scene, map: Map, method: str, render: Render, *, overwrite: bool = False) -> list[Path]:
    """Writes the pictures of one clip and method that are asked for and not there yet, each whole or not at all.

    Args:
        folder: Where to; made if need be.
        scene: The clip.
        map: (T, H, W) raw, on the CPU.
        method: Name of the method.
        render: Which pictures, and how.
        overwrite: Write also those that are there.

    Returns:
        The files written, `<clip>.png`, `.gif`, `.mp4`.
    """
    wanted = {".png": render.grid, ".gif": render.gif, ".mp4": render.mp4}
    paths = {suffix: folder / f"{scene.clip}{suffix}" for suffix, asked in wanted.items() if asked}
    todo = {suffix: path for suffix, path in paths.items() if overwrite or not path.exists()}
    if ".png" in todo:
        write_bytes(todo[".png"], encode.png(grid(scene, map, method, render)))
    if ".gif" in todo or ".mp4" in todo:
        frames = animation(scene, map, method, render)
        for suffix, code in ((".gif", encode.gif), (".mp4", encode.mp4)):
            if suffix in todo:
                write_bytes(todo[suffix], code(frames, render.fps))
    return list(todo.values())


def write_comparison(
    folder: Path, scene: Scene, maps: Mapping[str, Map], render: Render, *, overwrite: bool = False
) -> list[Path]:
    """Writes the sheet with all methods of one clip, `<clip>.png`, if it is asked for and not there yet."""
    path = folder / f"{scene.clip}.png"
    if not render.comparison or (path.exists() and not overwrite):
        return []
    write_bytes(path, encode.png(comparison(scene, maps, render)))
    return [path]


def write_cutouts(
    folder: Path, scene: Scene, extras: Mapping[str, Map], method: str, render: Render, *, overwrite: bool = False
) -> list[Path]:
    """Writes the masks of a method that finds one for each preservation ratio as windows into the clip, `<clip>.masks.png`.

    Args:
        folder: Where to.
        scene: The clip.
        extras: What the method stored: `masks` (A, T, H, W), `ratios`, `area_visible` (A,) and `probability` (A,
            iterations); without masks there is nothing to draw.
        method: Name of the method.
        render: Which pictures, and how; it goes with the grid.
        overwrite: Write it also if it is there.
    """
    path = folder / f"{scene.clip}.masks.png"
    if "masks" not in extras or not render.grid or (path.exists() and not overwrite):
        return []
    facts = zip(extras["ratios"], extras["probability"][:, -1], extras["area_visible"], strict=True)
    words = [(f"ratio {ratio:g}", f"p = {p:.2f}, {area:.0%} of the frame") for ratio, p, area in facts]
    write_bytes(path, encode.png(cutouts(scene, extras["masks"], words, method, render)))
    return [path]
