"""The processes of a training: a single one, or those that torchrun starts, which train together by torch's DDP."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vidattr.errors import ConfigError, VidattrError

T = TypeVar("T")
_LOST = (
    "Connection closed",
    "Connection reset",
    "Broken pipe",
    "Timed out",
    "NCCL",
    "gloo",
    "Gloo",
    "Software caused connection abort",
)


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Attributes:
        rank: Number of this process, from 0; process 0 writes all files.
        count: Number of processes.
        local: Number of this process on its machine, which is the number of its GPU.
        per_machine: Number of processes on this machine.
    """

    rank: int = 0
    count: int = 1
    local: int = 0
    per_machine: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def part(self, items: Tensor) -> Tensor:
        """Returns this process's part of a batch; the parts of all processes hold each item exactly once."""
        return torch.tensor_split(items, self.count)[self.rank]

    def wrapped(self, module: nn.Module, device: torch.device) -> nn.Module:
        """Returns the module as it runs in training.

        With several processes this is DDP, which averages gradients over them.
        """
        if self.count == 1:
            return module
        return DistributedDataParallel(module, device_ids=[device] if device.type == "cuda" else None)

    def alone(self, module: nn.Module) -> AbstractContextManager[None]:
        """Returns a context in which a backward pass does not yet exchange gradients."""
        return module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()

    def total(self, values: Sequence[float], device: torch.device) -> list[float]:
        """Returns the sums of each value over all processes."""
        if self.count == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(tensor)
        return [float(value) for value in tensor.tolist()]

    def gathered(self, value: T) -> list[T]:
        """Returns the values of all processes."""
        if self.count == 1:
            return [value]
        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, value)
        return found

    def align(self, module: nn.Module) -> None:
        """Gives all processes the batch statistics of process 0, which are those that are written."""
        if self.count > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, 0)


@contextmanager
def started(device: torch.device) -> Iterator[tuple[Processes, torch.device]]:
    """Joins the other processes if torchrun started this one, and leaves them at the end.

    Args:
        device: The device that was asked for; with CUDA, each process takes the GPU of its own number.

    Yields:
        This process and its device.

    Raises:
        ConfigError: There are more processes than GPUs.
        VidattrError: Another process of this training has ended.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or "RANK" not in os.environ:
        yield Processes(), device
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    found = Processes(int(os.environ["RANK"]), count, local, int(os.environ.get("LOCAL_WORLD_SIZE", str(count))))
    if device.type == "cuda":
        if local >= torch.cuda.device_count():
            raise ConfigError(
                f"process {local} of this machine has no GPU: there are {torch.cuda.device_count()}",
                expected="one GPU for each process",
                remedy="torchrun --nproc-per-node with the number of GPUs, or runtime.device=cpu",
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield found, device
    except RuntimeError as error:
        if not any(words in str(error) for words in _LOST):
            raise
        raise VidattrError(
            f"another process of this training has ended: {str(error).splitlines()[0][:300]}",
            remedy="see its own message; run the same command again, and it goes on after the last whole epoch",
        ) from error
    finally:
        dist.destroy_process_group()
