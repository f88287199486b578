from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from vidattr.errors import ConfigError
from vidattr.metrics.temporal_pointing import FrameScore, TemporalPointing
from vidattr.protocols import MapBatch
from vidattr.types import Query, Truth

T, F = True, False


def judge(
    metric: TemporalPointing, segments: list[tuple[bool, ...] | None], maps: Tensor, score: str = "t_pt"
) -> tuple[Tensor, dict[str, list[float]]]:
    """The scores (M, N) and each reference's (N)."""
    N, length = maps.shape[1:3]
    truth = [Truth(str(n), "", str(n), ((),) * length, segment) for n, segment in enumerate(segments)]
    query = Query(torch.zeros(N, 3, 1, 1, 1), torch.zeros(N, dtype=torch.int64), tuple(range(N)))
    scores = metric.score_maps(MapBatch(maps, query, truth))
    return scores.columns[score], {name: columns[score].tolist() for name, columns in scores.reference.items()}


def frames(*values: float) -> Tensor:
    """One map of one clip whose frames hold one number each."""
    return torch.tensor(values, dtype=torch.float32).view(1, 1, -1, 1, 1).repeat(1, 1, 1, 2, 3)


def test_a_clip_hits_iff_its_best_frame_lies_in_the_segment() -> None:
    segment = (F, T, T, F)
    assert judge(TemporalPointing(), [segment], frames(0, 0, 1, 0))[0] == 1
    assert judge(TemporalPointing(), [segment], frames(1, 0, 0, 0))[0] == 0


def test_released_polarity_inverts_the_truth_and_its_references() -> None:
    segment = (T, F, F, F)
    hit, reference = judge(TemporalPointing(polarity="released"), [segment], frames(1, 0, 0, 0))
    assert hit == 0
    assert reference == {"chance": [0.75], "always_first": [0.0], "always_last": [1.0]}
    assert judge(TemporalPointing(), [segment], frames(1, 0, 0, 0))[1] == {
        "chance": [0.25],
        "always_first": [1.0],
        "always_last": [0.0],
    }
    assert judge(TemporalPointing(), [(F, F, F, T)], frames(1, 0, 0, 0))[1] == {
        "chance": [0.25],
        "always_first": [0.0],
        "always_last": [1.0],
    }


def test_sum_and_mean_differ_from_maximum() -> None:
    maps = torch.zeros(1, 1, 2, 4, 4)
    maps[0, 0, 0, 0, 0] = 3  # one high voxel
    maps[0, 0, 1] = 1  # a whole frame of low ones
    hits = {score: float(judge(TemporalPointing(frame_score=score), [(T, F)], maps)[0]) for score in FrameScore}
    assert hits == {FrameScore.sum: 0, FrameScore.max: 1, FrameScore.mean: 0}


def test_ties_score_their_expected_hit_and_a_constant_map_chance() -> None:
    assert judge(TemporalPointing(), [(T, F, F, T)], frames(0, 1, 1, 1))[0] == pytest.approx(1 / 3)
    hit, reference = judge(TemporalPointing(), [(T, F, F, F, F)], frames(*[0.1] * 5))
    assert hit == pytest.approx(reference["chance"][0]) == pytest.approx(0.2)


def test_frames_are_summed_in_double_precision() -> None:
    maps = torch.ones(1, 1, 2, 50, 50)
    maps[0, 0, 1, 0, 0] += torch.finfo(torch.float32).eps  # lost in a sum of 2500 in single precision: a tie
    assert judge(TemporalPointing(), [(F, T)], maps)[0] == 1


def test_what_cannot_be_judged_is_nan_there_and_in_the_references() -> None:
    segments = [(T, F), None, (T, T), (F, F), (T, F)]
    maps = frames(1, 0).repeat(1, 5, 1, 1, 1)
    maps[0, 4, 1, 0, 0] = torch.nan
    hits, reference = judge(TemporalPointing(), segments, maps)
    assert hits.isnan().tolist() == [[False, True, True, True, True]]
    for values in reference.values():
        assert torch.tensor(values).isnan().tolist() == [False, True, True, True, False]


def test_random_maps_score_their_chance() -> None:
    maps = torch.rand(1, 4000, 5, 1, 1, generator=torch.Generator().manual_seed(2))
    hits, reference = judge(TemporalPointing(), [(T, T, F, F, F)] * 4000, maps)
    assert float(hits.mean()) == pytest.approx(reference["chance"][0], abs=4 * (0.4 * 0.6 / 4000) ** 0.5)


@pytest.mark.usefixtures("no_host_copies")
@pytest.mark.parametrize("score", list(FrameScore))
def test_nothing_leaves_the_device(score: FrameScore) -> None:
    truth = [Truth("a", "", "a", ((),) * 2, (T, F)), Truth("b", "", "b", ((),) * 2, None)]
    query = Query(torch.zeros(2, 3, 1, 1, 1), torch.zeros(2, dtype=torch.int64), (0, 1))
    TemporalPointing(frame_score=score).score_maps(MapBatch(torch.zeros(3, 2, 2, 2, 2), query, truth))


