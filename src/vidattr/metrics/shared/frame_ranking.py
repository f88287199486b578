"""Average precision of the frames of a segment, ranked by their scores; equal scores are in random order."""

from __future__ import annotations

import torch
from torch import Tensor


def average_precision(scores: Tensor, right: Tensor) -> Tensor:
    """Returns the expected area under the precision-recall curve over T frames, with equal scores in random order.

    With the frames in descending order, it is the mean over the k right ones of the precision at their place. Frames
    that are equal are averaged over their orders (McSherry and Najork, ECIR 2008): of a group of m equal frames, r of
    them right, with c frames before it, R of them right, the place c + j adds (r/m) · (R + 1 + (j − 1)(r − 1)/(m −
    1))/(c + j). So equal scores for all frames give what random ones give on average.

    Args:
        scores: (..., T).
        right: Expandable to (..., T) bool.

    Returns:
        (...) float64 in [0, 1]; NaN where no frame is right.
    """
    right = right.expand_as(scores)
    scores = scores.double()
    order = scores.argsort(-1, descending=True)
    s = scores.gather(-1, order)
    hit = right.gather(-1, order).double()
    higher, equal = s.unsqueeze(-2) > s.unsqueeze(-1), s.unsqueeze(-2) == s.unsqueeze(-1)  # (..., frame, other frame)
    c, m = higher.double().sum(-1), equal.double().sum(-1)
    R, r = (higher * hit.unsqueeze(-2)).sum(-1), (equal * hit.unsqueeze(-2)).sum(-1)
    place = torch.arange(1, s.shape[-1] + 1, device=s.device, dtype=torch.float64)
    among = (place - c - 1) * (r - 1) / (m - 1).clamp(min=1)
    return (r / m * (R + 1 + among) / place).sum(-1) / hit.sum(-1)


def mass_share(mass: Tensor, right: Tensor) -> Tensor:
    """Returns the share of the mass of T frames that lies in the right ones.

    Without any mass, it is the share of right frames.

    Args:
        mass: (..., T), each 0 or more.
        right: Broadcastable to (..., T) bool.

    Returns:
        (...) float64 in [0, 1].
    """
    total = mass.sum(-1)
    share = (mass * right).sum(-1) / total.clamp(min=torch.finfo(mass.dtype).tiny)
    return share.where(total > 0, right.double().mean(-1))
