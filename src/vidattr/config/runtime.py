"""Run-time options: device, batch sizes, workers. Run keys have those that change numbers: `precision`, `backend`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec

import torch

from vidattr.errors import ConfigError


class Device(StrEnum):
    """Where the network runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Precision(StrEnum):
    """Precision of the network's computations; maps, masks and losses are stored as float32 or float64.

    `float32`: all 24 bits, also in convolutions on a GPU, where torch's default is TF32. `tf32`: 11 bits in products on
    a GPU, those of masks, blurs and losses included; no difference on a CPU. `bfloat16`: autocast, 8 bits in products
    of the network. Methods that use the inside of the network (Grad-CAM, EB-R) run it in float32; gradient descent on
    masks (EP, STEP) has other results.
    """

    float32 = "float32"
    tf32 = "tf32"
    bfloat16 = "bfloat16"


class Backend(StrEnum):
    """What computes the network's answers: torch, or OpenVINO, which has forward passes on a CPU only."""

    torch = "torch"
    openvino = "openvino"


class GraphMode(StrEnum):
    """Whether loops are recorded as CUDA graphs. `auto`: on a GPU, where the network allows it. `off`: nowhere."""

    auto = "auto"
    off = "off"


@dataclass(frozen=True)
class Runtime:
    """Run-time options.

    Attributes:
        device: auto: the GPU if there is one.
        max_batch: The largest number of clips in one forward pass; it is halved automatically if memory runs out.
        clips: How many clips are read, explained and written together.
        workers: Number of threads that decode, and of threads that draw; None: one per core, at most 8.
        compile: Whether the network's passes are compiled (`torch.compile`), which takes about a minute first and
            changes results only by rounding. Useful for thousands of passes of a few sizes (EP-3D, STEP, AOSA); methods
            that use the inside of the network (Grad-CAM) or run parts of it (OSA) run it uncompiled.
        graphs: auto: on a GPU, an iteration of gradient descent on masks (EP-3D, STEP) and a chunk of occluded clips
            (AOSA, OSA, RISE, deletion and insertion) are recorded once as a CUDA graph and replayed, which saves the
            launches of their kernels and changes results by rounding at most. A network that cannot be recorded runs
            without, and a line says so.
        precision: Precision of the network. Any other value than float32 is part of the run key: the maps differ.
        backend: What computes the network's answers. `openvino` (`pip install 'vidattr[openvino]'`): on a CPU, 1.3 to 3
            times as fast as torch (docs/PERFORMANCE.md), for methods that need the answers only (`AnswersOnly`: OSA,
            AOSA, RISE, …) and for metrics. It is part of the run key of these methods, and of the name of scores, since
            numbers differ by rounding. Passes of which a hook is part run by torch.
        extras: Whether further results of a method (signed attribution, masks) are stored.
        durable: Whether each file reaches the disk (fsync of file and folder) before it counts as written: for machines
            whose power may fail. Without it a power failure, not a kill, can lose or empty files of the last half a
            minute.
    """

    device: Device = Device.auto
    max_batch: int = 8
    clips: int = 4
    workers: int | None = None
    compile: bool = False
    graphs: GraphMode = GraphMode.auto
    precision: Precision = Precision.float32
    backend: Backend = Backend.torch
    extras: bool = True
    durable: bool = False

    def __post_init__(self) -> None:
        for name, most in (("max_batch", 10**6), ("clips", 10**6), ("workers", 1024)):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= most:
                raise ConfigError(f"runtime.{name}={value}", expected=f"a positive number, at most {most}")

        if self.backend is Backend.openvino:
            others = {"device": self.device is Device.cuda, "compile": self.compile}
            others["precision"] = self.precision is not Precision.float32
            for name in (name for name, wrong in others.items() if wrong):
                raise ConfigError(
                    f"runtime.backend=openvino with runtime.{name}={str(getattr(self, name)).lower()}",
                    expected="a CPU, float32, and no compilation by torch",
                    remedy=f"leave out runtime.{name}, or runtime.backend=torch",
                )

    def threads(self) -> int:
        """Returns how many threads decode, and how many draw."""
        return self.workers or min(os.cpu_count() or 1, 8)

    def torch_device(self) -> torch.device:
        """Returns the device to use.

        Raises:
            ConfigError: `device=cuda` and there is none, or `backend=openvino` and the package is not installed.
        """
        if self.backend is Backend.openvino:
            if find_spec("openvino") is None:
                raise ConfigError(
                    "runtime.backend=openvino, but the package openvino is not installed",
                    remedy="pip install 'vidattr[openvino]', or runtime.backend=torch",
                )
            return torch.device("cpu")
        if self.device is Device.cuda and not torch.cuda.is_available():
            raise ConfigError(
                "runtime.device=cuda, but torch sees no CUDA device",
                expected="a GPU and a CUDA build of torch",
                remedy="runtime.device=cpu, or see `vidattr doctor`",
            )
        if self.device is Device.auto:
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return torch.device(self.device.value)
