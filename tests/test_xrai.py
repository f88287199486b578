"""XRAI: its ranking of regions against a literal twin, sums that are kept, and planted evidence."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

import toys
from vidattr.api import read_clip
from vidattr.methods.gradients.integrated_gradients import Baseline, IntegratedGradients, Rule
from vidattr.methods.gradients.xrai import XRAI, by_region
from vidattr.methods.shared.gradients import Reduce
from vidattr.methods.shared.scores import Score
from vidattr.methods.shared.superpixels import SuperpixelOptions, Superpixels, superpixels
from vidattr.models.network.network import VideoModel
from vidattr.models.r2plus1d_light import UCF101R2Plus1DLight
from vidattr.types import Query

SHAPE = (3, 6, 7)


def literal(values: Tensor, masks: list[Tensor], min_voxels: int) -> Tensor:
    """The greedy loop of the paper for one clip, mask by mask."""
    found = torch.full(values.shape, torch.nan, dtype=torch.float64)
    taken = torch.zeros(values.shape, dtype=torch.bool)
    while True:
        best: tuple[float, Tensor | None] = (-torch.inf, None)
        for mask in masks:
            new = mask & ~taken
            if new.sum() >= min_voxels and values[new].double().mean() > best[0]:
                best = (values[new].double().mean().item(), new)
        gain, chosen = best
        if chosen is None:
            break
        found[chosen] = gain
        taken |= chosen
    found[~taken] = values[~taken].double().mean()
    return found.float()


def masks_of(divisions: list[Superpixels], clip: int) -> list[Tensor]:
    return [
        division.labels[clip] == label
        for division in divisions
        for label in range(int(division.labels[clip].max()) + 1)
    ]


def blocks(counts: tuple[int, ...], seed: int) -> Superpixels:
    """Random labels in blocks, so that atoms have several voxels; the last clip has fewer regions."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.stack([torch.randint(count, SHAPE, generator=generator) for count in counts])
    labels[:, :, 1::2] = labels[:, :, :-1:2]
    return Superpixels(labels, counts, labels)


@pytest.mark.parametrize("min_voxels", [1, 4, 15, 200])
@pytest.mark.parametrize("seed", range(3))
def test_regions_are_ranked_as_by_the_literal_loop(min_voxels: int, seed: int) -> None:
    divisions = [blocks((4, 4, 2), seed), blocks((9, 12, 5), seed + 50), blocks((30, 25, 30), seed + 90)]
    values = toys.seeded(3, *SHAPE, seed=seed).float()
    found = by_region(values, divisions, min_voxels)
    for n in range(3):
        torch.testing.assert_close(
            found[n], literal(values[n], masks_of(divisions, n), min_voxels), rtol=1e-6, atol=1e-7
        )
    torch.testing.assert_close(found.sum((1, 2, 3)), values.sum((1, 2, 3)), rtol=1e-4, atol=1e-4)


def test_of_equal_gains_the_first_region_wins() -> None:
    halves = torch.zeros(1, *SHAPE, dtype=torch.long)
    halves[..., 3:] = 1
    values = torch.ones(1, *SHAPE)
    values[..., 5:] = 5.0  # the right half has mean 3, its two columns on the right 5
    whole = Superpixels(torch.zeros_like(halves), (1,), torch.zeros_like(halves))
    columns = torch.arange(7).expand(1, *SHAPE).contiguous()
    assert by_region(values, [Superpixels(halves, (2,), halves)], 1).unique().tolist() == [1.0, 3.0]
    assert torch.equal(
        by_region(values, [whole, Superpixels(halves, (2,), halves), Superpixels(columns, (7,), columns)], 1), values
    )


