from __future__ import annotations

import math
import sys
from itertools import product

import numpy as np
import pytest

from conftest import ROOT
from vidattr.evaluate import resampling, statistics
from vidattr.evaluate.resampling import ClusterSums, judged
from vidattr.evaluate.statistics import (
    cluster_band,
    cluster_bootstrap,
    group_means,
    interval,
    mean,
    paired_difference,
)
from vidattr.metrics.shared.score_interval import score_interval

sys.path.append(str(ROOT / "scripts"))

from interval_coverage import SHAPES, coverage

NAN = math.nan


def videos(n: int, each: int) -> list[str]:
    return [f"v{i // each:03d}" for i in range(n)]


def test_means_by_hand() -> None:
    values, weights = [1.0, 0.0, 0.5, NAN, 1.0], [1.0, 3.0, 4.0, 9.0, 0.0]
    assert judged(values, weights).tolist() == [True, True, True, False, False]
    assert mean(values) == pytest.approx(2.5 / 4)
    assert mean(values, weights) == pytest.approx(3 / 8)
    assert mean(values, weights, ["a", "a", "b", "c", "c"]) == pytest.approx((1 / 4 + 1 / 2) / 2)
    means, names = group_means(values, weights, ["b", "b", "a", "c", "c"])
    assert (means.tolist(), names.tolist()) == ([0.5, 0.25], ["a", "b"])


def test_nothing_judged_is_nan_everywhere() -> None:
    nothing = [NAN, NAN]
    assert math.isnan(mean(nothing))
    assert np.isnan(cluster_bootstrap(nothing, None, ["a", "b"], seed=0)).all()
    difference = paired_difference(nothing, [1.0, 2.0], None, ["a", "b"], seed=0)
    assert np.isnan([difference.value, difference.low, difference.high, difference.p]).all()
    assert np.isnan(interval(nothing, None, ["a", "b"], seed=0)).all()


Z = 1.959963984540054


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),
        (81, 263, 0.2553, 0.3662),
        (49, 100, 0.3942, 0.5865),
    ],
)
def test_score_interval_against_published_values_of_wilson(hits: int, n: int, low: float, high: float) -> None:
    assert score_interval(hits / n, n, Z) == pytest.approx((low, high), abs=5e-5)


def test_score_interval_ends_are_where_the_share_lies_on_the_border_of_its_test() -> None:
    # The defining property: at either end p, |p̂ − p| = z √(p(1−p)/n).
    for p in score_interval(7 / 31, 31, Z):
        assert abs(7 / 31 - p) == pytest.approx(Z * math.sqrt(p * (1 - p) / 31))


def test_wilson_of_independent_clips_is_the_textbook_interval_of_as_many_trials() -> None:
    hits = np.array([1.0] * 120 + [0.0] * 280)
    low, high = interval(hits, None, videos(400, 1), seed=0, bounds=(0, 1), wilson=True)
    assert (low, high) == pytest.approx(score_interval(0.3, 400, Z), abs=5e-4)
    # Four copies of each clip say no more than one.
    assert interval(np.repeat(hits, 4), None, videos(1600, 4), seed=0, bounds=(0, 1), wilson=True) == pytest.approx(
        (low, high)
    )


def test_interval_of_few_videos_by_hand() -> None:
    values = np.array([0.2, 0.4, 0.9, 0.5, 0.6])
    t = 2.7764451051977934  # 97.5 % point of Student's t with 4 degrees of freedom
    s = math.sqrt(values.var(ddof=1) / 5 * 5 / 4)
    assert interval(values, None, list("abcde"), seed=0) == pytest.approx((0.52 - t * s, 0.52 + t * s))
    ends = interval(values, None, list("abcde"), seed=0, bounds=(0, 1))
    for q in ends:
        assert (0.52 - q) ** 2 == pytest.approx(t**2 * s**2 * q * (1 - q) / (0.52 * 0.48))
    assert 0 < ends[0] < 0.52 < ends[1] < 1
    # A change of unit is a change of unit.
    assert interval(7 * values - 3, None, list("abcde"), seed=0, bounds=(-3, 4)) == pytest.approx(
        (7 * ends[0] - 3, 7 * ends[1] - 3)
    )


