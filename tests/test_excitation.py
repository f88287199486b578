from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack

import toys
from vidattr.datasets.ucf101_24 import UCF24
from vidattr.errors import MethodUndefinedError
from vidattr.methods.excitation.eb_r import ExcitationBackprop, Steps
from vidattr.methods.excitation.trace import Trace
from vidattr.methods.shared.upsampling import TimeUpsample, trilinear
from vidattr.models.lrcn import UCF50LRCN
from vidattr.models.mfnet import MFNet
from vidattr.models.network.lstm import Activation, unrolled_lstm
from vidattr.models.network.network import VideoModel
from vidattr.models.torchvision_resnet import Architecture, TorchvisionResNet
from vidattr.models.tsm import TSM
from vidattr.models.vgg16lstm import Average, Backbone, RecurrentCNN
from vidattr.types import Box, Query
from vidattr.video.decode import read


def positive(*size: int, seed: int = 7) -> Tensor:
    return toys.seeded(*size, seed=seed).abs()


def excited(function: Callable[[Tensor], Tensor], x: Tensor, mass: Tensor) -> Tensor:
    """Returns the mass that arrives at x."""
    leaf = x.clone().requires_grad_()
    with Trace().over(nn.Identity(), x):
        output = function(leaf.clone())
    torch.testing.assert_close(output, function(x.clone()))
    return torch.autograd.grad(output, leaf, mass)[0]


# --- One layer -------------------------------------------------------------------------------------------------------


def literal(function: Callable[[Tensor], Tensor], x: Tensor, mass: Tensor) -> Tensor:
    """Equation 4 of Zhang et al., unit by unit, with the matrix W of a linear layer read off its Jacobian."""
    W = torch.autograd.functional.jacobian(function, x).reshape(mass.numel(), x.numel())
    u, p = x.flatten().clamp(min=0), mass.flatten()
    found = torch.zeros_like(u)
    for i in range(len(p)):
        total = sum(max(W[i, k], 0.0) * u[k] for k in range(len(u)))
        for j in range(len(u)):
            if total > 0:
                found[j] += u[j] * max(W[i, j], 0.0) * p[i] / total
    return found.view_as(x)


def frozen(module: nn.Module) -> nn.Module:
    return toys.reset(module, seed=3).eval().requires_grad_(False)


MATRIX = toys.seeded(5, 3, seed=9)
LINEAR: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]] = {
    "linear": (frozen(nn.Linear(5, 4)), (2, 5)),
    "linear without bias": (frozen(nn.Linear(5, 4, bias=False)), (2, 3, 5)),
    "conv1d": (frozen(nn.Conv1d(2, 3, 3, stride=2, padding=1)), (1, 2, 7)),
    "conv2d in groups": (frozen(nn.Conv2d(4, 4, 2, groups=2)), (1, 4, 3, 4)),
    "conv3d": (frozen(nn.Conv3d(2, 2, (1, 2, 3), padding=(0, 1, 1))), (1, 2, 2, 3, 3)),
    "dilated": (frozen(nn.Conv2d(1, 2, 2, dilation=2)), (1, 1, 4, 5)),
    "avg pool": (nn.AvgPool3d(2, stride=1), (1, 1, 2, 3, 3)),
    "adaptive avg pool": (nn.AdaptiveAvgPool2d((2, 1)), (1, 2, 3, 4)),
    "mean": (lambda x: x.mean((1, 2)), (2, 3, 4)),
    "sum": (lambda x: x.sum(1), (2, 3)),
    "matmul": (lambda x: x @ MATRIX, (2, 5)),
    "weighted": (lambda x: x * MATRIX, (5, 3)),
    "divided": (lambda x: x / MATRIX, (5, 3)),
    "scalar": (lambda x: 2 * x, (3,)),
}


