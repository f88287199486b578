"""From jobs to pictures: which pictures of a clip a run lacks, and the scenes that the missing ones are drawn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import torch

from vidattr.config.identity import key
from vidattr.errors import CONCERNS_ALL, Failure
from vidattr.protocols import MaskDrawing
from vidattr.render.options import Scene
from vidattr.render.picture_files import PictureFiles
from vidattr.render.pictures import DrawnMap, discard_sheet, of_map, of_sheet, write_map, write_sheet
from vidattr.run.canvas import Canvas, canvas
from vidattr.run.job import Job
from vidattr.run.sources import Facts, mark_of, truth_of
from vidattr.run.store import StoredMap
from vidattr.types import Clip, MaskRow, Sample

Drawing = Future[list[tuple[Job, Failure]]]


def lacks(jobs: Sequence[Job], clip: Clip, sheets: Path | None) -> bool:
    """Returns whether a picture of the stored maps of a clip is missing or stale.

    Args:
        jobs: Those of one dataset and model.
        clip: The clip.
        sheets: Folder of the sheets that compare these jobs; None: none is drawn.
    """
    stored = [(job, job.facts[clip.id]) for job in jobs if clip.id in job.facts]
    if any(pictures_of(job, clip, facts).lacks() for job, facts in stored):
        return True
    return sheets is not None and len(stored) > 1 and _sheet_of(stored, clip, sheets).lacks()


def lacks_any(jobs: Sequence[Job], batch: Sequence[Clip], sheets: Path | None) -> bool:
    """Returns whether `lacks` holds for any clip of a batch."""
    return any(lacks(jobs, clip, sheets) for clip in batch)


def pictures_of(job: Job, clip: Clip, facts: Facts, extras: frozenset[str] | None = None) -> PictureFiles:
    """Returns the pictures that belong to a stored map.

    Args:
        job: Its run.
        clip: Its clip.
        facts: What is stored with it.
        extras: Names of the extras that are stored with it; None: read them from the file.
    """
    method, masks = job.experiment.method, False
    if isinstance(method, MaskDrawing):
        masks = method.mask_extras <= (job.folder.extras(clip.id) if extras is None else extras)
    shown = {run_name(job): mark(facts, clip)}
    return of_map(job.folder.path / "visual", clip.id, job.experiment.render, shown, masks=masks)


def sheet_of(jobs: Sequence[Job], clip: Clip) -> list[Path]:
    """Returns the sheet that compares the stored maps of a clip by these jobs, of one dataset and model; or none."""
    facts = [(job, job.folder.facts(clip.id)) for job in jobs if clip.id not in job.stale]
    stored = [(job, one) for job, one in facts if one is not None]
    return _sheet_of(stored, clip, sheets(jobs)).current() if len(stored) > 1 else []


def _sheet_of(stored: Sequence[tuple[Job, Facts]], clip: Clip, sheets: Path) -> PictureFiles:
    maps = {run_name(job): mark(facts, clip) for job, facts in stored}
    return of_sheet(sheets, clip.id, stored[0][0].experiment.render, maps)


def run_name(job: Job) -> str:
    """Returns what stands for a run in the record of a picture."""
    return key(job.folder.identity)


def mark(facts: Facts, clip: Clip) -> str:
    """Returns what stands for a map and the annotation that its pictures show."""
    return f"{mark_of(facts)}-{truth_of(clip)}"


def draw(
    found: Sequence[tuple[Job, StoredMap]], clip: Clip, sample: Sample, sheets: Path | None, overwrite: bool
) -> list[tuple[Job, Failure]]:
    """Draws the missing pictures of one clip: those of each map, and the sheet that compares the methods.

    Args:
        found: The jobs that have a map of the clip, and the map.
        clip: The clip.
        sample: Its frames.
        sheets: Folder of the sheets; None: none is drawn.
        overwrite: Whether pictures that are there are drawn again.

    Returns:
        A failure for each set of pictures that could not be drawn; the others are.

    Raises:
        OutputError: A picture cannot be written.
    """
    failed: list[tuple[Job, Failure]] = []

    def attempt(job: Job, work: Callable[[], object]) -> None:
        try:
            work()
        except CONCERNS_ALL:
            raise
        except Exception as error:
            failed.append((job, Failure.of(clip.id, "draw", error)))

    @cache
    def surface() -> Canvas:
        experiment = found[0][0].experiment
        return canvas(clip, sample, experiment.model.input, experiment.render)

    for job, stored in found:
        attempt(job, partial(_draw_map, job, stored, clip, surface, overwrite))
    if sheets is not None and len(found) > 1:
        attempt(found[0][0], partial(_draw_sheet, found, clip, surface, sheets, overwrite))
    return failed


def _draw_map(job: Job, stored: StoredMap, clip: Clip, surface: Callable[[], Canvas], overwrite: bool) -> None:
    experiment, method = job.experiment, job.experiment.method
    files = pictures_of(job, clip, stored.facts(), frozenset(stored.extras))
    if not overwrite and not files.lacks():
        return
    masks: Sequence[MaskRow] = ()
    if isinstance(method, MaskDrawing) and method.mask_extras <= stored.extras.keys():
        masks = method.mask_rows(stored.extras)
    on = surface()
    masks = [replace(row, mask=torch.from_numpy(on.place(row.mask.numpy()))) for row in masks]
    scene = scene_of(job, stored, clip, on)
    drawn = DrawnMap(scene, on.place(stored.map.numpy()), experiment.title, experiment.render, masks)
    write_map(files, drawn, overwrite=overwrite)


def _draw_sheet(
    found: Sequence[tuple[Job, StoredMap]], clip: Clip, surface: Callable[[], Canvas], sheets: Path, overwrite: bool
) -> None:
    job, stored = found[0]
    files = _sheet_of([(other, map.facts()) for other, map in found], clip, sheets)
    if not overwrite and not files.lacks():
        return
    on = surface()
    maps = {other.experiment.title: on.place(map.map.numpy()) for other, map in found}
    write_sheet(files, scene_of(job, stored, clip, on), maps, job.experiment.render, overwrite=overwrite)


def discard(job: Job, clip: Clip, new: StoredMap) -> None:
    """Removes the pictures that will show something else than a map that is about to be written.

    These are the map's own pictures, and all sheets of the dataset and network that show another map of the run.
    """
    pictures_of(job, clip, new.facts(), frozenset(new.extras)).discard()
    for folder in _sheet_folders(job):
        discard_sheet(folder, clip.id, run_name(job), mark(new.facts(), clip))


def _sheet_folders(job: Job) -> list[Path]:
    label = job.experiment.label or job.experiment.names["dataset"]
    parent = Path(job.experiment.paths.out) / "comparison" / job.experiment.names["model"]
    return [folder for folder in parent.glob("[!.]*/") if folder.name.startswith(f"{label}-")]


def sheets(jobs: Sequence[Job]) -> Path:
    """Returns the folder of the sheets that compare exactly these runs."""
    experiment = jobs[0].experiment
    runs = key({"runs": sorted(run_name(job) for job in jobs)})
    parent = Path(experiment.paths.out) / "comparison" / experiment.names["model"]
    return parent / f"{experiment.label or experiment.names['dataset']}-{runs}"


def scene_of(job: Job, stored: StoredMap, clip: Clip, on: Canvas) -> Scene:
    """Returns the scene of a stored map, on these frames."""
    return Scene(
        clip=clip.id,
        pixels=on.sample.pixels,
        numbers=stored.numbers,
        model=job.experiment.names["model"],
        target=stored.name,
        probability=stored.probability,
        predicted=stored.top[0][0],
        predicted_probability=stored.top[0][1],
        label=clip.label,
        boxes=on.sample.boxes,
        seconds=stored.seconds,
        unseen=on.unseen,
    )
