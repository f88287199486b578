"""Fixtures of all tests: real data where there is some, and a guard against tensors that leave their device."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported: its kernels then run on a CPU

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of real clips and networks, or a skip that says where it was looked for."""
    named = os.environ.get("VIDATTR_REAL_DATA")
    root = Path(named) if named else ROOT.parent / "shared" / "real"
    if not (root / "INDEX.md").is_file():
        if named:
            pytest.fail(f"VIDATTR_REAL_DATA={named} holds no real data (no INDEX.md)")
        pytest.skip(f"no real data: neither $VIDATTR_REAL_DATA nor {root}")
    return root.resolve()


@pytest.fixture
def no_host_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuses every way a tensor can leave its device: residency on a GPU, tested on a CPU."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("tensor left the device")

    for name in ("cpu", "numpy", "item", "tolist", "__array__", "__bool__", "__float__", "__int__", "__index__"):
        monkeypatch.setattr(torch.Tensor, name, refuse)


@dataclass(frozen=True)
class Outcome:
    """What a command did: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def vidattr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Runs the command line in this process, in an empty folder."""
    from vidattr.cli import main

    monkeypatch.chdir(tmp_path)

    def command(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["vidattr", *arguments])
        code = 0
        try:
            main()
        except SystemExit as leave:
            code = leave.code if isinstance(leave.code, int) else int(bool(leave.code))
        out, err = capsys.readouterr()
        return Outcome(code, out, err)

    return command
