"""The benchmark with planted truth: its statistics against closed forms, its scales, and a small one run whole."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from conftest import ROOT, Command
from vidattr.benchmark.findings import findings
from vidattr.benchmark.plan import plan
from vidattr.benchmark.ranking import Friedman, MeanRank, cliques, critical_difference, friedman, mean_ranks, ranked
from vidattr.benchmark.running import Outcome
from vidattr.benchmark.scale import chosen, read_scale
from vidattr.benchmark.summary import Numbers
from vidattr.benchmark.trust import agreement, kendall
from vidattr.datasets.planted import Planted
from vidattr.errors import ConfigError
from vidattr.models.planted.network import planted_view
from vidattr.video import decode


def table(seed: int = 0, blocks: int = 12, methods: int = 5) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    values = random.normal(size=(blocks, methods)) + np.arange(methods) * 0.4
    return pd.DataFrame(values, columns=[f"m{n}" for n in range(methods)])


def test_ranks_begin_with_the_highest_and_ties_share() -> None:
    found = ranked(pd.DataFrame({"a": [0.9, 0.5], "b": [0.1, 0.5], "c": [0.5, 0.7]}))
    assert found.to_numpy().tolist() == [[1, 3, 2], [2.5, 2.5, 1]]


def test_a_block_with_fewer_methods_counts_alike() -> None:
    found = ranked(pd.DataFrame({"a": [3.0, 3.0], "b": [2.0, np.nan], "c": [1.0, 1.0]}))
    assert found.loc[0].tolist() == [1, 2, 3]
    assert found.loc[1, ["a", "c"]].tolist() == [1, 3]  # of two, the second is the last of three
    assert math.isnan(found.loc[1, "b"])


def test_friedman_is_scipys_on_one_block_a_clip() -> None:
    scores = table()
    found = friedman(scores, [f"clip {n}" for n in range(len(scores))])
    statistic, p = stats.friedmanchisquare(*(-scores[name] for name in scores.columns))
    assert (found.statistic, found.p) == (pytest.approx(statistic), pytest.approx(p))
    assert found.blocks == 12
    assert list(found.ranks) == sorted(found.ranks)
    assert sum(found.ranks) == pytest.approx(5 * 6 / 2)


def test_blocks_of_one_clip_are_one_observation() -> None:
    scores = table()
    twice = pd.concat([scores, scores], ignore_index=True)
    clips = [str(n) for n in range(12)]
    assert friedman(twice, clips * 2) == friedman(scores, clips)


def test_methods_that_are_not_defined_everywhere_are_not_tested() -> None:
    scores = table()
    scores.loc[3, "m4"] = np.nan
    assert set(friedman(scores, [str(n) for n in range(12)]).methods) == {"m0", "m1", "m2", "m3"}
    few = friedman(scores[["m0", "m1"]], [str(n) for n in range(12)])
    assert math.isnan(few.p)
    assert math.isnan(friedman(scores.head(1), ["a"]).critical)


@pytest.mark.parametrize(("methods", "q"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)])
def test_critical_difference_is_that_of_the_paper(methods: int, q: float) -> None:
    """Demšar 2006, table 5(a)."""
    assert critical_difference(methods, 30) == pytest.approx(q * math.sqrt(methods * (methods + 1) / 180), abs=2e-3)


def test_cliques_are_the_longest_runs_within_the_difference() -> None:
    test = Friedman(("a", "b", "c", "d"), (1.0, 1.8, 2.6, 4.5), 9.0, 0.01, 1.0, 8)
    assert cliques(test) == [(0, 1), (1, 2)]
    assert cliques(Friedman(("a", "b"), (1.0, 1.2), 0.0, 0.9, 2.0, 8)) == [(0, 1)]


def test_mean_ranks_are_means_with_intervals_around_them() -> None:
    scores = table(blocks=40)
    found = mean_ranks(scores, [str(n) for n in range(40)])
    means = ranked(scores).mean()
    assert [one.rank for one in found] == sorted(means)
    assert all(one.low <= one.rank <= one.high and one.blocks == 40 for one in found)
    alone = mean_ranks(pd.DataFrame({"a": [1.0, 1.0], "b": [0.0, 0.0]}), ["x", "y"])
    assert [(one.method, one.rank, one.low, one.high) for one in alone] == [("a", 1, 1, 1), ("b", 2, 2, 2)]


def test_clips_are_drawn_with_all_their_blocks() -> None:
    scores = table(blocks=6)
    wide = mean_ranks(pd.concat([scores] * 4, ignore_index=True), [str(n) for n in range(6)] * 4)
    assert wide == [
        one.__class__(one.method, one.rank, one.low, one.high, 24) for one in mean_ranks(scores, list("012345"))
    ]


@pytest.mark.parametrize("seed", range(4))
def test_kendall_is_scipys(seed: int) -> None:
    random = np.random.default_rng(seed)
    a, b = random.integers(0, 4, 9).astype(float), random.integers(0, 5, 9).astype(float)
    assert kendall(a, b) == pytest.approx(stats.kendalltau(a, b).statistic)
    a[2] = np.nan
    keep = np.isfinite(a)
    assert kendall(a, b) == pytest.approx(stats.kendalltau(a[keep], b[keep]).statistic)
    assert math.isnan(kendall([1, 2, 3], [1, 2, 3]))
    assert math.isnan(kendall([1, 1, 1, 1], [1, 2, 3, 4]))


def test_a_proxy_that_is_the_truth_agrees_and_one_that_is_noise_does_not() -> None:
    truth = table(blocks=60, methods=8)
    blocks = pd.DataFrame({"clip": [str(n // 2) for n in range(60)], "group": ["a", "b"] * 30})
    same = agreement(truth * 2 + 1, truth, blocks)
    assert (same.tau, same.low, same.high, same.of_means, same.blocks) == (1, 1, 1, 1, 60)
    turned = agreement(-truth, truth, blocks)
    assert (turned.tau, turned.of_means) == (-1, -1)
    noise = agreement(
        pd.DataFrame(np.random.default_rng(9).normal(size=truth.shape), columns=truth.columns), truth, blocks
    )
    assert noise.low < 0 < noise.high
    assert noise.low < noise.tau < noise.high


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "configs/benchmark").glob("*.yaml")))
def test_every_scale_is_read(name: str) -> None:
    scale = read_scale(name)
    assert scale.primary in scale.truth
    assert {"random", "center", "sobel", "frame_difference", "flow_magnitude"} <= set(scale.baselines)


@pytest.mark.parametrize(
    ("wrong", "near"), [("familly=object", "family"), ("clip=4", "clips"), ("dataset=synthetic", None), ("=3", None)]
)
def test_a_wrong_option_lists_the_benchmarks_own(wrong: str, near: str | None) -> None:
    with pytest.raises(ConfigError) as error:
        chosen(["scale=demo", wrong])
    assert {"scale", "family", "clips"} <= {word.strip(",") for word in str(error.value.expected).split()}
    assert near is None or near in str(error.value.remedy)


def test_methods_enter_by_themselves_and_those_left_out_are_named(tmp_path: Path) -> None:
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mine_demo.yaml").write_text((ROOT / "configs/method/random.yaml").read_text())
    found = chosen(["scale=small"], add=[tmp_path])
    names = {path.stem for path in (ROOT / "configs/method").glob("*.yaml")} | {"mine_demo"}
    assert set(found.methods) | set(found.left_out) == names
    assert "mine_demo" in found.methods
    assert all(found.left_out.values())
    assert "mine_demo" in chosen(["scale=demo"], add=[tmp_path]).methods
    few = chosen(["scale=small", "method=grad_cam,osa", "family=flash,o*", "model=planted_t*", "clips=3", "seed=1"])
    assert few.methods[-2:] == ("grad_cam", "osa")
    assert few.scale.families == ["flash", "object", "order"]
    assert (few.scale.models, few.scale.clips, few.user) == (["planted_tsm"], 3, ("seed=1",))


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("scale=huge", "demo"),
        ("family=taste", "texture"),
        ("method=no_such", "grad_cam"),
        ("clips=many", "number"),
        ("model=nil", "planted_tsm"),
    ],
)
def test_a_wrong_choice_lists_the_choices(word: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        chosen([word])


ORACLE = '''
from dataclasses import dataclass
from typing import ClassVar
import torch
from vidattr.datasets.planted import Family, Planted
from vidattr.types import Explanation
from vidattr.video import decode

@dataclass(frozen=True)
class Oracle:
    """Draws the clips again and finds the one that it is shown; no honest method can."""
    version: ClassVar[int] = 1
    family: str = "object"
    inverted: bool = False

    @property
    def passes(self):
        return 1

    def __call__(self, model, query):
        samples = [decode.read(clip, model.view) for clip in Planted(family=Family(self.family), clips=8).index().clips]
        frames = [model.view.normalise(torch.from_numpy(sample.pixels)[None])[0] for sample in samples]
        maps = []
        for shown in query.frames:
            (place,) = [n for n, other in enumerate(frames) if torch.equal(other, shown)]
            maps.append(torch.from_numpy(samples[place].evidence).float())
        found = torch.stack(maps)
        return Explanation(1 - found if self.inverted else found)
'''
NETWORK, FAMILY = "planted_tsm", "object"  # a network that has learned a family


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder of configs, with a method that knows the truth and one that marks everything else."""
    (tmp_path / "mine" / "method").mkdir(parents=True)
    (tmp_path / "benchmark_oracle.py").write_text(ORACLE)
    for name, inverted in (("oracle", "false"), ("complement", "true")):
        text = f"_target_: benchmark_oracle.Oracle\nfamily: {FAMILY}\ninverted: {inverted}\n"
        (tmp_path / "mine" / "method" / f"{name}.yaml").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "mine"


