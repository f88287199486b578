"""Average drop and increase and drop in deletion, on a network whose probabilities are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import toys
from vidattr.metrics.deletion_insertion import Fill, filled
from vidattr.metrics.masked_clip import MaskedClip
from vidattr.protocols import MapBatch
from vidattr.types import Truth

SIZE = toys.SIZE[1:]


class Corner(nn.Module):
    """The probability of class 0 is the mean of the first voxel's channels; it depends on nothing else."""

    def forward(self, frames: Tensor) -> Tensor:
        p = frames[:, :, 0, 0, 0].mean(1)
        return torch.stack([p, 1 - p, torch.zeros_like(p), torch.zeros_like(p)], 1).clamp(min=1e-30).log()


def judge(metric: MaskedClip, maps: Tensor, frames: Tensor, module: nn.Module | None = None) -> dict[str, Tensor]:
    query = toys.query(len(frames), target=[0] * len(frames))
    query = type(query)(frames, query.target, query.seeds)
    truth = [Truth("clip", "", "clip", ((),) * SIZE[0], None)] * len(frames)
    model = toys.network(module or Corner())
    return dict(metric.score_maps(MapBatch(maps, query, truth, model)).columns)


def test_the_network_sees_the_clip_times_the_map_and_the_clip_times_the_rest() -> None:
    frames = torch.full((1, *toys.SIZE), 0.8, dtype=torch.float64)
    maps = torch.zeros(5, 1, *SIZE)
    maps[0, 0, 0, 0, 0] = 3.0  # keeps the voxel that the network sees
    maps[1] = maps[0] * -1  # removes it alone
    maps[2, 0, 0, 0, 1] = 1.0  # keeps another one alone
    maps[3] = 7.0  # no contrast
    maps[4, 0, 0, 0, 0], maps[4, 0, 3, 3, 3], maps[4, 0, 2, 2, 2] = 0.25, 1.0, 0.0  # m is 1/4 there
    found = judge(MaskedClip(fill=Fill.zero, noise_draws=0), maps, frames)
    assert found["f_clip"][:, 0].tolist() == pytest.approx([0.8] * 5)
    for name, values in {
        "drop": [0, 1, 1, math.nan, 0.75],
        "deletion_drop": [1, 0, 0, math.nan, 0.25],
        "increase": [0, 0, 0, math.nan, 0],
    }.items():
        assert found[name][:, 0].tolist() == pytest.approx(values, nan_ok=True, abs=1e-12), name


def test_a_rise_is_an_increase_and_no_drop() -> None:
    frames = torch.full((1, *toys.SIZE), 0.2, dtype=torch.float64)
    maps = torch.ones(1, 1, *SIZE)
    maps[0, 0, 0, 0, 0] = 0
    white = judge(MaskedClip(fill=Fill.zero), maps, 1 - frames, nn.Sequential(Invert(), Corner()))  # p = 0.2
    assert (white["increase"], white["drop"]) == (1, 0)
    assert float(white["f_masked"]) == pytest.approx(1)


class Invert(nn.Module):
    """1 − x, so that a fill of 0 gives the highest probability."""

    def forward(self, frames: Tensor) -> Tensor:
        return 1 - frames


@pytest.mark.parametrize("fill", list(Fill))
def test_it_agrees_with_a_loop_on_a_network(fill: Fill) -> None:
    model, query = toys.conv_net(), toys.query(2)
    maps = toys.seeded(3, 2, *SIZE)
    truth = [Truth("clip", "", "clip", ((),) * SIZE[0], None)] * 2
    found = MaskedClip(fill=fill).score_maps(MapBatch(maps, query, truth, model)).columns
    base = filled(fill, query.frames, model.view)
    for n in range(2):
        x, y = query.frames[n : n + 1], int(query.target[n])
        whole = float(torch.softmax(model.module(x), 1)[0, y])
        for m in range(3):
            weight = maps[m, n] - maps[m, n].min()
            weight /= weight.max()
            shown = float(torch.softmax(model.module(weight * x + (1 - weight) * base[n]), 1)[0, y])
            deleted = float(torch.softmax(model.module((1 - weight) * x + weight * base[n]), 1)[0, y])
            expected = {
                "drop": max(0, whole - shown) / whole,
                "increase": float(shown > whole),
                "deletion_drop": max(0, whole - deleted) / whole,
            }
            for name, value in expected.items():
                assert float(found[name][m, n]) == pytest.approx(value, rel=1e-9), name


def test_its_passes_are_as_it_says() -> None:
    seen = []
    model, query = toys.conv_net(), toys.query(1)
    model.module.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    metric = MaskedClip(noise_draws=0)
    metric.score_maps(MapBatch(toys.seeded(1, 1, *SIZE), query, [Truth("c", "", "c", ((),) * 4, None)], model))
    assert sum(seen) == metric.passes_of(None)  # type: ignore[arg-type]
