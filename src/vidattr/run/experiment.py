"""One point of a sweep, checked and ready to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vidattr.config.identity import KEY_VERSION, describe
from vidattr.config.settings import Paths, Settings
from vidattr.errors import ConfigError

if TYPE_CHECKING:
    from vidattr.config.runtime import Runtime
    from vidattr.protocols import Dataset, Method, Metric, ModelConfig
    from vidattr.render.options import Render


@dataclass(frozen=True)
class Experiment:
    """One dataset, model and method with all their options, and where the results are written.

    Experiments of one sweep share the objects of the parts that are the same.

    Attributes:
        values: The composed configuration as plain values, for `vidattr config show`; not to be changed.
        names: Role to the name of the chosen config, {"method": "grad_cam", …}.
        title: Name of the method, and the options in which the experiments of a sweep differ.
        settings: Seed, target, limit and the folder's name.
        paths: Where data are read and results are written.
        metric: None where no metric is computed.
        notes: What the model takes from its file of weights, and where it differs from what they were trained with.
        overrides: The overrides that give exactly this experiment, without the lists of a sweep.
        changed: Role, or "" for the top level, to the options that differ from the configs of the choices.
        company: Keys of the runs in the table, in the order of its rows, where the metric compares their maps.
    """

    values: Mapping[str, Any]
    names: Mapping[str, str]
    title: str
    settings: Settings
    paths: Paths
    dataset: Dataset
    model: ModelConfig
    method: Method
    metric: Metric | None
    render: Render
    runtime: Runtime
    notes: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    changed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    company: tuple[str, ...] = ()

    @property
    def label(self) -> str | None:
        """The name that the user chose for the run's folder."""
        return self.settings.save_label


def run_identity(experiment: Experiment, version: int = KEY_VERSION) -> dict[str, Any]:
    """Returns what decides the maps of one experiment, in the form of a key version."""
    # The defaults are not said: what there was before there was a choice keeps its key.
    precision = {} if experiment.runtime.precision == "float32" else {"precision": experiment.runtime.precision.value}
    # Maps of methods that another backend than torch cannot compute are torch's, also where metrics use it.
    backend = _backend(experiment) if getattr(experiment.method, "answers_only", False) else {}
    return {
        "key_version": version,
        "dataset": {"name": experiment.names["dataset"], **describe(experiment.dataset, version)},
        "model": {"name": experiment.names["model"], **describe(experiment.model, version)},
        "method": {"name": experiment.names["method"], **describe(experiment.method, version)},
        "target": experiment.settings.target,
        "seed": experiment.settings.seed,
        **precision,
        **backend,
    }


def metric_identity(experiment: Experiment, version: int = KEY_VERSION) -> dict[str, Any]:
    """Returns what decides the scores of one experiment beside its maps, in the form of a key version."""
    described = {"key_version": version, "name": experiment.names["metric"], **describe(experiment.metric, version)}
    # Scores of a metric that does not run the network are the same by every backend.
    return described | (_backend(experiment) if getattr(experiment.metric, "needs_network", True) else {})


def _backend(experiment: Experiment) -> dict[str, str]:
    """Returns what computes the network's answers, where it is not torch."""
    return {} if experiment.runtime.backend == "torch" else {"backend": experiment.runtime.backend.value}


def check_backend(name: str, method: Method, runtime: Runtime) -> None:
    """Raises ConfigError if a method needs more of the network than `runtime.backend` gives: gradients or layers.

    Baselines, which do not run the network, are no error. Metrics may use a backend on any method's maps.

    Args:
        name: Name of the method's config.
        method: The method.
        runtime: The settings of the run.
    """
    if runtime.backend == "torch" or getattr(method, "answers_only", False) or not method.passes:
        return
    raise ConfigError(
        f"method={name} with runtime.backend={runtime.backend}",
        expected="a method that uses the network's answers alone: aosa, osa, rise, sos, loco, up, kernel_shap, "
        "video_lime and their variants, or one of your own with `answers_only: ClassVar[bool] = True`",
        remedy="runtime.backend=torch; `vidattr evaluate` may have runtime.backend=openvino on maps of every method",
    )