@pytest.mark.parametrize(("function", "size"), LINEAR.values(), ids=LINEAR)
def test_linear_layers_share_by_equation_4(function: Callable[[Tensor], Tensor], size: tuple[int, ...]) -> None:
    x = toys.seeded(*size)
    mass = positive(*function(x).shape, seed=4)
    found = excited(function, x, mass)
    torch.testing.assert_close(found, literal(function, x, mass), rtol=1e-12, atol=1e-12)
    if function not in (LINEAR["weighted"][0], LINEAR["divided"][0]):
        assert 0 < found.sum() <= mass.sum() + 1e-12


def test_where_nothing_excites_nothing_is_shared() -> None:
    layer = frozen(nn.Linear(3, 2))
    assert excited(layer, -positive(4, 3), positive(4, 2)).abs().max() == 0
    tiny = torch.full((1, 3), 1e-310, dtype=torch.float64)
    assert excited(layer, tiny, positive(1, 2)).isfinite().all()


def test_a_factor_of_zero_gets_no_mass() -> None:
    x, factor = positive(4), torch.tensor([2.0, 0, -1, 0.5], dtype=torch.float64)
    for function in (lambda x: x * factor, lambda x: factor * x):
        assert excited(function, x, positive(4, seed=4)).tolist() == [*positive(4, seed=4) * (factor > 0)]


def test_units_biases_and_normalisations_pass_all_on() -> None:
    x, mass = toys.seeded(2, 3, 4), positive(2, 3, 4, seed=4)
    norm = nn.BatchNorm1d(3).double().eval()
    norm.running_mean, norm.running_var = toys.seeded(3), positive(3)
    activations = (torch.relu, nn.ReLU6(), nn.ReLU(inplace=True), nn.Hardswish(), torch.tanh, torch.Tensor.relu_)
    biases = (lambda x: x + 1, lambda x: x - toys.seeded(4), lambda x: toys.seeded(4) + x)
    for function in (*activations, *biases, norm, nn.Dropout().eval()):
        assert torch.equal(excited(function, x, mass), mass)
    grown = excited(lambda x: x + torch.ones(2, 3, 4, dtype=x.dtype), x[:1], mass)
    assert torch.equal(grown, mass.sum(0, keepdim=True))


def test_the_winner_takes_all() -> None:
    x = torch.tensor([[[1.0, 3, 2, -5, 0, -1]]], dtype=torch.float64)
    mass = torch.tensor([[[1.0, 2, 4]]], dtype=torch.float64)
    assert excited(nn.MaxPool1d(2), x, mass).tolist() == [[[0, 1, 2, 0, 4, 0]]]
    assert excited(lambda x: x.amax(2), x, mass[..., 0]).tolist() == [[[0, 1, 0, 0, 0, 0]]]
    assert excited(lambda x: x.max(2)[0], x, mass[..., 0]).tolist() == [[[0, 1, 0, 0, 0, 0]]]


def add_in_place(x: Tensor, y: Tensor) -> Tensor:
    total = x * 1
    total += y
    return total


def add_method(x: Tensor, y: Tensor) -> Tensor:
    total = x * 1
    total.add_(y)
    return total


@pytest.mark.parametrize("add", [torch.add, lambda x, y: x + y, add_in_place, add_method])
def test_a_sum_is_shared_in_proportion_to_its_branches(add: Callable[[Tensor, Tensor], Tensor]) -> None:
    x = torch.tensor([[3.0, 1], [2, -1], [-2, 6], [-1, -1]], dtype=torch.float64)
    found = excited(lambda x: add(x[:, 0], x[:, 1]), x, torch.full((4,), 8.0, dtype=torch.float64))
    assert found.tolist() == [[6, 2], [8, 0], [0, 8], [0, 0]]


# --- Whole networks --------------------------------------------------------------------------------------------------


