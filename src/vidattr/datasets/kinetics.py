"""Kinetics-400, -600 and -700: clips of ten seconds, labelled by an official CSV file."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from vidattr.config.fields import keyed_by_content, not_in_key
from vidattr.datasets.shared.files import Damaged, chosen, indexed, parsing, safe
from vidattr.datasets.shared.folders import ClipPath, Storage, find_clips
from vidattr.errors import ConfigError
from vidattr.labels import plain
from vidattr.types import Clip, Index, Problem

_TIMED = re.compile(r"(?P<video>.+)_(?P<start>\d+)_\d+")
_Rows = Mapping[str, Mapping[int, str]]  # YouTube id to the second at which a clip starts to its label


@dataclass(frozen=True)
class Kinetics:
    """Kinetics (Kay et al. 2017; Carreira et al. 2018, 2019), cut to the annotated seconds.

    `root` holds `videos/<label>/<name>.mp4`, `sampled_frames/<label>-<name>/<number>.png`, or both, with the label in
    either place or nowhere; or is itself one of these folders. `<name>` is `<YouTube id>`, with or without
    `_<start>_<end>`. The label comes from the CSV file. A clip that is not in the file gets the label of its folder or
    name if the file has that label; otherwise it is a problem. Copies of Kinetics are never complete, so clips of the
    CSV file that are not on disk are problems only if `require_all` is set.

    Attributes:
        root: The folder.
        classes: Only these classes; empty: all.
        source: `any` takes the frames of a clip only where its video, of the same name, is missing.
        annotations: CSV file with the columns label, youtube_id and time_start; other columns are ignored.
        require_all: Whether clips of the CSV file that are not on disk are problems.
        damaged: What happens to a clip that can be decoded only in part: warn explains that part and gives a warning,
            fail makes it an error.
        first_frame: The number that frame 1 has in the file names of frames; it matters only where there are boxes.
    """

    version: ClassVar[int] = 2

    root: str = not_in_key("")
    classes: list[str] = field(default_factory=list, metadata={"identity": "skip"})
    source: Storage = Storage.any
    annotations: str = keyed_by_content("")
    require_all: bool = not_in_key(False)
    damaged: Damaged = field(default=Damaged.warn, metadata={"identity": "skip"})
    first_frame: int = 1

    def index(self) -> Index:
        """Returns the clips on disk with their labels; a clip without a label is a problem.

        Raises:
            ConfigError: No clip under `root`, no such CSV file or column, or an unknown class.
        """
        found = find_clips(
            self.root,
            self.source,
            "videos/<label>/<YouTube id>.mp4 or sampled_frames/<label>-<YouTube id>/<number>.png",
        )
        rows = _read(self.annotations)
        wanted = chosen(self.classes, {label for starts in rows.values() for label in starts.values()})
        labels = {plain(label): label for starts in rows.values() for label in starts.values()}
        clips, problems, seen = [], found.problems, set()
        for one in found.files:
            name, video, start, label = _identify(one, rows, labels)
            seen.add((video, start))
            if label is None:
                message = f"unlabelled: {one.path} is not in {self.annotations}, and lies in no folder of a class"
                problems.append(Problem(safe(name), message, "put it into a folder named as its class"))
            elif label in wanted:
                clips.append(Clip(id=safe(name), source=one.path, label=label, video=video))
        if self.require_all:
            problems += [
                Problem(
                    safe(f"{video}_{start:06d}"),
                    f"{label}: listed in {self.annotations} and not on disk",
                    "dataset.require_all=false",
                )
                for video, starts in rows.items()
                for start, label in starts.items()
                if label in wanted and seen.isdisjoint({(video, start), (video, None)})
            ]
        return indexed(clips, problems, found.notes(), damaged=self.damaged, first_frame=self.first_frame)


def _identify(one: ClipPath, rows: _Rows, labels: Mapping[str, str]) -> tuple[str, str, int | None, str | None]:
    """Returns name without label, YouTube id, start in seconds or None, and label or None."""
    prefix, _, rest = one.name.partition("-")
    named = labels.get(plain(prefix)) if rest else None  # no label has a hyphen; ids do
    name = rest if named else one.name
    timed = None if name in rows else _TIMED.fullmatch(name)
    video, start = (timed["video"], int(timed["start"])) if timed else (name, None)
    starts = rows.get(video, {})
    listed = {starts[start]} if start is not None and start in starts else set(starts.values())
    return name, video, start, listed.pop() if len(listed) == 1 else named or labels.get(plain(one.folder))


def _read(path: str) -> _Rows:
    columns = ("label", "youtube_id", "time_start")
    remedy = "dataset.annotations=FILE.csv"
    if not Path(path).is_file():
        raise ConfigError(
            f"no such file: dataset.annotations={path!r}", expected="the official CSV file of a split", remedy=remedy
        )
    rows: dict[str, dict[int, str]] = {}
    expected = f"the columns {', '.join(columns)}"
    with parsing(path, expected, remedy), open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        missing = [column for column in columns if column not in (reader.fieldnames or ())]
        if missing:
            columns_there = str(reader.fieldnames)[:300]
            raise ConfigError(
                f"{path} has no column {missing[0]!r}; its columns are {columns_there}",
                expected=expected,
                remedy=remedy,
            )
        try:
            for row in reader:
                label, video, start = (row[column] for column in columns)
                if not label or not video or start is None:
                    raise ValueError("a row that is too short")
                rows.setdefault(video, {})[int(float(start))] = label
        except Exception as error:
            raise ConfigError(
                f"{path}, line {reader.line_num}: {type(error).__name__} {str(error)[:300]}",
                expected=expected,
                remedy=remedy,
            ) from error
    if not rows:
        raise ConfigError(f"{path} lists no clip", expected=expected, remedy=remedy)
    return rows
