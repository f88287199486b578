"""From a scale to experiments: for each network and family those that explain, and the metrics that judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from vidattr.benchmark.scale import Chosen, ScoreOf
from vidattr.errors import ConfigError, unknown
from vidattr.protocols import Metric
from vidattr.run.compose import several
from vidattr.run.experiment import Experiment

Overrides = tuple[str, ...]


@dataclass(frozen=True)
class Judging:
    """A metric, and the measures that are scores of it.

    Attributes:
        experiment: Composed with the metric, whatever its method.
        measures: Name of a measure to its score and whether higher is better.
        most_passes: Methods of more passes are not judged by it; None: all are.
    """

    experiment: Experiment
    measures: Mapping[str, tuple[str, bool]]
    most_passes: int | None

    def of(self, experiment: Experiment) -> Experiment:
        """Returns an experiment with this metric."""
        names = {**experiment.names, "metric": self.experiment.names["metric"]}
        changed = {**experiment.changed, "metric": self.experiment.changed.get("metric", {})}
        return replace(experiment, metric=self.experiment.metric, names=names, changed=changed)

    def judges(self, experiment: Experiment) -> bool:
        """Says whether it judges the maps of an experiment's method."""
        return self.most_passes is None or experiment.method.passes <= self.most_passes


@dataclass(frozen=True)
class Contest:
    """One network on one family.

    Attributes:
        family: The family.
        model: Name of the network's config.
        accuracy: Measures the network's accuracy.
        certificate: Certifies the clips.
        runs: Method to its experiment.
        lack: Why there is no such network; "": there is.
    """

    family: str
    model: str
    accuracy: Experiment
    certificate: Experiment
    runs: Mapping[str, Experiment]
    lack: str = ""

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return f"{self.family} · {self.model}"


@dataclass(frozen=True)
class BenchmarkPlan:
    """All that a benchmark computes.

    Attributes:
        chosen: The scale and what was chosen of it.
        tasks: Networks on families.
        judging: The metrics, those of the truth first.
        better: Name of a measure to whether higher is better.
    """

    chosen: Chosen
    tasks: Sequence[Contest]
    judging: Sequence[Judging]
    better: Mapping[str, bool]


def plan(chosen: Chosen) -> BenchmarkPlan:
    """Composes all experiments of a benchmark; nothing is computed.

    Raises:
        ConfigError: An override is wrong, or a metric has no such score.
    """
    scale = chosen.scale
    pairs = [(family, model) for family in scale.families for model in scale.models]
    if not pairs or not chosen.methods:
        raise ConfigError("the benchmark has no network, no family or no method", expected="one of each")
    bases = [_base(chosen, family, model) for family, model in pairs]
    more = [f"dataset.clips={scale.accuracy_clips}"]
    run = [[*base, f"method={name}", *scale.of_method(name)] for base in bases for name in chosen.methods]
    judged = [[*base, *more, *scale.accuracy.overrides] for base in bases]
    judged += [[*base, *scale.certificate.overrides] for base in bases]
    measures = scale.truth | scale.proxies
    asked: dict[tuple[Overrides, int | None], dict[str, ScoreOf]] = {}
    for name, measure in measures.items():
        asked.setdefault((tuple(measure.overrides), measure.most_passes), {})[name] = measure
    judged += [[*bases[0], *overrides] for overrides, _ in asked]
    runs = [_single(one) for one in several(run, folder=chosen.folder, add=chosen.add)]
    others = [_single(one) for one in several(judged, primary="evaluate", folder=chosen.folder, add=chosen.add)]
    tasks = []
    for place, (family, model) in enumerate(pairs):
        mine = runs[place * len(chosen.methods) : (place + 1) * len(chosen.methods)]
        accuracy, certificate = others[place], others[len(pairs) + place]
        experiments = dict(zip(chosen.methods, mine, strict=True))
        tasks.append(Contest(family, model, accuracy, certificate, experiments, _lack(certificate)))
    judging = [
        _judging(experiment, some, most)
        for experiment, ((_, most), some) in zip(others[2 * len(pairs) :], asked.items(), strict=True)
    ]
    better = {name: higher for one in judging for name, (_, higher) in one.measures.items()}
    return BenchmarkPlan(chosen, tasks, judging, better)


def _base(chosen: Chosen, family: str, model: str) -> list[str]:
    scale = chosen.scale
    clips = ["dataset=planted", f"dataset.family={family}", f"dataset.clips={scale.clips}", *scale.dataset]
    return [*clips, f"model={model}", f"model.family={family}", *scale.overrides, *chosen.user]


def _single(found: Sequence[Experiment]) -> Experiment:
    if len(found) != 1:
        raise ConfigError(
            f"an override spans {len(found)} experiments",
            expected="one value for each option; family=, model= and method= take several names",
        )
    return found[0]


def _lack(experiment: Experiment) -> str:
    """Returns why the network of an experiment cannot be loaded; "": it can."""
    try:
        experiment.model.load()
    except ConfigError as error:
        return error.found
    return ""


def _judging(experiment: Experiment, measures: Mapping[str, ScoreOf], most_passes: int | None) -> Judging:
    metric = experiment.metric
    assert metric is not None
    directions = _directions(metric)
    for name, measure in measures.items():
        if measure.score not in directions:
            raise unknown(f"score of metric={experiment.names['metric']} for {name}", measure.score, list(directions))
    return Judging(
        experiment, {name: (one.score, directions[one.score]) for name, one in measures.items()}, most_passes
    )


def _directions(metric: Metric) -> dict[str, bool]:
    """Returns the scores of a metric's columns, and whether higher is better."""
    return {column.score: column.better == "higher" for column in reversed(metric.summary())}
