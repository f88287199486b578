"""The state of an experiment during a run, and the folder of its results."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vidattr import __version__
from vidattr.config.identity import EARLIER, described_once, key
from vidattr.config.settings import check_out
from vidattr.errors import ConfigError, Failure, VidattrError
from vidattr.protocols import JointMethod
from vidattr.run.doubts import Doubts
from vidattr.run.experiment import Experiment, run_identity
from vidattr.run.sources import Again, Facts
from vidattr.run.store import RunFolder
from vidattr.types import Clip


@dataclass
class Job:
    """The state of an experiment during a run.

    Attributes:
        experiment: The experiment.
        folder: Where its results are stored.
        clips: The clips of the experiment, or of its shard.
        missing: Ids of clips whose map has to be computed.
        absent: Ids of those of them that had no map when the run began.
        facts: Clip to what is stored with its map, for the maps that need not be computed.
        failures: What went wrong.
        errors_file: The file of the failures, once it is written.
        present: Number of maps that were stored before.
        written: Number of maps that this run stored.
        failed: The error that stopped the method for all clips.
        again: How many maps are computed again, by reason.
        stale: Ids of clips whose stored map does not hold any more: nothing may be drawn from it.
        doubts: What is doubtful about the clips.
    """

    experiment: Experiment
    folder: RunFolder
    clips: Sequence[Clip] = ()
    missing: set[str] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)
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
    """Returns the folder of an experiment's run, `<out>/<method>/<model>/<label>`.

    A run of the same content that was stored under an earlier key version is continued in its own folder.
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
    """Returns a description of the machine and the command that made a run."""
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


def together(jobs: Sequence[Job]) -> list[list[Job]]:
    """Groups the jobs whose methods are run together (`JointMethod`)."""
    groups: dict[object, list[Job]] = {}
    for job in jobs:
        method = job.experiment.method
        groups.setdefault(method.joint_key if isinstance(method, JointMethod) else id(job), []).append(job)
    return list(groups.values())
