"""What a lower precision of the network does to results: maps, masks, and areas under curves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import Tensor

import vidattr
from gpu.core import Bench
from gpu.inputs import Row, moving, spearman
from gpu.tf32 import EmulatedTF32
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
    "step": {"iterations": 150, "late_from": 75, "core_start": 50, "areas": [0.1], "late_growth": 1.05},
}
# A CPU takes a hundred times as long.
_CPU: dict[str, Row] = {"rise": {"masks": 32}, "step": _METHODS["step"] | {"iterations": 100, "late_from": 50}}
_TINY: dict[str, Row] = {"rise": {"masks": 8}, "step": {"iterations": 3, "areas": [0.2], "core_kernel": [3, 11, 11]}}
_TINY["step"] |= {"seed_sigma": 5.0}
ROUNDING = "float32, other rounding"
EMULATED = "tf32, emulated"


def table(bench: Bench) -> Iterator[Row]:
    """Compares the results in each precision with those in float32, on the clips of `--clips` or on drifting patterns.

    The row "float32, other rounding" changes frames in their last bit only. A method whose results differ as much there
    does not lose by a lower precision: gradient descent on masks has many minima. A CPU has no TF32: its row "tf32,
    emulated" rounds what convolutions and matrix products multiply, and has no time.
    """
    network = _network(bench)
    clips = _clips(bench, network)
    tf32 = Precision.tf32.value if bench.cuda else EMULATED
    labels = ("float32", ROUNDING, tf32, Precision.bfloat16.value)
    shorter = _TINY if bench.tiny else {} if bench.cuda else _CPU
    for name, fields in (_METHODS | shorter).items():
        method = vidattr.load_method(name, **fields)
        results: dict[str, Explanation] = {}
        seconds: dict[str, float] = {}
        for label in labels:
            network.precision = Precision.float32 if label in (ROUNDING, EMULATED) else Precision(label)
            bench.hold(network)
            if bench.cuda:  # times of a CPU say nothing about a GPU, and would cost four runs more
                timed = bench.clock(lambda m=method, q=clips: m(network, _shifted(q, 1.0)), 0.0)  # type: ignore[misc]
                seconds[label] = timed["ms"]
            with _arithmetic(label):
                results[label] = method(network, _shifted(clips, 1 + 2**-23 if label == ROUNDING else 1.0))
        network.precision = Precision.float32
        bench.hold(network)
        exact = results.pop("float32")
        areas = _areas(network, clips, exact)
        for label, found in results.items():
            row: Row = {"method": name, "precision": label, "clips": len(clips.seeds)}
            row["rank"] = min(map(spearman, found.map, exact.map))
            both = found.extras.get("masks"), exact.extras.get("masks")
            row["mask_iou"] = None if None in both else min(map(_overlap, *both))  # type: ignore[arg-type]
            row["auc_change"] = float((_areas(network, clips, found) - areas).abs().max())
            yield row | ({"times_as_fast": seconds["float32"] / seconds[label]} if seconds else {})


def _arithmetic(label: str) -> AbstractContextManager[object]:
    return EmulatedTF32() if label == EMULATED else nullcontext()


def _shifted(query: Query, factor: float) -> Query:
    return Query(query.frames * factor, query.target, query.seeds)


def _overlap(one: Tensor, other: Tensor) -> float:
    return float(torch.minimum(one, other).sum() / torch.maximum(one, other).sum().clamp(min=1e-9))


def _areas(network: VideoModel, clips: Query, found: Explanation) -> Tensor:
    """Returns the areas under deletion and insertion (2, clips) of each map, judged in float32."""
    steps = 14 if network.device.type == "cuda" else 7
    metric = compose.part("metric", "deletion_insertion", {"steps": steps, "noise_draws": 0})
    blank: tuple[tuple[tuple[float, float, float, float], ...], ...] = ((),) * clips.frames.shape[2]
    truth: Sequence[Truth] = [Truth(str(seed), "", "clip", blank, None) for seed in clips.seeds]
    scores = metric.score_maps(MapBatch(found.map[None], clips, truth, network))
    return torch.cat([scores.columns["deletion"], scores.columns["insertion"]])


def _network(bench: Bench) -> VideoModel:
    if bench.weights is None:
        return bench.network("tiny", Precision.float32, 16)
    fields: Row = {"weights": str(bench.weights), "input": {"size": [112, 112]}}
    network: VideoModel = compose.part("model", "ucf101_r2plus1d_light", fields).load()
    network.run_with(bench.runtime(Precision.float32, 16))
    return network


def _clips(bench: Bench, network: VideoModel) -> Query:
    """Returns the clips as one batch, the predicted classes to be explained."""
    files = sorted(Path(bench.clips).rglob("*.*")) if bench.clips is not None else []
    if not files:
        return moving(network, 1)
    frames = torch.cat([vidattr.read_clip(file, network) for file in files[: 1 if bench.tiny else 8]])
    return Query(frames, network.probabilities(frames).argmax(1), tuple(range(len(frames))))
