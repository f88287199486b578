"""Composite LRP against captum, against its equations layer by layer, and its conservation of relevance."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv3d, max_pool3d, max_unpool3d
from torch.nn.grad import conv3d_input
from torch.nn.utils.fusion import fuse_conv_bn_eval

import toys
from vidattr.api import read_clip
from vidattr.errors import ConfigError, MethodUndefinedError
from vidattr.methods.excitation.eb_r import Steps
from vidattr.methods.relevance.lrp import LRP, InputRule
from vidattr.models.c3d_light import UCF101C3DLight
from vidattr.models.network.network import VideoModel
from vidattr.types import Query


class Chain(nn.Sequential):
    """Modules in order; captum has no rule for a module that flattens."""

    def forward(self, frames: Tensor) -> Tensor:
        *parts, last = self
        for part in parts:
            frames = part(frames)
        return last(frames.flatten(1))


def plain() -> Chain:
    """conv → ReLU → max-pool → conv → ReLU → conv → ReLU → average pool → linear, without biases."""
    convolutions = [nn.Conv3d(a, b, 3, padding=1, bias=False) for a, b in ((3, 4), (4, 5), (5, 6))]
    tail = (nn.AdaptiveAvgPool3d(1), nn.Linear(6, len(toys.CLASSES), bias=False))
    first, second, third = convolutions
    parts = (first, nn.ReLU(), nn.MaxPool3d((1, 2, 2)), second, nn.ReLU(), third, nn.ReLU(), *tail)
    return toys.reset(Chain(*parts))  # type: ignore[return-value]


def test_captum_computes_the_same_with_epsilon_and_gamma() -> None:
    captum: Any = pytest.importorskip("captum.attr")
    rules: Any = pytest.importorskip("captum.attr._utils.lrp_rules")
    query, epsilon, gamma = toys.query(2), 0.3, 0.4
    frames = query.frames.abs()  # captum's γ rule is the paper's, for inputs that are not negative
    found = LRP(epsilon, gamma, lower=2 / 3, input_rule=InputRule.gamma)(
        toys.network(plain()), Query(frames, query.target, query.seeds)
    ).extras["attribution"]
    for n in range(2):
        module = plain().requires_grad_(False)
        module[0].rule = module[3].rule = rules.GammaRule(gamma)  # type: ignore[assignment]
        module[7].rule = rules.EpsilonRule()  # type: ignore[assignment]
        rms = nn.Sequential(*list(module)[:6])(frames[n : n + 1]).square().mean().sqrt().item()
        module[5].rule = rules.EpsilonRule(epsilon * rms)  # type: ignore[assignment]
        expected = (
            captum.LRP(module).attribute(frames[n : n + 1].clone().requires_grad_(), int(query.target[n])).detach()
        )
        torch.testing.assert_close(found[n], expected[0], rtol=1e-5, atol=1e-7 * float(expected.abs().max()))


# --- The equations, layer by layer -----------------------------------------------------------------------------------


def sign(z: Tensor) -> Tensor:
    return torch.where(z < 0, -1.0, 1.0).to(z)


def back(x: Tensor, weight: Tensor, ratio: Tensor) -> Tensor:
    return conv3d_input(x.shape, weight, ratio, padding=1)


def literal_c3d(model: VideoModel, x: Tensor, y: int, method: LRP) -> Tensor:
    """The composite on a C3D of three convolutions, each rule as it is printed."""
    module: Any = model.module
    layers = [fuse_conv_bn_eval(block[0], block[1]) for block in (module.conv1, module.conv2, module.conv3)]
    inputs, sums, indices = [], [], []
    for layer in layers:
        inputs.append(x)
        sums.append(conv3d(x, layer.weight, layer.bias, padding=1))
        x, index = max_pool3d(sums[-1].relu(), 2, return_indices=True)
        indices.append(index)
    pooled = x.mean((2, 3, 4))
    z = (pooled @ module.fc.weight.T + module.fc.bias)[0, y]
    relevance = pooled * module.fc.weight[y] * (z / z)
    relevance = relevance[:, :, None, None, None] * x / x.sum((2, 3, 4), keepdim=True).clamp(min=1e-300)
    for k in (2, 1, 0):
        relevance = max_unpool3d(relevance, indices[k], 2, output_size=sums[k].shape[2:])
        weight, bias, z = layers[k].weight, layers[k].bias[:, None, None, None], sums[k]
        x = inputs[k]
        if k == 0:
            low, high = (model.view.colour(x, level).expand_as(x) for level in (0.0, 1.0))
            plus, minus = weight.clamp(min=0), weight.clamp(max=0)
            total = z - bias - conv3d(low, plus, padding=1) - conv3d(high, minus, padding=1)
            ratio = relevance / total
            relevance = x * back(x, weight, ratio) - low * back(x, plus, ratio) - high * back(x, minus, ratio)
        elif k < method.lower * 3:  # inputs are not negative, and relevance is where z > 0
            raised = weight + method.gamma * weight.clamp(min=0)
            total = conv3d(x, raised, padding=1) + bias + method.gamma * bias.clamp(min=0)
            relevance = x * back(x, raised, torch.where(relevance != 0, relevance / total, 0))
        else:
            total = z + method.epsilon * z.square().mean().sqrt() * sign(z)
            relevance = x * back(x, weight, relevance / total)
    return relevance


@pytest.mark.real
@pytest.mark.parametrize("method", [LRP(), LRP(0.1, 0.7, lower=0.0), LRP(lower=1.0)])
def test_a_real_clip_is_explained_as_the_equations_say(real: Path, method: LRP) -> None:
    view = dataclasses.replace(UCF101C3DLight().input, size=[32, 32])
    model = UCF101C3DLight(weights=str(real / "weights" / "c3d_light_ucf101.pth"), input=view).load()
    model.module.double()
    frames = read_clip(real / "ucf101_24" / "UCF-101" / "Biking" / "v_Biking_g01_c01.avi", model).double()
    y = model.classes.index("Biking")
    result = method(model, Query(frames, torch.tensor([y]), (0,)))
    expected = literal_c3d(model, frames, y, method)
    found = result.extras["attribution"]
    assert expected.abs().max() > 0
    assert ((found - expected).abs().max() / expected.abs().max()).item() < 1e-9
    explained, score, lost = result.extras["conservation"][0].tolist()
    assert score == pytest.approx(float(model(frames)[0, y]))
    assert explained - score == pytest.approx(lost)


# --- Conservation ----------------------------------------------------------------------------------------------------


class Residual(nn.Module):
    """A sum of branches in place, BatchNorm after a convolution and by itself, and pools of both kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.pool = nn.Conv3d(3, 4, 3, padding=1), nn.MaxPool3d((1, 2, 2))
        self.norm, self.body = nn.BatchNorm3d(4), nn.Conv3d(4, 4, 3, padding=1)
        self.alone, self.fc = nn.BatchNorm3d(4), nn.Linear(4, len(toys.CLASSES))
        toys.reset(self)

    def forward(self, frames: Tensor) -> Tensor:
        x = self.pool(torch.relu(self.norm(self.stem(frames))))
        y = self.body(self.alone(x).relu())
        y += x
        return self.fc(y.relu().mean((2, 3, 4)))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "residual": Residual,
    "plain": plain,
    "conv_net": toys.ConvNet,
    "cnn_lstm": toys.CnnLstm,
    "stepwise": toys.Stepwise,
}