def test_interval_with_weights_and_classes_is_that_of_the_mean_without_each_video() -> None:
    generator = np.random.default_rng(2)
    values, weights, names = generator.random(12), generator.integers(1, 5, 12).astype(float), np.array(videos(12, 2))
    classes = np.array([f"k{i // 3}" for i in range(12)])
    without = [mean(values[names != v], weights[names != v], classes[names != v]) for v in sorted(set(names))]
    s = math.sqrt(((np.array(without) - np.mean(without)) ** 2).sum())
    center = mean(values, weights, classes)
    low, high = interval(values, weights, names, classes, seed=0)
    assert (low + high) / 2 == pytest.approx(center)
    assert high - low == pytest.approx(2 * 2.5705818366147395 * s)  # 5 degrees of freedom


def test_fewer_than_three_videos_have_no_interval_and_all_hits_have_one() -> None:
    for few in (1, 2):
        assert np.isnan(interval([0.2, 0.8, 0.5, 0.4], None, videos(4, 4 // few), seed=0, bounds=(0, 1))).all()
    low, high = interval([1.0] * 5, None, list("abcde"), seed=0, bounds=(0, 1))
    assert (low, high) == pytest.approx(score_interval(1, 5, 2.7764451051977934))
    assert low < 0.5 < high == pytest.approx(1)
    assert interval([0.4] * 5, None, list("abcde"), seed=0, bounds=(0, 1)) == pytest.approx((0.4, 0.4))


@pytest.mark.parametrize("videos_", [5, 7, 10, 14])
@pytest.mark.parametrize(("a", "b"), [(0.5, 1.5), (5.0, 1.0), (0.4, 0.4)])
def test_intervals_of_few_skewed_scores_cover_the_truth(videos_: int, a: float, b: float) -> None:
    generator = np.random.default_rng(videos_)
    covered = 0
    for trial in range(800):
        values = np.repeat(generator.beta(a, b, videos_), 2)
        low, high = interval(values, None, videos(2 * videos_, 2), seed=trial, bounds=(0, 1))
        covered += low <= a / (a + b) <= high
    assert covered / 800 >= 0.92


def test_the_table_of_coverages_in_the_docs_is_what_the_simulation_gives() -> None:
    lines = (ROOT / "docs" / "STATISTICS.md").read_text("utf-8").splitlines()
    table = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in lines
        if line.startswith("| ") and line.split("|")[1].strip().isdigit()
    ]
    assert [int(row[0]) for row in table] == list(range(3, 15))
    for number, (draw, truth) in enumerate(SHAPES.values(), start=1):
        row = table[4]  # 7 videos
        written, by_bootstrap = (int(text.strip("()")) for text in row[number].split())
        assert written >= 92
        assert 100 * coverage(draw, truth, 7, 300) == pytest.approx(written, abs=4)
        assert 100 * coverage(draw, truth, 7, 100, bootstrap=True) == pytest.approx(by_bootstrap, abs=14)


def test_many_videos_are_bootstrapped() -> None:
    values, names = np.random.default_rng(0).random(60), videos(60, 2)
    assert interval(values, None, names, seed=1, bounds=(0, 1)) == cluster_bootstrap(values, None, names, seed=1)


def test_bootstrap_resamples_videos_and_not_clips() -> None:
    generator = np.random.default_rng(3)
    per_video = generator.normal(size=40)
    low, high = cluster_bootstrap(np.repeat(per_video, 25), None, videos(1000, 25), seed=1)
    # Ten copies of each clip say no more than one: the interval is that of 40 numbers.
    assert high - low == pytest.approx(2 * 1.96 * per_video.std() / math.sqrt(40), rel=0.1)
    assert cluster_bootstrap(per_video, None, videos(40, 1), seed=1) == pytest.approx((low, high))


def test_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(7)
    names, covered = videos(120, 3), 0
    for trial in range(300):
        values = np.repeat(generator.normal(size=40), 3) + 0.3 * generator.normal(size=120)
        low, high = cluster_bootstrap(values, None, names, seed=trial, draws=400)
        covered += low <= 0 <= high
    assert 0.90 <= covered / 300 <= 0.98  # 95 %, a little less for 40 videos, ± 2 standard errors


@pytest.mark.parametrize("by_class", [False, True])
def test_bootstrap_against_a_literal_twin(by_class: bool) -> None:
    generator = np.random.default_rng(5)
    values, weights = generator.random(30), generator.integers(0, 4, 30).astype(float)
    values[4] = NAN
    clusters, classes = np.array(videos(30, 3)), np.array([f"k{i // 10}" for i in range(30)])
    keep = np.isfinite(values) & (weights > 0)
    names = sorted(set(clusters[keep]))
    means = []
    for picks in np.random.default_rng(9).integers(len(names), size=(500, len(names))):
        clips = [i for pick in picks for i in np.flatnonzero(keep & (clusters == names[pick]))]
        groups = sorted(set(classes[clips])) if by_class else [None]
        shares = []
        for group in groups:
            mine = [i for i in clips if group is None or classes[i] == group]
            shares.append(sum(weights[i] * values[i] for i in mine) / sum(weights[i] for i in mine))
        means.append(sum(shares) / len(shares))
    expected = np.percentile(means, [2.5, 97.5])
    groups_given = classes if by_class else None
    assert cluster_bootstrap(values, weights, clusters, groups_given, seed=9, draws=500) == pytest.approx(
        tuple(expected)
    )


def test_blocks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    values, names = np.random.default_rng(0).random(60), videos(60, 2)
    whole = cluster_bootstrap(values, None, names, seed=4)
    p = paired_difference(values, values[::-1] + 0.1, None, names, seed=4)
    monkeypatch.setattr(resampling, "_BLOCK", 97)
    assert cluster_bootstrap(values, None, names, seed=4) == pytest.approx(whole, rel=1e-12)
    assert paired_difference(values, values[::-1] + 0.1, None, names, seed=4).p == p.p


def test_one_video_has_no_interval_and_no_evidence() -> None:
    values = [0.1, 0.9, 0.4]
    assert np.isnan(cluster_bootstrap(values, None, ["v"] * 3, seed=0)).all()
    assert np.isnan(np.array(cluster_band(np.ones((3, 4)), ["v"] * 3, seed=0))).all()
    difference = paired_difference(values, [0.0, 0.0, 0.0], None, ["v"] * 3, seed=0)
    assert difference.value == pytest.approx(1.4 / 3)
    assert math.isnan(difference.low)
    assert difference.p == 1


def test_results_follow_the_seed() -> None:
    values, names = np.random.default_rng(0).random(50), videos(50, 2)
    assert cluster_bootstrap(values, None, names, seed=1) == cluster_bootstrap(values, None, names, seed=1)
    assert cluster_bootstrap(values, None, names, seed=1) != cluster_bootstrap(values, None, names, seed=2)


def test_band_is_the_bootstrap_of_every_point() -> None:
    curves, names = np.random.default_rng(2).random((30, 5)), videos(30, 3)
    curves[7, 2] = NAN
    low, high = cluster_band(curves, names, seed=6)
    whole = np.delete(curves, 7, 0)
    for s in range(5):
        assert interval(whole[:, s], None, np.delete(names, 7), seed=6) == pytest.approx((low[s], high[s]))
    curves, names = np.random.default_rng(2).random((75, 2)), videos(75, 3)
    low, high = cluster_band(curves, names, seed=6)
    for s in range(2):
        assert cluster_bootstrap(curves[:, s], None, names, seed=6) == pytest.approx((low[s], high[s]))


@pytest.mark.parametrize("by_class", [False, True])
def test_p_is_exact_for_few_videos(by_class: bool) -> None:
    generator = np.random.default_rng(8)
    a, b, weights = generator.random(24), generator.random(24), generator.integers(1, 4, 24).astype(float)
    b[5] = NAN
    clusters = np.array(videos(24, 4))
    classes = np.array([f"k{i % 3}" for i in range(24)]) if by_class else None
    d = np.where(np.isfinite(b), a - b, NAN)
    observed = mean(d, weights, classes)
    names = sorted(set(clusters))
    as_large = 0
    for signs in product((1, -1), repeat=len(names)):
        flipped = d * np.array([signs[names.index(c)] for c in clusters])
        as_large += abs(mean(flipped, weights, classes)) >= abs(observed) - 1e-12
    result = paired_difference(a, b, weights, clusters, classes, seed=0)
    assert result.value == pytest.approx(observed)
    assert result.p == as_large / 2 ** len(names)
    assert (result.low, result.high) == interval(d, weights, clusters, classes, seed=0)


def test_p_of_many_videos_is_near_the_exact_one_and_never_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    a, names = np.random.default_rng(1).normal(0.2, 1, 14), videos(14, 1)
    drawn = paired_difference(a, np.zeros(14), None, names, seed=0).p
    monkeypatch.setattr(statistics, "EXACT_UP_TO", 14)
    exact = paired_difference(a, np.zeros(14), None, names, seed=0).p
    assert 0.02 < exact < 0.5
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 10_000))
    assert paired_difference(np.ones(40), np.zeros(40), None, videos(40, 1), seed=0).p == 1 / 10_001


