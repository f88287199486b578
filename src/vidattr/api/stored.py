"""Reads the folder of a run: maps as numpy arrays; clips, scores, curves and errors as tables."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vidattr.errors import ConfigError, unknown
from vidattr.run.sources import mark_of
from vidattr.run.store import RunFolder, StoredMap

_LISTED = 12


class StoredMaps(Mapping[str, NDArray[np.float32]]):
    """Clip to its map (T, H, W); a map is read when it is asked for."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._clips = sorted(folder.stored())

    def __getitem__(self, clip: str) -> NDArray[np.float32]:
        """Returns the map of a clip; raises KeyError where there is none, and ClipError where its file is damaged."""
        if clip not in self._clips:
            raise KeyError(clip)
        found: NDArray[np.float32] = self._folder.load(clip).map.numpy()
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._clips)

    def __len__(self) -> int:
        return len(self._clips)


@dataclass(frozen=True)
class StoredRun:
    """The results of a run, as they are on disk.

    Attributes:
        path: Its folder.
        identity: What decides the maps: dataset, model, method, target and seed, as in `run.json`.
        made_by: Versions, device, date and command.
        maps: Clip to its map (T, H, W) float32, raw.
    """

    path: Path
    identity: Mapping[str, Any] = field(repr=False)
    made_by: Mapping[str, Any] = field(repr=False)
    maps: StoredMaps = field(repr=False)

    def __repr__(self) -> str:
        """Returns the folder, the numbers of maps, failures and tables of scores."""
        scores = ", ".join(f"{name} ({len(table)})" for name, table in self.scores.items()) or "none"
        return f"{self.path}: {len(self.maps)} maps, {len(self.errors)} failures; scores: {scores}"

    def clip(self, clip: str) -> StoredMap:
        """Returns all that is stored of a clip: map, frame numbers, explained class, probabilities, extras.

        Raises:
            ConfigError: The run has no map of such a clip.
            ClipError: Its file is damaged.
        """
        if clip not in self.maps:
            raise unknown("clip", clip, list(self.maps))
        return RunFolder(self.path, self.identity).load(clip, extras=True)

    @cached_property
    def clips(self) -> pd.DataFrame:
        """A row per map: clip, target, probability (of the target), predicted, predicted_probability.

        A map whose file is damaged has NaN in all columns but the first.
        """
        folder = RunFolder(self.path, self.identity)
        rows = []
        for clip in self.maps:
            facts = folder.facts(clip) or {}
            name, p = (facts.get("top") or [(None, np.nan)])[0]
            rows.append((clip, facts.get("name"), facts.get("probability", np.nan), name, p))
        return pd.DataFrame(rows, columns=["clip", "target", "probability", "predicted", "predicted_probability"])

    @cached_property
    def scores(self) -> dict[str, pd.DataFrame]:
        """Metric to its scores, a row per clip.

        A metric that was evaluated with several options has several tables, whose names end in the key of the options.
        A column `<reference>/<score>` holds the score of a trivial answer, `matched/<score>` that of matched noise.
        Scores of a map that was computed again since are a Python warning; `vidattr evaluate` judges such maps again.
        """
        tables = _by_metric({path.stem: path for path in self._tables() if "." not in path.stem})
        folder = RunFolder(self.path, self.identity)
        facts = {clip: folder.facts(clip) or {} for clip in self.maps}
        marks = {
            clip: {mark_of(one), mark_of(one, map=False)}
            for clip, one in facts.items()
            if {"sha256", "source"} <= one.keys()
        }
        for name, table in tables.items():
            pairs = zip(table["clip"], table["made_of"], strict=True) if "made_of" in table else ()
            if old := [clip for clip, mark in pairs if clip in marks and mark not in marks[clip]]:
                text = f"{self.path}: {len(old)} scores of {name} are of earlier maps: {', '.join(old[:3])}"
                warnings.warn(f"{text}; `vidattr evaluate` judges them again", stacklevel=3)
        return tables

    @cached_property
    def curves(self) -> dict[str, pd.DataFrame]:
        """Curves by "<metric>.<curve>", a row per clip: the clip, and the values at the points of the curve."""
        return _by_metric({path.stem: path for path in self._tables() if "." in path.stem})

    @cached_property
    def errors(self) -> pd.DataFrame:
        """A row per clip that failed: clip, stage, type, error, to_do."""
        return _lines(self.path, "errors*.jsonl", ["clip", "stage", "type", "error", "to_do"])

    @cached_property
    def doubts(self) -> pd.DataFrame:
        """A row per doubt about an explained clip."""
        return _lines(self.path, "warnings*.jsonl", ["clip"])

    def to_dataframe(self) -> pd.DataFrame:
        """Returns a row per frame of each clip: clip, frame (from 1), seconds, and mean and max of the frame's map.

        Seconds are NaN where the source does not tell the times of its frames, and in maps of earlier versions.

        Raises:
            ClipError: A file is damaged.
        """
        folder = RunFolder(self.path, self.identity)
        tables = []
        for clip in self.maps:
            found = folder.load(clip)
            per_frame = found.map.flatten(1).double()
            columns = {
                "clip": clip,
                "frame": found.numbers,
                "seconds": np.nan if found.seconds is None else found.seconds,
                "mean": per_frame.mean(1),
                "max": per_frame.amax(1),
            }
            tables.append(pd.DataFrame(columns))
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()

    def _tables(self) -> list[Path]:
        return sorted((self.path / "scores").glob("[!.]*.csv"))


def open_run(folder: str | Path) -> StoredRun:
    """Opens the folder of a run, `<out>/<method>/<model>/<label>`, as `vidattr run` wrote it.

    Raises:
        ConfigError: There is no run in this folder; the message lists the runs below it.
    """
    path = Path(folder).expanduser()
    file = path / "run.json"
    if not file.is_file():
        below = sorted(str(one.parent) for one in path.rglob("run.json")) if path.is_dir() else []
        more = f" and {len(below) - _LISTED} more" if len(below) > _LISTED else ""
        raise ConfigError(
            f"no run is stored in {path}",
            expected=f"one of {', '.join(below[:_LISTED])}{more}" if below else "a folder that holds a run.json",
            remedy=None if below else "`vidattr run` writes <out>/<method>/<model>/<label>",
        )
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        identity, made_by = dict(stored["identity"]), dict(stored.get("made_by", {}))
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise ConfigError(f"{file} cannot be read: {error}", expected="a file as `vidattr run` writes it") from error
    return StoredRun(path, identity, made_by, StoredMaps(RunFolder(path, identity)))


def _by_metric(files: Mapping[str, Path]) -> dict[str, pd.DataFrame]:
    """Returns the tables by metric, and by metric and key where a metric has several of a kind."""
    short = {stem: _without_key(stem) for stem in files}
    several = {name for name in short.values() if list(short.values()).count(name) > 1}
    return {
        stem if short[stem] in several else short[stem]: pd.read_csv(path, dtype={"clip": str})
        for stem, path in files.items()
    }


def _without_key(stem: str) -> str:
    """Returns "<metric>" of "<metric>-<key>", and "<metric>.<curve>" of "<metric>-<key>.<curve>"."""
    name, dot, curve = stem.partition(".")
    return f"{name.rpartition('-')[0] or name}{dot}{curve}"


def _lines(path: Path, pattern: str, columns: list[str]) -> pd.DataFrame:
    rows = []
    for file in sorted(path.glob(pattern)):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                rows.append({"clip": "", "error": f"{file.name} holds a damaged line: {line[:200]}"})
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)
