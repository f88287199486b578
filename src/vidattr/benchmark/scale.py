"""What a benchmark compares and at what cost: `configs/benchmark/<scale>.yaml`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from vidattr.config.building import made
from vidattr.config.catalogue import listing
from vidattr.config.folders import added_folders, search_order
from vidattr.datasets.planted import Family
from vidattr.errors import ConfigError, unknown
from vidattr.run.compose import choice


@dataclass(frozen=True)
class ScoreOf:
    """A score of a metric.

    Attributes:
        overrides: `metric=…` and its options.
        score: Name of the score: the `score` of one of the metric's columns, which says whether higher is better.
        title: Its name in the tables.
        most_passes: Methods of more passes are not judged by it, because it runs them again; None: all are judged.
    """

    overrides: list[str] = field(default_factory=list)
    score: str = ""
    title: str = ""
    most_passes: int | None = None


@dataclass(frozen=True)
class BenchmarkScale:
    """What a benchmark compares.

    Attributes:
        caption: What a reader must know of the cost; "": nothing.
        families: Values of `dataset.family` and `model.family`.
        models: Configs of networks with a field `family`.
        methods: Configs of methods, or patterns; those of the user's own folders of configs are always compared.
        left_out: Pattern to the reason why the methods that it fits are not compared.
        baselines: Configs of methods that stand in every table; they are ranked like the others.
        clips: How many clips of each family are explained; those that are certified for a network are judged.
        fewest: A network is not judged on a family with fewer certified clips.
        accuracy_clips: On how many clips a network's accuracy is measured, before any method runs.
        learned: The accuracy from which a network has learned a family.
        accuracy: Measures it.
        certificate: Says by 1 or 0 whether a clip is certified for a network.
        primary: The name of the truth score that ranks.
        truth: Name to a score against the planted truth.
        proxies: Name to a score that does not know the truth, and is judged by the primary one.
        dataset: Overrides of the clips, for every family.
        overrides: Set in every experiment.
        method: Pattern to the overrides of the methods that it fits, which make slow ones quick.
    """

    caption: str = ""
    families: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    baselines: list[str] = field(default_factory=list)
    clips: int = 12
    fewest: int = 3
    accuracy_clips: int = 128
    learned: float = 0.95
    accuracy: ScoreOf = field(default_factory=ScoreOf)
    certificate: ScoreOf = field(default_factory=ScoreOf)
    primary: str = ""
    truth: dict[str, ScoreOf] = field(default_factory=dict)
    proxies: dict[str, ScoreOf] = field(default_factory=dict)
    dataset: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    method: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.truth and self.primary not in self.truth:
            raise unknown("primary score", self.primary, list(self.truth))
        for name in ("clips", "fewest", "accuracy_clips"):
            if getattr(self, name) < 1:
                raise ConfigError(f"benchmark: {name}={getattr(self, name)}", expected="1 or more")

    def of_method(self, name: str) -> list[str]:
        """Returns the overrides of a method's experiments."""
        return [one for pattern, some in self.method.items() if fnmatchcase(name, pattern) for one in some]


@dataclass(frozen=True)
class Chosen:
    """A scale and what the command chose of it.

    Attributes:
        name: Of the scale.
        scale: The scale, with the families, networks and clips that were chosen.
        methods: Names of the compared methods, the baselines first.
        left_out: Method to the reason why it is not compared.
        user: Overrides for every experiment.
        folder: As in `compose.experiments`.
        add: As in `compose.experiments`.
    """

    name: str
    scale: BenchmarkScale
    methods: tuple[str, ...]
    left_out: Mapping[str, str]
    user: tuple[str, ...]
    folder: Path | None = None
    add: tuple[Path, ...] = ()


