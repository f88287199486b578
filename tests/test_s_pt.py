from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from vidattr.errors import ConfigError
from vidattr.evaluate.summary import summed_up
from vidattr.metrics.spatial_pointing import Protocol, SpatialPointing, Ties, ToleranceMode, _worth
from vidattr.protocols import MapBatch
from vidattr.types import Box, Query, Truth

H, W = 20, 24


def truth_of(*frames: tuple[Box, ...], clip: str = "a") -> Truth:
    return Truth(clip, "label", clip, frames, None)


def query(clips: int) -> Query:
    return Query(torch.zeros(clips, 3, 1, 1, 1), torch.zeros(clips, dtype=torch.int64), tuple(range(clips)))


def point(x: int, y: int, size: tuple[int, int] = (H, W)) -> Tensor:
    """One map of one clip of one frame that peaks in one pixel."""
    maps = torch.zeros(1, 1, 1, *size)
    maps[..., y, x] = 1
    return maps


def judge(metric: SpatialPointing, truth: list[Truth], maps: Tensor) -> dict[str, Tensor]:
    return dict(metric.score_maps(MapBatch(maps, query(len(truth)), truth)).columns)


def one(metric: SpatialPointing, boxes: tuple[Box, ...], maps: Tensor) -> dict[str, float]:
    return {name: float(value) for name, value in judge(metric, [truth_of(boxes)], maps).items()}


FIXED = SpatialPointing(tolerance_mode=ToleranceMode.fixed)


@pytest.mark.parametrize(
    ("box", "hit"),
    [
        ((10.5, 0, 20, 20), True),  # the pixel's centre is (3.5, 3.5): 7.0 px from the left edge
        ((10.51, 0, 20, 20), False),
        ((0, 10.5, 20, 20), True),
        ((0, 10.51, 20, 20), False),
        ((7.7, 9.1, 20, 20), True),  # 4.2² + 5.6² = 7.0², from the corner
        ((7.7, 9.12, 20, 20), False),
        ((8.6, 8.6, 20, 20), False),  # within 7 px on each axis, but 7.2 px from the corner
        ((3, 3, 4, 4), True),
    ],
)
def test_a_point_hits_up_to_seven_pixels_from_the_box_in_euclidean_distance(box: Box, hit: bool) -> None:
    scores = one(FIXED, (box,), point(3, 3))
    assert scores["step_corrected"] == scores["aosa"] == float(hit)


def test_distances_are_the_same_on_all_four_sides() -> None:
    box = (11.0, 9.0, 13.0, 11.0)  # in the middle of the frame
    reach = SpatialPointing(tolerance=4.5, tolerance_mode=ToleranceMode.fixed, protocols=[Protocol.aosa])
    hits = torch.tensor([[one(reach, (box,), point(x, y))["aosa"] for x in range(W)] for y in range(H)])
    assert torch.equal(hits, hits.flip(0))
    assert torch.equal(hits, hits.flip(1))
    assert hits.sum() == 4 + 4 * 5 * 2 + 4 * 15  # the box, five rows on each side, and four quarter discs of 15 px


def test_the_tolerance_follows_the_shorter_side_unless_it_is_fixed() -> None:
    at_224 = point(10, 100, (224, 300))
    assert one(SpatialPointing(), ((24.5, 0, 30, 224),), at_224)["step_corrected"] == 1  # 14 px
    assert one(SpatialPointing(), ((24.6, 0, 30, 224),), at_224)["step_corrected"] == 0
    assert one(FIXED, ((24.5, 0, 30, 224),), at_224)["step_corrected"] == 0


def test_released_tolerance_is_7_at_112_and_15_at_224() -> None:
    metric = SpatialPointing(protocols=[Protocol.step_released])
    for size, tolerance in ((112, 7), (224, 15)):
        x0 = size // 2
        hits = [
            one(metric, ((x0, 0, size, size),), point(0, x0 - gap, (size, size)))["step_released"]
            for gap in (tolerance, tolerance + 1)
        ]
        assert hits == [1, 0]


