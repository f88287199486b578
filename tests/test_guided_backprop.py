"""Guided backpropagation and deconvnet: against captum, on every way to write a ReLU, and where there is none."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

import toys
from conftest import ROOT

sys.path.append(str(ROOT / "scripts"))

import small_networks
from vidattr.api import read_clip
from vidattr.config.runtime import Device, Runtime
from vidattr.errors import MethodUndefinedError
from vidattr.methods.gradients.gradient import Gradient
from vidattr.methods.gradients.guided_backprop import GuidedBackprop, Rule, _relus
from vidattr.models.c3d_light import UCF101C3DLight
from vidattr.models.network.network import VideoModel
from vidattr.models.r2plus1d_light import UCF101R2Plus1DLight
from vidattr.types import Query

RULES = list(Rule)


def attribution(model: VideoModel, query: Query, rule: Rule = Rule.guided) -> Tensor:
    return GuidedBackprop(rule=rule)(model, query).extras["attribution"]


class Net(nn.Module):
    """Two convolutions, each followed by a given activation, and a pooled head."""

    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second = nn.Conv3d(3, 4, 3, padding=1), nn.Conv3d(4, 6, 3, padding=1)
        self.fc = nn.Linear(6, len(toys.CLASSES))
        self.activation = activation
        toys.reset(self)

    def forward(self, frames: Tensor) -> Tensor:
        x = self.activation(self.second(self.activation(self.first(frames))))
        return self.fc(x.mean((2, 3, 4)))


def literal(net: Net, clip: Tensor, target: int, rule: Rule) -> Tensor:
    """Layer by layer, without autograd's ReLU: each R is passed on by the transposed layer and the rule."""
    first = net.first(clip[None])
    second = net.second(first.clamp(min=0))
    cells = second[0, 0].numel()
    R = net.fc.weight[target].view(1, -1, 1, 1, 1).expand_as(second) / cells
    for x, convolution in ((second, net.second), (first, net.first)):
        R = R.clamp(min=0) * ((x > 0) if rule is Rule.guided else 1)
        R = functional.conv_transpose3d(R, convolution.weight, padding=1)
    return R[0]


@pytest.mark.parametrize("rule", RULES)
def test_it_is_the_backward_pass_of_the_papers(rule: Rule) -> None:
    net, query = Net(nn.ReLU()), toys.query(3)
    found = attribution(toys.network(net), query, rule)
    for n in range(3):
        expected = literal(net, query.frames[n], int(query.target[n]), rule)
        torch.testing.assert_close(found[n], expected, rtol=1e-11, atol=1e-14)
    assert not torch.allclose(found, Gradient()(toys.network(net), query).extras["attribution"], rtol=0.1)


WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "torch.relu": torch.relu,
    "F.relu": functional.relu,
    "F.relu in place": lambda x: functional.relu(x, inplace=True),
    "relu_": lambda x: x.relu_(),
    "clamp": lambda x: x.clamp(min=0),
    "clamp_min_": lambda x: x.clamp_min_(0.0),
    "threshold": lambda x: functional.threshold(x, 0, 0),
    "threshold_": lambda x: functional.threshold_(x, 0.0, 0.0),
    "ReLU6": lambda x: functional.relu6(x * 1.0),  # no value of this network reaches 6
    "hardtanh_": lambda x: functional.hardtanh_(x, 0, 50),
    "clamp to a range": lambda x: torch.clamp(x, 0, 50),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_relu_counts_however_it_is_written(way: Callable[[Tensor], Tensor], rule: Rule) -> None:
    query = toys.query(2)
    expected = attribution(toys.network(Net(nn.ReLU())), query, rule)
    torch.testing.assert_close(attribution(toys.network(Net(way)), query, rule), expected, rtol=1e-12, atol=0)


def test_a_clamp_at_another_level_is_no_relu() -> None:
    model, query = toys.network(Net(lambda x: x.clamp(min=-0.1) * torch.relu(x))), toys.query(2)
    plain, found = Gradient()(model, query).extras["attribution"], attribution(model, query)
    assert not torch.allclose(found, plain, rtol=0.1)
    for activation in (lambda x: x.clamp(min=-0.1), lambda x: functional.hardtanh(x), lambda x: x.clamp(max=0)):
        with pytest.raises(MethodUndefinedError, match="computes none"):
            attribution(toys.network(Net(activation)), query)


class Normed(Net):
    def __init__(self) -> None:
        super().__init__(torch.relu)
        self.norm = nn.BatchNorm3d(4).double()
        self.norm.running_var.fill_(2.0)  # type: ignore[union-attr]

    def forward(self, frames: Tensor) -> Tensor:
        x = torch.relu(self.second(functional.relu(self.norm(self.first(frames)))))
        return self.fc(x.mean((2, 3, 4)))


