"""What a lower precision of the network does to results: maps, masks, and areas under curves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

import vidattr
from gpu.core import Bench
from gpu.inputs import Row, moving, spearman
from vidattr.config.runtime import Precision
from vidattr.models.network.network import VideoModel
from vidattr.protocols import MapBatch
from vidattr.run import compose
from vidattr.types import Explanation, Query, Truth

_METHODS: dict[str, Row] = {
    "gradient": {},
    "grad_cam": {},
    "smoothgrad": {"n": 4},
    "aosa_approx": {},
    "osa": {"stride": 16},
    "rise": {"masks": 64},
    "step": {"iterations": 60, "late_from": 30, "core_start": 20, "areas": [0.1], "late_growth": 1.05},
}
_TINY: dict[str, Row] = {"rise": {"masks": 8}, "step": {"iterations": 3, "areas": [0.2], "core_kernel": [3, 11, 11]}}
_TINY["step"] |= {"seed_sigma": 5.0}
ROUNDING = "float32, other rounding"


def table(bench: Bench) -> Iterator[Row]:
    """Compares the results in each precision with those in float32, on the clips of `--clips` or on drifting patterns.

    The row "float32, other rounding" changes frames in their last bit only. A method whose results differ as much there
    does not lose by a lower precision: gradient descent on masks has many minima.
    """
    network = _network(bench)
    clips = _clips(bench, network)
    for name, fields in (_METHODS | _TINY if bench.tiny else _METHODS).items():
        method = vidattr.load_method(name, **fields)
        results: dict[str, list[Explanation]] = {}
        seconds: dict[str, float] = {}
        lower = (Precision.tf32, Precision.bfloat16) if bench.cuda else (Precision.bfloat16,)
        for label in ("float32", ROUNDING, *(precision.value for precision in lower)):
            network.precision = Precision.float32 if label == ROUNDING else Precision(label)
            bench.hold(network)
            shift = 1 + 2**-23 if label == ROUNDING else 1.0
            timed = bench.clock(lambda m=method, q=clips[0]: m(network, _shifted(q, 1.0)), 0.0)  # type: ignore[misc]
            seconds[label] = timed["ms"]
            results[label] = [method(network, _shifted(query, shift)) for query in clips]
        network.precision = Precision.float32
        bench.hold(network)
        areas = {label: _areas(network, clips, found) for label, found in results.items()}
        for label, found in list(results.items())[1:]:
            pairs = list(zip(found, results["float32"], strict=True))
            row: Row = {"method": name, "precision": label, "clips": len(clips)}
            row["rank"] = min(spearman(one.map, other.map) for one, other in pairs)
            masks = [(one.extras["masks"], other.extras["masks"]) for one, other in pairs if "masks" in one.extras]
            row["mask_iou"] = min((_overlap(*pair) for pair in masks), default=None)
            row["auc_change"] = float((areas[label] - areas["float32"]).abs().max())
            yield row | {"times_as_fast": seconds["float32"] / seconds[label]}


def _shifted(query: Query, factor: float) -> Query:
    return Query(query.frames * factor, query.target, query.seeds)


def _overlap(one: Tensor, other: Tensor) -> float:
    return float(torch.minimum(one, other).sum() / torch.maximum(one, other).sum().clamp(min=1e-9))


def _areas(network: VideoModel, clips: Sequence[Query], found: Sequence[Explanation]) -> Tensor:
    """Returns the areas under deletion and insertion (2, clips) of each map, judged in float32."""
    metric = compose.part("metric", "deletion_insertion", {"steps": 14, "noise_draws": 0})
    columns = []
    for query, explanation in zip(clips, found, strict=True):
        truth = [Truth("clip", "", "clip", ((),) * query.frames.shape[2], None)]
        scores = metric.score_maps(MapBatch(explanation.map[None], query, truth, network))
        columns.append(torch.cat([scores.columns["deletion"][:, 0], scores.columns["insertion"][:, 0]]))
    return torch.stack(columns, 1)


def _network(bench: Bench) -> VideoModel:
    if bench.weights is None:
        return bench.network("tiny", Precision.float32, 16)
    fields: Row = {"weights": str(bench.weights), "input": {"size": [112, 112]}}
    network: VideoModel = compose.part("model", "ucf101_r2plus1d_light", fields).load()
    network.run_with(bench.runtime(Precision.float32, 16))
    return network


def _clips(bench: Bench, network: VideoModel) -> list[Query]:
    files = sorted(Path(bench.clips).rglob("*.*")) if bench.clips is not None else []
    if not files:
        return [moving(network, 1)]
    found = []
    for number, file in enumerate(files[: 1 if bench.tiny else 8]):
        frames = vidattr.read_clip(file, network)
        target = network.probabilities(frames).argmax(1)
        found.append(Query(frames, target, (number,)))
    return found
