"""How far the maps of several methods agree on one clip: rank correlation, and overlap of their largest values."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vidattr.metrics.shared.similarity import flat, pearson, ranks

TOP = 0.05
"""The share of the voxels that `overlap` compares."""


def compare(maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Compares each pair of M maps (T, H, W) of one clip.

    Args:
        maps: Raw, all of one shape.

    Returns:
        Spearman's rank correlation over all voxels (M, M), and the overlap of the top 5 % of the voxels (M, M); NaN
        where one of the two maps has no contrast.
    """
    stacked = torch.stack(list(maps))
    rows = stacked.flatten(1)
    known = ~flat(stacked)
    unknown = ~(known[:, None] & known[None])
    ranked = ranks(rows)
    rho = torch.stack([pearson(ranked, one.expand_as(ranked)) for one in ranked])
    return rho.masked_fill(unknown, torch.nan), overlap(rows, TOP).masked_fill(unknown, torch.nan)


def overlap(rows: Tensor, share: float) -> Tensor:
    """Returns how much of the k largest values of one row are among the k largest of another, (M, M) in 0…1.

    Where values tie at the k-th place, it is the expectation under a random order of equal values. Two rows that have
    nothing to do with each other overlap by `share`.

    Args:
        rows: (M, V).
        share: k / V; k is at least 1.
    """
    M, V = rows.shape
    k = max(1, round(share * V))
    threshold = rows.topk(k, dim=1).values[:, -1:]
    above, tied = rows > threshold, rows == threshold
    room = k - above.sum(1, keepdim=True)
    weight = above.double() + tied.double() * (room / tied.sum(1, keepdim=True))
    expected = weight @ weight.T / k
    # A row has the same order as itself: its ties are not drawn twice.
    return torch.where(torch.eye(M, dtype=torch.bool), 1.0, expected).to(torch.float64)
