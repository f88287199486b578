"""What the page shows of the scores: ranks, means, and the agreement of each proxy with the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from vidattr.benchmark.plan import BenchmarkPlan
from vidattr.benchmark.ranking import Friedman, MeanRank, friedman, mean_ranks
from vidattr.benchmark.running import FITTED, Outcome, wide
from vidattr.benchmark.trust import Agreement, agreement


@dataclass(frozen=True)
class Numbers:
    """The numbers of the page.

    Attributes:
        ranks: Of all methods with a map, the best first.
        friedman: The test over all clips.
        means: (method, measure) to the mean over the blocks that have a score.
        families: Family to the ranks on it.
        family_means: (family, method, measure) to the mean.
        fitted: Reference that is fitted to the truth of all clips, to a measure, to its mean.
        trust: (proxy, family) to its agreement with the primary truth score; family "": all.
    """

    ranks: Sequence[MeanRank]
    friedman: Friedman
    means: Mapping[tuple[str, str], float]
    families: Mapping[str, Sequence[MeanRank]]
    family_means: Mapping[tuple[str, str, str], float]
    fitted: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    trust: Mapping[tuple[str, str], Agreement] = field(default_factory=dict)

    def of_family(self, family: str, method: str, measure: str) -> float:
        """Returns the mean of a measure of a method or fitted reference on a family; NaN: there is none."""
        return self.family_means.get((family, method, measure), float("nan"))


def summarised(plan: BenchmarkPlan, outcome: Outcome) -> Numbers:
    """Computes the numbers of the page from the scores."""
    scale, scores = plan.chosen.scale, outcome.scores
    truth = wide(scores, scale.primary, plan.chosen.methods)
    clips = _clips(truth)
    by_method = scores.groupby(["method", "measure"], as_index=False)["value"].mean()
    means = {(str(m), str(n)): float(v) for m, n, v in by_method.itertuples(index=False)}
    by_family = scores.groupby(["family", "method", "measure"], as_index=False)["value"].mean()
    families = {}
    for family in scale.families:
        some = truth[truth.index.get_level_values("family") == family]
        if len(some):
            families[family] = mean_ranks(some.dropna(axis=1, how="all"), _clips(some))
    return Numbers(
        mean_ranks(truth, clips) if len(truth) else [],
        friedman(truth, clips),
        means,
        families,
        {(str(f), str(m), str(n)): float(v) for f, m, n, v in by_family.itertuples(index=False)},
        {one: {name: means[one, name] for name in scale.truth if (one, name) in means} for one in FITTED},
        _trust(plan, scores, truth),
    )


def _clips(table: pd.DataFrame) -> list[str]:
    return [str(clip) for clip in table.index.get_level_values("clip")]


def _trust(plan: BenchmarkPlan, scores: pd.DataFrame, truth: pd.DataFrame) -> dict[tuple[str, str], Agreement]:
    """Returns the agreement of each proxy with the truth, on all families and on each."""
    found: dict[tuple[str, str], Agreement] = {}
    for name in plan.chosen.scale.proxies:
        proxy = wide(scores, name, plan.chosen.methods)
        if not len(proxy):
            continue
        if not plan.better[name]:
            proxy = -proxy
        blocks = truth.index.intersection(proxy.index)
        methods = [method for method in truth.columns if method in proxy.columns]
        x, y = proxy.loc[blocks, methods], truth.loc[blocks, methods]
        index = blocks.to_frame(index=False)
        index["group"] = index["family"] + " " + index["model"]
        found[name, ""] = agreement(x, y, index)
        for family in plan.chosen.scale.families:
            mine = (index["family"] == family).to_numpy()
            if mine.any():
                found[name, family] = agreement(x[mine], y[mine], index[mine].reset_index(drop=True))
    return found


def at_random(outcome: Outcome, family: str) -> float:
    """Returns the mean share of voxels that are evidence, the AUPRC of a constant map; NaN where it is unknown."""
    mine = (
        outcome.shares[outcome.shares["family"] == family]["value"] if len(outcome.shares) else pd.Series(dtype=float)
    )
    return float(mine.mean()) if len(mine) else float("nan")