def test_released_defects_by_name() -> None:
    corner, far = point(0, 0, (112, 112)), (60.0, 60.0, 80.0, 80.0)
    # (a) a frame without a box is judged by a box at the origin, and so counts.
    clip = truth_of((far,), ())
    maps = corner.expand(1, 1, 2, 112, 112)
    scores = judge(SpatialPointing(), [clip], maps)
    assert scores["step_released"] == 0.5
    assert scores["step_corrected"] == 0
    assert (scores["step_released_frames"], scores["step_corrected_frames"]) == (2, 1)
    # (b) row and column are swapped.
    wide = (60.0, 10.0, 100.0, 20.0)
    assert one(SpatialPointing(), (wide,), point(80, 15, (112, 112)))["step_released"] == 0
    assert one(SpatialPointing(), (wide,), point(15, 80, (112, 112)))["step_released"] == 1
    # (c) a rectangle, not a disc: 7 px off on both axes.
    diagonal = one(SpatialPointing(), (far,), point(53, 53, (112, 112)))
    assert (diagonal["step_released"], diagonal["step_corrected"]) == (1, 0)
    # Of several boxes only the last counts.
    both = one(SpatialPointing(), (far, (0.0, 100.0, 5.0, 112.0)), point(70, 70, (112, 112)))
    assert (both["step_released"], both["step_corrected"], both["aosa"]) == (0, 1, 1)


def test_released_protocol_scores_clips_without_any_box_only_when_told() -> None:
    corner = point(0, 0, (112, 112))
    assert math.isnan(one(SpatialPointing(), (), corner)["step_released"])
    assert one(SpatialPointing(score_unboxed_clips=True), (), corner)["step_released"] == 1
    assert math.isnan(one(SpatialPointing(score_unboxed_clips=True), (), corner)["step_corrected"])


def test_a_constant_map_scores_chance_and_not_where_the_array_begins() -> None:
    flat = torch.zeros(1, 1, 1, H, W)
    truth = [truth_of(((0.0, 0.0, 5.0, 6.0),))]
    scores = FIXED.score_maps(MapBatch(flat, query(1), truth))
    chance = scores.reference["chance"]["step_corrected"]
    assert 0 < chance < 1
    torch.testing.assert_close(scores.columns["step_corrected"][0], chance, rtol=1e-12, atol=0)
    assert scores.columns["aosa"] == 1  # the first of all pixels: why that is no way to take ties


def test_ties_score_by_their_rule() -> None:
    maps = point(2, 2) + point(22, 2)
    box = ((0.0, 0.0, 3.0, 3.0),)
    scores = {ties: one(SpatialPointing(ties=ties, tolerance=3), box, maps)["step_corrected"] for ties in Ties}
    assert scores == {Ties.expected: 0.5, Ties.first: 1.0, Ties.centroid: 0.0}  # the centroid lies between the two
    middle = ((12.0, 2.0, 13.0, 3.0),)
    assert one(SpatialPointing(ties=Ties.centroid, tolerance=0), middle, maps)["step_corrected"] == 1


def test_what_cannot_be_judged_is_nan_and_has_no_neighbours() -> None:
    box = ((0.0, 0.0, 8.0, 8.0),)
    truth = [truth_of(box, clip="a"), truth_of((), clip="b"), truth_of(box, clip="c")]
    maps = point(1, 1).expand(2, 3, 1, H, W).clone()
    maps[1, 0, 0, 5, 5] = torch.nan
    maps[0, 2, 0, 5, 5] = torch.inf
    for protocol, values in judge(FIXED, truth, maps).items():
        if protocol.endswith("_frames"):
            assert values.tolist() == [[1, 0, 1]] * 2
        else:
            assert values.isnan().tolist() == [[False, True, True], [True, True, False]]
            assert values.nan_to_num(1).eq(1).all()


