"""UCF101-24: 24 action classes with person boxes on every frame that shows the action."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from vidattr.config.fields import keyed_by_content, not_in_key
from vidattr.datasets.shared import tubes as _tubes
from vidattr.datasets.shared import ucf
from vidattr.datasets.shared.files import Damaged, chosen
from vidattr.datasets.shared.folders import Storage, find_clips
from vidattr.labels import plain
from vidattr.types import Clip, Index, Problem

CLASSES = (
    "Basketball", "BasketballDunk", "Biking", "CliffDiving", "CricketBowling", "Diving", "Fencing", "FloorGymnastics",
    "GolfSwing", "HorseRiding", "IceDancing", "LongJump", "PoleVault", "RopeClimbing", "SalsaSpin", "SkateBoarding",
    "Skiing", "Skijet", "SoccerJuggling", "Surfing", "TennisSwing", "TrampolineJumping", "VolleyballSpiking",
    "WalkingWithDog",
)  # fmt: skip


@dataclass(frozen=True)
class UCF24:
    """The 24 classes of UCF101 (Soomro et al. 2012) with THUMOS boxes as corrected by Singh et al. 2017.

    `root` holds `UCF-101/<Class>/<video>.avi`, `rgb-images/<Class>/<video>/<number>.jpg`, or both, or is itself one of
    these folders. Folders of other classes are ignored. A video without an annotation is a clip without boxes. The
    clip's segment is the union of its tubes, unless that is the whole video.

    Attributes:
        root: The folder.
        classes: Only these classes; empty: all 24.
        source: `any` takes the frames of a video only where the video itself is missing.
        annotations: `pyannot.pkl` or `finalAnnots.mat`; "": no boxes.
        split: A list of videos such as `testlist01.txt`, of which only these 24 classes count; "": all on disk.
        damaged: What happens to a clip that can be decoded only in part: warn explains that part and gives a warning,
            fail makes it an error.
        first_frame: The number that frame 1 of the annotations has in the file names of frames.
    """

    version: ClassVar[int] = 2

    root: str = not_in_key("")
    classes: list[str] = field(default_factory=list, metadata={"identity": "skip"})
    source: Storage = Storage.any
    annotations: str = keyed_by_content("")
    split: str = not_in_key("")
    damaged: Damaged = field(default=Damaged.warn, metadata={"identity": "skip"})
    first_frame: int = 1

    def index(self) -> Index:
        """Returns the clips on disk with their boxes; listed clips that are missing and unreadable tubes are problems.

        Raises:
            ConfigError: No clip under `root`, no such annotation or split file, or an unknown class.
        """
        labels = chosen(self.classes, CLASSES)
        files = find_clips(
            self.root, self.source, "UCF-101/<Class>/<video>.avi or rgb-images/<Class>/<video>/<number>.jpg"
        )
        known = set(map(plain, CLASSES))
        for one in files.files:
            if (label := ucf.label_of(one)) and plain(label) not in known:
                files.leave("of none of the 24 classes", one.path)
        found = ucf.index(files, labels, self.split, damaged=self.damaged, first_frame=self.first_frame)
        tubes = _tubes.load(self.annotations) if self.annotations else {}
        clips: list[Clip] = []
        problems = list(found.problems)
        for clip in found.clips:
            read = tubes.get(f"{clip.label}/{clip.id}")
            try:
                clips.append(clip if read is None else _annotated(clip, read()))
            except Exception as error:  # a damaged entry can raise anything
                problems.append(
                    Problem(
                        clip.id,
                        f"unreadable annotation in {self.annotations}: {type(error).__name__}: {error}",
                        "mend the file",
                    )
                )
        return Index(tuple(clips), tuple(problems), found.notes)


def _annotated(clip: Clip, tubes: _tubes.PersonTubes) -> Clip:
    return replace(clip, boxes=tubes.boxes(), box_size=_tubes.FRAME_SIZE, segment=tubes.segment())
