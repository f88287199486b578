"""Memory that runs out, on a CPU as on a GPU: smaller batches, and a user error where nothing smaller helps."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from conftest import Command
from vidattr.errors import ConfigError, OutOfMemoryError, out_of_memory
from vidattr.models.network.network import VideoModel
from vidattr.models.speed.memory import submitted, within_memory
from vidattr.run import reading

_NEEDY = """
import sys
import torch
from vidattr import cli
from vidattr.models.network.network import VideoModel
real, most = VideoModel.run_with, int(sys.argv[1])
def run_with(network, runtime):
    found = real(network, runtime)
    def need(module, inputs):
        if len(inputs[0]) > most:
            torch.empty(2**47, dtype=torch.uint8)  # the whole address space: torch's own allocator fails
    network.module.register_forward_pre_hook(need)
    return found
VideoModel.run_with = run_with
sys.argv = ["vidattr", *sys.argv[2:]]
cli.main()
"""

_FREES = """
import torch
from vidattr.process import keep_memory

def size():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1])

keep_memory()
sizes = []
for order in (1, -1) * 4:
    tensors = [torch.empty(9 * 2**24, dtype=torch.uint8) for _ in range(16)]  # 2.25 GiB
    for place in range(16)[::order]:
        tensors[place] = None
        sizes.append(size())
    del tensors[:]
    torch.empty(10 * 2**28, dtype=torch.uint8)
    sizes.append(size())
print(sizes == sorted(sizes))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only the C library of Linux is told to keep memory")
def test_more_than_2_gib_of_freed_memory_is_kept() -> None:
    said = subprocess.run([sys.executable, "-c", _FREES], capture_output=True, text=True, check=True).stdout
    assert said == "True\n"


@pytest.mark.parametrize(("most", "code"), [(2, 0), (0, 1)])
def test_a_cpu_without_memory_takes_smaller_batches(tmp_path: Path, most: int, code: int) -> None:
    # A limit of the system (`ulimit -v`) is no test: where it strikes first, and whether the native library in which it
    # strikes reports it or crashes, differs from machine to machine. The allocator's own failure does not.
    method = ("method=smoothgrad", "method.n=4", "model.weights=random")
    pictures = ("render.grid=false", "render.gif=false", "render.mp4=false")
    clips = ("dataset.clips=2", "runtime.clips=2", "runtime.workers=1", "runtime.device=cpu")
    found = subprocess.run(
        [sys.executable, "-c", _NEEDY, str(most), "run", *method, *pictures, *clips, "--quiet"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert found.returncode == code, found.stderr
    assert "out of memory: runtime.max_batch=4 from here on; maps may differ in their last bits" in found.stderr
    assert "Traceback" not in found.stderr
    if code:
        assert "out of memory with one clip in a forward pass" in found.stderr
        assert "smaller model.input.size" in found.stderr
    else:
        assert "2 written" in found.stdout


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("std::bad_alloc"),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:132] err == 0. DefaultCPUAllocator: can't allocate memory: "
            "you tried to allocate 9 bytes"
        ),
        RuntimeError("could not create a primitive"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("can't start new thread"),
        ImportError("libx.so: failed to map segment from shared object"),
    ],
)
def test_every_way_to_say_that_memory_ran_out_is_understood(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    network, seen = SimpleNamespace(max_batch=8, arithmetic=nullcontext), []

    def work() -> int:
        seen.append(network.max_batch)
        if network.max_batch > 2:
            raise error
        return network.max_batch

    assert within_memory(network, work) == 2
    assert seen == [8, 4, 2]
    assert "runtime.max_batch=2" in capsys.readouterr().err
    network.max_batch = 1
    with pytest.raises(OutOfMemoryError, match="one clip") as raised:
        within_memory(network, lambda: (_ for _ in ()).throw(error))
    assert not isinstance(raised.value, ConfigError)  # that one says that nothing was started
    assert raised.value.exit_code == 1


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes differ"), ValueError("out of memory"), ImportError("no module")]
)
def test_other_errors_are_not_taken_for_it(error: Exception) -> None:
    assert not out_of_memory(error)
    with pytest.raises(type(error)):
        within_memory(SimpleNamespace(max_batch=8, arithmetic=nullcontext), lambda: (_ for _ in ()).throw(error))


def test_without_room_for_a_thread_the_work_is_done_here() -> None:
    class Full(ThreadPoolExecutor):
        def submit(self, *_: object) -> None:
            raise RuntimeError("can't start new thread")

    with Full(1) as pool:
        assert submitted(pool, lambda: 7).result() == 7
    with ThreadPoolExecutor(1) as pool:
        assert submitted(pool, lambda: 8).result() == 8


def test_memory_that_runs_out_elsewhere_is_a_user_error(vidattr: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError("no room for weights")

    monkeypatch.setattr(VideoModel, "run_with", full)
    found = vidattr("run", "dataset.clips=2", "--quiet")
    assert found.code == 1
    assert "error: out of memory: no room for weights" in found.err
    assert "Traceback" not in found.err


def test_a_clip_too_large_to_decode_costs_itself(vidattr: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    real = reading.read_video

    def read(clip, *rest):
        if clip.id.startswith("object-0001"):
            raise MemoryError("100000 × 100000")
        return real(clip, *rest)

    monkeypatch.setattr(reading, "read_video", read)
    found = vidattr("run", "method=center", "dataset.clips=2", "--quiet")
    assert found.code == 1
    assert "1 written" in found.out
    assert "out of memory: 100000 × 100000" in found.err
