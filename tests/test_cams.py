"""Grad-CAM++, HiResCAM and Score-CAM: their equations written out voxel by voxel, closed forms, and other code."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

import toys
from vidattr.api import read_clip
from vidattr.errors import ConfigError, MethodUndefinedError
from vidattr.methods.cam.grad_cam import GradCAM, Pool
from vidattr.methods.cam.grad_cam_plus_plus import GradCAMPlusPlus
from vidattr.methods.cam.hires_cam import HiResCAM
from vidattr.methods.cam.score_cam import ScoreCAM, Weighting
from vidattr.methods.shared.scores import Score
from vidattr.methods.shared.upsampling import TimeUpsample
from vidattr.models.c3d_light import UCF101C3DLight
from vidattr.models.network.network import VideoModel
from vidattr.models.r2plus1d_light import UCF101R2Plus1DLight
from vidattr.protocols import Method
from vidattr.types import Query

TOYS = [toys.conv_net, toys.cnn_lstm, toys.stepwise]
each_toy = pytest.mark.parametrize("make", TOYS, ids=lambda make: make.__name__)
each_score = pytest.mark.parametrize("score", list(Score))


def close(found: Tensor, expected: Tensor, rtol: float = 1e-10) -> None:
    assert found.shape == expected.shape
    assert expected.abs().max() > 0
    assert (found - expected).abs().max() <= rtol * expected.abs().max()


def scalar(logits: Tensor, y: int, score: Score) -> Tensor:
    """Returns the score of class y of one clip's logits (K,), written out."""
    p = logits.softmax(0)[y]
    n, K = 100_000, len(logits)
    return {
        Score.logit: lambda: logits[y],
        Score.prob: lambda: p,
        Score.logprob: lambda: p.log(),
        Score.log_odds: lambda: torch.log2((p * n + 1) / ((1 - p) * n + K - 1)),
    }[score]()


def features_of(model: VideoModel, clip: Tensor, y: int, score: Score = Score.logit) -> tuple[Tensor, Tensor]:
    """Returns A and ∂s_y/∂A (c, t, h, w) of one clip, by a hook of our own and a backward pass of the whole network."""
    kept: list[Tensor] = []
    handle = model.module.get_submodule(str(model.layer)).register_forward_hook(lambda _m, _i, out: kept.append(out))
    with torch.enable_grad():
        leaf = clip[None].clone().requires_grad_()
        logits = model.module(leaf)[0]
        (gradient,) = torch.autograd.grad(scalar(logits, y, score), kept[0])
    handle.remove()
    return model.volume(kept[0].detach(), 1)[0], model.volume(gradient, 1)[0]


def cells(A: Tensor, pool: Pool, t: int) -> list[tuple[int, int, int]]:
    """Returns the positions that step t is pooled with."""
    steps = range(A.shape[1]) if pool is Pool.spacetime else [t]
    return [(s, i, j) for s in steps for i in range(A.shape[2]) for j in range(A.shape[3])]


def plus_plus(A: Tensor, G: Tensor, pool: Pool, relu: bool) -> Tensor:
    """Returns eq. 19 of Grad-CAM++ with the derivatives of Y = exp(s), the common factor exp(s) left out."""
    cam = torch.zeros(A.shape[1:], dtype=A.dtype)
    for t in range(A.shape[1]):
        mine = cells(A, pool, t)
        for c in range(len(A)):
            total = sum(float(A[c][p]) for p in mine)
            w = 0.0
            for p in mine:
                first = float(G[c][p])
                second, third = first**2, first**3
                below = 2 * second + total * third
                alpha = second / below if below != 0 else 0.0
                w += alpha * max(first, 0.0)
            cam[t] += w * A[c, t]
    return cam.clamp(min=0) if relu else cam


@each_toy
@each_score
@pytest.mark.parametrize("pool", list(Pool))
def test_grad_cam_plus_plus_against_its_equations(make: Callable[..., VideoModel], score: Score, pool: Pool) -> None:
    model, query = make(max_batch=2), toys.query()
    for relu in (True, False):
        found = GradCAMPlusPlus(score=score, pool=pool, relu=relu)(model, query).extras["cam"]
        for n, (clip, y) in enumerate(zip(query.frames, query.target, strict=True)):
            A, G = features_of(model, clip, int(y), score)
            expected = plus_plus(A, G, pool, relu)
            assert (found[n] - expected).abs().max() <= 1e-10 * expected.abs().max()
        assert found.abs().max() > 0


