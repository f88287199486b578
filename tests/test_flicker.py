"""Flicker, against maps whose flicker is known."""

from __future__ import annotations

import math

import torch
from torch import Tensor

import toys
from vidattr.metrics.flicker import Flicker
from vidattr.protocols import MapBatch
from vidattr.types import Truth

EMPTY: tuple[tuple[tuple[float, float, float, float], ...], ...] = ((),) * 4


def judge(*maps: Tensor) -> list[float]:
    query = toys.query(1, size=(3, *maps[0].shape))
    found: list[float] = (
        Flicker()
        .score_maps(MapBatch(torch.stack(maps)[:, None], query, [Truth("clip", "", "clip", EMPTY, None)]))
        .columns["flicker"][:, 0]
        .tolist()
    )
    return found


def test_known_maps() -> None:
    still = torch.rand(1, 5, 6).expand(4, 5, 6)
    jumping = torch.zeros(4, 5, 6)
    jumping[range(4), range(4)] = 2.0  # another row on every frame
    half = torch.zeros(4, 5, 6)
    for t in range(4):
        half[t, 0, t : t + 2] = 1  # one of two voxels stays
    assert judge(still, jumping, half) == [0.0, 1.0, 0.5]


def test_a_factor_changes_nothing_and_the_sign_counts() -> None:
    one = torch.randn(4, 5, 6, dtype=torch.float64)
    assert math.isclose(*judge(one, -3 * one))
    alternating = torch.ones(4, 5, 6) * torch.tensor([1, -1, 1, -1]).view(4, 1, 1)
    assert judge(alternating) == [1.0]


def test_an_appearance_is_all_flicker_only_while_it_appears() -> None:
    late = torch.zeros(4, 5, 6)
    late[2:] = 1
    (found,) = judge(late)
    assert math.isclose(found, 1 / 3)  # |0 − 1| of (0 + 0) + (0 + 1) + (1 + 1)


def test_what_cannot_be_judged() -> None:
    broken = torch.ones(4, 5, 6)
    broken[1, 2, 3] = torch.inf
    assert all(math.isnan(one) for one in judge(torch.zeros(4, 5, 6), broken))
    assert judge(torch.rand(1, 5, 6)) == [0.0]
