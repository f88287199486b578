"""AOSA-approx against AOSA where the network is linear, and against a literal twin with dense masks where it is not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

import toys
from vidattr.errors import ConfigError
from vidattr.methods.occlusion import flow as _flow
from vidattr.methods.occlusion.aosa import AOSA
from vidattr.methods.occlusion.aosa_approx import AOSAApprox, Refine, Relu
from vidattr.methods.occlusion.conditional_fill import mean_field
from vidattr.methods.occlusion.occlude import Aggregate, Replacement
from vidattr.methods.shared.scores import Score
from vidattr.models.network.network import VideoModel
from vidattr.types import Explanation, Query
from vidattr.video.blur import rise_blur as blur

SIZE = (3, 5, 12, 16)


def moving(clips: int = 2, size: tuple[int, ...] = SIZE) -> Query:
    """Smooth clips whose content moves, each its own way, so that tubes overlap, part, leave and find partners."""
    C, T, H, W = size
    picture = blur(toys.seeded(clips, C, 1, H + 2 * T, W + 2 * T)) * 12
    frames = [picture[..., 2 * T - 2 * t : 2 * T - 2 * t + H, t : t + W] for t in range(T)]
    rest = toys.query(clips, size=size)
    return Query(torch.cat(frames, 2), rest.target, rest.seeds)


def close(found: Tensor, expected: Tensor, rtol: float = 1e-6) -> None:
    torch.testing.assert_close(found.double(), expected.double(), rtol=rtol, atol=rtol * expected.abs().max().item())


def masks(result: Explanation, n: int, size: tuple[int, ...]) -> Tensor:
    """The unions (A, T, H, W) of clip n, painted one rectangle after the other from what the method says they are."""
    rectangles, partners = result.extras["rectangles"][n], result.extras["partners"][n]
    painted = torch.zeros(len(rectangles), *size, dtype=torch.bool)
    for i in range(len(rectangles)):
        for j in [i, *(j for j in partners[i].tolist() if j >= 0)]:
            for t, (top, bottom, left, right) in enumerate(rectangles[j].tolist()):
                painted[i, t, top:bottom, left:right] = True
    return painted


# Linear networks: the approximation is exact


@pytest.mark.parametrize("aggregate", list(Aggregate))
@pytest.mark.parametrize("fill", [Replacement.zero, Replacement.black, Replacement.mean, Replacement.blur])
def test_without_relu_it_is_aosa_where_the_network_is_linear(fill: Replacement, aggregate: Aggregate) -> None:
    model, query = toys.network(toys.Linear(SIZE), size=SIZE), moving()
    approx = AOSAApprox(stride=3, fill=fill, relu=Relu.none, score=Score.logit, aggregate=aggregate)(model, query)
    exact = AOSA(stride=3, fill=fill, score=Score.logit, aggregate=aggregate)(model, query)
    assert approx.extras.keys() == exact.extras.keys()
    close(approx.map, exact.map)
    for name in approx.extras:
        close(approx.extras[name], exact.extras[name])


def test_map_of_a_linear_network_is_a_sum_of_box_sums() -> None:
    model, query = toys.network(toys.Linear(SIZE), size=SIZE), moving(1)
    result = AOSAApprox(stride=3, fill=Replacement.zero, relu=Relu.none, score=Score.logit)(model, query)
    evidence = (model.module.weight[query.target[0]] * query.frames[0]).sum(0)
    found = masks(result, 0, SIZE[1:]).double()
    drops = (found * evidence).sum((1, 2, 3))
    close(result.extras["drops"][0], drops)
    close(result.map[0], torch.einsum("a,athw->thw", drops, found) / len(found))


def test_linearising_a_linear_network_again_changes_nothing() -> None:
    model, query = toys.network(toys.Linear(SIZE), size=SIZE), moving()
    once, again = (
        AOSAApprox(stride=2, relu=Relu.none, score=Score.logit, refine=refine)(model, query) for refine in Refine
    )
    assert outlying(once.extras["drops"]).any()
    close(again.map, once.map)


# Curved networks: the literal twin


def outlying(drops: Tensor) -> Tensor:
    first, third = np.percentile(drops.numpy(), [25, 75], axis=1)[..., None]
    reach = 1.5 * (third - first)
    return torch.from_numpy((drops.numpy() > third + reach) | (drops.numpy() < first - reach))


def literal_gradient(model: VideoModel, clip: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    leaf = clip.clone().requires_grad_()
    f = model(leaf[None]).softmax(1)[0, y]
    f.backward()
    assert leaf.grad is not None
    return f.detach(), leaf.grad


def literal_field(gradient: Tensor, clip: Tensor, fill: Tensor, relu: Relu) -> Tensor:
    rule = {
        Relu.lowering: lambda J, x, v: torch.relu(J * (x - v)),
        Relu.printed: lambda J, x, v: -torch.relu(J * (v - x)),
        Relu.none: lambda J, x, v: -J * (v - x),
    }[relu]
    return sum(rule(J, x, v) for J, x, v in zip(gradient, clip, fill, strict=True))  # type: ignore[return-value]


@pytest.mark.parametrize("partners", [0, 3, 7])
@pytest.mark.parametrize("relu", list(Relu))
def test_drops_and_map_are_those_of_dense_masks(relu: Relu, partners: int) -> None:
    model, query = toys.network(toys.Curved(), size=SIZE, max_batch=3), moving()
    result = AOSAApprox(stride=3, partners=partners, relu=relu)(model, query)
    assert (result.extras["partners"] >= 0).any() or not partners
    for n, clip in enumerate(query.frames):
        f, gradient = literal_gradient(model, clip, query.target[n])
        G = literal_field(gradient, clip, mean_field(query.frames, 4)[n], relu)
        found = masks(result, n, SIZE[1:])
        drops = torch.stack([G[mask].sum() for mask in found])
        close(result.extras["f0"][n], f)
        close(result.extras["drops"][n], drops)
        close(result.map[n], sum(drop * mask for drop, mask in zip(drops, found, strict=True)) / len(found))  # type: ignore[arg-type]


def test_the_two_readings_of_the_relu_add_up_to_none() -> None:
    model, query = toys.network(toys.Curved(), size=SIZE), moving()
    lowering, printed, none = (AOSAApprox(stride=3, relu=relu)(model, query).extras["drops"].double() for relu in Relu)
    assert (lowering >= 0).all()
    assert (printed <= 0).all()
    close(lowering + printed, none, rtol=1e-5)


@pytest.mark.parametrize("relu", list(Relu))
def test_outlying_groups_are_predicted_from_the_most_extreme_one(relu: Relu) -> None:
    model, query = toys.network(toys.Curved(), size=SIZE), moving(3)
    query.frames[..., 4:6, 5:7] *= 8  # what stands out
    options = {"stride": 2, "size": 3, "partners": 1, "relu": relu}
    once, result = AOSAApprox(**options)(model, query), AOSAApprox(**options, refine=Refine.tukey)(model, query)  # type: ignore[arg-type]
    assert outlying(once.extras["drops"]).any()
    for n, clip in enumerate(query.frames):
        fill, y = mean_field(query.frames, 4)[n], query.target[n]
        f, gradient = literal_gradient(model, clip, y)
        found, G = masks(once, n, SIZE[1:]), literal_field(gradient, clip, fill, relu)
        drops = np.array([G[mask].sum().item() for mask in found])
        expected, (first, third) = drops.copy(), np.percentile(drops, [25, 75])
        reach = 1.5 * (third - first)
        for extreme, outliers in ((drops.argmax(), drops > third + reach), (drops.argmin(), drops < first - reach)):
            there, gradient = literal_gradient(model, torch.where(found[extreme], fill, clip), y)
            G = literal_field(gradient, clip, fill, relu)
            for i in np.flatnonzero(outliers):
                expected[i] = f - there + G[found[i]].sum() - G[found[extreme]].sum()
        close(result.extras["drops"][n], torch.from_numpy(expected))


# Cost


@pytest.mark.parametrize(("refine", "times"), [(Refine.none, 1), (Refine.tukey, 3)])
@pytest.mark.parametrize("stride", [2, 6])
def test_passes_do_not_depend_on_the_number_of_tubes(
    stride: int, refine: Refine, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting, backward, grad = toys.Counting(toys.Curved()), [], torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda y, x, **kwargs: backward.append(len(x)) or grad(y, x, **kwargs))
    method = AOSAApprox(stride=stride, refine=refine)
    method(toys.network(counting, size=SIZE, max_batch=2), moving(3))
    assert sorted(counting.batches) == sorted(backward) == [1] * times + [2] * times
    assert method.passes == times


class Largest(TorchFunctionMode):
    """Notes the largest tensor with memory of its own that anything returns, in numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        found = function(*args, **(kwargs or {}))
        if isinstance(found, Tensor) and not found._is_view():
            self.numbers = max(self.numbers, found.numel())
        return found


