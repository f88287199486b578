"""The work of one submission, in the words of the command line: what `run`, `evaluate` and `reproduce` submit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidattr.run.compose import several
from vidattr.run.experiment import Experiment

Overrides = tuple[str, ...]


@dataclass(frozen=True)
class Work:
    """What a submission computes, in this order: maps, scores, and the table at the end.

    Attributes:
        folder: `paths.out` of all experiments. The submission and its logs are stored below `<folder>/jobs`.
        run: Lists of overrides of `vidattr run`; each may be a sweep. Their maps are cut into tasks, which start in any
            order and at the same time.
        evaluate: Lists of overrides of `vidattr evaluate`, which start when all tasks of `run` have ended.
        last: Arguments of the `vidattr` command that prints the result when everything else has ended, for example
            `("table", "method=step,aosa")`; its output is stored as `table.txt`. Empty: no such command.
        config_dir: `--config-dir` of all commands.
        add_configs: `--add-configs` of all commands.
    """

    folder: Path
    run: tuple[Overrides, ...] = ()
    evaluate: tuple[Overrides, ...] = ()
    last: tuple[str, ...] = ()
    config_dir: Path | None = None
    add_configs: tuple[Path, ...] = ()

    def options(self) -> list[str]:
        """Returns the options that every command of this work takes: the folders of configs."""
        main = [] if self.config_dir is None else ["--config-dir", str(self.config_dir)]
        return main + [word for folder in self.add_configs for word in ("--add-configs", str(folder))]

    def experiments(self, verb: str) -> list[Experiment]:
        """Returns the experiments of all lists of `run` or `evaluate`, in their order.

        Raises:
            ConfigError: An override is wrong.
        """
        lists = self.run if verb == "run" else self.evaluate
        found = several(lists, primary=verb, folder=self.config_dir, add=self.add_configs)
        return [experiment for experiments in found for experiment in experiments]

    def plain(self) -> dict[str, Any]:
        """Returns the work as plain values for JSON; `of` reads them."""
        return {
            "folder": str(self.folder),
            "run": [list(one) for one in self.run],
            "evaluate": [list(one) for one in self.evaluate],
            "last": list(self.last),
            "config_dir": None if self.config_dir is None else str(self.config_dir),
            "add_configs": [str(folder) for folder in self.add_configs],
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Work:
        """Returns the work that `plain` described; raises LookupError, TypeError or ValueError for other values."""

        def lists(name: str) -> tuple[Overrides, ...]:
            return tuple(_words(one) for one in plain[name])

        return cls(
            folder=Path(plain["folder"]),
            run=lists("run"),
            evaluate=lists("evaluate"),
            last=_words(plain["last"]),
            config_dir=None if plain["config_dir"] is None else Path(plain["config_dir"]),
            add_configs=tuple(Path(folder) for folder in plain["add_configs"]),
        )


def _words(found: Sequence[Any]) -> tuple[str, ...]:
    if isinstance(found, str) or not all(isinstance(word, str) for word in found):
        raise ValueError(f"{json.dumps(found)[:80]} is no list of texts")
    return tuple(found)
