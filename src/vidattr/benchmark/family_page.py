"""The page of one family: its evidence, its pictures, all methods on it, and which metrics can be trusted on it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vidattr.benchmark.findings import below_baseline, interval, named
from vidattr.benchmark.markdown import number, rows, spread
from vidattr.benchmark.plan import BenchmarkPlan
from vidattr.benchmark.running import Outcome
from vidattr.benchmark.summary import Numbers, at_random
from vidattr.benchmark.trust import Agreement
from vidattr.datasets.planted import Family

EVIDENCE = {
    Family.object: "The shape of one of several moving objects decides; the others are distractors.",
    Family.texture: "The texture of the background decides; objects move over it and say nothing.",
    Family.flash: "A shape decides that is shown in one or two frames; moving distractors are shown in all of them.",
    Family.order: "The order of two shapes decides, each shown for a few frames; no single frame tells the class.",
    Family.motion: "The direction of a disc decides; it looks the same in all classes, and no single frame tells them.",
    Family.both: "A pair of moving objects decides; either of the two leaves two classes.",
    Family.camera: "The shape of an object decides, while the camera pans: optical flow is everywhere.",
    Family.photographs: "A cut-out of a photograph decides, which moves over another photograph.",
}


def family_page(
    plan: BenchmarkPlan,
    outcome: Outcome,
    summary: Numbers,
    family: str,
    pictures: Sequence[tuple[str, str]],
    whole: str,
) -> str:
    """Returns the page of a family on which a network is judged.

    Args:
        plan: What was compared.
        outcome: What was computed.
        summary: Ranks and agreements.
        family: The family.
        pictures: Caption and path, from the page, of each sheet of maps.
        whole: File name of the page of the whole benchmark, in the folder above.
    """
    chance = at_random(outcome, family)
    judged = [one for one in outcome.standings if one.family == family and one.judged]
    facts = [f"{one.model} (accuracy {one.accuracy:.2f}, {len(one.certified)} of {one.clips} clips)" for one in judged]
    share = "" if math.isnan(chance) else f" It covers {chance:.1%} of the voxels, which is the AUPRC of random maps."
    parts = [
        f"# {family}",
        EVIDENCE[Family(family)] + share,
        f"Judged, with their accuracy and certified clips: {named(facts)}. [The whole benchmark](../{whole}).",
        "## What holds here",
        "\n".join(f"- {line}" for line in _findings(plan, summary, family)),
        *(f"![{caption}]({path})\n\n{caption}" for caption, path in pictures),
        "## All methods",
        rows(
            ["method", "mean rank", *(one.title for one in plan.chosen.scale.truth.values())],
            lines(plan, summary, family),
        ),
    ]
    proxies = _proxies(plan, summary, family)
    if proxies:
        words = (
            "Kendall's τ-b over the methods of a clip between a metric that does not know the truth and "
            f"{plan.chosen.scale.truth[plan.chosen.scale.primary].title}. 1: the metric orders methods as the truth "
            "does; 0: as chance does."
        )
        table = [[title, spread(one.tau, one.low, one.high), str(one.blocks)] for title, one in proxies]
        parts += ["## Which metric can be trusted here", words, rows(["metric", "τ", "blocks"], table)]
    return "\n\n".join(parts) + "\n"


def heading(plan: BenchmarkPlan) -> list[str]:
    """Returns the heading of `lines`."""
    return ["method", "mean rank", *(one.title for one in plan.chosen.scale.truth.values())]


def lines(plan: BenchmarkPlan, summary: Numbers, family: str, most: int | None = None) -> list[list[str]]:
    """Returns a row for each method of a family, the best first, and for each fitted reference.

    Args:
        plan: What was compared.
        summary: The numbers.
        family: The family.
        most: Methods at most; None: all.
    """
    truth = plan.chosen.scale.truth
    found = [
        [
            one.method,
            spread(one.rank, one.low, one.high),
            *(number(summary.of_family(family, one.method, name)) for name in truth),
        ]
        for one in summary.families[family][:most]
    ]
    for reference in summary.fitted:
        values = [summary.of_family(family, reference, name) for name in truth]
        if not all(map(math.isnan, values)):
            found.append([f"{reference} (fitted)", "–", *map(number, values)])
    return found


def _findings(plan: BenchmarkPlan, summary: Numbers, family: str) -> list[str]:
    ranks = summary.families[family]
    best = ranks[0]
    level = [one.method for one in ranks[1:] if one.low <= best.high]
    found = [f"{best.method} has the best mean rank, {interval(best)} of {len(ranks)}."]
    if level:
        found.append(f"Its interval overlaps with those of {named(level)}: their order is not established.")
    found += below_baseline(plan, summary, family)
    proxies = _proxies(plan, summary, family)
    for what, some in (
        ("as the truth does", [title for title, one in proxies if one.low > 0]),
        ("the wrong way round", [title for title, one in proxies if one.high < 0]),
    ):
        if some:
            found.append(f"Metrics that order methods {what}, with intervals that exclude 0: {named(some)}.")
    return found


def _proxies(plan: BenchmarkPlan, summary: Numbers, family: str) -> list[tuple[str, Agreement]]:
    """Returns title and agreement of each proxy on a family, the highest first."""
    found = [
        (plan.chosen.scale.proxies[name].title, one)
        for (name, place), one in summary.trust.items()
        if place == family and not math.isnan(one.tau)
    ]
    return sorted(found, key=lambda pair: (-pair[1].tau, pair[0]))
