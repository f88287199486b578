"""Extremal perturbations: losses against sorting, the loop against a slow literal twin, and planted networks."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv3d

import toys
import vidattr
from test_pyramid import literal_blur, literal_lookup
from test_seeds import literal
from vidattr.errors import ConfigError, MethodUndefinedError
from vidattr.methods.perturbation.descent import settled as has_settled
from vidattr.methods.perturbation.energy import EnergyOfMasks
from vidattr.methods.perturbation.extremal_perturbation import ExtremalPerturbation
from vidattr.methods.perturbation.losses import (
    CoreShape,
    MaskTies,
    Target,
    area_loss,
    area_ones,
    core_kernel,
    core_loss,
    core_windows,
    selected_target,
    shared_target,
    shuffled_target,
)
from vidattr.methods.perturbation.options import Context, Reward, Variant
from vidattr.methods.perturbation.pyramid import Perturbation
from vidattr.methods.perturbation.reward import REWARDS, in_clip
from vidattr.methods.perturbation.smooth_mask import Profile, temporal_weights
from vidattr.types import Query

SIZE = (3, 4, 8, 10)
SMALL = ExtremalPerturbation(
    areas=[0.3],
    iterations=6,
    seed_step=2,
    seed_sigma=2.0,
    smooth_sigma=None,
    reward_weight=30.0,
    area_growth=1.1,
    stop_window=None,
)
CORES = {"core_kernel": [3, 5, 5], "core_stride": [1, 5, 5], "core_start": 1, "core_weight": 30.0}


def sorted_loss(values: Tensor, ones: int) -> Tensor:
    """Mean square distance of each sorted row of (R, V) to zeros, then ones."""
    reference = torch.cat([torch.zeros(values.shape[1] - ones), torch.ones(ones)]).to(values)
    return (values.sort(1).values - reference).square().mean()


@pytest.mark.parametrize("area", [0.013, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("rows", [1, 4])
def test_area_loss_and_gradient_are_those_of_sorting(area: float, rows: int) -> None:
    values = toys.seeded(1, rows, 101).sigmoid().requires_grad_()
    ones = area_ones(area, 101)
    found, expected = area_loss(values, torch.tensor([ones]), shared_target)[0], sorted_loss(values[0], ones)
    assert found.item() == pytest.approx(expected.item(), abs=1e-12)
    torch.testing.assert_close(
        *(torch.autograd.grad(loss, values)[0] for loss in (found, expected)), rtol=0, atol=1e-12
    )


TARGETS = pytest.mark.parametrize("target_of", [shared_target, selected_target])


@TARGETS
@pytest.mark.parametrize("ones", [1, 3, 5, 7, 8])
def test_ties_share_and_the_loss_is_still_that_of_sorting(ones: int, target_of: Target) -> None:
    values = torch.tensor([[0.5, 0.1, 0.5, 0.9, 0.5, 0.5, 0.1, 0.9]], dtype=torch.float64)
    target = target_of(values[None], torch.tensor([ones]))[0]
    expected = {1: (0, 0, 0.5), 3: (0, 0.25, 1), 5: (0, 0.75, 1), 7: (0.5, 1, 1), 8: (1, 1, 1)}[ones]
    assert [target[values == value].unique().tolist() for value in (0.1, 0.5, 0.9)] == [[share] for share in expected]
    loss = area_loss(values[None], torch.tensor([ones]), shared_target)
    assert loss.item() == pytest.approx(sorted_loss(values, ones).item(), abs=1e-12)


@TARGETS
def test_values_a_rounding_error_apart_are_ties(target_of: Target) -> None:
    values = torch.full((1, 1, 4), 0.7)
    values[..., 1] = torch.nextafter(values[..., 1], torch.ones(()))
    assert torch.equal(target_of(values, torch.tensor([1])), torch.full((1, 1, 4), 0.25))


@TARGETS
@pytest.mark.parametrize(("dtype", "exponent"), [(torch.float32, -21), (torch.float64, -40)])
def test_values_further_apart_than_the_resolution_are_never_ties(
    dtype: torch.dtype, exponent: int, target_of: Target
) -> None:
    step = 2.0**exponent
    places = torch.arange(512, dtype=dtype) * step / 3 + 0.5
    pairs = torch.stack([places, places + 1.25 * step], 1)[None]
    assert torch.equal(target_of(pairs, torch.tensor([1])), torch.tensor([0.0, 1.0], dtype=dtype).expand_as(pairs))
    within = 0.5 + torch.tensor([[[0.25, 0.75]]], dtype=dtype) * step  # no multiple of the resolution lies between them
    assert target_of(within, torch.tensor([1])).tolist() == [[[0.5, 0.5]]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_selected_target_is_that_of_bisection_bit_for_bit(dtype: torch.dtype) -> None:
    values = toys.seeded(5, 3, 400).sigmoid().to(dtype)
    values[0] = values[0].round(decimals=1)  # many ties
    values[1] = 0
    values[2, 0] = 1
    values[3] = values[3] * 2**-20  # few multiples of the resolution apart
    for counts in ([0, 1, 40, 399, 400], [400, 399, 200, 7, 0]):
        ones = torch.tensor(counts)
        assert torch.equal(selected_target(values, ones), shared_target(values, ones))


@pytest.mark.parametrize("ties", MaskTies)
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"per_frame_area": True},
        {"core_kernel": [3, 5, 5], "core_stride": [1, 5, 5]},
        {"core_kernel": [3, 4, 3], "core_stride": [2, 2, 1]},  # windows that overlap, and leave a border
    ],
)
def test_the_derivative_of_the_energy_is_that_of_autograd(fields: dict[str, object], ties: MaskTies) -> None:
    plane = (5, 12, 13)
    method = replace(SMALL, core_weight=30.0, ties=ties, **fields)
    masks = toys.seeded(3, *plane).sigmoid().requires_grad_()
    for recorded in (False, True):
        energy = EnergyOfMasks(method, [4, 5, 6], [0.1, 0.3, 1.0], plane, masks, recorded=recorded)
        energy.draw(cores=True)
        weight, row = torch.tensor([7.0], dtype=torch.float64), torch.arange(3)
        for cores in (False, True):
            value = energy(weight, masks, row, energy.area, energy.cores, cores=cores)
            (expected,) = torch.autograd.grad(value.sum(), masks)
            found = energy.slope(weight, masks, row, energy.area, energy.cores, cores=cores)
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


def test_shuffled_ties_are_drawn_by_the_noise_and_the_rest_is_sorting() -> None:
    values = torch.tensor([[[0.5, 0.1, 0.5, 0.9, 0.5, 0.5]]])
    draws = torch.stack(
        [shuffled_target(values, torch.tensor([3]), toys.seeded(1, 1, 6, seed=seed)) for seed in range(40)]
    )
    assert (draws.sum(-1) == 3).all()
    assert (draws[..., 3] == 1).all()
    assert (draws[..., 1] == 0).all()
    assert all(0 < draws[..., tied].mean() < 1 for tied in (0, 2, 4, 5))


@pytest.mark.parametrize("stride", [[1, 3, 3], [2, 2, 1], [1, 3, 5], [2, 3, 5]])
@pytest.mark.parametrize("shape", CoreShape)
def test_core_windows_and_loss_are_those_of_a_convolution(stride: list[int], shape: CoreShape) -> None:
    mask = toys.seeded(2, 5, 9, 8).sigmoid().requires_grad_()
    kernel = core_kernel([3, 3, 5], shape)
    windows = core_windows(mask, kernel, stride)
    expected = (conv3d(mask[:, None], kernel[None, None], stride=stride) / kernel.sum()).flatten(1)
    torch.testing.assert_close(windows, expected, rtol=0, atol=1e-12)
    for row, top in enumerate((3, 0)):
        ranked = expected[row].sort(descending=True).values
        twin = ((ranked[:top] - 1).square().sum() / max(1, top)) + ranked[top:].square().mean()
        found = core_loss(windows, torch.tensor([3, 0]), shared_target)[row]
        assert found.item() == pytest.approx(twin.item(), abs=1e-12)
        gradients = [torch.autograd.grad(loss, mask, retain_graph=True)[0] for loss in (found, twin)]
        torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("size", "ellipsoid", "cylinder"),
    [
        ([1, 1, 1], [[[1]]], [[[1]]]),
        ([2, 1, 1], [[[1]], [[1]]], [[[1]], [[1]]]),  # an axis of two has −1 and 1, on the border
        ([1, 1, 2], [[[1, 1]]], [[[1, 1]]]),
        ([2, 2, 1], [[[0], [0]], [[0], [0]]], [[[1], [1]], [[1], [1]]]),
        ([1, 3, 3], [[[0, 1, 0], [1, 1, 1], [0, 1, 0]]], [[[0, 1, 0], [1, 1, 1], [0, 1, 0]]]),
        ([3, 1, 3], [[[0, 1, 0]], [[1, 1, 1]], [[0, 1, 0]]], [[[1, 1, 1]]] * 3),
    ],
)
def test_small_kernels_hold_what_is_at_most_1_from_the_centre(
    size: list[int], ellipsoid: list[list[list[int]]], cylinder: list[list[list[int]]]
) -> None:
    assert core_kernel(size, CoreShape.ellipsoid).tolist() == ellipsoid
    assert core_kernel(size, CoreShape.cylinder).tolist() == cylinder


def grouped(values: Tensor, ones: int) -> Tensor:
    """The target of one row (V,), group of equal values by group, from the largest down."""
    target, left = torch.zeros_like(values), float(ones)
    for value in values.round(decimals=11).unique().flip(0):
        group = values.round(decimals=11) == value
        target[group] = min(1.0, max(0.0, left / int(group.sum())))
        left -= int(group.sum())
    return target


def twin(method: ExtremalPerturbation, module: nn.Module, frames: Tensor, target: int) -> tuple[Tensor, list[float]]:
    """One clip and ratio, term by term as the papers and the released code have it, with torch's own optimiser."""
    sigmas = [20 * (1 - level / 7) for level in range(7)]
    blurred = [torch.stack([literal_blur(image, s) for image in frames.flatten(0, 1)]).view_as(frames) for s in sigmas]
    pyramid = torch.stack([*blurred, frames])
    T, H, W = frames.shape[1:]
    seeds = torch.ones(T, -(-H // 2), -(-W // 2), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.SGD([seeds], lr=method.lr, momentum=method.momentum, dampening=method.dampening)
    area, trace = method.areas[0], []
    for t in range(method.iterations):
        smooth = seeds
        if method.temporal_sigma is not None:
            smooth = torch.einsum(
                "ts,shw->thw", temporal_weights(T, method.temporal_sigma, Profile.code, seeds.detach()), seeds
            )
        plane = literal(smooth, 2, 2.0, method.coldness)
        visible = plane[:, 2 : 2 + H, 2 : 2 + W]
        if t < method.mask_steps_from or (t - method.mask_steps_from) % method.mask_steps == 0:
            shown = literal_lookup(pyramid, visible)
            if method.context is Context.still:
                logits = torch.cat([module(shown[None, :, k : k + 1].repeat(1, 1, T, 1, 1)) for k in range(T)])
            else:
                logits = module(shown[None])
            reward = logits.log_softmax(1)[:, target].mean()
            if method.mask_steps > 1:
                (slope,) = torch.autograd.grad(reward, visible, retain_graph=True)
        trace.append(logits.softmax(1)[:, target].mean().item())
        rows = plane.flatten(1) if method.per_frame_area else plane.reshape(1, -1)
        full = torch.stack([grouped(row.detach(), row.numel() - math.floor(row.numel() * (1 - area))) for row in rows])
        if method.mask_steps > 1:
            reward = (slope * visible).sum()  # its derivative is that of the last pass
        energy = -method.reward_weight * reward
        energy = energy + method.area_weight * method.area_growth**t * (rows - full).square().mean()
        if method.core_kernel and t > method.core_start:
            kernel = core_kernel(method.core_kernel, CoreShape.ellipsoid)
            c = (conv3d(plane[None, None], kernel[None, None], stride=method.core_stride) / kernel.sum()).flatten()
            top = min(len(c), math.ceil(area * plane.numel() / math.floor(0.5236 * math.prod(method.core_kernel))))
            full = grouped(c.detach(), top)
            energy = energy + method.core_weight * (
                (full * (c - 1) ** 2).sum() / top + ((1 - full) * c**2).sum() / max(1, len(c) - top)
            )
        optimiser.zero_grad()
        energy.backward()
        optimiser.step()
        seeds.data.clamp_(0, 1)
    return visible.detach(), trace


VARIANTS: dict[str, dict[str, object]] = {
    "ep3d": {},
    "ep2d": {"per_frame_area": True},
    "gaussian": {"temporal_sigma": 1.0},
    "step": CORES,
    "frame": {"context": Context.still, "per_frame_area": True},
    "three steps a pass": CORES | {"mask_steps": 3},
    "two steps a pass from the third on": CORES | {"mask_steps": 2, "mask_steps_from": 3},
    "a step of a still frame without a pass": {"context": Context.still, "mask_steps": 2},
}


@pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)
def test_the_loop_is_the_slow_literal_one(fields: dict[str, object]) -> None:
    method, model, query = replace(SMALL, **fields), toys.conv_net(size=SIZE), toys.query(1, size=SIZE)
    found = method(model, query)
    mask, trace = twin(method, model.module, query.frames[0], int(query.target[0]))
    torch.testing.assert_close(found.extras["masks"][0, 0], mask, rtol=0, atol=1e-9)
    assert found.extras["probability"][0, 0].tolist() == pytest.approx(trace, abs=1e-9)
    assert trace[-1] != pytest.approx(trace[0], abs=1e-4)
    torch.testing.assert_close(found.map[0], mask.float())


@pytest.mark.parametrize("reward", Reward)
def test_rewards(reward: Reward) -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0], [0.0, 5.0, -1.0]], dtype=torch.float64)
    p = logits.softmax(1)

    class Says(nn.Module):
        def forward(self, frames: Tensor) -> Tensor:
            return logits[: len(frames)] * frames.mean((1, 2, 3, 4), keepdim=True)[:, :, 0, 0, 0]

    expected = {  # the logits are linear in the mean of the frames
        Reward.logprob: logits[:, 1] - (p * logits).sum(1),
        Reward.prob: p[:, 1] * (logits[:, 1] - (p * logits).sum(1)),
        Reward.logit: logits[:, 1],
        Reward.contrastive: logits[:, 1] - logits[:, [0, 2]].amax(1),
    }[reward]
    frames = torch.ones(2, 3, 2, 4, 4, dtype=torch.float64)
    probability, gradient = in_clip(
        toys.network(Says(), size=(3, 2, 4, 4)), frames, torch.tensor([1, 1]), REWARDS[reward]
    )
    torch.testing.assert_close(gradient.flatten(1).sum(1), expected)
    torch.testing.assert_close(probability, p[:, 1])


