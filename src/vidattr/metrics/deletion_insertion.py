"""Deletion and insertion: class probability as the top-ranked voxels are removed or inserted.

Petsiuk, V. et al., "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC 2018, section 4.3;
28 steps and the over-all score as Uchiyama et al., WACV 2023, section 4.2, after Zhang et al., "Group-CAM", 2021.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import ClassVar

import torch
from torch import Tensor

from vidattr.errors import ConfigError
from vidattr.metrics.shared.noise_draws import check_draws
from vidattr.models.speed.graphs import padded
from vidattr.models.speed.lagging import onto
from vidattr.protocols import MapBatch, Method
from vidattr.types import Column, Scores
from vidattr.video.blur import rise_blur
from vidattr.video.preprocessing import Preprocessing


class Order(StrEnum):
    """`volume`: one ranking of all T·H·W voxels; `per_frame`: one per frame: each frame loses the same share."""

    volume = auto()
    per_frame = auto()


class Fill(StrEnum):
    """The replacement of a voxel: 0 after normalisation (the mean colour), the blurred clip, or black."""

    zero = auto()
    blur = auto()
    black = auto()


_MOST = 10_000  # steps; each is a pass through the network, and a column of the stored curve


@dataclass(frozen=True)
class DeletionInsertion:
    """Scores both curves of the target's probability and their areas.

    1. Rank the voxels by decreasing saliency, all channels of a voxel together. Equal voxels are ordered by the clip's
       own random permutation: raster order would prefer the start of the array, and piece-wise constant maps have equal
       values nearly everywhere.
    2. Deletion: the first ⌊k·V/steps⌋ voxels of x are replaced by `deletion_fill`, k = 0 … steps.
       Insertion: the same voxels of `insertion_base` are replaced by those of x.
    3. AUC = (Σ_k f_k − (f_0 + f_steps)/2) / steps, where f is the probability of the target (`Output`).
    4. Over-all = AUC_insertion − AUC_deletion.

    Only distinct clips pass the network: 2·(steps − 1) per map, and x and its two fills once per clip.

    Attributes:
        steps: Number of steps.
        order: Whether all voxels are ranked together, or those of each frame.
        deletion_fill: The replacement of deleted voxels.
        insertion_base: The clip into which voxels are inserted. `blur`: the 11×11 kernel of RISE (`video.blur`).
        noise_draws: Draws of noise as smooth as each map that are judged beside it (`matched_noise.noise`); 0: none.
            Each costs as many passes as the map itself.
    """

    version: ClassVar[int] = 1
    needs_network: ClassVar[bool] = True
    unjudged: ClassVar[str] = "the map is not finite, or the network's probability of the class is no number"

    steps: int = 28
    order: Order = Order.volume
    deletion_fill: Fill = Fill.zero
    insertion_base: Fill = Fill.blur
    noise_draws: int = 1

    def __post_init__(self) -> None:
        check_draws(self.noise_draws)
        if not 1 <= self.steps <= _MOST:
            raise ConfigError(f"metric.steps={self.steps}", expected=f"1 to {_MOST}")

    def passes_of(self, _method: Method) -> int:
        """Two curves of the map and of each draw of noise, and the three ends of the curves, all forward."""
        return 2 * (self.steps - 1) * (1 + self.noise_draws) + 3

    def score_maps(self, batch: MapBatch) -> Scores:
        """Judges M maps of each of N clips; maps that are not finite are NaN.

        Returns:
            `deletion`, `insertion`, `over_all`, and the ends of the curves, `f_clip` (of x), `f_deleted` and `f_base`
            (of the two fills); the curves (M, N, steps + 1); as references the scores of constant curves: `whole_clip`,
            f(x), and `filled_clip`, f of the fill.
        """
        model, query, maps = batch.network, batch.query, batch.maps
        x = query.frames
        M, N = maps.shape[:2]
        fills = list(dict.fromkeys((self.deletion_fill, self.insertion_base)))
        clips = torch.stack([x, *(filled(fill, x, model.view) for fill in fills)])  # (1 + fills, N, C, T, H, W)
        deleted, base = 1 + fills.index(self.deletion_fill), 1 + fills.index(self.insertion_base)

        groups = 1 if self.order is Order.volume else maps.shape[2]
        ranks = rank(maps, query.seeds, groups)
        cuts = boundaries(maps[0, 0].numel() // groups, self.steps)[1:-1]
        # One row per distinct clip: (map, clip, number of selected voxels, their source, the source of the others).
        plan = [(0, n, 0, end, end) for end in range(len(clips)) for n in range(N)]
        plan += [
            (m, n, cut, *ends) for ends in ((deleted, 0), (0, base)) for m in range(M) for n in range(N) for cut in cuts
        ]

        def probability(clips: Tensor, ranks: Tensor, target: Tensor, rows: Tensor) -> Tensor:
            m, n, cut, inside, outside = rows.unbind(1)
            taken = (ranks[m, n] < cut.int().view(-1, 1, 1, 1)).unsqueeze(1)
            mixed = torch.where(taken, clips[inside, n], clips[outside, n])
            return model.probabilities(mixed).gather(1, target[n].unsqueeze(1)).squeeze(1).double()

        chunks = []
        for part in torch.split(onto(x.device, torch.tensor(plan)), model.max_batch):
            rows = padded(part, min(len(plan), model.max_batch)) if model.records else part
            found = model.replayed("deletion and insertion", probability, clips, ranks, query.target, rows)
            chunks.append(found[: len(part)].clone())
        f = torch.cat(chunks)

        ends = f[: len(clips) * N].view(-1, N)
        inner = f[len(clips) * N :].view(2, M, N, self.steps - 1)
        f_clip, f_deleted, f_base = (ends[i].expand(M, N) for i in (0, deleted, base))
        finite = maps.isfinite().flatten(2).all(2, keepdim=True)
        deletion = torch.cat([f_clip.unsqueeze(2), inner[0], f_deleted.unsqueeze(2)], 2).where(finite, torch.nan)
        insertion = torch.cat([f_base.unsqueeze(2), inner[1], f_clip.unsqueeze(2)], 2).where(finite, torch.nan)
        areas = {
            name: torch.trapezoid(curve, dx=1 / self.steps)
            for name, curve in (("deletion", deletion), ("insertion", insertion))
        }
        return Scores(
            areas
            | {"over_all": areas["insertion"] - areas["deletion"]}
            | {"f_clip": f_clip, "f_deleted": f_deleted, "f_base": f_base},
            curves={"deletion": deletion, "insertion": insertion},
            reference={
                "whole_clip": {"deletion": ends[0], "insertion": ends[0]},
                "filled_clip": {"deletion": ends[deleted], "insertion": ends[base]},
            },
        )

    def summary(self) -> tuple[Column, ...]:
        """Returns the two areas and the over-all score."""
        return (
            Column(f"Deletion ({self.deletion_fill})", score="deletion", better="lower", bounds=(0, 1)),
            Column(f"Insertion ({self.insertion_base})", score="insertion", bounds=(0, 1)),
            Column("Over-all", score="over_all", bounds=(-1, 1)),
        )


def boundaries(voxels: int, steps: int) -> list[int]:
    """Returns the number of selected voxels ⌊k·voxels/steps⌋ at step k = 0 … steps."""
    return [k * voxels // steps for k in range(steps + 1)]


def rank(maps: Tensor, seeds: Sequence[int], groups: int) -> Tensor:
    """Returns the rank (M, N, T, H, W) int32 of each voxel in its clip or frame, 0 for the highest saliency.

    Args:
        maps: (M, N, T, H, W).
        seeds: N, one per clip; decides the order of equal voxels, for all M maps alike.
        groups: 1: one ranking per clip; T: one per frame.
    """
    N = maps.shape[1]
    flat = maps.reshape(len(maps), N, groups, -1)
    # Drawn on the CPU, so that the order is the same on every device; in double precision, so that no keys are equal.
    keys = [
        torch.rand(flat.shape[2:], generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in seeds
    ]
    shuffle = onto(maps.device, torch.stack(keys)).argsort(-1)
    places = torch.arange(flat.shape[-1], dtype=torch.int32, device=maps.device).expand_as(flat[0])
    ranks = torch.empty_like(flat, dtype=torch.int32)
    for voxels, out in zip(flat, ranks, strict=True):  # one map at a time bounds the sort's memory
        order = voxels.gather(-1, shuffle).argsort(dim=-1, descending=True, stable=True)
        out.scatter_(-1, shuffle.gather(-1, order), places)
    return ranks.view_as(maps)


def filled(fill: Fill, frames: Tensor, view: Preprocessing) -> Tensor:
    """Returns the clips (N, C, T, H, W) of which every voxel is replaced by `fill`."""
    return _FILLS[fill](frames, view)


_FILLS: Mapping[Fill, Callable[[Tensor, Preprocessing], Tensor]] = {
    Fill.zero: lambda frames, view: torch.zeros_like(frames),
    Fill.blur: lambda frames, view: rise_blur(frames),
    Fill.black: lambda frames, view: view.colour(frames, 0.0).expand_as(frames),
}
