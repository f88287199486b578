"""The clips of a training as the network sees them: labelled, decoded, without unreadable ones."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from vidattr.errors import ClipError, ConfigError, Failure, failure_lines
from vidattr.labels import plain
from vidattr.models.network.network import VideoModel
from vidattr.run.doubts import told
from vidattr.training.clip_loader import ClipLoader, room_for_clips
from vidattr.training.head import classes_of
from vidattr.training.processes import Processes
from vidattr.training.recipes import Frames, Recipe
from vidattr.training.sets import Sets
from vidattr.types import Clip

_SHOWN = 5


class Material:
    """Reads all clips of a training once, so that unreadable clips are known before the first step.

    Args:
        found: The clips.
        network: Its classes are those of the clips.
        recipe: Decides which frames are selected.
        processes: The processes that train together; each reads a part of the clips, and all leave out the same clips.
        workers: Threads that decode.
        quiet: Whether progress is kept silent.

    Attributes:
        training: The clips that are trained on.
        measured: Name to the clips that are measured after each epoch.
        errors: A line of `errors.jsonl` for each clip that is left out.

    Raises:
        ConfigError: No clip of a set can be decoded, or those that can are of one class.
    """

    def __init__(
        self, found: Sets, network: VideoModel, recipe: Recipe, processes: Processes, *, workers: int, quiet: bool
    ) -> None:
        self._network, self._recipe, self._processes = network, recipe, processes
        self._workers, self._quiet, self._notes = workers, quiet, found.notes
        self._doubts: dict[str, tuple[str, ...]] = {}
        self.errors = [Failure.of(p.clip, "index", ClipError(p.message, remedy=p.remedy)) for p in found.problems]
        self.training = self._read("train", found.training, recipe.frames, recipe.clips_per_video)
        self.measured = {
            name: self._read(name, clips, Frames.preprocessing, 1) for name, clips in found.measured.items()
        }
        try:
            classes_of(self.training.clips)
        except ConfigError as error:
            if not self.errors:
                raise
            lost = f"{len(self.errors)} clips are left out, the first: {self.errors[0].clip}: {self.errors[0].error}"
            raise ConfigError(f"{error.found}; {lost}", expected=error.expected, remedy=error.remedy) from error

    def _read(self, name: str, clips: Sequence[Clip], frames: Frames, draws: int) -> ClipLoader:
        processes = self._processes
        found = ClipLoader(
            clips,
            [self._network.places[plain(clip.label)] for clip in clips],
            self._network.view,
            frames=frames,
            draws=draws,
            seed=self._recipe.seed,
            workers=self._workers,
            room=room_for_clips(processes.per_machine),
        )
        mine = range(processes.rank, len(found), processes.count)
        unread: dict[str, ClipError] = {}
        for failed, doubts in processes.gathered(found.check(mine, f"reading {name}", self._quiet)):
            unread |= failed
            self._doubts |= doubts
        lines = [Failure.of(clip, "read", error) for clip, error in sorted(unread.items())]
        self.errors += lines
        found.leave_out(frozenset(unread))
        if not len(found):
            reason = f": {lines[0].clip}: {lines[0].error}" if lines else ""
            raise ConfigError(
                f"none of the {len(clips)} clips of {name} can be decoded{reason}", expected="clips that can be read"
            )
        return found

    def error_lines(self) -> str:
        """Returns the content of `errors.jsonl`."""
        return "".join(json.dumps(failure.row(), ensure_ascii=False) + "\n" for failure in self.errors)

    def tell(self) -> None:
        """Prints the clips of the training, their doubts, and the clips that were left out."""
        said = told(self._doubts, self._notes)
        if self.errors:
            said.append(f"{len(self.errors)} clips are left out (errors.jsonl):")
            said += failure_lines(self.errors, most=_SHOWN)
        trained = {plain(clip.label) for clip in self.training.clips}
        missing = [name for name in self._network.classes if plain(name) not in trained]
        if missing:
            shown = ", ".join(missing[:_SHOWN]) + (", …" if len(missing) > _SHOWN else "")
            said.append(f"note: no training clip of {len(missing)} of {len(self._network.classes)} classes: {shown}")
        if not self._quiet:
            counts = [f"{len(self.training.clips)} training clips of {len(trained)} classes"]
            said.append(
                ", ".join([*counts, *(f"{name}: {len(loader.clips)} clips" for name, loader in self.measured.items())])
            )
        for line in said:
            tqdm.write(line, sys.stderr)

    def identity(self) -> dict[str, Any]:
        """Returns the clips' part of a training's identity: their number, and a hash of their ids and classes."""
        return {
            name: {"clips": len(loader.clips), "sha256": _digest(loader.clips)}
            for name, loader in {"train": self.training, **self.measured}.items()
        }


def _digest(clips: Sequence[Clip]) -> str:
    return hashlib.sha256(
        "\n".join(f"{clip.id}\t{clip.label}" for clip in clips).encode("utf-8", "backslashreplace")
    ).hexdigest()
