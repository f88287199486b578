"""A wrong name or path ends a command before torch is imported, which takes seconds."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT, Command
from vidattr.config import at_hand
from vidattr.config.typed import _OPTIONS

COMMANDS: dict[str, tuple[list[str], int, str]] = {
    "no command": (["--help"], 0, "Usage"),
    "names of methods": (["list", "methods"], 0, "grad_cam"),
    "method": (["run", "method=gradcam"], 2, "did you mean grad_cam"),
    "metric": (["evaluate", "metric=spt"], 2, "did you mean s_pt?"),
    "dataset": (["table", "dataset=sythetic"], 2, "did you mean synthetic"),
    "option": (["run", "method.scor=prob"], 2, "method=grad_cam: unknown option 'scor'"),
    "option of another choice": (["run", "method=grad_cam,rise", "method.masks=9"], 2, "method.rise.masks=… sets it"),
    "option of the runtime": (["render", "runtime.clip=3"], 2, "did you mean clips?"),
    "key": (["run", "limti=3"], 2, "did you mean limit?"),
    "root": (["run", "dataset=clips", "dataset.root=nosuch"], 2, "no such folder: dataset.root='nosuch'"),
    "weights": (["run", "model=r3d_18", "model.weights=nosuch.pth"], 2, "model.weights='nosuch.pth'"),
    "annotations": (["run", "dataset=csv", "dataset.file=/no/such.csv"], 2, "dataset.file='/no/such.csv'"),
    "recipe": (["train", "recipe.epohcs=2"], 2, "did you mean epochs?"),
    "video": (["explain", "nosuch.mp4"], 2, "no such file or folder: nosuch.mp4"),
    "one video of two": (
        ["explain", "clip.mp4", "gone/a.mp4", "model=r3d_18"],
        2,
        "no such file or folder: gone/a.mp4",
    ),
    "method of a video": (["explain", "clip.mp4", "model=r3d_18", "method=gradcam"], 2, "did you mean grad_cam"),
    "no network": (["explain", "clip.mp4", "method=gradient"], 2, "no network was chosen"),
}
SCRIPT = """
import contextlib, io, json, sys
from vidattr.cli import main
rows = {}
for name, arguments in json.loads(sys.argv[1]).items():
    sys.argv = ["vidattr", *arguments]
    out, code = io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            main()
        except SystemExit as leave:
            code = leave.code
    rows[name] = [code or 0, out.getvalue(), sorted({"torch", "pandas", "cv2", "matplotlib"} & sys.modules.keys())]
print(json.dumps(rows))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, list[str]]]:
    """Exit code, output and slow libraries after each command; all in one process, since none may import them."""
    here = tmp_path_factory.mktemp("here")
    (here / "clip.mp4").touch()
    text = json.dumps({name: arguments for name, (arguments, _, _) in COMMANDS.items()})
    done = subprocess.run([sys.executable, "-c", SCRIPT, text], capture_output=True, text=True, cwd=here, check=True)
    found: dict[str, tuple[int, str, list[str]]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_a_name_or_path_is_checked_before_a_slow_library_is_imported(
    answers: dict[str, tuple[int, str, list[str]]], name: str
) -> None:
    code, text, slow = answers[name]
    assert (code, slow) == (COMMANDS[name][1], []), text
    assert COMMANDS[name][2] in text


def test_every_field_that_names_a_file_is_checked() -> None:
    files = [path for role in ("datasets", "models", "methods") for path in (ROOT / "src/vidattr" / role).rglob("*.py")]
    named = {
        one for path in files for one in re.findall(r"^    (\w+): .* = keyed_by_content\(", path.read_text(), re.M)
    }
    assert {"weights", "file", "annotations", "flow_weights"} <= named <= _OPTIONS


def test_without_a_network_those_at_hand_are_listed(
    vidattr: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    (tmp_path / "torch/hub/checkpoints").mkdir(parents=True)
    (tmp_path / "torch/hub/checkpoints/r3d_18-b3b3357e.pth").touch()
    (tmp_path / "mine/model").mkdir(parents=True)
    (tmp_path / "my.pth").touch()
    (tmp_path / "mine/model/ours.yaml").write_text(f"defaults: [i3d, _self_]\nweights: {tmp_path}/my.pth\n")
    trained = tmp_path / "visual_res/train/s3d/clips-finetune/best.safetensors"
    trained.parent.mkdir(parents=True)
    trained.touch()
    (tmp_path / "clip.mp4").touch()
    found = vidattr("explain", "clip.mp4", "--add-configs", "mine")
    assert found.code == 2
    assert "weights on this machine: ours, r3d_18\n" in found.err
    assert "vidattr explain clip.mp4 model=ours" in found.err
    assert "trained here: model=s3d model.weights=visual_res/train/s3d/clips-finetune/best.safetensors" in found.err
    kinds = at_hand._kinds(None, [tmp_path / "mine"])
    assert {"s3d", "swin3d_t"} <= set(kinds["downloaded"])
    assert [name for name in kinds["package"] if not name.startswith("planted_")] == ["tiny_cnn_lstm", "tiny_r2plus1d"]
    assert {"i3d", "custom"} <= set(kinds["file"])


def test_a_group_of_the_users_may_choose_the_network(vidattr: Command, tmp_path: Path) -> None:
    (tmp_path / "mine/experiment").mkdir(parents=True)
    (tmp_path / "mine/experiment/net.yaml").write_text("# @package _global_\ndefaults:\n  - override /model: i3d\n")
    (tmp_path / "clip.mp4").touch()
    found = vidattr("explain", "clip.mp4", "--add-configs", "mine", "+experiment=net")
    assert "no network was chosen" not in found.err
    assert "clips · i3d" in found.err
