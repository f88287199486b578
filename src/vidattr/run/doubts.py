"""Doubts about the clips of a run, and notes of its dataset: `warnings.jsonl`, and how both are printed.

A doubt is no error: the clip is explained, and the exit code is 0. It is written to the run's folder before the map of
the clip, so that a killed run cannot lose it, and every later run and evaluation of the clip prints it again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from vidattr.types import Clip, Sample
from vidattr.writing import remove, write_text

_SHOWN = 5


class Doubts:
    """The doubts about one run.

    Args:
        folder: Folder of the run.
        clips: The clips of this command.
        notes: Notes of the dataset on files that it does not read.
        shard: (i, n): the clips are the i-th of n parts of the run's clips, which has a file of its own.
    """

    def __init__(
        self, folder: Path, clips: Iterable[Clip] = (), notes: Sequence[str] = (), shard: tuple[int, int] = (1, 1)
    ) -> None:
        self.path = folder / ("warnings.jsonl" if shard == (1, 1) else f"warnings.{shard[0]}-of-{shard[1]}.jsonl")
        self.clips, self.notes = {clip.id: clip for clip in clips}, tuple(notes)
        # A run of all clips takes over the files of the parts.
        self._taken = [path for path in sorted(folder.glob("warnings.*-of-*.jsonl")) if path != self.path]
        self._others: dict[str, tuple[str, ...]] = {}
        for path in self._taken:
            self._others |= _read(path)
        self._own = _read(self.path)
        if shard == (1, 1):
            self._own, self._others = {**self._others, **self._own}, {}
        else:
            self._taken = []
        self._written = self.path.read_text(encoding="utf-8", errors="replace") if self.path.is_file() else ""

    def found(self) -> dict[str, tuple[str, ...]]:
        """Returns the doubts about the clips of this command; clips without a doubt are left out."""
        known = {**self._others, **self._own}
        return {clip: known[clip] for clip in self.clips if clip in known}

    def refused(self) -> set[str]:
        """Returns the doubtful clips that must be undamaged (`dataset.damaged=fail`) and so have to be read again."""
        return {clip for clip in self.found() if self.clips[clip].intact}

    def add(self, found: Iterable[tuple[Clip, Sample]]) -> None:
        """Replaces the doubts about clips by those of samples that were just read."""
        for clip, sample in found:
            self._own.pop(clip.id, None)
            self._others.pop(clip.id, None)
            if sample.warnings:
                self._own[clip.id] = sample.warnings

    def write(self) -> None:
        """Writes the file if its content changed, or removes it if there are no doubts and notes."""
        text = _lines(self._own, self.notes)
        if text and text != self._written:
            write_text(self.path, text)
        for path in [*self._taken, *([] if text else [self.path])]:
            remove(path)
        self._written, self._taken = text, []


def _lines(found: Mapping[str, Sequence[str]], notes: Sequence[str]) -> str:
    rows = [{"clip": "", "stage": "index", "warning": note} for note in notes]
    rows += [{"clip": clip, "stage": "read", "warning": text} for clip in sorted(found) for text in found[clip]]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _read(path: Path) -> dict[str, tuple[str, ...]]:
    """Returns the doubts about clips in a file; lines of another form are ignored."""
    found: dict[str, tuple[str, ...]] = {}
    if not path.is_file():
        return found
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
            if row["stage"] == "read":
                found[str(row["clip"])] = (*found.get(str(row["clip"]), ()), str(row["warning"]))
        except (ValueError, KeyError, TypeError):
            continue
    return found


def tell(all_of: Iterable[Doubts], say: Callable[[str], object]) -> None:
    """Prints the doubts about several runs by `say`, each doubt once."""
    runs = list(all_of)
    found: dict[str, tuple[str, ...]] = {}
    for doubts in runs:
        for clip, texts in doubts.found().items():
            found[clip] = tuple(dict.fromkeys((*found.get(clip, ()), *texts)))
    for line in told(
        found, dict.fromkeys(note for doubts in runs for note in doubts.notes), runs[0].path if runs else None
    ):
        say(line)


def told(found: Mapping[str, Sequence[str]], notes: Iterable[str] = (), where: Path | None = None) -> list[str]:
    """Returns lines for the terminal: the same doubt about several clips once, and only the first few doubts.

    Args:
        found: Clip to its doubts.
        notes: Notes of the dataset.
        where: The file that holds all doubts.
    """
    clips: dict[str, list[str]] = {}
    for clip, texts in found.items():
        for text in texts:
            clips.setdefault(text, []).append(clip)
    lines = [f"warning: {_named(names)}: {text}" for text, names in clips.items()]
    more = [f"  and {len(lines) - _SHOWN} more" + (f" in {where}" if where else "")] if len(lines) > _SHOWN else []
    return [*lines[:_SHOWN], *more, *(f"note: {note}" for note in notes)]


def _named(clips: Sequence[str]) -> str:
    if len(clips) == 1:
        return clips[0]
    return f"{len(clips)} clips ({', '.join(clips[:3])}{', …' if len(clips) > 3 else ''})"
