"""DeepLIFT's Rescale rule against captum, against its equations with matrices, and where it is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

import toys
from vidattr.api import read_clip
from vidattr.errors import ConfigError, MethodUndefinedError
from vidattr.methods.gradients.integrated_gradients import Baseline
from vidattr.methods.relevance.deep_lift import DeepLift
from vidattr.models.c3d_light import UCF101C3DLight
from vidattr.models.network.network import VideoModel
from vidattr.models.r2plus1d_light import UCF101R2Plus1DLight
from vidattr.types import Query


class Modules(nn.Module):
    """Residual branches, BatchNorm, pools, and activations, all as modules."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv3d(3, 4, 3, padding=1), nn.Conv3d(4, 4, 3, padding=1)
        self.norm1, self.norm2 = nn.BatchNorm3d(4), nn.BatchNorm3d(4)
        self.short = nn.Conv3d(4, 4, 1)
        self.pool = nn.AvgPool3d((1, 2, 2))
        self.mean = nn.AdaptiveAvgPool3d(1)
        self.hidden, self.fc = nn.Linear(4, 6), nn.Linear(6, len(toys.CLASSES))
        self.act1, self.act2, self.act3, self.act4 = nn.ReLU(), nn.ReLU(), nn.LeakyReLU(0.1), nn.Tanh()
        toys.reset(self)
        for seed, norm in enumerate((self.norm1, self.norm2)):
            norm.running_mean, norm.running_var = toys.seeded(4, seed=seed) / 4, toys.seeded(4, seed=9).abs() + 0.5

    def forward(self, frames: Tensor) -> Tensor:
        x = self.pool(self.act1(self.norm1(self.conv1(frames))))
        y = self.act2(self.norm2(self.conv2(x))) + self.short(x)
        return self.fc(self.act4(self.hidden(self.mean(self.act3(y)).flatten(1))))


class Functions(Modules):
    """The same network, of functions, methods and in-place operations."""

    def forward(self, frames: Tensor) -> Tensor:
        x = F.avg_pool3d(torch.relu_(self.norm1(self.conv1(frames))), (1, 2, 2))
        y = F.relu(self.norm2(self.conv2(x)))
        y += self.short(x)
        y = F.leaky_relu(y, 0.1)
        return F.linear(self.hidden(y.mean((2, 3, 4))).tanh(), self.fc.weight, self.fc.bias)


def captums(model: VideoModel, query: Query, start: Tensor) -> Tensor:
    """What captum computes; it warns of the hooks that it sets."""
    captum: Any = pytest.importorskip("captum.attr")
    method = captum.DeepLift(model.module, eps=1e-7)
    with pytest.warns(UserWarning, match="hooks"):
        return method.attribute(query.frames.clone().requires_grad_(), start, query.target).detach()


def relative(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    assert expected.abs().max() > 0
    return ((found - expected).abs().max() / expected.abs().max()).item()


BASELINES = {
    Baseline.black: lambda model, x: model.view.colour(x, 0.0).expand_as(x),
    Baseline.zero: lambda _model, x: torch.zeros_like(x),
}


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("module", [Modules, Functions])
def test_captum_computes_the_same_on_modules(module: type[Modules], baseline: Baseline) -> None:
    model, query = toys.network(module()), toys.query(3)
    result = DeepLift(baseline=baseline)(model, query)
    expected = captums(toys.network(Modules()), query, BASELINES[baseline](model, query.frames))
    assert relative(result.extras["attribution"], expected) < 1e-10
    torch.testing.assert_close(result.map, expected.sum(1).float())


def test_captum_shares_a_maximum_in_the_same_way() -> None:
    """Only where maxima rise, and before a linear layer: elsewhere captum differs, and may not sum to Δs."""
    pool = nn.MaxPool3d((1, 2, 2))
    tail = (nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, len(toys.CLASSES)))
    model = toys.network(toys.reset(nn.Sequential(nn.Conv3d(3, 4, 3, padding=1), nn.ReLU(), pool, *tail)))
    query = toys.query(2)
    expected = captums(model, query, torch.zeros_like(query.frames))
    assert relative(DeepLift(Baseline.zero)(model, query).extras["attribution"], expected) < 1e-10


def real_c3d(real: Path) -> tuple[VideoModel, Query]:
    view = dataclasses.replace(UCF101C3DLight().input, size=[32, 32])
    model = UCF101C3DLight(weights=str(real / "weights" / "c3d_light_ucf101.pth"), input=view).load()
    model.module.double()
    frames = read_clip(real / "ucf101_24" / "UCF-101" / "Biking" / "v_Biking_g01_c01.avi", model).double()
    return model, Query(frames, torch.tensor([model.classes.index("Biking")]), (0,))


