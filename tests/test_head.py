from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from vidattr.errors import MethodUndefinedError
from vidattr.models.network import linear_head
from vidattr.models.network.linear_head import gap_linear_head
from vidattr.models.network.network import VideoModel
from vidattr.video.preprocessing import Preprocessing

K, C = 5, 6
Forward = Callable[["Net", Tensor], Tensor]


class Net(nn.Module):
    """Features (N, 6, 2, 4, 4), and a head that is written in the test."""

    def __init__(self, forward: Forward, **parts: nn.Module) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv3d(3, C, 3, stride=2, padding=1), nn.ReLU())
        self.head = forward
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, frames: Tensor) -> Tensor:
        return self.head(self, self.features(frames))


def network(forward: Forward, *, layer: str | None = None, **parts: nn.Module) -> VideoModel:
    module = Net(forward, **parts).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, dtype=torch.float64, generator=generator) / 2)
    return VideoModel(module, Preprocessing(frames=4, size=[8, 8]), tuple("abcde"), layer=layer)


def clips(count: int = 3) -> Tensor:
    return torch.randn(count, 3, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def seq(*parts: nn.Module) -> nn.Sequential:
    return nn.Sequential(*parts)


LINEAR_HEADS: dict[str, tuple[Forward, dict[str, nn.Module], str]] = {
    "pool, flatten, linear": (
        lambda m, x: m.fc(m.pool(x)),
        {"pool": seq(nn.AdaptiveAvgPool3d(1), nn.Flatten()), "fc": nn.Linear(C, K)},
        "features",
    ),
    "linear without bias": (lambda m, x: m.fc(x.mean((2, 3, 4))), {"fc": nn.Linear(C, K, bias=False)}, "features"),
    "functional mean, axis by axis": (
        lambda m, x: m.fc(x.mean(4).mean(3).mean(2)),
        {"fc": nn.Linear(C, K)},
        "features",
    ),
    "dropout, ReLU of what is positive anyway": (
        lambda m, x: m.fc(m.relu(m.dropout(x).mean((2, 3, 4)))),
        {"dropout": nn.Dropout3d(0.5), "relu": nn.ReLU(), "fc": nn.Linear(C, K)},
        "features",
    ),
    "1×1×1 convolution, then mean": (
        lambda m, x: m.score(x).mean((2, 3, 4)),
        {"score": nn.Conv3d(C, K, 1)},
        "features",
    ),
    "pool, then 1×1×1 convolution": (
        lambda m, x: m.score(m.pool(x)).flatten(1),
        {"pool": nn.AdaptiveAvgPool3d(1), "score": nn.Conv3d(C, K, 1)},
        "features",
    ),
    "linear per time step, then consensus": (
        lambda m, x: m.fc(x.mean((3, 4)).transpose(1, 2)).mean(1),
        {"fc": nn.Linear(C, K)},
        "features",
    ),
    "one more convolution": (
        lambda m, x: m.fc(m.last(x).mean((2, 3, 4))),
        {"last": nn.Conv3d(C, 7, 1), "fc": nn.Linear(7, K)},
        "last",
    ),
}


@pytest.mark.parametrize(("forward", "parts", "volume"), LINEAR_HEADS.values(), ids=LINEAR_HEADS)
def test_linear_heads_are_found_and_reproduce_the_logits(
    forward: Forward, parts: dict[str, nn.Module], volume: str
) -> None:
    net, frames = network(forward, **parts), clips()
    layer, weight, bias = gap_linear_head(net, frames)
    assert layer == volume
    logits, features = net.activations(frames, layer)
    assert min(features.shape[2:]) > 1
    answer = net.volume(features, len(frames)).mean((2, 3, 4)) @ weight.T + (0 if bias is None else bias)
    torch.testing.assert_close(answer, logits, rtol=1e-12, atol=1e-12)


class LastOutput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(C, C, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.lstm(x.mean((3, 4)).transpose(1, 2))[0]
        return outputs[:, -1]


OTHER_HEADS: dict[str, tuple[Forward, dict[str, nn.Module], str]] = {
    "two layers": (
        lambda m, x: m.mlp(x.mean((2, 3, 4))),
        {"mlp": seq(nn.Linear(C, C), nn.ReLU(), nn.Linear(C, K))},
        "gives the logits through mlp.2",
    ),
    "LSTM": (
        lambda m, x: m.fc(m.last(x)),
        {"last": LastOutput(), "fc": nn.Linear(C, K)},
        "gives the logits through fc",
    ),
    "softmax per time step": (
        lambda m, x: m.fc(x.mean((3, 4)).transpose(1, 2)).softmax(2).mean(1).log(),
        {"fc": nn.Linear(C, K)},
        "gives the logits through fc",
    ),
    "maximum": (lambda m, x: m.fc(x.amax((2, 3, 4))), {"fc": nn.Linear(C, K)}, "gives the logits through fc"),
    "flattened volume": (lambda m, x: m.fc(x.flatten(1)), {"fc": nn.Linear(C * 32, K)}, "gives the logits through fc"),
    "no linear layer": (
        lambda m, x: x.mean((2, 3, 4))[:, :K],
        {},
        "no linear layer or 1 × 1 × 1 convolution has 5 outputs",
    ),
    "features that no module puts out": (
        lambda m, x: m.fc(m.pool(x.square()).flatten(1)),
        {"pool": nn.AdaptiveAvgPool3d(1), "fc": nn.Linear(C, K)},
        "only 'pool', which is averaged already",
    ),
}


@pytest.mark.parametrize(("forward", "parts", "reason"), OTHER_HEADS.values(), ids=OTHER_HEADS)
def test_other_heads_are_refused_with_the_reason(forward: Forward, parts: dict[str, nn.Module], reason: str) -> None:
    with pytest.raises(MethodUndefinedError, match=f"is not a global average and one linear layer: .*{reason}"):
        gap_linear_head(network(forward, **parts), clips())


def test_a_relu_that_cuts_the_average_is_not_linear() -> None:
    parts = {"last": nn.Conv3d(C, C, 1), "fc": nn.Linear(C, K)}
    net = network(lambda m, x: m.fc(m.last(x).mean((2, 3, 4)).relu()), **parts)
    assert (net.activations(clips(), "last")[1].mean((2, 3, 4)) < 0).any()
    with pytest.raises(MethodUndefinedError, match="gives the logits through fc"):
        gap_linear_head(net, clips())


def test_the_finest_of_equal_averages_is_taken_unless_the_network_names_one() -> None:
    parts = {"coarse": nn.AvgPool3d(2), "pool": nn.AdaptiveAvgPool3d(1), "fc": nn.Linear(C, K)}

    def forward(m: Net, x: Tensor) -> Tensor:
        return m.fc(m.pool(m.coarse(x)).flatten(1))

    assert gap_linear_head(network(forward, **parts), clips())[0] == "features"
    assert gap_linear_head(network(forward, layer="coarse", **parts), clips())[0] == "coarse"


def test_a_module_that_runs_twice_is_no_volume() -> None:
    parts = {"relu": nn.ReLU(), "fc": nn.Linear(C, K)}
    net = network(lambda m, x: m.fc(m.relu(m.relu(x - 1) - 1).mean((2, 3, 4))), **parts)
    with pytest.raises(MethodUndefinedError, match="gives the logits through fc"):
        gap_linear_head(net, clips())


def test_frames_folded_into_the_batch_are_unfolded() -> None:
    def per_frame(m: Net, x: Tensor) -> Tensor:
        folded = m.last(x.transpose(1, 2).flatten(0, 1))
        return m.fc(folded.mean((2, 3))).view(len(x), -1, K).mean(1)

    net = network(per_frame, last=nn.Conv2d(C, 7, 1), fc=nn.Linear(7, K))
    net = VideoModel(net.module, net.view, net.classes, unfold=lambda x, n: x.view(n, -1, *x.shape[1:]).transpose(1, 2))
    assert gap_linear_head(net, clips())[0] == "last"


def test_the_search_runs_once_and_does_not_depend_on_the_clip() -> None:
    passes: list[int] = []

    def forward(m: Net, x: Tensor) -> Tensor:
        passes.append(len(x))
        return m.fc(x.mean((2, 3, 4)))

    net = network(forward, fc=nn.Linear(C, K))
    # A black clip would leave every pair of zero features and bias-free head in agreement.
    first = gap_linear_head(net, torch.zeros_like(clips()))
    assert first[0] == gap_linear_head(net, clips())[0] == "features"
    assert passes == [1]
    net.module.fc.weight.zero_()  # type: ignore[union-attr, operator]
    assert (gap_linear_head(net, clips())[1] == 0).all()


def test_neither_hooks_nor_random_state_nor_networks_are_kept() -> None:
    net = network(lambda m, x: m.fc(x.mean((2, 3, 4))), fc=nn.Linear(C, K))
    state = torch.random.get_rng_state()
    gap_linear_head(net, clips())
    assert torch.equal(state, torch.random.get_rng_state())
    assert not any(module._forward_hooks for module in net.module.modules())
    kept = len(linear_head._found)
    del net
    gc.collect()
    assert len(linear_head._found) < kept


@pytest.mark.usefixtures("no_host_copies")
def test_a_known_head_is_looked_up_on_the_device() -> None:
    gap_linear_head(network(lambda m, x: m.fc(x.mean((2, 3, 4))), fc=nn.Linear(C, K)), clips())
