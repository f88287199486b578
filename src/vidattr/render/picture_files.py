"""The picture files of a clip in a folder, and the record of what each shows.

Beside the pictures of a folder lies a hidden folder `.drawn` with one JSON file per clip. It records what each picture
shows: the maps, and the options that decide how it looks. A picture is current if its record is equal to what it would
show if it were drawn now. Any other one is stale: it is drawn again where it is asked for, and removed where it is not.
A picture without a record is stale. A record that is not true any more is removed before the picture is replaced, and
the new one is written after it, so that a killed command leaves at worst a picture that is drawn once more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vidattr.writing import remove, write_bytes, write_text

Shown = Mapping[str, str]
"""What a picture shows: a hash of its options under "look", and under the key of each run a hash of the run's map."""


@dataclass(frozen=True)
class PictureFiles:
    """The pictures of one clip in one folder.

    Attributes:
        folder: Where they are, or will be.
        clip: Id of the clip.
        suffixes: Of all pictures that a clip can have there, `<clip><suffix>`.
        shows: Suffix of each picture that this clip can have to what it would show if it were drawn now.
        wanted: Suffixes of the pictures that are asked for; those that the clip cannot have do not count.
    """

    folder: Path
    clip: str
    suffixes: tuple[str, ...]
    shows: Mapping[str, Shown]
    wanted: frozenset[str]

    def path(self, suffix: str) -> Path:
        """Returns where a picture is, or will be."""
        return self.folder / f"{self.clip}{suffix}"

    def current(self) -> list[Path]:
        """Returns the pictures on disk that show what they would show if they were drawn now."""
        record = recorded(self.folder, self.clip)
        return [self.path(suffix) for suffix in self.suffixes if self._is_current(suffix, record)]

    def lacks(self) -> bool:
        """Returns whether a picture that is asked for is missing or stale, or another one stale."""
        record = recorded(self.folder, self.clip)
        return any(
            not self._is_current(suffix, record) and (suffix in self._asked() or self.path(suffix).exists())
            for suffix in self.suffixes
        )

    def discard(self) -> None:
        """Removes the stale pictures, and their records first.

        Raises:
            OutputError: A file cannot be removed.
        """
        record = recorded(self.folder, self.clip)
        true = {suffix: shown for suffix, shown in record.items() if shown == self.shows.get(suffix)}
        self._record(true)
        for suffix in self.suffixes:
            if suffix not in true:
                remove(self.path(suffix))

    def write(self, make: Mapping[str, Callable[[], bytes]], *, overwrite: bool = False) -> list[Path]:
        """Removes the stale pictures and writes those that are asked for and missing, each whole or not at all.

        Args:
            make: Suffix to what returns the bytes of the picture.
            overwrite: Write all that are asked for.

        Returns:
            The files written.

        Raises:
            OutputError: A file cannot be written.
        """
        self.discard()
        record = recorded(self.folder, self.clip)
        asked = [suffix for suffix in self.suffixes if suffix in self._asked()]
        todo = [suffix for suffix in asked if overwrite or not self._is_current(suffix, record)]
        written = []
        try:
            for suffix in todo:
                write_bytes(self.path(suffix), make[suffix]())
                written.append(suffix)
        finally:
            self._record(record | {suffix: self.shows[suffix] for suffix in written})
        return [self.path(suffix) for suffix in written]

    def _asked(self) -> frozenset[str]:
        return self.wanted & self.shows.keys()

    def _is_current(self, suffix: str, record: Mapping[str, Shown]) -> bool:
        return suffix in record and record[suffix] == self.shows.get(suffix) and self.path(suffix).exists()

    def _record(self, shown: Mapping[str, Shown]) -> None:
        if shown == recorded(self.folder, self.clip):
            return
        path = _record_path(self.folder, self.clip)
        if shown:
            write_text(path, json.dumps({suffix: shown[suffix] for suffix in sorted(shown)}, sort_keys=True) + "\n")
        else:
            remove(path)


def recorded(folder: Path, clip: str) -> dict[str, Shown]:
    """Returns the record of the pictures of a clip, by suffix; a damaged record counts as none."""
    try:
        found = json.loads(_record_path(folder, clip).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return (
        {suffix: shown for suffix, shown in found.items() if isinstance(shown, dict)} if isinstance(found, dict) else {}
    )


def _record_path(folder: Path, clip: str) -> Path:
    return folder / ".drawn" / f"{clip}.json"