@pytest.mark.real
def test_captum_computes_the_same_on_a_real_clip(real: Path) -> None:
    model, query = real_c3d(real)
    for block in (model.module.conv1, model.module.conv2, model.module.conv3):  # captum's maxima: see above
        block[3] = nn.AvgPool3d(2)  # type: ignore[index]
    expected = captums(model, query, model.view.colour(query.frames, 0.0).expand_as(query.frames))
    assert relative(DeepLift()(model, query).extras["attribution"], expected) < 1e-10


@pytest.mark.real
def test_the_attributions_of_a_real_clip_sum_to_the_change_of_the_score(real: Path) -> None:
    explained, change, error = DeepLift()(*real_c3d(real)).extras["completeness"][0].tolist()
    assert abs(change) > 0.1
    assert abs(error) < 1e-10 * abs(change)
    assert explained - change == pytest.approx(error)


@pytest.mark.real
def test_a_residual_network_of_functions_is_explained_completely_on_a_real_clip(real: Path) -> None:
    weights = str(real / "weights" / "r2plus1d_light_ucf101.pth")
    view = dataclasses.replace(UCF101R2Plus1DLight().input, size=[32, 32])
    model = UCF101R2Plus1DLight(weights=weights, input=view).load()
    model.module.double()
    frames = read_clip(real / "ucf101_24" / "UCF-101" / "Biking" / "v_Biking_g01_c01.avi", model).double()
    for method in (DeepLift(), DeepLift(Baseline.blur, normalise=True)):
        _, change, error = method(model, Query(frames, torch.tensor([3]), (0,))).extras["completeness"][0].tolist()
        assert abs(error) < 1e-10 * abs(change)


# --- The equations, with matrices ------------------------------------------------------------------------------------


class Sequence(nn.Module):
    """linear → activation → linear, over the voxels of a clip."""

    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 5), nn.Linear(5, len(toys.CLASSES))
        self.activation = activation
        toys.reset(self)

    def forward(self, frames: Tensor) -> Tensor:
        return self.last(self.activation(self.first(frames.flatten(1))))


CURVES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "gelu": nn.GELU(),
    "hardswish": nn.Hardswish(),
    "softplus": F.softplus,
    "clamp": lambda x: x.clamp(-0.5, 0.5),
    "square": lambda x: x**2,
    "one minus": lambda x: (1 - x.sigmoid()).abs(),
    "reciprocal": lambda x: 1 / (x.exp() + 1),
    "in place": lambda x: (x * 1).sigmoid_(),
    "larger than a constant": lambda x: torch.maximum(x, torch.full_like(x, 0.2)),
}


@pytest.mark.parametrize("curve", CURVES)
def test_functions_of_single_values_multiply_by_the_slope_of_the_chord(curve: str) -> None:
    module = Sequence(CURVES[curve])
    model = toys.network(module, size=(1, 2, 2, 2))
    query = toys.query(2, size=(1, 2, 2, 2))
    found = DeepLift(Baseline.zero)(model, query).extras["attribution"]
    for n, (clip, y) in enumerate(zip(query.frames, query.target.tolist(), strict=True)):
        h, h0 = module.first(clip.flatten()), module.first(torch.zeros(8, dtype=torch.float64))
        chord = (module.activation(h) - module.activation(h0)) / (h - h0)
        multiplier = [
            sum(float(module.last.weight[y, k] * chord[k] * module.first.weight[k, j]) for k in range(5))
            for j in range(8)
        ]
        expected = torch.tensor(multiplier, dtype=torch.float64).view_as(clip) * clip
        torch.testing.assert_close(found[n], expected, rtol=1e-10, atol=1e-13)


def test_where_the_input_of_an_activation_does_not_change_its_derivative_counts() -> None:
    module = Sequence(torch.tanh)
    with torch.no_grad():
        module.first.weight[:, 1:] = 0
        module.first.weight[0, 0] = 0  # its Δx is 0
        module.first.weight[1, 0] = 1e-9
    model = toys.network(module, size=(1, 2, 2, 2))
    query = toys.query(1, size=(1, 2, 2, 2))
    found = DeepLift(Baseline.zero)(model, query).extras
    assert found["attribution"].isfinite().all()
    assert abs(float(found["completeness"][0, 2])) < 1e-12


