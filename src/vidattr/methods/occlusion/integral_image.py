"""Exact sums over unions of tubes, and maps of summed tubes, by integral images in float64, without masks.

Ω_i is the union of the tubes of group i (`Tubes.groups`), frame by frame. By inclusion and exclusion the indicator of a
union of m rectangles is Σ_B ± 1[B] over the 2^m − 1 intersections B of some of them, which are rectangles again; a
rectangle's sum takes four look-ups in an integral image (Crow, "Summed-area tables for texture mapping", SIGGRAPH
1984), and adding a rectangle to a field takes four entries in its second difference. Groups of more than seven tubes
have too many intersections; they are summed by masks, in chunks.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from vidattr.methods.occlusion.tubes import union_mask

_MOST_MEMBERS = 7  # tubes in a group that is summed by inclusion and exclusion: 127 boxes
_BOXES = 1 << 21  # boxes (or voxels of a dense mask) in memory at a time


def union_sums(fields: Tensor, rectangles: Tensor, groups: Tensor) -> Tensor:
    """Returns Σ_{q ∈ Ω_i} field(q) for every field, clip and group, (F, N, A) float64.

    Args:
        fields: (F, N, T, H, W); the boxes of the groups are computed once for all F fields.
        rectangles: (N, A, T, 4) as in `Tubes`, on the fields' device.
        groups: (N, A, m) as in `Tubes`: the tubes of each union, −1 for none.
    """
    F, N, T, H, W = fields.shape
    fields = fields.double()
    if groups.shape[2] > _MOST_MEMBERS:
        dense = _dense(rectangles, groups, (H, W))
        return torch.cat([torch.einsum("nathw,fnthw->fna", mask.double(), fields) for mask in dense], 2)
    tables = fields.new_zeros(F, N, T, H + 1, W + 1)
    tables[..., 1:, 1:] = fields.cumsum(3).cumsum(4)
    sums = []
    for signs, boxes in _boxes(rectangles, groups):
        corners = _corners(boxes, (H, W))
        top_left, top_right, bottom_left, bottom_right = (
            tables.flatten(1).index_select(1, corner) for corner in corners
        )
        per_box = ((bottom_right - bottom_left) - (top_right - top_left)).view(F, *boxes.shape[:-1])
        sums.append(torch.einsum("b,fbnat->fna", signs, per_box))
    return torch.cat(sums, 2)


def spread(weights: Tensor, rectangles: Tensor, groups: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns the maps Σ_i weights_i · 1[q ∈ Ω_i], (F, N, T, H, W) float64: the transpose of `union_sums`.

    Args:
        weights: (F, N, A).
        rectangles: (N, A, T, 4).
        groups: (N, A, m).
        size: (H, W) of the maps.
    """
    N, _, T, _ = rectangles.shape
    F, (H, W) = len(weights), size
    weights, done = weights.double(), 0
    if groups.shape[2] > _MOST_MEMBERS:
        total = weights.new_zeros(F, N, T, H, W)
        for mask in _dense(rectangles, groups, size):
            total += torch.einsum("fna,nathw->fnthw", weights[..., done : done + mask.shape[1]], mask.double())
            done += mask.shape[1]
        return total
    # The second difference of the map, whose two cumulative sums are the map; its last row and column lie outside.
    edges = weights.new_zeros(F, N * T * (H + 1) * (W + 1))
    for signs, boxes in _boxes(rectangles, groups):
        part = weights[..., done : done + boxes.shape[2]]
        done += boxes.shape[2]
        signed = torch.einsum("b,fna->fbna", signs, part).unsqueeze(4).expand(F, *boxes.shape[:-1]).flatten(1)
        for corner, sign in zip(_corners(boxes, size), (1, -1, -1, 1), strict=True):
            edges.scatter_add_(1, corner.expand(F, -1), sign * signed)
    return edges.view(F, N, T, H + 1, W + 1).cumsum(3).cumsum(4)[..., :H, :W]


def members(rectangles: Tensor, groups: Tensor) -> Tensor:
    """Returns the rectangles (N, a, m, T, 4) of the members of each group, empty where there is no member."""
    clip = torch.arange(len(groups), device=groups.device).view(-1, 1, 1)
    return rectangles[clip, groups.clamp(min=0)] * (groups >= 0)[..., None, None]


def _boxes(rectangles: Tensor, groups: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields signs (B,) and the B = 2^m − 1 intersections (B, N, a, T, 4) of each group, in chunks of groups."""
    N, _, T, _ = rectangles.shape
    for part in torch.split(groups, _per_chunk(N * T << groups.shape[2]), 1):
        first, *others = members(rectangles, part).long().unbind(2)
        boxes, signs = first[None], torch.ones(1, dtype=torch.float64, device=groups.device)
        for member in others:
            boxes = torch.cat([boxes, member[None], _meet(boxes, member)])
            signs = torch.cat([signs, signs[:1], -signs])
        yield signs, boxes


def _meet(boxes: Tensor, other: Tensor) -> Tensor:
    """Returns the intersections of rectangles; an empty one ends where it begins."""
    top, left = (torch.maximum(boxes[..., i], other[..., i]) for i in (0, 2))
    bottom, right = (torch.minimum(boxes[..., i], other[..., i]) for i in (1, 3))
    return torch.stack([top, torch.maximum(top, bottom), left, torch.maximum(left, right)], -1)


def _corners(boxes: Tensor, size: tuple[int, int]) -> Iterator[Tensor]:
    """Yields the indices of each corner of boxes (B, N, a, T, 4) in a flat (N, T, H + 1, W + 1) table."""
    H, W = size
    _, N, _, T, _ = boxes.shape
    plane = torch.arange(N * T, device=boxes.device).view(N, 1, T) * ((H + 1) * (W + 1))
    top, bottom, left, right = boxes.unbind(-1)
    for row, column in ((top, left), (top, right), (bottom, left), (bottom, right)):
        yield (plane + row * (W + 1) + column).flatten()


def _dense(rectangles: Tensor, groups: Tensor, size: tuple[int, int]) -> Iterator[Tensor]:
    """Yields the masks (N, a, T, H, W) of the unions, in chunks of groups."""
    N, _, T, _ = rectangles.shape
    for part in torch.split(groups, _per_chunk(N * T * size[0] * size[1]), 1):
        yield union_mask(members(rectangles, part).flatten(0, 1), size).view(N, -1, T, *size)


def _per_chunk(each: int) -> int:
    """Returns the number of groups in a chunk if one group needs `each` boxes or voxels."""
    return max(1, _BOXES // each)
