"""One experiment on its way through a run, and the folder that its results go to."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vidattr import __version__
from vidattr.config.experiment import Experiment, run_identity
from vidattr.config.identity import EARLIER, described_once, key
from vidattr.config.settings import check_out
from vidattr.errors import ConfigError, Failure, VidattrError
from vidattr.run.doubts import Doubts
from vidattr.run.sources import Again, Facts
from vidattr.run.store import RunFolder


@dataclass
class Job:
    """One experiment on its way: where its maps go, which clips it still wants, what went wrong."""

    experiment: Experiment
    folder: RunFolder
    missing: set[str] = field(default_factory=set)
    facts: dict[str, Facts] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    errors_file: Path | None = None
    present: int = 0
    written: int = 0
    failed: VidattrError | None = None
    again: dict[Again, int] = field(default_factory=dict)
    stale: set[str] = field(
        default_factory=set
    )  # their maps on disk are of something else, and nothing may be drawn of them
    doubts: Doubts = field(init=False)

    def __post_init__(self) -> None:
        self.doubts = Doubts(self.folder.path)

    def fail(self, clip: str, stage: str, error: Exception) -> None:
        """Records that a clip failed, and goes on with the others; clip "": all of them."""
        self.add(Failure.of(clip, stage, error))

    def add(self, failure: Failure) -> None:
        """Records a failure, and goes on with the other clips."""
        self.failures.append(failure)
        self.missing.discard(failure.clip)


def run_folder(experiment: Experiment) -> RunFolder:
    """Returns the folder of a cell's run, `<out>/<method>/<model>/<label>`.

    A run that an earlier key version stored, and that holds what this experiment would write, is gone on with where it lies.
    """
    parent = Path(experiment.paths.out) / experiment.names["method"] / experiment.names["model"]
    identity = run_identity(experiment)
    folder = RunFolder(parent / (experiment.label or f"{experiment.names['dataset']}-{key(identity)}"), identity)
    if experiment.label is None and (folder.exists() or not parent.is_dir()):
        return folder
    for version in EARLIER:
        identity = run_identity(experiment, version)
        earlier = RunFolder(parent / (experiment.label or f"{experiment.names['dataset']}-{key(identity)}"), identity)
        if earlier.key_version() == version:
            return earlier
    return folder


def made_by(device: torch.device) -> dict[str, Any]:
    """Returns what a reader would want to know of the machine that made a run."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "vidattr": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": gpu or platform.machine(),
        "command": sys.argv[1:],
    }


def check_folders(experiments: Sequence[Experiment], force: bool = False) -> list[RunFolder]:
    """Returns the folder of each experiment's run, checked before anything is loaded.

    Args:
        experiments: All that are to be run.
        force: Whether runs that are there will be moved aside: then it does not matter which they are.

    Raises:
        ConfigError: Two different experiments would share a folder, or a folder holds another run or takes no files.
    """
    seen: dict[Path, RunFolder] = {}
    folders = []
    for out in {experiment.paths.out for experiment in experiments}:
        check_out(out)
    with described_once():
        for experiment in experiments:
            folder = run_folder(experiment)
            if not force:
                folder.check()
            if seen.setdefault(folder.path, folder).identity != folder.identity:
                raise ConfigError(
                    f"two different experiments would write to {folder.path}",
                    remedy="leave save_label out: each gets a name of its own",
                )
            folders.append(folder)
    return folders
