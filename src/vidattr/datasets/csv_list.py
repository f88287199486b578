"""Clips listed in a CSV file, with paths, labels and, where known, seconds, boxes and recordings."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import ClassVar

from vidattr.config.fields import keyed_by_content
from vidattr.datasets.shared.files import Damaged, chosen, indexed, parsing, safe
from vidattr.errors import ClipError, ConfigError, printable
from vidattr.types import Box, Clip, Index, Problem
from vidattr.video.decoders import VIDEO_SUFFIXES, pyav
from vidattr.video.footage import UnreadableError
from vidattr.video.frame_folder import frame_files

# Returns the largest frame number of a source and its frames per second; None: unknown.
_Length = Callable[[Path, int], tuple[int, float | None]]

_REQUIRED = ("path", "label")
_OPTIONAL = ("id", "video", "start", "end", "boxes")
_EXPECTED = (
    f"a CSV file in UTF-8 whose first line names the columns {', '.join(_REQUIRED)} and, if needed, "
    f"{', '.join(_OPTIONAL)}"
)
_REMEDY = "dataset.file=FILE.csv"


@dataclass(frozen=True)
class CsvList:
    """Clips listed in a CSV file, one per row; the first line names the columns, in any order.

    | column | content |
    |---|---|
    | `path` | a video file or a folder of numbered frames; a relative path starts at the folder of the CSV file |
    | `label` | name of the class; empty where it is not known |
    | `id` | name of the clip, by which its files are called; default: the path's last part and the seconds |
    | `video` | the recording that the clip is from: confidence intervals are clustered by it; default: `path` |
    | `start`, `end` | seconds, end excluded; an empty cell stands for the beginning, or the end, of the video |
    | `boxes` | `<frames>:<x0>,<y0>,<x1>,<y1>`, several separated by `;` |

    `<frames>` is a frame number or a range of them (`1-24`), counted from 1 in the whole video. A box is in pixels of
    the video's frames, x to the right, y down, the far edges exclusive. A cell with commas is quoted. Frame f of a
    video with r frames a second is shown at (f − 1) / r seconds: the clip has the frames ⌊start · r⌋ + 1 to ⌈end · r⌉.

    Attributes:
        file: The CSV file.
        classes: Only these labels; empty: all.
        fps: Frames per second of folders of frames; needed for rows with `start` or `end`.
        damaged: What happens to a clip that can be decoded only in part: warn explains that part and gives a warning,
            fail makes it an error.
        first_frame: The number that frame 1 has in the file names of frames.
    """

    version: ClassVar[int] = 1

    file: str = keyed_by_content("")
    classes: list[str] = field(default_factory=list, metadata={"identity": "skip"})
    fps: float | None = None
    damaged: Damaged = field(default=Damaged.warn, metadata={"identity": "skip"})
    first_frame: int = 1

    def __post_init__(self) -> None:
        if self.fps is not None and not 0 < self.fps < math.inf:
            raise ConfigError(f"dataset.fps={self.fps}", expected="a number above 0, or null", remedy="dataset.fps=25")

    def index(self) -> Index:
        """Returns the listed clips; a row that cannot be used is a problem with the number of its line.

        Raises:
            ConfigError: No such file, no CSV file with these columns, no row, or an unknown class.
        """
        rows = list(_rows(self.file))
        wanted = chosen(self.classes, {row.get("label", "") for _, row in rows} - {""})
        if not self.classes:
            wanted |= {""}
        clips, problems, lines, length = [], [], dict[str, int](), cache(_length)
        for line, row in rows:
            name = safe(row.get("id") or _name(row) or f"line-{line}")
            if row.get("label", "") not in wanted:
                continue
            try:
                if name in lines:
                    raise _RowError(f"{name} is the id of line {lines[name]} too", "give one of them another id")
                lines[name] = line
                clips.append(self._clip(name, row, length))
            except _RowError as error:
                problems.append(Problem(name, f"{self.file}, line {line}: {error.what}", error.remedy))
        return indexed(clips, problems, (), damaged=self.damaged, first_frame=self.first_frame)

    def _clip(self, name: str, row: Mapping[str, str], length: _Length) -> Clip:
        if "" in row:
            raise _RowError(row[""], "quote a cell that holds a comma")
        if not row["path"]:
            raise _RowError("the path is empty", "name a video or a folder of frames")
        path = Path(os.path.normpath(Path(self.file).absolute().parent / os.path.expanduser(row["path"])))
        if not os.path.exists(path):
            raise _RowError(
                f"no such file or folder: {path}", "correct the path; a relative one starts at the CSV file"
            )
        video = row.get("video") or os.path.normpath(row["path"])
        boxes = _boxes(row.get("boxes", ""))
        span = _span(row, self.fps, partial(length, path, self.first_frame))
        return Clip(id=name, source=path, label=row["label"], video=printable(video), boxes=boxes, span=span)


class _RowError(Exception):
    """A row that cannot be used, and what to do."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what, self.remedy = what, remedy


