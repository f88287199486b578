"""The annotated voxels of a clip, and how much of a map lies on them, against loops and known maps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

import toys
from vidattr.metrics.localisation import Localisation
from vidattr.metrics.shared.truth_volume import truth_volume
from vidattr.protocols import MapBatch
from vidattr.types import Box, Truth

SIZE = (4, 6, 8)
BOX: Box = (1.6, 2.0, 4.5, 4.0)  # the centres of columns 2 to 3 (2.5, 3.5), and of rows 2 and 3


def truth(boxes: Sequence[Sequence[Box]], segment: Sequence[bool] | None = None) -> Truth:
    return Truth("clip", "", "clip", tuple(map(tuple, boxes)), None if segment is None else tuple(segment))


def judge(maps: Tensor, *clips: Truth) -> dict[str, Tensor]:
    """Returns the scores (M, N) of maps (M, N, T, H, W)."""
    return dict(Localisation().score_maps(MapBatch(maps, toys.query(len(clips)), clips)).columns)


def test_the_volume_is_boxes_on_the_frames_of_the_segment() -> None:
    far: Box = (7.0, 5.0, 12.0, 9.0)  # reaches beyond the frame
    clips = [
        truth([[BOX], [BOX, far], [], [BOX]], [True, True, True, False]),
        truth([[BOX]] * 4),
        truth([[]] * 4, [True] * 4),
        truth([[(0.0, 0.0, 8.0, 6.0)]] * 4),
        truth([[BOX]] * 4, [False] * 4),
    ]
    volume, known = truth_volume(clips, SIZE, torch.device("cpu"))
    first = torch.zeros(SIZE, dtype=torch.bool)
    for t in (0, 1):
        for y, x in itertools.product((2, 3), (2, 3)):
            first[t, y, x] = True
    first[1, 5, 7] = True
    assert torch.equal(volume[0], first)
    assert volume[1].sum() == 4 * 4
    assert known.tolist() == [True, True, False, False, False]


def test_the_truth_of_single_voxels_goes_before_boxes() -> None:
    evidence = np.zeros(SIZE, bool)
    evidence[1, 2, 3] = evidence[2, 5, 0] = True
    clips = [replace(truth([[BOX]] * 4, [True] * 4), evidence=evidence), truth([[BOX]] * 4)]
    clips += [replace(clips[0], evidence=np.ones(SIZE, bool)), replace(clips[0], evidence=np.zeros(SIZE, bool))]
    volume, known = truth_volume(clips, SIZE, torch.device("cpu"))
    assert volume[0].nonzero().tolist() == [[1, 2, 3], [2, 5, 0]]
    assert known.tolist() == [True, True, False, False]
    map = torch.from_numpy(evidence).float()
    found = judge(torch.stack([map, map]).expand(1, 2, *SIZE), *clips[:2])
    assert [found[name][0, 0] for name in ("mass", "rank", "iou")] == [1, 1, 1]
    assert found["mass"][0, 1] < 1


def test_a_perfect_map_a_wrong_one_and_a_constant_one() -> None:
    clip = truth([[BOX], [BOX], [], []])
    volume = truth_volume([clip], SIZE, torch.device("cpu"))[0].float()
    found = judge(torch.stack([volume, 1 - volume, torch.full_like(volume, 0.3), -volume]), clip)
    share = 8 / (4 * 6 * 8)
    for name, chance in (("mass", share), ("rank", share), ("iou", share / (2 - share))):
        values = found[name][:, 0]
        assert values[:2].tolist() == [1, 0], name
        assert math.isclose(values[2], chance), name
    assert found["rank"][3] == 0, "the annotated voxels are the lowest"
    assert math.isclose(found["mass"][3], share), "no positive value: as a constant map"


def test_it_agrees_with_a_loop_over_voxels() -> None:
    clips = [truth([[BOX]] * 4, [True, False, True, True]), truth([[(0.0, 0.0, 3.0, 3.0)], [], [], []])]
    maps = toys.seeded(2, 2, *SIZE)
    found = judge(maps, *clips)
    volume = truth_volume(clips, SIZE, torch.device("cpu"))[0]
    for m, n in itertools.product(range(2), range(2)):
        places = list(itertools.product(*map(range, SIZE)))
        right = {place for place in places if volume[(n, *place)]}
        order = sorted(places, key=lambda place: -float(maps[(m, n, *place)]))
        top = set(order[: len(right)])
        mass = sum(max(0.0, float(maps[(m, n, *place)])) for place in right)
        whole = sum(max(0.0, float(maps[(m, n, *place)])) for place in places)
        assert math.isclose(found["mass"][m, n], mass / whole, rel_tol=1e-12)
        assert math.isclose(found["rank"][m, n], len(top & right) / len(right), rel_tol=1e-12)
        assert math.isclose(found["iou"][m, n], len(top & right) / len(top | right), rel_tol=1e-12)


def test_equal_values_count_with_their_probability() -> None:
    clip = truth([[(0.0, 0.0, 2.0, 1.0)], [], [], []])  # two voxels
    maps = torch.zeros(1, 1, *SIZE)
    maps[0, 0, 0, 0, 0] = 2  # one of them is the largest; the second place is shared by 3, of which 1 is right
    maps[0, 0, 0, 0, 1] = maps[0, 0, 3, 3, 3] = maps[0, 0, 2, 0, 0] = 1
    found = judge(maps, clip)
    assert math.isclose(found["rank"], (1 + 1 / 3) / 2)


def test_what_cannot_be_judged_is_nan() -> None:
    broken = torch.rand(1, 3, *SIZE)
    broken[0, 0, 0, 0, 0] = torch.inf
    found = judge(broken, truth([[BOX]] * 4), truth([[]] * 4), truth([[(0.0, 0.0, 8.0, 6.0)]] * 4))
    assert all(found[name].isnan().all() for name in ("mass", "rank", "iou"))
    assert not found["truth_share"][0, 0].isnan()
