"""Average precision of many voxels against the truth, where equal values are in random order."""

from __future__ import annotations

import torch
from torch import Tensor


def voxel_precision(values: Tensor, right: Tensor) -> Tensor:
    """Returns the expected area under the precision-recall curve of V voxels, with equal values in random order.

    The sum is that of `frame_ranking.average_precision`, in V log V operations instead of V². With the voxels in
    descending order, let a group of m equal ones begin after c others, r of the m and R of the c being right, and let
    a = (r − 1)/(m − 1), or 0 for m = 1. The group adds (r/m) · ((R + 1 − a(c + 1)) · (H(c + m) − H(c)) + a·m), where H
    is the harmonic number; the area is the sum over the groups, divided by the number of right voxels. Equal values for
    all voxels give what random values give on average.

    Args:
        values: (..., V).
        right: Expandable to (..., V) bool.

    Returns:
        (...) float64 in [0, 1]; NaN where no voxel is right.
    """
    right = right.expand_as(values)
    V = values.shape[-1]
    ordered, order = values.sort(-1, descending=True)
    hits = right.gather(-1, order).double()
    begins = torch.ones_like(ordered, dtype=torch.bool)
    begins[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    place = torch.arange(V, device=values.device).expand_as(order)
    c = place.where(begins, 0).cummax(-1).values  # of each voxel: where its group begins, and where it ends
    ends = begins.roll(-1, -1)  # the last place ends a group, because the first one begins one
    end = place.where(ends, V).flip(-1).cummin(-1).values.flip(-1) + 1
    found = torch.cat([torch.zeros_like(hits[..., :1]), hits.cumsum(-1)], -1)
    R = found.gather(-1, c)
    m, r = (end - c).double(), found.gather(-1, end) - R
    steps = 1 / torch.arange(1, V + 1, device=values.device, dtype=torch.float64)
    H = torch.cat([steps.new_zeros(1), steps.cumsum(0)])
    a = ((r - 1) / (m - 1).clamp(min=1)).where(m > 1, 0)
    group = r / m * ((R + 1 - a * (c + 1)) * (H[end] - H[c]) + a * m)
    return (group * begins).sum(-1) / hits.sum(-1)
