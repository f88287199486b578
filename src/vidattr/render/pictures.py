"""The pictures that belong to a map: the one list of them, how each is made, and which of those on disk are current.

A map is raw. What makes it visible (one scale per clip, colours, blending) happens here and never reaches a metric.

Beside the pictures of a folder lies a hidden folder `.drawn` with one JSON file per clip. It records what each picture
shows: the maps, and the options that decide how it looks. A picture is current if its record is equal to what it would
show if it were drawn now. Any other one is stale: it is drawn again where it is asked for, and removed where it is not.
A picture without a record is stale. A record that is not true any more is removed before the picture is replaced, and
the new one is written after it, so that a killed command leaves at worst a picture that is drawn once more.
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
from vidattr.render.options import Render, Scene
from vidattr.render.sheets import animation, comparison, cutouts, grid
from vidattr.types import MaskRow, Pixels
from vidattr.writing import remove, write_bytes, write_text

_DRAWING_VERSION = 2
"""Raised when a picture of the same map and options looks different, so that stored pictures are drawn again."""

Shown = Mapping[str, str]
"""What a picture shows: a hash of its options under "look", and under the key of each run a hash of the run's map."""


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
    """

    suffix: str
    option: str
    make: Callable[[DrawnMap], bytes]
    animated: bool = False
    of_masks: bool = False


PICTURES = (
    Picture(".png", "grid", lambda drawn: encode.png(grid(drawn.scene, drawn.map, drawn.method, drawn.render))),
    Picture(".gif", "gif", lambda drawn: encode.gif(drawn.animation, drawn.rate), animated=True),
    Picture(".mp4", "mp4", lambda drawn: encode.mp4(drawn.animation, drawn.rate), animated=True),
    Picture(
        ".masks.png",
        "grid",
        lambda drawn: encode.png(cutouts(drawn.scene, drawn.masks, drawn.method, drawn.render)),
        of_masks=True,
    ),
)
"""All kinds of pictures that a map can have. Writing, `--force`, resuming and `vidattr explain` know no other list."""

SHEET = ".png"
"""Suffix of a picture that shows several maps of a clip: the sheet that compares methods, and a metric's strips."""


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
        wanted=frozenset(picture.suffix for picture in PICTURES if getattr(render, picture.option)),
    )


def of_sheet(folder: Path, clip: str, render: Render, maps: Shown) -> PictureFiles:
    """Returns the sheet that compares the maps of several runs of one clip; arguments as in `of_map`."""
    shows = {SHEET: {"look": _look(render, animated=False), **maps}}
    return PictureFiles(folder, clip, (SHEET,), shows, frozenset({SHEET} if render.comparison else ()))


def of_strips(folder: Path, clip: str, render: Render, maps: Shown) -> PictureFiles:
    """Returns the picture of the strips of one clip.

    Args:
        folder: Where it is.
        clip: Id of the clip.
        render: Whether it is asked for, and how it looks.
        maps: What stands for each of its rows, and where each is; empty: the clip has no picture.
    """
    files = of_sheet(folder, clip, render, maps)
    return files if maps else replace(files, shows={})


def discard_sheet(folder: Path, clip: str, run: str, map: str) -> None:
    """Removes the sheet of a clip if it shows another map of a run, or nobody knows what it shows.

    Args:
        folder: Where the sheet is.
        clip: Id of the clip.
        run: The run.
        map: What stands for the run's map of the clip.
    """
    shown = _recorded(folder, clip).get(SHEET)
    if shown is None or shown.get(run, map) != map:
        remove(folder / f"{clip}{SHEET}")


