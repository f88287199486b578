"""BENCHMARK.md: findings, certificates, leaderboard, families, and which metric can be trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from vidattr.benchmark.family_page import EVIDENCE, heading, lines
from vidattr.benchmark.findings import findings
from vidattr.benchmark.markdown import number, rows, spread
from vidattr.benchmark.plan import BenchmarkPlan
from vidattr.benchmark.running import Outcome
from vidattr.benchmark.summary import Numbers, at_random
from vidattr.benchmark.trust import Agreement
from vidattr.datasets.planted import Family

DIAGRAM = "critical_difference.png"
_BEST = 8  # methods of a family on this page; its own page has all


def page(
    plan: BenchmarkPlan, outcome: Outcome, summary: Numbers, pictures: Mapping[str, str], command: str, folder: str
) -> str:
    """Returns the whole page.

    Args:
        plan: What was compared.
        outcome: What was computed.
        summary: Ranks and agreements.
        pictures: Family, or "" for the critical-difference diagram, to its picture, as a path from the page.
        command: What makes the page.
        folder: Of the pages of the families, from the page.
    """
    scale = plan.chosen.scale
    parts = [
        "# Benchmark with planted truth",
        f"Made by `{command}` from stored scores; the numbers below are not typed by hand.",
        "The clips are drawn by code (`dataset=planted`), so the voxels that decide the class are known. A clip is "
        "judged only if it is certified for a network: with new evidence the network loses the class, and with "
        "everything else drawn again it keeps the class. Both are drawn by the generator of the clips, so no picture "
        "is blurred or blackened for it.",
    ]
    parts += [f"**Cost.** {scale.caption[0].upper()}{scale.caption[1:]}."] if scale.caption else []
    settings = _settings(plan)
    parts += [f"Options other than the methods' own: {settings}."] if settings else []
    parts += ["## Findings", *findings(plan, outcome, summary)]
    parts += ["## Certificates", _certificates(outcome, scale.families, scale.models)]
    parts += ["## Leaderboard", _leaderboard(plan, summary), _test(summary, pictures)]
    parts += ["## Which metric can be trusted", _trust(plan, summary)]
    parts += ["## Families", *(_family(plan, outcome, summary, family, pictures, folder) for family in scale.families)]
    parts += ["## What is not compared", _missing(plan, outcome)]
    return "\n\n".join(parts) + "\n"


def _settings(plan: BenchmarkPlan) -> str:
    scale = plan.chosen.scale
    quick = [(name, scale.of_method(name)) for name in plan.chosen.methods]
    return "; ".join(f"{name}: `{' '.join(some)}`" for name, some in quick if some)


def _certificates(outcome: Outcome, families: Sequence[str], models: Sequence[str]) -> str:
    by_place = {(one.family, one.model): one for one in outcome.standings}

    def cell(family: str, model: str) -> str:
        one = by_place.get((family, model))
        if one is None:
            return "–"
        if math.isnan(one.accuracy):
            return "no weights"
        share = f"{len(one.certified)}/{one.clips}"
        return f"{one.accuracy:.2f}, {share}" + ("" if one.judged else ", not judged")

    clips = sum(one.clips for one in outcome.standings if not math.isnan(one.accuracy))
    certified = sum(len(one.certified) for one in outcome.standings)
    share = f"{certified} of {clips} pairs of a clip and a network are certified ({certified / max(clips, 1):.0%})"
    table = rows(["family", *models], [[family, *(cell(family, model) for model in models)] for family in families])
    why = [f"- {one.family}, {one.model}: {one.why_not}." for one in outcome.standings if one.why_not]
    words = "Accuracy of each network on clips that it has not seen, and certified clips of those that were drawn. "
    return "\n\n".join([words + share + ".", table, *(["\n".join(why)] if why else [])])


def _leaderboard(plan: BenchmarkPlan, summary: Numbers) -> str:
    truth = plan.chosen.scale.truth
    table = [
        [
            one.method + (" (baseline)" if one.method in plan.chosen.scale.baselines else ""),
            spread(one.rank, one.low, one.high),
            *(number(summary.means.get((one.method, name), math.nan)) for name in truth),
            str(one.blocks),
        ]
        for one in summary.ranks
    ]
    for reference, means in summary.fitted.items():
        if means:
            cells = [number(means.get(name, math.nan)) for name in truth]
            table.append([f"{reference} (fitted)", "–", *cells, "–"])
    primary = truth[plan.chosen.scale.primary].title
    words = (
        f"The rank by {primary} in each block, a block being a family, a network and a certified clip; 1 is best. In "
        "brackets is the 95 % bootstrap interval over clips. Where a method is not defined for a network, the ranks of "
        "the others are stretched to the same range. The other columns are means over the blocks in which the method "
        "has a map. Two references are fitted to the truth of the clips that they are judged on, and not ranked: the "
        "point that hits most often as the peak of every frame, and the map that is the mean of the truth over the "
        "clips of a family."
    )
    return f"{words}\n\n{rows([*heading(plan), 'blocks'], table)}"


def _test(summary: Numbers, pictures: Mapping[str, str]) -> str:
    test = summary.friedman
    if math.isnan(test.p):
        return (
            f"Friedman's test needs two clips and three methods that are defined everywhere; here: {test.blocks} "
            f"clips, {len(test.methods)} methods."
        )
    p = "p < 0.001" if test.p < 0.001 else f"p = {test.p:.3f}"
    words = (
        f"Friedman's test over {test.blocks} clips and the {len(test.methods)} methods that are defined everywhere: "
        f"χ² = {test.statistic:.1f}, {p}. Two of them differ at 5 % (Nemenyi) if their mean ranks differ by "
        f"{test.critical:.2f}; bars in the diagram join methods that do not."
    )
    return words + (f"\n\n![critical-difference diagram]({pictures['']})" if "" in pictures else "")


def _trust(plan: BenchmarkPlan, summary: Numbers) -> str:
    scale = plan.chosen.scale
    families = [family for family in scale.families if any(key[1] == family for key in summary.trust)]

    def line(proxy: str) -> list[str]:
        whole = summary.trust[proxy, ""]
        of_means = spread(whole.of_means, whole.means_low, whole.means_high)
        each = [_cell(summary.trust.get((proxy, family))) for family in families]
        return [scale.proxies[proxy].title, spread(whole.tau, whole.low, whole.high), of_means, *each]

    if not summary.trust:
        return "No proxy was computed."
    order = sorted({proxy for proxy, _ in summary.trust}, key=lambda one: (-_at(summary.trust[one, ""]), one))
    words = (
        "Kendall's τ-b over the methods between a metric that does not know the truth and "
        f"{scale.truth[scale.primary].title}, turned so that better is larger in both. *τ per clip*: within a block, "
        "averaged over blocks. *τ of means*: between the methods' means over the clips of a network and family, "
        "averaged over these. 95 % bootstrap intervals over clips; columns of families show τ per clip. 1: the metric "
        "orders methods as the truth does; 0: as chance does."
    )
    return f"{words}\n\n{rows(['metric', 'τ per clip', 'τ of means', *families], [line(one) for one in order])}"


def _at(one: Agreement) -> float:
    return -2.0 if math.isnan(one.tau) else one.tau


def _cell(one: Agreement | None) -> str:
    return "–" if one is None else spread(one.tau, one.low, one.high)


def _family(
    plan: BenchmarkPlan, outcome: Outcome, summary: Numbers, family: str, pictures: Mapping[str, str], folder: str
) -> str:
    found = summary.families.get(family)
    if not found:
        return f"### {family}\n\nNo network is judged on this family."
    chance = at_random(outcome, family)
    words = EVIDENCE[Family(family)]
    words += f" It covers {chance:.1%} of the voxels on average." if not math.isnan(chance) else ""
    best = min(_BEST, len(found))
    table = f"The best {best} of {len(found)}:\n\n{rows(heading(plan), lines(plan, summary, family, best))}"
    picture = f"![maps of {family}]({pictures[family]})\n\n" if family in pictures else ""
    more = f"[All methods, and which metrics can be trusted on it]({folder}/{family}.md)"
    return f"### {family}\n\n{words}\n\n{picture}{table}\n\n{more}"


def _missing(plan: BenchmarkPlan, outcome: Outcome) -> str:
    lines = [f"- {name}: {reason}." for name, reason in plan.chosen.left_out.items()]
    found: dict[tuple[str, str], list[str]] = {}
    for (_, model, method), reason in outcome.undefined.items():
        models = found.setdefault((method, reason), [])
        if model not in models:
            models.append(model)
    lines += [
        f"- {method} is not defined for {', '.join(models)}: {reason}." for (method, reason), models in found.items()
    ]
    for judging in plan.judging:
        if judging.most_passes is not None:
            names = ", ".join(judging.measures)
            lines.append(
                f"- {names}: only methods of at most {judging.most_passes} passes, because it runs them again."
            )
    if outcome.failures:
        lines.append(f"- {len(outcome.failures)} clips could not be explained or judged; errors.jsonl names them.")
    return "\n".join(lines) or "Everything is."