def test_equal_scores_have_p_1_and_p_is_uniform_without_a_difference() -> None:
    values = np.random.default_rng(0).random(30)
    assert paired_difference(values, values, None, videos(30, 1), seed=0).p == 1
    generator = np.random.default_rng(4)
    ps = [paired_difference(generator.normal(size=10), np.zeros(10), None, videos(10, 1), seed=0).p for _ in range(400)]
    assert np.mean(np.array(ps) <= 0.1) == pytest.approx(0.1, abs=0.05)


def test_the_bootstrap_of_videos_is_that_of_scipy() -> None:
    from scipy import stats

    rng = np.random.default_rng(2)
    values, groups = rng.random(60), np.repeat(rng.integers(0, 4, 30).astype(str), 2)
    sums, classes = (ClusterSums.of(values, None, videos(60, 2), each) for each in (None, groups))

    def mean_of(places: np.ndarray, axis: int) -> np.ndarray:
        return classes.means(np.stack([np.bincount(row, minlength=30) for row in np.atleast_2d(places)]).astype(float))

    plain = stats.bootstrap(
        (sums.values[:, 0], sums.weights[:, 0]),
        lambda v, w, axis: v.sum(axis) / w.sum(axis),
        paired=True,
        n_resamples=2000,
        method="percentile",
        rng=5,
    )
    by_class = stats.bootstrap((np.arange(30),), mean_of, n_resamples=2000, method="percentile", rng=5)
    for theirs, ours in ((plain, None), (by_class, groups)):
        assert cluster_bootstrap(values, None, videos(60, 2), ours, seed=5) == pytest.approx(
            tuple(theirs.confidence_interval), rel=1e-12
        )


@pytest.mark.parametrize("clusters", [3, 8, 12])
def test_the_exact_sign_flip_test_is_the_permutation_test_of_scipy(clusters: int) -> None:
    from scipy import stats

    rng = np.random.default_rng(clusters)
    a, b, clips = rng.random(2 * clusters), rng.random(2 * clusters) - 0.2, videos(2 * clusters, 2)
    shares = ClusterSums.of(a - b, None, clips, None).values[:, 0] / (2 * clusters)
    theirs = stats.permutation_test(
        (shares,), lambda x, axis: x.sum(axis), permutation_type="samples", n_resamples=10_000, vectorized=True
    )
    assert paired_difference(a, b, None, clips, seed=0).p == pytest.approx(theirs.pvalue, rel=1e-12)


@pytest.mark.parametrize(("hits", "n"), [(0, 7), (3, 10), (81, 263), (40, 40)])
def test_the_score_interval_of_whole_hits_is_the_wilson_interval_of_scipy(hits: int, n: int) -> None:
    from scipy import stats

    theirs = stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert score_interval(hits / n, n, stats.norm.ppf(0.975)) == pytest.approx(tuple(theirs), abs=1e-12)
