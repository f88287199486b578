"""After a sweep over `target`: one sheet per clip that compares the maps of the explained classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm

from vidattr.config.identity import describe, described_once, key
from vidattr.errors import CONCERNS_ALL, ClipError, Failure
from vidattr.render.class_sheet import ClassMap, class_sheet
from vidattr.render.picture_files import PictureFiles
from vidattr.render.pictures import of_sheet, write_page
from vidattr.run.batches import split_batches
from vidattr.run.canvas import canvas
from vidattr.run.experiment import Experiment
from vidattr.run.gallery import mark, run_name, scene_of
from vidattr.run.job import Job
from vidattr.run.reading import read_ahead
from vidattr.types import Clip, Pixels, Sample


def draw_class_sheets(jobs: Sequence[Job], *, overwrite: bool = False, quiet: bool = False) -> list[Job]:
    """Draws the sheets of jobs that differ in `target`, if there are any.

    Args:
        jobs: Jobs whose maps are stored.
        overwrite: Whether sheets that are there are drawn again.
        quiet: Whether to show no progress bar.

    Returns:
        The jobs to which a failure was added, since a sheet could not be drawn.
    """
    failed: dict[int, Job] = {}
    if len({job.experiment.settings.target for job in jobs}) < 2:
        return []
    for group in _by_network(jobs):
        folder = _folder(group)
        files = {clip.id: found for clip in group[0].clips if (found := _files(group, clip, folder)) is not None}
        todo = [clip for clip in group[0].clips if clip.id in files and (overwrite or files[clip.id].lacks())]
        first = group[0].experiment
        bar = tqdm(total=len(todo), desc="sheets of classes", unit="clip", disable=quiet or not todo)
        with bar:
            for decoded in read_ahead(split_batches(todo, first.runtime.clips), first):
                for clip, sample in decoded:
                    try:
                        if not isinstance(sample, Sample):
                            raise sample
                        write_page(files[clip.id], partial(_page, group, clip, sample), overwrite=overwrite)
                    except CONCERNS_ALL:
                        raise
                    except Exception as error:
                        group[0].add(Failure.of(clip.id, "draw", error))
                        failed[id(group[0])] = group[0]
                    bar.update()
    return list(failed.values())


def _by_network(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Groups jobs of one dataset and network that explain two or more targets."""
    groups: dict[str, list[Job]] = {}
    with described_once():
        for job in jobs:
            experiment = job.experiment
            parts = [describe(experiment.dataset), describe(experiment.model), experiment.settings.seed]
            groups.setdefault(key({"parts": parts, "out": experiment.paths.out}), []).append(job)
    for group in groups.values():
        if len({job.experiment.settings.target for job in group}) > 1:
            yield group


def _methods(group: Sequence[Job]) -> dict[str, list[Job]]:
    """Returns the jobs by method, of the methods that explain two or more targets."""
    found: dict[str, list[Job]] = {}
    for job in group:
        found.setdefault(_method(job.experiment), []).append(job)
    return {method: jobs for method, jobs in found.items() if len(jobs) > 1}


def _method(experiment: Experiment) -> str:
    return f"{experiment.names['method']} {key(describe(experiment.method))}"


def _stored(group: Sequence[Job], clip: Clip) -> list[list[Job]]:
    """Returns for each method the jobs that have a map of the clip, if these explain two or more classes."""
    found = []
    for jobs in _methods(group).values():
        there = [job for job in jobs if clip.id not in job.stale and job.folder.facts(clip.id) is not None]
        if len({(job.folder.facts(clip.id) or {})["target"] for job in there}) > 1:
            found.append(there)
    return found


def _folder(group: Sequence[Job]) -> Path:
    experiment = group[0].experiment
    runs = key({"targets": sorted(run_name(job) for job in group)})
    parent = Path(experiment.paths.out) / "comparison" / experiment.names["model"]
    return parent / f"{experiment.label or experiment.names['dataset']}-classes-{runs}"


def _files(group: Sequence[Job], clip: Clip, folder: Path) -> PictureFiles | None:
    methods = _stored(group, clip)
    if not methods:
        return None
    maps = {run_name(job): mark(job.folder.facts(clip.id) or {}, clip) for jobs in methods for job in jobs}
    return of_sheet(folder, clip.id, group[0].experiment.render, maps)


def _page(group: Sequence[Job], clip: Clip, sample: Sample) -> Pixels:
    methods = _stored(group, clip)
    if not methods:
        raise ClipError("its maps are gone", remedy="`vidattr run` with the same overrides")
    first = methods[0][0]
    experiment = first.experiment
    on = canvas(clip, sample, experiment.model.input, experiment.render)
    shown: dict[str, list[ClassMap]] = {}
    for jobs in methods:
        seen: set[int] = set()
        for job in jobs:
            stored = job.folder.load(clip.id)
            if stored.target not in seen:
                seen.add(stored.target)
                map = on.place(stored.map.numpy())
                shown.setdefault(job.experiment.names["method"], []).append(
                    ClassMap(map, stored.name, stored.probability)
                )
    return class_sheet(scene_of(first, first.folder.load(clip.id), clip, on), shown, experiment.render)
