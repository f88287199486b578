"""Code and files that are not this package's enter the run's key by their content."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from conftest import Command
from vidattr.config.identity import describe
from vidattr.config.user_code import sha256_of_code
from vidattr.models.custom import Custom

NET = """
import torch
from torch import nn
{imports}

class Net(nn.Module):
    def __init__(self, scale: float = 1.0, table: str = "") -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x):
        return torch.stack([x.mean((1, 2, 3, 4)), -{factor} * x[:, 0].mean((1, 2, 3))], 1) * self.scale
"""


def net(folder: Path, factor: str = "1.0", imports: str = "", name: str = "usersnet") -> None:
    (folder / f"{name}.py").write_text(NET.format(factor=factor, imports=imports))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def key(target: str = "usersnet:Net", **fields: object) -> str:
    return json.dumps(describe(Custom(target=target, **fields)))


def test_a_custom_network_is_known_by_its_code(here: Path) -> None:
    net(here)
    first = key()
    assert '"name": "usersnet:Net"' in first
    net(here, factor="2.0")
    assert key() != first
    net(here)
    assert key() == first
    (here / "elsewhere").mkdir()
    net(here / "elsewhere")
    os.chdir(here / "elsewhere")
    assert key() == first  # by content, never by path


@pytest.mark.parametrize(
    "imports",
    [
        "import blocks",
        "from blocks import THING",
        "import importlib\nblocks = importlib.import_module('blocks')",
        "import between",
    ],
)
def test_so_is_what_it_imports_and_nothing_that_merely_lies_there(here: Path, imports: str) -> None:
    net(here, imports=imports)
    (here / "blocks.py").write_text("THING = 1\n")
    (here / "between.py").write_text("def late():\n    from blocks import THING\n    return THING\n")
    (here / "other.py").write_text("")
    first = key()
    (here / "other.py").write_text("changed = True\n")
    assert key() == first
    (here / "blocks.py").write_text("THING = 2\n")
    assert key() != first


def test_so_are_the_modules_of_a_package_that_it_needs(here: Path) -> None:
    package = here / "userspackage"
    (package / "deep").mkdir(parents=True)
    for path in ("__init__.py", "deep/__init__.py", "deep/layers.py", "parts.py", "unused.py"):
        (package / path).write_text("")
    net(package / "deep", imports="from . import layers\nfrom ..parts import *", name="model")
    target = "userspackage.deep.model:Net"
    seen = [key(target)]
    for path in ("__init__.py", "deep/__init__.py", "deep/layers.py", "parts.py"):
        (package / path).write_text("x = 1\n")
        seen.append(key(target))
    assert len(set(seen)) == 5
    (package / "unused.py").write_text("x = 1\n")
    assert key(target) == seen[-1]


def test_an_installed_network_is_known_by_all_its_package(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = here / "site-packages" / "installednet"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "lazily.py").write_text("")
    monkeypatch.syspath_prepend(str(package.parent))
    first = key("installednet:build")
    (package / "lazily.py").write_text("x = 1\n")
    assert key("installednet:build") != first


def test_this_package_and_python_itself_are_known_by_their_versions() -> None:
    assert sha256_of_code("vidattr.methods.gradients.gradient") is None
    assert sha256_of_code("json.decoder") is None
    assert sha256_of_code("sys") is None
    assert sha256_of_code("no_such_module_anywhere.at_all") is None


def test_files_that_arguments_name_enter_by_content(here: Path) -> None:
    net(here)
    (here / "table.csv").write_text("1")
    first = key(arguments={"table": "table.csv", "scale": 2.0})
    assert "table.csv" in first
    assert str(here) not in first
    assert key(arguments={"table": str(here / "table.csv"), "scale": 2.0}) == first
    (here / "table.csv").write_text("2")
    assert key(arguments={"table": "table.csv", "scale": 2.0}) != first


def test_a_file_replaced_by_one_of_the_same_size_and_time_is_noticed(here: Path) -> None:
    path = here / "weights.pth"
    path.write_bytes(b"one")
    found = path.stat()
    first = describe(Custom(weights=str(path)))["weights"]
    other = here / "other.pth"
    other.write_bytes(b"two")
    os.utime(other, ns=(found.st_atime_ns, found.st_mtime_ns))
    os.replace(other, path)
    assert describe(Custom(weights=str(path)))["weights"] != first


def test_a_file_below_the_home_folder_enters_by_content(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here))
    (here / "names.txt").write_text("a\nb\n")
    first = describe(Custom(classes="~/names.txt"))["classes"]
    assert set(first) == {"sha256"}
    (here / "names.txt").write_text("b\na\n")
    assert describe(Custom(classes="~/names.txt"))["classes"] != first


METHOD = """
from dataclasses import dataclass
from typing import ClassVar

from vidattr.types import Explanation
import usershelp


@dataclass(frozen=True)
class Flat:
    version: ClassVar[int] = 1

    @property
    def passes(self) -> int:
        return 0

    def __call__(self, model, query):
        return Explanation(query.frames.new_full((len(query.frames), *query.frames.shape[2:]), usershelp.VALUE))
"""


def test_a_plug_in_whose_code_changed_is_another_run(vidattr: Command, here: Path) -> None:
    (here / "usersmethod.py").write_text(METHOD)
    (here / "usershelp.py").write_text("VALUE = 1.0\n")
    (here / "mine" / "method").mkdir(parents=True)
    (here / "mine" / "method" / "flat.yaml").write_text("# Flat.\n# Source: none.\n_target_: usersmethod.Flat\n")
    small = (
        "dataset.frames=16",
        "dataset.size=64",
        "limit=1",
        "render.grid=false",
        "render.gif=false",
        "render.mp4=false",
    )
    command = ("run", "method=flat", "--add-configs", "mine", *small, "--quiet")
    assert "1 written" in vidattr(*command).out
    assert "0 written, 1 there before" in vidattr(*command).out
    (here / "usershelp.py").write_text("VALUE = 2.0\n")
    assert "1 written" in vidattr(*command).out
    assert len(list((here / "visual_res/flat").rglob("run.json"))) == 2
