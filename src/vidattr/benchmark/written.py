"""Writes the result of a benchmark: the page, its pictures, the scores and the leaderboard as CSV."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from vidattr.benchmark.family_page import family_page
from vidattr.benchmark.markdown import number
from vidattr.benchmark.page import DIAGRAM, page
from vidattr.benchmark.pictures import critical_difference_diagram, family_sheet, shown
from vidattr.benchmark.plan import BenchmarkPlan
from vidattr.benchmark.running import Outcome, wide
from vidattr.benchmark.summary import Numbers, summarised
from vidattr.writing import write_text

NAME = "BENCHMARK.md"
_SHEETS = 2  # sheets of maps of a family, at most


def write(plan: BenchmarkPlan, outcome: Outcome, command: str, copy: Path | None = None) -> tuple[Numbers, Path]:
    """Writes all files of a benchmark below `<paths.out>/benchmark/<scale>`.

    Args:
        plan: What was compared.
        outcome: What was computed.
        command: What makes the page.
        copy: Where the page is written too, with its pictures and the pages of the families in a folder beside it
            that is named after it.

    Returns:
        The numbers of the page, and where the page is.
    """
    folder = Path(plan.tasks[0].certificate.paths.out) / "benchmark" / plan.chosen.name
    summary = summarised(plan, outcome)
    write_text(folder / "scores.csv", outcome.scores.to_csv(index=False))
    ranks = pd.DataFrame([vars(one) for one in summary.ranks])
    write_text(folder / "leaderboard.csv", ranks.to_csv(index=False))
    trust = [{"proxy": proxy, "family": family or "all", **vars(one)} for (proxy, family), one in summary.trust.items()]
    write_text(folder / "trust.csv", pd.DataFrame(trust).to_csv(index=False))
    for target in [folder / NAME, *([copy] if copy is not None else [])]:
        beside = target.parent / target.stem.lower()
        sheets = _sheets(plan, outcome, summary, beside)
        pictures = {family: f"{beside.name}/{some[0][1]}" for family, some in sheets.items()}
        if not math.isnan(summary.friedman.p):
            critical_difference_diagram(beside / DIAGRAM, summary.friedman)
            pictures[""] = f"{beside.name}/{DIAGRAM}"
        for family, some in sheets.items():
            write_text(beside / f"{family}.md", family_page(plan, outcome, summary, family, some, target.name))
        write_text(target, page(plan, outcome, summary, pictures, command, beside.name))
    return summary, folder / NAME


def _sheets(plan: BenchmarkPlan, outcome: Outcome, summary: Numbers, folder: Path) -> dict[str, list[tuple[str, str]]]:
    """Draws the maps of a clip by one network for each judged family; returns captions and file names.

    It is the network with most maps. Where it lacks some methods, a second sheet has those of a network that has them.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    truth = wide(outcome.scores, plan.chosen.scale.primary, plan.chosen.methods)
    for family in summary.families:
        rest = truth[truth.index.get_level_values("family") == family]
        while len(rest.columns) and rest.notna().any(axis=None) and len(found.get(family, ())) < _SHEETS:
            place = int(rest.notna().sum(axis=1).to_numpy().argmax())
            _, model, clip = rest.index[place]
            values = {str(name): float(value) for name, value in rest.iloc[place].dropna().items()}
            task = next(one for one in plan.tasks if (one.family, one.model) == (family, model))
            some = found.setdefault(family, [])
            name = f"{family}.webp" if not some else f"{family}_{model}.webp"
            family_sheet(folder / name, task, str(clip), shown(values))
            some.append((f"{model}: the best and the worst of {len(values)} methods on one clip", name))
            rest = rest.drop(columns=list(values))
    return found


def leaderboard_text(plan: BenchmarkPlan, outcome: Outcome, summary: Numbers) -> str:
    """Returns the leaderboard and the certificates for a terminal."""
    scale = plan.chosen.scale
    certified = sum(len(one.certified) for one in outcome.standings)
    drawn = sum(one.clips for one in outcome.standings if not math.isnan(one.accuracy))
    lines = [f"certified: {certified} of {drawn} pairs of a clip and a network"]
    lines += [f"  {one.family} · {one.model}: {one.why_not}" for one in outcome.standings if one.why_not]
    if not summary.ranks:
        return "\n".join([*lines, "no network is judged on any family"])
    width = max(len(one.method) for one in summary.ranks)
    titles = {name: one.title for name, one in scale.truth.items()}
    lines.append(f"\n{'method':<{width}}  mean rank [95 % interval]  {'  '.join(titles.values())}")
    for one in summary.ranks:
        cells = [
            f"{number(summary.means.get((one.method, name), math.nan)):>{len(title)}}" for name, title in titles.items()
        ]
        ends = f"{one.rank:5.2f} [{one.low:5.2f}, {one.high:5.2f}]"
        lines.append(f"{one.method:<{width}}  {ends:<25}  {'  '.join(cells)}")
    test = summary.friedman
    if not math.isnan(test.p):
        lines.append(
            f"\nFriedman's test, {test.blocks} clips, {len(test.methods)} methods: χ² = {test.statistic:.1f}, "
            f"p = {test.p:.2g}; critical difference {test.critical:.2f}"
        )
    undefined = {method for _, _, method in outcome.undefined}
    if undefined:
        lines.append(f"not defined for some networks: {', '.join(sorted(undefined))}")
    if plan.chosen.left_out:
        lines.append(f"not compared, see the page: {', '.join(plan.chosen.left_out)}")
    return "\n".join(lines)
