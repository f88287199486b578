"""Agreement with captum, an independent implementation, on toys and on a real clip with a real network."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

import toys
from vidattr.api import read_clip
from vidattr.methods.cam.grad_cam import GradCAM, Pool
from vidattr.methods.cam.layer_cam import LayerCAM
from vidattr.methods.cam.saliency_tubes import SaliencyTubes
from vidattr.methods.gradients.grad_x_input import GradXInput
from vidattr.methods.gradients.gradient import Gradient
from vidattr.methods.gradients.integrated_gradients import Baseline, IntegratedGradients
from vidattr.methods.shared.gradients import Polarity, Reduce
from vidattr.models.network.network import VideoModel
from vidattr.models.r2plus1d_light import UCF101R2Plus1DLight
from vidattr.types import Query

captum = pytest.importorskip("captum.attr")

STEPS = 5


def relative(found: Tensor, expected: Tensor) -> float:
    """Returns the largest difference in units of the largest expected value."""
    assert found.shape == expected.shape
    assert expected.abs().max() > 0
    return ((found - expected).abs().max() / expected.abs().max()).item()


def agree(model: VideoModel, query: Query) -> None:
    """Asserts that captum computes the same to 1e-4 of the range."""
    frames, target = query.frames, query.target
    leaf = frames.clone().requires_grad_()  # captum warns of a leaf that is none

    attribution = captum.Saliency(model.module).attribute(leaf, target, abs=False)
    assert relative(Gradient()(model, query).extras["attribution"], attribution) < 1e-4
    assert (
        relative(
            Gradient(polarity=Polarity.both, reduce=Reduce.max)(model, query).map, attribution.abs().amax(1).float()
        )
        < 1e-4
    )

    attribution = captum.InputXGradient(model.module).attribute(leaf, target)
    assert relative(GradXInput()(model, query).extras["attribution"], attribution) < 1e-4

    # In one pass, as ours. Probe by probe, other kernels round otherwise, and a max-pool over a black bar picks another
    # pixel: captum then differs from itself by a hundredth.
    black = model.view.colour(frames, 0.0).expand_as(frames)
    for baseline, start in ((Baseline.black, black), (Baseline.zero, torch.zeros_like(frames))):
        attribution, delta = captum.IntegratedGradients(model.module).attribute(
            leaf, start, target, n_steps=STEPS, method="riemann_left", return_convergence_delta=True
        )
        found = IntegratedGradients(steps=STEPS, baseline=baseline)(model, query)
        assert relative(found.extras["attribution"], attribution) < 1e-4
        torch.testing.assert_close(found.extras["completeness"][:, 2], delta, rtol=1e-3, atol=1e-3, check_dtype=False)

    layer = dict(model.module.named_modules())[model.layer]
    attribution = captum.LayerGradCam(model.module, layer).attribute(leaf, target, relu_attributions=True)
    assert relative(GradCAM(pool=Pool.spacetime)(model, query).extras["cam"], attribution[:, 0]) < 1e-4
    upsampled = captum.LayerAttribution.interpolate(attribution, tuple(frames.shape[2:]), interpolate_mode="trilinear")
    assert relative(GradCAM(pool=Pool.spacetime)(model, query).map, upsampled[:, 0].float()) < 1e-4

    # captum has no LayerCAM. It has the product G · A, whose positive part is ReLU(G) · A where A ≥ 0, as after a ReLU.
    assert model.activations(frames)[1].min() >= 0
    product = captum.LayerGradientXActivation(model.module, layer).attribute(leaf, target)
    assert relative(LayerCAM()(model, query).extras["cam"], product.clamp(min=0).sum(1)) < 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_toy(dtype: torch.dtype) -> None:
    model = toys.conv_net()
    model.module.to(dtype)
    agree(model, toys.query(dtype=dtype))


@pytest.fixture(scope="module")
def real_query(real: Path) -> tuple[VideoModel, Query]:
    """A real clip, and a network really trained on such clips, at a tenth of its usual frame area to save time."""
    weights = real / "weights" / "r2plus1d_light_ucf101.pth"
    plain = UCF101R2Plus1DLight().input
    model = UCF101R2Plus1DLight(weights=str(weights), input=dataclasses.replace(plain, size=[72, 72])).load()
    frames = read_clip(real / "ucf101_24" / "UCF-101" / "Biking" / "v_Biking_g01_c01.avi", model)
    return model, Query(frames, torch.tensor([model.classes.index("Biking")]), (0,))


@pytest.mark.real
def test_real_clip(real_query: tuple[VideoModel, Query]) -> None:
    agree(*real_query)


@pytest.mark.real
def test_tube_of_a_real_clip_averages_to_the_logit(real_query: tuple[VideoModel, Query]) -> None:
    model, query = real_query
    cam = SaliencyTubes()(model, query).extras["cam"]
    logit = model(query.frames)[:, query.target[0]]
    torch.testing.assert_close(
        cam.mean((1, 2, 3)) + model.module.classifier.bias[query.target], logit, rtol=1e-4, atol=1e-4
    )
