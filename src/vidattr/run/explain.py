"""`vidattr explain`: explains videos that are named on the command line, without a dataset."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vidattr.config.settings import check_out
from vidattr.errors import ClipError
from vidattr.run import compose
from vidattr.run.batches import by_network
from vidattr.run.evidence import Evidence
from vidattr.run.experiment import Experiment
from vidattr.run.gallery import pictures_of, sheet_of
from vidattr.run.job import Job, run_folder
from vidattr.run.named import named
from vidattr.run.runner import run
from vidattr.run.sources import Again, Sources
from vidattr.types import Clip


def explain_videos(
    arguments: Sequence[str], *, folder: Path | None = None, add: Sequence[Path] = (), quiet: bool = False
) -> tuple[list[Job], list[dict[str, Any]]]:
    """Explains videos; maps that are stored already are computed again.

    The id of a clip is the name of its file. If results of another video of that name are stored, or another video of
    that name was named before it, a few digits of a hash of its path are appended.

    Args:
        arguments: Paths of videos and frame folders, and overrides, in any order; a network has to be chosen.
        folder: Config folder.
        add: Further config folders.
        quiet: Whether to show no progress bar.

    Returns:
        The jobs, and a row per job and video: five most probable classes, explained class, files.

    Raises:
        ConfigError: As `named`.
    """
    experiments = experiments_on(arguments, folder=folder, add=add)
    clips = experiments[0].dataset.index().clips
    jobs = run(experiments, afresh=True, quiet=quiet)
    return jobs, [row for group in _groups(jobs) for clip in clips for row in _rows(group, clip)]


def experiments_on(
    arguments: Sequence[str], *, folder: Path | None = None, add: Sequence[Path] = ()
) -> list[Experiment]:
    """Returns the experiments that explain videos; arguments, ids and errors as in `explain_videos`."""
    asked = named(arguments, folder=folder, add=add)
    experiments = compose.experiments(asked.whole(), folder=folder, add=add)
    check_out(experiments[0].paths.out)
    if taken := _taken(experiments):
        experiments = compose.experiments(asked.whole(taken), folder=folder, add=add)
    return experiments


def _groups(jobs: Sequence[Job]) -> list[list[Job]]:
    """Returns the jobs by network: those of one network share a comparison sheet."""
    groups = by_network([job.experiment for job in jobs])
    return [[job for job in jobs if any(job.experiment is one for one in group)] for group in groups]


def _rows(jobs: Sequence[Job], clip: Clip) -> list[dict[str, Any]]:
    """Returns the rows of one clip, one for each method, with the sheet that compares the methods."""
    rows = [row for job in jobs if (row := _row(job, clip))]
    sheet = [str(path) for path in sheet_of(jobs, clip)] if len(rows) > 1 else []
    return [{**row, "comparison": sheet} for row in rows]


def _taken(experiments: Sequence[Experiment]) -> list[str]:
    """Returns the ids under which results of other videos, not copies of the same file, are stored."""
    clips, found = experiments[0].dataset.index().clips, set[str]()
    sources = Sources(clips, experiments[0].settings.target)
    places = {clip.id: os.path.realpath(clip.source) for clip in clips if isinstance(clip.source, Path)}
    for experiment in experiments:
        store = run_folder(experiment)
        store.check()
        for clip, why in sources.survey(store).bad.items():
            facts = store.facts(clip) or {}
            if why is not Again.damaged and facts.get("source", {}).get("path") != places[clip]:
                found.add(clip)
    return sorted(found)


def _row(job: Job, clip: Clip) -> dict[str, Any] | None:
    path = job.folder.map_path(clip.id)
    if clip.id in job.stale or not path.is_file():
        return None
    try:
        found = job.folder.load(clip.id)
    except ClipError:
        return None
    evidence = Evidence.of(found.map.numpy(), found.numbers, found.seconds)
    return {
        "clip": clip.id,
        "method": job.experiment.title,
        "model": job.experiment.names["model"],
        "target": found.name,
        "probability": found.probability,
        "top": [{"class": name, "probability": p} for name, p in found.top],
        "evidence": {**evidence.facts(), "sentence": evidence.sentence(found.numbers)},
        "map": str(path),
        "pictures": [str(picture) for picture in pictures_of(job, clip, found.facts()).current()],
    }


def text(rows: Sequence[dict[str, Any]]) -> str:
    """Returns the rows as text for the terminal."""
    lines: list[str] = []
    for clip in dict.fromkeys(row["clip"] for row in rows):
        mine = [row for row in rows if row["clip"] == clip]
        lines.append(f"{clip}, by {mine[0]['model']}:")
        lines += [f"  {one['probability']:6.3f}  {one['class']}" for one in mine[0]["top"]]
        for row in mine:
            lines.append(f"  {row['method']} explains {row['target']!r} (p = {row['probability']:.3f})")
            lines.append(f"    {row['evidence']['sentence']}")
            lines += [f"    {path}" for path in (*row["pictures"], row["map"])]
        sheets = dict.fromkeys(path for row in mine for path in row["comparison"])
        lines += [f"  all methods: {path}" for path in sheets]
    return "\n".join(lines)