def test_an_oracle_of_the_user_ranks_first_and_its_complement_last(vidattr: Command, own: Path, tmp_path: Path) -> None:
    words = ["benchmark", "scale=demo", f"family={FAMILY}", f"model={NETWORK}", "clips=6", "--quiet"]
    words += ["method=oracle,complement,gradient,attention_rollout", "--add-configs", str(own)]
    planned = vidattr(*words, "--dry-run")
    assert planned.code == 0, planned.err
    assert "9 methods" in planned.out
    assert not (tmp_path / "visual_res").exists()
    found = vidattr(*words, "--page", "page/BENCHMARK.md")
    assert found.code == 0, found.out + found.err
    folder = tmp_path / "visual_res" / "benchmark" / "demo"
    board = pd.read_csv(folder / "leaderboard.csv", index_col="method")
    assert next(iter(board.index)) == "oracle"
    assert list(board.index)[-1] == "complement"
    assert board.loc["oracle", "rank"] == board.loc["oracle", "high"] == 1
    assert board.loc["complement", "rank"] == len(board) == 8
    scores = pd.read_csv(folder / "scores.csv")
    truth = scores[scores["method"] == "oracle"].groupby("measure")["value"].mean()
    assert truth[["auprc", "mass", "rank"]].tolist() == pytest.approx([1, 1, 1])
    other = scores[scores["method"] == "complement"].groupby("measure")["value"].mean()
    assert other[["mass", "rank"]].tolist() == pytest.approx([0, 0])
    constant = scores[scores["method"] == "best constant map"].pivot(index="clip", columns="measure", values="value")
    samples = {clip.id: decode.read(clip, planted_view()) for clip in Planted(clips=6).index().clips}
    truth_of = {clip: np.asarray(samples[clip].evidence, float) for clip in constant.index}
    mean = np.mean(list(truth_of.values()), axis=0)
    for clip, own_truth in truth_of.items():  # the share of the mean's mass on the clip's own truth
        assert constant.loc[clip, "mass"] == pytest.approx((mean * own_truth).sum() / mean.sum())
    assert set(board.index).isdisjoint({"best constant map", "best constant point"})
    page = (folder / "BENCHMARK.md").read_text()
    assert page.count("| best constant map (fitted) | – |") == page.count("| best constant point (fitted) | – |") == 2
    own_page = (tmp_path / "page" / "benchmark" / f"{FAMILY}.md").read_text()
    assert own_page.count("| best constant map (fitted) | – |") == 1
    assert "oracle has the best mean rank" in own_page
    assert "(../BENCHMARK.md)" in own_page
    assert "| sparseness (Gini) |" in own_page
    for name in re.findall(r"\]\(([^)]+)\)", own_page):
        assert (tmp_path / "page" / "benchmark" / name).is_file()
    assert "attention_rollout is not defined for planted_tsm" in page
    assert "of 6 clips certified" not in found.err  # --quiet
    assert (folder / "benchmark" / f"{FAMILY}.webp").is_file()
    assert (tmp_path / "page" / "benchmark" / "critical_difference.png").is_file()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    again = vidattr(*words)
    assert again.out == found.out
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}


