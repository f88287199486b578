"""Triton's kernels, by its interpreter on a CPU, against the operations of torch that define them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

import toys
from vidattr.methods.perturbation import blending
from vidattr.methods.perturbation.extremal_perturbation import ExtremalPerturbation
from vidattr.methods.perturbation.pyramid import blur_pyramid, fade_pyramid
from vidattr.methods.perturbation.smooth_mask import SmoothMax

pytest.importorskip("triton")
if torch.cuda.is_available():
    pytest.skip("the interpreter is for machines without a GPU", allow_module_level=True)


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets kernels run on a CPU."""
    monkeypatch.setattr(blending, "runs_kernels", lambda like: True)


def numbers(*size: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def network(dtype: torch.dtype | None = None, layout: torch.memory_format = torch.contiguous_format) -> Any:
    return SimpleNamespace(takes=lambda: (dtype, layout))


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize(
    ("size", "step", "sigma", "make"), [((7, 6), 2, 1.5, blur_pyramid), ((5, 8), 3, 2.0, fade_pyramid)]
)
def test_masks_frames_and_their_derivatives(
    kernels: None, size: tuple[int, int], step: int, sigma: float, make: Any, keeps: bool
) -> None:
    clips = numbers(2, 3, 2, *size, seed=4)
    pyramid, clip = make(clips), torch.tensor([1, 0])
    smooth_max = SmoothMax(size, step, sigma, 20.0, clips)
    seeds = numbers(2, 2, *smooth_max.grid)
    seeds[0, 0] = 1  # the mask reaches 1, the last level of the pyramid
    seeds[1, 0] = 0
    leaf, twin = (seeds.clone().requires_grad_() for _ in range(2))
    plane, found = blending.masks_of(smooth_max, leaf, network(), pyramid, clip, keeps=keeps)
    expected = smooth_max(twin)
    torch.testing.assert_close(plane, expected, rtol=0, atol=1e-12)
    weight, by_frames = numbers(*plane.shape, seed=2), numbers(2, 3, 2, *size, seed=3) - 0.5
    for one, other in ((plane, leaf), (expected, twin)):
        (one * weight).sum().backward()
        assert other.grad is not None
    torch.testing.assert_close(leaf.grad, twin.grad, rtol=0, atol=1e-12)
    mask = smooth_max.crop(plane.detach())
    own = mask if keeps else 1 - mask
    frames, slope = blending.perturb(pyramid, clip, own)
    for made in (found, blending.blended(network(), pyramid, clip, mask, keeps=keeps)):
        assert made is not None
        torch.testing.assert_close(made[0], frames, rtol=0, atol=1e-12)
        torch.testing.assert_close(made[1](by_frames), (by_frames * slope).sum(1), rtol=0, atol=1e-11)


def test_frames_in_the_networks_own_formats(kernels: None) -> None:
    # The interpreter cuts numbers to bfloat16, a GPU rounds them.
    clips = numbers(1, 3, 2, 6, 5, dtype=torch.float32)
    pyramid, mask = blur_pyramid(clips), numbers(2, 2, 6, 5, dtype=torch.float32)
    clip = torch.zeros(2, dtype=torch.int64)
    model = network(torch.bfloat16, torch.channels_last_3d)
    frames, slope = blending.blended(model, pyramid, clip, mask, keeps=True)
    assert frames.dtype is torch.bfloat16
    assert frames.is_contiguous(memory_format=torch.channels_last_3d)
    expected, by_mask = blending.perturb(pyramid, clip, mask)
    torch.testing.assert_close(frames.float(), expected, rtol=2**-7, atol=1e-6)
    gradient = numbers(2, 3, 2, 6, 5, seed=3).bfloat16().contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(slope(gradient), (gradient.float() * by_mask).sum(1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", ["preserve", "dual"])
def test_a_whole_method_gives_the_same_map(kernels: None, variant: str) -> None:
    method = ExtremalPerturbation(
        areas=[0.3], iterations=2, seed_step=3, seed_sigma=2.0, reward_weight=30.0, temporal_sigma=1.0,
        variant=cast(Any, variant), stop_window=None,
    )  # fmt: skip
    query = toys.query(1)
    found = method(toys.conv_net(), query)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blending, "runs_kernels", lambda like: False)
        expected = method(toys.conv_net(), query)
    torch.testing.assert_close(found.map, expected.map, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.extras["probability"], expected.extras["probability"], rtol=0, atol=1e-9)
