"""The best constant map: the share of clips in which a voxel is evidence, the same map for every clip."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch

from vidattr.benchmark.plan import BenchmarkPlan, Contest
from vidattr.metrics.shared.truth_volume import truth_volume
from vidattr.protocols import MapBatch, MapMetric
from vidattr.types import Query, Truth
from vidattr.video import decode

MAP = "best constant map"


def scored_constant_map(
    plan: BenchmarkPlan, task: Contest, clips: set[str]
) -> Iterator[tuple[str, Mapping[str, float]]]:
    """Yields each truth score with its value for every clip, by clip id, of the best constant map.

    The map is the mean of the truth over the clips that it is judged on, so it is a bound for maps that are the same
    for all clips, and not a baseline known beforehand. It ranks voxels by how many clips have them as evidence; a
    metric of peaks may be served better by another constant map.

    Args:
        plan: The plan.
        task: The network and family.
        clips: Ids of the judged clips.
    """
    dataset, view = task.certificate.dataset, task.certificate.model.input
    mine = [clip for clip in dataset.index().clips if clip.id in clips]
    if not mine:
        return
    samples = [decode.read(clip, view) for clip in mine]
    truth = [
        Truth(clip.id, clip.label, clip.video, one.boxes, one.segment, one.evidence, one.resampled)
        for clip, one in zip(mine, samples, strict=True)
    ]
    frames = view.normalise(torch.from_numpy(np.stack([one.pixels for one in samples])))
    volumes, _ = truth_volume(truth, (frames.shape[2], *frames.shape[3:]), frames.device)
    map = volumes.float().mean(0).expand(1, len(mine), -1, -1, -1)
    query = Query(frames, torch.zeros(len(mine), dtype=torch.int64), tuple(range(len(mine))))
    batch = MapBatch(map, query, truth, explains=[False])
    for judging in plan.judging:
        metric = judging.experiment.metric
        names = [name for name in judging.measures if name in plan.chosen.scale.truth]
        if names and isinstance(metric, MapMetric) and not metric.needs_network:
            columns = metric.score_maps(batch).columns
            for name in names:
                values = columns[judging.measures[name][0]][0].tolist()
                yield name, dict(zip([clip.id for clip in mine], values, strict=True))
