"""Accuracy of a network on a dataset: the share of clips whose label is among the k most probable classes.

It judges the network alone: no method runs and no map is needed. Li et al., WACV 2021, table 1, gives top-1 and top-5.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidattr.errors import ConfigError
from vidattr.metrics.shared.score_interval import score_interval
from vidattr.models.network.network import VideoModel
from vidattr.types import Column, Query, Scores, Truth

_Z = 1.959963984540054  # of a 95 % interval
_NAMED = 60  # classes of a confusion matrix whose names are written beside it


@dataclass(frozen=True)
class Accuracy:
    """Scores a clip 1 if its label is among the k most probable classes of the network, else 0, for each k of `top`.

    If several classes have the same probability, the label scores the probability that a random order of them puts it
    among the first k. A network with equal probabilities for all K classes therefore scores k/K, which is chance. The
    score is NaN for a clip whose label is no class of the network, and for a network with k classes or fewer, which
    cannot be wrong.

    Attributes:
        top: The numbers k.
    """

    version: ClassVar[int] = 1
    unjudged: ClassVar[str] = "the network has no class of its label's name, or has no more than k classes"

    top: list[int] = field(default_factory=lambda: [1, 5])

    def __post_init__(self) -> None:
        if not self.top or any(k < 1 for k in self.top) or len(set(self.top)) != len(self.top):
            raise ConfigError(
                f"metric.top={[*self.top]}", expected="one or more different numbers, 1 or more, as [1,5]"
            )

    def score_network(self, model: VideoModel, query: Query, truth: Sequence[Truth]) -> Scores:
        """Judges the network's output for N clips.

        Returns:
            `top<k>` for each k, (1, N), and as reference `chance`, k/K; as a note the most probable class.
        """
        shares = model.probabilities(query.frames).double()
        hits = {f"top{k}": self._hit(shares, query.target, k) for k in self.top}
        K = shares.shape[1]
        chance = {
            f"top{k}": torch.full_like(hits[f"top{k}"], k / K).where(~hits[f"top{k}"].isnan(), torch.nan)
            for k in self.top
        }
        first = [model.classes[place] for place in shares.argmax(1).tolist()]
        return Scores(
            {name: hit[None] for name, hit in hits.items()}, reference={"chance": chance}, notes={"predicted": first}
        )

    @staticmethod
    def _hit(shares: Tensor, target: Tensor, k: int) -> Tensor:
        known = (target >= 0) & (shares.shape[1] > k)
        own = shares.gather(1, target.clamp(min=0)[:, None])
        before, equal = (shares > own).sum(1), (shares == own).sum(1)
        return ((k - before) / equal).clamp(0, 1).where(known, torch.nan)

    def summary(self) -> tuple[Column, ...]:
        """Returns the share of hits over clips, and over classes, for each k."""
        return tuple(
            Column(f"top-{k}{title}", score=f"top{k}", by=by, interval="wilson", bounds=(0, 1))
            for k in self.top
            for title, by in (("", None), (", class mean", "label"))
        )

    def extra_files(self, rows: Mapping[str, pd.DataFrame]) -> Mapping[str, bytes]:
        """Returns the accuracy of each class and the confusion matrix, as CSV files, and a picture of the matrix.

        Args:
            rows: Name of a network to its scores, one row a clip, with `label`, `video` and `predicted`.
        """
        found = {title: frame.fillna({"label": "", "predicted": ""}) for title, frame in rows.items()}
        return {
            ".per_class.csv": self._per_class(found).encode(),
            ".confusion.csv": _confusion_csv(found).encode(),
            ".confusion.png": _picture(found),
        }

    def _per_class(self, rows: Mapping[str, pd.DataFrame]) -> str:
        """Returns a row per network and class.

        The interval is Wilson's with as many trials as videos, since clips of one video are not independent.
        """
        scores = [f"top{k}" for k in self.top]
        table = [
            ["network", "label", "clips", "videos", *(f"{s}{end}" for s in scores for end in ("", "_low", "_high"))]
        ]
        for title, frame in rows.items():
            for label, part in frame.groupby("label"):
                videos = part["video"].nunique()
                values = []
                for score in scores:
                    share = float(part[score].mean()) if score in part else math.nan
                    values += [share, *score_interval(share, videos, _Z)]
                shown = ["" if math.isnan(value) else f"{value:.4f}" for value in values]
                table.append([title, str(label), str(len(part)), str(videos), *shown])
        return _csv(table)


def _counts(frame: pd.DataFrame) -> tuple[list[str], NDArray[np.int64]]:
    """Returns the classes that occur, and how often each label (row) got each prediction (column)."""
    names = sorted({*frame["label"], *frame["predicted"]})
    place = {name: number for number, name in enumerate(names)}
    counts = np.zeros((len(names), len(names)), np.int64)
    for label, predicted in zip(frame["label"], frame["predicted"], strict=True):
        counts[place[label], place[predicted]] += 1
    return names, counts


def _confusion_csv(rows: Mapping[str, pd.DataFrame]) -> str:
    table = [["network", "label", "predicted", "clips"]]
    for title, frame in rows.items():
        names, counts = _counts(frame)
        table += [
            [title, names[row], names[column], str(counts[row, column])] for row, column in np.argwhere(counts).tolist()
        ]
    return _csv(table)


def _csv(table: Sequence[Sequence[str]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(table)
    return text.getvalue()


def _picture(rows: Mapping[str, pd.DataFrame]) -> bytes:
    """Returns a PNG with one matrix per network: rows are labels, columns predictions, rows sum to 1."""
    # matplotlib is slow to import; pyplot is not used, because its figures are global.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    matrices = {title: _counts(frame) for title, frame in rows.items()}
    most = max(len(names) for names, _ in matrices.values())
    side = min(3.0 + 0.22 * most, 16.0)
    figure = Figure(figsize=((side + 1.5) * len(matrices), side + 0.5), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    for axis, (title, (names, counts)) in zip(
        figure.subplots(1, len(matrices), squeeze=False)[0], matrices.items(), strict=True
    ):
        clips = counts.sum(1, keepdims=True)
        axis.imshow(counts / np.maximum(clips, 1), vmin=0, vmax=1, cmap="Blues")
        axis.set(title=f"{title} ({int(clips.sum())} clips)", xlabel="ranked first", ylabel="label")
        ticks = range(len(names)) if len(names) <= _NAMED else []
        axis.set_xticks(ticks, [names[k] for k in ticks], rotation=90, fontsize=7)
        axis.set_yticks(ticks, [names[k] for k in ticks], fontsize=7)
        if len(names) <= _NAMED:
            for row, column in np.argwhere(counts).tolist():
                colour = "white" if counts[row, column] > clips[row, 0] / 2 else "black"
                axis.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=6, color=colour)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()
