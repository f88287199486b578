"""Numbers that the released code of STEP printed, or that follow from it: masks of 112×112 with every seed at 1."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vidattr.methods.perturbation.losses import (
    CoreShape,
    CoreTopK,
    area_loss,
    area_ones,
    core_kernel,
    core_loss,
    core_ones,
    core_windows,
    shared_target,
)
from vidattr.methods.perturbation.smooth_mask import SmoothMax

FRAMES, SIDE = 16, 134


@pytest.fixture(scope="module")
def mask() -> Tensor:
    """(1, T, Ĥ, Ŵ) before the first step of the optimisation."""
    return SmoothMax((112, 112), 7, 11.0, 20.0, torch.zeros(()))(torch.ones(1, 1, 16, 16)).repeat(1, FRAMES, 1, 1)


AREA_TERMS = {
    0.01: 249.76,
    0.02: 246.76,
    0.05: 237.77,
    0.1: 222.84,
    0.15: 207.97,
    0.2: 193.12,
    0.3: 163.64,
    0.5: 105.35,
}


@pytest.mark.parametrize(("area", "expected"), AREA_TERMS.items())
def test_first_area_term(mask: Tensor, area: float, expected: float) -> None:
    loss = area_loss(mask.reshape(1, 1, -1), torch.tensor([area_ones(area, mask.numel())]), shared_target)
    assert 300 * loss.item() == pytest.approx(expected, abs=0.005)


def test_first_area_term_of_every_frame(mask: Tensor) -> None:
    loss = area_loss(mask.flatten(2), torch.tensor([area_ones(0.15, SIDE * SIDE)]), shared_target)
    assert 300 * loss.item() == pytest.approx(207.96, abs=0.005)


CORE_TERMS = {5: (0.8624, 0.8592, 0.8557), 7: (0.8637, 0.8610, 0.8581), 8: (0.8646, 0.8621, 0.8592)}


@pytest.mark.parametrize(("frames", "expected"), CORE_TERMS.items())
def test_first_core_term(mask: Tensor, frames: int, expected: tuple[float, ...]) -> None:
    size = [frames, 11, 11]
    windows = core_windows(mask, core_kernel(size, CoreShape.ellipsoid), [1, 11, 11])
    assert windows.shape == (1, (FRAMES - frames + 1) * 12 * 12)
    for area, value in zip((0.05, 0.1, 0.15), expected, strict=True):
        ones = core_ones(CoreTopK.count, area, size, (FRAMES, SIDE, SIDE), windows.shape[1])
        assert core_loss(windows, torch.tensor([ones]), shared_target).item() == pytest.approx(value, abs=5e-5)


@pytest.mark.parametrize(("frames", "ones"), {3: 83, 5: 205, 7: 311, 8: 352, 11: 515, 14: 662}.items())
def test_ones_of_an_ellipsoid(frames: int, ones: int) -> None:
    assert core_kernel([frames, 11, 11], CoreShape.ellipsoid).sum() == ones


def test_a_cylinder_is_the_largest_disc_on_every_frame() -> None:
    cylinder = core_kernel([5, 11, 11], CoreShape.cylinder)
    assert torch.equal(cylinder, core_kernel([5, 11, 11], CoreShape.ellipsoid)[2].expand(5, 11, 11))


SHARES = {0.02: 0.009, 0.05: 0.023, 0.1: 0.045, 0.15: 0.068, 0.2: 0.090, 0.3: 0.135, 0.5: 0.226}


@pytest.mark.parametrize(("area", "share"), SHARES.items())
def test_share_of_windows_that_an_area_fills(area: float, share: float) -> None:
    assert core_ones(CoreTopK.count, area, [7, 11, 11], (FRAMES, SIDE, SIDE), 1440) / 1440 == pytest.approx(
        share, abs=5e-4
    )


def test_the_other_rule_fills_90_windows_of_1440_at_a_tenth() -> None:
    assert core_ones(CoreTopK.beta, 0.1, [7, 11, 11], (FRAMES, SIDE, SIDE), 1440) == 90