class Largest(nn.Module):
    """Maxima of several kinds, over features that change from the baseline to either side."""

    def __init__(self, largest: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Conv3d(1, 4, 1), nn.Linear(4, len(toys.CLASSES))
        self.largest = largest
        toys.reset(self)

    def forward(self, frames: Tensor) -> Tensor:
        return self.last(self.largest(self.first(frames)).mean((2, 3, 4)))


MAXIMA: dict[str, Callable[[Tensor], Tensor]] = {
    "overlapping pool": nn.MaxPool3d(2, stride=1, padding=1),
    "adaptive pool": nn.AdaptiveMaxPool3d((1, 2, 1)),
    "amax": lambda x: x.amax((3, 4), keepdim=True),
    "max": lambda x: x.max(2, keepdim=True)[0],
    "maximum": lambda x: torch.maximum(x, x.flip(4)),
    "method": lambda x: x.max(x.flip(3) * 0.5),
}


@pytest.mark.parametrize("name", MAXIMA)
def test_the_change_of_a_maximum_is_shared_completely(name: str) -> None:
    model = toys.network(Largest(MAXIMA[name]), size=(1, 2, 4, 3))
    for baseline in (Baseline.zero, Baseline.blur):
        found = DeepLift(baseline, blur_sigma=1.0)(model, toys.query(4, size=(1, 2, 4, 3))).extras
        assert found["completeness"][:, 1].abs().min() > 1e-3
        torch.testing.assert_close(found["completeness"][:, 2], torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-13)


def test_a_rise_is_due_to_the_largest_input_and_a_fall_to_the_baselines_largest() -> None:
    module = Largest(nn.MaxPool3d((1, 1, 3)))
    with torch.no_grad():
        module.first.weight.fill_(1)
        module.first.bias.zero_()
        module.last.weight.fill_(0.25)  # the logit is the largest voxel
    model = toys.network(module, size=(1, 1, 1, 3))
    risen = torch.tensor([0.5, 2.0, -1.0], dtype=torch.float64).view(1, 1, 1, 1, 3)
    fallen = torch.tensor([-1.0, -3.0, -2.0], dtype=torch.float64).view(1, 1, 1, 1, 3)
    for clip, expected in ((risen, [0.0, 2.0, 0.0]), (fallen, [-1.0, 0.0, 0.0])):
        found = DeepLift(Baseline.zero)(model, Query(clip, torch.tensor([1]), (0,))).extras["attribution"]
        assert found.flatten().tolist() == pytest.approx(expected)


# --- Refusals --------------------------------------------------------------------------------------------------------


class Own(torch.autograd.Function):
    """A function of torch's users, which no mode sees."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class Around(nn.Module):
    """A network with one operation of its own choice."""

    def __init__(self, operation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv3d(3, 4, 1), nn.Linear(4, len(toys.CLASSES))
        self.operation = operation
        toys.reset(self)

    def forward(self, frames: Tensor) -> Tensor:
        return self.fc(self.operation(self.conv(frames).mean((3, 4)).transpose(1, 2)).mean(1))


REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "gate": (lambda x: x * x.sigmoid(), "mul: a product of two values that both depend on the clip"),
    "ratio": (lambda x: x / (1 + x.exp()), "div: a product of two values"),
    "attention": (lambda x: (x @ x.transpose(1, 2)) @ x, "matmul: a product of two values"),
    "softmax": (lambda x: x.softmax(2), "softmax, which is neither linear nor a function of single values"),
    "layer norm": (lambda x: F.layer_norm(x, (4,)), "layer_norm, which is neither"),
    "gru": (nn.GRU(4, 4, batch_first=True).double().requires_grad_(False), "gru"),
    "custom": (Own.apply, "the custom function Own"),
    "power": (lambda x: (x.abs() + 1) ** x, "pow of two values"),
}


class First(nn.Module):
    """The outputs of a recurrent layer without its state."""

    def __init__(self, inside: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        found = self.inside(x)
        return found[0] if isinstance(found, tuple) else found


@pytest.mark.parametrize("kind", REFUSED)
def test_what_the_rule_is_not_defined_for_is_refused_with_the_reason(kind: str) -> None:
    operation, words = REFUSED[kind]
    model = toys.network(Around(First(operation)))
    with pytest.raises(MethodUndefinedError, match=words):
        DeepLift()(model, toys.query(2))
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.module.modules())


@pytest.mark.parametrize("make", [toys.cnn_lstm, toys.stepwise, toys.transformer])
def test_lstms_and_transformers_are_refused(make: Callable[[], VideoModel]) -> None:
    with pytest.raises(MethodUndefinedError, match=r"both depend on the clip|neither linear"):
        DeepLift()(make(), toys.query(2))


def test_a_network_that_runs_other_operations_on_the_baseline_is_refused() -> None:
    model = toys.network(Around(lambda x: x.relu() if x.detach().mean() > -0.4 else x.tanh()))
    frames = toys.query(1).frames
    with pytest.raises(MethodUndefinedError, match="other operations on the clip"):
        for shift in (-8.0, 8.0):
            DeepLift(Baseline.zero)(model, Query(frames + shift, torch.tensor([0]), (0,)))


def test_the_options_of_the_baseline_are_checked() -> None:
    for options in ({"blur_sigma": 0.0}, {"baseline": Baseline.image}, {"baseline_file": "x.png"}):
        with pytest.raises(ConfigError, match=r"method\.b"):
            DeepLift(**options)  # type: ignore[arg-type]