@pytest.mark.parametrize("rule", RULES)
def test_a_resident_network_runs_through_its_folded_copy(rule: Rule) -> None:
    query = toys.query(2)
    expected = attribution(toys.network(Normed()), query, rule)
    resident = toys.network(Normed()).run_with(Runtime(device=Device.cpu))
    assert resident.runs is not resident.module
    torch.testing.assert_close(attribution(resident, query, rule), expected, rtol=1e-11, atol=1e-15)


def test_a_compiled_network_runs_as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    model, query = toys.network(Net(torch.relu)), toys.query(2)
    expected = attribution(model, query)
    monkeypatch.setattr("vidattr.models.network.passes.Compiled", lambda _module: pytest.fail("was compiled"))
    model.compile = True
    assert torch.equal(attribution(model, query), expected)
    assert model.compile


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("activation", "named"),
    [
        (functional.gelu, "Gelu"),
        (functional.silu, "Silu"),
        (torch.tanh, "Tanh"),
        (functional.leaky_relu, "LeakyRelu"),
        (functional.elu, "Elu"),
    ],
)
def test_a_network_without_a_relu_is_refused(activation: Callable[[Tensor], Tensor], named: str, rule: Rule) -> None:
    with pytest.raises(MethodUndefinedError, match=f"computes none; its activations: {named}\n(.|\n)*method=gradient"):
        attribution(toys.network(Net(activation)), toys.query(), rule)
    with pytest.raises(MethodUndefinedError, match="computes none\n"):
        attribution(toys.network(toys.Linear()), toys.query(), rule)


class Count(TorchDispatchMode):
    """Counts the ReLUs that a pass computes, by the operations that run."""

    def __init__(self) -> None:
        super().__init__()
        self.relus = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.relus += func._overloadpacket.__name__ in ("relu", "relu_", "threshold", "hardtanh", "clamp_min")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["mfnet", "tsm_r50", "vgg16lstm", "slowfast_r50_4x16"])
def test_every_relu_that_a_network_computes_is_changed(name: str) -> None:
    network = small_networks.small_network(name)
    with Count() as count:
        score = network(small_networks.query(network).frames.requires_grad_())[:, 1].sum()
    assert len(_relus(score.grad_fn, Rule.guided)) == count.relus > 5


class Custom(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * (ctx.saved_tensors[0] > 0)


def test_a_hidden_relu_is_refused() -> None:
    def half_hidden(x: Tensor) -> Tensor:
        return torch.relu(Custom.apply(x))  # type: ignore[no-untyped-call]

    with pytest.raises(MethodUndefinedError, match="cannot see the ReLUs inside of CustomBackward"):
        attribution(toys.network(Net(half_hidden)), toys.query())


def half_of_doubled(x: Tensor) -> Tensor:
    return torch.relu(x + x) / 2


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_torchscript_is_refused_or_seen() -> None:
    scripted = torch.jit.script(half_of_doubled)
    model, query = toys.network(Net(scripted)), toys.query(2)
    expected = attribution(toys.network(Net(nn.ReLU())), query)
    for _ in range(4):  # its first passes run operation by operation, later ones as one graph
        try:
            torch.testing.assert_close(attribution(model, query), expected, rtol=1e-12, atol=0)
        except MethodUndefinedError as error:
            assert "DifferentiableGraph" in error.found  # noqa: PT017 - either answer is right


@pytest.fixture(scope="module", params=["r2plus1d", "c3d"])
def real_query(real: Path, request: pytest.FixtureRequest) -> tuple[VideoModel, Query]:
    """A real clip and a network trained on such clips, in float64 at 48 × 48."""
    kinds: dict[str, Any] = {"r2plus1d": UCF101R2Plus1DLight, "c3d": UCF101C3DLight}
    kind = kinds[request.param]
    weights = real / "weights" / f"{request.param}_light_ucf101.pth"
    model = kind(weights=str(weights), input=dataclasses.replace(kind().input, size=[48, 48])).load()
    frames = read_clip(real / "ucf101_24" / "UCF-101" / "Biking" / "v_Biking_g01_c01.avi", model)
    model.module.double()
    return model, Query(frames.double(), torch.tensor([model.classes.index("Biking")]), (0,))


@pytest.mark.real
@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU")
@pytest.mark.parametrize("rule", RULES)
def test_captum_agrees_on_a_real_clip(real_query: tuple[VideoModel, Query], rule: Rule) -> None:
    captum = pytest.importorskip("captum.attr")
    model, query = real_query
    kind = {Rule.guided: captum.GuidedBackprop, Rule.deconvnet: captum.Deconvolution}[rule]
    leaf = query.frames.clone().requires_grad_()
    expected = kind(model.module).attribute(leaf, query.target)
    found = attribution(model, query, rule)
    assert expected.abs().max() > 0
    assert ((found - expected).abs().max() / expected.abs().max()) < 1e-10
    plain = Gradient()(model, query).extras["attribution"]
    assert (found - plain).abs().max() > 0.1 * plain.abs().max()
