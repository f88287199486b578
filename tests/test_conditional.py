"""The mean of the shifted patches, and draws that have their covariance, against patches that are really cut out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import toys
from vidattr.methods.occlusion.conditional_fill import draw, mean_field
from vidattr.video.preprocessing import Preprocessing

WIDE = Preprocessing(mean=[0.5] * 3, std=[1e-3] * 3)  # values of −500 … 500: nothing is clipped


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def patches(plane: Tensor, top: int, left: int, height: int, width: int, extent: int) -> Tensor:
    """The shifted patches (n, height, width) of the paper, the original left out; all must lie within the image."""
    reach = range(-extent, extent + 1)
    cut = [
        plane[top + a : top + a + height, left + b : left + b + width] for a in reach for b in reach if (a, b) != (0, 0)
    ]
    return torch.stack(cut)


@pytest.mark.parametrize(("extent", "count"), [(1, 8), (4, 80)])
def test_mean_is_that_of_the_shifted_patches(extent: int, count: int) -> None:
    frames = toys.seeded(2, 3, 2, 17, 19)
    mean = mean_field(frames, extent)
    k = 2 * extent + 1
    for n, c, t in ((0, 0, 0), (1, 2, 1), (1, 0, 1)):
        found = patches(frames[n, c, t], 5, 6, 7, 8, extent)
        assert len(found) == count
        torch.testing.assert_close(mean[n, c, t, 5:12, 6:14], found.mean(0), rtol=1e-12, atol=1e-12)
        box = frames[n, c, t, 8 - extent : 9 + extent, 9 - extent : 10 + extent].mean()  # as a box filter
        torch.testing.assert_close(mean[n, c, t, 8, 9], (k * k * box - frames[n, c, t, 8, 9]) / (k * k - 1))


@pytest.mark.parametrize("size", [(5, 9), (2, 3), (1, 4), (1, 1)])
def test_mean_at_the_border_is_that_of_the_neighbours_within(size: tuple[int, int]) -> None:
    frames, extent = toys.seeded(1, 2, 3, *size), 2
    found = mean_field(frames, extent)
    H, W = size
    for y in range(H):
        for x in range(W):
            box = [
                (i, j) for i in range(H) for j in range(W) if max(abs(i - y), abs(j - x)) <= extent and (i, j) != (y, x)
            ]
            expected = torch.stack([frames[..., i, j] for i, j in box]).mean(0) if box else frames[..., y, x]
            torch.testing.assert_close(found[..., y, x], expected, rtol=1e-12, atol=1e-12)


def test_draws_have_the_covariance_of_the_patches() -> None:
    frames, extent, samples = toys.seeded(1, 1, 1, 5, 6), 1, 200_000
    found = draw(frames, extent, generators(3), samples, WIDE)[:, 0, 0, 0, 1:4, 2:4].flatten(1)
    cut = patches(frames[0, 0, 0], 1, 2, 3, 2, extent).flatten(1)
    covariance = cut.T.cov()
    assert covariance.shape == (6, 6)
    assert (found.mean(0) - cut.mean(0)).abs().max() < 5 * (covariance.diagonal().max() / samples) ** 0.5
    assert (found.T.cov() - covariance).abs().max() < 0.02 * covariance.diagonal().max()


def test_variance_at_the_border_is_that_of_the_neighbours_within() -> None:
    frames = toys.seeded(1, 1, 1, 3, 4)
    found = draw(frames, 1, generators(3), 50_000, WIDE)[:, 0, 0, 0, 0, 0]
    neighbours = torch.stack([frames[0, 0, 0, 0, 1], frames[0, 0, 0, 1, 0], frames[0, 0, 0, 1, 1]])
    assert abs(found.var() / neighbours.var() - 1) < 0.03
    assert abs(found.mean() - neighbours.mean()) < 0.02


def test_frames_and_channels_are_drawn_apart() -> None:
    plane = toys.seeded(6, 7)
    frames = plane.expand(1, 3, 2, 6, 7)
    found = draw(frames, 1, generators(3), 20_000, WIDE)[:, 0, :, :, 3, 3].flatten(1)
    assert (found.T.corrcoef() - torch.eye(6)).abs().max() < 0.03


def test_a_clip_is_drawn_from_its_own_seed() -> None:
    frames = toys.seeded(3, 3, 2, 6, 7)
    together = draw(frames, 2, generators(1, 2, 3), 4, WIDE)
    assert together.shape == (4, 3, 3, 2, 6, 7)
    assert torch.equal(draw(frames[[2, 0]], 2, generators(3, 1), 4, WIDE), together[:, [2, 0]])
    assert not torch.allclose(draw(frames[:1], 2, generators(9), 4, WIDE), together[:, :1])
    assert not torch.allclose(together[0], together[1])


def test_draws_are_clipped_to_pixels_and_flat_frames_stay_flat() -> None:
    view = Preprocessing(mean=[0.4, 0.45, 0.5], std=[0.2, 0.25, 0.3])
    found = draw(3 * toys.seeded(2, 3, 2, 6, 7), 2, generators(1, 2), 8, view)
    for c in range(3):
        black, white = -view.mean[c] / view.std[c], (1 - view.mean[c]) / view.std[c]
        torch.testing.assert_close(found[:, :, c].amin(), torch.tensor(black, dtype=torch.float64))
        torch.testing.assert_close(found[:, :, c].amax(), torch.tensor(white, dtype=torch.float64))
    flat = torch.full((1, 3, 1, 5, 1), 0.25, dtype=torch.float64)
    torch.testing.assert_close(draw(flat, 4, generators(1), 2, view)[0], flat, rtol=0, atol=1e-12)
    lone = toys.seeded(1, 3, 2, 1, 1) / 10
    assert torch.equal(draw(lone, 4, generators(1), 1, view)[0], lone)
