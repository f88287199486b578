"""Finds the clips of a folder: videos and folders of frames in the usual layouts; ignored files are counted."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum, auto
from pathlib import Path

from vidattr.datasets.shared.files import safe
from vidattr.errors import ConfigError, printable
from vidattr.types import Problem
from vidattr.video.decoders import VIDEO_SUFFIXES
from vidattr.video.frame_folder import IMAGE_SUFFIXES

CONTAINERS = (
    "UCF-101", "UCF101", "frames", "jpegs", "jpegs_256", "rawframes", "rgb-images", "rgb_frames", "sampled_frames",
    "videos",
)  # fmt: skip
"""Folders that hold classes or clips and are not classes themselves; a root without any of them is searched itself."""

_NOT_CLIPS = frozenset(
    {"#recycle", "#snapshot", "$RECYCLE.BIN", "@eaDir", "System Volume Information", "__MACOSX", "lost+found"}
)
"""Folders that file servers and operating systems create; they are ignored, like names that begin with a dot."""


class Storage(StrEnum):
    """Which of videos and folders of frames are read, if a dataset is on disk as both; `any` prefers the video."""

    any = auto()
    videos = auto()
    frames = auto()


@dataclass(frozen=True)
class ClipPath:
    """A video file or a folder of frames, and the name of the class folder it lies in ("" for none)."""

    folder: str
    path: Path

    @property
    def name(self) -> str:
        """Its name without the suffix of a video file."""
        return printable(self.path.stem if self.path.suffix.lower() in VIDEO_SUFFIXES else self.path.name)


@dataclass
class FoundClips:
    """The contents of a root.

    Attributes:
        files: The clips.
        problems: Entries that are named like clips and cannot be read: broken links, pipes, folders without permission.
        left: Reason to the names of the entries that are ignored for it.
    """

    files: list[ClipPath] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    left: dict[str, list[str]] = field(default_factory=dict)

    def notes(self) -> tuple[str, ...]:
        """Returns one line per reason, with the names of the entries that were ignored for it."""
        lines = []
        for reason, names in sorted(self.left.items()):
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            lines.append(f"not read, {reason}: {', '.join(sorted(names)[:3])}{more}")
        return tuple(lines)

    def leave(self, reason: str, path: Path | str) -> None:
        """Records that an entry is ignored."""
        self.left.setdefault(reason, []).append(printable(str(path)))

    def fail(self, path: Path, why: str) -> None:
        """Records that a clip, or a folder of clips, cannot be read."""
        self.problems.append(Problem(safe(path.stem or path.name), f"{path} {why}", "mend or remove it"))


@dataclass(frozen=True)
class _Folder:
    """The entries of a folder by kind, without hidden names and folders of the system."""

    images: Sequence[str]
    videos: Sequence[str]
    folders: Sequence[str]
    others: Sequence[str]

    @classmethod
    def of(cls, path: Path) -> _Folder:
        kinds: tuple[list[str], list[str], list[str], list[str]] = ([], [], [], [])
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name in _NOT_CLIPS:
                    continue
                suffix = Path(entry.name).suffix.lower()
                if _is_folder(entry):
                    kinds[2].append(entry.name)
                else:
                    kinds[0 if suffix in IMAGE_SUFFIXES else 1 if suffix in VIDEO_SUFFIXES else 3].append(entry.name)
        return cls(*kinds)

    def is_clip(self, deepest: bool) -> bool:
        """Returns whether the pictures are the frames of one clip.

        Args:
            deepest: Whether folders inside are not searched. If they are, a folder with fewer pictures than folders
                is not a clip.
        """
        if not self.images or self.videos:
            return False
        return deepest or not self.folders or len(self.images) > len(self.folders)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a circular link
        return False


def find_clips(root: str, source: Storage, layout: str) -> FoundClips:
    """Returns the contents of a root: clips sorted by path, videos before folders of frames.

    Clips are `<root>/<clip>` and `<root>/<class>/<clip>`, and the same in each of the `CONTAINERS` under the root.

    Args:
        root: The folder.
        source: Which kinds of clips are kept.
        layout: The expected layout, for the error message.

    Raises:
        ConfigError: No such folder, or no clip in it.
    """
    remedy = "dataset.root=FOLDER"
    if not root or not os.path.isdir(root):
        raise ConfigError(f"no such folder: dataset.root={root!r}", expected=layout, remedy=remedy)
    found, top = FoundClips(), Path(root)
    bases = [base for name in CONTAINERS if (base := top / name).is_dir()] or [top]
    for base in bases:
        _visit(found, top, base, "", depth=0)
    if bases != [top] and (inside := _opened(found, top)):
        beside = [name for name in (*inside.folders, *inside.videos) if name not in (*CONTAINERS, "annotations")]
        for name in beside:
            found.leave(f"beside {', '.join(base.name for base in bases)}", name)
    kept = [one for one in found.files if source == Storage.any or one.path.is_dir() is (source == Storage.frames)]
    if not kept:
        kind = "videos or folders of frames" if source == Storage.any else f"{source} (dataset.source)"
        beyond = "".join(
            f"\n  {line}" for line in (*(problem.message for problem in found.problems[:3]), *found.notes())
        )
        raise ConfigError(f"no {kind} in dataset.root={root!r}{beyond}", expected=layout, remedy=remedy)
    found.files = sorted(kept, key=lambda one: (one.path.is_dir(), one.path))
    return found


def named_clips(files: Sequence[str]) -> FoundClips:
    """Returns the clips at these paths; a path that does not exist is a problem."""
    found = FoundClips()
    for file in files:
        path = Path(file)
        if os.path.exists(path):
            found.files.append(ClipPath("", path))
        else:
            found.problems.append(Problem(safe(path.stem), f"no such file or folder: {path}", "check its path"))
    return found


def _opened(found: FoundClips, path: Path) -> _Folder | None:
    try:
        return _Folder.of(path)
    except OSError as error:
        found.fail(path, f"cannot be looked into: {error.strerror}")
        return None


def _visit(found: FoundClips, root: Path, path: Path, label: str, depth: int) -> None:
    """Searches a folder: at depth 0 the root or a container, at 1 a class or a clip, at 2 a clip in a class."""
    inside = _opened(found, path)
    if inside is None:
        return
    shown = path.relative_to(root)
    if inside.is_clip(deepest=depth == 2):
        found.files.append(ClipPath(label, path))
        for name in inside.others:
            found.leave("files among frames", shown / name)
        for name in inside.folders:
            found.leave("folders among frames", shown / name)
        return
    if depth == 2:
        found.leave("folders without frames" if not inside.videos else "videos too deep for <class>/<clip>", shown)
        return
    if depth == 1 and not (inside.folders or inside.videos or inside.others or inside.images):
        found.leave("empty folders", shown)
    label = printable(path.name) if depth == 1 else ""
    for name in inside.videos:
        if _is_file(found, path / name):
            found.files.append(ClipPath(label, path / name))
    for name in inside.folders:
        _visit(found, root, path / name, label, depth + 1)
    for name in inside.images:
        found.leave("pictures that are in no folder of frames", shown / name)
    for name in inside.others:
        if not Path(name).suffix and not (path / name).is_file():
            _is_file(found, path / name)  # a broken link or a pipe, which may stand for a folder of clips
        else:
            found.leave("for their suffix", shown / name)


def _is_file(found: FoundClips, path: Path) -> bool:
    """Returns whether this is a regular file; if not, records a problem."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        found.fail(path, "is a link to nothing")
        return False
    except OSError as error:
        found.fail(path, f"cannot be read: {error.strerror}")
        return False
    if not stat.S_ISREG(mode):
        found.fail(path, "is neither a file nor a folder, but a pipe, a socket or a device")
    return stat.S_ISREG(mode)
