"""What passes cost on a device: the file of measurements, and multiply-adds at a stated rate where none was made.

The file is `<device>.json` in `$VIDATTR_SPEEDS`, or else in `~/.cache/vidattr/speeds`. It holds one row for each
network, its clip size and its settings, and what was measured of it:

* `forward`, `backward`: seconds of one clip in a forward pass, and in a forward pass with the gradient of its input;
* `clip`: seconds and bytes of a clip that a run reads, classifies, draws and stores, without a method;
* `method <class>`: seconds of a method for one clip, divided by the passes that it declares, and bytes of its map.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch

from vidattr.cluster.multiply_adds import MultiplyAdds, blank
from vidattr.config.identity import describe, key
from vidattr.errors import ConfigError
from vidattr.models.custom import Custom
from vidattr.models.huggingface import HuggingFace
from vidattr.run.experiment import Experiment
from vidattr.writing import write_text

RATES = {"cuda": 20.0, "cpu": 0.02}
"""TFLOP/s (of a CPU: for each thread) that a forecast assumes of a device on which nothing was measured."""
_OWN = (Custom, HuggingFace)  # networks that are not known without their weights


@dataclass(frozen=True)
class Measurement:
    """One measurement.

    Attributes:
        network: What the speed of the network depends on (`network_of`).
        what: "forward", "backward", "clip" or "method <class>".
        seconds: As the module says.
        batch: Clips in a pass, or, of "clip" and methods, clips that were worked on together.
        bytes: Bytes of a clip's files; 0: not known.
        passes: Passes of a clip that were measured.
    """

    network: str
    what: str
    seconds: float
    batch: int
    bytes: int = 0
    passes: float = 1.0


def folder() -> Path:
    """Returns the folder of the files of measurements."""
    named = os.environ.get("VIDATTR_SPEEDS")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vidattr/speeds"


def device_name(device: torch.device, threads: int | None = None) -> str:
    """Returns the name of a device: that of a GPU, or that of a CPU with its number of threads."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, IndexError):
        name = re.findall(r"(?m)^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text("utf-8", "replace"))[0]
    return f"{name.strip()}, {threads or torch.get_num_threads()} threads"


def network_of(experiment: Experiment) -> str:
    """Returns what the speed of an experiment's network depends on, as a text: not the values of its weights."""
    model, view = experiment.model, experiment.model.input
    named: dict[str, Any] = {"model": experiment.names["model"], "frames": view.frames, "size": list(view.size)}
    if isinstance(model, _OWN):
        named["weights"] = key(describe(model))
    runtime = experiment.runtime
    named |= {"precision": runtime.precision.value, "compile": runtime.compile}
    named |= {} if runtime.backend == "torch" else {"backend": runtime.backend.value}
    return json.dumps(named, sort_keys=True)


class Speeds:
    """The measurements of one device.

    Args:
        device: Its name, as `device_name` gives it.
        kind: "cuda" or "cpu".
        rate: TFLOP/s to assume in place of measurements; None: measurements, and `RATES` where there is none.
    """

    def __init__(self, device: str, kind: str, rate: float | None = None) -> None:
        self.device, self.kind, self.stated = device, kind, rate
        self.path = folder() / f"{re.sub(r'[^A-Za-z0-9.]+', '-', device).strip('-')}.json"
        self.rows: dict[tuple[str, str], Measurement] = {} if rate is not None else _read(self.path)

    @property
    def rate(self) -> float:
        """TFLOP/s that is assumed where nothing was measured."""
        if self.stated is not None:
            return self.stated
        threads = re.search(r", (\d+) threads$", self.device)
        return RATES[self.kind] * (int(threads[1]) if threads and self.kind == "cpu" else 1)

    def row(self, network: str, what: str) -> Measurement | None:
        """Returns a measurement, or None where it was not made."""
        return self.rows.get((network, what))

    def add(self, row: Measurement) -> None:
        """Replaces a measurement."""
        self.rows[row.network, row.what] = row

    def write(self) -> None:
        """Writes the file."""
        rows = [asdict(self.rows[name]) for name in sorted(self.rows)]
        for row in rows:
            row["network"] = json.loads(row["network"])
        about = {"device": self.device, "torch": torch.__version__}
        write_text(self.path, json.dumps({**about, "rows": rows}, indent=1) + "\n")


def _read(path: Path) -> dict[tuple[str, str], Measurement]:
    if not path.is_file():
        return {}
    try:
        found = [
            Measurement(
                json.dumps(row["network"], sort_keys=True),
                str(row["what"]),
                float(row["seconds"]),
                int(row["batch"]),
                int(row["bytes"]),
                float(row["passes"]),
            )
            for row in json.loads(path.read_text("utf-8"))["rows"]
        ]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise ConfigError(
            f"{path} cannot be read: {error}", remedy="delete it, and measure again: vidattr forecast --measure"
        ) from error
    return {(row.network, row.what): row for row in found}


_COUNTED: dict[str, float | None] = {}


def gmac(experiment: Experiment) -> float | None:
    """Returns the multiply-adds of one forward pass of a clip in 10⁹, counted without the pass and without weights.

    None: the network cannot be built without its weights, or its pass depends on the values of the frames.
    """
    name = network_of(experiment)
    if name not in _COUNTED:
        _COUNTED[name] = _counted(experiment)
    return _COUNTED[name]


def _counted(experiment: Experiment) -> float | None:
    model = experiment.model
    if isinstance(model, _OWN):
        return None
    classes = {"classes": None} if "classes" in {field.name for field in fields(cast(Any, model))} else {}
    try:
        with MultiplyAdds() as counter, torch.no_grad():
            network = cast(Any, replace)(model, weights="random", **classes).load()
            counter.count = 0  # without what drawing the weights may have multiplied
            network.module(blank((1, 3, model.input.frames, *model.input.size)))
    except Exception:  # of code of the user, or an operation that fails on numbers that mean nothing
        return None
    return counter.count / 1e9 or None


@cache
def this_device(device: str) -> tuple[str, str]:
    """Returns name and kind of the device that `runtime.device` means on this machine."""
    found = torch.device("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else torch.device(device)
    return device_name(found), found.type


def plain(rows: Mapping[tuple[str, str], Measurement]) -> list[dict[str, Any]]:
    """Returns measurements as plain values, for the command line."""
    return [{**asdict(row), "network": json.loads(row.network)} for _, row in sorted(rows.items())]
