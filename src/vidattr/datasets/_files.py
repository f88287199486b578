"""What the datasets of files share: clips found in folders, names made safe, classes picked, one wording of errors."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum, auto
from pathlib import Path

from vidattr._decoding import VIDEO_SUFFIXES
from vidattr._frames import IMAGE_SUFFIXES
from vidattr.errors import ConfigError, unknown
from vidattr.labels import places, plain
from vidattr.types import Clip, Index, Problem

CONTAINERS = ("UCF-101", "UCF101", "frames", "rgb-images", "sampled_frames", "videos")
"""Folders that hold class folders and are no class themselves; where a root has none of them, it is one itself."""


class Source(StrEnum):
    """What is taken where a dataset lies on disk as videos and as folders of frames; `any` prefers the video."""

    any = auto()
    videos = auto()
    frames = auto()


@dataclass(frozen=True)
class Footage:
    """A video file or a folder of frames, and the name of the class folder it lies in ("" for none)."""

    folder: str
    path: Path

    @property
    def name(self) -> str:
        """Its name without the suffix of a video file."""
        return self.path.stem if self.path.suffix.lower() in VIDEO_SUFFIXES else self.path.name


def footage(root: str, source: Source, layout: str) -> list[Footage]:
    """Returns what lies under a root, videos before folders of frames, each by path.

    Found are `<root>/<clip>` and `<root>/<class>/<clip>`, and the same in each of the `CONTAINERS` under the root.

    Raises:
        ConfigError: No such folder, or nothing in it; `layout` says what was looked for.
    """
    remedy = "dataset.root=FOLDER"
    if not root or not Path(root).is_dir():
        raise ConfigError(f"no such folder: dataset.root={root!r}", expected=layout, remedy=remedy)
    bases = [base for name in CONTAINERS if (base := Path(root) / name).is_dir()] or [Path(root)]
    found = [one for base in bases for one in _inside(base) if source == Source.any or one.path.is_dir() is (source == Source.frames)]
    if not found:
        kind = "videos or folders of frames" if source == Source.any else f"{source} (dataset.source)"
        raise ConfigError(f"no {kind} in dataset.root={root!r}", expected=layout, remedy=remedy)
    return sorted(found, key=lambda one: (one.path.is_dir(), one.path))


def is_clip(path: Path) -> bool:
    """Says whether a path is a video, by its suffix, or a folder that holds images and neither videos nor folders."""
    if path.name.startswith("."):
        return False
    if path.is_file():
        return path.suffix.lower() in VIDEO_SUFFIXES
    if not path.is_dir():
        return False
    with os.scandir(path) as entries:
        suffixes = {"/" if entry.is_dir() else Path(entry.name).suffix.lower() for entry in entries if not entry.name.startswith(".")}
    return not suffixes.isdisjoint(IMAGE_SUFFIXES) and suffixes.isdisjoint({"/", *VIDEO_SUFFIXES})


def _inside(base: Path) -> Iterator[Footage]:
    if is_clip(base):
        yield Footage("", base)
        return
    for entry in base.iterdir():
        if is_clip(entry):
            yield Footage("", entry)
        elif entry.is_dir():
            yield from (Footage(entry.name, path) for path in entry.iterdir() if is_clip(path))


def safe(name: str) -> str:
    """Returns a name that every file system takes: all but letters, digits, `.`, `_` and `-` become `_`."""
    return re.sub(r"[^\w.-]", "_", name)


def chosen(classes: Sequence[str], known: Iterable[str]) -> frozenset[str]:
    """Returns those of the `known` labels that a user named, all where none was.

    Raises:
        ConfigError: A name is none of `known`, or two of `known` are one name to `labels.plain`.
    """
    labels = sorted(set(known))
    found = places(labels, "this dataset", "rename one of the two, or move its clips to the other")
    for name in classes:
        if plain(name) not in found:
            raise unknown("class", name, labels)
    return frozenset(labels[found[plain(name)]] for name in classes) if classes else frozenset(labels)


def indexed(clips: Iterable[Clip], problems: Iterable[Problem]) -> Index:
    """Returns the index, by id, of clips that come as `footage` sorts them.

    Of several clips of one id the first is kept. A folder of frames beside a video of its name is the same clip once
    more; any other is a problem.
    """
    kept: dict[str, Clip] = {}
    problems = list(problems)
    for clip in clips:
        first = kept.setdefault(clip.id, clip)
        if first is not clip and not (_is_folder(clip) and not _is_folder(first)):
            problems.append(Problem(clip.id, f"{clip.source} has the name of {first.source}", "rename one of them, or leave it out"))
    return Index(tuple(kept[name] for name in sorted(kept)), tuple(problems))


def _is_folder(clip: Clip) -> bool:
    return isinstance(clip.source, Path) and clip.source.is_dir()
