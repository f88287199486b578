"""Agreement of methods, against loops and scipy, and on disk: a table with another method has other scores."""

from __future__ import annotations

import csv
import io
import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

import toys
from conftest import Command
from vidattr.api import explain
from vidattr.api import judge as judge_explanations
from vidattr.errors import ConfigError
from vidattr.metrics.agreement import Agreement
from vidattr.metrics.shared.similarity import Similarity, similarity
from vidattr.protocols import ComparesMaps, MapBatch
from vidattr.types import Truth

SIZE = (4, 9, 8)


def judge(maps: Tensor, explains: list[bool] | None = None, top: float = 0.1) -> dict[str, Tensor]:
    query = toys.query(maps.shape[1], size=(3, *maps.shape[2:]))
    truth = [Truth("clip", "", "clip", ((),) * maps.shape[2], None)] * maps.shape[1]
    return dict(Agreement(top=top).score_maps(MapBatch(maps, query, truth, None, explains)).columns)


def test_each_pair_is_that_of_an_independent_computation() -> None:
    maps = toys.seeded(3, 2, *SIZE).float()
    maps[2] = maps[2].clamp(min=0)  # ties, but not at the last of the largest
    found = judge(maps)
    for a, b, n in itertools.product(range(3), range(3), range(2)):
        one, other = maps[a, n], maps[b, n]
        rho = spearmanr(one.flatten().numpy(), other.flatten().numpy()).statistic
        assert float(found[f"spearman_with_{b}"][a, n]) == pytest.approx(rho, abs=1e-9)
        alike = similarity(Similarity.ssim, one[None], other[None])
        assert float(found[f"ssim_with_{b}"][a, n]) == pytest.approx(float(alike), abs=1e-9)
        k = round(0.1 * one.numel())
        tops = [set(np.argsort(-each.flatten().numpy())[:k].tolist()) for each in (one, other)]
        expected = len(tops[0] & tops[1]) / len(tops[0] | tops[1])
        assert float(found[f"top_iou_with_{b}"][a, n]) == pytest.approx(expected)
    for name in ("spearman", "ssim", "top_iou"):
        mean = (found[f"{name}_with_1"][0] + found[f"{name}_with_2"][0]) / 2
        torch.testing.assert_close(found[name][0], mean)


def test_known_pairs() -> None:
    one = torch.arange(288.0).view(1, *SIZE)
    found = judge(torch.stack([one, 3 * one + 1, -one, torch.full_like(one, 2)]), top=0.5)
    for name, values in {"spearman": [1, 1, -1], "top_iou": [1, 1, 0]}.items():
        assert [float(found[f"{name}_with_{k}"][0]) for k in range(3)] == pytest.approx(values)
        assert found[f"{name}_with_3"][0].isnan()
        assert found[name][3].isnan(), "a constant map agrees with nothing"
        assert float(found[name][0]) == pytest.approx((values[1] + values[2]) / 2)


def test_equal_values_overlap_as_their_random_orders_do() -> None:
    two = torch.zeros(2, 1, *SIZE)
    two[0, 0, 0, 0, 0] = two[1, 0, 0, 0, 0] = 1  # one voxel is sure, the other 27 of 28 are drawn from 287
    found = judge(two, top=28 / 288)
    both = 1 + 27 * 27 / 287
    assert float(found["top_iou_with_1"][0]) == pytest.approx(both / (56 - both))
    assert float(found["top_iou_with_0"][0]) == 1


def test_baselines_are_compared_but_are_not_among_the_others() -> None:
    maps = toys.seeded(3, 1, *SIZE)
    found = judge(maps, [True, True, False])
    assert found["spearman"][0] == found["spearman_with_1"][0]
    torch.testing.assert_close(found["spearman"][2], (found["spearman_with_0"][2] + found["spearman_with_1"][2]) / 2)
    assert not found["spearman_with_2"][0].isnan()
    assert judge(maps, [True, False, False])["spearman"][0].isnan(), "there is no other"


def test_the_matrix_is_the_mean_over_clips() -> None:
    rows = {
        "a": pd.DataFrame({"spearman_with_0": [1.0, 1.0], "spearman_with_1": [0.5, math.nan]}),
        "b, c": pd.DataFrame({"spearman_with_0": [0.5, 0.0], "spearman_with_1": [1.0, 1.0]}),
    }
    files = Agreement().extra_files(rows)
    lines = list(csv.reader(io.StringIO(files[".agreement.csv"].decode())))
    assert lines[0] == ["measure", "method", "other", "agreement", "clips"]
    assert lines[1:5] == [
        ["spearman", "a", "a", "1.0000", "2"],
        ["spearman", "a", "b, c", "0.5000", "1"],
        ["spearman", "b, c", "a", "0.2500", "2"],
        ["spearman", "b, c", "b, c", "1.0000", "2"],
    ]
    assert lines[5] == ["ssim", "a", "a", "", "0"]
    assert files[".agreement.png"].startswith(b"\x89PNG")


def test_in_python_baselines_are_not_among_the_others_either() -> None:
    model = toys.conv_net()
    model.module.float()
    frames = toys.query(2, dtype=torch.float32).frames
    found = [explain(model, name, frames) for name in ("gradient", "grad_x_input")]
    judged = judge_explanations(found, "agreement").scores.set_index(["method", "clip"])
    for clip in found[0].clips:
        one, other = judged.loc[("gradient", clip)], judged.loc[("grad_x_input", clip)]
        assert one["spearman"] == other["spearman"] == one["spearman_with_1"]


@pytest.mark.parametrize("top", [0.0, 1.0, -0.1])
def test_a_share_that_is_none_is_refused(top: float) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        Agreement(top=top)


def test_scores_hold_for_the_methods_of_their_table(vidattr: Command) -> None:
    assert isinstance(Agreement(), ComparesMaps)
    clips = ("dataset.clips=1", "paths.out=out")
    three = "method=gradient,grad_x_input,grad_cam"
    assert (
        vidattr("run", *clips, three, "render.mp4=false", "render.gif=false", "render.grid=false", "--quiet").code == 0
    )

    def table(methods: str, verb: str = "evaluate") -> dict[tuple[str, str], str]:
        quiet = ["--quiet"] if verb == "evaluate" else []
        outcome = vidattr(verb, *clips, methods, "metric=agreement", "--format", "csv", *quiet)
        assert outcome.code == 0, outcome.err
        return {(row["row"], row["column"]): row["value"] for row in csv.DictReader(io.StringIO(outcome.out))}

    column = "Spearman, mean with the others"
    all_three, two = table(three), table("method=gradient,grad_cam")
    assert all_three["gradient", column] != two["gradient", column]
    assert two["gradient", column] == two["grad_cam", column], "each is the only other of the other"
    assert ("random", column) in two
    assert table(three, "table") == all_three, "the scores of the first table are still there"