class Branches(nn.Module):
    """All that 3-D CNNs are built of: BatchNorm, a shortcut added in place, parallel branches, pools of both kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(3, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(inplace=True))
        self.pool = nn.MaxPool3d((1, 2, 2))
        self.body = nn.Sequential(
            nn.Conv3d(4, 4, (1, 3, 3), padding=(0, 1, 1)), nn.BatchNorm3d(4), nn.ReLU(inplace=True)
        )
        self.left, self.right = (
            nn.Conv3d(4, 3, 1),
            nn.Sequential(nn.AvgPool3d(3, 1, 1), nn.Conv3d(4, 2, (3, 1, 1), padding=(1, 0, 0))),
        )
        self.join = nn.Identity()
        self.head = nn.Conv3d(5, len(toys.CLASSES), 1)
        toys.reset(self)
        for parameter in self.parameters():
            parameter.data.abs_()

    def forward(self, frames: Tensor) -> Tensor:
        x = self.pool(self.stem(frames))
        out = self.body(x)
        out += x
        out = self.join(torch.cat([self.left(out), self.right(out)], 1).relu())
        return self.head(out).mean((2, 3, 4))


@pytest.mark.parametrize("layer", ["stem.0", "stem", "pool", "body.0", "left", "join"])
def test_mass_is_kept_layer_by_layer(layer: str) -> None:
    model = toys.network(Branches(), layer=layer)
    query = toys.query(3)
    query = Query(query.frames.abs(), query.target, query.seeds)  # weights and input positive: every denominator is
    cam = ExcitationBackprop()(model, query).extras["cam"]
    expected = torch.full((3,), 4.0, dtype=torch.float64)  # one for each of four steps
    if layer in ("body.0", "left"):  # the other branch has its share
        assert (cam.sum((1, 2, 3)) < expected).all()
        assert (cam.sum((1, 2, 3)) > 0.2 * expected).all()
    else:
        torch.testing.assert_close(cam.sum((1, 2, 3)), expected, rtol=1e-12, atol=0)


def two_layers(biased: bool) -> VideoModel:
    module = toys.Stepwise()
    module.lstm = nn.LSTM(4, 6, num_layers=2, bias=biased, batch_first=True)
    return toys.network(toys.reset(module), layer="features", unfold=toys.unfold)


@pytest.mark.parametrize("biased", [True, False])
def test_layers_of_an_lstm_lie_on_top_of_each_other(biased: bool) -> None:
    cam = ExcitationBackprop()(two_layers(biased), toys.query()).extras["cam"]
    assert (cam.sum((2, 3)) > 0).any(1).all()
    assert (cam.sum((1, 2, 3)) <= 4 + 1e-12).all()


NETWORKS = {
    "branches": lambda: toys.network(Branches(), layer="stem"),
    "conv_net": toys.conv_net,
    "cnn_lstm": toys.cnn_lstm,
    "stepwise": toys.stepwise,
    "two layers": lambda: two_layers(True),
    "two layers without bias": lambda: two_layers(False),
}


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_the_network_answers_as_ever_while_it_is_traced(make: Callable[[], VideoModel]) -> None:
    model, frames = make(), toys.query().frames
    with Trace().over(model.module, frames):
        logits, _ = model.activations(frames)
    torch.testing.assert_close(logits, model(frames), rtol=1e-12, atol=1e-12)


def shared(u: Tensor, W: Tensor, p: Tensor) -> Tensor:
    """Equation 4 for one linear layer: u (D), W (O, D), p (O)."""
    found = torch.zeros_like(u)
    for i in range(len(p)):
        total = sum(W[i, k].clamp(min=0) * u[k].clamp(min=0) for k in range(len(u)))
        for j in range(len(u)):
            if total > 0:
                found[j] += u[j].clamp(min=0) * W[i, j].clamp(min=0) * p[i] / total
    return found


def lstm_masses(module: toys.Stepwise, x: Tensor, y: int, sign: int, excited_steps: list[int]) -> Tensor:
    """What arrives at the LSTM's input (T, D) per step: the gates' sum goes to x alone, c alone carries in time."""
    cell, H = module.lstm, module.lstm.hidden_size
    h = c = torch.zeros(H, dtype=x.dtype)
    states = []
    for frame in x:
        gates = cell.weight_ih_l0 @ frame + cell.bias_ih_l0 + cell.weight_hh_l0 @ h + cell.bias_hh_l0
        i, f, g, o = (
            gates[:H].sigmoid(),
            gates[H : 2 * H].sigmoid(),
            gates[2 * H : 3 * H].tanh(),
            gates[3 * H :].sigmoid(),
        )
        before, c = c, f * c + i * g
        h = o * c.tanh()
        states.append((i, f, g, o, before, c, h))
    found = torch.zeros_like(x)
    from_later = torch.zeros(H, dtype=x.dtype)
    for s in reversed(range(len(x))):
        i, f, g, o, before, c, h = states[s]
        one = torch.zeros(len(toys.CLASSES), dtype=x.dtype)
        one[y] = float(s in excited_steps)
        p_h = shared(h, sign * module.fc.weight, one)
        p_c = from_later + p_h * o * (1 - c.tanh() ** 2)
        p_gates = torch.cat(
            [p_c * g * i * (1 - i), p_c * before * f * (1 - f), p_c * i * (1 - g**2), p_h * c.tanh() * o * (1 - o)]
        )
        from_later = p_c * f
        found[s] = shared(x[s], cell.weight_ih_l0, p_gates)
    return found * len(excited_steps) / found.abs().sum()


@pytest.mark.parametrize("contrastive", [False, True])
@pytest.mark.parametrize("steps", Steps)
def test_eb_r_is_its_equations_step_by_step(contrastive: bool, steps: Steps) -> None:
    model, query = toys.stepwise(), toys.query(2)
    module = model.module
    assert isinstance(module, toys.Stepwise)
    found = ExcitationBackprop(contrastive, steps)(model, query).extras["cam"]
    for n in range(2):
        features = module.features(query.frames[n].transpose(0, 1))  # (T, c, h, w)
        x = features.mean((2, 3))
        chosen = list(range(len(x))) if steps is Steps.every else [len(x) - 1]
        mass = lstm_masses(module, x, int(query.target[n]), 1, chosen)
        if contrastive:
            mass = mass - lstm_masses(module, x, int(query.target[n]), -1, chosen)
        expected = (
            (features / features.sum((2, 3), keepdim=True) * mass[:, :, None, None]).nan_to_num().sum(1).clamp(min=0)
        )
        assert expected.max() > 0
        torch.testing.assert_close(found[n], expected, rtol=1e-10, atol=1e-12)


class Cells(toys.Stepwise):
    """Stepwise with a cell and a loop in place of the layer, and a head that runs at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(4, 6).double()
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(self.cell, name).data.copy_(getattr(self.lstm, f"{name}_l0"))

    def forward(self, frames: Tensor) -> Tensor:
        x = self.features(frames.transpose(1, 2).flatten(0, 1)).mean((2, 3)).view(len(frames), frames.shape[2], -1)
        state, total = None, 0
        for s in range(x.shape[1]):
            state = self.cell(x[:, s], state)
            total = total + self.fc(state[0]).softmax(1)
        return (total / x.shape[1]).log()


