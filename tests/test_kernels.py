"""Triton's kernels, by its interpreter on a CPU, against the operations of torch that define them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

import toys
from vidattr.methods.occlusion import filling
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
    for module in (blending, filling):
        monkeypatch.setattr(module, "runs_kernels", lambda like: True)


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
    frames, by_mask = blending.perturb(pyramid, clip, own)
    for made in (found, blending.blended(network(), pyramid, clip, mask, keeps=keeps)):
        assert made is not None
        torch.testing.assert_close(made[0], frames, rtol=0, atol=1e-12)
        torch.testing.assert_close(made[1](by_frames), by_mask(by_frames), rtol=0, atol=1e-11)


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
    torch.testing.assert_close(slope(gradient), by_mask(gradient.float()), rtol=1e-5, atol=1e-5)


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


def tables(*size: int) -> Tensor:
    """Rectangles (P, G, T, 4) of all kinds: empty, a pixel, the whole frame, and some between."""
    found = torch.randint(0, 7, (*size, 4), generator=torch.Generator().manual_seed(2), dtype=torch.int16)
    ordered = torch.cat([found[..., :2].sort(-1).values, found[..., 2:].sort(-1).values], -1)
    ordered[0, 0, 0] = 0
    ordered[1, 0] = torch.tensor([0, 6, 0, 7], dtype=torch.int16)
    return ordered


@pytest.mark.parametrize("fill", [(1, 2, 1, 1, 1, 1), (1, 2, 3, 2, 6, 7), (2, 2, 3, 1, 1, 1)])
def test_occluded_clips(kernels: None, fill: tuple[int, ...]) -> None:
    frames, fills, rectangles = numbers(2, 3, 2, 6, 7), -numbers(*fill, seed=5), tables(4, 3, 2)
    clip, draw = torch.tensor([0, 1, 1, 0]), torch.tensor([0, 0, len(fills) - 1, len(fills) - 1])
    found = filling.occluded(network(), frames, fills, clip, draw, rectangles)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filling, "runs_kernels", lambda like: False)
        expected = filling.occluded(network(), frames, fills, clip, draw, rectangles)
    assert torch.equal(found, expected)
    model = network(torch.bfloat16, torch.channels_last_3d)
    half = filling.occluded(model, frames.float(), fills.float(), clip, draw, rectangles)
    assert half.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(half.double(), expected, rtol=2**-7, atol=0)


COMPILED = """
import importlib
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

types = dict.fromkeys(("clips", "clip", "draw"), "*i64") | {"rectangles": "*i16", "coldness": "fp32"}
numbers = "seeds weights mean bottom plane pyramid slope result mask fills".split()
types |= dict.fromkeys(numbers, "*fp32") | dict.fromkeys(("frames", "gradient", "out"), "*bf16")
constants = dict(STEP=7, TAPS=7, LEVELS=8, CHANNELS=3, KEEPS=False, BLOCK=256, PLACES=64, SEEDS=16)
for family, names in {
    "perturbation": ["_smooth_max", "_frames", "_slope", "_by_seeds"], "occlusion": ["_occluded"]
}.items():
    module = importlib.import_module(f"vidattr.methods.{family}.kernels")
    for name in names:
        kernel = getattr(module, name)
        signature = {a: "constexpr" if a in constants else types.get(a, "i32") for a in kernel.arg_names}
        fixed = {(i,): constants[a] for i, a in enumerate(kernel.arg_names) if a in constants}
        made = triton.compile(ASTSource(kernel, signature, fixed), target=GPUTarget("cuda", 90, 32))
        print(name, len(made.asm["cubin"]) > 0)
"""


def test_kernels_compile_for_a_gpu(tmp_path: Path) -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    made = subprocess.run(
        [sys.executable, "-c", COMPILED], env=environment, capture_output=True, text=True, check=False
    )
    assert made.stdout.split() == [
        word for name in ("_smooth_max", "_frames", "_slope", "_by_seeds", "_occluded") for word in (name, "True")
    ], made.stderr
