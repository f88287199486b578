"""The scores of one experiment under one metric: rows, curves and strips on disk, and which are still valid."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from vidattr.config.identity import KEY_VERSION, key
from vidattr.errors import ConfigError, Failure, VidattrError
from vidattr.evaluate.noise import draws_of
from vidattr.evaluate.score_files import KEYS, joined, part_files, part_path, read_table, removed_parts
from vidattr.evaluate.table import MATCHED
from vidattr.metrics.shared import matched_noise
from vidattr.protocols import MachineDependent
from vidattr.render.strips import StoredStrip
from vidattr.run.doubts import Doubts
from vidattr.run.experiment import Experiment, metric_identity
from vidattr.run.job import run_folder
from vidattr.run.store import RunFolder, write_lines
from vidattr.types import Clip, Sample, Scores
from vidattr.writing import remove, whole


@dataclass
class ScoreSheet:
    """The scores of one experiment under one metric.

    Attributes:
        experiment: The experiment, with its metric.
        folder: The folder of its run, or of its network under a `NetworkMetric`.
        rows: One row per clip: clip, label, video, `made_of` (a hash of map and frames), `truth` (a hash of the
            annotation), the scores, "<reference>/<score>" for the score of a reference such as chance, and
            "matched/<score>" for noise as smooth as the map.
        curves: Name to one row per clip: clip and the curve's values, headed 0, 1, … and by the points' names.
        strips: Clip to the maps that the metric keeps, not yet written.
        clips: Number of clips in the dataset.
        failures: The clips that could not be judged.
        baseline: Whether it was added to the table although no override names it.
        marks: Clip to the `made_of` and `truth` that its row must have; without clips that cannot be judged.
        maps: Clips whose map can be judged; for a baseline those with a stored map.
        outdated: Clips whose row belongs to another map, other frames or another annotation.
        title: The title of its row in the table; by default that of the experiment.
        unlisted: Why the clips of the experiment are unknown, so that all rows on disk are shown; "": they are known.
        shard: (i, n): only every n-th batch of clips is judged, and its scores are stored in files of their own.
        doubts: The doubts about the clips, from the run and from this evaluation.
    """

    experiment: Experiment
    folder: RunFolder
    rows: pd.DataFrame
    curves: dict[str, pd.DataFrame]
    clips: int = 0
    failures: list[Failure] = field(default_factory=list)
    baseline: bool = False
    strips: dict[str, StoredStrip] = field(default_factory=dict)
    marks: dict[str, tuple[str, str]] = field(default_factory=dict)
    maps: Collection[str] = frozenset()
    outdated: frozenset[str] = frozenset()
    title: str = ""
    unlisted: str = ""
    shard: tuple[int, int] = (1, 1)
    doubts: Doubts = field(init=False)

    def __post_init__(self) -> None:
        self.doubts = Doubts(self.folder.path)
        self.title = self.title or self.experiment.title

    @property
    def path(self) -> Path:
        """The file of the scores."""
        identity = scores_identity(self.experiment, self.folder.identity["key_version"])
        return self.folder.path / "scores" / f"{self.experiment.names['metric']}-{key(identity)}.csv"

    @property
    def file(self) -> Path:
        """The file that this sheet writes: `path`, or, of a shard, a file beside it that no other shard writes."""
        return self.path if self.shard == (1, 1) else part_path(self.path, self.shard)

    def strip_path(self, clip: str) -> Path:
        """Where the strip of a clip is, or will be."""
        return self.path.with_suffix("") / f"{clip}.safetensors"

    def judged(self) -> set[str]:
        """Ids of the clips that have a row."""
        return set(self.rows["clip"]) if len(self.rows) else set()

    def open(self) -> set[str]:
        """Ids of the clips whose map can be judged and has no row."""
        return self.marks.keys() - self.judged()

    def said(self) -> dict[str, tuple[str, str]]:
        """Returns clip to `made_of` and `truth` of its row."""
        return dict(zip(self.rows["clip"], zip(self.rows["made_of"], self.rows["truth"], strict=True), strict=True))

    def expect(self, marks: Mapping[str, tuple[str, str]], gone: Collection[str] = ()) -> None:
        """Drops rows and curves that belong to earlier maps, frames or annotations.

        Args:
            marks: Clip to its present `made_of` and `truth`.
            gone: Clips whose row is dropped in any case.
        """
        self.marks = dict(marks)
        dropped = frozenset(clip for clip, one in self.said().items() if clip in gone or marks.get(clip, one) != one)
        self.outdated = dropped
        self.rows = self.rows[~self.rows["clip"].isin(dropped)]
        self.curves = {name: curve[~curve["clip"].isin(dropped)] for name, curve in self.curves.items()}

    def narrow(self) -> None:
        """Leaves out the rows of clips outside this experiment, or without a map; they stay on disk.

        The others are sorted, so that sums over them are the same to the bit whichever clips were judged first.
        """

        def narrowed(table: pd.DataFrame) -> pd.DataFrame:
            return table[table["clip"].isin(self.marks)].sort_values("clip", ignore_index=True)

        self.rows = narrowed(self.rows)
        self.curves = {name: narrowed(self.curves[name]) for name in sorted(self.curves)}

    def add(
        self,
        judged: Sequence[tuple[Clip, Sample]],
        scores: Scores,
        m: int,
        have: Sequence[int],
        noise: Mapping[str, Tensor],
    ) -> None:
        """Adds the rows, curves and strips of some clips, in place of earlier ones.

        Args:
            judged: The clips.
            scores: Of a batch.
            m: Place of this experiment in it.
            have: Place of each clip in it.
            noise: Score name to the scores (N,) of noise matched to this experiment's maps.
        """
        clips = [clip for clip, _ in judged]
        rows = pd.DataFrame(
            {
                "clip": [c.id for c in clips],
                "label": [c.label for c in clips],
                "video": [c.video or c.id for c in clips],
            }
        )
        rows["made_of"], rows["truth"] = zip(*(self.marks[c.id] for c in clips), strict=True)
        for name, values in scores.columns.items():
            rows[name] = values[m].cpu().numpy()[list(have)]
        for reference, columns in scores.reference.items():
            for name, values in columns.items():
                rows[f"{reference}/{name}"] = values.cpu().numpy()[list(have)]
        for name, values in noise.items():
            rows[f"{MATCHED}/{name}"] = values.cpu().numpy()[list(have)]
        for name, texts in scores.notes.items():
            rows[name] = [texts[n] for n in have]
        self.rows = joined(self.rows, rows)
        for name, values in scores.curves.items():
            curve = pd.DataFrame(values[m].cpu().numpy()[list(have)]).assign(clip=[c.id for c in clips])
            headings = {s: f"{s} {point}" for s, point in enumerate(scores.points)}
            curve = curve[["clip", *curve.columns.drop("clip")]].rename(columns=headings).rename(columns=str)
            self.curves[name] = joined(self.curves.get(name, pd.DataFrame()), curve)
        if (strip := scores.strip) is not None:
            maps, values = strip.maps[m].float().cpu(), strip.values[m].double().cpu()
            for n, (clip, sample) in zip(have, judged, strict=True):
                pixels = torch.from_numpy(sample.pixels[strip.frame])
                number = sample.numbers[strip.frame]
                self.strips[clip.id] = StoredStrip(maps[n], values[n], pixels, strip.name, number, tuple(scores.points))

    @property
    def errors_path(self) -> Path:
        """The file of the clips that could not be judged, one line each."""
        return self.file.with_suffix(".errors.jsonl")

    def save(self, names: ExitStack) -> None:
        """Writes strips, curves and rows, each file whole; the rows last: a clip with a row is not judged again.

        Args:
            names: Gives curves and rows their names when it closes, in the reverse order.
        """
        write_lines(self.errors_path, (failure.row() for failure in self.failures))
        for clip in self.outdated - self.judged():
            remove(self.strip_path(clip))
        for clip, strip in self.strips.items():
            strip.save(self.strip_path(clip))
        self.strips.clear()
        tables = {self.file: self.rows} | {
            self.file.with_suffix(f".{name}.csv"): curve for name, curve in self.curves.items()
        }
        if self.shard == (1, 1):
            names.enter_context(removed_parts(self.path))  # after the files got their names
        else:
            tables = {path: table[table["clip"].isin(self.marks)] for path, table in tables.items()}
        for path, table in tables.items() if len(tables[self.file]) or self.file.is_file() else ():
            text = table.sort_values("clip").to_csv(index=False)
            names.enter_context(whole(path)).write_bytes(text.encode("utf-8", "backslashreplace"))


def scores_identity(experiment: Experiment, version: int = KEY_VERSION) -> dict[str, Any]:
    """Returns all that decides the scores of an experiment beside its maps, in the form of a key version.

    For a `MachineDependent` metric this includes the machine, for one that `ComparesMaps` the runs of its table.
    """
    metric, identity = experiment.metric, metric_identity(experiment, version)
    if draws_of(metric):
        identity["noise_version"] = matched_noise.VERSION
    if experiment.company:
        identity["compared"] = list(experiment.company)
    if isinstance(metric, MachineDependent):
        identity["conditions"] = metric.conditions(experiment.runtime)
    return identity


def read_scores(
    experiment: Experiment,
    *,
    folder: RunFolder | None = None,
    baseline: bool = False,
    shard: tuple[int, int] = (1, 1),
) -> ScoreSheet:
    """Returns the stored scores of an experiment; without any row if there are none yet.

    The rows of shards are among them.

    Args:
        experiment: The experiment, with its metric.
        folder: Folder of its scores; None: the folder of its run.
        baseline: Whether it was added to the table although no override names it.
        shard: As in `ScoreSheet`.
    """
    empty = pd.DataFrame(columns=list(KEYS))
    found = ScoreSheet(experiment, folder or run_folder(experiment), empty, {}, baseline=baseline, shard=shard)
    found.folder.check()
    for file in (found.path, *part_files(found.path)):
        if not file.is_file():
            continue
        # An earlier version of a metric may lack a score; the scores that are there have to be numbers.
        columns = experiment.metric.summary() if experiment.metric is not None else ()
        rows = read_table(file, {name for column in columns for name in (column.score, column.weight) if name})
        # An earlier version did not mark its rows.
        found.rows = joined(found.rows, rows.assign(**{name: "" for name in KEYS if name not in rows}))
        for path in file.parent.glob(f"{file.stem}.*.csv"):
            if path not in part_files(found.path):
                name = path.suffixes[-2].removeprefix(".")
                found.curves[name] = joined(found.curves.get(name, pd.DataFrame()), read_table(path))
    return found


def unlisted(experiment: Experiment, error: VidattrError) -> str:
    """Returns the remark for a table of a dataset that is not available.

    Raises:
        ConfigError: `limit` or `per_class` selects a part of its clips.
    """
    asked = {name: getattr(experiment.settings, name) for name in ("limit", "per_class")}
    if some := [f"{name}={value}" for name, value in asked.items() if value is not None]:
        raise ConfigError(
            f"{' '.join(some)}, but the data set is not at hand: {error.found}",
            expected="the data set, which decides which clips these are",
            remedy="make it available, or leave the option out for the table of all stored scores",
        ) from error
    return (
        f"The data set is not at hand ({error.found.splitlines()[0]}): all stored scores of the run are shown, "
        "whatever options of the data set choose clips."
    )
