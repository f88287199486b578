from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from hydra import compose

from vidattr.config import hydra_errors
from vidattr.config.building import build
from vidattr.config.folders import config_dir
from vidattr.errors import ConfigError
from vidattr.methods.cam.grad_cam import GradCAM
from vidattr.run.compose import choice, experiments, part
from vidattr.training.composed import composed

ROOT = Path(__file__).resolve().parent.parent
ROLES = ("dataset", "model", "method", "metric")


def test_one_point_is_one_cell_with_its_objects_made() -> None:
    (experiment,) = experiments(["method=grad_cam", "method.score=prob", "seed=7"])
    assert isinstance(experiment.method, GradCAM)
    assert experiment.method.score == "prob"
    assert (experiment.names["method"], experiment.title, experiment.settings.seed) == ("grad_cam", "grad_cam", 7)


def test_lists_and_globs_span_a_grid_in_order() -> None:
    found = experiments(
        ["method=glob(grad_cam*,exclude=grad_cam_3d)", "method.score=logit,prob", "dataset=synthetic,synthetic_texture"]
    )
    names = [
        (experiment.names["method"], str(experiment.method.score), experiment.names["dataset"]) for experiment in found
    ]
    assert len(names) == len(set(names)) == 2 * 2 * 2
    assert names[:3] == [
        ("grad_cam", "logit", "synthetic"),
        ("grad_cam", "logit", "synthetic_texture"),
        ("grad_cam", "prob", "synthetic"),
    ]
    assert found[0].title == "grad_cam (score=logit)"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("method=gradcam", ["unknown method 'gradcam'", "grad_cam"]),
        ("method.scor=prob", ["method=grad_cam", "unknown option 'scor'", "did you mean score?"]),
        ("method.score=propability", ["score", "logit, prob, logprob"]),
        ("limti=3", ["unknown option 'limti'", "did you mean limit?"]),
        ("+method.speed=3", ["unknown option 'speed'"]),
        ("runtime.max_batch=many", ["max_batch=many", "a whole number"]),
        ("runtime.max_batch=0", ["max_batch=0", "positive"]),
        ("model.input.size=[112]", ["size has 1 values", "2 values"]),
        ("method.score=interval(0,1)", ["an interval has no end"]),
        ("method=glob(nothing*)", ["matches nothing"]),
        ("method", ["method"]),
        ("seed=(1", ["seed=(1"]),
    ],
)
def test_a_wrong_override_says_what_was_found_and_what_there_is(override: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        experiments([override])
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(("primary", "override"), [("run", "metric=s_pt"), ("train", "method=gradient")])
def test_a_role_that_a_command_does_not_take_is_refused(primary: str, override: str) -> None:
    role = override.partition("=")[0]
    with pytest.raises(ConfigError, match=f"`vidattr {primary}` takes no {role}"):
        if primary == "train":
            composed([override])
        else:
            experiments([override], primary=primary)


def test_a_typo_in_the_last_cell_is_found_before_the_first_is_used() -> None:
    with pytest.raises(ConfigError, match="random"):
        experiments(["method=grad_cam,random", "method.score=prob"])


def test_a_users_own_folder_adds_choices(tmp_path: Path) -> None:
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mine.yaml").write_text(
        "_target_: vidattr.methods.cam.grad_cam.GradCAM\nlayer: null\nscore: prob\n"
        "pool: space\nrelu: true\ntime_upsample: repeat\n"
    )
    (experiment,) = experiments(["method=mine"], add=[tmp_path])
    assert isinstance(experiment.method, GradCAM)
    assert str(experiment.method.score) == "prob"


def test_a_config_folder_without_run_yaml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no run\.yaml"):
        config_dir(tmp_path)


def test_hydra_composes_the_defaults_once_until_a_file_of_them_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    monkeypatch.setattr(hydra_errors, "compose", lambda *a, **k: made.append(k["overrides"]) or compose(*a, **k))
    folder = tmp_path / "configs"
    shutil.copytree(ROOT / "configs", folder)
    (folder / "method" / "nowhere.txt").symlink_to(tmp_path / "nothing")

    def seeds() -> list[int]:
        asked: list[list[str]] = [[], ["method=gradient"], ["seed=7"]]
        return [each.settings.seed for overrides in asked for each in experiments(overrides, folder=folder)]

    assert (seeds(), seeds(), made) == ([0, 0, 7], [0, 0, 7], [[]])
    run = folder / "run.yaml"
    run.write_text(run.read_text().replace("seed: 0", "seed: 31"))
    assert (seeds(), made) == ([31, 31, 7], [[], []])
    experiments([], folder=folder, primary="evaluate")
    (added := tmp_path / "added" / "method").mkdir(parents=True)
    shutil.copy(folder / "method" / "gradient.yaml", added / "mine.yaml")
    for _ in range(2):
        experiments([], folder=folder, add=[added.parent])
    assert made == [[]] * 5  # those of a user's own folders each time


@pytest.mark.parametrize(
    "target", ["vidattr.methods.cam.grad_cam.Nothing", "vidattr.nowhere.X", "os.path.join", "", "X"]
)
def test_a_target_that_is_no_dataclass_is_refused(target: str) -> None:
    with pytest.raises(ConfigError):
        build({"_target_": target}, "method=mine")


def test_one_part_can_be_made_from_python() -> None:
    assert part("method", "grad_cam", {"score": "logprob"}).score == "logprob"
    assert part("model", "r3d_18", {"input": {"size": [64, 80]}}).input.size == [64, 80]
    with pytest.raises(ConfigError, match="did you mean score"):
        part("method", "grad_cam", {"scores": "prob"})
    with pytest.raises(ConfigError, match="unknown method"):
        part("method", "nothing", {})


@pytest.mark.parametrize("role", ROLES)
def test_code_and_yaml_are_in_bijection(role: str) -> None:
    targets = set()
    for path in sorted((ROOT / "configs" / role).glob("*.yaml")):
        text = path.read_text()
        head = text.splitlines()[:2]
        assert all(line.startswith("# ") for line in head), f"{path} must open with what it is and where it is from"
        assert head[1].split(":")[0] in ("# Paper", "# Source"), path
        node = choice(role, path.stem)
        targets.add(str(node._target_).rsplit(".", 2)[1])
        known = {field.name for field in fields(part(role, path.stem, {}))}
        assert set(map(str, node)) - {"_target_"} == known, f"{path} must list every field of its dataclass"
    # What a config can name has a version; the other modules of the folder serve them.
    modules = (ROOT / "src" / "vidattr" / f"{role}s").rglob("*.py")
    assert targets == {path.stem for path in modules if "\n    version: ClassVar[int]" in path.read_text()}


IMPORTED = """
import sys
from vidattr.cli import main
sys.argv = ["vidattr", *sys.argv[1:]]
try:
    main()
except SystemExit as leave:
    print(leave.code, *sorted({"torch", "pandas", "hydra", "cv2"} & sys.modules.keys()))
"""


@pytest.mark.parametrize(
    ("command", "code"), [(["--help"], "0"), (["run", "--help"], "0"), (["exlpain"], "2"), (["run", "--quite"], "2")]
)
def test_help_and_a_wrong_verb_do_not_import_torch(command: list[str], code: str) -> None:
    found = subprocess.run([sys.executable, "-c", IMPORTED, *command], check=True, capture_output=True, text=True)
    assert found.stdout.splitlines()[-1] == code, "the exit code, and no library that is slow to import"
    assert ("Usage" in found.stdout) == (code == "0")
