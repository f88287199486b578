"""The fingerprint of the source that a map was made of, and whether the source is still the same.

A fingerprint is a dictionary that is stored with the map:

* of a video file: its path, its state (size and the times at which content and inode last changed) and the sha256 of
  the whole file;
* of a folder of frames: its path, its state (name, size and times of every image), its listing (names and sizes:
  the names decide what frames are taken), the names of the frames that the network saw, and the sha256 of those files;
* of a tar file of frames: the same as of a folder, the state being that of the tar file;
* of clips that are joined to one (`Joined`): the fingerprint of each;
* of a clip that is made by code: nothing; the fields of its dataset and its class's own code are in the run's identity;
* the clip's `span`, and its label where the label decides what is explained.

Path and state are compared first, and the content only if they differ: a copy, or a file that was merely touched, is
the same source. Boxes and segment are left out, since no map depends on them; scores are compared by `truth_of`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from vidattr.errors import ClipError
from vidattr.run.store import RunFolder
from vidattr.types import Clip, Joined
from vidattr.video.footage import UnreadableError
from vidattr.video.frame_folder import IMAGE_SUFFIXES, frame_files
from vidattr.video.frame_tar import SUFFIX as TAR
from vidattr.video.frame_tar import read_member, tar_frames, tar_members

Facts = Mapping[str, Any]


class Again(StrEnum):
    """Why a stored map has to be computed again."""

    changed = "clips whose source changed"
    damaged = "maps that were not whole"
    unmarked = "maps of an earlier version, which do not say what they were made of,"
    bare = "maps that were stored without extras"

    def told(self, count: int) -> str:
        """Returns the line that a command prints when it computes them again."""
        one = (("clips", "clip"), ("maps", "map"), (" do not", " does not"), ("they were", "it was"), (" were", " was"))
        words = self.value
        for many, single in one if count == 1 else ():
            words = words.replace(many, single)
        return f"{count} {words} {'is' if count == 1 else 'are'} computed again"

    @property
    def error(self) -> ClipError:
        """The error of a command that cannot compute the map again."""
        found = {
            Again.changed: "its source changed since its map was made",
            Again.damaged: "its map is not whole",
            Again.unmarked: "its map is of an earlier version and does not say what it was made of",
            Again.bare: "its map was stored without extras",
        }[self]
        return ClipError(found, remedy="`vidattr run` with the same overrides computes it again")


class Source:
    """The source of a clip, with its state on disk at the first look.

    Args:
        clip: The clip.
        target: The configured target. The clip's label is part of the fingerprint only if it is "label".
    """

    def __init__(self, clip: Clip, target: str) -> None:
        self.clip = clip
        self.path = os.path.realpath(clip.source) if isinstance(clip.source, Path) else None
        joined = clip.source.placed() if isinstance(clip.source, Joined) else ()
        self.parts = [(Source(part, "predicted"), offset) for part, offset in joined]
        self.asked: dict[str, Any] = {} if clip.span is None else {"span": list(clip.span)}
        if target == "label":
            self.asked["label"] = clip.label
        if clip.first_frame != 1:
            self.asked["first_frame"] = clip.first_frame

    @cached_property
    def _look(self) -> tuple[str, str, int]:
        """State, listing and the time of the last change in ns; empty where there is nothing."""
        return ("", "", 0) if self.path is None else _looked(Path(self.path))

    def look(self) -> Source:
        """Records the state of the source before it is read, so that a later change is noticed."""
        _ = self._look
        for part, _ in self.parts:
            part.look()
        return self

    def facts(self, numbers: Iterable[int]) -> dict[str, Any]:
        """Returns the fingerprint.

        Args:
            numbers: The frame numbers that the network saw.

        Raises:
            ClipError: The source changed since the first look, so that it is unknown what was read, or it cannot be
                read.
        """
        if self.parts:
            seen = list(numbers)
            parts = [part.facts(_of_part(part, offset, seen)) for part, offset in self.parts]
            return {"parts": parts, "changed": max(part.get("changed", 0) for part in parts), **self.asked}
        if self.path is None:
            return dict(self.asked)
        path, (state, listing, changed) = Path(self.path), self._look
        try:
            files: dict[str, Any] = {}
            if path.is_dir() or _is_tar(path):
                first = self.clip.first_frame
                frames = tar_frames(path, first) if _is_tar(path) else frame_files(path, first)[0]
                files = {"listing": listing, "files": [frames[number].name for number in dict.fromkeys(numbers)]}
            found = {
                "path": self.path,
                "state": state,
                "changed": changed,
                "sha256": _content(path, files.get("files")),
                **files,
            }
        except (OSError, KeyError, UnreadableError) as error:
            raise ClipError(
                f"cannot read {path}: {error}", remedy="see who removes or writes it, and run again"
            ) from error
        if _looked(path) != self._look:
            raise ClipError(f"{path} changed while it was read", remedy="wait until it is written, and run again")
        return {**found, **self.asked}

    def same(self, facts: Facts) -> bool:
        """Returns whether a map with this fingerprint was made of this source."""
        if {name: facts[name] for name in ("span", "label", "first_frame") if name in facts} != self.asked:
            return False
        if self.parts or "parts" in facts:
            stored = facts.get("parts", ())
            return len(stored) == len(self.parts) and all(
                part.same(one) for (part, _), one in zip(self.parts, stored, strict=True)
            )
        if self.path is None:
            return "sha256" not in facts
        state, listing, _ = self._look
        if not state:
            return False
        if (facts.get("path"), facts.get("state")) == (self.path, state):
            return True
        if facts.get("listing", "") != listing:
            return False
        try:
            return bool(_content(Path(self.path), facts.get("files")) == facts.get("sha256"))
        except (OSError, KeyError, UnreadableError):
            return False


def _of_part(part: Source, offset: int, numbers: Iterable[int]) -> list[int]:
    """Returns the frame numbers of a part, of those of the joined clip."""
    first, last = part.clip.span or (1, 0)
    return [number - offset for number in numbers if first <= number - offset <= last]


def _is_tar(path: Path) -> bool:
    return path.suffix.lower() == TAR and not path.is_dir()


def _looked(path: Path) -> tuple[str, str, int]:
    """Returns state, listing ("" of a file) and time of the last change of a path; empty if it does not exist."""
    try:
        if not path.is_dir():
            found = path.stat()
            members = tar_members(path).values() if _is_tar(path) else ()
            return (
                f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}",
                _hash("\n".join(f"{one.name} {one.size}" for one in members)) if members else "",
                max(found.st_mtime_ns, found.st_ctime_ns),
            )
        with os.scandir(path) as entries:
            frames = sorted(
                (one.name, _stat(one)) for one in entries if os.path.splitext(one.name)[1].lower() in IMAGE_SUFFIXES
            )
    except (OSError, UnreadableError):
        return "", "", 0
    state = "\n".join(f"{name} {size} {times}" for name, (size, *times) in frames)
    listing = "\n".join(f"{name} {size}" for name, (size, *_) in frames)
    return _hash(state), _hash(listing), max((max(times) for _, (_, *times) in frames), default=0)


def _stat(entry: os.DirEntry[str]) -> tuple[int, int, int]:
    """Returns size and times in ns; zeros for a broken link."""
    try:
        found = entry.stat()
    except OSError:
        return 0, 0, 0
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _content(path: Path, files: Sequence[str] | None) -> str:
    """Returns the sha256 of a file, or of some files of a folder or a tar file."""
    if files is None:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    found = hashlib.sha256()
    members = tar_members(path) if _is_tar(path) else None
    for name in files:
        content = (path / name).read_bytes() if members is None else read_member(path, members[name])
        found.update(f"{len(content)} ".encode() + content)
    return found.hexdigest()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def truth_of(clip: Clip) -> str:
    """Returns a hash of twelve digits of a clip's annotation: boxes, segment, label and video."""
    boxes = [[number, [[float(x) for x in box] for box in clip.boxes[number]]] for number in sorted(clip.boxes)]
    text = json.dumps([boxes, clip.box_size, clip.segment, clip.label, clip.video], default=int)
    return _hash(text)[:12]


