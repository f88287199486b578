"""The scores of noise that is as smooth as each map (`metrics.shared.matched_noise`)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vidattr.evaluate.table import BASELINES
from vidattr.methods.baselines.random import Random
from vidattr.metrics.shared.matched_noise import Smoothing, noise
from vidattr.protocols import MapBatch, MapMetric, MatchedNoise, Method, Metric, RerunMetric, Smoothed
from vidattr.types import Query, Scores

_AT_ONCE = 2**26  # largest size of the noise of a few clips, in numbers


def draws_of(metric: Metric | None) -> int:
    """Returns how many draws of noise each map is compared with under this metric; 0: none."""
    return metric.noise_draws if isinstance(metric, MatchedNoise) else 0


def map_scores(metric: MapMetric | RerunMetric, batch: MapBatch, methods: Sequence[Method]) -> Scores:
    """Returns the scores (M, N) of the maps of a batch, which the M `methods` made."""
    if len(methods) != len(batch.maps):
        raise ValueError(f"{len(methods)} methods for {len(batch.maps)} maps: each map has the method that made it")
    return metric.score_methods(batch, methods) if isinstance(metric, RerunMetric) else metric.score_maps(batch)


def noise_scores(
    metric: MapMetric | RerunMetric, batch: MapBatch, methods: Sequence[Method], names: Sequence[str]
) -> dict[int, dict[str, Tensor]]:
    """Returns the scores of noise matched to each map of a batch, except to those of the baselines.

    Methods are compared with their matched noise. Baselines are compared with nothing, so they need none.

    Args:
        metric: Judges noise as it judges maps.
        batch: M maps of each of N clips.
        methods: M, which made the maps; one that smooths its maps has noise that is smoothed in the same way.
        names: M names of the methods' configs.

    Returns:
        The map's place among the M to score name to (N,), the mean over the draws.
    """
    draws = draws_of(metric)
    places = [m for m, name in enumerate(names) if name not in BASELINES] if draws else []
    step = max(1, _AT_ONCE // max(1, draws * len(places) * batch.maps[0, 0].numel()))
    sums: dict[int, dict[str, list[Tensor]]] = {m: {} for m in places}
    for start in range(0, batch.maps.shape[1] if places else 0, step):
        part = slice(start, start + step)
        query = Query(batch.query.frames[part], batch.query.target[part], batch.query.seeds[part])
        drawn = [noise(batch.maps[m, part], query.seeds, draws, _smoothing(methods[m])) for m in places]
        some = MapBatch(torch.stack(drawn).flatten(0, 1), query, batch.truth[part], batch.model)
        # No method made this noise: a metric that runs methods again gets a method without options.
        scores = map_scores(metric, some, [Random()] * (len(places) * draws))
        for name, column in scores.columns.items():
            for m, values in zip(places, column.view(len(places), draws, -1).mean(1), strict=True):
                sums[m].setdefault(name, []).append(values)
    return {m: {name: torch.cat(parts) for name, parts in columns.items()} for m, columns in sums.items()}


def _smoothing(method: Method) -> Smoothing | None:
    return method.smoothing if isinstance(method, Smoothed) else None