@pytest.mark.parametrize("steps", Steps)
@pytest.mark.parametrize("name", NETWORKS)
def test_without_biases_and_epsilon_all_relevance_arrives(name: str, steps: Steps) -> None:
    module = NETWORKS[name]()
    with torch.no_grad():
        for key, parameter in module.named_parameters():
            if "bias" in key:
                parameter.zero_()
    for rule in InputRule:
        method = LRP(epsilon=0.0, input_rule=rule, steps=steps)
        found = method(toys.network(module), toys.query(3)).extras["conservation"]
        assert found[:, 1].abs().min() > 1e-4
        torch.testing.assert_close(found[:, 0], found[:, 1], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", NETWORKS)
def test_lrp_0_without_biases_is_gradient_times_input_of_a_network_of_relus(name: str) -> None:
    if name in ("cnn_lstm", "stepwise"):  # gates are constants, and tanh is no ReLU
        return
    model, query = toys.network(NETWORKS[name]()), toys.query(2)
    frames = query.frames.clone().requires_grad_()
    score = model(frames).gather(1, query.target[:, None]).sum()
    expected = frames.detach() * torch.autograd.grad(score, frames)[0]
    found = LRP(0.0, 0.0, input_rule=InputRule.gamma)(model, query).extras["attribution"]
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-11)


