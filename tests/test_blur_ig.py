"""Blur integrated gradients: a literal twin of the authors' sum with SciPy's blur, completeness, and its precision."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from scipy import ndimage
from torch import Tensor

import toys
from vidattr.api import read_clip
from vidattr.methods.gradients.blur_ig import BlurIG, Spacing
from vidattr.methods.shared.scores import Score
from vidattr.models.network.network import VideoModel
from vidattr.models.r2plus1d_light import UCF101R2Plus1DLight
from vidattr.types import Query


def scipy_blur(clip: Tensor, sigma: float, sigma_frames: float) -> Tensor:
    if sigma == 0:
        return clip
    return torch.from_numpy(ndimage.gaussian_filter(clip.numpy(), [0, sigma_frames, sigma, sigma], mode="constant"))


def literal(method: BlurIG, model: VideoModel, clip: Tensor, target: int) -> Tensor:
    """The sum as published, step by step."""
    in_time = method.max_sigma_frames / method.max_sigma
    sigmas = [i * method.max_sigma / method.steps for i in range(method.steps + 1)]
    if method.spacing is Spacing.sqrt:
        sigmas = [math.sqrt(sigma) for sigma in sigmas]
    total = torch.zeros_like(clip)
    for i in range(method.steps):
        level = scipy_blur(clip, sigmas[i], in_time * sigmas[i])
        wider = sigmas[i] + method.grad_step
        slope = (scipy_blur(clip, wider, in_time * wider) - level) / method.grad_step
        leaf = level.clone().requires_grad_()
        score = model(leaf[None])
        (score.log_softmax(1) if method.score is Score.logprob else score)[0, target].backward()
        total += (sigmas[i + 1] - sigmas[i]) * slope * leaf.grad  # type: ignore[operator]
    return -total


METHODS = [
    BlurIG(steps=5, max_sigma=3.0),
    BlurIG(steps=5, max_sigma=3.0, max_sigma_frames=1.5, score=Score.logprob),
    BlurIG(steps=4, max_sigma=9.0, spacing=Spacing.sqrt, grad_step=0.3),
    BlurIG(steps=4, max_sigma=2.0, max_sigma_frames=6.0, spacing=Spacing.sqrt),
    BlurIG(steps=3),
]


@pytest.mark.parametrize("method", METHODS)
def test_it_is_the_published_sum(method: BlurIG) -> None:
    model, query = toys.conv_net(max_batch=4), toys.query()
    result = method(model, query)
    for n in range(3):
        expected = literal(method, model, query.frames[n], int(query.target[n]))
        found = result.extras["attribution"][n]
        assert ((found - expected).abs().max() / expected.abs().max()) < 1e-10
        torch.testing.assert_close(result.map[n], expected.abs().mean(0).float(), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("in_time", [0.0, 3.0])
def test_completeness_is_reported_and_improves_with_steps(in_time: float) -> None:
    model, query = toys.conv_net(), toys.query()
    errors = []
    for steps in (10, 40, 160):
        method = BlurIG(max_sigma=6.0, max_sigma_frames=in_time, steps=steps, grad_step=1e-4, score=Score.logprob)
        explained, gain, error = method(model, query).extras["completeness"].unbind(1)
        end = torch.stack([scipy_blur(clip, 6.0, in_time) for clip in query.frames])
        expected = [
            model(frames).log_softmax(1).gather(1, query.target[:, None])[:, 0] for frames in (query.frames, end)
        ]
        torch.testing.assert_close(gain, expected[0] - expected[1], rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(error, explained - gain, rtol=1e-12, atol=0)
        errors.append(error.abs().max())
    assert errors[2] < errors[1] / 3 < errors[0] / 9


def test_a_flat_clip_far_from_the_border_gets_nothing() -> None:
    query = Query(torch.full((1, 3, 2, 41, 41), 2.0, dtype=torch.float64), torch.tensor([1]), (0,))
    found = BlurIG(max_sigma=2.0, max_sigma_frames=0.0, steps=5)(toys.conv_net(size=(3, 2, 41, 41)), query)
    assert found.map[0, :, 12:29, 12:29].abs().max() < 1e-6 < found.map.max() * 0.1


def test_float32_keeps_its_digits() -> None:
    model, query = toys.conv_net(), toys.query()
    method = BlurIG(steps=10, grad_step=1e-4)
    expected = method(model, query).extras["attribution"]
    model.module.float()
    found = method(model, Query(query.frames.float(), query.target, query.seeds)).extras["attribution"]
    assert ((found.double() - expected).abs().max() / expected.abs().max()) < 1e-5


@pytest.mark.real
def test_the_published_sum_on_a_real_clip(real: Path) -> None:
    weights = real / "weights" / "r2plus1d_light_ucf101.pth"
    view = dataclasses.replace(UCF101R2Plus1DLight().input, size=[32, 32])
    model = UCF101R2Plus1DLight(weights=str(weights), input=view).load()
    frames = read_clip(real / "ucf101_24" / "UCF-101" / "Biking" / "v_Biking_g01_c01.avi", model).double()
    model.module.double()
    target = model.classes.index("Biking")
    for method in (BlurIG(steps=5, max_sigma=12.0), BlurIG(steps=5, max_sigma=12.0, max_sigma_frames=3.0)):
        found = method(model, Query(frames, torch.tensor([target]), (0,))).extras["attribution"][0]
        expected = literal(method, model, frames[0], target)
        assert ((found - expected).abs().max() / expected.abs().max()) < 1e-8
