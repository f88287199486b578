"""Ways to give a layer's output the axes (N, c, t, h, w), where a network folds time into the batch or into tokens.

`VideoModel` calls them with a layer's output and N. A tensor of another form than theirs comes back as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import prod

from torch import Tensor

Unfold = Callable[[Tensor, int], Tensor]
Grid = tuple[int, int, int]


def frames_in_batch(features: Tensor, clips: int) -> Tensor:
    """Turns (N·T, c, h, w), the frames of a clip side by side, into (N, c, T, h, w)."""
    return features.reshape(clips, -1, *features.shape[1:]).transpose(1, 2) if features.ndim == 4 else features


def tokens(grids: Iterable[Grid], cls: bool) -> Unfold:
    """Returns what turns (N, t·h·w, c) into (N, c, t, h, w).

    Args:
        grids: The (t, h, w) that layers have; which one a tensor has is decided by the number of its tokens.
        cls: Whether a class token stands before the others.
    """
    by_length = {int(cls) + prod(grid): grid for grid in grids}

    def unfold(features: Tensor, clips: int) -> Tensor:
        grid = by_length.get(features.shape[1]) if features.ndim == 3 and len(features) == clips else None
        if grid is None:
            return features
        return features[:, int(cls) :].transpose(1, 2).reshape(clips, -1, *grid)

    return unfold


def channels_last(grids: Iterable[Grid]) -> Unfold:
    """Returns what turns (N, t, h, w, c), with (t, h, w) one of `grids`, into (N, c, t, h, w)."""
    known = set(grids)

    def unfold(features: Tensor, clips: int) -> Tensor:
        return features.movedim(4, 1) if features.ndim == 5 and features.shape[1:4] in known else features

    return unfold


def divided_tokens(grid: Grid) -> Unfold:
    """Returns what turns the tokens of a TimeSformer into (N, c, t, h, w), without the class token.

    With P = h·w, they are (N·t, 1 + P, c) around a spatial attention, (N·P, t, c) around a temporal one, and
    (N, 1 + P·t, c), time fastest, between blocks.
    """
    t, h, w = grid

    def unfold(features: Tensor, clips: int) -> Tensor:
        shape, width = features.shape[:-1], features.shape[-1]
        if shape == (clips * t, 1 + h * w):
            return features[:, 1:].reshape(clips, t, h, w, width).permute(0, 4, 1, 2, 3)
        if shape == (clips * h * w, t):
            return features.reshape(clips, h, w, t, width).permute(0, 4, 3, 1, 2)
        if shape == (clips, 1 + h * w * t):
            return features[:, 1:].reshape(clips, h, w, t, width).permute(0, 4, 3, 1, 2)
        return features

    return unfold
