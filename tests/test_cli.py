"""The smaller verbs, and what the command line says when it is used wrongly."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from conftest import ROOT, Command
from vidattr.models.speed import converted
from vidattr.run import doctor


@pytest.mark.parametrize("role", ["methods", "models", "datasets", "metrics"])
def test_everything_listed_says_what_it_is_and_where_it_is_from(vidattr: Command, role: str) -> None:
    rows = json.loads(vidattr("list", role, "--json").out)
    assert {row["name"] for row in rows} == {
        path.stem for path in (ROOT / "configs" / role.removesuffix("s")).glob("*.yaml")
    }
    assert all(row["summary"] and row["source"] for row in rows)
    text = vidattr("list", role).out
    assert all(row["name"] in text for row in rows)


def test_config_show_prints_every_experiment_with_its_key(vidattr: Command) -> None:
    rows = json.loads(vidattr("config", "show", "method=grad_cam,gradient", "--json").out)
    assert [row["experiment"] for row in rows] == ["grad_cam", "gradient"]
    assert "cell" not in rows[0]
    assert rows[0]["method"]["score"] == "logit"
    text = vidattr("config", "show", "method=grad_cam").out
    assert rows[0]["key"] in text
    assert "score: logit" in text


def test_doctor_names_packages_device_data_and_weights(vidattr: Command) -> None:
    rows = {row["name"]: row for row in json.loads(vidattr("doctor", "--json").out)}
    assert rows["torch"]["ok"]
    assert rows["dataset synthetic"]["found"] == "48 clips"
    assert rows["model tiny_r2plus1d"]["ok"]
    assert not rows["dataset ucf101_24"]["ok"]
    assert "dataset.root" in rows["dataset ucf101_24"]["to_do"]
    assert not rows["model ucf50_lrcn"]["ok"]
    assert "ok  torch" in vidattr("doctor").out
    assert rows.keys() > {"transformers", "openvino"}


@pytest.mark.parametrize(("package", "extra"), [("openvino", "openvino"), ("transformers", "hf")])
def test_doctor_says_which_extra_installs_a_package(package: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "listing", lambda role, where: [])
    version = importlib.metadata.version

    def without(name: str) -> str:
        if name == package:
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", without)
    rows = {row["name"]: row for row in doctor.diagnosis(None, [])}
    assert rows[package] == {
        "name": package, "ok": False, "found": "not installed", "to_do": f"pip install 'vidattr[{extra}]'",
    }  # fmt: skip
    assert f"--  {package}" in doctor.text(list(rows.values()))


@pytest.mark.parametrize("broken", ["", "wrong libc", "an operation is missing"])
def test_doctor_tries_openvino_where_it_is_installed(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package = SimpleNamespace(PartialShape=tuple, convert_model=lambda module, **_: module, Core=Core)
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.9" if name == "openvino" else version(name))
    monkeypatch.setattr(converted, "_answers", lambda network, clips: network(clips))
    converted._package.cache_clear()
    if broken == "wrong libc":
        monkeypatch.setattr(converted, "import_module", lambda name: 1 / 0)
    else:
        monkeypatch.setattr(converted, "_package", lambda: package)
    if broken == "an operation is missing":
        package.convert_model = lambda module, **_: 1 / 0
    monkeypatch.setattr(doctor, "listing", lambda role, where: [])
    row = next(row for row in doctor.diagnosis(None, []) if row["name"] == "openvino")
    if not broken:
        assert row["ok"]
        assert row["found"] == "9.9, runtime.backend=openvino converts a convolution"
    else:
        expected = {"wrong libc": "cannot be imported: division", "an operation is missing": "cannot convert"}[broken]
        assert not row["ok"]
        assert expected in row["found"]
        assert "runtime.backend=torch" in row["to_do"]


class Core:
    """OpenVINO's compiler, which here returns what it is given."""

    def compile_model(self, model: Any, device: str, options: dict[str, Any]) -> Any:
        return model


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "method=gradcam"], ["unknown method 'gradcam'", "grad_cam"]),
        (["run", "method.socre=prob"], ["did you mean score?"]),
        (["run", "dataset=ucf101_24"], ["dataset.root"]),
        (["run", "model=r3d_18", "model.weights=nowhere.pth"], ["nowhere.pth"]),
        (["run", "model=ucf50_lrcn"], ["model.weights"]),
        (["run", "--shard", "3/2"], ["i/n"]),
        (["run", "runtime.device=tpu"], ["auto, cpu, cuda"]),
        (["run", "--config-dir", "/nowhere"], ["no run.yaml"]),
        (["explain"], ["Missing argument"]),
        (["explain", "method=grad_cam"], ["no video was named"]),
        (["list", "mehtods"], ["mehtods"]),
        (["evaluate", "metric=s_tp"], ["unknown metric 's_tp'", "s_pt"]),
        (["evaluate", "dataset.clips=2", "--baseline", "nothing"], ["vidattr run"]),
        (["train", "recipe.epohcs=2"], ["did you mean epochs?"]),
    ],
)
def test_wrong_use_is_one_message_and_exit_code_2(vidattr: Command, arguments: list[str], words: list[str]) -> None:
    found = vidattr(*arguments)
    assert found.code == 2
    assert "Traceback" not in found.err
    for word in words:
        assert word in found.err, found.err


