"""Several processes train together: the same result as one, each clip once, and none goes on alone."""

from __future__ import annotations

import csv
import multiprocessing
import os
import signal
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from test_train import Given, recipe
from vidattr.config.runtime import Device, Runtime
from vidattr.datasets.synthetic import CLASSES
from vidattr.errors import VidattrError
from vidattr.training.loop import epoch_batches
from vidattr.training.processes import Processes
from vidattr.training.recipes import Optimizer, Schedule, Select
from vidattr.training.train import train

# What each process would otherwise import by itself, the optimizer's part of torch above all.
PRELOADED = [
    "torch._dynamo",
    "torch.nn.parallel",
    "vidattr.training.train",
    "vidattr.datasets.synthetic",
    "pytest",
    "PIL.Image",
]


class Linear(nn.Module):
    """Without batch normalisation: any division of a batch gives the same step."""

    def __init__(self, pause: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head, self.pause = nn.Conv3d(3, 6, 3, 2), nn.Linear(6, len(CLASSES)), pause

    def forward(self, frames: Tensor) -> Tensor:
        time.sleep(self.pause)
        return self.head(torch.relu(self.body(frames)).mean((2, 3, 4)))  # type: ignore[no-any-return]


ASKED = replace(
    recipe(epochs=3, batch=6, optimizer=Optimizer.sgd, schedule=Schedule.steps, lr=0.05, accumulate=2, crop=0.8),
    train={
        "a": {
            "_target_": "vidattr.datasets.synthetic.Synthetic",
            "variant": "texture",
            "frames": 8,
            "size": 32,
            "clips": 17,
        }
    },
    select=Select.held_out,
    share=0.2,
)


def one(out: Path, rank: int, count: int, port: int, pause: float) -> None:
    """One process of a training, as torchrun starts it."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    asked = ASKED if not pause else replace(ASKED, epochs=1000)
    try:
        train(asked, Given(Linear(pause)), out=out, runtime=Runtime(device=Device.cpu, workers=1), quiet=True)
    except VidattrError as error:
        (out.parent / f"error-{rank}").write_text(str(error))
        os._exit(1)


def start(out: Path, count: int, pause: float = 0.0) -> list[multiprocessing.context.ForkServerProcess]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = [context.Process(target=one, args=(out, rank, count, port, pause)) for rank in range(count)]
    for process in found:
        process.start()
    return found


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("items", "steps"), [(17, 3), (7, 7), (5, 1), (48, 5)])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_an_epoch_holds_each_clip_exactly_once(items: int, steps: int, count: int) -> None:
    batches = epoch_batches(items, steps, 0, 1)
    assert len(batches) == steps
    assert {len(batch) for batch in batches} <= {items // steps, -(-items // steps)}
    parts = [Processes(rank, count).part(batch) for batch in batches for rank in range(count)]
    assert sorted(torch.cat(parts).tolist()) == list(range(items))
    if items > 5:
        assert [b.tolist() for b in batches] != [b.tolist() for b in epoch_batches(items, steps, 0, 2)]


def test_two_processes_give_the_result_of_one(tmp_path: Path) -> None:
    (alone,) = start(tmp_path / "one", 1)
    together = start(tmp_path / "two", 2)
    for process in (alone, *together):
        process.join(120)
        assert process.exitcode == 0
    assert {path.name for path in (tmp_path / "two").iterdir()} == {path.name for path in (tmp_path / "one").iterdir()}
    for name in ("best.safetensors", "last.safetensors"):
        found, wanted = (load_file(tmp_path / folder / name) for folder in ("two", "one"))
        assert found.keys() == wanted.keys()
        for key, tensor in wanted.items():
            torch.testing.assert_close(found[key], tensor, rtol=1e-4, atol=1e-6)
    for row, wanted_row in zip(rows(tmp_path / "two"), rows(tmp_path / "one"), strict=True):
        assert {k: v for k, v in row.items() if k != "seconds" and "loss" not in k} == {
            k: v for k, v in wanted_row.items() if k != "seconds" and "loss" not in k
        }
        assert float(row["loss"]) == pytest.approx(float(wanted_row["loss"]), abs=1e-4)


def test_when_one_process_is_killed_the_others_end(tmp_path: Path) -> None:
    first, second = start(tmp_path / "two", 2, pause=0.02)
    clock = time.monotonic()
    while not (tmp_path / "two/last.safetensors").is_file():
        assert time.monotonic() - clock < 600, "no epoch ended"
        time.sleep(0.05)
    os.kill(second.pid or 0, signal.SIGKILL)
    first.join(300)
    assert first.exitcode == 1
    assert "another process of this training has ended" in (tmp_path / "error-0").read_text()
    assert not list((tmp_path / "two").glob(".*"))
    assert load_file(tmp_path / "two/last.safetensors")