def _look(render: Render, animated: bool) -> str:
    """Returns what stands for the options that decide how a picture looks."""
    switches = {picture.option for picture in PICTURES} | {"comparison"}
    others = set() if animated else {"fps", "animation_tile"}
    options = {name: value for name, value in asdict(render).items() if name not in switches | others}
    text = json.dumps([_DRAWING_VERSION, options], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class PictureFiles:
    """The pictures of one clip in one folder.

    Attributes:
        folder: Where they are, or will be.
        clip: Id of the clip.
        suffixes: Of all pictures that a clip can have there, `<clip><suffix>`.
        shows: Suffix of each picture that this clip can have to what it would show if it were drawn now.
        wanted: Suffixes of the pictures that are asked for; those that the clip cannot have do not count.
    """

    folder: Path
    clip: str
    suffixes: tuple[str, ...]
    shows: Mapping[str, Shown]
    wanted: frozenset[str]

    def path(self, suffix: str) -> Path:
        """Returns where a picture is, or will be."""
        return self.folder / f"{self.clip}{suffix}"

    def current(self) -> list[Path]:
        """Returns the pictures on disk that show what they would show if they were drawn now."""
        record = _recorded(self.folder, self.clip)
        return [self.path(suffix) for suffix in self.suffixes if self._is_current(suffix, record)]

    def lacks(self) -> bool:
        """Returns whether a picture that is asked for is missing or stale, or another one stale."""
        record = _recorded(self.folder, self.clip)
        return any(
            not self._is_current(suffix, record) and (suffix in self._asked() or self.path(suffix).exists())
            for suffix in self.suffixes
        )

    def discard(self) -> None:
        """Removes the stale pictures, and their records first.

        Raises:
            OutputError: A file cannot be removed.
        """
        record = _recorded(self.folder, self.clip)
        true = {suffix: shown for suffix, shown in record.items() if shown == self.shows.get(suffix)}
        self._record(true)
        for suffix in self.suffixes:
            if suffix not in true:
                remove(self.path(suffix))

    def write(self, make: Mapping[str, Callable[[], bytes]], *, overwrite: bool = False) -> list[Path]:
        """Removes the stale pictures and writes those that are asked for and missing, each whole or not at all.

        Args:
            make: Suffix to what returns the bytes of the picture.
            overwrite: Write all that are asked for.

        Returns:
            The files written.

        Raises:
            OutputError: A file cannot be written.
        """
        self.discard()
        record = _recorded(self.folder, self.clip)
        asked = [suffix for suffix in self.suffixes if suffix in self._asked()]
        todo = [suffix for suffix in asked if overwrite or not self._is_current(suffix, record)]
        written = []
        try:
            for suffix in todo:
                write_bytes(self.path(suffix), make[suffix]())
                written.append(suffix)
        finally:
            self._record(record | {suffix: self.shows[suffix] for suffix in written})
        return [self.path(suffix) for suffix in written]

    def _asked(self) -> frozenset[str]:
        return self.wanted & self.shows.keys()

    def _is_current(self, suffix: str, record: Mapping[str, Shown]) -> bool:
        return suffix in record and record[suffix] == self.shows.get(suffix) and self.path(suffix).exists()

    def _record(self, shown: Mapping[str, Shown]) -> None:
        if shown == _recorded(self.folder, self.clip):
            return
        path = _record_path(self.folder, self.clip)
        if shown:
            write_text(path, json.dumps({suffix: shown[suffix] for suffix in sorted(shown)}, sort_keys=True) + "\n")
        else:
            remove(path)


def _recorded(folder: Path, clip: str) -> dict[str, Shown]:
    """Returns the record of the pictures of a clip, by suffix; a damaged record counts as none."""
    try:
        found = json.loads(_record_path(folder, clip).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return (
        {suffix: shown for suffix, shown in found.items() if isinstance(shown, dict)} if isinstance(found, dict) else {}
    )


def _record_path(folder: Path, clip: str) -> Path:
    return folder / ".drawn" / f"{clip}.json"


def write_map(files: PictureFiles, drawn: DrawnMap, *, overwrite: bool = False) -> list[Path]:
    """Writes the pictures of one map, as `PictureFiles.write` does."""

    def maker(picture: Picture) -> Callable[[], bytes]:
        return lambda: picture.make(drawn)

    return files.write({picture.suffix: maker(picture) for picture in PICTURES}, overwrite=overwrite)


def write_sheet(
    files: PictureFiles, scene: Scene, maps: Mapping[str, Map], render: Render, *, overwrite: bool = False
) -> list[Path]:
    """Writes the sheet that compares the maps (T, H, W) of several methods, as `PictureFiles.write` does."""
    return files.write({SHEET: lambda: encode.png(comparison(scene, maps, render))}, overwrite=overwrite)
