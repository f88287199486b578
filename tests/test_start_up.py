"""A command imports only what it needs, and reads a file of weights and a video once: its start costs little."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

VIDEO = next(iter(sorted((ROOT / "test_data").rglob("*.mp4"))))
NO_PICTURES = ("render.gif=false", "render.mp4=false")
COMMANDS: dict[str, list[str]] = {  # in this order, in one process: each of them may need more than those before
    "run": ["run", "method=gradient", "dataset.clips=1", *NO_PICTURES, "--quiet"],
    "run of a cheap and of a costly method": ["run", "method=rise,center", "method.rise.masks=4", "dataset.clips=1"],
    "explain": ["explain", str(VIDEO), "model=tiny_r2plus1d", *NO_PICTURES, "--quiet"],
    "evaluate": ["evaluate", "method=gradient", "dataset.clips=1", "metric=s_pt", "--quiet"],
    "dry run": ["run", "method=gradient", "dataset.clips=1", "seed=1", "--dry-run"],
}
# Each of them takes 0.1 to 2 s, and these commands do not need it.
ANYWHERE = {"matplotlib", "scipy", "skimage", "transformers", "torchvision", "submitit", "captum", "mkdocs", "networkx"}
COMPILING = {"triton", "sympy", "torch._dynamo", "torch._inductor"}
NEEDLESS: dict[str, set[str]] = {
    **{name: ANYWHERE | COMPILING | {"pandas"} for name in COMMANDS},
    **dict.fromkeys(("evaluate", "dry run"), ANYWHERE | COMPILING),  # tables are pandas', and stay in the process
}
SCRIPT = """
import contextlib, hashlib, io, json, sys
read = []
digest = hashlib.file_digest
def noted(file, *how):
    read.append(file.name)
    return digest(file, *how)
hashlib.file_digest = noted
from vidattr.cli import main
rows = {}
for name, arguments in json.loads(sys.argv[1]).items():
    read.clear()
    sys.argv = ["vidattr", *arguments]
    out, code = io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            main()
        except SystemExit as leave:
            code = leave.code
    rows[name] = [code or 0, out.getvalue(), sorted(sys.modules), [str(each) for each in read]]
print(json.dumps(rows))
"""
Row = tuple[int, str, list[str], list[str]]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Row]:
    """Exit code, output, imported modules and hashed files of each command."""
    here = tmp_path_factory.mktemp("here")
    command = [sys.executable, "-c", SCRIPT, json.dumps(COMMANDS)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=here, check=True)
    found: dict[str, Row] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_imports_no_library_that_it_does_not_need(rows: dict[str, Row], name: str) -> None:
    code, text, modules, _ = rows[name]
    assert code == 0, text
    assert NEEDLESS[name] & set(modules) == set()
    assert "torch" in modules


def test_the_modules_of_other_verbs_and_methods_are_not_imported_by_a_run(rows: dict[str, Row]) -> None:
    _, _, modules, _ = rows["run"]
    ours = {name.removeprefix("vidattr.") for name in modules if name.startswith("vidattr.")}
    assert {"run.runner", "methods.gradients.gradient", "models.tiny_r2plus1d", "datasets.synthetic"} <= ours
    methods = {name for name in ours if name.startswith("methods.") and ".shared" not in name and name.count(".") == 2}
    assert methods == {"methods.gradients.gradient"}
    training = {name for name in ours if name.startswith("training.")}
    assert training <= {"training.command"}  # the options of the verb
    assert not [name for name in ours if name.startswith("metrics.")]
    assert not {"evaluate.evaluator", "evaluate.report", "cluster.forecast", "cluster.task", "api"} & ours


def test_weights_and_videos_are_read_for_their_digest_once(rows: dict[str, Row]) -> None:
    digests = [path for name in COMMANDS for path in rows[name][3]]
    assert len([path for path in digests if path.endswith("tiny_r2plus1d.safetensors")]) == 1
    assert len([path for path in digests if Path(path).resolve() == VIDEO.resolve()]) == 1
    assert len(digests) == 2


def test_set_up_compiles_what_the_commands_import(rows: dict[str, Row]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    names = re.search(r"^COMPILED := import (.+)$", makefile, re.M)
    assert names is not None
    assert makefile.index("PYTHONDONTWRITEBYTECODE= $(BIN)/python -c '$(COMPILED)'\n\t@touch $@") > 0
    imported = {name for command in COMMANDS for name in rows[command][2]}
    asked = set(names[1].split(", "))
    assert all(importlib.util.find_spec(name) for name in asked)
    assert asked - imported == {"torchvision", "vidattr.cluster.task"}  # of other networks, and of jobs