def test_the_closed_form_of_the_weights_is_that_of_the_derivatives_of_an_exponential() -> None:
    """The second and third derivatives of Y = exp(s) by autograd, on a head of ReLUs and linear layers."""
    A = toys.seeded(4, 2, 3, 3).abs().requires_grad_()
    head = [toys.seeded(40, A.numel(), seed=2) / 5, toys.seeded(40, seed=3) / 5]

    def exponential() -> Tensor:
        return (head[1] @ (head[0] @ A.flatten()).relu()).exp()

    first = torch.autograd.grad(exponential(), A, create_graph=True)[0]
    G = (first / exponential()).detach()
    at = [(0, 0, 1, 2), (3, 1, 0, 0), (2, 0, 2, 1)]
    for place in at:
        second = torch.autograd.grad(first[place], A, create_graph=True)[0]
        third = torch.autograd.grad(second[place], A, create_graph=True)[0]
        s = A.detach()[place[0]].sum()
        alpha = (second[place] / (2 * second[place] + s * third[place])).detach()
        assert G[place] != 0
        assert float(alpha) == pytest.approx(1 / float(2 + G[place] * s), rel=1e-9)


def test_grad_cam_plus_plus_of_a_pooled_linear_head() -> None:
    model, query = toys.conv_net(), toys.query()
    A = model.activations(query.frames)[1].detach()
    weight = model.module.fc.weight[query.target]  # G = weight / V at each of the V positions
    w = weight.clamp(min=0) / (2 + weight * A.mean((2, 3, 4)))
    close(GradCAMPlusPlus(pool=Pool.spacetime)(model, query).extras["cam"], torch.einsum("nc,ncthw->nthw", w, A))


def test_where_the_gradient_is_constant_hires_cam_is_grad_cam_and_adds_up_to_the_logit() -> None:
    model, query = toys.conv_net(), toys.query()
    found = HiResCAM()(model, query).extras["cam"]
    for pool in Pool:
        close(found, GradCAM(pool=pool, relu=False)(model, query).extras["cam"])
    logit = model(query.frames).gather(1, query.target[:, None])[:, 0]
    close(found.sum((1, 2, 3)), logit - model.module.fc.bias[query.target])
    curved = toys.network(toys.Curved(), layer="features")
    hires = HiResCAM(relu=True)(curved, query).extras["cam"]
    assert not torch.allclose(hires, GradCAM(pool=Pool.spacetime)(curved, query).extras["cam"], rtol=1e-2)


@each_toy
@each_score
def test_hires_cam_against_its_equation(make: Callable[..., VideoModel], score: Score) -> None:
    model, query = make(max_batch=2), toys.query()
    for relu in (True, False):
        found = HiResCAM(score=score, relu=relu)(model, query).extras["cam"]
        for n, (clip, y) in enumerate(zip(query.frames, query.target, strict=True)):
            A, G = features_of(model, clip, int(y), score)
            cam = torch.zeros(A.shape[1:], dtype=A.dtype)
            for c, t, i, j in np.ndindex(*A.shape):
                cam[t, i, j] += G[c, t, i, j] * A[c, t, i, j]
            expected = cam.clamp(min=0) if relu else cam
            assert (found[n] - expected).abs().max() <= 1e-10 * cam.abs().max()


