"""The findings at the top of the page: sentences that follow from the intervals, and what the numbers do not show."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vidattr.benchmark.plan import BenchmarkPlan
from vidattr.benchmark.ranking import MeanRank
from vidattr.benchmark.running import Outcome
from vidattr.benchmark.summary import Numbers

_FEW = 20  # clips: fewer make the intervals of a bootstrap too narrow


def findings(plan: BenchmarkPlan, outcome: Outcome, summary: Numbers) -> list[str]:
    """Returns paragraphs: what holds, with intervals, and what does not."""
    if not summary.ranks:
        return ["No network is judged on any family, so nothing follows."]
    below = [line for family in summary.families for line in below_baseline(plan, summary, family)]
    holds = [*_best(plan, summary), *_families(summary), *below, *_proxies(plan, summary)]
    limits = [*_not_learned(outcome), *_not_shown(plan, outcome, summary)]
    parts = ["**What holds.**", "\n".join(f"- {line}" for line in holds)]
    return parts + (["**What does not.**", "\n".join(f"- {line}" for line in limits)] if limits else [])


def named(names: Sequence[str]) -> str:
    """Returns names in a row; "none" if there are none."""
    return ", ".join(names) if names else "none"


def interval(one: MeanRank) -> str:
    """Returns a mean rank with its interval."""
    return f"{one.rank:.1f} [{one.low:.1f}, {one.high:.1f}]"


def _best(plan: BenchmarkPlan, summary: Numbers) -> list[str]:
    """Compares the methods with each other and with the best baseline."""
    baselines = [one for one in summary.ranks if one.method in plan.chosen.scale.baselines]
    methods = [one for one in summary.ranks if one.method not in plan.chosen.scale.baselines]
    if not methods:
        return []
    best = methods[0]
    level = [one.method for one in methods[1:] if one.low <= best.high]
    lines = [f"{best.method} has the best mean rank, {interval(best)} of {len(summary.ranks)}."]
    if level:
        lines.append(f"Its interval overlaps with those of {named(level)}: their order is not established.")
    if baselines:
        first = baselines[0]
        above = [one.method for one in methods if one.high < first.low]
        below = [one.method for one in methods if one.low > first.high]
        lines.append(
            f"The best baseline, {first.method}, has mean rank {interval(first)}. {len(above)} of {len(methods)} "
            f"methods rank above it with intervals apart; {len(below)} rank below it: {named(below)}."
        )
    return lines


def _families(summary: Numbers) -> list[str]:
    """Says which method leads on which family."""
    leaders: dict[str, list[str]] = {}
    for family, ranks in summary.families.items():
        if ranks:
            leaders.setdefault(ranks[0].method, []).append(family)
    words = "; ".join(f"{method} on {', '.join(families)}" for method, families in leaders.items())
    one = len(leaders) == 1 and len(summary.families) > 1
    return [f"Best mean rank by kind of evidence: {words}." + (" It is the same everywhere." if one else "")]


def below_baseline(plan: BenchmarkPlan, summary: Numbers, family: str) -> list[str]:
    """Names the methods that a baseline, which does not run the network, beats on a family; empty if none."""
    ranks = summary.families[family]
    baselines = [one for one in ranks if one.method in plan.chosen.scale.baselines]
    methods = [one for one in ranks if one.method not in plan.chosen.scale.baselines]
    below = [one.method for one in methods if baselines and one.low > baselines[0].high]
    if not below:
        return []
    first = baselines[0]
    return [
        f"On {family}, {len(below)} of {len(methods)} methods rank below {first.method} ({interval(first)}), "
        f"which does not run the network, with intervals apart: {named(below)}."
    ]


def _proxies(plan: BenchmarkPlan, summary: Numbers) -> list[str]:
    """Says which proxy orders methods as the truth does."""
    titles = {name: one.title for name, one in plan.chosen.scale.proxies.items()}
    whole = {name: one for (name, family), one in summary.trust.items() if not family and not math.isnan(one.low)}
    if not whole:
        return []
    order = sorted(whole, key=lambda name: -whole[name].tau)

    def listed(names: Sequence[str]) -> str:
        return named([f"{titles[n]} ({whole[n].tau:.2f} [{whole[n].low:.2f}, {whole[n].high:.2f}])" for n in names])

    positive = [name for name in order if whole[name].low > 0]
    negative = [name for name in order if whole[name].high < 0]
    neither = [name for name in order if name not in positive and name not in negative]
    lines = [f"Metrics that order the methods of a clip rather as the truth does (τ above 0): {listed(positive)}."]
    if negative:
        lines.append(f"Metrics that order them the wrong way round (τ below 0): {listed(negative)}.")
    if neither:
        lines.append(f"Metrics whose τ is not told from 0: {listed(neither)}.")
    everywhere = [
        titles[name]
        for name in positive
        if all(one.low > 0 for (proxy, family), one in summary.trust.items() if proxy == name and family)
    ]
    lines.append(f"τ is above 0 on every judged kind of evidence for: {named(everywhere)}.")
    return lines


def _not_learned(outcome: Outcome) -> list[str]:
    gone: dict[str, list[str]] = {}
    for one in outcome.standings:
        if not one.judged:
            gone.setdefault(one.family, []).append(one.model)
    return [f"{family}: nothing is said about {', '.join(models)}." for family, models in gone.items()]


def _not_shown(plan: BenchmarkPlan, outcome: Outcome, summary: Numbers) -> list[str]:
    lines = []
    clips = {clip for one in outcome.standings if one.judged for clip in one.certified}
    if len(clips) < _FEW:
        lines.append(f"{len(clips)} clips are few: the intervals are narrower than they should be.")
    test = summary.friedman
    if not math.isnan(test.p) and test.p >= 0.05:
        lines.append(f"Friedman's test does not tell the methods apart (p = {test.p:.2f}).")
    lines.append(
        "The networks are small and the clips are drawn: the order of methods on large networks and filmed clips may "
        "differ."
    )
    lines.append(
        "A certificate says that a network needs the evidence and needs nothing else. It does not say that it uses "
        "every voxel of it: a map that marks a part of the evidence can be right and score less than 1."
    )
    if plan.chosen.scale.caption:
        lines.append(
            "Slow methods ran with fewer iterations, masks or samples than in their papers; more may help them."
        )
    return lines
