"""What a run would do, before it does it: experiments, clips, passes, disk; and the configuration of every experiment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from omegaconf import OmegaConf

from vidattr.config.compose import Experiment
from vidattr.config.identity import key
from vidattr.config.overrides import escaped
from vidattr.run.batches import clips_of
from vidattr.run.doubts import told
from vidattr.run.job import check_folders, run_folder
from vidattr.run.sources import Again, Sources
from vidattr.run.store import free_bytes


def plan(experiments: Sequence[Experiment], shard: tuple[int, int] = (1, 1)) -> list[dict[str, Any]]:
    """Returns a row per experiment: its key and folder, clips present and missing, forward passes and bytes still to come.

    A pass is one clip through the network, forward, or forward and backward. A method that takes more of them for a
    longer or larger clip tells those for 16 × 112 × 112, and all that can be where it may stop early. Bytes are those
    of the maps alone until a map with its extras and pictures is there to be measured.
    """
    check_folders(experiments)
    rows = []
    for experiment in experiments:
        folder = run_folder(experiment)
        clips, problems, notes = clips_of(experiment, shard)
        sources = Sources(clips, str(experiment.config.target))
        survey = sources.survey(folder, extras=experiment.runtime.extras)
        missing = {clip.id for clip in clips} - survey.good.keys()
        view = experiment.model.input
        sizes = [path.stat().st_size for path in (folder.path / "maps").glob("[!.]*.safetensors")]
        each = sum(sizes) / len(sizes) if sizes else 4 * view.frames * view.size[0] * view.size[1]
        rows.append(
            {
                "cell": experiment.title,
                "dataset": experiment.names["dataset"],
                "model": experiment.names["model"],
                "key": key(folder.identity),
                "folder": str(folder.path),
                "clips": len(clips),
                "present": len(clips) - len(missing),
                "missing": len(missing),
                "again": {why.name: count for why, count in survey.counts().items()},
                "problems": len(problems),
                "notes": list(notes),
                "passes": len(missing) * (1 + experiment.method.passes),
                "bytes": round(len(missing) * each),
                "free_bytes": free_bytes(folder.path),
            }
        )
    return rows


def text(rows: Sequence[dict[str, Any]]) -> str:
    """Returns the plan for people."""
    names = ("cell", "dataset", "model", "key", "clips", "present", "missing", "problems", "passes")
    table = [[*names, "maps"], *([*(str(row[name]) for name in names), _size(row["bytes"])] for row in rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    lines = ["  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip() for line in table]
    lines += [f"{row['cell']}: {Again[why].told(count)}" for row in rows for why, count in row["again"].items()]
    lines += told({}, dict.fromkeys(note for row in rows for note in row["notes"]))
    total = sum(row["bytes"] for row in rows)
    free = min(row["free_bytes"] for row in rows)
    lines.append(
        f"{len(rows)} experiments, {sum(row['passes'] for row in rows)} passes, {_size(total)} of maps to write, {_size(free)} free"
    )
    lines.append("passes: at most, and for clips of 16 × 112 × 112 where a method's number depends on the clip")
    return "\n".join(lines)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def configuration(experiments: Sequence[Experiment], as_json: bool) -> str:
    """Returns the composed configuration of every experiment, as YAML documents or one JSON list."""
    found = []
    for experiment in experiments:
        plain = OmegaConf.to_container(experiment.config, resolve=True)
        assert isinstance(plain, dict)
        folder = run_folder(experiment)
        found.append({"cell": experiment.title, "key": key(folder.identity), "folder": str(folder.path), **plain})
    if as_json:
        return json.dumps(found, indent=2)
    documents = []
    for one in found:
        lines = [
            f"# {one.pop('cell')}  key {one.pop('key')}  folder {one.pop('folder')}",
            OmegaConf.to_yaml(OmegaConf.create(escaped(one))).rstrip(),
        ]
        documents.append("\n".join(lines))
    return "\n---\n".join(documents)