def chosen(overrides: Sequence[str], *, folder: Path | None = None, add: Sequence[Path] = ()) -> Chosen:
    """Reads the scale, and what the overrides choose of it.

    Args:
        overrides: `scale=NAME`; `family=`, `model=` and `method=` with one name, several or a pattern; `clips=N`. All
            others are set in every experiment.
        folder: As in `compose.experiments`.
        add: As in `compose.experiments`.

    Raises:
        ConfigError: An unknown scale, family, network or method, or a scale's file that is wrong.
    """
    picked: dict[str, str] = {}
    user = []
    for one in overrides:
        key, _, value = one.partition("=")
        if key in _CHOICES:
            picked[key] = value
        elif "." in key or key.lstrip("+~") in _OPTIONS:
            user.append(one)
        else:
            error = unknown("option", key, (*_CHOICES, *_OPTIONS))
            more = "or an option of every experiment, such as runtime.device"
            raise ConfigError(error.found, expected=f"{error.expected}, {more}", remedy=error.remedy)
    name = picked.get("scale", "small")
    scale = read_scale(name, folder=folder, add=add)
    where = search_order(folder, add)
    if "family" in picked:
        scale = replace(scale, families=_picked("family", picked["family"], list(Family)))
    if "model" in picked:
        scale = replace(scale, models=_picked("model", picked["model"], _names("model", where)))
    if "clips" in picked:
        if not picked["clips"].isdigit():
            raise ConfigError(f"clips={picked['clips'][:80]}", expected="a number of clips of each family")
        scale = replace(scale, clips=int(picked["clips"]))
    known = _names("method", where)
    methods, left_out = [], dict[str, str]()
    if "method" in picked:
        methods = _picked("method", picked["method"], known)
    else:
        methods, left_out = _methods(
            scale, known, {name for one in added_folders(add) for name in _names("method", [one])}
        )
    methods = [
        *(one for one in scale.baselines if one in known),
        *(one for one in methods if one not in scale.baselines),
    ]
    return Chosen(name, scale, tuple(methods), left_out, tuple(user), folder, tuple(add))


_CHOICES = ("scale", "family", "model", "method", "clips")
_OPTIONS = ("render", "runtime", "seed")  # of every experiment; the scale sets the others
_SINGLE = ("accuracy", "certificate")
_SEVERAL = ("truth", "proxies")


def read_scale(name: str, *, folder: Path | None = None, add: Sequence[Path] = ()) -> BenchmarkScale:
    """Reads `benchmark/<name>.yaml` of the config folders; raises ConfigError where there is none, or it is wrong."""
    where = f"benchmark={name}"
    values: Any = OmegaConf.to_container(choice("benchmark", name, folder=folder, add=add), resolve=False)
    known = [one.name for one in fields(BenchmarkScale)]
    if missing := [one for one in known if one not in values]:
        raise ConfigError(f"{where} has no {missing[0]}", expected=", ".join(known))
    scores: dict[str, Any] = {
        key: made(ScoreOf, _mapping(values.pop(key), f"{where}: {key}"), where) for key in _SINGLE
    }
    for key in _SEVERAL:
        some = _mapping(values.pop(key), f"{where}: {key}")
        scores[key] = {
            str(one): made(ScoreOf, _mapping(fields_of, f"{where}: {key}.{one}"), f"{where}: {key}.{one}")
            for one, fields_of in some.items()
        }
    return replace(cast(BenchmarkScale, made(BenchmarkScale, values, where)), **scores)


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{where} is {value!r:.80}", expected="a mapping, {name: value}")
    return value


def _names(role: str, where: Sequence[Path]) -> list[str]:
    return [row["name"] for row in listing(role, where)]


def _picked(key: str, text: str, known: Sequence[str]) -> list[str]:
    """Returns the known names that a list of names and patterns means."""
    words = text.removeprefix("glob(").removesuffix(")").strip("[]") if text.startswith("glob(") else text.strip("[]")
    found: list[str] = []
    for word in (one.strip() for one in words.split(",")):
        fitting = [name for name in known if fnmatchcase(name, word)]
        if not fitting:
            raise unknown(key, word, known)
        found += [name for name in fitting if name not in found]
    return found


def _methods(scale: BenchmarkScale, known: Sequence[str], own: set[str]) -> tuple[list[str], dict[str, str]]:
    """Returns the compared methods and, of those that the patterns fit, which are left out and why."""
    asked = [name for name in known if name in own or any(fnmatchcase(name, one) for one in scale.methods)]
    reasons = {
        name: reason
        for name in asked
        if name not in own
        for pattern, reason in scale.left_out.items()
        if fnmatchcase(name, pattern)
    }
    return [name for name in asked if name not in reasons], reasons