def test_the_interval_is_wilsons_and_the_title_says_the_polarity() -> None:
    column, *graded = TemporalPointing(polarity="released").summary()
    assert [(one.score, one.interval, one.bounds) for one in graded] == [
        ("mass", "bootstrap", (0, 1)),
        ("auprc", "bootstrap", (0, 1)),
    ]
    assert (column.score, column.interval, column.better) == ("t_pt", "wilson", "higher")
    assert "released" in column.title
    assert graded[0].title == "positive mass outside the segment"
    assert TemporalPointing(polarity="true").summary()[1].title == "positive mass in the segment"
    assert TemporalPointing(polarity="true").summary() == TemporalPointing().summary()


@pytest.mark.parametrize("polarity", [False, "left"])
def test_another_polarity_is_refused(polarity: bool | str) -> None:
    with pytest.raises(ConfigError, match="polarity"):
        TemporalPointing(polarity=polarity)


# The graded scores


def test_the_mass_is_the_share_of_positive_values_in_the_segment() -> None:
    segment = (T, T, F, F)
    assert judge(TemporalPointing(), [segment], frames(1, 2, 0, 1), "mass")[0] == 0.75
    assert (
        judge(TemporalPointing(), [segment], frames(-5, 1, -9, 1), "mass")[0] == 0.5
    )  # what is negative speaks against
    assert judge(TemporalPointing(polarity="released"), [segment], frames(1, 2, 0, 1), "mass")[0] == 0.25
    for nothing in (frames(0, 0, 0, 0), frames(-1, -2, -1, 0)):
        assert judge(TemporalPointing(), [(T, F, F, F)], nothing, "mass")[0] == 0.25
    maps = torch.zeros(1, 1, 2, 4, 4)
    maps[0, 0, 0, 0] = 3
    maps[0, 0, 0, 1] = -3  # a frame that sums to nothing still has its positive values
    maps[0, 0, 1, 0] = 1
    assert judge(TemporalPointing(), [(T, F)], maps, "mass")[0] == 0.75


def slow_average_precision(scores: list[float], right: tuple[bool, ...]) -> float:
    """The mean over all orders that the scores allow of the mean precision at the right frames."""
    found = []
    for order in itertools.permutations(range(len(scores))):
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order)):
            hits = [
                sum(right[k] for k in order[: place + 1]) / (place + 1) for place, k in enumerate(order) if right[k]
            ]
            found.append(sum(hits) / len(hits))
    return sum(found) / len(found)


@pytest.mark.parametrize("right", [(T, F, F, F, F), (F, T, T, F, F), (T, F, T, T, F), (F, T, T, T, T)])
@pytest.mark.parametrize(
    "scores", [[5, 4, 3, 2, 1], [1, 2, 3, 4, 5], [1, 1, 2, 2, 0], [3, 3, 3, 3, 3], [0, 7, 7, 7, 1]]
)
def test_the_area_is_the_mean_precision_over_all_orders_of_equal_frames(
    scores: list[float], right: tuple[bool, ...]
) -> None:
    found = judge(TemporalPointing(), [right], frames(*scores), "auprc")[0]
    assert float(found) == pytest.approx(slow_average_precision(scores, right))


def test_the_area_without_ties_is_scikit_learns() -> None:
    """average_precision_score of y = [0, 1, 1, 0], s = [.1, .4, .35, .8] is 7/12 there: precisions 1/2 and 2/3."""
    assert float(judge(TemporalPointing(), [(F, T, T, F)], frames(0.1, 0.4, 0.35, 0.8), "auprc")[0]) == pytest.approx(
        7 / 12
    )


@pytest.mark.parametrize("score", ["t_pt", "mass", "auprc"])
def test_a_constant_map_scores_chance_and_random_maps_do_on_average(score: str) -> None:
    segment = (T, T, F, F, F, F)
    hit, reference = judge(TemporalPointing(), [segment], frames(*[0.3] * 6), score)
    assert float(hit) == pytest.approx(reference["chance"][0])
    maps = torch.rand(1, 4000, 6, 1, 1, generator=torch.Generator().manual_seed(3))
    assert float(judge(TemporalPointing(), [segment] * 4000, maps, score)[0].mean()) == pytest.approx(
        reference["chance"][0], abs=0.03
    )


@pytest.mark.parametrize("score", ["t_pt", "mass", "auprc"])
def test_a_perfect_map_scores_one_and_no_score_is_of_what_cannot_be_judged(score: str) -> None:
    segments = [(T, F, F), None, (T, T, T), (T, F, F)]
    maps = frames(1, 0, 0).repeat(1, 4, 1, 1, 1)
    maps[0, 3] = torch.inf
    hits, reference = judge(TemporalPointing(), segments, maps, score)
    assert hits[0, 0] == 1
    assert reference["always_first"][0] == 1
    assert hits.isnan().tolist() == [[False, True, True, True]]
    worst = judge(TemporalPointing(), [(T, F, F)], frames(0, 2, 1), score)[0]
    assert worst == {"t_pt": 0, "mass": 0, "auprc": pytest.approx(1 / 3)}[score]
