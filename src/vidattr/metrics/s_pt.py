"""Spatial pointing game: does the peak of the map lie on the object, frame by frame.

Li, Z. et al., "Towards Visually Explaining Video Understanding Networks with Perturbation", WACV 2021, section 4.3.1;
Uchiyama, T. et al., "Visually explaining 3D-CNN predictions for video classification with an adaptive occlusion
sensitivity analysis", WACV 2023, section 4.3.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from vidattr.errors import ConfigError
from vidattr.metrics._pointing import expected_hit
from vidattr.models._network import Network
from vidattr.types import Column, Method, Query, Scores, Truth


class Protocol(StrEnum):
    """How a peak is judged; see `SpatialPointing`."""

    step_corrected = auto()
    step_released = auto()
    aosa = auto()


class Ties(StrEnum):
    """Which point a frame with several equal maxima has: each with the same chance, their centroid, the first in raster order."""

    expected = auto()
    centroid = auto()
    first = auto()


class ToleranceMode(StrEnum):
    """`fixed`: pixels as they are; `scaled`: pixels of a frame whose shorter side is 112."""

    fixed = auto()
    scaled = auto()


@dataclass(frozen=True)
class SpatialPointing:
    """Scores per clip the share of its judged frames whose peak hits, under up to three protocols at once.

    The point is the centre (x+½, y+½) of the pixel (x, y), the box the closed rectangle [x0, x1] × [y0, y1]; its distance is
    Euclidean and 0 inside.

    * `step_corrected`, what the STEP paper describes: a frame hits iff the disc of radius `tolerance` around the point
      meets any of its boxes; frames without a box are skipped. Unlike the paper, ties score their expected hit.
    * `aosa`: the same disc; of several maxima the first in raster order; hits over frames of the whole data set.
    * `step_released`, STEP's released evaluator with its defects: (a) frames without a box are not skipped but judged by a
      box (0, 0, 0, 0); (b) row and column of the point are swapped; (c) the box grows by the tolerance into a rectangle
      instead of meeting a disc; of several boxes only the last counts; of several maxima the first. Its tolerance was
      7 px at 112 and 15 at 224 and lies on the line through both at other sizes. Unlike the released code, maps keep
      single precision (there, half precision added ties).

    Attributes:
        protocols: Which of them to judge by.
        ties: How `step_corrected` takes several equal maxima of a frame.
        tolerance: Radius in pixels for `step_corrected` and `aosa`.
        tolerance_mode: What these pixels are.
        score_unboxed_clips: Whether `step_released` also judges clips without a box on any frame, as the released code
            does. They are NaN by default, because a data set without any annotation looks exactly like this.
    """

    version: ClassVar[int] = 1
    needs_network: ClassVar[bool] = False

    protocols: list[Protocol] = field(default_factory=lambda: list(Protocol))
    ties: Ties = Ties.expected
    tolerance: float = 7.0
    tolerance_mode: ToleranceMode = ToleranceMode.scaled
    score_unboxed_clips: bool = False

    def __post_init__(self) -> None:
        if not self.protocols or len(set(self.protocols)) != len(self.protocols):
            raise ConfigError(f"metric.protocols={[str(p) for p in self.protocols]}", expected=f"one or more of {', '.join(Protocol)}")
        if not self.tolerance >= 0:
            raise ConfigError(f"metric.tolerance={self.tolerance}", expected="a distance in pixels, 0 or more")

    def __call__(self, model: Network | None, query: Query, truth: Sequence[Truth], maps: Tensor, methods: Sequence[Method] = ()) -> Scores:
        """Judges `maps` (M, N, T, H, W); clips without a judged frame and maps that are not finite are NaN.

        Returns:
            Per protocol `<protocol>` (the clip's hit rate) and `<protocol>_frames` (its judged frames), and as reference
            `chance`: the rate of a uniformly random point, which is the share of the pixels that would hit.
        """
        H, W = maps.shape[-2:]
        radius = self.tolerance * (min(H, W) / 112 if self.tolerance_mode is ToleranceMode.scaled else 1.0)
        boxes, last = _boxes(truth, maps.device)
        boxed = boxes[..., 0].isfinite().any(0)  # (N, T)
        y = torch.arange(H, device=maps.device, dtype=torch.float64).add(0.5).unsqueeze(1)
        x = torch.arange(W, device=maps.device, dtype=torch.float64).add(0.5)
        disc = _meets(x, y, boxes[..., None, None, :], radius)
        finite = maps.isfinite().flatten(2).all(2)

        columns: dict[str, Tensor] = {}
        chance: dict[str, Tensor] = {}
        for protocol in self.protocols:
            if protocol is Protocol.step_released:
                target = _released(x - 0.5, y - 0.5, last[..., None, None, :], round(min(H, W) / 14 - 1))
                judged = torch.ones_like(boxed) if self.score_unboxed_clips else boxed.any(1, keepdim=True).expand_as(boxed)
            else:
                target, judged = disc, boxed
            ties = self.ties if protocol is Protocol.step_corrected else Ties.first
            if ties is Ties.centroid:
                hits = _meets(*_centroid(maps, x, y), boxes, radius).double()
            elif ties is Ties.first:
                peak = maps.flatten(3).argmax(3, keepdim=True)
                hits = target.flatten(2).expand(len(maps), -1, -1, -1).gather(3, peak).squeeze(3).double()
            else:
                hits = expected_hit(maps.flatten(3), target.flatten(2))
            rate = _rate(hits, judged)
            columns[protocol.value] = rate.where(finite, torch.nan)
            chance[protocol.value] = _rate(target.flatten(2).double().mean(2), judged)
            chance[f"{protocol}_frames"] = judged.sum(1).double()
            columns[f"{protocol}_frames"] = chance[f"{protocol}_frames"].expand_as(rate)
        return Scores(columns, reference={"chance": chance})

    def summary(self) -> tuple[Column, ...]:
        """Returns each protocol's own aggregate; for `step_corrected` over frames, over classes and over videos."""
        aggregates: dict[Protocol, dict[str, str | None]] = {
            Protocol.step_corrected: {"frames": None, "class mean": "label", "video mean": "video"},
            Protocol.step_released: {"class mean": "label"},
            Protocol.aosa: {"frames": None},
        }
        return tuple(
            Column(f"{protocol}, {name}", score=protocol.value, weight=f"{protocol}_frames", by=by)
            for protocol in self.protocols
            for name, by in aggregates[protocol].items()
        )


def _boxes(truth: Sequence[Truth], device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns all boxes (B, N, T, 4), B ≥ 1, absent ones NaN, and the last one of each frame (N, T, 4), absent ones 0."""
    most = max(1, *(len(boxes) for clip in truth for boxes in clip.boxes))
    every = np.full((most, len(truth), len(truth[0].boxes), 4), np.nan)
    last = np.zeros(every.shape[1:])
    for n, clip in enumerate(truth):
        for t, boxes in enumerate(clip.boxes):
            for b, box in enumerate(boxes):
                every[b, n, t] = last[n, t] = box
    return torch.from_numpy(every).to(device), torch.from_numpy(last).to(device)


def _meets(x: Tensor, y: Tensor, boxes: Tensor, radius: float) -> Tensor:
    """Tells which points are at most `radius` from one of the boxes (B, ..., 4); a NaN box is met by none."""
    hits = []
    for x0, y0, x1, y1 in (box.unbind(-1) for box in boxes):
        dx = torch.maximum(x0 - x, x - x1).clamp(min=0)
        dy = torch.maximum(y0 - y, y - y1).clamp(min=0)
        hits.append(dx.square() + dy.square() <= radius**2)
    return functools.reduce(torch.logical_or, hits)


def _released(column: Tensor, row: Tensor, box: Tensor, tolerance: int) -> Tensor:
    """Tells which pixels hit the box (..., 4), grown by `tolerance`, with the row taken for x and the column for y."""
    x0, y0 = box[..., :2].floor().sub(tolerance).unbind(-1)
    x1, y1 = box[..., 2:].ceil().add(tolerance).unbind(-1)
    return (x0 <= row) & (row <= x1) & (y0 <= column) & (column <= y1)


def _centroid(maps: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the mean x and y (M, N, T) of each frame's maxima."""
    peak = maps == maps.amax((-2, -1), keepdim=True)
    count = peak.sum((-2, -1))
    return (peak * x).sum((-2, -1)) / count, (peak * y).sum((-2, -1)) / count


def _rate(hits: Tensor, judged: Tensor) -> Tensor:
    """Returns the mean of hits (..., N, T) over the judged frames (N, T); NaN where there is none."""
    return hits.where(judged, 0).sum(-1) / judged.sum(-1)
