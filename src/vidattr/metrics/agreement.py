"""Agreement of methods: how alike the maps of each pair of methods are on the same clips.

Rank correlation, SSIM and the overlap of the largest values, the measures with which Adebayo et al., "Sanity Checks for
Saliency Maps", NeurIPS 2018, and Krishna et al., "The Disagreement Problem in Explainable Machine Learning", TMLR 2024,
compare two explanations.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
import torch
from torch import Tensor

from vidattr.errors import ConfigError
from vidattr.metrics.shared.similarity import flat, ranks, ssim
from vidattr.models.speed.lagging import onto
from vidattr.protocols import MapBatch
from vidattr.types import Column, Scores

_WITH = "_with_"  # <measure>_with_<place of the other map among the rows of the table>


@dataclass(frozen=True)
class Agreement:
    """Compares the maps of each pair of rows of the table on each clip.

    * `spearman`: the rank correlation over all voxels.
    * `ssim`: the structural similarity (`similarity.ssim`), of maps scaled to 0…1.
    * `top_iou`: |A ∩ B| / |A ∪ B| of the share `top` of the largest values of both maps. Where values tie at the last
      place, |A ∩ B| is its expectation under a random order of equal values.

    The columns of the table are the means over the other methods that run the network: baselines are compared, but are
    not among the others. The files `.agreement.csv` and `.agreement.png` have every pair, as means over clips.

    Agreement is no quality. Methods that agree can be wrong together, and two that disagree can show two sides of what
    the network computes.

    Attributes:
        top: The share of the voxels that `top_iou` compares.
    """

    version: ClassVar[int] = 1
    needs_network: ClassVar[bool] = False
    compares_maps: ClassVar[bool] = True
    unjudged: ClassVar[str] = "its map, or that of every other method, has no contrast or is not finite"

    top: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.top < 1:
            raise ConfigError(f"metric.top={self.top}", expected="a share of the voxels between 0 and 1, both excluded")

    def score_maps(self, batch: MapBatch) -> Scores:
        """Compares M maps of each of N clips.

        Returns:
            `spearman`, `ssim` and `top_iou`, the mean over the other methods, and `<measure>_with_<k>`, the agreement
            with map k.
        """
        maps = batch.maps
        M = len(maps)
        known = ~torch.stack([flat(one) for one in maps])
        pairs = known[:, None] & known[None]
        explains = batch.explains if batch.explains is not None else (True,) * M
        itself = torch.eye(M, dtype=torch.bool, device=maps.device)
        others = onto(maps.device, torch.tensor(explains)).expand(M, M) & ~itself
        columns = {}
        for name, measure in self._measures().items():
            agreement = measure(maps.nan_to_num()).where(pairs, torch.nan)  # (M, M, N)
            counted = others[..., None] & pairs
            columns[name] = agreement.where(counted, 0.0).sum(1) / counted.sum(1)
            columns |= {f"{name}{_WITH}{k}": agreement[:, k] for k in range(M)}
        return Scores(columns)

    def _measures(self) -> Mapping[str, Callable[[Tensor], Tensor]]:
        return {"spearman": _spearman, "ssim": _ssim, "top_iou": lambda maps: _top_iou(maps, self.top)}

    def summary(self) -> tuple[Column, ...]:
        """Returns the mean agreement with the other methods, by each measure."""
        return (
            Column("Spearman, mean with the others", score="spearman", bounds=(-1, 1)),
            Column("SSIM, mean with the others", score="ssim", bounds=(-1, 1)),
            Column(f"IoU of the top {self.top:.0%}, mean with the others", score="top_iou", bounds=(0, 1)),
        )

    def extra_files(self, rows: Mapping[str, pd.DataFrame]) -> Mapping[str, bytes]:
        """Returns the mean agreement of each pair, as a CSV file and as a picture of one matrix per measure.

        Args:
            rows: Title of each row of the table, in its order, to its scores.
        """
        titles, matrices = list(rows), {name: _matrix(list(rows.values()), name) for name in self._measures()}
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["measure", "method", "other", "agreement", "clips"])
        for name, matrix in matrices.items():
            for a, row in zip(titles, matrix, strict=True):
                writer.writerows(
                    [name, a, b, f"{mean:.4f}" if clips else "", clips]
                    for b, (mean, clips) in zip(titles, row, strict=True)
                )
        return {".agreement.csv": text.getvalue().encode(), ".agreement.png": _picture(titles, matrices)}


def _matrix(frames: Sequence[pd.DataFrame], measure: str) -> list[list[tuple[float, int]]]:
    """Returns the mean agreement of each pair of rows, and the number of clips behind it."""
    found = []
    for frame in frames:
        values = [frame.get(f"{measure}{_WITH}{k}", pd.Series(dtype=float)).dropna() for k in range(len(frames))]
        found.append([(float(each.mean()) if len(each) else 0.0, len(each)) for each in values])
    return found


def _spearman(maps: Tensor) -> Tensor:
    """Returns the rank correlation (M, M, N) of each pair of maps (M, N, T, H, W); NaN of a constant one."""
    ranked = torch.stack([ranks(one.flatten(1)) for one in maps])  # (M, N, V)
    ranked -= ranked.mean(2, keepdim=True)
    ranked /= ranked.norm(dim=2, keepdim=True)
    return torch.stack([(one * ranked).sum(2) for one in ranked])


def _ssim(maps: Tensor) -> Tensor:
    """Returns the structural similarity (M, M, N) of each pair of maps (M, N, T, H, W)."""
    M, N = maps.shape[:2]
    found = maps.new_ones(M, M, N, dtype=torch.float64)
    for i in range(M - 1):
        later = maps[i + 1 :].double()
        pair = ssim(maps[i].double().expand_as(later).flatten(0, 1), later.flatten(0, 1)).view(-1, N)
        found[i, i + 1 :] = found[i + 1 :, i] = pair
    return found


def _top_iou(maps: Tensor, share: float) -> Tensor:
    """Returns the overlap (M, M, N) of the largest values of each pair of maps (M, N, T, H, W)."""
    rows = maps.flatten(2)
    k = max(1, round(share * rows.shape[2]))
    least = rows.topk(k, dim=2).values[..., -1:]
    above, tied = rows > least, rows == least
    room = (k - above.sum(2, keepdim=True)).double() / tied.sum(2, keepdim=True)
    weight = above.double() + tied.double() * room
    both = torch.stack([(one * weight).sum(2) for one in weight])
    iou = both / (2 * k - both)
    itself = torch.eye(len(maps), dtype=torch.bool, device=maps.device)[..., None]
    return iou.masked_fill(itself, 1.0)  # a map has the same order as itself: its ties are not drawn twice


def _picture(titles: Sequence[str], matrices: Mapping[str, list[list[tuple[float, int]]]]) -> bytes:
    """Returns a PNG with one matrix per measure, with the mean of each pair."""
    # matplotlib is slow to import; pyplot is not used, because its figures are global.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    side = 2.5 + 0.42 * len(titles)
    figure = Figure(figsize=(side * len(matrices), side), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    for axis, (name, matrix) in zip(figure.subplots(1, len(matrices), squeeze=False)[0], matrices.items(), strict=True):
        axis.imshow([[mean for mean, _ in row] for row in matrix], vmin=-1, vmax=1, cmap="RdBu_r")
        axis.set_title(name)
        axis.set_xticks(range(len(titles)), titles, rotation=90, fontsize=7)
        axis.set_yticks(range(len(titles)), titles, fontsize=7)
        for row, values in enumerate(matrix):
            for column, (mean, clips) in enumerate(values):
                shown = f"{round(mean, 2) + 0:.2f}" if clips else "–"  # + 0: no minus sign before 0.00
                colour = "white" if abs(mean) > 0.7 else "black"
                axis.text(column, row, shown, ha="center", va="center", fontsize=6, color=colour)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", bbox_inches="tight")
    return picture.getvalue()
