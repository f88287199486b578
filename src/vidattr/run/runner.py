"""Runs experiments: loads each network once, decodes each clip once, runs all methods on it and writes each map whole.

The list of clips is split into fixed batches. A resumed run computes the batches again in which a map is missing, and
writes the missing maps only. Shards are made of whole batches, and a clip that fails is replaced by another one in its
batch. So a run that was killed, sharded or had failures writes the same bytes as one that was not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from vidattr.errors import CONCERNS_ALL, CONCERNS_METHOD, ConfigError, Failure
from vidattr.models.speed.memory import submitted
from vidattr.run import gallery, lowered
from vidattr.run.batches import PreparedBatch, by_network, clips_of, explain_batch, prepare, read_ahead, split_batches
from vidattr.run.class_sheets import draw_class_sheets
from vidattr.run.company import Decoded
from vidattr.run.control import Control
from vidattr.run.doubts import Doubts
from vidattr.run.elsewhere import computed_elsewhere
from vidattr.run.experiment import Experiment
from vidattr.run.job import Job, check_folders, made_by, run_folder, together
from vidattr.run.progress import RunProgress
from vidattr.run.resident import Resident
from vidattr.run.sources import Sources
from vidattr.run.store import StoredMap
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
    pool = ThreadPoolExecutor(first.runtime.threads(), thread_name_prefix="draw")
    with RunProgress(jobs, wanted, quiet=quiet) as bar, pool:
        drawing: list[gallery.Drawing] = []

        def draw(found: Sequence[tuple[Job, StoredMap]], clip: Clip, sample: Sample) -> gallery.Drawing:
            return submitted(pool, partial(gallery.draw, found, clip, sample, sheets, overwrite))

        def still_wanted() -> Iterator[Sequence[Clip]]:
            for batch in wanted:
                if overwrite or not computed_elsewhere(jobs, batch) or gallery.lacks_any(jobs, batch, sheets):
                    yield batch
                else:
                    bar.update(len(batch))

        try:
            for decoded in read_ahead(still_wanted(), first):
                names = [clip.id for clip, _ in decoded]
                computed_elsewhere(jobs, [clip for clip, _ in decoded])
                before = sum(job.written for job in jobs)
                control.batch_begun(names)
                new = _do_batch(resident, jobs, decoded, draw, control, bar)
                drawing = [*_settled(drawing, keep=first.runtime.threads()), *new]
                bar.update(len(decoded))
                control.batch_done(names, sum(job.written for job in jobs) - before)
                if control.stopped:
                    break
                if fail_fast and any(job.failures for job in jobs):
                    break
            _settled(drawing, keep=0)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _settled(drawing: list[gallery.Drawing], keep: int) -> list[gallery.Drawing]:
    """Waits until at most `keep` drawings are in progress, and records the failures of finished ones."""
    split = max(0, len(drawing) - keep)
    for future in drawing[:split]:
        for job, failure in future.result():
            job.add(failure)
    return drawing[split:]


def _do_batch(
    resident: Resident,
    jobs: Sequence[Job],
    decoded: Sequence[Decoded],
    draw: Callable[[Sequence[tuple[Job, StoredMap]], Clip, Sample], gallery.Drawing],
    control: Control,
    bar: RunProgress,
) -> list[gallery.Drawing]:
    """Explains a batch by every method that lacks a map of it; maps are written here, pictures in the background."""
    good = [(clip, sample) for clip, sample in decoded if isinstance(sample, Sample)]
    for clip, sample in decoded:
        if not isinstance(sample, Sample):
            _fail_all(jobs, Failure.of(clip.id, "read", sample))
    for job in jobs:
        job.doubts.add(good)
        job.doubts.write()
    ready: PreparedBatch | None = None
    if any(clip.id in job.missing for job in jobs for clip, _ in good):
        ready, failures = prepare(resident.network, decoded, jobs[0].experiment)
        for failure in failures:
            _fail_all(jobs, failure)
    found: dict[int, dict[str, StoredMap]] = {}
    for alike in bar.methods(together(jobs), [clip for clip, _ in good]):
        found |= _maps(resident, alike, ready, good, control)
    return [
        draw([(job, found[id(job)][clip.id]) for job in jobs if clip.id in found[id(job)]], clip, sample)
        for clip, sample in good
    ]


def _fail_all(jobs: Sequence[Job], failure: Failure) -> None:
    for job in jobs:
        job.add(failure)


def _maps(
    resident: Resident,
    alike: Sequence[Job],
    ready: PreparedBatch | None,
    good: Sequence[tuple[Clip, Sample]],
    control: Control,
) -> dict[int, dict[str, StoredMap]]:
    """Returns the maps of a batch by jobs that are run together: computed and written if missing, otherwise read."""
    found: dict[int, dict[str, StoredMap]] = {id(job): {} for job in alike}
    asked = _asked(alike, ready) if ready is not None else []
    if ready is not None and asked:
        try:
            explained = explain_batch(resident.network, [job.experiment for job in asked], ready)
            for job, (found[id(job)], failures) in zip(asked, explained, strict=True):
                for failure in failures:
                    _fail_all([job] if failure.clip in job.missing else [], failure)
        except CONCERNS_METHOD as error:  # the other methods go on
            for job in asked:
                job.failed = error
                job.fail("", "method", error)
    with control.writing():
        for clip, _ in good:
            for job in alike:
                _keep(job, clip, found[id(job)])
    return found


def _asked(alike: Sequence[Job], ready: PreparedBatch) -> list[Job]:
    """Returns which of the jobs that are run together have to be computed.

    These are all of them if a map is missing that was computed together with one that is stored: only so are its bytes
    the same as in an undisturbed run.
    """
    clips = {clip.id for clip in ready.clips}
    lack = [job for job in alike if job.failed is None and clips & job.missing]
    begun = any(clips - job.missing for job in lack)
    return [job for job in alike if job.failed is None] if begun else lack


def _keep(job: Job, clip: Clip, maps: dict[str, StoredMap]) -> None:
    """Stores the map of one clip if it is new, and reads it back if it was there before."""
    name = clip.id
    try:
        if name in maps and name in job.missing:
            gallery.discard(job, clip, maps[name])
            job.folder.save(name, maps[name])
            job.stale.discard(name)
            job.missing.remove(name)
            job.written += 1
        elif name not in job.stale and job.folder.map_path(name).is_file():
            maps[name] = job.folder.load(name, extras=True)
    except CONCERNS_ALL:
        raise
    except Exception as error:
        maps.pop(name, None)
        job.fail(name, "store", error)


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