def test_an_lstm_follows_the_signals_step_by_step() -> None:
    """Arras et al. for one clip: R of h goes to c, R of c to what was kept and what is new, and on to x and h."""
    module = toys.Stepwise()
    cell, width, epsilon = module.lstm, 6, 0.2
    query = toys.query(1)
    method = LRP(epsilon, 0.0, lower=0.0, input_rule=InputRule.gamma)
    frames = query.frames[0].transpose(0, 1)
    features = module.features(frames)
    x, y = features.mean((2, 3)), int(query.target[0])
    h, c, seen = torch.zeros(width).double(), torch.zeros(width).double(), []
    for frame in x:
        z = cell.weight_ih_l0 @ frame + cell.weight_hh_l0 @ h + cell.bias_ih_l0 + cell.bias_hh_l0
        i, f, g, o = z[:6].sigmoid(), z[6:12].sigmoid(), z[12:18].tanh(), z[18:].sigmoid()
        before, h_before, c = c, h, f * c + i * g
        h = o * c.tanh()
        seen.append((h_before, before, z[12:18], i, f, g, h))
    arrived, r_h, r_c = torch.zeros_like(x), torch.zeros(width).double(), torch.zeros(width).double()
    for t in reversed(range(len(x))):
        h_before, before, z, i, f, g, h = seen[t]
        r_h = r_h + h * module.fc.weight[y] / len(x)  # LRP-0 of z_y: the denominator is z_y itself
        r_c = r_c + r_h
        total = f * before + i * g
        r_g, r_c = r_c * i * g / total, r_c * f * before / total
        below = z + epsilon * z.square().mean().sqrt() * sign(z)
        arrived[t] = sum(cell.weight_ih_l0[12 + k] * x[t] * r_g[k] / below[k] for k in range(width))
        r_h = sum(cell.weight_hh_l0[12 + k] * h_before * r_g[k] / below[k] for k in range(width))
    shares = features / features.sum((2, 3), keepdim=True) * arrived[:, :, None, None]
    conv = module.features[0]
    z = conv(frames)
    rms = z.flatten(1).square().mean(1).sqrt()[:, None, None, None]
    ratio = shares / (z + epsilon * rms * sign(z))
    back = torch.nn.grad.conv2d_input(frames.shape, conv.weight, ratio.nan_to_num(), stride=2, padding=1)
    found = method(toys.network(module), query).extras["attribution"][0].transpose(0, 1)
    torch.testing.assert_close(found, (frames * back).detach(), rtol=1e-8, atol=1e-12)


# --- Refusals --------------------------------------------------------------------------------------------------------


def test_what_has_no_rule_is_refused() -> None:
    with pytest.raises(MethodUndefinedError, match="relevance propagation has no rule for pow"):
        LRP()(toys.network(toys.Curved()), toys.query(2))
    with pytest.raises(MethodUndefinedError, match="relevance propagation has no rule for"):
        LRP()(toys.transformer(), toys.query(2))


class Scaled(toys.ConvNet):
    """A network that normalises its input itself."""

    def forward(self, frames: Tensor) -> Tensor:
        return super().forward(frames / 255 - 0.5)


def test_a_network_without_a_layer_on_the_voxels_has_no_box_rule() -> None:
    with pytest.raises(MethodUndefinedError, match=r"method\.input_rule=gamma"):
        LRP()(toys.network(Scaled()), toys.query(2))
    assert LRP(input_rule=InputRule.gamma)(toys.network(Scaled()), toys.query(2)).map.abs().max() > 0


class Padded(toys.ConvNet):
    """A network that pads the clip by a function, as I3D does."""

    def forward(self, frames: Tensor) -> Tensor:
        first, *rest = self.stem
        x = conv3d(nn.functional.pad(frames, (1,) * 6), first.weight, first.bias, stride=2)
        for part in rest:
            x = part(x)
        return self.fc(self.pool(self.features(x)).flatten(1))


def test_padding_by_a_function_is_that_of_the_convolution() -> None:
    found, expected = (LRP()(toys.network(module()), toys.query(2)).map for module in (Padded, toys.ConvNet))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("options", [{"epsilon": -1.0}, {"gamma": float("inf")}, {"lower": 1.5}])
def test_wrong_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"method.{next(iter(options))}="):
        LRP(**options)  # type: ignore[arg-type]
