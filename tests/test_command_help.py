"""What the command line tells about itself: its version, the options of a choice, what a shell may propose."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import vidattr as package
from conftest import ROOT, Command
from vidattr.config import completing
from vidattr.config.described import described


def test_version_and_short_help(vidattr: Command) -> None:
    assert vidattr("--version").out == f"vidattr {package.__version__}\n"
    for verb in ((), ("run",), ("list",), ("config", "show")):
        assert vidattr(*verb, "-h").out == vidattr(*verb, "--help").out
        assert "Usage:" in vidattr(*verb, "-h").out


@pytest.mark.parametrize(
    ("role", "name", "option", "default", "values", "meaning"),
    [
        ("methods", "grad_cam", "method.score", "logit", "logit | prob | logprob | log_odds", "log-odds"),
        ("methods", "step", "method.core_kernel", "[7,11,11]", "frames, rows, columns", ""),
        ("methods", "step_demo", "method.iterations", "2000", "", ""),
        ("models", "tiny_r2plus1d", "model.input.geometry", "squash", "squash | crop | letterbox", ""),
        ("datasets", "clips", "dataset.damaged", "warn", "", "can be decoded only in part"),
        ("metrics", "flicker", "metric.noise_draws", "4", "", ""),
    ],
)
def test_a_choice_shows_its_options_with_default_and_meaning(
    vidattr: Command, role: str, name: str, option: str, default: str, values: str, meaning: str
) -> None:
    found = json.loads(vidattr("list", role, name, "--json").out)
    (one,) = (one for one in found["options"] if one["name"] == option)
    assert one["default"] == default
    assert values in one["values"]
    assert meaning in one["meaning"]
    text = vidattr("list", role, name).out
    assert f"{option}={default}" in text
    assert found["source"] in text


def test_an_unknown_choice_is_refused(vidattr: Command) -> None:
    found = vidattr("list", "methods", "gradcam")
    assert (found.code, "did you mean grad_cam" in found.err) == (2, True)


def test_most_options_of_methods_are_explained() -> None:
    names = [path.stem for path in (ROOT / "configs/method").glob("*.yaml")]
    options = [one for name in names for one in described("method", name, None, [])["options"]]
    unsaid = {one["name"] for one in options if not one["values"] and not one["meaning"]}
    assert len(options) > 100
    assert unsaid == set()


def test_a_shell_completes_roles_and_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert completing.overrides([], "me") == ["method=", "metric="]
    assert "method=grad_cam" in completing.overrides([], "method=grad")
    assert completing.overrides([], "method=grad_cam,step_d") == ["method=grad_cam,step_demo"]
    assert completing.overrides(["run", "method", "="], "step_d") == ["step_demo"], "as bash splits words"
    assert "step" in completing.overrides(["run", "method"], "=")
    assert completing.overrides([], "seed=") == []
    (tmp_path / "method").mkdir()
    (tmp_path / "method/mine.yaml").touch()
    monkeypatch.setenv("VIDATTR_ADD_CONFIGS", str(tmp_path))
    assert completing.overrides([], "method=mi") == ["method=mine"]
    monkeypatch.setenv("VIDATTR_ADD_CONFIGS", str(tmp_path / "nowhere"))
    assert completing.overrides([], "method=mi") == []
