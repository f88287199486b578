"""The official CSV files of EPIC-KITCHENS-55: action labels, boxes, names of classes, rates of videos.

Frame numbers count from 1 at 60 frames a second, whatever the rate of the video: they are the numbers of frames
extracted with `ffmpeg -r 60`, as the official frames were.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from vidattr.datasets.shared.files import parsing, safe
from vidattr.errors import ConfigError
from vidattr.types import Problem

FRAME_SIZE = (1920, 1080)
"""(width, height) of the frames that the boxes were drawn on."""

RATE = 60.0
"""Frames a second in which all frame numbers count."""

ACTIONS, OBJECTS = "EPIC_train_action_labels.csv", "EPIC_train_object_labels.csv"
NOUNS, VERBS, VIDEOS = "EPIC_noun_classes.csv", "EPIC_verb_classes.csv", "EPIC_video_info.csv"

_REMEDY = "dataset.annotations=FOLDER with the files of github.com/epic-kitchens/epic-kitchens-55-annotations"


@dataclass(frozen=True)
class Action:
    """A row of the action labels: one segment of a video, first and last frame inclusive."""

    id: str
    video: str
    verb: str
    verb_class: int
    noun: str
    noun_class: int
    first: int
    last: int

    @property
    def length(self) -> int:
        """Number of frames."""
        return self.last - self.first + 1


@dataclass(frozen=True)
class Read:
    """What a file of segments holds: readable rows, and a problem for each of the others."""

    actions: tuple[Action, ...]
    problems: tuple[Problem, ...]


@lru_cache(maxsize=8)
def _actions(path: str, _look: tuple[int, int]) -> Read:
    columns = ("uid", "video_id", "verb", "verb_class", "noun", "noun_class", "start_frame", "stop_frame")
    found, problems = [], []
    for line, row in rows_of(path, columns, _REMEDY):
        uid, video, verb, verb_class, noun, noun_class, first, last = row
        try:
            check_names(uid, video)
            found.append(Action(uid, video, verb, int(verb_class), noun, int(noun_class), *frames_of(first, last)))
        except ValueError as error:
            problems.append(unreadable(uid or f"line-{line}", path, line, error))
    return Read(tuple(found), tuple(problems))


def actions(folder: str) -> Read:
    """Returns the action labels of the training videos.

    Raises:
        ConfigError: The file is missing, or is no CSV file with these columns.
    """
    path = _present(folder, ACTIONS)
    return _actions(str(path), _look(path))


@lru_cache(maxsize=4)
def _objects(path: str, column: str, _look: tuple[int, int]) -> Mapping[tuple[str, str], tuple[tuple[int, str], ...]]:
    found: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for line, (name, video, frame, boxes) in rows_of(path, (column, "video_id", "frame", "bounding_boxes"), _REMEDY):
        if boxes.strip() in ("", "[]"):
            continue
        if not frame.isascii() or not frame.strip().isdigit():
            raise ConfigError(f"{path}, line {line}: frame {frame[:40]!r}", expected="a frame number", remedy=_REMEDY)
        found.setdefault((video, name), []).append((int(frame), boxes))
    return {key: tuple(sorted(rows)) for key, rows in found.items()}


def objects(folder: str, column: str) -> Mapping[tuple[str, str], tuple[tuple[int, str], ...]]:
    """Returns the annotated boxes: (video, object) to (frame, text of the boxes) by frame.

    Rows without a box are left out.

    Args:
        folder: Of the official files.
        column: What names the object: "noun", as narrated, or "noun_class".

    Raises:
        ConfigError: The file is missing, or is no CSV file with these columns.
    """
    path = _present(
        folder,
        OBJECTS,
        "dataset.boxed=false takes segments without boxes too, dataset.list=FILE a published list with its own boxes",
    )
    return _objects(str(path), column, _look(path))


def class_names(folder: str, file: str) -> Mapping[int, str]:
    """Returns the official names of the classes by index, from `EPIC_noun_classes.csv` or `EPIC_verb_classes.csv`.

    Raises:
        ConfigError: The file is missing or has no such columns.
    """
    path, column = _present(folder, file), "noun_id" if file == NOUNS else "verb_id"
    found = {}
    for line, (number, name) in rows_of(str(path), (column, "class_key"), _REMEDY):
        if not number.isascii() or not number.isdigit() or not name:
            raise ConfigError(
                f"{path}, line {line}: {number[:40]!r}, {name[:40]!r}", expected="an index and a name", remedy=_REMEDY
            )
        found[int(number)] = name
    return found


@dataclass(frozen=True)
class VideoInfo:
    """Frames a second and seconds of one video."""

    fps: float
    duration: float


def video_info(folder: str) -> Mapping[str, VideoInfo]:
    """Returns rate and length of each video; nothing where the file `EPIC_video_info.csv` is missing."""
    path = Path(folder) / VIDEOS
    if not path.is_file():
        return {}
    found = {}
    for line, (video, duration, fps) in rows_of(str(path), ("video", "duration", "fps"), _REMEDY):
        try:
            info = VideoInfo(float(fps), float(duration))
            if not (0 < info.fps < math.inf and 0 < info.duration < math.inf):
                raise ValueError(fps)
        except ValueError as error:
            raise ConfigError(
                f"{path}, line {line}: fps {fps[:40]!r}, duration {duration[:40]!r}",
                expected="positive numbers",
                remedy=_REMEDY,
            ) from error
        found[video] = info
    return found


def frames_of(first: str, last: str) -> tuple[int, int]:
    """Returns two frame numbers; raises ValueError where they are none, or in the wrong order."""
    for text in (first, last):
        if not text.strip().isdecimal():
            raise ValueError(f"{text[:40]!r} is no frame number")
    found = int(first), int(last)
    if not 1 <= found[0] <= found[1]:
        raise ValueError(f"frames {first} to {last} are no segment of a video: numbers start at 1")
    return found


def check_names(uid: str, video: str) -> None:
    """Raises ValueError where a row lacks the number of its segment or the name of its video."""
    if not uid or not video:
        raise ValueError("a row without the number of its segment or the name of its video")


def unreadable(uid: str, path: str, line: int, error: ValueError) -> Problem:
    """Returns the problem of a row that cannot be read."""
    return Problem(safe(uid), f"{path}, line {line}: {str(error)[:200]}", "mend the row, or take it out")


def _present(folder: str, file: str, alternative: str = "") -> Path:
    path = Path(folder) / file
    if not path.is_file():
        remedy = f"{_REMEDY}; {alternative}" if alternative else _REMEDY
        raise ConfigError(
            f"no {file} in dataset.annotations={folder!r}", expected="the official CSV file", remedy=remedy
        )
    return path


def _look(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def rows_of(
    path: str, columns: Sequence[str], remedy: str, optional: Sequence[str] = ()
) -> Iterator[tuple[int, list[str]]]:
    """Yields the line number and the values of some columns of each row; an optional column that is missing is ""."""
    expected = f"a CSV file with the columns {', '.join(columns)}"
    with parsing(path, expected, remedy), open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        heading = next(reader, [])
        missing = [column for column in columns if column not in heading]
        if missing:
            there = str(heading)[:300]
            raise ConfigError(
                f"{path} has no column {missing[0]!r}; its columns are {there}", expected=expected, remedy=remedy
            )
        places = [heading.index(column) if column in heading else None for column in (*columns, *optional)]
        for row in reader:
            if row:
                yield (
                    reader.line_num,
                    [row[place] if place is not None and place < len(row) else "" for place in places],
                )