def test_a_clip_and_ratio_in_a_batch_get_what_they_get_alone() -> None:
    # Stops at different iterations, so that the batch shrinks; ties drawn by the clip's own seed.
    method = replace(
        SMALL,
        areas=[0.1, 0.3, 0.6],
        iterations=40,
        ties=MaskTies.shuffle,
        late_from=None,
        stop_window=3,
        stop_tolerance=0.03,
        **CORES,
    )
    query = toys.query(3, size=SIZE)
    together = method(toys.conv_net(size=SIZE, max_batch=7), query)
    assert len(set(together.extras["iterations"].flatten().tolist())) > 2
    for i in range(3):
        for a, area in enumerate(method.areas):
            alone = replace(method, areas=[area])(
                toys.conv_net(size=SIZE), Query(query.frames[[i]], query.target[[i]], query.seeds[i : i + 1])
            )
            for name, value in alone.extras.items():
                torch.testing.assert_close(
                    value[0, 0], together.extras[name][i, a], rtol=0, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}"
                )


def test_what_is_stopped_early_stays_as_it_was_at_that_iteration() -> None:
    method = replace(SMALL, iterations=60, late_from=None, stop_window=3, stop_tolerance=0.05)
    query = toys.query(2, size=SIZE)
    found = method(toys.conv_net(size=SIZE), query).extras
    for i, made in enumerate(found["iterations"][:, 0].tolist()):
        assert made < 60
        assert made % 3 == 1
        short = replace(SMALL, iterations=made)(toys.conv_net(size=SIZE), query).extras
        torch.testing.assert_close(found["masks"][i], short["masks"][i], rtol=0, atol=1e-12)
        torch.testing.assert_close(found["seeds"][i], short["seeds"][i], rtol=0, atol=1e-12)
        assert (found["probability"][i, 0, made - 1 :] == found["probability"][i, 0, -1]).all()