def test_no_mask_is_ever_built() -> None:
    size = (3, 16, 32, 32)
    model, query = toys.network(toys.ConvNet(), size=size), moving(1, size)
    with Largest() as largest:
        anchors = AOSAApprox(stride=2)(model, query).extras["drops"].numel()
    assert anchors == 256
    assert largest.numbers < anchors * math.prod(size[1:]) / 8


def test_tubes_are_made_once_a_query(monkeypatch: pytest.MonkeyPatch) -> None:
    made, flow = [], _flow.optical_flow
    monkeypatch.setattr(_flow, "optical_flow", lambda *args: made.append(1) or flow(*args))
    model, query = toys.network(toys.ConvNet(), size=SIZE), moving()
    AOSA(stride=6)(model, query)
    AOSAApprox(stride=6)(model, query)
    AOSAApprox(stride=4, relu=Relu.none)(model, query)
    assert made == [1]


# Odd clips


@pytest.mark.parametrize("size", [(3, 1, 7, 9), (3, 2, 1, 5), (3, 3, 30, 4)])
@pytest.mark.parametrize("refine", list(Refine))
def test_short_and_narrow_clips(size: tuple[int, ...], refine: Refine) -> None:
    model, query = toys.network(toys.ConvNet(), size=size), toys.query(2, size=size)
    assert AOSAApprox(refine=refine)(model, query).map.isfinite().all()


