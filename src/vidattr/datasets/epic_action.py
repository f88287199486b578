"""EPIC-Action: segments of EPIC-KITCHENS-55 whose class is the verb, alone or beside what precedes or follows them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from vidattr.datasets.shared import epic_annotations as labels
from vidattr.datasets.shared import epic_lists as lists
from vidattr.datasets.shared.epic import Epic, Resolved
from vidattr.errors import ConfigError


@dataclass(frozen=True)
class Splice:
    """Windows that show a part of a segment and as much of what precedes or follows it (`lists.windows`).

    Attributes:
        windows: Whether clips are such windows; false: they are the segments.
        avoid_same_verb: Leaves out windows that show a part of another action of the same verb class beside the
            segment.
        list: A published list of windows, `Valid_seg_*_cat.csv`, in place of drawn ones; it names the segments too.
            "": none.
    """

    windows: bool = False
    avoid_same_verb: bool = True
    list: str = ""

    def __post_init__(self) -> None:
        if self.list and not self.windows:
            raise ConfigError(
                f"dataset.splice.list={self.list} with dataset.splice.windows=false",
                expected="dataset.splice.windows=true",
            )


@dataclass(frozen=True)
class EpicAction(Epic):
    """EPIC-KITCHENS-55 (Damen et al., ECCV 2018), classes = verbs, as in Li et al., WACV 2021, sections 4.1 and 4.3.2.

    Folders and files are those of `EpicObject`, and so are the options but `splice`. The list is made by rule from
    segments with at least `min_frames` frames and a box of their noun; every such segment can be drawn for the test
    split.

    With `splice.windows` a clip is a window of the segment's own length that shows a part of it. The truth of the
    temporal pointing game is the segment, always: the published list of windows names the other side.

    Attributes:
        splice: Whether clips are windows, and how these are made.
    """

    version: ClassVar[int] = 1
    verbs: ClassVar[bool] = True

    splice: Splice = field(default_factory=Splice, metadata={"identity": "skip"})

    def listed(self) -> Resolved:
        """Returns the list, with a window for each segment where `splice.windows` asks for them.

        Raises:
            ConfigError: A file is missing or cannot be read, or two lists are named.
        """
        if not self.splice.windows:
            return super().listed()
        if self.splice.list:
            return self._published_windows()
        found = super().listed()
        if all(segment.window for segment in found.segments):  # a list that a run wrote has them
            return found
        ends = {video: int(info.duration * labels.RATE) for video, info in labels.video_info(self.annotations).items()}
        spliced, problems = lists.windows(
            found.segments, self._actions().actions, ends, self.seed, self.splice.avoid_same_verb
        )
        return replace(found, segments=tuple(spliced), problems=(*found.problems, *problems))

    def _published_windows(self) -> Resolved:
        if self.list:
            raise ConfigError(
                f"dataset.list={self.list} and dataset.splice.list={self.splice.list}", expected="one of the two"
            )
        found = self._from_file(self.splice.list, "dataset.splice.list")
        segments, problems, note = lists.by_labels(found.segments, self._actions().actions, "dataset.splice.list")
        notes = (*found.notes, *filter(None, [note]))
        return replace(found, segments=tuple(segments), problems=(*found.problems, *problems), notes=notes)
