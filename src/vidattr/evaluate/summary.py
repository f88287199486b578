"""From one frame of per-clip scores to one number of a table."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vidattr.evaluate import statistics
from vidattr.evaluate.resampling import Floats, Names, judged
from vidattr.types import Column

_QUANTILES = {"median": 0.5, "p95": 0.95}


@dataclass(frozen=True)
class Entry:
    """One number of a table and all that is known about it; NaN where it cannot be said.

    Attributes:
        row: Name of the row.
        group: "method", "matched" (noise as smooth as a method's maps), "baseline" or "reference" (what a trivial
            answer would have scored).
        column: Title of the column.
        value: The column's mean (or median, or 95 % point) over the judged clips.
        low: Lower end of its 95 % interval.
        high: Upper end.
        n: Clips judged.
        n_nan: Clips that could not be judged.
        n_videos: Videos that the judged clips come from.
        difference: Mean paired difference to the baseline row, on the clips that both have.
        difference_low: Lower end of its 95 % interval.
        difference_high: Upper end.
        p: p-value of the sign-flip test that there is no difference.
        best: Whether no other method or baseline is better.
        dataset: Name of the data set that was judged.
        model: Name of the network.
        metric: Name of the metric.
        run: Key of the run whose maps were judged; "" where no run made them.
    """

    row: str
    group: str
    column: str
    value: float
    low: float
    high: float
    n: int
    n_nan: int
    n_videos: int
    difference: float = math.nan
    difference_low: float = math.nan
    difference_high: float = math.nan
    p: float = math.nan
    best: bool = False
    dataset: str = ""
    model: str = ""
    metric: str = ""
    run: str = ""


def summed_up(name: str, group: str, frame: pd.DataFrame, column: Column, seed: int) -> Entry:
    """Returns the mean (or quantile) of one column of per-clip scores, its interval, and the number of clips."""
    if column.score not in frame:
        return Entry(name, group, column.title, math.nan, math.nan, math.nan, 0, 0, 0)
    values = frame[column.score].to_numpy(np.float64)
    keep = judged(values, _weights(frame, column))
    n = int(keep.sum())
    sample = _sample(frame, values, column)
    value = statistics.mean(sample[0], sample[1], sample[3])
    if column.statistic != "mean":
        value, low, high = statistics.quantile(values, _QUANTILES[column.statistic], _videos(frame), seed=seed)
    else:
        low, high = statistics.interval(*sample, seed=seed, bounds=column.bounds, wilson=column.interval == "wilson")
    return Entry(name, group, column.title, value, low, high, n, len(values) - n, len(set(_videos(frame)[keep])))


def compared(entry: Entry, frame: pd.DataFrame, against: pd.DataFrame, column: Column, seed: int) -> Entry:
    """Adds to an entry of means the paired difference to the frame `against`, on the clips that both have."""
    if column.statistic != "mean" or column.score not in frame or column.score not in against:
        return entry
    both = frame.merge(
        against[["clip", column.score]], on="clip", suffixes=("", " of the baseline"), validate="one_to_one"
    )
    values = (both[column.score] - both[f"{column.score} of the baseline"]).to_numpy(np.float64)
    values, weights, videos, groups = _sample(both, values, column)
    d = statistics.paired_difference(
        values, np.zeros_like(values), weights, videos, groups, seed=seed, bounds=column.bounds
    )
    return replace(entry, difference=d.value, difference_low=d.low, difference_high=d.high, p=d.p)


def _sample(frame: pd.DataFrame, values: Floats, column: Column) -> tuple[Floats, Floats | None, Names, Names | None]:
    """Returns values, weights, videos and groups for `statistics`; for a mean over videos, one value per video."""
    weights, videos = _weights(frame, column), _videos(frame)
    if column.by == "video":
        means, names = statistics.group_means(values, weights, videos)
        return means, None, names, None
    return values, weights, videos, None if column.by is None else frame[column.by].fillna("").to_numpy(str)


def _weights(frame: pd.DataFrame, column: Column) -> Floats | None:
    return None if column.weight is None else frame[column.weight].to_numpy(np.float64)


def _videos(frame: pd.DataFrame) -> NDArray[np.str_]:
    video = frame["video"].fillna("")
    return video.where(video != "", frame["clip"]).to_numpy(str)