def random_case(clips: int = 5, frames: int = 3) -> tuple[list[Truth], Tensor]:
    generator = torch.Generator().manual_seed(11)
    draws = torch.rand(clips, frames, 3, 4, generator=generator, dtype=torch.float64).tolist()
    counts = torch.randint(0, 4, (clips, frames), generator=generator)
    counts[:, 0].clamp_(min=1)
    truth = []
    for c in range(clips):
        boxes = [
            tuple(
                (u * 20, v * 16, u * 20 + 1 + a * 3, v * 16 + 1 + b * 3) for u, v, a, b in draws[c][t][: counts[c, t]]
            )
            for t in range(frames)
        ]
        truth.append(truth_of(*boxes, clip=f"c{c}"))
    # Few levels: most frames have several maxima.
    return truth, torch.randint(0, 40, (2, clips, frames, H, W), generator=generator).float()


def literal(
    protocol: Protocol, radius: float, released: int, truth: Truth, maps: list[list[list[float]]]
) -> tuple[float, int, float]:
    """Hit rate, frames and chance of one clip, pixel by pixel."""
    hits, chances = [], []
    for boxes, frame in zip(truth.boxes, maps, strict=True):
        if not boxes and protocol is not Protocol.step_released:
            continue
        top = max(value for row in frame for value in row)
        good = {}
        for y in range(H):
            for x in range(W):
                if protocol is Protocol.step_released:
                    x0, y0, x1, y1 = boxes[-1] if boxes else (0, 0, 0, 0)
                    row_hits = math.floor(x0) - released <= y <= math.ceil(x1) + released
                    good[x, y] = row_hits and math.floor(y0) - released <= x <= math.ceil(y1) + released
                else:
                    nearest = [(min(max(x + 0.5, b[0]), b[2]), min(max(y + 0.5, b[1]), b[3])) for b in boxes]
                    good[x, y] = any(math.hypot(x + 0.5 - u, y + 0.5 - v) <= radius for u, v in nearest)
        peaks = [(x, y) for y in range(H) for x in range(W) if frame[y][x] == top]
        if protocol is not Protocol.step_corrected:
            peaks = peaks[:1]
        hits.append(sum(good[peak] for peak in peaks) / len(peaks))
        chances.append(sum(good.values()) / len(good))
    return sum(hits) / len(hits), len(hits), sum(chances) / len(chances)


@pytest.mark.parametrize("protocol", list(Protocol))
def test_against_a_literal_twin(protocol: Protocol) -> None:
    truth, maps = random_case()
    radius = 2.0
    metric = SpatialPointing(tolerance=radius, tolerance_mode=ToleranceMode.fixed, protocols=[protocol])
    scores = metric.score_maps(MapBatch(maps, query(len(truth)), truth))
    for n, clip in enumerate(truth):
        for m in range(2):
            rate, frames, chance = literal(protocol, radius, round(H / 14 - 1), clip, maps[m, n].tolist())
            assert float(scores.columns[protocol][m, n]) == pytest.approx(rate, abs=1e-12)
            assert (
                scores.columns[f"{protocol}_frames"][m, n]
                == scores.reference["chance"][f"{protocol}_frames"][n]
                == frames
            )
            assert float(scores.reference["chance"][protocol][n]) == pytest.approx(chance, abs=1e-12)


def test_a_clip_scores_the_same_alone() -> None:
    truth, maps = random_case()
    for ties in Ties:
        metric = SpatialPointing(ties=ties, tolerance=10)
        whole = judge(metric, truth, maps)
        for n, clip in enumerate(truth):
            for name, alone in judge(metric, [clip], maps[:, n : n + 1]).items():
                torch.testing.assert_close(alone[:, 0], whole[name][:, n], rtol=0, atol=0, equal_nan=True)


def judged_rows(metric: SpatialPointing, truth: list[Truth], maps: Tensor) -> list[pd.DataFrame]:
    """The rows of each of M maps, as they are stored."""
    scores = metric.score_maps(MapBatch(maps, query(len(truth)), truth))
    keys = {"clip": [t.clip for t in truth], "label": [t.label for t in truth], "video": [t.video for t in truth]}
    return [
        pd.DataFrame(keys | {name: v[m].numpy() for name, v in scores.columns.items()} | scores.notes)
        for m in range(len(maps))
    ]


