"""Any clips: a folder of videos or of folders of frames, or files named one by one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from vidattr.config.fields import not_in_key
from vidattr.datasets.shared.files import Damaged, chosen, indexed, safe
from vidattr.datasets.shared.folders import ClipPath, Source, find_clips, named_clips
from vidattr.types import Clip, Index


@dataclass(frozen=True)
class Clips:
    """Clips whose label is the name of their folder, or the part of their own name before the first `-`.

    `<root>/<label>/<name>.mp4` and `<root>/<label>/<name>/<number>.png` are labelled by the folder;
    `<root>/<label>-<name>.mp4` and `<root>/<label>-<name>/<number>.png` by themselves; other names directly under the
    root have no label. Folders named `videos`, `frames`, `sampled_frames`, `jpegs_256`, `rawframes`, `rgb-images`
    or `UCF-101` are looked into as if they were the root. What is neither video nor frame is left alone and said.

    Attributes:
        root: The folder.
        classes: Only these labels; empty: all.
        source: `any` takes the frames of a clip only where its video, of the same name, is missing.
        files: Videos and folders of frames, anywhere; where some are named, `root` is not looked at.
        taken: Names that are given away: one of the `files` of such a name, or of one that was there before, gets some
            digits of the hash of its path behind it.
        damaged: warn: a clip of which something cannot be decoded is explained as far as it goes, with a warning; fail:
            it is an error.
        first_frame: The number that frame 1 has in the names of frames; nothing hangs on it without boxes.
    """

    version: ClassVar[int] = 2

    root: str = not_in_key("")
    classes: list[str] = field(default_factory=list, metadata={"identity": "skip"})
    source: Source = Source.any
    files: list[str] = field(default_factory=list, metadata={"identity": "skip"})
    taken: list[str] = field(default_factory=list, metadata={"identity": "skip"})
    damaged: Damaged = field(default=Damaged.warn, metadata={"identity": "skip"})
    first_frame: int = 1

    def index(self) -> Index:
        """Returns the clips; named files that are not there are problems.

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
    """Yields the clips of named files, each place once, with names that differ."""
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