class TimeFirst(toys.Stepwise):
    """Stepwise with an LSTM whose first axis is time."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm.batch_first = False

    def forward(self, frames: Tensor) -> Tensor:
        x = self.features(frames.transpose(1, 2).flatten(0, 1)).mean((2, 3)).view(len(frames), frames.shape[2], -1)
        steps = self.lstm(x.transpose(0, 1))[0].transpose(0, 1)
        return self.fc(steps).softmax(2).mean(1).log()


class Unrolled(toys.Stepwise):
    """Stepwise with the LSTM that the project's own CNN-LSTMs have."""

    def forward(self, frames: Tensor) -> Tensor:
        x = self.features(frames.transpose(1, 2).flatten(0, 1)).mean((2, 3)).view(len(frames), frames.shape[2], -1)
        i, f, g, o = range(4)
        rows = torch.cat([torch.arange(6) + 6 * gate for gate in (i, f, o, g)])
        lstm = self.lstm
        bias = (lstm.bias_ih_l0 + lstm.bias_hh_l0)[rows]
        steps = unrolled_lstm(
            x, lstm.weight_ih_l0[rows], bias, lstm.weight_hh_l0[rows], activation=Activation.tanh, truncated=False
        )
        return self.fc(steps).softmax(2).mean(1).log()