@pytest.mark.parametrize("unboxed", [False, True])
def test_the_best_constant_point_is_the_best_of_all_pixels(unboxed: bool) -> None:
    truth, _ = random_case()
    bare = truth_of((), (), (), clip="none")
    truth = [dataclasses.replace(clip, label="ab"[n % 3 == 0]) for n, clip in enumerate([*truth, bare])]
    truth.append(dataclasses.replace(bare, clip="also none", label="c"))  # a class without any box
    metric = SpatialPointing(tolerance=3, tolerance_mode=ToleranceMode.fixed, score_unboxed_clips=unboxed)
    points = torch.eye(H * W).view(H * W, 1, 1, H, W).expand(-1, len(truth), 3, -1, -1)
    constant = judged_rows(metric, truth, points)
    found = metric.fitted(constant[0], (H, W))
    assert found.name == "best point"
    for protocol in Protocol:
        column = next(column for column in metric.summary() if column.score == protocol)
        values = [summed_up("", "reference", rows, column, 0).value for rows in constant]
        best = max(values)
        assert best > sorted(values)[len(values) // 2]
        own = summed_up("", "reference", constant[0].assign(**found.columns), column, 0)
        assert own.value == pytest.approx(best, abs=1e-12)
        (place,) = re.findall(rf"{protocol} \((\d+), (\d+)\)", found.remark)
        rows = constant[int(place[1]) * W + int(place[0])]
        np.testing.assert_allclose(found.columns[protocol], rows[protocol], rtol=1e-12)
    assert "chosen on the very clips" in found.remark


def test_a_hit_is_worth_its_share_of_the_frames_or_of_its_groups_frames_and_of_the_groups() -> None:
    frames = torch.tensor([2, 3, 0, 5, 0])
    assert _worth(frames, None).tolist() == [0.1] * 5
    found = _worth(frames, np.array(["a", "b", "a", "b", "c"]))  # no frame of c is judged
    assert found.tolist() == [1 / (2 * 2), 1 / (8 * 2), 1 / (2 * 2), 1 / (8 * 2), 0]


def test_there_is_no_best_point_without_boxes() -> None:
    (rows,) = judged_rows(FIXED, [truth_of((), ())], torch.zeros(1, 1, 2, H, W))
    found = FIXED.fitted(rows, (H, W))
    assert dict(found.columns) == {}
    assert "no frame has a box" in found.remark


@pytest.mark.usefixtures("no_host_copies")
@pytest.mark.parametrize("ties", list(Ties))
def test_nothing_leaves_the_device(ties: Ties) -> None:
    SpatialPointing(ties=ties).score_maps(
        MapBatch(torch.zeros(2, 1, 2, H, W), query(1), [truth_of((), ((1.0, 1.0, 2.0, 2.0),))])
    )


def test_columns_follow_the_protocols() -> None:
    assert [(c.score, c.by) for c in SpatialPointing().summary()] == [
        ("step_corrected", None),
        ("step_corrected", "label"),
        ("step_corrected", "video"),
        ("step_released", "label"),
        ("aosa", None),
    ]
    metric = SpatialPointing(protocols=[Protocol.aosa])
    assert [(c.score, c.weight) for c in metric.summary()] == [("aosa", "aosa_frames")]
    assert set(judge(metric, [truth_of(())], point(0, 0))) == {"aosa", "aosa_frames"}


@pytest.mark.parametrize(
    "wrong", [{"protocols": []}, {"protocols": [Protocol.aosa] * 2}, {"tolerance": -1.0}, {"tolerance": math.nan}]
)
def test_wrong_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"metric.{next(iter(wrong))}"):
        SpatialPointing(**wrong)  # type: ignore[arg-type]
