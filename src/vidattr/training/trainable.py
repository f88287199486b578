"""Checks that a model config can be trained and can load the trained weights, before any clip is read."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path

from vidattr.errors import ConfigError
from vidattr.models.network.network import VideoModel
from vidattr.protocols import ModelConfig
from vidattr.training import checkpoint
from vidattr.training.processes import Processes
from vidattr.writing import whole


def check_class(config: type, name: str) -> None:
    """Raises ConfigError where the networks of a model config's class cannot be trained.

    Args:
        config: The class; nothing of it is loaded.
        name: What was chosen, for the message ("model=hf").
    """
    if reason := getattr(config, "untrainable", ""):  # of `protocols.UntrainableConfig`
        raise ConfigError(
            f"{name} cannot be trained: {reason}",
            expected="a model config that takes a file of weights (`vidattr list models`)",
            remedy="another model=NAME, or train it by its own library and use the result with model.weights=",
        )
    if "weights" not in {item.name for item in fields(config)}:
        raise ConfigError(
            f"{name} cannot be trained: {config.__name__} has no field `weights`",
            expected="a model config that takes a file of weights",
        )


def check_loads(network: VideoModel, model: ModelConfig, out: Path, processes: Processes) -> None:
    """Raises ConfigError if the model cannot load the weights that training will write into `out`.

    Process 0 writes a file of weights, loads it and removes it, before the clips are read and training begins.
    """
    problem: ConfigError | None = None
    if processes.first:
        there = out.exists()
        with suppress(_Discard), whole(out / "check.safetensors") as part:
            part.write_bytes(checkpoint.weights(network, model))
            try:
                replace(model, weights=str(part)).load()  # type: ignore[type-var]
            except ConfigError as error:
                problem = error
            raise _Discard
        if not there:
            out.rmdir()
    (problem, *_) = processes.gathered(problem)
    if problem is None:
        return
    count = len(network.classes)
    raise ConfigError(
        f"this model would not take the trained weights of {count} classes back as model.weights: {problem.found}",
        expected=problem.expected,
        remedy=f"a model that takes a file of {count} classes (of model=custom the builder decides: "
        f"'model.arguments={{num_classes: {count}}}'), or recipe.head=keep",
    )


class _Discard(Exception):  # noqa: N818 - no error
    """Ends the writing of a file that is not to be kept."""
