"""Infidelity, on networks whose changes a map predicts exactly, against a loop, and against captum."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import toys
from vidattr.api import read_clip
from vidattr.errors import ConfigError
from vidattr.methods.gradients.gradient import Gradient
from vidattr.methods.shared.scores import Score
from vidattr.metrics.deletion_insertion import Fill
from vidattr.metrics.infidelity import Infidelity, Perturbation, Scaling, _Blocks, _Noise
from vidattr.models.network.network import VideoModel
from vidattr.models.r2plus1d_light import UCF101R2Plus1DLight
from vidattr.protocols import MapBatch
from vidattr.types import Query, Truth

SIZE = toys.SIZE[1:]


def batch_of(model: VideoModel, query: Query, maps: Tensor) -> MapBatch:
    truth = [Truth("clip", "", "clip", ((),) * maps.shape[2], None)] * maps.shape[1]
    return MapBatch(maps, query, truth, model)


def judge(metric: Infidelity, batch: MapBatch) -> dict[str, Tensor]:
    return dict(metric.score_maps(batch).columns)


class Grey(nn.Module):
    """z_k = c_k Σ w · (sum over channels of x): linear, and with the same derivative for every channel."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", toys.seeded(*SIZE))
        self.register_buffer("share", torch.tensor([1.0, -1.0, 0.5, 2.0], dtype=torch.float64))

    def forward(self, frames: Tensor) -> Tensor:
        return (frames.sum(1) * self.weight).sum((1, 2, 3))[:, None] * self.share


@pytest.mark.parametrize("perturbation", list(Perturbation))
@pytest.mark.parametrize("scaling", list(Scaling))
def test_the_map_of_a_linear_network_predicts_every_change(perturbation: Perturbation, scaling: Scaling) -> None:
    model, query = toys.network(Grey()), toys.query(2, target=[0, 3])
    slope = model.module.share[query.target].view(2, 1, 1, 1) * model.module.weight
    right = slope if perturbation is Perturbation.gaussian else slope * query.frames.sum(1)
    metric = Infidelity(perturbation=perturbation, scaling=scaling, score=Score.logit, samples=8)
    found = judge(metric, batch_of(model, query, torch.stack([right, 3 * right, -right, torch.zeros_like(right)])))
    error, change = found["infidelity"], found["change"]
    assert (error[0] < 1e-20 * change[0]).all()
    torch.testing.assert_close(error[3], change[3])
    if scaling is Scaling.none:
        torch.testing.assert_close(error[1:3], torch.stack([4 * change[0], 4 * change[0]]))  # (3 − 1)², (−1 − 1)²
        assert "unexplained" not in found
    else:
        assert (error[1] < 1e-20 * change[0]).all(), "the factor takes the unit away"
        expected = torch.zeros_like(change[0]) if scaling is Scaling.optimal else torch.ones_like(change[0])
        torch.testing.assert_close(found["unexplained"][2], expected, atol=1e-12, rtol=0)
        torch.testing.assert_close(found["unexplained"][3], torch.ones_like(change[0]))


@pytest.mark.parametrize("perturbation", list(Perturbation))
def test_it_agrees_with_a_loop_over_the_same_draws(perturbation: Perturbation) -> None:
    model, query, maps = toys.conv_net(), toys.query(2), toys.seeded(2, 2, *SIZE)
    metric = Infidelity(perturbation=perturbation, samples=5, fill=Fill.black, scaling=Scaling.none)
    batch = batch_of(model, query, maps)
    found = judge(metric, batch)["infidelity"]
    perturb = (_Blocks if perturbation is Perturbation.blocks else _Noise)(metric, batch)
    for n in range(2):
        y, errors = int(query.target[n]), [0.0, 0.0]
        whole = float(torch.softmax(model.module(query.frames[n : n + 1]), 1)[0, y])
        for k in range(5):
            frames, weight = perturb([(n, k)], torch.tensor([n]))
            change = whole - float(torch.softmax(model.module(frames), 1)[0, y])
            for m in range(2):
                guess = sum(
                    float(weight[0, t, r, c] * maps[m, n, t, r, c]) for t, r, c in itertools.product(*map(range, SIZE))
                )
                errors[m] += (guess - change) ** 2 / 5
        assert found[:, n].tolist() == pytest.approx(errors, rel=1e-9)


