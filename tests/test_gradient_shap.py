"""Gradient SHAP: its equation, captum with the same draws, completeness, and its baselines."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import toys
from vidattr.api import read_clip
from vidattr.methods.gradients.gradient_shap import Baselines, GradientShap
from vidattr.methods.shared.scores import Score
from vidattr.models.network.network import VideoModel
from vidattr.models.r2plus1d_light import UCF101R2Plus1DLight
from vidattr.types import Query


def literal_draws(
    method: GradientShap, model: VideoModel, clip: Tensor, seed: int
) -> list[tuple[Tensor, Tensor, float]]:
    """The baselines, noisy clips and α of one clip, in the order in which a generator gives them."""
    generator = torch.Generator().manual_seed(seed)
    C, _, H, W = clip.shape
    mean, std = (torch.tensor(list(v), dtype=torch.float64).view(C, 1, 1, 1) for v in (model.view.mean, model.view.std))
    found = []
    for _ in range(method.n):
        if method.baselines is Baselines.blur:
            width = method.largest_blur * (1 - torch.rand((), generator=generator, dtype=torch.float64))
            start = torch.zeros_like(clip)
            rows, columns = (
                torch.tensor([[np.exp(-((i - j) ** 2) / (2 * float(width) ** 2)) for j in range(n)] for i in range(n)])
                for n in (H, W)
            )
            for y in range(H):
                for x in range(W):
                    weight = rows[y][:, None] * columns[x][None]
                    start[:, :, y, x] = (clip * weight).sum((2, 3)) / weight.sum()
        else:
            shape = () if method.baselines is Baselines.grey else clip.shape
            level = torch.rand(shape, generator=generator, dtype=torch.float64)
            start = (level * model.view.max_value - mean) / std + torch.zeros_like(clip)
        alpha = float(torch.rand((), generator=generator, dtype=torch.float64))
        noise = torch.randn(clip.shape, generator=generator, dtype=torch.float64)
        found.append((start, clip + method.spread * (clip.max() - clip.min()) * noise, alpha))
    return found


@pytest.mark.parametrize("baselines", list(Baselines))
@pytest.mark.parametrize("spread", [0.0, 0.2])
def test_it_is_its_equation(baselines: Baselines, spread: float) -> None:
    model, query = toys.conv_net(max_batch=4), toys.query()
    method = GradientShap(n=5, baselines=baselines, spread=spread, largest_blur=2.0, score=Score.logprob)
    result = method(model, query)
    for i, (clip, y, seed) in enumerate(zip(query.frames, query.target, query.seeds, strict=True)):
        total, of_baselines = torch.zeros_like(clip), 0.0
        for start, noisy, alpha in literal_draws(method, model, clip, seed):
            point = (start + alpha * (noisy - start)).requires_grad_()
            model(point[None]).log_softmax(1)[0, y].backward()
            total += (noisy - start) * point.grad  # type: ignore[operator]
            of_baselines += model(start[None]).log_softmax(1)[0, y].item() / method.n
        expected = total / method.n
        torch.testing.assert_close(result.extras["attribution"][i], expected, rtol=1e-10, atol=1e-13)
        torch.testing.assert_close(result.map[i], expected.abs().mean(0).float(), rtol=1e-5, atol=1e-8)
        gain = model(clip[None]).log_softmax(1)[0, y].item() - of_baselines
        wanted = torch.tensor([expected.sum(), gain, expected.sum() - gain], dtype=torch.float64)
        torch.testing.assert_close(result.extras["completeness"][i], wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("baselines", list(Baselines))
def test_a_linear_network_is_complete_at_any_number_of_draws(baselines: Baselines) -> None:
    result = GradientShap(n=2, baselines=baselines)(toys.network(toys.Linear()), toys.query())
    assert result.extras["completeness"][:, 1].abs().min() > 1e-3
    assert result.extras["completeness"][:, 2].abs().max() < 1e-12


def test_the_error_of_completeness_falls_with_the_draws() -> None:
    model, query = toys.network(toys.Quadratic()), toys.query(8)
    few, many = (GradientShap(n=n)(model, query).extras["completeness"][:, 2].square().mean() for n in (4, 400))
    assert many < few / 30  # the variance of a mean falls with 1/n, here by 100


def test_baselines_stay_between_black_and_white() -> None:
    model, query = toys.network(toys.Linear()), toys.query(1)
    black, white = (model.view.colour(query.frames, level)[..., 0] for level in (0.0, 1.0))
    for baselines, alike in ((Baselines.grey, 1), (Baselines.noise, query.frames[0, 0].numel())):
        draws = literal_draws(GradientShap(n=20, baselines=baselines), model, query.frames[0], 3)
        own = GradientShap(n=20, baselines=baselines)._draws(model, query.frames[0], 3)
        for (expected, _, _), (found, _, _) in zip(draws, own, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)
            assert ((found >= black[..., None] - 1e-12) & (found <= white[..., None] + 1e-12)).all()
            assert len(found[0].unique()) == alike


@pytest.fixture(scope="module")
def real_query(real: Path) -> tuple[VideoModel, Query]:
    """A real clip and a network trained on such clips, in float64 at 32 × 32."""
    weights = real / "weights" / "r2plus1d_light_ucf101.pth"
    view = dataclasses.replace(UCF101R2Plus1DLight().input, size=[32, 32])
    model = UCF101R2Plus1DLight(weights=str(weights), input=view).load()
    frames = read_clip(real / "ucf101_24" / "UCF-101" / "Biking" / "v_Biking_g01_c01.avi", model).double()
    model.module.double()
    return model, Query(frames, torch.tensor([model.classes.index("Biking")]), (11,))


@pytest.mark.real
@pytest.mark.parametrize("baselines", list(Baselines))
def test_captum_agrees_on_a_real_clip(
    real_query: tuple[VideoModel, Query], baselines: Baselines, monkeypatch: pytest.MonkeyPatch
) -> None:
    shap = pytest.importorskip("captum.attr._core.gradient_shap")
    model, query = real_query
    method = GradientShap(n=4, baselines=baselines, spread=0.1)
    found = method(model, query).extras["attribution"]

    draws = literal_draws(method, model, query.frames[0], 11)
    alphas = iter([alpha for *_, alpha in draws])

    def uniform(_low: float, _high: float, size: int) -> Any:
        return np.array([next(alphas) for _ in range(size)])

    monkeypatch.setattr(shap.np.random, "uniform", uniform)
    starts, noisy = (torch.stack(tensors) for tensors in list(zip(*draws, strict=True))[:2])
    kind = shap.InputBaselineXGradient(model.module)
    expected = kind.attribute(noisy.requires_grad_(), starts, query.target.expand(4)).mean(0, keepdim=True)
    assert ((found - expected).abs().max() / expected.abs().max()) < 1e-10