def test_a_mask_has_settled_once_neither_it_nor_the_probability_has_changed_by_the_tolerance() -> None:
    model, query = toys.conv_net(size=SIZE), toys.query(2, size=SIZE)
    looks = [replace(SMALL, iterations=made)(model, query).extras for made in range(1, 23, 3)]
    stops = set()
    for tolerance in (0.04, 0.08, 0.16):
        method = replace(SMALL, iterations=60, late_from=None, stop_window=3, stop_tolerance=tolerance)
        for i, made in enumerate(method(model, query).extras["iterations"][:, 0].tolist()):
            settled = []
            for before, now in itertools.pairwise(looks):
                pair = torch.stack([before["masks"][i, 0], now["masks"][i, 0]])
                overlap = float(pair.amin(0).sum() / pair.amax(0).sum())
                change = abs(float(now["probability"][i, 0, -1] - before["probability"][i, 0, -1]))
                settled.append(overlap > 1 - tolerance and change < tolerance)
            assert made == 1 + 3 * (1 + settled.index(True))
            stops.add(made)
    assert len(stops) > 2


@pytest.mark.parametrize(
    ("overlap", "change", "settled"),
    [(0.95, 0.05, True), (0.95, -0.05, True), (0.85, 0.05, False), (0.95, 0.15, False), (0.95, -0.15, False)],
)
def test_settled_is_an_overlap_and_a_change_within_the_tolerance(overlap: float, change: float, settled: bool) -> None:
    before = torch.zeros(1, 1, 10, 10)
    before[..., :8] = 1
    now = before * overlap  # the smaller of the two over the larger: `overlap`
    probability = torch.tensor([0.5])
    assert has_settled(before, now, probability, probability + change, 0.1).tolist() == [settled]


