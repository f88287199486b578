"""Common code of EPIC-Object and EPIC-Action: a list of segments, by rule or published, and their frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from vidattr.config.fields import not_in_key
from vidattr.datasets.shared import epic_annotations as labels
from vidattr.datasets.shared import epic_frames
from vidattr.datasets.shared import epic_lists as lists
from vidattr.datasets.shared import epic_segments as segments_of
from vidattr.datasets.shared.epic_annotations import Action
from vidattr.datasets.shared.epic_frames import FrameSource, Located, OnDisk
from vidattr.datasets.shared.epic_lists import Naming, Rule, Split
from vidattr.datasets.shared.epic_segments import Segment
from vidattr.datasets.shared.files import Damaged, chosen, indexed
from vidattr.errors import ConfigError
from vidattr.labels import plain
from vidattr.types import Clip, Index, Problem
from vidattr.video.footage import UnreadableError
from vidattr.video.frame_folder import frame_files
from vidattr.video.preprocessing import Sampling

Names = list[str]  # `list` is an option here, and no type in the class
Numbers = list[int]


@dataclass(frozen=True)
class Resolved:
    """The list of segments that is used, problems of its rows, notes about it, and its classes in order."""

    segments: tuple[Segment, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Epic:
    """Segments of EPIC-KITCHENS-55 (Damen et al., ECCV 2018); the options of `EpicObject` and `EpicAction`."""

    verbs: ClassVar[bool]

    root: str = not_in_key("")
    classes: Names = field(default_factory=lambda: Names(), metadata={"identity": "skip"})
    source: FrameSource = FrameSource.any
    annotations: str = not_in_key("")
    naming: Naming = field(default=Naming.narrated, metadata={"identity": "skip"})
    top: int = not_in_key(20)
    split: Split = field(default=Split.test, metadata={"identity": "skip"})
    per_class: int | None = not_in_key(None)
    seed: int = not_in_key(0)
    min_frames: int = not_in_key(32)
    boxed: bool = not_in_key(True)
    test_per_class: int = not_in_key(25)
    test_frames: Numbers = field(default_factory=lambda: Numbers(), metadata={"identity": "skip"})
    test_box_every: int = not_in_key(0)
    test_single_box: bool = not_in_key(False)
    box_tolerance: int = not_in_key(3)
    cut_sampling: Sampling = field(default=Sampling.released_first, metadata={"identity": "skip"})
    require_all: bool = not_in_key(False)
    damaged: Damaged = field(default=Damaged.warn, metadata={"identity": "skip"})
    first_frame: int = 1
    list: str = field(default_factory=str, metadata={"identity": "sha256"})

    def __post_init__(self) -> None:
        for name, least in (
            ("top", 0),
            ("per_class", 1),
            ("seed", 0),
            ("min_frames", 1),
            ("test_per_class", 1),
            ("test_box_every", 0),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"dataset.{name}={value}", expected=f"{least} or more")
        if self.box_tolerance < 0:
            raise ConfigError(f"dataset.box_tolerance={self.box_tolerance}", expected="0 or more frames")
        if len(self.test_frames) not in (0, 2) or any(number < 1 for number in self.test_frames):
            raise ConfigError(f"dataset.test_frames={[*self.test_frames]}", expected="[fewest,most] frames, or []")

    def list_content(self) -> Mapping[str, str]:
        """Returns the part of the run key for the list: its segments, and not the options that select them.

        Raises:
            ConfigError: A file of annotations is missing or cannot be read.
        """
        return segments_of.content(self._resolved.segments)

    def class_names(self) -> tuple[str, ...]:
        """Returns the names of the classes in the order of their indices in a network that is trained on them.

        For a list by rule, the classes with the most valid segments come first, as in the published lists, for every
        split; with `top=0` and `naming=official` all official classes in the official order. For a list in a file, the
        order is that of its indices (`epic_segments.class_order`); with `naming=official` all official classes.

        Raises:
            ConfigError: A file of annotations or the list is missing or cannot be read.
        """
        wanted = {plain(name) for name in self.classes}
        return tuple(name for name in self._resolved.names if not wanted or plain(name) in wanted)

    def index(self) -> Index:
        """Returns the segments of the list whose frames are on disk.

        A segment outside its video, of an unknown class or with an unreadable row is a problem; a
        segment whose frames are not on disk is a problem only with `require_all`, since copies are never complete.

        Raises:
            ConfigError: No such folder, none of the segments is in it, or a file of annotations is missing or cannot
                be read.
        """
        found = epic_frames.on_disk(self.root)
        resolved = self._resolved
        wanted = chosen(self.classes, {segment.label for segment in resolved.segments})
        info = labels.video_info(self.annotations)
        ends = _Ends(self.first_frame)
        clips, problems, absent = [], [*resolved.problems], []
        for segment in (segment for segment in resolved.segments if segment.label in wanted):
            place = found.of(segment, self.source)
            if place is None:
                absent.append(segment)
                continue
            try:
                clips.append(self._clip(segment, *place, self._located(segment, *place, info, ends)))
            except (ValueError, UnreadableError) as error:
                problems.append(
                    Problem(segment.name, f"segment {segment.id} of {place[1]}: {error}", "mend or remove it")
                )
        if self.require_all:
            problems += [
                Problem(
                    one.name,
                    f"{one.video} is listed and not on disk",
                    "add it to dataset.root, or dataset.require_all=false",
                )
                for one in absent
            ]
        if not clips and not problems:
            raise ConfigError(
                f"none of the {len(absent)} listed segments is in dataset.root={self.root!r}; "
                f"the first is {absent[0].name}"
                if absent
                else "the rule gives no segment",
                expected=epic_frames.LAYOUT,
                remedy="dataset.root=FOLDER, dataset.split=train|test|all, or dataset.list=FILE",
            )
        notes = [*resolved.notes, *self._left_out(found, absent, len(resolved.segments))]
        return indexed(clips, problems, notes, damaged=self.damaged, first_frame=self.first_frame)

    def listing(self) -> str:
        """Returns the list that is used as a CSV text, which `list` reads."""
        return segments_of.listing(self._resolved.segments)

    def _located(
        self, segment: Segment, kind: FrameSource, path: Path, info: Mapping[str, labels.VideoInfo], ends: _Ends
    ) -> Located:
        if kind is FrameSource.videos:
            if segment.video not in info:
                raise ValueError(
                    f"its rate is not known: {labels.VIDEOS} in dataset.annotations does not name {segment.video}"
                )
            return epic_frames.in_video(segment, info[segment.video], self.box_tolerance)
        if kind is FrameSource.cutouts:
            count = len(frame_files(path, self.first_frame)[0])
            return epic_frames.in_cut_out(segment, count, self.cut_sampling, self.box_tolerance)
        return epic_frames.in_frames(segment, ends.of(kind, path), self.box_tolerance)

    def _clip(self, segment: Segment, kind: FrameSource, path: Path, located: Located) -> Clip:
        return Clip(
            id=segment.name,
            source=path,
            label=segment.label,
            video=segment.video,
            boxes=located.boxes,
            box_size=labels.FRAME_SIZE,
            segment=located.segment,
            span=located.span,
        )

    def _left_out(self, found: OnDisk, absent: Sequence[Segment], listed: int) -> Sequence[str]:
        notes = []
        if absent and not self.require_all:
            names = ", ".join(segment.name for segment in absent[:3]) + (", …" if len(absent) > 3 else "")
            notes.append(f"{len(absent)} of {listed} listed segments are not on disk: {names}")
        ids = {segment.id for segment in self._resolved.segments}
        if others := sorted(path.name for number, path in found.cutouts.items() if number not in ids):
            names = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
            notes.append(f"not read, not in the list: {names}")
        return notes

    @cached_property
    def _resolved(self) -> Resolved:
        return self.listed()

    def listed(self) -> Resolved:
        """Returns the list of segments, from the file `list` or by the rule.

        Raises:
            ConfigError: A file is missing or cannot be read.
        """
        return self._from_file(self.list, "dataset.list") if self.list else self._by_rule()

    def _from_file(self, path: str, option: str) -> Resolved:
        segments, problems = segments_of.published(path, option)
        actions = {action.id: action for action in self._actions().actions} if self.naming is Naming.official else {}
        found = []
        for segment in segments:
            word = segment.label or (segment.verb if self.verbs else segment.noun)
            if self.naming is Naming.official:
                action = actions.get(segment.id)
                word = "" if action is None else self._official.get(self._class(action), "")
            if word:
                found.append(replace(segment, label=word))
            else:
                problems.append(
                    Problem(segment.name, f"the class of segment {segment.id} is not known", "take it out of the list")
                )
        official = self.naming is Naming.official
        names = self._all_official() if official else segments_of.class_order(segments, path, verbs=self.verbs)
        return Resolved(tuple(found), tuple(problems), (), names)

    def _all_official(self) -> tuple[str, ...]:
        return tuple(name for _, name in sorted(self._official.items()))

    def _by_rule(self) -> Resolved:
        read = self._actions()
        known = [action for action in read.actions if self._class(action) in self._official]
        file = labels.VERBS if self.verbs else labels.NOUNS
        problems = [
            Problem(
                one.id,
                f"segment {one.id} is of class {self._class(one)}, which {file} does not have",
                "take the files of one release",
            )
            for one in read.actions
            if self._class(one) not in self._official
        ]
        rule = Rule(
            self.top, self.split, self.per_class, self.seed, self.min_frames, self.boxed, self.test_per_class,
            tuple(self.test_frames), self.test_box_every, self.test_single_box,
        )  # fmt: skip
        column = "noun_class" if self.naming is Naming.official else "noun"
        has_boxes = self.boxed or (Path(self.annotations) / labels.OBJECTS).is_file()
        boxes = labels.objects(self.annotations, column) if has_boxes else {}
        valid = lists.valid_rows(
            known, rule, self._label, lambda action: (action.video, str(getattr(action, column))), boxes
        )
        found = lists.by_rule(valid, rule)
        every = self.naming is Naming.official and not self.top
        names = self._all_official() if every else tuple(lists.ranked_classes(valid, rule))
        asked = min(self.test_per_class, self.per_class or self.test_per_class)
        counts = Counter(segment.label for segment in found)
        short = [f"{label} {count}" for label, count in counts.items() if self.split is Split.test and count < asked]
        notes = [f"fewer than {asked} segments can be drawn for the test split of {', '.join(short)}"] if short else []
        return Resolved(tuple(found), (*read.problems, *problems), tuple(notes), names)

    def _actions(self) -> labels.Read:
        return labels.actions(self.annotations)

    @cached_property
    def _official(self) -> Mapping[int, str]:
        return labels.class_names(self.annotations, labels.VERBS if self.verbs else labels.NOUNS)

    def _class(self, action: Action) -> int:
        return action.verb_class if self.verbs else action.noun_class

    def _label(self, action: Action) -> str:
        if self.naming is Naming.official:
            return self._official[self._class(action)]
        return action.verb if self.verbs else action.noun


@dataclass
class _Ends:
    """The last frame number of each folder or tar file of frames, looked at once."""

    first_frame: int
    found: dict[Path, int] = field(default_factory=dict)

    def of(self, kind: FrameSource, path: Path) -> int:
        if path not in self.found:
            self.found[path] = epic_frames.last_number(kind, path, self.first_frame)
        return self.found[path]
