"""The sets of clips of a training: the training clips, and the sets on which accuracy and loss are measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from vidattr.config.building import build, made
from vidattr.errors import ConfigError
from vidattr.labels import plain
from vidattr.models.weights.trained import plain_fields
from vidattr.protocols import Dataset, OrderedClasses
from vidattr.training.recipes import Recipe, Select
from vidattr.training.split import held_out, without
from vidattr.types import Clip, Problem

HELD_OUT, TEST = "held_out", "test"
_COLUMNS = ("epoch", "lr", "loss", "train", "seconds", HELD_OUT, TEST)  # of the log


@dataclass
class Sets:
    """All clips of a training.

    Attributes:
        training: The training clips.
        measured: Name to the clips that are measured after each epoch: held_out, test, and the recipe's own sets.
        problems: Clips that a dataset names but cannot offer.
        notes: Files beside the clips that are not read.
        classes: Names of the classes in the order of the datasets that have one; others follow by the alphabet.
    """

    training: list[Clip]
    measured: dict[str, list[Clip]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)

    def all(self) -> list[Clip]:
        """Returns every clip."""
        return [*self.training, *(clip for clips in self.measured.values() for clip in clips)]


def split_of(recipe: Recipe, dataset: Dataset | None, part: str) -> Dataset | None:
    """Returns the dataset with the fields that `recipe.fit` or `recipe.test` changes.

    Args:
        recipe: The recipe.
        dataset: As it was configured.
        part: "fit" or "test".

    Raises:
        ConfigError: There is no dataset to change, or a field is not one of its fields, or a value is wrong.
    """
    changes: dict[str, Any] = getattr(recipe, part)
    if not changes:
        return dataset if part == "fit" else None
    if dataset is None:
        raise ConfigError(f"recipe.{part} changes fields of dataset=, and there is none", remedy="dataset=NAME")
    try:
        changed: Dataset = made(type(dataset), {**plain_fields(dataset), **changes}, f"recipe.{part}")
    except ConfigError as error:
        raise error.with_remedy(_remedy(error, recipe, part)) from error
    return changed


def named(recipe: Recipe) -> Iterator[tuple[str, str, Dataset]]:
    """Yields role (train, held_out), name and dataset of each that the recipe itself names.

    Raises:
        ConfigError: One is no dataset, or its name is that of another column of the log.
    """
    for role, nodes in (("train", recipe.train), ("held_out", recipe.held_out)):
        for name, node in nodes.items():
            if role == "held_out" and (name in _COLUMNS or name.endswith("_loss")):
                raise ConfigError(
                    f"recipe.held_out names a dataset {name!r}, which is another column of the log", remedy="rename it"
                )
            yield role, name, build(node, f"recipe: dataset {name!r}")


def check(recipe: Recipe, dataset: Dataset | None) -> None:
    """Raises ConfigError where the datasets of a training are wrong, before a clip is looked for."""
    parts = list(named(recipe))
    for part in ("fit", "test"):
        split_of(recipe, dataset, part)
    if dataset is None and not any(role == "train" for role, _, _ in parts):
        raise ConfigError("there is nothing to train on", expected="dataset=NAME, or datasets under recipe.train")


def sets_of(recipe: Recipe, dataset: Dataset | None) -> Sets:
    """Finds the clips of a training and divides them.

    Raises:
        ConfigError: A dataset is wrong or missing, no clip is left to train on, or none can be held out where the
            recipe needs some.
    """
    check(recipe, dataset)
    found = Sets([])
    test: list[Clip] = []
    if (split := split_of(recipe, dataset, "test")) is not None:
        try:
            test = _index(split, "test", found)
        except ConfigError as error:
            raise error.with_remedy(_remedy(error, recipe, "test")) from error
    if (split := split_of(recipe, dataset, "fit")) is not None:
        found.training = _index(split, "dataset", found)
    for role, name, part in named(recipe):
        clips = _index(part, f"recipe.{role}.{name}", found)
        if role == "train":
            found.training += clips
        else:
            found.measured[name] = clips
    if test:
        found.training = without(found.training, test, recipe.apart)
        found.measured = {TEST: test, **found.measured}
    if recipe.share:
        found.training, chosen = held_out(found.training, recipe.share, recipe.seed)
        if chosen:
            found.measured = {HELD_OUT: chosen, **found.measured}
    needed = {Select.held_out: HELD_OUT, Select.test: TEST}.get(recipe.select)
    if needed == HELD_OUT and HELD_OUT not in found.measured:
        raise ConfigError(
            f"no video can be held out of {len(found.training)} training clips: each class has a single video",
            expected="two videos or more of a class",
            remedy=(
                "recipe.select=last recipe.share=0 recipe.patience=null, which measures "
                "nothing and keeps the last epoch"
            ),
        )
    _distinct(found.training)
    return found


def _index(dataset: Dataset, where: str, found: Sets) -> list[Clip]:
    index = dataset.index()
    if isinstance(dataset, OrderedClasses):
        there = {plain(name) for name in found.classes}
        found.classes += [name for name in dataset.class_names() if plain(name) not in there]
    found.problems += [problem for problem in index.problems if problem not in found.problems]
    found.notes += [note for note in (f"{where}: {note}" for note in index.notes) if note not in found.notes]
    return list(index.clips)


def _distinct(clips: Sequence[Clip]) -> None:
    if not clips:
        raise ConfigError("no clip is left to train on", expected="clips whose videos are not in the test split")
    seen: set[str] = set()
    for clip in clips:
        if clip.id in seen:
            raise ConfigError(
                f"two training clips are called {clip.id}",
                remedy="train on one of the datasets under recipe.train at a time",
            )
        seen.add(clip.id)


def _remedy(error: ConfigError, recipe: Recipe, part: str) -> str:
    """Returns the remedy for a split that cannot be made.

    It is the remedy of the dataset's error, or to change or omit the split.
    """
    names = [f"recipe.{part}.{name}" for name in getattr(recipe, part)]
    given, gone = (" ".join(form.format(name) for name in names) for form in ("{}=…", "~{}"))
    own = [error.remedy] if error.remedy else []
    return "; ".join(
        [*own, given, f"to do without this split: {gone}" + (" recipe.select=held_out" if part == "test" else "")]
    )
