"""The perturbation operator against the blur and the look-up that it stands for."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d

import toys
from vidattr.methods.perturbation.pyramid import PYRAMIDS, Border, Perturbation, blur, perturb


def literal_blur(image: Tensor, sigma: float) -> Tensor:
    """(H, W) with the outer product of the cut and normalised Gaussian, zeros beyond the border."""
    half = math.ceil(4 * sigma)
    line = torch.tensor([math.exp(-(i**2) / (2 * sigma**2)) for i in range(-half, half + 1)], dtype=torch.float64)
    line = line / line.sum()
    return conv2d(image[None, None], torch.outer(line, line)[None, None], padding=half)[0, 0]


def literal_lookup(pyramid: Tensor, mask: Tensor) -> Tensor:
    """(L, C, T, H, W) at the height of (T, H, W): levels k and k + 1 of each voxel, gathered."""
    top = len(pyramid) - 1
    height = mask * top
    below = height.floor().long()
    index = below.expand_as(pyramid[0])[None]
    share = height - below.detach()
    return (1 - share) * pyramid.gather(0, index)[0] + share * pyramid.gather(0, (index + 1).clamp(max=top))[0]


@pytest.mark.parametrize("sigma", [0.7, 2.0, 20.0])
def test_blur_is_a_gaussian_that_sees_zeros_beyond_the_border(sigma: float) -> None:
    image = toys.seeded(2, 9, 13)
    torch.testing.assert_close(
        blur(image, sigma), torch.stack([literal_blur(each, sigma) for each in image]), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize(("size", "sigma"), [((9, 13), 0.7), ((9, 13), 2.0), ((30, 41), 10.0), ((5, 3), 20.0)])
def test_blur_may_repeat_the_border_instead(size: tuple[int, int], sigma: float) -> None:
    image = toys.seeded(2, *size)
    half = math.ceil(4 * sigma)
    wide = torch.nn.functional.pad(image[None], (half,) * 4, mode="replicate")[0]
    expected = torch.stack([literal_blur(each, sigma) for each in wide])[:, half:-half, half:-half]
    torch.testing.assert_close(blur(image, sigma, Border.nearest), expected, rtol=0, atol=1e-12)
    flat = torch.ones(1, *size, dtype=torch.float64)
    torch.testing.assert_close(blur(flat, sigma, Border.nearest), flat)
    assert blur(flat, sigma, Border.zero)[0, 0, 0] < 0.7


def test_pyramid_has_eight_levels_from_20_pixels_of_blur_to_none() -> None:
    frames = toys.seeded(1, 2, 2, 6, 7)
    pyramid = PYRAMIDS[Perturbation.blur](frames)
    for level, sigma in enumerate(
        [20, 17.142857142857142, 14.285714285714286, 11.428571428571429, 8.571428571428571, 5.714285714285714]
    ):
        torch.testing.assert_close(pyramid[level, 0, 1, 1], literal_blur(frames[0, 1, 1], sigma), rtol=0, atol=1e-12)
    assert len(pyramid) == 8
    assert torch.equal(pyramid[7], frames)


@pytest.mark.parametrize("kind", Perturbation)
def test_lookup_and_its_derivative_are_those_of_the_gathered_levels(kind: Perturbation) -> None:
    pyramid = PYRAMIDS[kind](toys.seeded(2, 3, 4, 5, 6))
    clip = torch.tensor([1, 0, 1])
    mask = toys.seeded(3, 4, 5, 6, seed=4).sigmoid()
    mask[:, 0, 0, 0], mask[:, 0, 0, 1], mask[:, 0, 0, 2] = 0, 1, 3 / 7
    frames, by_mask = perturb(pyramid, clip, mask)
    for row in range(3):
        leaf = mask[row].clone().requires_grad_()
        expected = literal_lookup(pyramid[:, clip[row]], leaf)
        torch.testing.assert_close(frames[row], expected.detach(), rtol=0, atol=1e-12)
        pull = toys.seeded(3, 4, 5, 6, seed=5)
        torch.testing.assert_close(
            by_mask(pull.expand(3, -1, -1, -1, -1))[row],
            torch.autograd.grad(expected, leaf, pull)[0],
            rtol=0,
            atol=1e-11,
        )


def test_a_mask_of_ones_shows_the_frames_and_fade_is_a_product() -> None:
    frames, mask = toys.seeded(1, 3, 2, 5, 6), toys.seeded(1, 2, 5, 6).sigmoid()
    for kind in Perturbation:
        assert torch.equal(perturb(PYRAMIDS[kind](frames), torch.tensor([0]), torch.ones_like(mask))[0], frames)
    faded, _ = perturb(PYRAMIDS[Perturbation.fade](frames), torch.tensor([0]), mask)
    torch.testing.assert_close(faded, frames * mask[:, None], rtol=0, atol=1e-15)


@pytest.mark.parametrize("kind", list(Perturbation))
@pytest.mark.parametrize("clips", [[0, 1, 1], [0, 0, 0], [1]])
def test_on_a_cpu_two_levels_of_a_voxel_give_the_same_as_the_sum_over_all(kind: Perturbation, clips: list[int]) -> None:
    pyramid = PYRAMIDS[kind](toys.seeded(max(clips) + 1, 3, 2, 9, 11).float())
    mask = toys.seeded(len(clips), 2, 9, 11).abs().clamp(max=1).float()
    mask[:, 0, :3], mask[:, 0, 3:5], mask[:, 1, 0, :2] = 0, 1, torch.tensor([3 / 7, 6 / 7])
    which = torch.tensor(clips)
    top = len(pyramid) - 1
    height = mask[:, None] * top
    frames, slope = (torch.zeros(len(clips), 3, 2, 9, 11) for _ in range(2))
    for level, images in enumerate(pyramid):
        image = images[which]
        frames.addcmul_((1 - (height - level).abs()).clamp_(min=0), image)
        rise = (height.floor() == level - 1).float() - ((height.floor() == level) & (level < top)).float()
        slope.addcmul_(rise, image, value=top)
    found, by_mask = perturb(pyramid, which, mask)
    torch.testing.assert_close(found, frames, rtol=0, atol=1e-6)
    pull = toys.seeded(*frames.shape, seed=5).float()
    torch.testing.assert_close(by_mask(pull), (pull * slope).sum(1), rtol=1e-5, atol=1e-5)