def score_twin(model: VideoModel, clip: Tensor, y: int, method: ScoreCAM) -> tuple[Tensor, Tensor]:
    """Returns cam and α of one clip, channel by channel, each in a pass of its own."""
    A, _ = features_of(model, clip, y)
    size = tuple(clip.shape[1:])
    increase: dict[int, float] = {}
    with torch.no_grad():
        start = float(scalar(model.module(torch.zeros_like(clip)[None])[0], y, method.score))
        order = sorted(range(len(A)), key=lambda k: -float(A[k].std(correction=0)))
        for k in order[: method.channels]:
            if method.time_upsample is TimeUpsample.linear:
                H = interpolate(A[None, k : k + 1], size, mode="trilinear", align_corners=False)[0, 0]
            else:
                steps = [A[k, f * A.shape[1] // size[0]] for f in range(size[0])]
                H = interpolate(torch.stack(steps)[:, None], size[1:], mode="bilinear", align_corners=False)[:, 0]
            if A[k].max() == A[k].min():
                continue
            H = (H - H.min()) / (H.max() - H.min())
            increase[k] = float(scalar(model.module((clip * H)[None])[0], y, method.score)) - start
    total = sum(math.exp(c) for c in increase.values())
    weights = torch.zeros(len(A), dtype=A.dtype)
    for k, c in increase.items():
        weights[k] = math.exp(c) / total if method.weighting is Weighting.softmax else c
    cam = torch.zeros(A.shape[1:], dtype=A.dtype)
    for k in range(len(A)):
        cam += weights[k] * A[k]
    return cam.clamp(min=0) if method.relu else cam, weights


@each_toy
@pytest.mark.parametrize(
    "method",
    [
        ScoreCAM(),
        ScoreCAM(weighting=Weighting.increase, relu=False),
        ScoreCAM(Score.prob, weighting=Weighting.increase, channels=3),
        ScoreCAM(Score.log_odds, channels=2, time_upsample=TimeUpsample.repeat, relu=False),
        ScoreCAM(Score.logprob, channels=1000),
    ],
    ids=["softmax", "increase", "prob", "log odds", "logprob"],
)
def test_score_cam_against_its_equations(make: Callable[..., VideoModel], method: ScoreCAM) -> None:
    model, query = make(max_batch=3), toys.query()
    found = method(model, query)
    for n, (clip, y) in enumerate(zip(query.frames, query.target, strict=True)):
        cam, weights = score_twin(model, clip, int(y), method)
        assert (found.extras["cam"][n] - cam).abs().max() <= 1e-10 * cam.abs().max()
        close(found.extras["weights"][n], weights)


def test_score_cam_of_channels_without_contrast_and_of_clips_without_a_difference() -> None:
    model, query = toys.conv_net(), toys.query()
    last = model.module.features[0]
    last.weight[2], last.bias[2] = 0.0, 5.0  # a channel that is 5 everywhere
    for weighting in Weighting:
        weights = ScoreCAM(weighting=weighting)(model, query).extras["weights"]
        assert (weights[:, 2] == 0).all()
        assert (weights != 0).sum() >= 9
    last.weight.zero_()
    for weighting in Weighting:
        assert not ScoreCAM(weighting=weighting)(model, query).map.any()
    with pytest.raises(ConfigError, match=r"method\.channels=0"):
        ScoreCAM(channels=0)


def test_score_cam_runs_the_passes_that_are_planned_in_full_chunks() -> None:
    counting = toys.Counting(toys.ConvNet())
    model = toys.network(counting, layer="inside.features", max_batch=4)
    ScoreCAM(channels=3)(model, toys.query(3))
    assert sum(counting.batches) == 3 * ScoreCAM(channels=3).passes
    assert max(counting.batches) == 4 - 1  # 9 masks in three even chunks
    assert ScoreCAM().passes == 514
    counting.batches.clear()
    ScoreCAM()(model, toys.query(3))
    assert sum(counting.batches) == 3 * (8 + 2)


@pytest.mark.parametrize("method", [GradCAMPlusPlus, HiResCAM, ScoreCAM])
def test_other_layers_and_networks_without_any(method: Callable[..., Method]) -> None:
    model, query = toys.conv_net(), toys.query()
    assert method(layer="stem.0")(model, query).extras["cam"].shape == (3, 2, 3, 4)
    with pytest.raises(ConfigError, match="unknown layer 'featurs'"):
        method(layer="featurs")(model, query)
    with pytest.raises(MethodUndefinedError, match="no layer of convolutional features"):
        method()(toys.network(toys.Linear()), query)
    with pytest.raises(MethodUndefinedError, match=r"expected: features \(N, c, t, h, w\)"):
        method(layer="fc")(model, query)


def grad_cam_library(A: Tensor, G: Tensor) -> Tensor:
    """Returns the Grad-CAM++ of pytorch-grad-cam for volumes (c, t, h, w): its sums go over all positions."""
    below = 2 * G**2 + A.sum((1, 2, 3), keepdim=True) * G**3 + 1e-6
    alpha = torch.where(G != 0, G**2 / below, 0.0)
    return (torch.einsum("cthw,cthw->c", alpha, G.relu())[:, None, None, None] * A).sum(0).relu()


@pytest.fixture(scope="module", params=["c3d", "r2plus1d"])
def real_query(request: pytest.FixtureRequest, real: Path) -> tuple[VideoModel, Query]:
    """A real clip and a trained network, in float64, at a small size to save time."""
    kind, file = {
        "c3d": (UCF101C3DLight, "c3d_light_ucf101.pth"),
        "r2plus1d": (UCF101R2Plus1DLight, "r2plus1d_light_ucf101.pth"),
    }[request.param]
    view = dataclasses.replace(kind().input, size=[32, 32])
    model = kind(weights=str(real / "weights" / file), input=view).load()
    frames = read_clip(real / "ucf101_24" / "UCF-101" / "Biking" / "v_Biking_g01_c01.avi", model)
    model.module.double()
    return model, Query(frames.double(), torch.tensor([model.classes.index("Biking")]), (0,))


@pytest.mark.real
def test_real_clips_and_networks(real_query: tuple[VideoModel, Query]) -> None:
    captum = pytest.importorskip("captum.attr")
    model, query = real_query
    clip, y = query.frames[0], int(query.target)
    A, G = features_of(model, clip, y)
    for pool in Pool:
        close(GradCAMPlusPlus(pool=pool)(model, query).extras["cam"][0], plus_plus(A, G, pool, relu=True))
    # pytorch-grad-cam's 1e-6 in the denominator is larger than G² here. Scaled, A · s and G / s leave its map unchanged
    # but for that term.
    library = grad_cam_library(A / 1e6, G * 1e6)
    close(GradCAMPlusPlus(pool=Pool.spacetime)(model, query).extras["cam"][0], library, rtol=1e-4)
    layer = model.module.get_submodule(str(model.layer))
    leaf = query.frames.clone().requires_grad_()
    products = captum.LayerGradientXActivation(model.module, layer).attribute(leaf, query.target)
    close(HiResCAM()(model, query).extras["cam"], products.sum(1).detach())
    few = ScoreCAM(channels=6)
    found = few(model, query).extras
    cam, weights = score_twin(model, clip, y, few)
    close(found["weights"][0], weights)
    close(found["cam"][0], cam)