def test_400_iterations_end_at_the_area_weight_of_the_released_2000() -> None:
    ours, demo = ExtremalPerturbation(), cast(ExtremalPerturbation, vidattr.load_method("step_demo"))
    assert ours.weight(400) == pytest.approx(demo.weight(2000), rel=1e-4)
    assert [ours.weight(t) for t in range(200)] == [demo.weight(t) for t in range(200)]
    assert not any(replace(ours, core_kernel=[1, 3, 3]).looks(t) for t in range(200))
    assert ours.looks(200)


def test_areas_are_shares_of_the_plane_and_of_the_frame() -> None:
    found = replace(SMALL, areas=[0.1, 0.5])(toys.conv_net(size=SIZE), toys.query(2, size=SIZE)).extras
    torch.testing.assert_close(found["area_visible"], found["masks"].mean((2, 3, 4)))
    full = literal(torch.ones(4, 4, 5, dtype=torch.float64), 2, 2.0, 20.0).mean()
    first = replace(SMALL, iterations=1)(toys.conv_net(size=SIZE), toys.query(1, size=SIZE)).extras
    torch.testing.assert_close(first["area_padded"], full.expand(1, 1))


def test_passes_are_counted_and_no_batch_is_larger_than_allowed() -> None:
    module = toys.Counting(toys.ConvNet())
    method = replace(SMALL, areas=[0.1, 0.3], variant=Variant.dual)
    method(toys.network(module, size=SIZE, max_batch=4), toys.query(3, size=SIZE))
    assert method.passes == 6 * 2 * 2
    assert sum(module.batches) == 3 * method.passes
    assert set(module.batches) == {3}