def test_an_empty_dataset_folder_is_refused(vidattr: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    found = vidattr("run", "dataset=clips", f"dataset.root={tmp_path / 'empty'}")
    assert found.code == 2
    assert "empty" in found.err


def frames(folder: Path, count: int, height: int, width: int, channels: int = 3) -> Path:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for t in range(1, count + 1):
        shape = (height, width, 3) if channels == 3 else (height, width)
        cv2.imwrite(str(folder / f"{t:05d}.png"), rng.integers(0, 255, shape, dtype=np.uint8))
    return folder


@pytest.mark.parametrize(
    ("name", "count", "height", "width", "channels"),
    [("one", 1, 48, 64, 3), ("wide", 20, 40, 160, 3), ("grey", 9, 64, 64, 1)],
)
def test_explain_takes_odd_videos(
    vidattr: Command, tmp_path: Path, name: str, count: int, height: int, width: int, channels: int
) -> None:
    path = frames(tmp_path / "a folder, with 'signs' = here" / name, count, height, width, channels)
    found = vidattr("explain", str(path), "model=tiny_r2plus1d", "method=grad_cam,gradient", "--quiet", "--json")
    assert found.code == 0, found.err
    rows = json.loads(found.out)
    assert [row["method"] for row in rows] == ["grad_cam", "gradient"]
    assert len(rows[0]["top"]) == 5
    assert rows[0]["target"] == rows[0]["top"][0]["class"]
    assert all(Path(picture).is_file() for row in rows for picture in row["pictures"])
    assert {Path(picture).suffix for picture in rows[0]["pictures"]} == {".png", ".gif", ".mp4"}
    (sheet,) = {path for row in rows for path in row["comparison"]}
    assert Path(sheet).is_file()
    assert Path(sheet).parts[1] == "comparison"


def test_explain_looks_again_when_a_video_of_the_same_name_changed(vidattr: Command, tmp_path: Path) -> None:
    path = frames(tmp_path / "clip", 4, 64, 64)
    first = json.loads(vidattr("explain", str(path), "model=tiny_r2plus1d", "--quiet", "--json").out)
    for image in path.iterdir():
        cv2.imwrite(str(image), np.full((64, 64, 3), 200, np.uint8))
    second = json.loads(vidattr("explain", str(path), "model=tiny_r2plus1d", "--quiet", "--json").out)
    assert first[0]["map"] == second[0]["map"]
    assert first[0]["top"] != second[0]["top"]


def test_explain_says_which_video_is_bad_and_explains_the_others(vidattr: Command, tmp_path: Path) -> None:
    good = frames(tmp_path / "good", 4, 64, 64)
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"nothing")
    found = vidattr("explain", str(good), str(bad), "model=tiny_r2plus1d", "target=disc", "--quiet")
    assert found.code == 1
    assert "bad" in found.err
    assert "grad_cam explains 'disc'" in found.out


@pytest.mark.parametrize("undefined", ["attention_rollout", "generic_attention"])
def test_explain_names_the_method_that_is_not_defined_for_the_network(
    undefined: str, vidattr: Command, tmp_path: Path
) -> None:
    video = frames(tmp_path / "good", 4, 64, 64)
    found = vidattr("explain", str(video), "model=tiny_r2plus1d", f"method=gradient,{undefined}", "target=disc", "-q")
    assert found.code == 1
    assert f"  {undefined}: this network offers no attention weights" in found.err
