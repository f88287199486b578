"""Passes by torch.compile: the same numbers, hooks as ever, and a plain word where there is no compiler."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import toys
import vidattr as api
from conftest import Command
from vidattr.config.identity import key
from vidattr.config.runtime import Device, Runtime
from vidattr.errors import ConfigError
from vidattr.metrics.rerun.timing import Timing
from vidattr.models.network.network import VideoModel
from vidattr.run.compose import experiments
from vidattr.run.experiment import run_identity
from vidattr.types import Query


def small() -> VideoModel:
    """Returns a network that is compiled in seconds: one graph of a few layers, with and without gradients."""
    torch.manual_seed(3)
    layers = [nn.Conv3d(3, 4, 3), nn.Tanh(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, len(toys.CLASSES))]
    return toys.network(nn.Sequential(*layers).eval(), layer="1")


def clips(count: int, size: tuple[int, ...] = toys.SIZE) -> Tensor:
    return toys.query(count, size=size, dtype=torch.float32).frames


def answers(network: VideoModel, frames: Tensor) -> tuple[Tensor, Tensor]:
    frames = frames.clone().requires_grad_()
    logits = network(frames)
    return logits.detach(), torch.autograd.grad(logits[:, 1].sum(), frames)[0]


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_compiled_passes_change_no_more_than_rounding_does(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import config

    monkeypatch.setattr(config, "compile_threads", 1)  # no pool of processes, each of which imports torch
    monkeypatch.setattr(
        config.cpp, "simdlen", 1
    )  # no vector instructions, whose headers the compiler reads for seconds
    plain = small().run_with(Runtime(device=Device.cpu))
    compiled = small().run_with(Runtime(device=Device.cpu, compile=True))
    for count in (2, 3):  # a second size makes it compile once more, for any size
        frames = clips(count)
        for one, other in zip(answers(compiled, frames), answers(plain, frames), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))
        torch.testing.assert_close(compiled.probabilities(frames), plain.probabilities(frames), rtol=1e-4, atol=1e-5)
    assert compiled._compiled is not None
    seen: list[Tensor] = []
    with compiled.hooked(compiled.layer, lambda _module, _inputs, output: seen.append(output)):
        compiled(clips(1))
    assert len(seen) == 1  # a graph that was compiled without the hook would not call it
    maps = [
        api.load_method("smoothgrad", n=4)(network, Query(clips(2), torch.tensor([1, 3]), (0, 1))).map
        for network in (compiled, plain)
    ]
    torch.testing.assert_close(*maps, rtol=1e-3, atol=1e-4 * float(maps[1].abs().max()))


def test_without_a_compiler_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from torch._inductor import config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(config.cpp, "cxx", (None, "/bin/false"))
    torch.compiler.reset()
    compiled = api.load_model("tiny_r2plus1d", device="cpu").run_with(Runtime(device=Device.cpu, compile=True))
    with pytest.raises(ConfigError, match="C\\+\\+ for a CPU") as raised:
        compiled(clips(1, (3, 16, 64, 64)))
    assert raised.value.remedy == "runtime.compile=false"
    torch.compiler.reset()


def test_a_compiled_run_is_the_same_run_and_says_so_where_it_is_timed(vidattr: Command) -> None:
    plain, fast = (experiments([f"runtime.compile={value}"])[0] for value in ("false", "true"))
    assert key(run_identity(plain)) == key(run_identity(fast))
    assert Timing().conditions(fast.runtime) == {**Timing().conditions(plain.runtime), "compile": True}
    assert vidattr("run", "runtime.compile=quick").code == 2