def test_findings_name_the_methods_that_a_baseline_beats() -> None:
    def of(method: str, rank: float) -> MeanRank:
        return MeanRank(method, rank, rank - 0.4, rank + 0.4, 9)

    ranks = [of("gradient", 1), of("sobel", 2), of("osa", 2.5), of("aosa", 3), of("random", 4)]
    asked = plan(chosen(["scale=demo", f"family={FAMILY}", f"model={NETWORK}", "method=gradient,osa,aosa"]))
    numbers = Numbers(ranks, friedman(table(), [str(n) for n in range(12)]), {}, {FAMILY: ranks}, {})
    text = "\n".join(findings(asked, Outcome(), numbers))
    words = f"On {FAMILY}, 1 of 3 methods rank below sobel (2.0 [1.6, 2.4]), which does not run the network, with"
    assert f"{words} intervals apart: aosa." in text


def test_a_network_that_learned_nothing_is_not_judged(vidattr: Command, tmp_path: Path) -> None:
    found = vidattr(
        "benchmark", "scale=demo", "family=flash", "model=planted_c3d", "model.weights=random", "clips=2", "--quiet"
    )
    assert found.code == 0, found.err
    assert "not learned: accuracy" in found.out
    assert "no network is judged" in found.out
    assert not list(tmp_path.rglob("maps/*"))


def test_shards_are_parts_of_the_networks_and_are_joined(vidattr: Command, tmp_path: Path) -> None:
    words = [
        "benchmark",
        "scale=demo",
        "family=texture",
        f"model={NETWORK},planted_c3d",
        "model.weights=random",
        "clips=2",
        "--quiet",
    ]
    first = vidattr(*words, "--shard", "1/2")
    assert first.code == 0, first.err
    assert [path.name for path in (tmp_path / "visual_res" / "network").iterdir()] == [NETWORK]
    assert "not judged" not in first.out
    assert vidattr(*words, "--shard", "2/2").code == 0
    assert len(list((tmp_path / "visual_res" / "network").iterdir())) == 2
    assert not (tmp_path / "visual_res" / "benchmark").exists()
