"""UCF101: 101 action classes, without boxes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from vidattr.config.fields import not_in_key
from vidattr.datasets.shared import ucf
from vidattr.datasets.shared.files import Damaged, chosen
from vidattr.datasets.shared.folders import Storage, find_clips
from vidattr.labels import plain
from vidattr.types import Index


@dataclass(frozen=True)
class UCF101:
    """UCF101 (Soomro, Zamir and Shah 2012): class folders of videos or of folders of frames.

    `root` holds `UCF-101/<Class>/<video>.avi`, `rgb-images/<Class>/<video>/<number>.jpg`, or both, or is itself one of
    these folders. The class is the folder's name.

    Attributes:
        root: The folder.
        classes: Only these classes; empty: all on disk.
        source: `any` takes the frames of a video only where the video itself is missing.
        split: A list of videos such as `testlist01.txt` or `trainlist01.txt`; "": all on disk.
        damaged: What happens to a clip that can be decoded only in part: warn explains that part and gives a warning,
            fail makes it an error.
        first_frame: The number that frame 1 has in the file names of frames; it matters only where there are boxes.
    """

    version: ClassVar[int] = 2

    root: str = not_in_key("")
    classes: list[str] = field(default_factory=list, metadata={"identity": "skip"})
    source: Storage = Storage.any
    split: str = not_in_key("")
    damaged: Damaged = field(default=Damaged.warn, metadata={"identity": "skip"})
    first_frame: int = 1

    def index(self) -> Index:
        """Returns the clips on disk; listed clips that are missing are problems.

        Raises:
            ConfigError: No clip under `root`, no such split file, or an unknown class.
        """
        found = find_clips(
            self.root, self.source, "UCF-101/<Class>/<video>.avi or rgb-images/<Class>/<video>/<number>.jpg"
        )
        # One class is spelled HandstandPushups as a folder and HandStandPushups in the names of its videos.
        spelling = {plain(label): label for label in sorted(map(ucf.label_of, found.files), reverse=True) if label}
        labels = chosen(self.classes, spelling.values())
        return ucf.index(found, labels, self.split, damaged=self.damaged, first_frame=self.first_frame)