@pytest.mark.parametrize(
    ("iterations", "mask_steps", "begin", "passes"),
    [(6, 1, 0, 6), (6, 2, 0, 3), (7, 2, 0, 4), (6, 4, 0, 2), (3, 9, 0, 1), (7, 3, 2, 4), (6, 3, 9, 6)],
)
def test_the_network_is_run_once_for_its_mask_steps(iterations: int, mask_steps: int, begin: int, passes: int) -> None:
    module = toys.Counting(toys.ConvNet())
    method = replace(SMALL, iterations=iterations, mask_steps=mask_steps, mask_steps_from=begin)
    extras = method(toys.network(module, size=SIZE, max_batch=4), toys.query(2, size=SIZE)).extras
    assert sum(module.batches) == 2 * method.passes == 2 * passes
    assert extras["iterations"].tolist() == [[iterations]] * 2
    kept = extras["probability"][:, 0]
    for t in range(begin, iterations):
        assert torch.equal(kept[:, t], kept[:, t - (t - begin) % mask_steps])
    assert len(kept[0].unique()) == passes


def test_passes_of_still_frames_are_those_of_a_clip_of_sixteen() -> None:
    module, size = toys.Counting(toys.ConvNet()), (3, 16, *SIZE[2:])
    method = replace(SMALL, context=Context.still, iterations=2)
    method(toys.network(module, size=size, max_batch=4), toys.query(1, size=size))
    assert sum(module.batches) == method.passes == 2 * 16 * len(method.areas)