def test_blocks_have_their_sides_and_lie_inside_and_move() -> None:
    model, query = toys.conv_net(), toys.query(2)
    metric = Infidelity(block=[0.5, 0.5, 0.25], samples=30)
    perturb = _Blocks(metric, batch_of(model, query, torch.zeros(1, 2, *SIZE)))
    chunk = [(1, k) for k in range(30)]
    frames, inside = perturb(chunk, torch.ones(30, dtype=torch.long))
    assert set(inside.sum((1, 2, 3)).tolist()) == {2 * 3 * 2}
    assert len({tuple(one.nonzero()[0].tolist()) for one in inside}) > 10
    changed = (frames != query.frames[1]).any(1)
    assert torch.equal(changed, inside.bool())
    for axes in ((0, 2, 3), (0, 1, 3), (0, 1, 2)):
        assert (inside.sum(axes) > 0).all(), "the first and the last of every axis are removed at some time"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"samples": 0}, "1 or more"),
        ({"block": [0.5, 0.5]}, "each above 0"),
        ({"block": [0.5, 0.5, 1.5]}, "each above 0"),
        ({"spread": 0.0}, "above 0"),
        ({"noise_draws": -1}, "or more"),
    ],
)
def test_wrong_options_say_what_is_expected(options: dict[str, object], expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        Infidelity(**options)  # type: ignore[arg-type]
    assert expected in str(error.value)


def test_its_passes_are_as_it_says() -> None:
    seen: list[int] = []
    model, query = toys.conv_net(), toys.query(1)
    model.module.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    metric = Infidelity(samples=11, noise_draws=0)
    judge(metric, batch_of(model, query, toys.seeded(4, 1, *SIZE)))
    assert sum(seen) == metric.passes_of(Gradient())


@pytest.mark.real
@pytest.mark.parametrize("perturbation", list(Perturbation))
def test_captum_agrees_on_a_real_clip(real: Path, perturbation: Perturbation) -> None:
    metrics = pytest.importorskip("captum.metrics")
    view = dataclasses.replace(UCF101R2Plus1DLight().input, size=[24, 24])
    model = UCF101R2Plus1DLight(weights=str(real / "weights" / "r2plus1d_light_ucf101.pth"), input=view).load()
    frames = read_clip(real / "ucf101_24" / "UCF-101" / "Biking" / "v_Biking_g01_c01.avi", model)
    model.module.double()
    query = Query(frames.double(), torch.tensor([model.classes.index("Biking")]), (3,))
    maps = Gradient()(model, query).map.double()[None]
    for scaling in (Scaling.none, Scaling.optimal):
        metric = Infidelity(perturbation=perturbation, samples=6, scaling=scaling)
        batch = batch_of(model, query, maps)
        found = judge(metric, batch)["infidelity"][0]
        perturb = (_Blocks if perturbation is Perturbation.blocks else _Noise)(metric, batch)

        def draws(
            inputs: Tensor, perturb: _Blocks | _Noise = perturb, channels: int = query.frames.shape[1]
        ) -> tuple[Tensor, Tensor]:
            # captum sums attribution × I over channels as well: each gets a part of I, and the voxel's value.
            frames, weight = perturb([(0, k) for k in range(len(inputs))], torch.zeros(len(inputs), dtype=torch.long))
            return (weight / channels)[:, None].expand_as(frames), frames

        expected = metrics.infidelity(
            lambda x: torch.softmax(model.module(x), 1),
            draws,
            query.frames,
            maps[0][:, None].expand_as(query.frames),
            target=query.target,
            n_perturb_samples=6,
            normalize=scaling is Scaling.optimal,
        )
        torch.testing.assert_close(found, expected.double(), rtol=1e-6, atol=0)