def mark_of(facts: Facts, *, map: bool = True) -> str:
    """Returns a hash of twelve digits of a map: its voxels, its source and the explained class.

    With `map=False` the voxels are left out: source and class decide a map that is computed during the evaluation.
    """
    source = facts["source"]
    question = [source.get(name) for name in ("sha256", "listing", "span")] + [facts["target"]]
    question += [part.get(name) for part in source.get("parts", ()) for name in ("sha256", "listing", "span")]
    return _hash(json.dumps([facts["sha256"] if map else "", *question]))[:12]


@dataclass
class Survey:
    """The state of the maps of some clips in a folder.

    Attributes:
        good: Clip to the facts of its map, for maps that are undamaged and made of the clip's present source.
        bad: Clip to the reason why its map has to be computed again.
    """

    good: dict[str, Facts] = field(default_factory=dict)
    bad: dict[str, Again] = field(default_factory=dict)

    def counts(self) -> dict[Again, int]:
        """Returns the number of maps that have to be computed again, by reason; reasons without a map are left out."""
        return {why: count for why in Again if (count := sum(why is one for one in self.bad.values()))}


class Sources:
    """The sources of some clips; each is looked at once, however many folders are surveyed."""

    def __init__(self, clips: Sequence[Clip], target: str) -> None:
        self.clips, self._target = clips, target
        self._found: dict[str, Source] = {}

    def survey(self, folder: RunFolder, *, extras: bool = False) -> Survey:
        """Checks the maps of the clips in a folder, from the headers of their files.

        Args:
            folder: The folder of the run.
            extras: Whether maps that were stored without extras have to be computed again.
        """
        survey, stored = Survey(), folder.stored()
        for clip in self.clips if stored else ():
            if clip.id not in stored:
                continue
            facts = folder.facts(clip.id)
            if facts is None:
                survey.bad[clip.id] = Again.damaged
            elif "source" not in facts or "sha256" not in facts:
                survey.bad[clip.id] = Again.unmarked
            elif not self._source(clip).same(facts["source"]):
                survey.bad[clip.id] = Again.changed
            elif extras and not facts.get("extras", True):
                survey.bad[clip.id] = Again.bare
            else:
                survey.good[clip.id] = facts
        return survey

    def _source(self, clip: Clip) -> Source:
        if clip.id not in self._found:
            self._found[clip.id] = Source(clip, self._target)
        return self._found[clip.id]