def _rows(path: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields number of line and cells of each row; the key "" holds the error if the number of cells is wrong."""
    if not os.path.isfile(path):
        raise ConfigError(f"no such file: dataset.file={path!r}", expected=_EXPECTED, remedy=_REMEDY)
    with parsing(path, _EXPECTED, _REMEDY), open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, strict=True)
        header = [name.strip() for name in next(reader, [])]
        wrong = [f"no column {name!r}" for name in _REQUIRED if name not in header]
        wrong += [f"a column {name!r}" for name in header if name not in (*_REQUIRED, *_OPTIONAL)]
        wrong += [f"the column {name!r} twice" for name in sorted(set(header)) if header.count(name) > 1]
        if wrong:
            said = f"{path} has {wrong[0]}; its first line is {','.join(header)[:200]!r}"
            raise ConfigError(
                said, expected=_EXPECTED, remedy="correct the first line of the file, or dataset.file=FILE.csv"
            )
        empty = True
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            empty = False
            row = {name: cell.strip() for name, cell in zip(header, cells, strict=False)}
            if len(cells) != len(header):
                row[""] = f"{len(cells)} cells, and the first line has {len(header)}"
            yield reader.line_num, row
        if empty:
            raise ConfigError(f"{path} lists no clip", expected=_EXPECTED, remedy="add a row, or dataset.file=FILE.csv")


def _name(row: Mapping[str, str]) -> str:
    """Returns the id of a row without an id: the last part of its path, and its seconds if it has any."""
    path = Path(row.get("path", ""))
    name = path.stem if path.suffix.lower() in VIDEO_SUFFIXES else path.name
    return "_".join([name, *(row[bound] for bound in ("start", "end") if row.get(bound))])


def _span(
    row: Mapping[str, str], fps: float | None, length: Callable[[], tuple[int, float | None]]
) -> tuple[int, int] | None:
    """Returns the first and last frame number of a row with seconds, None where it has none."""
    start, end = _seconds(row, "start"), _seconds(row, "end")
    if start is None and end is None:
        return None
    if end is not None and end <= (start or 0.0):
        raise _RowError(
            f"end={row['end']} is not after start={row.get('start') or 0}", "swap or correct them, in seconds"
        )
    count, rate = length()
    rate = rate or fps
    if rate is None:
        raise _RowError(
            f"it has start or end, and {row['path']} does not say its frames a second", "dataset.fps=<frames a second>"
        )
    # Rounded, because 0.29 · 100 is 28.999999999999996.
    first = math.floor(round((start or 0.0) * rate, 6)) + 1
    last = count if end is None else math.ceil(round(end * rate, 6))
    if first > count:
        raise _RowError(
            f"start={row['start']} is past the end: {count} frames, {rate:g} a second", "an earlier start, in seconds"
        )
    return first, min(last, count)


def _seconds(row: Mapping[str, str], bound: str) -> float | None:
    text = row.get(bound, "")
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise _RowError(f"{bound}={text}", f"{bound} is a number of seconds, from 0")
    return seconds


def _length(path: Path, first_frame: int) -> tuple[int, float | None]:
    """Returns the largest frame number of a source, and its frames per second; None: unknown."""
    try:
        if path.is_dir():
            return max(frame_files(path, first_frame)[0]), None
        footage = pyav(path)
    except (UnreadableError, ClipError, OSError) as error:
        raise _RowError(f"cannot read {path}: {error}", "copy or re-encode the file, or remove the row") from error
    return max(footage.expected, default=0), footage.fps


def _boxes(text: str) -> dict[int, tuple[Box, ...]]:
    """Returns frame number to boxes of a cell `<frames>:<x0>,<y0>,<x1>,<y1>;…`."""
    found: dict[int, list[Box]] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        try:
            frames, corners = part.split(":")
            first, _, last = frames.partition("-")
            numbers = range(int(first), int(last or first) + 1)
            x0, y0, x1, y1 = map(float, corners.split(","))
        except ValueError:
            numbers, (x0, y0, x1, y1) = range(0), (0.0, 0.0, 0.0, 0.0)
        if not (
            numbers
            and numbers.start >= 1
            and numbers.stop <= 10**7
            and 0 <= x0 < x1 < math.inf
            and 0 <= y0 < y1 < math.inf
        ):
            raise _RowError(
                f"a box {part!r}", "<frame>:<x0>,<y0>,<x1>,<y1> or <first>-<last>:…, frames from 1, x0 < x1, y0 < y1"
            )
        for number in numbers:
            found.setdefault(number, []).append((x0, y0, x1, y1))
    return {number: tuple(boxes) for number, boxes in sorted(found.items())}
