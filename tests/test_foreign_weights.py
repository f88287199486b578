"""Files of weights of another kind say what they are and what to do, and none is told how to unlock code."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from vidattr.errors import ConfigError
from vidattr.models.weights.checkpoint import Checkpoint, read
from vidattr.models.weights.filling import fill


def script(path: Path) -> None:
    with warnings.catch_warnings():  # torch calls it deprecated
        warnings.simplefilter("ignore")
        torch.jit.script(nn.Linear(2, 2)).save(str(path))


def like_a_program(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/constants.pkl", b"")


FILES: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "a program": (script, "w.pt", "is a TorchScript program.*\n.*\n.*torch.jit.load"),
    "a program without code": (like_a_program, "w.ckpt", "is a TorchScript program.*\n.*\n.*torch.jit.load"),
    "HDF5": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)), "w.pth", "is HDF5.*\n.*numpy.savez"),
    "text": (lambda path: path.write_text("hello"), "w.ckpt", "cannot be read"),
    "a pickle": (lambda path: path.write_bytes(pickle.dumps({"w": 3})), "w.bin", "something other than weights"),
    "an empty archive": (lambda path: zipfile.ZipFile(path, "w").close(), "w.pth", "was not loaded|cannot be read"),
    "an npz of texts": (lambda path: np.savez(path, w=np.array(["a"])), "w.npz", "cannot be read"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_of_another_kind_says_what_it_is_and_what_to_do(tmp_path: Path, kind: str) -> None:
    make, name, message = FILES[kind]
    make(tmp_path / name)
    with pytest.raises(ConfigError, match=message) as caught:
        read(tmp_path / name)
    assert "weights_only" not in str(caught.value)
    assert caught.value.remedy


def test_torchs_advice_is_not_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"w": torch.ones(1)}, tmp_path / "w.pth")

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("Re-running torch.load with weights_only=False will load it")

    monkeypatch.setattr(torch, "load", refuse)
    with pytest.raises(ConfigError, match="cannot be read: RuntimeError"):
        read(tmp_path / "w.pth")


def test_lightnings_suffix_is_known(tmp_path: Path) -> None:
    torch.save({"epoch": 9, "state_dict": {"weight": torch.ones(1)}}, tmp_path / "epoch=9-step=100.ckpt")
    assert list(read(tmp_path / "epoch=9-step=100.ckpt").state) == ["weight"]


def test_whole_numbers_are_no_weights_of_a_network_of_fractions() -> None:
    state = {"weight": torch.ones(2, 2, dtype=torch.int8), "bias": torch.ones(2)}
    with pytest.raises(ConfigError, match=r"weight is torch\.int8, not torch\.float32"):
        fill(nn.Linear(2, 2), Checkpoint(Path("w.pth"), state))
