"""How the modules may depend on each other: downwards only, and never in a circle."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from import_graph import circles, floors, graph, rooms

LAYERS: list[list[str]] = [
    ["errors", "array_pickle", "labels", "process", "profiling", "progress", "seeds", "types", "writing"],
    ["config"],
    ["video"],
    ["models.network", "models.speed"],
    ["protocols"],
    ["datasets"],
    ["models"],
    ["methods"],
    ["metrics"],
    ["render"],
    ["run.experiment", "run.compose", "run.doctor"],
    ["run"],
    ["training"],
    ["evaluate"],
    ["cluster"],
    ["reproduce"],
    ["benchmark"],
    ["report"],
    ["cli_options"],
    [
        "benchmark.command",
        "cli_list",
        "cluster.command",
        "evaluate.command",
        "report.command",
        "reproduce.command",
        "training.command",
    ],
    ["api", "cli"],
    ["__main__"],
]
"""The order of the story, lowest first: a module imports from its own layer and from those below it.

The longest name that fits counts. `models` is two layers: the protocols name the type of a resident network, and model
configs keep the protocols. In `run`, what composes an experiment is below what computes it.
"""
UPWARDS: set[tuple[str, str]] = set()
"""Imports that still lead upwards. Nothing may be added; an entry that is not needed any more is an error too."""
TOO_LONG: set[str] = set()
"""Files that still have 300 lines or more; as `UPWARDS`."""

# The package's own file imports the interface on first use, and whoever imports it wants the version: no dependency.
MODULES = {name: others - {""} for name, others in graph().items() if name}


def layer(module: str) -> int:
    fits = [
        (len(name), place)
        for place, names in enumerate(LAYERS)
        for name in names
        if f"{module}.".startswith(f"{name}.")
    ]
    assert fits, f"{module} belongs to no layer: add it to LAYERS"
    return max(fits)[1]


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert circles(MODULES) == []


def test_folders_import_each_other_in_one_circle_only() -> None:
    """CONTRIBUTING explains it: the call of a method takes a network, and a model config keeps a protocol."""
    assert circles(rooms(MODULES)) == [["datasets", "models", "protocols"]]


def test_imports_lead_downwards() -> None:
    found = {(name, other) for name, others in MODULES.items() for other in others if layer(other) > layer(name)}
    assert found - UPWARDS == set(), "an import of a higher layer: move what both need further down"
    assert UPWARDS - found == set(), "these lead upwards no more: take them out of UPWARDS"


def test_every_layer_has_a_module() -> None:
    for names in LAYERS:
        for name in names:
            assert any(f"{module}.".startswith(f"{name}.") for module in MODULES), name


def test_files_are_short_and_named_by_what_they_do() -> None:
    files = sorted((ROOT / "src" / "vidattr").rglob("*.py"))
    long = {
        path.relative_to(ROOT / "src" / "vidattr").as_posix()
        for path in files
        if len(path.read_text().splitlines()) >= 300
    }
    assert long - TOO_LONG == set(), "split them by meaning"
    assert TOO_LONG - long == set(), "these are short now: take them out of TOO_LONG"
    vague = {"utils", "util", "helpers", "common", "misc", "tools"}
    assert not [path for path in files if vague & {path.stem, *path.parent.relative_to(ROOT).parts}]


def classes(source: Path) -> dict[str, list[str]]:
    """Returns each class name of a package and the modules that define it, without the modules of plug-ins."""
    found: dict[str, list[str]] = {}
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).parts
        families = parts[:1] == ("methods",) and len(parts) == 3 and parts[1] != "shared"
        if (parts[0] in ("datasets", "models", "metrics") and len(parts) == 2) or families:
            continue
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append("/".join(parts))
    return found


def test_one_name_means_one_thing() -> None:
    found = classes(ROOT / "src" / "vidattr")
    assert len(found) > 100
    assert {name: files for name, files in found.items() if len(files) > 1} == {}, "name them by what they are"


def test_a_name_that_is_used_twice_is_noticed(package: Path) -> None:
    for folder in ("models", "methods/cam", "methods/shared", "run"):
        (package / folder).mkdir(parents=True)
        (package / folder / "x.py").write_text("class Sample:\n    pass\n\nclass _Row:\n    pass\n")
    assert classes(package)["Sample"] == ["methods/shared/x.py", "run/x.py"]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package whose imports are hidden in all ways that there are."""
    files = {
        "__init__.py": "",
        "a.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pack.b import B\n",
        "b.py": "def f():\n    from .sub import c\n",
        "sub/__init__.py": "",
        "sub/c.py": "from .. import a as first\nimport os, json\n",
        "sub/d.py": "import pack.sub.e\nfrom pack.sub import e\n",
        "sub/e.py": "import pack\nfrom os import path\n",
        "top.py": "from pack.sub.d import nothing\n",
    }
    for name, text in files.items():
        path = tmp_path / "pack" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
    return tmp_path / "pack"


def test_every_kind_of_import_is_seen(package: Path) -> None:
    found = graph(package)
    assert found == {
        "": frozenset(),
        "a": {"b"},
        "b": {"sub.c"},
        "sub": frozenset(),
        "sub.c": {"a"},
        "sub.d": {"sub.e"},
        "sub.e": {""},
        "top": {"sub.d"},
    }
    assert circles(found) == [["a", "b", "sub.c"]]
    assert floors(found) == {"": 0, "sub.e": 1, "sub.d": 2, "top": 3, "sub": 0, "a": 0, "b": 0, "sub.c": 0}
    assert rooms(found)["sub"] == {"", "a"}
