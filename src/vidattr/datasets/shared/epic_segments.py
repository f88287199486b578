"""Segments of EPIC-KITCHENS-55 and lists of them: those published with the papers, and those that a run writes.

Boxes are (top, left, height, width) in frames of 1920 × 1080 pixels; they are parsed by `ast.literal_eval`, which
evaluates literals only.
"""

from __future__ import annotations

import ast
import csv
import hashlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vidattr.datasets.shared.epic_annotations import check_names, frames_of, rows_of, unreadable
from vidattr.datasets.shared.files import safe
from vidattr.errors import ConfigError
from vidattr.types import Box, Problem

_LIST_COLUMNS = ("seg_id", "video_id", "noun", "verb", "start_frame", "stop_frame")

Boxes = Mapping[int, tuple[Box, ...]]


@dataclass(frozen=True)
class Segment:
    """A segment that a list names.

    Attributes:
        id: Number of the segment in the action labels.
        video: Name of its video, `P01_01`.
        noun: Narrated noun.
        verb: Narrated verb.
        label: Name of its class.
        first: First frame.
        last: Last frame, inclusive.
        boxes: Frame number to the boxes (x0, y0, x1, y1) of its noun, in pixels of a frame of `FRAME_SIZE`.
        window: First and last frame that are shown, where that is not the segment itself.
        ground: The word of a published list for the side of the window, "" where there is none.
        noun_label: Index of the noun among the classes of a published list, None where the list does not say it.
        verb_label: The same of the verb.
    """

    id: str
    video: str
    noun: str
    verb: str
    label: str
    first: int
    last: int
    boxes: Boxes = field(default_factory=dict)
    window: tuple[int, int] | None = None
    ground: str = ""
    noun_label: int | None = None
    verb_label: int | None = None

    @property
    def name(self) -> str:
        """Id of the clip, as the published cut-outs are named: `<noun>-<verb>-<video>_<id>`."""
        return safe(f"{self.noun}-{self.verb}-{self.video}_{self.id}")

    @property
    def shown(self) -> tuple[int, int]:
        """First and last frame that a network sees frames of."""
        return self.window or (self.first, self.last)

    @property
    def side(self) -> str:
        """On which side of the window the segment lies: "right" where the window begins before the segment."""
        return "right" if self.shown[0] < self.first else "left"

    @property
    def share(self) -> float:
        """The share of the shown frames that lie in the segment."""
        first, last = self.shown
        return max(0, min(last, self.last) - max(first, self.first) + 1) / (last - first + 1)


def published(path: str, option: str) -> tuple[list[Segment], list[Problem]]:
    """Reads a list of segments.

    The list is one of those published with the papers (`Valid_seg_*.csv`), or one that a run wrote beside its maps.

    `bounding_boxes` is a dictionary of frame numbers; its values are one box or a list of boxes. A list of spliced
    windows has the columns `middle_frame` and `ground`: its `start_frame` and `stop_frame` are those of the window,
    and the segment is not in it (`Segment.first` and `last` are then those of the window until the labels say better).

    Args:
        path: The file.
        option: What named it, for messages.

    Returns:
        Segments in the order of the file, and a problem for each row that cannot be read.

    Raises:
        ConfigError: The file is missing, is no such CSV file, or names a segment twice.
    """
    remedy = f"{option}=FILE.csv with the columns {', '.join(_LIST_COLUMNS)}"
    if not Path(path).is_file():
        raise ConfigError(
            f"no such file: {option}={path!r}", expected="a list such as Valid_seg_top20_100_val.csv", remedy=remedy
        )
    optional = ("noun_label", "verb_label", "label", "bounding_boxes", "ground", "window_start", "window_stop")
    found: dict[str, Segment] = {}
    problems = []
    for line, row in rows_of(path, _LIST_COLUMNS, remedy, optional):
        uid, video, noun, verb, start, stop, noun_label, verb_label, label, text, ground, *window = row
        try:
            check_names(uid, video)
            frames = frames_of(start, stop)
            shown = frames_of(*window) if all(window) else frames if ground else None
            boxes = boxes_by_frame(text) if text else {}
            numbers = (_class_index(noun_label), _class_index(verb_label))
            segment = Segment(uid, video, noun, verb, label, *frames, boxes, shown, ground, *numbers)
        except ValueError as error:
            problems.append(unreadable(uid or f"line-{line}", path, line, error))
            continue
        if found.setdefault(uid, segment) is not segment:
            raise ConfigError(
                f"{path}, line {line}: segment {uid} is listed twice", remedy="take one of the two rows out"
            )
    if not found and not problems:
        raise ConfigError(f"{path} lists no segment", remedy=remedy)
    return list(found.values()), problems


