"""Sums over unions of rectangles against masks that are really built."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import toys
from vidattr.methods.occlusion import integral_image
from vidattr.methods.occlusion.integral_image import spread, union_sums

N, A, T, H, W = 2, 11, 3, 9, 13


def rectangles(side: int = 6, seed: int = 0) -> Tensor:
    """Rectangles that overlap, that the border cuts, that are one pixel small, and dead ones."""
    generator = torch.Generator().manual_seed(seed)
    top = torch.randint(1 - side, H, (N, A, T), generator=generator)
    left = torch.randint(1 - side, W, (N, A, T), generator=generator)
    found = torch.stack(
        [top.clamp(min=0), (top + side).clamp(max=H), left.clamp(min=0), (left + side).clamp(max=W)], -1
    )
    found[0, 2, 1:] = 0  # leaves after the first frame
    found[1, 5] = 0  # was never there
    return found.to(torch.int16)


def groups(m: int, seed: int = 1) -> Tensor:
    """Each anchor and m − 1 others; some groups are smaller, one is the anchor alone, and one is empty."""
    others = torch.rand(N, A, A, generator=torch.Generator().manual_seed(seed)).masked_fill(
        torch.eye(A, dtype=torch.bool), -1.0
    )
    found = torch.cat([torch.arange(A).expand(N, A)[..., None], others.argsort(-1, descending=True)[..., : m - 1]], 2)
    found[:, 3, 1 + m // 2 :] = -1
    found[1, 4, 1:] = -1
    found[0, 7] = -1
    return found


def literal_mask(boxes: Tensor, united: Tensor) -> Tensor:
    mask = torch.zeros(N, A, T, H, W, dtype=torch.float64)
    for n in range(N):
        for i in range(A):
            for j in (j for j in united[n, i].tolist() if j >= 0):
                for t in range(T):
                    top, bottom, left, right = boxes[n, j, t].tolist()
                    mask[n, i, t, top:bottom, left:right] = 1
    return mask


@pytest.mark.parametrize("m", [*range(1, 8), 9])  # more than 7 take the dense way
@pytest.mark.parametrize("chunk", [1, 1 << 21])
def test_sums_and_map_are_those_of_the_dense_masks(m: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integral_image, "_BOXES", chunk)
    boxes, united, field, weights = rectangles(), groups(m), toys.seeded(N, T, H, W), toys.seeded(N, A, seed=3)
    mask = literal_mask(boxes, united)
    sums, areas = union_sums(torch.stack([field, torch.ones_like(field)]), boxes, united)
    close(sums, (mask * field[:, None]).sum((2, 3, 4)))
    assert torch.equal(areas, mask.sum((2, 3, 4)))
    total, coverage = spread(torch.stack([weights, torch.ones_like(weights)]), boxes, united, (H, W))
    close(total, (mask * weights[:, :, None, None, None]).sum(1))
    close(coverage, mask.sum(1))


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_map_is_the_transpose_of_the_sums() -> None:
    boxes, united, field, weights = rectangles(), groups(4), toys.seeded(1, N, T, H, W), toys.seeded(1, N, A, seed=3)
    one = (weights * union_sums(field, boxes, united)).sum()
    close(one, (spread(weights, boxes, united, (H, W)) * field).sum())


def test_nothing_is_summed_in_single_precision() -> None:
    field = 1000 + toys.seeded(1, N, T, H, W).float()
    found = union_sums(field, rectangles(), groups(4))
    assert found.dtype == torch.float64
    close(found, union_sums(field.double(), rectangles(), groups(4)))


def test_one_frame_no_partners_no_anchors() -> None:
    boxes, field = rectangles()[:, :, :1], toys.seeded(1, N, 1, H, W)
    padded, alone = groups(4), groups(1)
    padded[..., 1:] = -1
    close(union_sums(field, boxes, padded), union_sums(field, boxes, alone))
    assert union_sums(field, boxes[:, :0], alone[:, :0]).shape == (1, N, 0)
    assert not spread(field.new_zeros(1, N, 0), boxes[:, :0], alone[:, :0], (H, W)).any()


def test_look_ups_do_not_grow_with_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    corners = integral_image._corners
    monkeypatch.setattr(
        integral_image, "_corners", lambda boxes, size: counted.append(boxes[..., 0].numel()) or corners(boxes, size)
    )
    union_sums(torch.zeros(1, N, T, H, W), rectangles(), groups(4))
    union_sums(torch.zeros(1, N, T, 50 * H, 50 * W), rectangles(), groups(4))
    assert counted == [15 * N * A * T] * 2


@pytest.mark.parametrize("m", [2, 7, 8])
def test_unions_of_up_to_seven_tubes_take_intersections_and_larger_ones_take_masks(
    m: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []
    boxes, dense = integral_image._boxes, integral_image._dense

    def counted_boxes(rectangles: Tensor, groups: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for signs, part in boxes(rectangles, groups):
            taken.append(len(signs))
            yield signs, part

    def counted_dense(rectangles: Tensor, groups: Tensor, size: tuple[int, int]) -> Iterator[Tensor]:
        taken.append(0)
        return dense(rectangles, groups, size)

    monkeypatch.setattr(integral_image, "_boxes", counted_boxes)
    monkeypatch.setattr(integral_image, "_dense", counted_dense)
    union_sums(toys.seeded(1, N, T, H, W), rectangles(), groups(m))
    spread(toys.seeded(1, N, A), rectangles(), groups(m), (H, W))
    assert taken == [{2: 3, 7: 127, 8: 0}[m]] * 2  # 2^m − 1 intersections