class Sure(toys.Linear):
    """A network whose probabilities are 0 and 1 to the last bit."""

    def forward(self, frames: Tensor) -> Tensor:
        return 1e6 * super().forward(frames)


@pytest.mark.parametrize("refine", list(Refine))
def test_a_network_that_is_sure(refine: Refine) -> None:
    model, frames = toys.network(Sure(SIZE), size=SIZE), moving().frames
    query = Query(frames, model(frames).argmax(1), (1, 2))
    assert model.probabilities(frames).amax(1).eq(1).all()
    assert not AOSAApprox(refine=Refine.none)(model, query).map.any()  # the gradient of its probability is 0
    for score in Score:
        assert AOSAApprox(refine=refine, score=score)(model, query).map.isfinite().all()
    assert AOSAApprox(score=Score.logit)(model, query).map.any()


@pytest.mark.parametrize("refine", list(Refine))
@pytest.mark.parametrize("aggregate", list(Aggregate))
def test_a_flat_clip_and_a_dark_one_of_bars_only(refine: Refine, aggregate: Aggregate) -> None:
    model, query = toys.network(toys.ConvNet(), size=SIZE), toys.query(2, size=SIZE)
    flat = Query(torch.full_like(query.frames, 0.25), query.target, query.seeds)
    for letterbox in (None, 255.0):
        method = AOSAApprox(refine=refine, aggregate=aggregate, letterbox=letterbox)
        assert method(model, flat).map.isfinite().all()
    assert not AOSAApprox(refine=refine)(model, flat).map.any()  # what fills it is what was there


def test_an_extent_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="extent=0"):
        AOSAApprox(extent=0)
