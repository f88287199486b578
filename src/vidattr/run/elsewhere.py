"""Maps that another process stores while a run goes on are taken over, and not computed twice."""

from __future__ import annotations

from collections.abc import Sequence

from vidattr.run.job import Job
from vidattr.run.sources import Source
from vidattr.types import Clip


def computed_elsewhere(jobs: Sequence[Job], batch: Sequence[Clip]) -> bool:
    """Takes over the maps that another process stored since this run began; returns whether no map is missing now.

    Only of clips that had no map then: a map that has to be computed again is not taken for a new one.
    """
    for job in jobs:
        for clip in batch:
            if clip.id not in job.absent or clip.id not in job.missing or not job.folder.map_path(clip.id).is_file():
                continue
            facts = job.folder.facts(clip.id)
            whole = facts is not None and (facts.get("extras", True) or not job.experiment.runtime.extras)
            if facts and whole and Source(clip, job.experiment.settings.target).same(facts.get("source", {})):
                job.missing.discard(clip.id)
                job.facts[clip.id] = facts
                job.present += 1
    return not any(clip.id in job.missing for job in jobs for clip in batch)
