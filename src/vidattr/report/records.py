"""What a report shows, read from stored runs: layers of maps, tables of scores, and what is missing."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from vidattr.evaluate.scores import ScoreSheet
from vidattr.evaluate.table import Table
from vidattr.run.experiment import Experiment
from vidattr.run.sources import Facts
from vidattr.run.store import RunFolder
from vidattr.types import Clip, Column

_LONGEST = 80  # characters of the name of a page


@dataclass
class Layer:
    """The stored maps of one run, which a page lays over the frames of a clip.

    Attributes:
        number: Its place among the layers of its group, from 0; decides its colour.
        experiment: The run.
        folder: Its folder.
        good: Clip to what is stored with its map, for maps that are undamaged and made of the present source.
    """

    number: int
    experiment: Experiment
    folder: RunFolder
    good: Mapping[str, Facts]

    @property
    def title(self) -> str:
        """Name of the method, and the options in which the runs differ."""
        return self.experiment.title

    def command(self, verb: str = "run", *more: str) -> str:
        """Returns the command line of this run alone; arguments as in `command_line`."""
        return command_line(self.experiment, verb, *more)

    def command_of(self, clip: str) -> str:
        """Returns the command line that makes the map of one clip again: without its file, a run computes it."""
        return f"rm -f {shlex.quote(os.fspath(self.folder.map_path(clip)))} && {self.command()}"


@dataclass(frozen=True)
class ScoreOfClips:
    """A score of a metric, which every clip has a value of; columns of a table may sum it up in several ways.

    Attributes:
        id: Stands for metric, its options and the score; the same in tables of several targets.
        metric: Name of the metric.
        column: The first of its columns.
        values: Row of the table, for a layer its title, to {clip: value}; without clips that could not be judged.
    """

    id: str
    metric: str
    column: Column
    values: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Name of metric and score."""
        return f"{self.metric}: {self.column.score.replace('_', ' ')}"


@dataclass(frozen=True)
class ScoreTable:
    """The stored scores of some runs under one metric.

    Attributes:
        metric: Name of the metric.
        table: Their means, intervals and differences.
        sheets: The rows of the table, with one score per clip.
        of_network: Whether the metric judges the network, and not maps.
    """

    metric: str
    table: Table
    sheets: Sequence[ScoreSheet]
    of_network: bool = False


@dataclass
class Group:
    """The runs of one network on the same clips.

    Attributes:
        number: Its place in the report, from 0.
        layers: The runs.
        clips: The clips that have a map in a layer, in the order of the dataset.
        tables: Their tables of scores.
        scores: The columns of the tables of maps.
        missing: What is not shown, and why: lines of text.
        notes: Remarks of the dataset and the network.
    """

    number: int
    layers: list[Layer]
    clips: list[Clip]
    tables: list[ScoreTable] = field(default_factory=list)
    scores: list[ScoreOfClips] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def first(self) -> Experiment:
        """Any of the experiments; they share dataset and network."""
        return self.layers[0].experiment

    @property
    def title(self) -> str:
        """Names of dataset and network."""
        return f"{self.first.names['dataset']} by {self.first.names['model']}"

    @property
    def gallery(self) -> str:
        """Name of the page that shows all clips."""
        return "gallery.html" if self.number == 0 else f"gallery-{self.number + 1}.html"

    def page(self, clip: Clip) -> str:
        """Returns the name of the files of a clip, without suffix: safe in every address and file system."""
        plain = re.sub(r"[^A-Za-z0-9_-]+", "-", clip.id)
        if plain != clip.id or len(plain) > _LONGEST:
            digest = sha256(clip.id.encode("utf-8", "surrogateescape")).hexdigest()[:8]
            plain = f"{plain[:_LONGEST].strip('-')}-{digest}"
        return plain if self.number == 0 else f"{self.number + 1}-{plain}"


def command_line(experiment: Experiment, verb: str, *more: str) -> str:
    """Returns the command line of one experiment, as it is typed into a shell.

    Args:
        experiment: The experiment.
        verb: The command.
        more: Further overrides; with none, `evaluate` has the experiment's own metric.
    """
    asked = [one.removeprefix("++") for one in experiment.overrides]
    left_out = ["render"] if verb == "evaluate" and not more else ["render", "metric"]
    kept = [one for one in asked if not one.startswith(tuple(f"{role}{end}" for role in left_out for end in "=."))]
    if "metric" not in left_out and not any(one.startswith("metric=") for one in kept):
        kept.append(f"metric={experiment.names['metric']}")
    return shlex.join(["vidattr", verb, *kept, *more])


def relative(path: Path, start: Path) -> str:
    """Returns a path as it is linked from a page in `start`, with / between folders."""
    return Path(os.path.relpath(path, start)).as_posix()