@pytest.mark.parametrize("module", [Cells, TimeFirst, Unrolled])
@pytest.mark.parametrize("steps", Steps)
def test_an_lstm_is_explained_alike_however_it_is_written(module: type[toys.Stepwise], steps: Steps) -> None:
    query, method = toys.query(3), ExcitationBackprop(True, steps)
    model = toys.network(module(), layer="features", unfold=toys.unfold)
    torch.testing.assert_close(model(query.frames), toys.stepwise()(query.frames), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(method(model, query).map, method(toys.stepwise(), query).map, rtol=1e-5, atol=1e-7)


class Relu(Unrolled):
    """An LSTM with ReLU, whose gradients in time may be cut."""

    truncated = False

    def forward(self, frames: Tensor) -> Tensor:
        x = self.features(frames.transpose(1, 2).flatten(0, 1)).mean((2, 3)).view(len(frames), frames.shape[2], -1)
        lstm = self.lstm
        bias = lstm.bias_ih_l0 + lstm.bias_hh_l0
        steps = unrolled_lstm(
            x, lstm.weight_ih_l0, bias, lstm.weight_hh_l0, activation=Activation.relu, truncated=self.truncated
        )
        return self.fc(steps).softmax(2).mean(1).log()


@pytest.mark.parametrize("truncated", [False, True])
def test_mass_of_the_last_step_moves_in_time_unless_the_state_is_cut(truncated: bool) -> None:
    module = Relu()
    module.truncated = truncated
    model = toys.network(module, layer="features", unfold=toys.unfold)
    cam = ExcitationBackprop(steps=Steps.last)(model, toys.query(3)).extras["cam"]
    torch.testing.assert_close(cam.sum((1, 2, 3)), torch.ones(3, dtype=torch.float64), rtol=1e-12, atol=0)
    arrived = cam.sum((2, 3)) > 0
    assert arrived[:, -1].all()
    assert arrived[:, :-1].any() != truncated


class PerFrame(nn.Module):
    """Frames folded into the batch, and a Conv2d that scores every place of every frame."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
        self.head = nn.Conv2d(4, len(toys.CLASSES), 1)
        toys.reset(self)
        self.head.weight.data.abs_()

    def forward(self, frames: Tensor) -> Tensor:
        scores = self.head(self.features(frames.transpose(1, 2).flatten(0, 1)))
        return scores.mean((2, 3)).view(len(frames), frames.shape[2], -1).mean(1)


@pytest.mark.parametrize("frames", [1, 4])
@pytest.mark.parametrize("steps", Steps)
def test_a_step_has_the_mass_1_however_many_places_it_scores(frames: int, steps: Steps) -> None:
    model = toys.network(PerFrame(), layer="features", unfold=toys.unfold)
    cam = ExcitationBackprop(steps=steps)(model, toys.query(2, size=(3, frames, 6, 8))).extras["cam"]
    expected = torch.ones(2, frames, dtype=torch.float64)
    if steps is Steps.last:
        expected[:, :-1] = 0
    torch.testing.assert_close(
        cam.sum((2, 3)), expected, rtol=0.3, atol=0
    )  # what a place without a live unit would get is lost
    torch.testing.assert_close(cam.sum((1, 2, 3)), expected.sum(1), rtol=1e-12, atol=0)


def test_steps_are_repeated_or_joined_in_time() -> None:
    model, query = toys.conv_net(), toys.query(2)
    linear, repeated = (
        ExcitationBackprop(time_upsample=time)(model, query) for time in (TimeUpsample.linear, TimeUpsample.repeat)
    )
    cam = linear.extras["cam"]
    assert cam.shape == (2, 2, 3, 4)
    steps = trilinear(cam, (2, 6, 8)).float()  # in space only
    torch.testing.assert_close(repeated.map, steps[:, [0, 0, 1, 1]])
    torch.testing.assert_close(linear.map[:, 1], 0.75 * steps[:, 0] + 0.25 * steps[:, 1])
    assert torch.equal(ExcitationBackprop()(model, query).map, linear.map)


class ScoresTimeFirst(TimeFirst):
    """Its head reads (T, N, H), so that its scores look like those of T clips."""

    def forward(self, frames: Tensor) -> Tensor:
        x = self.features(frames.transpose(1, 2).flatten(0, 1)).mean((2, 3)).view(len(frames), frames.shape[2], -1)
        return self.fc(self.lstm(x.transpose(0, 1))[0]).softmax(2).mean(0).log()


@pytest.mark.parametrize("clips", [2, 4])
def test_scores_whose_first_axis_is_time_are_refused_not_mistaken_for_clips(clips: int) -> None:
    query = toys.query(clips)
    with pytest.raises(MethodUndefinedError, match=r"no rule for scores of shape \(4, 2, 4\) for 2 clips"):
        ExcitationBackprop()(toys.network(ScoresTimeFirst(), layer="features", unfold=toys.unfold), query)
    model = toys.network(TimeFirst(), layer="features", unfold=toys.unfold)
    torch.testing.assert_close(ExcitationBackprop()(model, query).map, ExcitationBackprop()(toys.stepwise(), query).map)


# --- Refusals --------------------------------------------------------------------------------------------------------


class Around(toys.Stepwise):
    """Features that go around whatever is refused."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.gru = nn.GRU(4, 6, batch_first=True).double()
        self.both = nn.LSTM(4, 3, batch_first=True, bidirectional=True).double()
        self.norm = nn.LayerNorm(6).double()
        self.gate = nn.Linear(6, 6).double()
        self.skip, self.score = nn.Linear(4, 6).double(), nn.Linear(4, len(toys.CLASSES)).double()

    def forward(self, frames: Tensor) -> Tensor:
        x = self.features(frames.transpose(1, 2).flatten(0, 1)).mean((2, 3)).view(len(frames), frames.shape[2], -1)
        steps = {"gru": self.gru, "both": self.both}.get(self.kind, self.lstm)(x)[0]
        if self.kind == "norm":
            steps = self.norm(steps)
        if self.kind == "gate":
            steps = steps * self.gate(steps).sigmoid()
        if self.kind == "skip":
            steps = steps + self.skip(x)
        scores = self.fc(steps)
        if self.kind == "pooling":
            return (scores * scores.softmax(1)).sum(1)
        if self.kind == "last":
            return scores[:, -1]
        return scores.mean(1) + (
            self.score(x).detach().mean(1) if self.kind != "score" else self.score(x.square()).mean(1)
        )


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("gru", "no rule for gru, in GRU 'gru'"),
        ("both", "no rule for lstm, in LSTM 'both'"),
        ("norm", "no rule for layer_norm, in LayerNorm 'norm'"),
        ("gate", "no rule for (sigmoid|mul), in Around"),
        ("skip", "bypasses the LSTM"),
        ("pooling", "no rule for mul, in Around"),
        ("last", "no rule for getitem, in Around"),
        ("score", "bypasses the last layer"),
    ],
)
def test_what_has_no_rule_is_named_and_nothing_stays_behind(kind: str, message: str) -> None:
    model = toys.network(Around(kind), layer="features", unfold=toys.unfold)
    with pytest.raises(MethodUndefinedError, match=f"excitation backprop.*{message}") as caught:
        ExcitationBackprop()(model, toys.query())
    assert "method.layer" in str(caught.value)
    assert not _get_current_function_mode_stack()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.module.modules())


