"""Computes a benchmark: certificates first, then maps, then scores; what is stored is not computed again."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
from tqdm import tqdm

from vidattr.benchmark.constant_map import MAP, scored_constant_map
from vidattr.benchmark.plan import BenchmarkPlan, Contest
from vidattr.errors import Failure, VidattrError
from vidattr.evaluate import evaluator
from vidattr.evaluate.scores import ScoreSheet
from vidattr.protocols import FittedReference
from vidattr.run import runner
from vidattr.run.doubts import Doubts
from vidattr.run.experiment import Experiment
from vidattr.run.job import run_folder
from vidattr.types import Fitted

POINT = "best constant point"
FITTED = (POINT, MAP)  # references that are chosen with the truth of all clips at hand, and are not ranked
SHARE = "truth_share"
COLUMNS = ("family", "model", "method", "clip", "measure", "value")


@dataclass(frozen=True)
class Standing:
    """How a network stands on a family.

    Attributes:
        family: The family.
        model: The network.
        accuracy: Share of correct clips; NaN where it could not be measured.
        clips: Number of clips that were to be certified.
        certified: Ids of the certified clips.
        why_not: Why its maps are not judged; "": they are.
    """

    family: str
    model: str
    accuracy: float
    clips: int
    certified: tuple[str, ...]
    why_not: str = ""

    @property
    def judged(self) -> bool:
        """Whether maps of this network are judged."""
        return not self.why_not


@dataclass
class Outcome:
    """The result of a benchmark.

    Attributes:
        standings: Of each network on each family, in the order of the plan.
        scores: A row per family, model, method, clip and measure: these columns, and `value`; certified clips only.
        undefined: (family, model, method) to why the method gave no map.
        failures: Of single clips.
        doubts: About the clips.
        shares: A row per family, model and clip: `value`, the share of its voxels that is evidence.
    """

    standings: list[Standing] = field(default_factory=list)
    scores: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(COLUMNS)))
    undefined: dict[tuple[str, str, str], str] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    doubts: list[Doubts] = field(default_factory=list)
    shares: pd.DataFrame = field(default_factory=pd.DataFrame)


def compute(plan: BenchmarkPlan, *, shard: tuple[int, int] = (1, 1), quiet: bool = False) -> Outcome:
    """Computes what a benchmark lacks, network by network.

    Args:
        plan: The plan.
        shard: (i, n): only every n-th network on a family, starting with the i-th.
        quiet: Whether to show no progress.

    Raises:
        ConfigError: An experiment cannot be started.
        OutputError: A file cannot be written.
    """
    outcome, tables = Outcome(), []
    mine = list(plan.tasks)[shard[0] - 1 :: shard[1]]
    for number, task in enumerate(mine, start=1):
        standing = _standing(plan, task, outcome)
        outcome.standings.append(standing)
        if not quiet:
            certified = f"{len(standing.certified)} of {standing.clips} clips certified"
            what = standing.why_not or f"accuracy {standing.accuracy:.3f}, {certified}"
            tqdm.write(f"{number}/{len(mine)} {task.name}: {what}", sys.stderr)
        if standing.judged:
            there = _explained(task, outcome)
            tables.append(_judged(plan, task, there, set(standing.certified), outcome))
    if tables:
        scores = pd.concat(tables, ignore_index=True)
        share = scores["measure"] == SHARE
        outcome.scores, outcome.shares = scores[~share], scores[share].drop_duplicates(["family", "model", "clip"])
    return outcome


def _standing(plan: BenchmarkPlan, task: Contest, outcome: Outcome) -> Standing:
    """Measures and certifies a network on a family."""
    scale = plan.chosen.scale
    nothing = Standing(task.family, task.model, float("nan"), scale.clips, (), task.lack)
    if task.lack:
        return nothing
    try:
        (accuracies,), (certificates,) = _sheets(task.accuracy, outcome), _sheets(task.certificate, outcome)
    except VidattrError as error:
        return Standing(task.family, task.model, float("nan"), scale.clips, (), str(error).splitlines()[0])
    accuracy = float(accuracies.rows[scale.accuracy.score].mean())
    rows = certificates.rows
    certified = tuple(sorted(rows["clip"][rows[scale.certificate.score] == 1]))
    why = ""
    if not accuracy >= scale.learned:
        why = f"not learned: accuracy {accuracy:.3f} is below {scale.learned}"
    elif len(certified) < scale.fewest:
        why = f"{len(certified)} of {len(rows)} clips are certified, fewer than {scale.fewest}"
    return Standing(task.family, task.model, accuracy, len(rows), certified, why)


def _sheets(experiment: Experiment, outcome: Outcome) -> list[ScoreSheet]:
    (sheets,) = evaluator.evaluate([experiment], quiet=True)
    for sheet in sheets:
        outcome.failures += sheet.failures
    return sheets


def _explained(task: Contest, outcome: Outcome) -> dict[str, Experiment]:
    """Runs all methods, and returns the experiments of those that gave a map."""
    jobs = runner.run(list(task.runs.values()), quiet=True, compare=False)
    by_folder = {job.folder.path: job for job in jobs}
    outcome.doubts += [job.doubts for job in jobs]
    there = {}
    for method, experiment in task.runs.items():
        folder = run_folder(experiment)
        job = by_folder[folder.path]
        if folder.stored():
            there[method] = experiment
        if job.failed is not None:
            outcome.undefined[task.family, task.model, method] = job.failed.found.splitlines()[0]
        else:
            outcome.failures += job.failures
    return there


def _judged(
    plan: BenchmarkPlan, task: Contest, there: dict[str, Experiment], certified: set[str], outcome: Outcome
) -> pd.DataFrame:
    """Returns the scores of the certified clips of one network on one family."""
    tables: list[pd.DataFrame] = []
    for judging in plan.judging:
        some = {method: one for method, one in there.items() if judging.judges(one)}
        if not some:
            continue
        asked = [judging.of(experiment) for experiment in some.values()]
        methods = {id(experiment): method for method, experiment in zip(some, asked, strict=True)}
        for sheet in (one for sheets in evaluator.evaluate(asked, quiet=True) for one in sheets):
            outcome.failures += sheet.failures
            method = methods.get(id(sheet.experiment))
            if method is not None:
                measures = {name: score for name, (score, _) in judging.measures.items()}
                tables += _long(task, method, sheet.rows, {**measures, SHARE: SHARE}, certified)
                metric = sheet.experiment.metric
                if method == next(iter(some)) and isinstance(metric, FittedReference):
                    height, width = sheet.experiment.model.input.size
                    tables += _fitted(task, metric.fitted(sheet.rows, (height, width)), sheet.rows, measures, certified)
    for name, values in scored_constant_map(plan, task, certified) if there else ():
        table = pd.DataFrame({"clip": list(values), name: list(values.values())})
        tables += _long(task, MAP, table, {name: name}, certified)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(COLUMNS))


def _long(
    task: Contest, method: str, rows: pd.DataFrame, measures: Mapping[str, str], certified: set[str]
) -> Iterable[pd.DataFrame]:
    """Yields the scores of one method on the certified clips in the columns of `Outcome.scores`."""
    rows = rows[rows["clip"].isin(certified)]
    for name, score in measures.items():
        if score in rows:
            values = rows[["clip", score]].rename(columns={score: "value"})
            fixed = {"family": task.family, "model": task.model, "method": method, "measure": name}
            yield values.assign(**fixed)[list(COLUMNS)]


def _fitted(
    task: Contest, found: Fitted, rows: pd.DataFrame, measures: Mapping[str, str], certified: set[str]
) -> list[pd.DataFrame]:
    """Returns the scores of the best constant point, which is chosen with the truth of all clips at hand."""
    table = pd.DataFrame({"clip": rows["clip"], **found.columns})
    return list(_long(task, POINT, table, measures, certified))


def wide(scores: pd.DataFrame, measure: str, methods: Sequence[str]) -> pd.DataFrame:
    """Returns the scores of one measure, a row per block (family, model, clip) and a column per method."""
    mine = scores[scores["measure"] == measure]
    table = mine.pivot_table(index=["family", "model", "clip"], columns="method", values="value", dropna=False)
    return table.dropna(how="all").reindex(columns=[name for name in methods if name in table.columns])
