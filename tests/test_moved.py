"""A plug-in written for version 0.1 gets one line that says the new name of what it imports."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from conftest import Command
from vidattr.config import moved as table
from vidattr.config.moved import moved


@pytest.mark.parametrize(
    ("line", "new"),
    [
        ("from vidattr.types import unkeyed", "vidattr.types.unkeyed is vidattr.config.fields.not_in_key now"),
        (
            "from vidattr.types import Explanation, Query, hashed",
            "vidattr.types.hashed is vidattr.config.fields.keyed_by_content now",
        ),
        ("from vidattr.types import Model", "vidattr.types.Model is vidattr.protocols.ModelConfig now"),
        ("from vidattr.models._network import Network", "its Network is VideoModel"),
        (
            "from vidattr.view import View",
            "vidattr.view is vidattr.video.preprocessing now, and its View is Preprocessing",
        ),
        ("from vidattr.video import read", "vidattr.video.read is vidattr.video.decode.read now"),
        (
            "from vidattr.models import _checkpoint",
            "vidattr.models._checkpoint is vidattr.models.weights.checkpoint now",
        ),
        ("import vidattr.methods._ops", "vidattr.methods._ops is vidattr.methods.shared now"),
    ],
)
def test_a_plug_in_of_the_user_is_told_the_new_name(vidattr: Command, tmp_path: Path, line: str, new: str) -> None:
    (tmp_path / "old_plug_in.py").write_text(f"{line}\n\n\nclass Mine:\n    version = 1\n")
    (tmp_path / "mine/method").mkdir(parents=True)
    (tmp_path / "mine/method/mine.yaml").write_text("_target_: old_plug_in.Mine\n")
    outcome = vidattr("run", "method=mine", "--add-configs", "mine")
    sys.modules.pop("old_plug_in", None)
    assert outcome.code == 2, outcome.err
    assert new in outcome.err
    assert "Traceback" not in outcome.err


def test_a_config_that_names_the_old_path_of_a_class_is_told_the_new_one(vidattr: Command, tmp_path: Path) -> None:
    (tmp_path / "mine/method").mkdir(parents=True)
    (tmp_path / "mine/method/mine.yaml").write_text("_target_: vidattr.methods.grad_cam.GradCAM\n")
    outcome = vidattr("run", "method=mine", "--add-configs", "mine")
    assert outcome.code == 2
    assert "vidattr.methods.grad_cam is vidattr.methods.cam.grad_cam now" in outcome.err


def test_every_new_name_exists_and_no_old_module_does() -> None:
    for new in {f"vidattr.{name}" for name in table._MODULES.values()}:
        assert find_spec(new) is not None, new
    for new in table._NAMES.values():
        module, _, name = new.rpartition(".")
        assert hasattr(import_module(f"vidattr.{module}"), name), new
    folders = {"video", "render", "report"}
    assert not [old for old in table._MODULES.keys() - folders if _exists(f"vidattr.{old}")]


def _exists(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def test_what_never_was_here_has_no_new_name() -> None:
    assert moved(ModuleNotFoundError("No module named 'vidattr.nothing'", name="vidattr.nothing")) is None
    assert moved(ModuleNotFoundError("No module named 'numpie'", name="numpie")) is None
    assert moved(ImportError("cannot import name 'x' from 'vidattr.types'", name="vidattr.types")) is None


def test_the_package_runs_as_a_module() -> None:
    found = subprocess.run([sys.executable, "-m", "vidattr", "--help"], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert "evaluate" in found.stdout