def test_softmax_attention_is_refused_by_the_name_of_its_module() -> None:
    model = toys.network(toys.Transformer(), layer="patches")
    with pytest.raises(
        MethodUndefinedError, match=r"no rule for (softmax, in Softmax 'softmax\.\d'|matmul, in Transformer)"
    ):
        ExcitationBackprop()(model, toys.query())


def test_a_network_that_scores_no_classes_is_refused() -> None:
    model = toys.network(toys.Pooled(2), layer="features")
    with pytest.raises(MethodUndefinedError, match="no rule for square"):
        ExcitationBackprop()(model, toys.query())
    headless = toys.network(
        nn.Sequential(nn.Conv3d(3, 4, 1), nn.AdaptiveAvgPool3d(1), nn.Flatten()).double(), layer="0"
    )
    with pytest.raises(MethodUndefinedError, match="without a linear layer or convolution of 4 outputs"):
        ExcitationBackprop()(headless, toys.query())


# --- A real network --------------------------------------------------------------------------------------------------


# --- Networks of the papers ------------------------------------------------------------------------------------------


def untrained(model: Any, frames: int) -> VideoModel:
    network: VideoModel = replace(
        model, weights="random", input=replace(model.input, frames=frames, size=[32, 32])
    ).load()
    return network


@pytest.mark.parametrize(
    ("model", "layer", "mass"),
    [
        (TorchvisionResNet(Architecture.r3d_18), "layer2", 1.0),
        (RecurrentCNN(Backbone.resnet50), "resnet.5", 4.0),
        (RecurrentCNN(Backbone.resnet50, average=Average.logit), "resnet.7", 4.0),
        (RecurrentCNN(), "conv5_1", 4.0),
        (TSM(), "base_model.layer2", 4.0),
        (MFNet(), None, 1.0),
    ],
    ids=["r3d_18", "resnet50lstm", "resnet50lstm, logits", "vgg16lstm", "tsm", "mfnet"],
)
def test_mass_is_kept_in_networks_of_the_papers(model: Any, layer: str | None, mass: float) -> None:
    network = untrained(model, 4)
    frames = toys.query(1, size=(3, 4, 32, 32), dtype=torch.float32)
    assert ExcitationBackprop(layer=layer)(network, frames).extras["cam"].sum() == pytest.approx(mass, rel=1e-3)


