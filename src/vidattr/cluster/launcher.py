"""Where submitted work runs: `configs/launcher/*.yaml`, chosen by `--submit`, options as `launcher.<name>=value`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vidattr.errors import ConfigError, unknown
from vidattr.run.compose import part

KINDS = ("local", "slurm")


@dataclass(frozen=True)
class Local:
    """Processes on this machine.

    Attributes:
        processes: How many; None: one for each GPU, or, without a GPU, as many as there are cores for.
        cpus: Threads of a process.
        minutes: Minutes of work in a task, at most.
    """

    processes: int | None = None
    cpus: int = 1
    minutes: float = 10.0

    def __post_init__(self) -> None:
        _at_least(self, {"processes": 1, "cpus": 1, "minutes": 0.01})


@dataclass(frozen=True)
class Slurm:
    """Jobs of a Slurm cluster.

    Attributes:
        partition: Of the jobs; None: the cluster's default, as for the next three.
        account: Whom the time is charged to.
        qos: Quality of service.
        constraint: Features that the nodes must have.
        gpus: GPUs of a task; 0: the network runs on CPUs.
        cpus: Cores of a task; where it has no GPU, also its threads.
        memory: Memory of a task in GB.
        minutes: Minutes of work that are cut into one task. The time limit is half as long again, and five minutes.
        parallel: How many tasks of the array run at the same time.
        grace: Seconds before the time limit at which a task is told to stop.
        requeue: Whether a task that is preempted or reaches its limit queues again.
        setup: Lines of shell before each task.
        device: Name of the nodes' device in the file of measurements; None: that of this machine.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gpus: int = 1
    cpus: int = 4
    memory: float = 16.0
    minutes: float = 60.0
    parallel: int = 64
    grace: int = 60
    requeue: bool = True
    setup: list[str] = field(default_factory=list)
    device: str | None = None

    def __post_init__(self) -> None:
        _at_least(self, {"gpus": 0, "cpus": 1, "memory": 0.001, "minutes": 0.01, "parallel": 1, "grace": 1})

    @property
    def limit(self) -> int:
        """The time limit of a task in minutes."""
        return round(1.5 * self.minutes) + 5


Launcher = Local | Slurm


def launcher(
    kind: str, overrides: Sequence[str], *, folder: Path | None = None, add: Sequence[Path] = ()
) -> tuple[str, Launcher]:
    """Returns the kind of a launcher, local or slurm, and its options.

    Args:
        kind: Name of a config, for example "slurm"; a config of the user's own may set other defaults.
        overrides: `launcher.<option>=value`.
        folder: Config folder.
        add: Further config folders.

    Raises:
        ConfigError: An unknown name or option, or a wrong value.
    """
    fields: dict[str, Any] = {}
    for one in overrides:
        key, _, value = one.lstrip("+").partition("=")
        if key == "launcher":
            raise ConfigError(f"{one}: --submit names the launcher", remedy=f"--submit {value}")
        try:
            fields[key.removeprefix("launcher.")] = OmegaConf.to_container(OmegaConf.create(f"value: {value}"))["value"]  # type: ignore[index, call-overload]
        except (OmegaConfBaseException, ValueError) as error:
            raise ConfigError(f"{one}: no value: {str(error).splitlines()[0]}") from error
        except Exception as error:  # of the YAML parser, which has errors of its own
            raise ConfigError(f"{one}: no value", expected="a number, a text, or a list [a, b]") from error
    found = part("launcher", kind, fields, folder=folder, add=add)
    if not isinstance(found, Local | Slurm):
        raise unknown("launcher", kind, KINDS)
    return ("slurm" if isinstance(found, Slurm) else "local"), found


def _at_least(launcher: Launcher, least: dict[str, float]) -> None:
    for name, value in least.items():
        found = getattr(launcher, name)
        if found is not None and found < value:
            raise ConfigError(f"launcher.{name}={found}", expected=f"{value:g} or more")
