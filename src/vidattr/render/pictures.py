"""The pictures that belong to a map: the one list of them, how each is made, and which of those on disk are current.

A map is raw. What makes it visible (one scale per clip, colours, blending) happens here and never reaches a metric.

`picture_files` says which of those on disk are current.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

from vidattr.render import encoding as encode
from vidattr.render.heat import Map
from vidattr.render.options import Render, Scene, StillFormat
from vidattr.render.picture_files import PictureFiles, Shown, recorded
from vidattr.render.sheets import animation, comparison, cutouts, grid
from vidattr.types import MaskRow, Pixels
from vidattr.writing import remove

_DRAWING_VERSION = 2
"""Raised when a picture of the same map and options looks different, so that stored pictures are drawn again."""


@dataclass(frozen=True)
class DrawnMap:
    """One map, with all that its pictures are drawn from.

    Attributes:
        scene: The clip.
        map: (T, H, W) raw, on the CPU.
        method: Name of the method.
        render: How to draw.
        masks: The masks that the method stored beside its map, if it stores masks that can be drawn.
    """

    scene: Scene
    map: Map
    method: str
    render: Render
    masks: Sequence[MaskRow] = ()

    @cached_property
    def animation(self) -> Pixels:
        """The frames that all animations of the map have in common."""
        return animation(self.scene, self.map, self.method, self.render)

    @property
    def rate(self) -> float:
        """Frames per second of the animations."""
        return self.render.rate(self.scene.seconds)


@dataclass(frozen=True)
class Picture:
    """A kind of picture that a map can have.

    Attributes:
        suffix: Of its file, `<clip><suffix>`.
        option: The field of `Render` that asks for it.
        make: Returns its bytes.
        animated: Whether it moves, so that `Render.fps` and `Render.animation_tile` decide how it looks.
        of_masks: Whether only a map with masks has it.
        format: The `Render.format` that asks for it; None: any.
    """

    suffix: str
    option: str
    make: Callable[[DrawnMap], bytes]
    animated: bool = False
    of_masks: bool = False
    format: StillFormat | None = None

    def asked(self, render: Render) -> bool:
        """Returns whether the options ask for it."""
        return bool(getattr(render, self.option)) and self.format in (None, render.format)


def _still(name: str, page: Callable[[DrawnMap], Pixels], *, of_masks: bool = False) -> list[Picture]:
    """Returns a picture that stands still, in each format."""

    def made(format: StillFormat) -> Callable[[DrawnMap], bytes]:
        return lambda drawn: encode.still(page(drawn), format)

    return [
        Picture(f"{name}.{format}", "grid", made(format), of_masks=of_masks, format=format) for format in StillFormat
    ]


PICTURES = (
    *_still("", lambda drawn: grid(drawn.scene, drawn.map, drawn.method, drawn.render)),
    Picture(".gif", "gif", lambda drawn: encode.gif(drawn.animation, drawn.rate), animated=True),
    Picture(".mp4", "mp4", lambda drawn: encode.mp4(drawn.animation, drawn.rate), animated=True),
    *_still(".masks", lambda drawn: cutouts(drawn.scene, drawn.masks, drawn.method, drawn.render), of_masks=True),
)
"""All kinds of pictures that a map can have. Writing, `--force`, resuming and `vidattr explain` know no other list."""

SHEETS = {format: f".{format}" for format in StillFormat}
"""Suffixes of the pictures that show several maps of a clip, by format: sheets of several methods or classes."""

STRIPS = SHEETS[StillFormat.png]
"""Suffix of the picture of a metric's strips."""


def of_map(folder: Path, clip: str, render: Render, map: Shown, *, masks: bool) -> PictureFiles:
    """Returns the pictures of one map.

    Args:
        folder: Where they are.
        clip: Id of the clip.
        render: Which are asked for, and how they look.
        map: The run of the map, and what stands for the map: one entry.
        masks: Whether the map has masks that can be drawn.
    """
    return PictureFiles(
        folder=folder,
        clip=clip,
        suffixes=tuple(picture.suffix for picture in PICTURES),
        shows={
            picture.suffix: {"look": _look(render, picture.animated), **map}
            for picture in PICTURES
            if masks or not picture.of_masks
        },
        wanted=frozenset(picture.suffix for picture in PICTURES if picture.asked(render)),
    )


def of_sheet(folder: Path, clip: str, render: Render, maps: Shown) -> PictureFiles:
    """Returns the sheet that compares the maps of several runs of one clip; arguments as in `of_map`."""
    shows = {suffix: {"look": _look(render, animated=False), **maps} for suffix in SHEETS.values()}
    wanted = frozenset({SHEETS[render.format]} if render.comparison else ())
    return PictureFiles(folder, clip, tuple(SHEETS.values()), shows, wanted)


def of_strips(folder: Path, clip: str, render: Render, maps: Shown) -> PictureFiles:
    """Returns the picture of the strips of one clip.

    Args:
        folder: Where it is.
        clip: Id of the clip.
        render: Whether it is asked for, and how it looks.
        maps: What stands for each of its rows, and where each is; empty: the clip has no picture.
    """
    files = of_sheet(folder, clip, replace(render, format=StillFormat.png), maps)
    return files if maps else replace(files, shows={})


def discard_sheet(folder: Path, clip: str, run: str, map: str) -> None:
    """Removes the sheet of a clip if it shows another map of a run, or nobody knows what it shows.

    Args:
        folder: Where the sheet is.
        clip: Id of the clip.
        run: The run.
        map: What stands for the run's map of the clip.
    """
    record = recorded(folder, clip)
    for suffix in SHEETS.values():
        shown = record.get(suffix)
        if shown is None or shown.get(run, map) != map:
            remove(folder / f"{clip}{suffix}")


def _look(render: Render, animated: bool) -> str:
    """Returns what stands for the options that decide how a picture looks."""
    switches = {picture.option for picture in PICTURES} | {"comparison", "format"}
    others = set() if animated else {"fps", "animation_tile"}
    options = {name: value for name, value in asdict(render).items() if name not in switches | others}
    text = json.dumps([_DRAWING_VERSION, options], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def write_map(files: PictureFiles, drawn: DrawnMap, *, overwrite: bool = False) -> list[Path]:
    """Writes the pictures of one map, as `PictureFiles.write` does."""

    def maker(picture: Picture) -> Callable[[], bytes]:
        return lambda: picture.make(drawn)

    return files.write({picture.suffix: maker(picture) for picture in PICTURES}, overwrite=overwrite)


def write_sheet(
    files: PictureFiles, scene: Scene, maps: Mapping[str, Map], render: Render, *, overwrite: bool = False
) -> list[Path]:
    """Writes the sheet that compares the maps (T, H, W) of several methods, as `PictureFiles.write` does."""
    return write_page(files, lambda: comparison(scene, maps, render), overwrite=overwrite)


def write_page(files: PictureFiles, page: Callable[[], Pixels], *, overwrite: bool = False) -> list[Path]:
    """Writes a sheet of several maps, as `PictureFiles.write` does."""

    def made(format: StillFormat) -> Callable[[], bytes]:
        return lambda: encode.still(page(), format)

    return files.write({suffix: made(format) for format, suffix in SHEETS.items()}, overwrite=overwrite)
