"""Runs experiments: loads each network once, decodes each clip once, runs all methods on it and writes each map whole.

The list of clips is split into fixed batches. A resumed run computes the batches again in which a map is missing, and
writes the missing maps only. Shards are made of whole batches, and a clip that fails is replaced by another one in its
batch. So a run that was killed, sharded or had failures writes the same bytes as one that was not.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from vidattr.errors import CONCERNS_METHOD, ConfigError, Failure
from vidattr.models.speed.lagging import Upload
from vidattr.run import gallery, lowered
from vidattr.run.batches import PreparedBatch, by_network, clips_of, prepare, split_batches
from vidattr.run.class_sheets import draw_class_sheets
from vidattr.run.company import Decoded
from vidattr.run.control import Control
from vidattr.run.doubts import Doubts
from vidattr.run.elsewhere import computed_elsewhere
from vidattr.run.experiment import Experiment
from vidattr.run.job import Job, check_folders, made_by, run_folder, together
from vidattr.run.maps import Computed, explain_batch
from vidattr.run.progress import RunProgress
from vidattr.run.reading import uploaded_ahead
from vidattr.run.resident import Resident
from vidattr.run.sources import Sources
from vidattr.run.storing import Storing
from vidattr.types import Clip, Sample
from vidattr.writing import set_durable, sweep


def run(
    experiments: Sequence[Experiment],
    *,
    shard: tuple[int, int] = (1, 1),
    force: bool = False,
    afresh: bool = False,
    fail_fast: bool = False,
    quiet: bool = False,
    control: Control | None = None,
    compare: bool = True,
) -> list[Job]:
    """Runs experiments and returns a job for each.

    Args:
        experiments: What to run; experiments of one dataset and model share the network and the decoded clips.
        shard: (i, n): only every n-th batch of `runtime.clips` clips, starting with the i-th.
        force: Whether to rename existing folders and start over.
        afresh: Whether to compute maps again that are stored already.
        fail_fast: Whether to stop at the first clip that fails.
        quiet: Whether to show no progress bar.
        control: What may stop the run, and is told of each batch.
        compare: Whether to draw the sheets that compare the methods. Not where the experiments are a part of a sweep,
            whose sheets show all its methods.

    Raises:
        ConfigError: An experiment cannot be started.
        OutOfMemoryError: The network alone does not fit into memory with one clip.
        OutputError: A file cannot be written, for example on a full disk.
    """
    check_folders(experiments, force)
    control = control or Control()
    done: list[Job] = []
    resident = Resident(experiments[0])
    for group in by_network(experiments):
        if control.stopped:
            break
        resident = resident.serving(group[0])
        set_durable(group[0].runtime.durable)
        jobs = _open(group, shard, force)
        done += jobs
        clips, problems, notes = clips_of(group[0], shard)
        sources = Sources(clips, group[0].settings.target)
        for job in jobs:
            job.failures += problems
            job.doubts = Doubts(job.folder.path, clips, (*notes, *lowered.note(job.experiment)), shard)
            survey = sources.survey(job.folder, extras=job.experiment.runtime.extras)
            refused = survey.good.keys() if afresh else job.doubts.refused()
            job.facts = {clip: facts for clip, facts in survey.good.items() if clip not in refused}
            job.missing = {clip.id for clip in clips} - job.facts.keys()
            job.clips = clips
            job.absent = job.missing - survey.bad.keys() - survey.good.keys()
            job.present = len(clips) - len(job.missing)
            job.again, job.stale = survey.counts(), {*survey.bad, *(survey.good if afresh else ())}
        try:
            _run_group(jobs, clips, resident, fail_fast=fail_fast, quiet=quiet, control=control, compare=compare)
        finally:
            for job in jobs:
                job.doubts.write()
                job.errors_file = job.folder.write_errors(job.failures, shard, {clip.id for clip in clips})
    for job in draw_class_sheets(done, quiet=quiet) if compare else ():
        job.errors_file = job.folder.write_errors(job.failures, shard, {clip.id for clip in job.clips})
    return done


def _open(group: Sequence[Experiment], shard: tuple[int, int], force: bool) -> list[Job]:
    jobs: dict[Path, Job] = {}
    for experiment in group:
        folder = run_folder(experiment)
        if folder.path not in jobs:
            folder.open(made_by(experiment.runtime.torch_device()), force=force)
            if (listing := getattr(experiment.dataset, "listing", None)) is not None:
                folder.write_list(listing())
            jobs[folder.path] = Job(experiment, folder)
    return list(jobs.values())


def _run_group(
    jobs: Sequence[Job],
    clips: Sequence[Clip],
    resident: Resident,
    *,
    fail_fast: bool,
    quiet: bool,
    overwrite: bool = False,
    control: Control,
    compare: bool = True,
) -> None:
    """Runs all methods of one dataset and model; only batches with a missing map or picture are read."""
    first = jobs[0].experiment
    sheets = gallery.sheets(jobs) if compare else None
    if sheets is not None:
        sweep(sheets)
    batches = split_batches(clips, first.runtime.clips)
    missing = set[str]().union(*(job.missing for job in jobs))
    wanted = [
        batch
        for batch in batches
        if overwrite or any(clip.id in missing for clip in batch) or gallery.lacks_any(jobs, batch, sheets)
    ]
    with (
        RunProgress(jobs, wanted, quiet=quiet) as bar,
        Storing(jobs, sheets, overwrite=overwrite, control=control, bar=bar) as storing,
    ):

        def still_wanted() -> Iterator[Sequence[Clip]]:
            for batch in wanted:
                if overwrite or not computed_elsewhere(jobs, batch) or gallery.lacks_any(jobs, batch, sheets):
                    yield batch
                else:
                    bar.update(len(batch))

        for decoded, pixels in uploaded_ahead(still_wanted(), first):
            computed_elsewhere(jobs, [clip for clip, _ in decoded])
            control.batch_begun([clip.id for clip, _ in decoded])
            _do_batch(resident, jobs, decoded, pixels, storing, bar)
            bar.update(len(decoded))
            if control.stopped or (fail_fast and any(job.failures for job in jobs)):
                break
        storing.settle()


def _do_batch(
    resident: Resident,
    jobs: Sequence[Job],
    decoded: Sequence[Decoded],
    pixels: Upload | None,
    storing: Storing,
    bar: RunProgress,
) -> None:
    """Explains a batch by every method that lacks a map of it; maps and pictures are written in the background."""
    good = [(clip, sample) for clip, sample in decoded if isinstance(sample, Sample)]
    for clip, sample in decoded:
        if not isinstance(sample, Sample):
            _fail_all(jobs, Failure.of(clip.id, "read", sample))
    for job in jobs:
        job.doubts.add(good)
        job.doubts.write()
    ready: PreparedBatch | None = None
    if any(clip.id in job.missing for job in jobs for clip, _ in good):
        ready, failures = prepare(resident.network, decoded, jobs[0].experiment, pixels)
        for failure in failures:
            _fail_all(jobs, failure)
    clips = [clip for clip, _ in good]
    for alike in bar.methods(together(jobs), clips):
        begun = time.monotonic()
        computed = _computed(resident, alike, ready)
        storing.keep(alike, computed, clips, time.monotonic() - begun)
    storing.end([clip.id for clip, _ in decoded], good)


def _fail_all(jobs: Sequence[Job], failure: Failure) -> None:
    for job in jobs:
        job.add(failure)


def _computed(resident: Resident, alike: Sequence[Job], ready: PreparedBatch | None) -> list[tuple[Job, Computed]]:
    """Returns the maps of a batch by those of the jobs that are run together that have to be computed."""
    asked = _asked(alike, ready) if ready is not None else []
    if ready is None or not asked:
        return []
    try:
        return list(zip(asked, explain_batch(resident.network, [job.experiment for job in asked], ready), strict=True))
    except CONCERNS_METHOD as error:  # the other methods go on
        for job in asked:
            job.failed = error
            job.fail("", "method", error)
        return []


def _asked(alike: Sequence[Job], ready: PreparedBatch) -> list[Job]:
    """Returns which of the jobs that are run together have to be computed.

    These are all of them if a map is missing that was computed together with one that is stored: only so are its bytes
    the same as in an undisturbed run.
    """
    clips = {clip.id for clip in ready.clips}
    lack = [job for job in alike if job.failed is None and clips & job.missing]
    begun = any(clips - job.missing for job in lack)
    return [job for job in alike if job.failed is None] if begun else lack


def redraw(experiments: Sequence[Experiment], *, quiet: bool = False) -> list[Job]:
    """Draws the pictures of all stored maps again; no map is computed.

    Raises:
        ConfigError: An experiment was never run.
    """
    check_folders(experiments)
    done: list[Job] = []
    for group in by_network(experiments):
        jobs = [Job(experiment, run_folder(experiment)) for experiment in group]
        set_durable(group[0].runtime.durable)
        for job in jobs:
            job.folder.check()
            sweep(job.folder.path)
            job.present = len(job.folder.stored())
            if not job.present:
                raise ConfigError(f"no maps in {job.folder.path}", remedy="`vidattr run` with the same overrides first")
        clips, _, notes = clips_of(group[0])
        sources = Sources(clips, group[0].settings.target)
        for job in jobs:
            job.doubts, job.clips = Doubts(job.folder.path, clips, notes), clips
            for clip, why in sources.survey(job.folder).bad.items():
                job.fail(clip, "source", why.error)
                job.stale.add(clip)
        _run_group(jobs, clips, Resident(group[0]), fail_fast=False, quiet=quiet, overwrite=True, control=Control())
        done += jobs
    draw_class_sheets(done, overwrite=True, quiet=quiet)
    return done
