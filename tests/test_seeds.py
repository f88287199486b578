"""The smooth maximum of seeds against the released construction, window by window, and the facts known of it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad, unfold

import toys
from vidattr.methods.perturbation.smooth_mask import Profile, SmoothMax, released_sigma, temporal_weights

SIZES = [((12, 9), 3, 3.0), ((14, 15), 7, 11.0), ((7, 5), 2, 2.5)]


def literal(seeds: Tensor, step: int, sigma: float, coldness: float) -> Tensor:
    """The whole window of every pixel averaged by a softmax, for seeds (T, h, w): m̂ on the plane (T, Ĥ, Ŵ)."""
    reach, margin = 1 + math.ceil(sigma / step), 1 + math.ceil(2 * sigma / step)
    taps = 2 * reach + 1
    cells = [n + 2 * margin - 2 * reach for n in seeds.shape[1:]]
    plane = [step * n - step + 1 for n in cells]
    windows = unfold(pad(seeds[:, None], (margin,) * 4), taps).view(len(seeds), -1, *cells)
    windows = interpolate(windows, scale_factor=step, mode="nearest")[..., : plane[0], : plane[1]]
    offsets = [[[u % step - sigma - step * (k - margin) for u in range(n)] for k in range(taps)] for n in plane]
    down, across = (torch.tensor(each, dtype=torch.float64) for each in offsets)
    distance = torch.hypot(down[:, None, :, None], across[None, :, None, :])
    weights = torch.exp(-2 * (distance / sigma - 0.5).clamp(min=0) ** 2)
    alpha = weights.flatten(0, 1).to(seeds) * windows
    return (alpha * (coldness * alpha).softmax(1)).sum(1).clamp(0, 1)


@pytest.mark.parametrize(("size", "step", "sigma"), SIZES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_mask_and_gradient_are_those_of_the_released_construction(
    size: tuple[int, int], step: int, sigma: float, dtype: torch.dtype, tolerance: float
) -> None:
    smooth_max = SmoothMax(size, step, sigma, 20.0, torch.zeros((), dtype=dtype))
    seeds = toys.seeded(1, 3, *smooth_max.grid).sigmoid().to(dtype).requires_grad_()
    found, expected = smooth_max(seeds), literal(seeds[0], step, sigma, 20.0)[None]
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    pull = toys.seeded(*found.shape, seed=3).to(dtype)
    gradients = [torch.autograd.grad(mask, seeds, pull)[0] for mask in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=50 * tolerance)  # sums of a thousand signed terms


@pytest.mark.parametrize(
    ("side", "sigma", "grid", "plane", "taps"),
    [(112, 11.0, 16, 134, 49), (224, 23.0, 32, 260, 121), (224, 21.0, 32, 260, 81)],
)
def test_sizes_are_the_released_ones(side: int, sigma: float, grid: int, plane: int, taps: int) -> None:
    smooth_max = SmoothMax((side, side), 7, sigma, 20.0, torch.zeros(()))
    assert (smooth_max.grid, smooth_max.plane, smooth_max.taps**2) == ((grid, grid), (plane, plane), taps)


def test_all_seeds_make_a_mask_from_0863_to_1_and_one_seed_a_blob_of_437_pixels() -> None:
    smooth_max = SmoothMax((112, 112), 7, 11.0, 20.0, torch.zeros(()))
    full = smooth_max.crop(smooth_max(torch.ones(1, 1, 16, 16)))
    assert full.shape == (1, 1, 112, 112)
    assert full.min().item() == pytest.approx(0.863, abs=5e-4)
    assert full.max().item() == pytest.approx(1.0, abs=5e-4)
    one = torch.zeros(1, 1, 16, 16)
    one[..., 8, 8] = 1
    assert (smooth_max(one) > 0.5).sum() == 437


@pytest.mark.parametrize("step", [1, 3, 7])
@pytest.mark.parametrize("sigma", [1.0, 2.5, 8.0, 10.0])
def test_plane_holds_the_frame_whatever_sigma_is(step: int, sigma: float) -> None:
    smooth_max = SmoothMax((14, 9), step, sigma, 20.0, torch.zeros(()))
    mask = smooth_max(torch.ones(2, 3, *smooth_max.grid))
    assert mask.shape == (2, 3, *smooth_max.plane)
    assert smooth_max.crop(mask).shape == (2, 3, 14, 9)
    assert 0 <= mask.min() <= mask.max() <= 1


def test_sigma_is_released_at_112_and_224_and_grows_with_the_shorter_side() -> None:
    assert [released_sigma(h, w) for h, w in [(112, 112), (224, 224), (112, 200), (168, 168), (6, 8)]] == [
        11,
        23,
        11,
        17,
        1,
    ]


@pytest.mark.parametrize("profile", Profile)
def test_seeds_are_averaged_over_the_frames_that_exist(profile: Profile) -> None:
    weights = temporal_weights(5, 2.0, profile, torch.zeros((), dtype=torch.float64))
    torch.testing.assert_close(weights.sum(1), torch.ones(5, dtype=torch.float64))
    z = torch.tensor([1.0, 0.5, 0.0, 0.5, 1.0], dtype=torch.float64)  # distances of frame 2 to all frames, in sigmas
    kernel = {"code": torch.exp(-2 * (z - 0.5).clamp(min=0) ** 2), "text": torch.ones(5, dtype=torch.float64)}[
        profile.value
    ]
    torch.testing.assert_close(weights[2], kernel / kernel.sum())
    assert weights[0, 0] > weights[2, 2]


def test_profiles_differ_beyond_one_sigma() -> None:
    code, text = (temporal_weights(3, 1.0, profile, torch.zeros((), dtype=torch.float64)) for profile in Profile)
    assert (code[0] / code[0, 0]).tolist() == pytest.approx([1, math.exp(-0.5), math.exp(-4.5)])
    assert (text[0] / text[0, 0]).tolist() == pytest.approx([1, 1, math.exp(-0.25)])
