"""Spatial pointing game: the share of frames in which the peak of the map lies on the object.

Li, Z. et al., "Towards Visually Explaining Video Understanding Networks with Perturbation", WACV 2021, section 4.3.1;
Uchiyama, T. et al., "Visually explaining 3D-CNN predictions for video classification with an adaptive occlusion
sensitivity analysis", WACV 2023, section 4.3.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidattr.errors import ConfigError
from vidattr.metrics.shared.expected_hit import expected_hit
from vidattr.metrics.shared.noise_draws import check_draws
from vidattr.models.speed.lagging import onto
from vidattr.protocols import MapBatch
from vidattr.types import Box, Column, Fitted, Scores

if TYPE_CHECKING:
    import pandas as pd


_CLIPS = 16  # clips that are judged at once, for every pixel as the peak


class Protocol(StrEnum):
    """How a peak is judged; see `SpatialPointing`."""

    step_corrected = auto()
    step_released = auto()
    aosa = auto()


class Ties(StrEnum):
    """The peak of a frame with several equal maxima: a random one (expected hit), their centroid, or the first."""

    expected = auto()
    centroid = auto()
    first = auto()


class ToleranceMode(StrEnum):
    """Unit of the tolerance. `fixed`: pixels of the frame; `scaled`: pixels of a frame whose shorter side is 112."""

    fixed = auto()
    scaled = auto()


@dataclass(frozen=True)
class SpatialPointing:
    """Scores a clip by the share of its judged frames whose peak hits a box, under up to three protocols.

    The point is the centre (x+½, y+½) of the pixel (x, y), the box is the closed rectangle [x0, x1] × [y0, y1]. The
    distance between them is Euclidean and 0 inside the box.

    * `step_corrected`, as described in the STEP paper: a frame hits iff the disc of radius `tolerance` around the point
      meets any of its boxes; frames without a box are skipped. Unlike the paper, ties score their expected hit.
    * `aosa`: the same disc; the first of several maxima in raster order; the rate is over all frames of the dataset.
    * `step_released`, STEP's released evaluator with its defects: (a) frames without a box are not skipped but judged
      by a box (0, 0, 0, 0); (b) row and column of the point are swapped; (c) the box is enlarged by the tolerance on
      every side, where a disc is meant; only the last of several boxes counts, and the first of several maxima. The
      tolerance was 7 px at 112 and 15 at 224, and is interpolated linearly for other sizes. Unlike the released
      code, maps keep single precision (there, half precision added ties).

    Attributes:
        protocols: The protocols.
        ties: The peak of a frame with several equal maxima, for `step_corrected`.
        tolerance: Radius in pixels for `step_corrected` and `aosa`.
        tolerance_mode: Unit of the tolerance.
        score_unboxed_clips: Whether `step_released` also judges clips without a box on any frame, as the released code
            does. By default they are NaN, because a dataset without annotations would look the same.
        noise_draws: Draws of noise as smooth as each map that are judged beside it (`matched_noise.noise`); 0: none.
    """

    version: ClassVar[int] = 2  # since 2 with the boxes of each clip
    needs_network: ClassVar[bool] = False
    unjudged: ClassVar[str] = "no frame of the clip has a box, or its map is not finite"

    protocols: list[Protocol] = field(default_factory=lambda: list(Protocol))
    ties: Ties = Ties.expected
    tolerance: float = 7.0
    tolerance_mode: ToleranceMode = ToleranceMode.scaled
    score_unboxed_clips: bool = False
    noise_draws: int = 4

    def __post_init__(self) -> None:
        check_draws(self.noise_draws)
        if not self.protocols or len(set(self.protocols)) != len(self.protocols):
            raise ConfigError(
                f"metric.protocols={[str(p) for p in self.protocols]}", expected=f"one or more of {', '.join(Protocol)}"
            )
        if not 0 <= self.tolerance < math.inf:
            raise ConfigError(f"metric.tolerance={self.tolerance}", expected="a distance in pixels, 0 or more")

    def score_maps(self, batch: MapBatch) -> Scores:
        """Judges M maps of each of N clips; clips without a judged frame and maps that are not finite are NaN.

        Returns:
            Per protocol `<protocol>` (the clip's hit rate) and `<protocol>_frames` (its judged frames); as reference
            `chance`: the hit rate of a uniformly random point, which is the share of pixels that hit; as a note
            `boxes`, by frame, from which `fitted` finds the best constant point.
        """
        maps, truth = batch.maps, batch.truth
        H, W = maps.shape[-2:]
        boxes, last = _boxes([clip.boxes for clip in truth], maps.device)
        x, y = _centres(H, W, maps.device)
        finite = maps.isfinite().flatten(2).all(2)

        columns: dict[str, Tensor] = {}
        chance: dict[str, Tensor] = {}
        for protocol, (target, judged) in self._targets(boxes, last, x, y, min(H, W)).items():
            ties = self.ties if protocol is Protocol.step_corrected else Ties.first
            if ties is Ties.centroid:
                hits = _meets(*_centroid(maps, x, y), boxes, self._radius(min(H, W))).double()
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
        return Scores(
            columns, reference={"chance": chance}, notes={"boxes": [json.dumps(clip.boxes) for clip in truth]}
        )

    def _radius(self, side: int) -> float:
        return self.tolerance * (side / 112 if self.tolerance_mode is ToleranceMode.scaled else 1.0)

    def _targets(
        self, boxes: Tensor, last: Tensor, x: Tensor, y: Tensor, side: int
    ) -> dict[Protocol, tuple[Tensor, Tensor]]:
        """Returns for each protocol which points x (w,), y (h, 1) hit, (N, T, h, w), and the judged frames (N, T)."""
        boxed = boxes[..., 0].isfinite().any(0)
        disc = _meets(x, y, boxes[..., None, None, :], self._radius(side))
        found = dict.fromkeys(self.protocols, (disc, boxed))
        if Protocol.step_released in found:
            target = _released(x - 0.5, y - 0.5, last[..., None, None, :], round(side / 14 - 1))
            judged = torch.ones_like(boxed) if self.score_unboxed_clips else boxed.any(1, keepdim=True).expand_as(boxed)
            found[Protocol.step_released] = target, judged
        return found

    def fitted(self, rows: pd.DataFrame, size: tuple[int, int]) -> Fitted:
        """Returns the scores of the best constant point.

        This is, per protocol, the pixel with the highest score in the first column if it is the peak of every frame.
        It is chosen on the clips that it is judged on, so it is an upper bound for constant points and not a baseline
        that is known beforehand. Of several such pixels it is the first in raster order.

        Args:
            rows: One row per clip, with its label and the note `boxes`.
            size: (H, W) of the maps.
        """
        boxes, last = _boxes([json.loads(text) for text in rows["boxes"]], torch.device("cpu"))
        x, y = _centres(*size, boxes.device)
        by = {column.score: column.by for column in reversed(self.summary())}  # of its first column, which enters last
        # The contribution of a hit in each clip to that column, (N,).
        worth = {
            protocol: _worth(judged.sum(1), None if by[protocol] is None else rows[by[protocol]].to_numpy(str))
            for protocol, (_, judged) in self._targets(boxes, last, x[:1], y[:1], min(size)).items()
        }
        scores = {protocol: torch.zeros(size, dtype=torch.float64) for protocol in self.protocols}
        for chunk in torch.split(torch.arange(len(rows)), _CLIPS):
            for protocol, (target, judged) in self._targets(boxes[:, chunk], last[chunk], x, y, min(size)).items():
                scores[protocol] += torch.tensordot(worth[protocol][chunk, None] * judged, target.double(), 2)
        columns, points = {}, []
        for protocol in (protocol for protocol in self.protocols if worth[protocol].any()):
            # Rounded, so that equal scores stay equal in any order of summation.
            row, column = divmod(int(scores[protocol].round(decimals=12).argmax()), size[1])
            target, judged = self._targets(boxes, last, x[column : column + 1], y[row : row + 1], min(size))[protocol]
            columns[protocol.value] = _rate(target[..., 0, 0].double(), judged).numpy()
            points.append(f"{protocol} ({column}, {row})")
        remark = (
            "best point: the pixel (x, y) that, as the peak of every frame, scores most in its protocol's first "
            f"column: {', '.join(points) or 'no frame has a box'}. It is chosen on the very clips that it is judged "
            "on: a bound for constant points, not a baseline known beforehand. Its interval takes the choice as given."
        )
        return Fitted("best point", columns, remark)

    def summary(self) -> tuple[Column, ...]:
        """Returns each protocol's own aggregate; for `step_corrected` over frames, over classes and over videos."""
        aggregates: dict[Protocol, dict[str, str | None]] = {
            Protocol.step_corrected: {"frames": None, "class mean": "label", "video mean": "video"},
            Protocol.step_released: {"class mean": "label"},
            Protocol.aosa: {"frames": None},
        }
        return tuple(
            Column(f"{protocol}, {name}", score=protocol.value, weight=f"{protocol}_frames", by=by, bounds=(0, 1))
            for protocol in self.protocols
            for name, by in aggregates[protocol].items()
        )


def _centres(H: int, W: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns x (W,) and y (H, 1) of the pixels' centres."""
    x, y = (torch.arange(length, device=device, dtype=torch.float64).add(0.5) for length in (W, H))
    return x, y.unsqueeze(1)


def _boxes(clips: Sequence[Sequence[Sequence[Box]]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns all boxes (B, N, T, 4), B ≥ 1, NaN where absent, and the last of each frame (N, T, 4), 0 where absent."""
    most = max(1, *(len(boxes) for clip in clips for boxes in clip))
    every = np.full((most, len(clips), len(clips[0]), 4), np.nan)
    last = np.zeros(every.shape[1:])
    for n, clip in enumerate(clips):
        for t, boxes in enumerate(clip):
            for b, box in enumerate(boxes):
                every[b, n, t] = last[n, t] = box
    return onto(device, torch.from_numpy(every)), onto(device, torch.from_numpy(last))


def _meets(x: Tensor, y: Tensor, boxes: Tensor, radius: float) -> Tensor:
    """Returns which points are at most `radius` from one of the boxes (B, ..., 4); no point meets a NaN box."""
    hits = []
    for x0, y0, x1, y1 in (box.unbind(-1) for box in boxes):
        dx = torch.maximum(x0 - x, x - x1).clamp(min=0)
        dy = torch.maximum(y0 - y, y - y1).clamp(min=0)
        hits.append(dx.square() + dy.square() <= radius**2)
    return functools.reduce(torch.logical_or, hits)


def _released(column: Tensor, row: Tensor, box: Tensor, tolerance: int) -> Tensor:
    """Returns which pixels hit the box (..., 4), enlarged by `tolerance`, with row and column swapped."""
    x0, y0 = box[..., :2].floor().sub(tolerance).unbind(-1)
    x1, y1 = box[..., 2:].ceil().add(tolerance).unbind(-1)
    return (x0 <= row) & (row <= x1) & (y0 <= column) & (column <= y1)


def _centroid(maps: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the mean x and y (M, N, T) of each frame's maxima."""
    peak = maps == maps.amax((-2, -1), keepdim=True)
    count = peak.sum((-2, -1))
    return (peak * x).sum((-2, -1)) / count, (peak * y).sum((-2, -1)) / count


def _worth(frames: Tensor, groups: NDArray[np.str_] | None) -> Tensor:
    """Returns the contribution of a hit in each clip (N,) to the rate over judged frames, or to the mean of groups."""
    place = torch.from_numpy(np.unique(np.zeros(len(frames)) if groups is None else groups, return_inverse=True)[1])
    total = torch.zeros(int(place.max()) + 1, dtype=torch.float64).index_add_(0, place, frames.double())
    return torch.where(total > 0, 1 / (total * (total > 0).sum()), 0)[place]


def _rate(hits: Tensor, judged: Tensor) -> Tensor:
    """Returns the mean of hits (..., N, T) over the judged frames (N, T); NaN where there is none."""
    return hits.where(judged, 0).sum(-1) / judged.sum(-1)
