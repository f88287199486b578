"""Judges explanations in Python as `vidattr evaluate` judges stored maps, next to the baselines and matched noise."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vidattr.api.explanation import ClipExplanation
from vidattr.api.loading import load_method, load_metric
from vidattr.errors import ConfigError
from vidattr.evaluate.noise import map_scores, noise_scores
from vidattr.evaluate.table import BASELINES
from vidattr.models.speed.memory import within_memory
from vidattr.protocols import MapBatch, MapMetric, Method, Metric, RerunMetric
from vidattr.types import Scores, Truth


@dataclass(frozen=True)
class Judgement:
    """What a metric says of several explanations of the same clips.

    Attributes:
        scores: A row per method and clip, then the same rows of the baselines: method, clip, and a column per score.
            A row "matched noise (m)" holds the scores of noise with the values and the smoothness of the map of m at
            random positions, the mean over its draws: a map that is not better profits from its smoothness only.
        curves: Name of a curve to a row per method, clip and point: method, clip, point, value. The points of a
            deletion or insertion curve are shares of the voxels, 0 … 1.
    """

    scores: pd.DataFrame
    curves: Mapping[str, pd.DataFrame]

    def __repr__(self) -> str:
        """Returns the table of the scores."""
        return self.scores.to_string(index=False)

    def _repr_html_(self) -> str:
        return self.scores.to_html(index=False)


def judge(
    explanations: ClipExplanation | Sequence[ClipExplanation],
    metric: str | Metric = "deletion_insertion",
    *,
    baselines: bool = True,
) -> Judgement:
    """Judges explanations of the same clips and classes by the same network.

    A few clips show what a method does with these clips, and no more: the intervals over many clips are those of
    `vidattr evaluate`.

    Args:
        explanations: From `explain`.
        metric: From `load_metric`, or the name of a metric of maps (`vidattr list metrics`).
        baselines: Whether the baselines of the tables (noise, the frame's centre, edges, motion) and matched noise are
            judged too.

    Raises:
        ConfigError: The metric judges no maps, or the explanations differ in clips, classes or network.
    """
    found = [explanations] if isinstance(explanations, ClipExplanation) else list(explanations)
    judged_by = load_metric(metric) if isinstance(metric, str) else metric
    title = metric if isinstance(metric, str) else type(metric).__name__
    if not isinstance(judged_by, MapMetric | RerunMetric):
        raise ConfigError(f"{title} judges a network, no maps", expected="a metric of maps, such as deletion_insertion")
    first = _first(found)
    network, query = first.model, first.query
    names = _distinct([one.method_name for one in found])
    methods: list[Method] = [one.method for one in found]
    maps = [one.map for one in found]
    for name in BASELINES if baselines else ():
        baseline = load_method(name)
        names.append(name if name not in names else f"{name} (baseline)")
        methods.append(baseline)
        maps.append(baseline(network, query).map)
    empty: tuple[Any, ...] = ((),) * query.frames.shape[2]
    truth = [Truth(clip=clip, label="", video=clip, boxes=empty, segment=None) for clip in first.clips]
    explains = [method.passes > 0 for method in methods]
    batch = MapBatch(torch.stack([one.to(network.device) for one in maps]), query, truth, network, explains)
    scores = within_memory(network, lambda: map_scores(judged_by, batch, methods))
    rows = [_rows(name, first.clips, {k: v[m] for k, v in scores.columns.items()}) for m, name in enumerate(names)]
    if baselines:
        kinds = [*names[: len(found)], *BASELINES]
        noise = within_memory(network, lambda: noise_scores(judged_by, batch, methods, kinds))
        rows += [_rows(f"matched noise ({names[m]})", first.clips, values) for m, values in noise.items()]
    table = pd.concat(rows, ignore_index=True)
    if table[[column.score for column in judged_by.summary() if column.score in table]].isna().all().all():
        warnings.warn(f"{title}: every score is NaN, which a clip has where {judged_by.unjudged}", stacklevel=2)
    return Judgement(table, {name: _curve(names, first.clips, scores, name) for name in scores.curves})


def _first(found: Sequence[ClipExplanation]) -> ClipExplanation:
    """Returns the first explanation; raises ConfigError where another one is of other clips, classes or networks."""
    if not found or not all(isinstance(one, ClipExplanation) for one in found):
        raise ConfigError("judge was given no explanations", expected="one or more, as `vidattr.explain` returns them")
    first = found[0]
    for one in found[1:]:
        same = {
            "network": one.model is first.model,
            "clips": torch.equal(one.query.frames, first.query.frames),
            "classes": torch.equal(one.query.target, first.query.target),
        }
        if wrong := [name for name, equal in same.items() if not equal]:
            raise ConfigError(
                f"{first.method_name} and {one.method_name} explain different {' and '.join(wrong)}",
                expected="the same clips and classes, and one network, loaded once with load_model",
            )
    return first


def _distinct(names: Sequence[str]) -> list[str]:
    """Returns the names, each repeated one with its place."""
    return [name if names.count(name) == 1 else f"{name} #{place}" for place, name in enumerate(names)]


def _rows(name: str, clips: Sequence[str], columns: Mapping[str, Tensor]) -> pd.DataFrame:
    return pd.DataFrame({"method": name, "clip": list(clips), **{k: v.cpu().numpy() for k, v in columns.items()}})


def _curve(names: Sequence[str], clips: Sequence[str], scores: Scores, name: str) -> pd.DataFrame:
    values = scores.curves[name].cpu().numpy()  # (M, N, S)
    M, N, S = values.shape
    points = list(scores.points) or np.linspace(0, 1, S).tolist()
    return pd.DataFrame(
        {
            "method": np.repeat(np.array(names, dtype=object), N * S),
            "clip": np.tile(np.repeat(np.array(clips, dtype=object), S), M),
            "point": points * (M * N),
            "value": values.ravel(),
        }
    )
