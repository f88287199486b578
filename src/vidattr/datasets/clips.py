"""Your own clips: a folder of videos or of folders of frames, or a list of files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from vidattr.config.fields import not_in_key
from vidattr.datasets.shared.files import Damaged, chosen, indexed, safe
from vidattr.datasets.shared.folders import ClipPath, Storage, find_clips, named_clips
from vidattr.types import Clip, Index


@dataclass(frozen=True)
class Clips:
    """Clips labelled by the name of their folder, or by the part of their own name before the first `-`.

    `<root>/<label>/<name>.mp4` and `<root>/<label>/<name>/<number>.png` are labelled by the folder;
    `<root>/<label>-<name>.mp4` and `<root>/<label>-<name>/<number>.png` by their own name; other clips directly under
    the root have no label. Folders named `videos`, `frames`, `sampled_frames`, `jpegs_256`, `rawframes`, `rgb-images`
    or `UCF-101` are searched like the root. Files that are neither videos nor frames are ignored and counted in a note.

    Attributes:
        root: The folder.
        classes: Only these labels; empty: all.
        source: `any` takes the frames of a clip only where its video, of the same name, is missing.
        files: Paths of videos and folders of frames; if there are any, `root` is not searched.
        taken: Names that are already in use. A file with such a name, or with the name of an earlier file, gets six
            digits of the hash of its path appended.
        damaged: What happens to a clip that can be decoded only in part: warn explains that part and gives a warning,
            fail makes it an error.
        first_frame: The number that frame 1 has in the file names of frames; it matters only where there are boxes.
    """

    version: ClassVar[int] = 2

    root: str = not_in_key("")
    classes: list[str] = field(default_factory=list, metadata={"identity": "skip"})
    source: Storage = Storage.any
    files: list[str] = field(default_factory=list, metadata={"identity": "skip"})
    taken: list[str] = field(default_factory=list, metadata={"identity": "skip"})
    damaged: Damaged = field(default=Damaged.warn, metadata={"identity": "skip"})
    first_frame: int = 1

    def index(self) -> Index:
        """Returns the clips; files that do not exist are problems.

        Raises:
            ConfigError: No clip under `root`, or an unknown class.
        """
        layout = "<label>/<video>.mp4, <label>-<name>.mp4, or folders of numbered frames so named"
        found = named_clips(self.files) if self.files else find_clips(self.root, self.source, layout)
        labelled = [(one, _label(one)) for one in found.files]
        labels = {label for _, label in labelled}
        wanted = labels if self.files and not self.classes else chosen(self.classes, labels)
        clips = [_clip(one, label) for one, label in labelled if label in wanted]
        if self.files:
            clips = list(_apart(clips, self.taken))
        return indexed(clips, found.problems, found.notes(), damaged=self.damaged, first_frame=self.first_frame)


def _apart(clips: Sequence[Clip], taken: Collection[str]) -> Iterator[Clip]:
    """Yields the clips of named files, each path once, with unique names."""
    names, places = set(taken), set[str]()
    for clip in clips:
        place = os.path.realpath(str(clip.source))
        if place in places:
            continue
        places.add(place)
        name = clip.id if clip.id not in names else f"{clip.id}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:6]}"
        names.add(name)
        yield replace(clip, id=name, video=name)


def _label(one: ClipPath) -> str:
    label, hyphen, _ = one.name.partition("-")
    return one.folder or (label if hyphen else "")


def _clip(one: ClipPath, label: str) -> Clip:
    name = safe(f"{one.folder}-{one.name}" if one.folder else one.name)
    return Clip(id=name, source=one.path, label=label, video=name)