def share_in_boxes(one: Tensor, boxes: tuple[tuple[Box, ...], ...]) -> tuple[float, float]:
    """Returns the share of a map (T, H, W) in the boxes, over frames with boxes, and the boxes' share of the area."""
    inside = torch.zeros_like(one)
    for frame, of_frame in zip(inside, boxes, strict=True):
        for x0, y0, x1, y1 in of_frame:
            frame[round(y0) : round(y1), round(x0) : round(x1)] = 1
    seen = inside.amax((1, 2)) > 0
    return float((one * inside)[seen].sum() / one[seen].sum()), float(inside[seen].mean())


@pytest.mark.real
def test_a_real_cnn_lstm_is_excited_by_the_actor(real: Path) -> None:
    network = UCF50LRCN(weights=str(real / "weights" / "lrcn_ucf50.npz")).load()
    root = real / "ucf101_24"
    index = UCF24(str(root), annotations=str(root / "annotations" / "pyannot.pkl")).index()
    clips = [clip for clip in index.clips if clip.label in network.classes]
    samples = [read(clip, network.view) for clip in clips]
    frames = torch.cat([network.view.normalise(torch.from_numpy(sample.pixels)[None]) for sample in samples])
    target = torch.tensor([network.classes.index(clip.label) for clip in clips])
    query = Query(frames, target, tuple(range(len(clips))))
    plain = ExcitationBackprop()(network, query).extras["cam"]
    torch.testing.assert_close(plain.sum((1, 2, 3)), torch.ones(6), rtol=1e-4, atol=0)  # it scores the last step alone
    assert (plain.sum((2, 3)).argmax(1) == 19).all()
    for one, sample in zip(ExcitationBackprop(contrastive=True)(network, query).map, samples, strict=True):
        found, area = share_in_boxes(one, sample.boxes)
        assert found > 1.2 * area
