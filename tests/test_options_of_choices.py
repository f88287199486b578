"""Options for one choice of a sweep, and plug-in configs that leave out fields of their class."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidattr.api import load_method
from vidattr.config.identity import key
from vidattr.config.overrides import MOST_EXPERIMENTS
from vidattr.errors import ConfigError
from vidattr.run.compose import experiments
from vidattr.run.experiment import Experiment, metric_identity, run_identity


def key_of(experiment: Experiment) -> tuple[str, str | None]:
    metric = key(metric_identity(experiment)) if experiment.metric else None
    return key(run_identity(experiment)), metric


@pytest.mark.parametrize(
    ("together", "separately"),
    [
        (
            ["method=grad_cam,step", "method.step.iterations=40"],
            [["method=grad_cam"], ["method=step", "method.iterations=40"]],
        ),
        (
            ["model=tiny_r2plus1d,tiny_cnn_lstm", "model.tiny_cnn_lstm.input.frames=8", "method=gradient"],
            [
                ["model=tiny_r2plus1d", "method=gradient"],
                ["model=tiny_cnn_lstm", "model.input.frames=8", "method=gradient"],
            ],
        ),
        (
            ["dataset.synthetic_texture.clips=6", "dataset=synthetic,synthetic_texture", "dataset.clips=4"],
            [["dataset=synthetic", "dataset.clips=4"], ["dataset=synthetic_texture", "dataset.clips=6"]],
        ),
        (
            ["metric=s_pt,deletion_insertion", "metric.deletion_insertion.steps=8"],
            [["metric=s_pt"], ["metric=deletion_insertion", "metric.steps=8"]],
        ),
        (["method.grad_cam.score=prob"], [["method.score=prob"]]),
        (
            ["method=grad_cam,step", "method.grad_cam.score=prob,logit", "method.step.areas=[0.1],[0.2]", "seed=1,2"],
            [
                *(
                    ["method=grad_cam", f"method.score={score}", f"seed={seed}"]
                    for score in ("prob", "logit")
                    for seed in (1, 2)
                ),
                *(["method=step", f"method.areas=[{area}]", f"seed={seed}"] for area in (0.1, 0.2) for seed in (1, 2)),
            ],
        ),
    ],
)
def test_an_option_for_one_choice_gives_the_keys_of_separate_commands(
    together: list[str], separately: list[list[str]]
) -> None:
    found = [key_of(one) for one in experiments(together, primary="evaluate")]
    assert found == [key_of(one) for command in separately for one in experiments(command, primary="evaluate")]


def test_a_choice_that_a_group_of_the_users_makes_is_known(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "short.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /method: step\nseed: 7\n"
    )
    (found,) = experiments(["+experiment=short", "method.step.iterations=40"], add=[tmp_path])
    assert (found.names["method"], found.method.iterations, found.settings.seed) == ("step", 40, 7)  # type: ignore[attr-defined]


def test_the_specific_option_takes_precedence_in_any_order() -> None:
    for options in (
        ["method.iterations=9", "method.step.iterations=4"],
        ["method.step.iterations=4", "method.iterations=9"],
    ):
        found = experiments(["method=ep3d,step", *options])
        assert [one.method.iterations for one in found] == [9, 4]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["method=grad_cam", "method.step.iterations=4"], ["method.step.iterations", "method=step is not chosen"]),
        (["dataset.ucf101.root=x"], ["dataset.ucf101.root", "dataset=ucf101 is not chosen", "options of synthetic"]),
        (["method=grad_cam,step", "method.step.iteratons=4"], ["method=step", "did you mean iterations?"]),
        (["method=grad_cam,step", "method.stp.iterations=4"], ["unknown option 'stp'"]),
        (["method=grad_cam,step", "method.iterations=4"], ["method=grad_cam", "method.step.iterations=… sets it"]),
        (["method=step", "~method.step.iterations"], ["every option has a value"]),
        (["method=step,ep3d", f"method.step.lr=range(0,{MOST_EXPERIMENTS})"], [f"more than {MOST_EXPERIMENTS}"]),
    ],
)
def test_an_option_that_sets_nothing_is_refused(overrides: list[str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        experiments(overrides)
    for word in words:
        assert word in str(caught.value)


def test_a_choice_named_like_a_mapping_of_another_choice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "input.yaml").write_text("defaults: [tiny_cnn_lstm, _self_]\n")
    with pytest.raises(ConfigError, match="input is a model, and also an option of model="):
        experiments(["model=tiny_r2plus1d,input", "model.input.frames=8"], add=[tmp_path])


@pytest.mark.parametrize(
    ("role", "text", "words"),
    [
        (
            "method",
            "_target_: vidattr.methods.cam.grad_cam.GradCAM\nscore: prob\n",
            ["layer, pool, relu", "defaults: [grad_cam"],
        ),
        ("metric", "_target_: vidattr.metrics.flicker.Flicker\n", ["leaves out", "defaults: [flicker, _self_]"]),
        ("model", "_target_: vidattr.models.tiny_cnn_lstm.TinyCNNLSTM\nweights: random\n", ["leaves out", "input"]),
        ("dataset", "_target_: vidattr.datasets.clips.Clips\nroot: .\n", ["classes", "damaged", "first_frame"]),
    ],
)
def test_a_config_that_leaves_out_fields_of_its_class_is_refused(
    tmp_path: Path, role: str, text: str, words: list[str]
) -> None:
    (tmp_path / role).mkdir()
    (tmp_path / role / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        experiments([f"{role}=mine"], primary="evaluate", add=[tmp_path])
    for word in (f"{role}=mine: its YAML leaves out", *words):
        assert word in str(caught.value)


def test_a_copy_of_step_without_its_core_is_no_ep3d(tmp_path: Path) -> None:
    (tmp_path / "method").mkdir()
    copied = [line for line in (experiments(["method=step"])[0].values["method"]).items() if line[0] != "core_kernel"]
    (tmp_path / "method" / "mine.yaml").write_text(
        "".join(f"{name}: {'null' if value is None else value}\n" for name, value in copied)
    )
    with pytest.raises(ConfigError, match="leaves out core_kernel"):
        load_method("mine", add_configs=tmp_path)
    (tmp_path / "method" / "mine.yaml").write_text("defaults: [step, _self_]\niterations: 40\n")
    assert load_method("mine", add_configs=tmp_path).core_kernel == [7, 11, 11]  # type: ignore[attr-defined]
