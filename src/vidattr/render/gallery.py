"""Which pictures a run has and lacks, and the drawing of the missing ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from vidattr.config.identity import key
from vidattr.errors import CONCERNS_ALL
from vidattr.render.pictures import Scene, write, write_comparison, write_cutouts
from vidattr.run.store import StoredMap
from vidattr.types import Clip, Sample

if TYPE_CHECKING:
    from concurrent.futures import Future

    from vidattr.run.job import Job

Drawing: TypeAlias = "Future[list[tuple[Job, str, Exception]]]"


def lacks(jobs: Sequence[Job], clip: Clip, sheets: Path) -> bool:
    """Whether a picture of this clip that is asked for is not there."""
    render = jobs[0].experiment.render
    asked = [suffix for suffix, wanted in ((".png", render.grid), (".gif", render.gif), (".mp4", render.mp4)) if wanted]
    pictures = [job.folder.picture(clip.id, suffix) for job in jobs for suffix in asked]
    if render.comparison and len(jobs) > 1:
        pictures.append(sheets / f"{clip.id}.png")
    if render.grid:
        pictures += [job.folder.picture(clip.id, ".masks.png") for job in jobs if "masks" in job.folder.extras(clip.id)]
    return not all(path.exists() for path in pictures)


def draw(
    found: Sequence[tuple[Job, StoredMap]], clip: Clip, sample: Sample, folder: Path, overwrite: bool
) -> list[tuple[Job, str, Exception]]:
    """Draws what pictures of one clip are missing: one set per method, and the sheet that compares the methods.

    Returns:
        The run, the clip and the error of each picture that could not be drawn; the others are.

    Raises:
        OutputError: A picture cannot be written.
    """
    failed: list[tuple[Job, str, Exception]] = []

    def attempt(job: Job, work: Callable[[], object]) -> None:
        try:
            work()
        except CONCERNS_ALL:
            raise
        except Exception as error:
            failed.append((job, clip.id, error))

    for job, stored in found:
        attempt(job, partial(_pictures, job, stored, clip, sample, overwrite))
    if len(found) > 1:
        attempt(found[0][0], partial(_sheet, found, clip, sample, folder, overwrite))
    return failed


def _pictures(job: Job, stored: StoredMap, clip: Clip, sample: Sample, overwrite: bool) -> None:
    experiment = job.experiment
    scene = _scene(job, stored, clip, sample)
    write(
        job.folder.path / "visual", scene, stored.map.numpy(), experiment.title, experiment.render, overwrite=overwrite
    )
    extras = {name: value.numpy() for name, value in stored.extras.items()}
    write_cutouts(job.folder.path / "visual", scene, extras, experiment.title, experiment.render, overwrite=overwrite)


def _sheet(found: Sequence[tuple[Job, StoredMap]], clip: Clip, sample: Sample, folder: Path, overwrite: bool) -> None:
    job, stored = found[0]
    maps = {other.experiment.title: one.map.numpy() for other, one in found}
    write_comparison(folder, _scene(job, stored, clip, sample), maps, job.experiment.render, overwrite=overwrite)


def discard(job: Job, clip: str, new: StoredMap) -> None:
    """Removes the pictures of a clip that show something else than a map that is about to be written.

    That is all of them where the old map was of another source, or stored otherwise; where there is no old map to tell,
    those that are older than the source. Every sheet of the dataset and network with this clip goes too: it is drawn
    anew by the next run of its methods.
    """
    config, label = job.experiment.config, job.experiment.label or job.experiment.names["dataset"]
    sheets = (Path(config.paths.out) / "comparison" / job.experiment.names["model"]).glob("[!.]*/")
    pictures = [
        *job.folder.pictures(clip),
        *(one / f"{clip}.png" for one in sheets if one.name.startswith(f"{label}-")),
    ]
    for path in pictures:
        if clip in job.stale or _older(path, new.source.get("changed", 0)):
            path.unlink(missing_ok=True)


def _older(path: Path, changed: int) -> bool:
    try:
        return path.stat().st_mtime_ns < changed
    except OSError:
        return False


def _scene(job: Job, stored: StoredMap, clip: Clip, sample: Sample) -> Scene:
    return Scene(
        clip=clip.id,
        pixels=sample.pixels,
        numbers=stored.numbers,
        model=job.experiment.names["model"],
        target=stored.name,
        probability=stored.probability,
        predicted=stored.top[0][0],
        predicted_probability=stored.top[0][1],
        label=clip.label,
        boxes=sample.boxes,
    )


def sheets(jobs: Sequence[Job]) -> Path:
    """Returns the folder of the sheets that compare exactly these runs."""
    experiment = jobs[0].experiment
    runs = key({"runs": sorted(key(job.folder.identity) for job in jobs)})
    return (
        Path(experiment.config.paths.out)
        / "comparison"
        / experiment.names["model"]
        / f"{experiment.label or experiment.names['dataset']}-{runs}"
    )
