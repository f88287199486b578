"""The wheel stands alone: configs and weights inside, the embedded default runs from it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from conftest import ROOT


def test_the_wheel_brings_configs_and_weights_and_runs_alone(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("src", "configs", "pyproject.toml", "README.md"):
        (source / name).symlink_to(ROOT / name)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(tmp_path), str(source)], check=True, capture_output=True, text=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "alone")
        inside = set(archive.namelist())
    ours = {f"vidattr/configs/{path.relative_to(ROOT / 'configs')}" for path in (ROOT / "configs").rglob("*.yaml")}
    assert ours <= inside
    assert {
        "vidattr/models/weights/data/tiny_r2plus1d.safetensors",
        "vidattr/models/weights/data/tiny_cnn_lstm.csv",
        "vidattr/py.typed",
    } <= inside
    pages = [path for folder in ("templates", "assets") for path in (ROOT / "src/vidattr/report" / folder).iterdir()]
    assert {f"vidattr/report/{path.parent.name}/{path.name}" for path in pages} <= inside
    code = (
        "import sys, vidattr, vidattr.configs, vidattr.cli; "
        "print(vidattr.__file__, vidattr.configs.__file__); vidattr.cli.main()"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, "run", "limit=1", "render.mp4=false", "--quiet"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "alone")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.count(str(tmp_path / "alone")) == 2
    assert "grad_cam: 1 written" in found.stdout
