"""The Gini index of maps whose sparseness is known."""

from __future__ import annotations

import math

import torch
from torch import Tensor

import toys
from vidattr.metrics.sparseness import Sparseness
from vidattr.protocols import MapBatch
from vidattr.types import Truth


def gini(*maps: Tensor) -> list[float]:
    clip = Truth("clip", "", "clip", ((),) * 4, None)
    batch = MapBatch(torch.stack(maps)[:, None], toys.query(1, size=(3, *maps[0].shape)), [clip])
    return [float(value) for value in Sparseness().score_maps(batch).columns["gini"][:, 0]]


def test_known_maps() -> None:
    one, half, even = torch.zeros(4, 5, 6), torch.zeros(4, 5, 6), torch.full((4, 5, 6), 0.3)
    one[2, 1, 1] = -3
    half[:2] = 7
    ramp = torch.arange(120.0).view(4, 5, 6)
    found = gini(one, half, even, ramp)
    # Of 0 … V − 1 the mean difference of two values is (V² − 1) / 3V, and G is half of it over the mean (V − 1) / 2.
    for value, expected in zip(found, (1 - 1 / 120, 0.5, 0.0, 121 / 360), strict=True):
        assert math.isclose(value, expected, abs_tol=1e-12)


def test_it_is_the_mean_difference_of_all_pairs_and_no_scale_or_sign_or_order_changes_it() -> None:
    map = toys.seeded(2, 3, 4)
    values = map.abs().flatten()
    pairs = (values[:, None] - values[None]).abs().mean() / (2 * values.mean())
    shuffled = map.flatten()[torch.randperm(24, generator=torch.Generator().manual_seed(1))].view(2, 3, 4)
    for value in gini(map, -5 * map, shuffled):
        assert math.isclose(value, float(pairs), rel_tol=1e-12)


def test_what_cannot_be_judged_is_nan() -> None:
    broken = torch.ones(4, 5, 6)
    broken[0, 0, 0] = torch.nan
    assert all(math.isnan(value) for value in gini(torch.zeros(4, 5, 6), broken))
