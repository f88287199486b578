"""Max-sensitivity, on maps whose change is known, against a loop, and against captum."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

import toys
from vidattr.api import read_clip
from vidattr.errors import ConfigError
from vidattr.methods.baselines.center import Center
from vidattr.methods.gradients.grad_x_input import GradXInput
from vidattr.methods.gradients.gradient import Gradient
from vidattr.methods.shared.gradients import Polarity, Reduce
from vidattr.metrics.rerun.max_sensitivity import MaxSensitivity
from vidattr.models.network.network import VideoModel
from vidattr.models.r2plus1d_light import UCF101R2Plus1DLight
from vidattr.protocols import MapBatch, Method
from vidattr.types import Query, Truth


def judge(
    metric: MaxSensitivity, model: VideoModel, query: Query, methods: Sequence[Method], maps: Tensor | None = None
) -> dict[str, Tensor]:
    made = torch.stack([method(model, query).map for method in methods]) if maps is None else maps
    truth = [Truth("clip", "", "clip", ((),) * made.shape[2], None)] * made.shape[1]
    return dict(metric.score_methods(MapBatch(made, query, truth, model), methods).columns)


def test_a_map_that_does_not_depend_on_the_clip_has_none() -> None:
    # The gradient of a linear network is constant; gradient × input changes as the clip does.
    model, query = toys.network(toys.Linear()), toys.query(2)
    metric = MaxSensitivity(radius=0.1, samples=4)
    found = judge(metric, model, query, [Center(), Gradient(), GradXInput(polarity=Polarity.signed, reduce=Reduce.sum)])
    assert found["max_sensitivity"][:2].abs().max() < 1e-6
    weight = model.module.weight[query.target]
    largest = []
    for k in range(4):
        noise = metric._noise(query, k)
        radius = 0.1 * (query.frames.amax((1, 2, 3, 4)) - query.frames.amin((1, 2, 3, 4)))
        assert (noise.abs().amax((1, 2, 3, 4)) <= radius).all()
        assert (noise.abs().amax((1, 2, 3, 4)) > 0.9 * radius).all()
        moved, still = ((weight * x).sum(1).flatten(1).norm(dim=1) for x in (noise, query.frames))
        largest.append(moved / still)
    torch.testing.assert_close(found["max_sensitivity"][2], torch.stack(largest).amax(0), rtol=1e-5, atol=0)
    torch.testing.assert_close(found["mean_sensitivity"][2], torch.stack(largest).mean(0), rtol=1e-5, atol=0)


def test_a_larger_radius_and_more_samples_never_lower_it() -> None:
    model, query = toys.conv_net(), toys.query(2)
    few, many, wide = (
        judge(metric, model, query, [Gradient()])["max_sensitivity"]
        for metric in (MaxSensitivity(samples=2), MaxSensitivity(samples=6), MaxSensitivity(samples=6, radius=0.5))
    )
    assert (few <= many).all()
    assert (many < wide).all()


def test_an_empty_or_broken_map_is_nan() -> None:
    model, query = toys.conv_net(), toys.query(3)
    maps = Gradient()(model, query).map[None].clone()
    maps[0, 0] = 0
    maps[0, 1, 0, 0, 0] = torch.inf
    found = judge(MaxSensitivity(samples=2), model, query, [Gradient()], maps)
    assert found["max_sensitivity"].isnan().tolist() == [[True, True, False]]


@pytest.mark.parametrize("options", [{"samples": 0}, {"radius": 0.0}, {"radius": float("inf")}])
def test_wrong_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        MaxSensitivity(**options)  # type: ignore[arg-type]


@pytest.mark.real
def test_captum_agrees_on_a_real_clip(real: Path) -> None:
    metrics = pytest.importorskip("captum.metrics")
    view = dataclasses.replace(UCF101R2Plus1DLight().input, size=[24, 24])
    model = UCF101R2Plus1DLight(weights=str(real / "weights" / "r2plus1d_light_ucf101.pth"), input=view).load()
    frames = read_clip(real / "ucf101_24" / "UCF-101" / "Biking" / "v_Biking_g01_c01.avi", model)
    query = Query(frames, torch.tensor([model.classes.index("Biking")]), (3,))
    metric = MaxSensitivity(samples=3)

    def noisy(inputs: Tensor, _radius: float) -> Tensor:
        return torch.cat([one + metric._noise(query, k) for k, one in enumerate(inputs.split(1))])

    def explained(inputs: tuple[Tensor, ...] | Tensor, target: Tensor) -> tuple[Tensor, ...]:
        frames = inputs[0] if isinstance(inputs, tuple) else inputs
        return (torch.cat([Gradient()(model, Query(x, target[:1], (3,))).map for x in frames.split(1)]),)

    expected = metrics.sensitivity_max(explained, query.frames, noisy, n_perturb_samples=3, target=query.target)
    found = judge(metric, model, query, [Gradient()])["max_sensitivity"][0]
    torch.testing.assert_close(found.float(), expected, rtol=1e-5, atol=0)
