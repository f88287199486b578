"""A network with normalisations folded into its convolutions is the same network, or steps aside where it is not."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import toys
from vidattr.config.runtime import Device, Runtime
from vidattr.models.network.network import VideoModel
from vidattr.models.speed.folded import Folded


class Residual(nn.Module):
    """Convolutions whose output is normalised, normalised and also used as it is, or normalised twice by one module."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.conv4 = (
            nn.Conv3d(i, 4, 3, padding=1, bias=bias) for i, bias in ((3, False), (4, True), (4, False), (4, False))
        )
        self.bn1, self.bn2, self.shared = (nn.BatchNorm3d(4) for _ in range(3))
        self.relu = nn.ReLU()
        self.fc = nn.Linear(4, len(toys.CLASSES))
        toys.reset(self)
        for place, norm in enumerate((self.bn1, self.bn2, self.shared)):
            norm.running_mean = toys.seeded(4, seed=place)
            norm.running_var = toys.seeded(4, seed=10 + place).exp()

    def forward(self, frames: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(frames)))
        branch = self.conv2(x)
        x = self.relu(self.bn2(branch) + branch)
        x = self.shared(self.conv3(x)) + self.shared(self.conv4(x))
        return self.fc(x.mean((2, 3, 4)))


class Looking(nn.Module):
    """A network whose path depends on its input: there is no fixed sequence of modules."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Residual()

    def forward(self, frames: Tensor) -> Tensor:
        return self.inner(frames if frames.mean() > 0 else -frames)


def test_only_a_normalisation_that_alone_uses_a_convolution_is_folded() -> None:
    folded = Folded(Residual().eval()).module
    assert isinstance(folded.bn1, nn.Identity)
    assert isinstance(folded.bn2, nn.BatchNorm3d)  # its convolution is used without it, too
    assert isinstance(folded.shared, nn.BatchNorm3d)  # it runs twice


def test_logits_and_gradients_are_the_same() -> None:
    model, frames = toys.network(Residual()), toys.query().frames.requires_grad_()
    found = []
    for network in (model, model.fold()):
        logits = network(frames)
        found.append((logits, torch.autograd.grad(logits.square().sum(), frames)[0]))
    assert model.runs is not model.module
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_a_hook_sees_the_network_as_written() -> None:
    model, frames = toys.network(Residual()).fold(), toys.query().frames
    seen: list[Tensor] = []
    with model.hooked("conv1", lambda _module, _inputs, output: seen.append(output)):
        model(frames)
    torch.testing.assert_close(seen, [model.module.conv1(frames)], rtol=0, atol=0)
    assert model.runs is not model.module  # the hook is gone


def test_a_changed_weight_counts() -> None:
    model, frames = toys.network(Residual()).fold(), toys.query().frames
    before = model(frames)
    with torch.no_grad():
        model.module.bn1.weight.mul_(2)
    assert not torch.allclose(model(frames), before)
    model.module.float()
    assert model(frames.float()).dtype is torch.float32


def test_a_network_that_trains_is_not_folded() -> None:
    model = toys.network(Residual()).fold()
    model.module.train()
    assert model.runs is model.module


def test_a_network_that_looks_at_its_input_is_left_as_it_is() -> None:
    model, frames = toys.network(Looking()), toys.query().frames
    torch.testing.assert_close(model.fold()(frames), model.module(frames), rtol=0, atol=0)
    assert model.runs is model.module


def test_a_resident_network_is_folded() -> None:
    model: VideoModel = toys.network(Residual()).run_with(Runtime(device=Device.cpu))
    assert isinstance(model.runs.bn1, nn.Identity)
