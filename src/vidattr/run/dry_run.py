"""The plan of a run (experiments, clips, passes, disk space), and the configuration of each experiment."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from vidattr.config.identity import described_once, key
from vidattr.config.quoting import escaped
from vidattr.run.batches import clips_of
from vidattr.run.doubts import told
from vidattr.run.experiment import Experiment
from vidattr.run.job import check_folders, run_folder
from vidattr.run.lowered import note
from vidattr.run.sources import Again, Sources
from vidattr.run.store import free_bytes
from vidattr.types import Clip


class _Indexed:
    """The clips of each dataset, indexed once for all experiments that share it."""

    def __init__(self, shard: tuple[int, int]) -> None:
        self._shard = shard
        self._clips: dict[object, tuple[list[Clip], int, Sequence[str]]] = {}
        self._sources: dict[object, Sources] = {}

    def clips(self, experiment: Experiment) -> tuple[list[Clip], int, Sequence[str]]:
        """Returns the clips of an experiment, the number of its dataset's problems, and its notes."""
        group = self._group(experiment)
        if group not in self._clips:
            clips, problems, notes = clips_of(experiment, self._shard)
            self._clips[group] = clips, len(problems), notes
        return self._clips[group]

    def sources(self, experiment: Experiment) -> Sources:
        """Returns the sources of an experiment's clips; each is looked at once."""
        group = (*self._group(experiment), experiment.settings.target)
        if group not in self._sources:
            self._sources[group] = Sources(self.clips(experiment)[0], experiment.settings.target)
        return self._sources[group]

    def _group(self, experiment: Experiment) -> tuple[object, ...]:
        # Experiments of one sweep share the object of a dataset that they have in common.
        asked = experiment.settings
        return (
            id(experiment.dataset),
            asked.limit,
            asked.per_class,
            asked.seed if asked.per_class is not None else None,  # it draws the clips of each class
            experiment.runtime.clips,
            experiment.notes,
        )


def plan(experiments: Sequence[Experiment], shard: tuple[int, int] = (1, 1)) -> list[dict[str, Any]]:
    """Returns a row per experiment: its key and folder, clips present and missing, passes and bytes still to come.

    A pass is one clip through the network, forward, or forward and backward. A method whose number of passes depends on
    the clip reports the number for 16 × 112 × 112, and the largest number if it may stop early. Bytes are those of the
    maps alone, until a stored map of the run shows how large its extras are.

    Raises:
        ConfigError: As `check_folders`, or a dataset has no clip or cannot be indexed.
    """
    with described_once():
        folders = check_folders(experiments)
    indexed, free, rows = _Indexed(shard), dict[Path, int](), []
    for experiment, folder in zip(experiments, folders, strict=True):
        clips, problems, notes = indexed.clips(experiment)
        survey = indexed.sources(experiment).survey(folder, extras=experiment.runtime.extras)
        missing = len(clips) - len(survey.good)
        view = experiment.model.input
        sizes = [path.stat().st_size for path in (folder.path / "maps").glob("[!.]*.safetensors")]
        each = sum(sizes) / len(sizes) if sizes else 4 * view.frames * view.size[0] * view.size[1]
        disk = folder.path if folder.path.exists() else folder.path.parent
        if disk not in free:
            free[disk] = free_bytes(disk)
        rows.append(
            {
                "experiment": experiment.title,
                "dataset": experiment.names["dataset"],
                "model": experiment.names["model"],
                "key": key(folder.identity),
                "folder": str(folder.path),
                "clips": len(clips),
                "present": len(clips) - missing,
                "missing": missing,
                "again": {why.name: count for why, count in survey.counts().items()},
                "problems": problems,
                "notes": [*notes, *note(experiment)],
                "passes": missing * (1 + experiment.method.passes),
                "bytes": round(missing * each),
                "free_bytes": free[disk],
            }
        )
    return rows


def text(rows: Sequence[dict[str, Any]], more: Mapping[str, Sequence[str]] | None = None) -> str:
    """Returns the plan as a table for people.

    Args:
        rows: From `plan`.
        more: Heading of a further column to its text in each row; in place of the size of the maps.
    """
    names = ("experiment", "dataset", "model", "key", "clips", "present", "missing", "problems", "passes")
    more = more or {"maps": [size_text(row["bytes"]) for row in rows]}
    table = [[*names, *more]]
    table += [
        [*(str(row[name]) for name in names), *(column[i] for column in more.values())] for i, row in enumerate(rows)
    ]
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    lines = ["  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip() for line in table]
    lines += [f"{row['experiment']}: {Again[why].told(count)}" for row in rows for why, count in row["again"].items()]
    lines += told({}, dict.fromkeys(line for row in rows for line in row["notes"]))
    total, passes = sum(row["bytes"] for row in rows), sum(row["passes"] for row in rows)
    free = min(row["free_bytes"] for row in rows)
    lines.append(f"{len(rows)} experiments, {passes} passes, {size_text(total)} to write, {size_text(free)} free")
    lines.append("passes: at most, and for clips of 16 × 112 × 112 where a method's number depends on the clip")
    return "\n".join(lines)


def size_text(count: float) -> str:
    """Returns a number of bytes as people say it."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def configuration(experiments: Sequence[Experiment], as_json: bool) -> str:
    """Returns the composed configuration of every experiment, as YAML documents or one JSON list."""
    with described_once():
        folders = [run_folder(experiment) for experiment in experiments]
    if as_json:
        heads = [
            {"experiment": experiment.title, "key": key(folder.identity), "folder": str(folder.path)}
            for experiment, folder in zip(experiments, folders, strict=True)
        ]
        whole = [{**head, **experiment.values} for head, experiment in zip(heads, experiments, strict=True)]
        return json.dumps(whole, indent=2)
    documents = []
    for experiment, folder in zip(experiments, folders, strict=True):
        body = OmegaConf.to_yaml(OmegaConf.create(escaped(dict(experiment.values)))).rstrip()
        documents.append(f"# {experiment.title}  key {key(folder.identity)}  folder {folder.path}\n{body}")
    return "\n---\n".join(documents)
