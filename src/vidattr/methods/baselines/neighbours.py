"""A quantity between each frame and the next, such as motion, as one map per frame."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum, auto

import torch
from torch import Tensor


class Neighbour(StrEnum):
    """The frame that a frame is compared with: the one before it, the one after it, or both, averaged.

    The first frame has no frame before it and the last one none after it: each is compared with its only neighbour.
    """

    previous = auto()
    following = auto()
    both = auto()


_FRAMES: dict[Neighbour, Callable[[Tensor, Tensor], Tensor]] = {
    Neighbour.previous: lambda before, _: before,
    Neighbour.following: lambda _, after: after,
    Neighbour.both: lambda before, after: (before + after) / 2,
}


def per_frame(between: Tensor, neighbour: Neighbour) -> Tensor:
    """Returns one value per frame (N, T, H, W) of values (N, T-1, H, W), of which number t lies between t and t+1.

    A clip of one frame has no neighbours: its map is 0.
    """
    if between.shape[1] == 0:
        return between.new_zeros(between.shape[0], 1, *between.shape[2:])
    before = torch.cat([between[:, :1], between], 1)
    after = torch.cat([between, between[:, -1:]], 1)
    return _FRAMES[neighbour](before, after)