class Follower(nn.Module):
    """Sure of class 0 as far as it sees, in one moving block, the very texture it was made for."""

    def __init__(self, frames: Tensor, block: Tensor) -> None:
        super().__init__()
        self.pattern = nn.Parameter(6 * frames * block / (frames.square() * block).sum())

    def forward(self, frames: Tensor) -> Tensor:
        likeness = (frames * self.pattern).flatten(1).sum(1)
        return torch.stack([likeness, torch.full_like(likeness, 1.5), torch.zeros_like(likeness)], 1)


def planted() -> tuple[Tensor, Tensor]:
    """A noise clip (1, C, T, H, W) and a 12×12 block (T, H, W) moving down and right: 18 % of the mask's plane."""
    block = torch.zeros(5, 24, 24)
    for t in range(5):
        block[t, 4 + t : 16 + t, 3 + 2 * t : 15 + 2 * t] = 1
    return torch.randn(1, 3, 5, 24, 24, generator=torch.Generator().manual_seed(0)), block


PLANTED: dict[str, dict[str, object]] = {
    **VARIANTS,
    "gaussian": {"temporal_sigma": 0.7},
    "step": {**CORES, "core_start": 20},
}


@pytest.mark.parametrize("fields", PLANTED.values(), ids=PLANTED)
def test_the_mask_of_the_right_area_covers_what_the_network_looks_at(fields: dict[str, object]) -> None:
    frames, block = planted()
    method = replace(
        SMALL, areas=[0.18], iterations=60, seed_step=3, reward_weight=20.0, area_growth=1.0008668, **fields
    )
    found = method(
        toys.network(Follower(frames[0], block), size=(3, 5, 24, 24)), Query(frames, torch.tensor([0]), (1,))
    )
    mask = found.extras["masks"][0, 0] > 0.5
    assert (mask & (block > 0)).sum() / (mask | (block > 0)).sum() >= 0.7


@pytest.mark.parametrize("variant", [Variant.delete, Variant.dual])
def test_what_is_taken_away_is_what_the_network_looks_at(variant: Variant) -> None:
    frames, block = planted()
    # Fade: noise is gone with the least blur, and a mask that takes it away need not be more than a seventh.
    method = replace(
        SMALL,
        areas=[0.18],
        iterations=60,
        seed_step=3,
        reward_weight=20.0,
        variant=variant,
        perturbation=Perturbation.fade,
    )
    found = method(
        toys.network(Follower(frames[0], block), size=(3, 5, 24, 24)), Query(frames, torch.tensor([0]), (1,))
    )
    inside, outside = (found.map[0][where].mean() for where in (block > 0, block == 0))
    assert inside > 4 * outside
    last = found.extras["probability"][0, 0, -1]
    assert last < 0.3 if variant is Variant.delete else last > 0.6


@pytest.mark.parametrize("kernel", [[5, 3, 3], [3, 40, 3]])
def test_a_kernel_that_does_not_fit_is_refused(kernel: list[int]) -> None:
    with pytest.raises(MethodUndefinedError, match=r"core_kernel=\[.*does not fit into 4 frames"):
        replace(SMALL, core_kernel=kernel)(toys.conv_net(size=SIZE), toys.query(1, size=SIZE))


@pytest.mark.parametrize(
    "fields",
    [
        {"areas": []},
        {"areas": [0.0]},
        {"areas": [1.2]},
        {"core_kernel": [3, 3]},
        {"core_kernel": [2, 4, 3]},
        {"core_kernel": [1, 2, 2], "core_shape": CoreShape.cylinder},
        {"core_stride": [1, 0, 1]},
        {"momentum": 1.5},
        {"mask_steps": 0},
        {"mask_steps_from": -1},
        {"lr": 0.0},
    ],
)
def test_a_field_out_of_its_range_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(fields))):
        replace(SMALL, **fields)
