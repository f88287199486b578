"""Damaged and made-up inputs give no traceback, crash or hang; `make fuzz` tries ten times as many."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

sys.path.append(str(ROOT / "scripts"))
import fuzz
import fuzz_inputs


def test_hostile_inputs_end_in_a_map_or_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "fuzz.py"), "--direct"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=1800,
        cwd=tmp_path,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["no traceback, no crash, no hang"]), (
        done.stdout + done.stderr
    )
    for kind, least in {"videos": 200, "images": 200, "annotations": 200, "checkpoints": 150, "commands": 150}.items():
        assert f"{kind}: {fuzz.COUNTS[kind]} inputs, 0 findings" in done.stdout
        assert fuzz.COUNTS[kind] >= least


@pytest.mark.parametrize("kind", ["videos", "images", "annotations", "commands"])
def test_an_input_is_decided_by_its_kind_and_seed(kind: str, tmp_path: Path) -> None:
    for folder in (one := tmp_path / "one", other := tmp_path / "two"):
        folder.mkdir()
        for seed in range(6):
            fuzz_inputs.make(kind, seed, folder)
    names = [path.relative_to(one) for path in sorted(one.rglob("*"))]
    assert names == [path.relative_to(other) for path in sorted(other.rglob("*"))]
    assert all((one / name).read_bytes() == (other / name).read_bytes() for name in names if (one / name).is_file())


class Scripted(fuzz.Worker):
    """A worker whose process does what a request's first argument says, and not what vidattr does."""

    program = """
import json, os, sys, time
for line in sys.stdin:
    word = json.loads(line)["arguments"][0]
    if word == "crash": os.abort()
    if word == "hang": time.sleep(60)
    code = {"raise": "Traceback (most recent call last):\\n  ...\\nKeyError: 3", "three": 3}.get(word, 0)
    out = "Traceback (most recent call last):" if word == "printed" else ""
    print(json.dumps({"code": 2 if word == "silent" else code, "out": out, \
"err": "error: x" if word == "error" else ""}), flush=True)
"""


def test_each_bad_end_is_told_from_a_good_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "PATIENCE", 3)
    program = tmp_path / "program.py"
    program.write_text(Scripted.program)
    monkeypatch.setattr(fuzz, "__file__", str(program))
    (tmp_path / "worker.log").touch()
    worker = Scripted(tmp_path)
    ends = {}
    for word in ("fine", "crash", "error", "hang", "raise", "three", "printed", "silent", "fine"):
        task = fuzz_inputs.Task("commands", 1, [word])
        found = fuzz.judged(task, worker.ask(task))
        ends[word] = found and found.how
    worker.close()
    wanted = {
        "crash": "crash",
        "hang": "hang",
        "raise": "traceback",
        "three": "traceback",
        "printed": "traceback",
        "silent": "silent",
    }
    assert ends == {"fine": None, "error": None, **wanted}


def test_a_clip_of_which_nothing_is_said_is_found() -> None:
    task = fuzz_inputs.Task("videos", 1)
    said = '[{"written": 3, "failed": 1}]'
    assert fuzz.lost(task, {"code": 1, "out": said, "err": ""}, 5) is None
    for answer in (
        {"code": 1, "out": said, "err": ""},
        {"code": 1, "out": "", "err": ""},
        {"code": 2, "out": "", "err": "error: x"},
    ):
        assert fuzz.lost(task, answer, 20) is not None