def _class_index(text: str) -> int | None:
    if text and not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text[:40]!r} is no index of a class")
    return int(text) if text else None


def class_order(segments: Sequence[Segment], path: str, *, verbs: bool) -> tuple[str, ...]:
    """Returns the names of the classes of a list that was read from a file, in the order of their indices.

    The index is the column `noun_label`, or `verb_label` where the classes are verbs. Without it, a list that a run
    wrote is in the order of its classes, and those of other lists are in the order of the alphabet.

    Args:
        segments: The segments as `published` returns them.
        path: The file, for messages.
        verbs: Whether the classes are verbs, not nouns.

    Raises:
        ConfigError: A class has two indices, or two classes have the same.
    """
    if all(segment.label for segment in segments):
        return tuple(dict.fromkeys(segment.label for segment in segments))
    word = "verb" if verbs else "noun"
    pairs = {(getattr(segment, f"{word}_label"), getattr(segment, word)) for segment in segments}
    if any(index is None for index, _ in pairs):
        return tuple(sorted({name for _, name in pairs}))
    names = dict(sorted(pairs))
    if len(names) < len(pairs) or len({*names.values()}) < len(pairs):
        indices, name = Counter(index for index, _ in pairs), Counter(name for _, name in pairs)
        wrong = next(f"{a} is {b}" for a, b in sorted(pairs) if indices[a] > 1 or name[b] > 1)
        raise ConfigError(
            f"{path}: the column {word}_label does not number the {word}s: {wrong} and something else",
            expected=f"one {word}_label for each {word}",
            remedy="correct the column, or remove it: the classes are then in the order of the alphabet",
        )
    return tuple(names.values())


def boxes_by_frame(text: str) -> dict[int, tuple[Box, ...]]:
    """Returns frame number to boxes of a text `{781: [(0, 670, 1016, 1250)], …}`.

    Raises ValueError where the text is no such mapping.
    """
    found = _literal(text)
    if not isinstance(found, dict):
        raise ValueError(f"bounding_boxes {text[:40]!r} are no dictionary of frames")
    return {_number(frame): _boxes(value) for frame, value in sorted(found.items())}


def boxes_of(text: str) -> tuple[Box, ...]:
    """Returns the boxes (x0, y0, x1, y1) of a text `[(top, left, height, width), …]`.

    Raises ValueError where the text is no such list.
    """
    return _boxes(_literal(text))


def _boxes(value: object) -> tuple[Box, ...]:
    many = value if isinstance(value, list) else [value]
    found = []
    for box in many:
        if (
            not isinstance(box, tuple)
            or len(box) != 4
            or not all(isinstance(x, int | float) and 0 <= x < 1e5 for x in box)
        ):
            raise ValueError(f"a box {str(box)[:60]} is not (top, left, height, width)")
        top, left, height, width = map(float, box)
        found.append((left, top, left + width, top + height))
    return tuple(found)


def _literal(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"bounding_boxes {text[:40]!r} cannot be read: {type(error).__name__}") from error


def _number(value: object) -> int:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{str(value)[:40]!r} is no frame number")
    return value


def listing(segments: Sequence[Segment]) -> str:
    """Returns a list of segments as a CSV text that `published` reads."""
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    heading = (
        "seg_id,video_id,noun,verb,label,start_frame,stop_frame,window_start,window_stop,side,ground,bounding_boxes"
    )
    table.writerow(heading.split(","))
    for s in segments:
        window = ("", "", "") if s.window is None else (*s.window, s.side)
        boxes = {
            frame: [(round(y0), round(x0), round(y1 - y0), round(x1 - x0)) for x0, y0, x1, y1 in boxes]
            for frame, boxes in s.boxes.items()
        }
        table.writerow([s.id, s.video, s.noun, s.verb, s.label, s.first, s.last, *window, s.ground, boxes or ""])
    return text.getvalue()


def content(segments: Sequence[Segment]) -> dict[str, str]:
    """Returns what stands for a list in a run's key.

    All that decides the frames and the label of each of its clips enters; the boxes do not.
    """
    lines = sorted(f"{s.id} {s.video} {s.name} {s.label} {s.first} {s.last} {s.window}" for s in segments)
    return {"sha256": hashlib.sha256("\n".join(lines).encode()).hexdigest()}