def literal_xrai(method: XRAI, model: VideoModel, query: Query, n: int) -> tuple[Tensor, Tensor]:
    one = Query(query.frames[n : n + 1], query.target[n : n + 1], query.seeds[n : n + 1])
    total = torch.zeros_like(one.frames)
    for level in (0.0, 1.0):
        start = model.view.colour(one.frames, level).expand_as(one.frames)
        for i in range(method.steps):
            point = (start + (i + 0.5) / method.steps * (one.frames - start)).requires_grad_()
            model(point)[0, one.target].sum().backward()
            total += (one.frames - start) * point.grad / method.steps / 2  # type: ignore[operator]
    divisions = [
        superpixels(one, model.view, SuperpixelOptions(scale, method.compactness, method.time_spacing))
        for scale in method.scales
    ]
    return total[0], literal(total[0].amax(0).float(), masks_of(divisions, 0), method.min_voxels)


def test_it_is_the_regions_of_two_integrals() -> None:
    model, query = toys.conv_net(max_batch=4), toys.query(3)
    method = XRAI(steps=3, scales=[8, 20], min_voxels=3)
    result = method(model, query)
    for n in range(3):
        attribution, expected = literal_xrai(method, model, query, n)
        torch.testing.assert_close(result.extras["attribution"][n], attribution, rtol=1e-10, atol=1e-13)
        torch.testing.assert_close(result.map[n], expected, rtol=1e-5, atol=1e-8)
        assert len(result.map[n].unique()) > 3
    summed = XRAI(steps=3, scales=[8, 20], min_voxels=3, reduce=Reduce.sum)(model, query)
    explained, gain, error = summed.extras["completeness"].unbind(1)
    torch.testing.assert_close(summed.map.sum((1, 2, 3)).double(), explained, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(error, explained - gain, rtol=1e-10, atol=1e-12)


def test_completeness_is_exact_on_a_quadratic() -> None:
    result = XRAI(steps=2, scales=[8])(toys.network(toys.Quadratic()), toys.query())
    assert result.extras["completeness"][:, 1].abs().min() > 1e-3
    assert result.extras["completeness"][:, 2].abs().max() < 1e-10


def test_the_white_baseline_is_the_networks_white() -> None:
    model, query = toys.conv_net(), toys.query()
    frames = query.frames.clone()
    mean, std = (torch.tensor(list(v), dtype=torch.float64).view(3, 1, 1, 1) for v in (model.view.mean, model.view.std))
    frames[1] = (model.view.max_value - mean) / std
    white = IntegratedGradients(steps=4, rule=Rule.midpoint, baseline=Baseline.white)
    found = white(model, Query(frames, query.target, query.seeds)).extras["attribution"]
    assert found[1].abs().max() < 1e-12 < found[0].abs().max()


def test_it_finds_the_one_block_that_is_looked_at() -> None:
    block = (slice(1, 3), slice(2, 4), slice(4, 8))
    model = toys.network(toys.Watcher(block))
    frames = torch.full((2, 3, 4, 6, 8), -1.0, dtype=torch.float64)
    frames[(..., *block)] = 2.0  # SLIC sees the block, too
    target = model(frames).argmax(1)
    found = XRAI(steps=4, scales=[24], min_voxels=1, score=Score.prob)(model, Query(frames, target, (0, 1))).map
    inside = torch.zeros(4, 6, 8, dtype=torch.bool)
    inside[block] = True
    for one in found:
        assert inside[one == one.max()].any()
        assert one[inside].mean() > 5 * one[~inside].abs().mean()


@pytest.mark.real
def test_the_literal_loop_on_a_real_clip(real: Path) -> None:
    weights = real / "weights" / "r2plus1d_light_ucf101.pth"
    view = dataclasses.replace(UCF101R2Plus1DLight().input, size=[32, 32])
    model = UCF101R2Plus1DLight(weights=str(weights), input=view).load()
    frames = read_clip(real / "ucf101_24" / "UCF-101" / "Biking" / "v_Biking_g01_c01.avi", model).double()
    model.module.double()
    query = Query(frames, torch.tensor([model.classes.index("Biking")]), (0,))
    method = XRAI(steps=3, scales=[20, 60], min_voxels=20)
    result = method(model, query)
    attribution, expected = literal_xrai(method, model, query, 0)
    relative = (result.extras["attribution"][0] - attribution).abs().max() / attribution.abs().max()
    assert relative < 1e-10
    assert (result.map[0] - expected).abs().max() / expected.abs().max() < 1e-6
