"""Wrong and unusual command lines are one message that names what was typed and what is right, never a traceback."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

import vidattr as package
from conftest import ROOT, Command
from vidattr.config import importing
from vidattr.config.building import _hint, build, made
from vidattr.config.folders import added_folders, config_dir, hydra, options
from vidattr.config.quoting import escaped, quoted
from vidattr.config.settings import Settings, check_out
from vidattr.config.sweep import points
from vidattr.errors import ConfigError
from vidattr.methods.gradients.gradient import Gradient
from vidattr.run import doctor
from vidattr.run import explain as own
from vidattr.run.compose import choice, experiments, part
from vidattr.training.composed import composed

GRADIENT = "# Mine\n# Source: me\n_target_: vidattr.methods.gradients.gradient.Gradient\n" + "".join(
    line + "\n" for line in (ROOT / "configs/method/gradient.yaml").read_text().splitlines() if line[0] not in "#_"
)


def refused(*overrides: str, primary: str = "run", add: list[Path] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        experiments(overrides, primary=primary, add=add or [])
    assert len(str(caught.value)) < 3000
    return str(caught.value)


def point(*overrides: str, keys: tuple[str, ...] = ("method",)) -> list[list[tuple[str, str]]]:
    """Returns what overrides mean without composing: the Hydra override and its shown text at each point."""
    with hydra(config_dir()):
        return [[(s.override, s.shown) for s in one] for one in points(overrides, keys, options, "run")]


NAN = float("nan")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("limit", ["abc", 1.5, True, NAN, [1], {"a": 1}, "", -1, 0, 2**70]),
        ("seed", [None, 1.5, True, "abc", "", NAN, -1, 2**70, [], {}]),
        ("target", [None, [], ["disc"], {"a": 1}, "", "  "]),
        ("save_label", ["", " ", "..", "../x", "a/b", "/a", ".x", "x" * 300, "a\nb", "a\0", "\udce9", [1]]),
    ],
)
def test_the_top_level_has_a_schema(name: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(ConfigError, match=f"{name}="):
            made(Settings, {name: value}, "")
            pytest.fail(f"{name}={value!r} was accepted")
    found = made(
        Settings, {"seed": "3", "target": 3, "save_label": 1.5}, "", typed={"target": "003", "save_label": "1.50"}
    )
    assert found == Settings(seed=3, target="003", save_label="1.50")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("limit=1.5", ["limit=1.5", "a whole number"]),
        ("limit=1e400", ["limit=inf", "a whole number"]),
        ("seed=", ["seed=''", "a whole number"]),
        ("seed.x=3", ["seed=", "a whole number"]),
        ("target=[disc]", ["target=", "a text"]),
        ("save_label=../x", ["save_label=", "a folder's name"]),
        ("paths.out=null", ["out=null", "a text"]),
        ("paths.data=[]", ["data=[]", "a text"]),
        ("paths.out=''", ["paths.out=''", "a folder"]),
        ("+foo=1", ["unknown option 'foo'", "save_label"]),
        ("+experiment=foo", ["unknown option 'experiment'", "a folder experiment/ of YAMLs"]),
        ("~seed", ["~seed: every option has a value"]),
        ("~limit", ["~limit: every option has a value"]),
    ],
)
def test_every_command_holds_to_it(override: str, words: list[str]) -> None:
    message = refused(override)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    "value", ["null", "[]", "[grad_cam]", "{a:1}", "3", "true", "nan", "''", "../x", "/x", "./grad_cam", "grad_cam,"]
)
def test_a_role_is_one_name(value: str) -> None:
    message = refused(f"method={value}")
    assert "method" in message
    assert "integrated_gradients" in message


@pytest.mark.parametrize(
    "override",
    ["~method", "~dataset", "~paths", "~method=grad_cam", "~method.score", "~model.input", "~model.input.size"],
)
def test_nothing_can_be_taken_away(override: str) -> None:
    assert override.partition("=")[0].rpartition("~")[2].rpartition(".")[2] in refused(override)


@pytest.mark.parametrize(
    "value", ["${nosuch}", "${oc.env:NO_SUCH_VARIABLE}", "${no_resolver:1}", "???", "${target}", "${oc.decode:1}"]
)
def test_an_interpolation_of_nothing_is_named(value: str) -> None:
    assert "target" in refused(f"target={value}")


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "=",
        "=3",
        "==",
        "seed",
        "seed =3",
        " seed=3",
        "a b=3",
        "[seed]=3",
        "seed[0]=3",
        ".seed=3",
        "method.=3",
        "~",
        "+",
        "ключ=3",
        "a\0=3",
    ],
)
def test_what_is_no_override_is_named(typed: str) -> None:
    assert "is no override" in refused(typed)


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("method=interval(1,2)", "no end of values"),
        ("seed=range(1,99999999999)", "at most 10000"),
        ("seed=range(1,3,0)", "no range"),
        ("seed=range(0,200),x", "seed"),
        ("method=glob(nothing*)", "matches nothing"),
        ("method@here=grad_cam", "the key of a method cannot be changed"),
        ("hydra.run.dir=x", "--add-configs"),
        ("hydra/launcher=x", "--add-configs"),
        ("metric=s_pt", "`vidattr run` takes no metric"),
        ("recipe=tiny", "`vidattr run` takes no recipe"),
    ],
)
def test_sweeps_end_and_hydras_own_keys_are_refused(typed: str, words: str) -> None:
    assert words in refused(typed)


def test_a_sweep_of_sweeps_has_a_bound() -> None:
    with pytest.raises(ConfigError, match="1000000 experiments"):
        point("seed=range(0,100)", "limit=range(1,101)", "target=range(0,100)")


TEXTS = [
    "petting animal (not cat)", "/data/视频/clips", "epoch=9-step=100.ckpt", "it's", "a;b", "a\nb", "(", ")",
    "<x>", "#3", "!x", "100%",
    "a & b",     "C:\\clips\\x.mp4", "~x", "a: b", "007", "1e3", "true", "1_000",
]  # fmt: skip


@pytest.mark.parametrize("first", range(0, len(TEXTS), 4))
def test_a_plain_text_is_taken_as_it_was_typed(first: int) -> None:
    target, root, weights, data = texts = TEXTS[first : first + 4]
    (experiment,) = experiments(
        [f"target={target}", f"dataset.root={root}", f"model.weights={weights}", f"paths.data={data}", "dataset=clips"]
    )
    assert [
        experiment.settings.target,
        experiment.dataset.root,
        experiment.model.weights,
        experiment.paths.data,
    ] == texts  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", ["[112,112", "{a:1", '"x', "'x", "glob(", "a${b", "a (x, y)"])
def test_what_may_mean_two_things_shows_the_quoted_form(text: str) -> None:
    message = refused(f"target={text}")
    remedy = message.partition("quote a text: ")[2]
    (typed,) = subprocess.run(
        ["sh", "-c", f"printf '%s\\0' {remedy}"], capture_output=True, text=True, check=True
    ).stdout.split("\0")[:-1]
    (experiment,) = experiments([typed])
    assert experiment.settings.target == text


def test_any_text_survives_its_quotes() -> None:
    chance, parser = random.Random(0), OverridesParser.create()
    for _ in range(200):
        text = "".join(chance.choice("\\'\"${}a,:=()[] \n视~%") for _ in range(chance.randint(0, 9)))
        for mark in "'\"":
            node = OmegaConf.create({"key": parser.parse_override(f"key={quoted(text, mark)}").value()})
            assert node.key == text, (text, mark)
        assert OmegaConf.create({"key": escaped({"a": [text]})}).key.a[0] == text


def test_parts_of_sweeps_and_lists_are_texts_too() -> None:
    found = point(
        "target=petting animal (not cat),disc,视频",
        "dataset.classes=[petting animal (not cat), 视频,b]",
        "method=gradient,grad_cam",
    )
    assert len(found) == 6
    assert [one[0][0] for one in found[::2]] == [
        "++target='petting animal (not cat)'",
        "++target=disc",
        "++target='视频'",
    ]
    assert found[0][1][0] == "++dataset.classes=['petting animal (not cat)','视频',b]"


def test_a_path_that_exists_is_one_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a, b (1)", "x,y", "${seed}", "quo'te\"", "back\\slash\\", "[1,2]"):
        (tmp_path / name).mkdir()
        (experiment,) = experiments(["dataset=clips", f"dataset.root={tmp_path / name}"])
        assert experiment.dataset.root == str(tmp_path / name)  # type: ignore[attr-defined]
        assert experiment.values["dataset"]["root"] == str(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert [one[0][0] for one in point("model.weights=x,y")] == ["++model.weights='x,y'"]
    assert len(point("target=x,y")) == 2, "no path is asked for"
    (tmp_path / "x").touch()
    (tmp_path / "y").touch()
    with pytest.raises(ConfigError, match="of this name, and of each of its parts") as caught:
        point("model.weights=x,y")
    assert """'model.weights="x,y"', or 'model.weights="x","y"'""" in str(caught.value)
    assert len(point("model.weights=x,y.pth")) == 2


def test_the_home_folder_is_expanded_where_a_path_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (experiment,) = experiments(["dataset=clips", "dataset.root=~/my clips (2)", "paths.out=~/out", "target=~/x"])
    assert experiment.dataset.root == f"{tmp_path}/my clips (2)"  # type: ignore[attr-defined]
    assert (experiment.paths.out, experiment.settings.target) == (f"{tmp_path}/out", "~/x")


@pytest.mark.parametrize("arguments", ["{in_features:4,out_features:3}", "{out_features:3,in_features:4,bias:false}"])
def test_arguments_of_a_builder_are_a_mapping_on_the_command_line(arguments: str) -> None:
    (experiment,) = experiments(["model=custom", "model.target=torch.nn:Linear", f"model.arguments={arguments}"])
    assert experiment.model.arguments["in_features"] == 4  # type: ignore[attr-defined]
    (experiment,) = experiments(
        ["model=custom", "model.target=torch.nn:Linear", "model.arguments.in_features=4", "+model.arguments.bias=false"]
    )
    assert experiment.model.arguments == {"in_features": 4, "bias": False}  # type: ignore[attr-defined]


def test_a_target_that_names_no_builder_is_refused_before_anything_is_loaded() -> None:
    for target in ("..x:y", ".x:y", "x", ":", "x:", ":x", "a b:c", "a..b:c", "os.path"):
        with pytest.raises(ConfigError, match=r"package\.module:builder"):
            build({**config("model", "custom"), "target": target}, "model=custom")


@pytest.mark.parametrize("target", ["..x", "a..b", "os.system", "vidattr.types.Nothing", "", "a b.C"])
def test_a_method_of_no_class_is_refused(target: str) -> None:
    with pytest.raises(ConfigError, match="method=mine"):
        build({"_target_": target}, "method=mine")


def config(role: str, name: str) -> dict[str, Any]:
    """Returns a config by itself, with the fields of the config that it builds on."""
    node = choice(role, name)
    around = OmegaConf.merge({"paths": {"data": "data"}, "dataset": {"root": "root"}}, {"role": node})
    values = dict(OmegaConf.to_container(around, resolve=True)["role"])  # type: ignore[index, call-overload]
    values.pop("defaults", None)  # what a recipe names is composed beside it
    return values


def classes() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields a config of every class that a YAML describes."""
    seen = set()
    for path in sorted(ROOT.glob("configs/*/*.yaml")):
        values = config(path.parent.name, path.stem)
        if values.get("_target_") not in (None, *seen):
            seen.add(values["_target_"])
            yield f"{path.parent.name}={path.stem}", values


def wrong(hint: Any) -> list[Any]:
    """Returns values that are none of a type, or no sensible one."""
    hint, _ = _hint(hint)
    if get_origin(hint) is list:
        (inner,) = get_args(hint)
        return ["x", 3, {"a": 1}, [[]], [None], *([one] for one in wrong(inner) if one is not None)]
    if isinstance(hint, type) and issubclass(hint, Enum):
        return ["nosuch", [], {}, True, 99]
    found: dict[Any, list[Any]] = {
        bool: [3, "x", [], {}, 1.0],
        int: [1.5, True, 2**70, float("nan"), "x", [], {}, "1.5"],
        float: [float("nan"), float("inf"), -float("inf"), 1e300, "x", True, [], {}],
        str: [[], {}, [1]],
    }
    return found.get(hint, [])


@pytest.mark.parametrize(("name", "values"), list(classes()))
def test_no_field_of_any_class_takes_nonsense(name: str, values: dict[str, Any]) -> None:
    module, _, attribute = values["_target_"].rpartition(".")
    cls = getattr(importing.module(module, name, ""), attribute)
    build(values, name)
    hints = get_type_hints(cls)
    for field in fields(cls):
        for value in [*wrong(hints[field.name]), *([] if _hint(hints[field.name])[1] else [None])]:
            with pytest.raises(ConfigError) as caught:
                build({**values, field.name: value}, name)
                pytest.fail(f"{name}: {field.name}={value!r} was accepted")
            assert field.name in str(caught.value)


RANGES: dict[tuple[str, str], list[tuple[str, Any]]] = {
    ("model", "custom"): [
        ("input.std", [0, 0, 0]), ("input.std", [-1, 1, 1]), ("input.std", [1, 1]),
        ("input.mean", [NAN, 0, 0]), ("input.max_value", 0),
        ("input.resize", [0]), ("input.resize", [1, 2, 3]), ("input.size", [100000, 100000]), ("input.size", [0, 3]),
        ("input.frames", 10**8), ("input.frames", 0), ("input.stride", 10**12),
    ],
    ("dataset", "synthetic"): [("size", 10**11), ("size", 31), ("seed", -1), ("clips", 0), ("frames", 7)],
    ("method", "step"): [("areas", [0.1, 0.1]), ("areas", [NAN]), ("areas", []), ("lr", 0), ("iterations", 0)],
    ("method", "rise"): [("cells_t", 10**8), ("masks", 0), ("p", 1.0)],
    ("metric", "min_ratio"): [("ratios", [0.1, NAN]), ("epsilon", [0, 0]), ("bisection", 1000)],
    ("metric", "deletion_insertion"): [("steps", 10**9)],
    ("metric", "sanity"): [("seed", -1)],
    ("metric", "s_pt"): [("tolerance", -1)],
    ("runtime", "default"): [("workers", 10**6), ("clips", 0), ("max_batch", -1)],
    ("render", "default"): [("fps", 0), ("tile", 0), ("opacity", 2), ("columns", 0), ("colormap", "x")],
    ("recipe", "tiny"): [("warm_up", 1), ("seed", -1), ("weight_decay", -1), ("epochs", 0), ("share", 1), ("crop", 0),
        ("patience", 0), ("milestones", [0]), ("accumulate", 0),
    ],
}  # fmt: skip


@pytest.mark.parametrize("chosen", RANGES)
def test_numbers_are_in_their_range(chosen: tuple[str, str]) -> None:
    for key, value in RANGES[chosen]:
        first, _, second = key.partition(".")
        with pytest.raises(ConfigError, match=second or first):
            build({**config(*chosen), first: {second: value} if second else value}, "=".join(chosen))
            pytest.fail(f"{key}={value} was accepted")


@pytest.mark.parametrize(
    ("override", "word"),
    [("recipe.train.object=null", "object"), ("recipe.train.object.clips=0", "clips"),
    ("recipe.train.object._target_=no.X", "object"),
     ("recipe.train={a:3}", "'a'"), ("recipe.lr=1e400", "lr"), ("recipe.seed=-1", "seed"),
     ("recipe.epochs=1,2", "nothing is swept"),
     ("recipe.test.splitt=val", "dataset="), ("recipe.held_out.loss={}", "loss"),
     ("~recipe", "recipe"), ("recipe=null", "recipe"), ("seed=3", "seed"), ("method=step", "takes no method")],
)  # fmt: skip
def test_training_is_checked_before_anything_is_loaded(override: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        composed([override] if override in ("~recipe", "recipe=null") else ["recipe=tiny", override])


@pytest.mark.parametrize(
    "shard", ["²/³", "١/٢", "0/1", "2/1", "1", "1/", "a/b", "-1/2", "+1/2", "1_0/2_0", f"{'9' * 5000}/1", ""]
)
def test_a_shard_is_two_numbers(vidattr: Command, shard: str) -> None:
    found = vidattr("run", "--shard", shard, "--dry-run")
    assert (found.code, "i/n" in found.err) == (2, True)


def test_where_no_file_can_be_made_nothing_starts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "gone").symlink_to("nowhere")
    for name in ("file", "file/x", "loop", "loop/x", "gone", "x" * 300, "a/" + "x" * 300):
        with pytest.raises(ConfigError, match=r"paths\.out="):
            check_out(str(tmp_path / name))
    with pytest.raises(ConfigError, match="cannot write into /proc"):
        check_out("/proc/results")
    check_out(str(tmp_path / "new" / "deep"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "gone", "loop"]


@pytest.mark.parametrize(
    "verb",
    [["run"], ["run", "--dry-run"], ["evaluate"], ["table"], ["render"], ["explain", "clip", "model=tiny_r2plus1d"]],
)
@pytest.mark.parametrize("out", ["file", "loop"])
def test_every_verb_that_writes_looks_at_the_folder_first(
    vidattr: Command, tmp_path: Path, verb: list[str], out: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "clip").mkdir()
    found = vidattr(*verb, f"paths.out={out}", "--quiet" if verb != ["table"] else "--json")
    assert (found.code, f"paths.out={out}" in found.err) == (2, True), found.err
    assert (tmp_path / "file").read_bytes() == b""


def test_training_looks_at_its_folder_first(vidattr: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = vidattr("train", "--out", "file/x", "--quiet")
    assert (found.code, "--out=file/x" in found.err) == (2, True)


def mine(folder: Path, text: str | bytes, group: str = "method", name: str = "mine") -> Path:
    (folder / group).mkdir(parents=True, exist_ok=True)
    (folder / group / f"{name}.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


@pytest.mark.parametrize(
    "text",
    ["_target_: [1,\n", b"\xff\xfebad", "- a\n- b\n", "", "a: !!python/object/apply:os.system ['false']\n",
    "a: 1\na: 2\n",
     "a: &a [*a]\n", "\tx: 1\n", "x: \x00\n", "3\n", "a: ${\n", "_target_: 3\n",
     "_target_: os.system\n", "defaults:\n - nothere\n",
     GRADIENT + "nope: 3\n", GRADIENT + "score: ${nosuch}\n"],
)  # fmt: skip
def test_a_broken_yaml_of_the_users_is_named(tmp_path: Path, text: str | bytes) -> None:
    assert "mine" in refused("method=mine", add=[mine(tmp_path, text)])


def test_a_folder_of_configs_is_there_and_holds_some(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "empty").mkdir()
    for name in ("nowhere", "file", "loop", "x" * 5000, "nul\0"):
        assert "no such folder" in refused(add=[tmp_path / name])
    assert "no configs in it" in refused(add=[tmp_path / "empty"])
    assert f"--add-configs {tmp_path}/own" in refused(add=[mine(tmp_path / "own", GRADIENT) / "method"])


def test_folders_of_odd_names_add_choices(tmp_path: Path) -> None:
    folder = mine(tmp_path / "my, own ${configs}' (1)", GRADIENT)
    (experiment,) = experiments(["method=mine"], add=[folder])
    assert isinstance(experiment.method, Gradient)
    assert {one.names["method"] for one in experiments(["method=glob(*in*)"], add=[folder])} == {"mine"} | {
        path.stem for path in (ROOT / "configs/method").glob("*in*.yaml")
    }


def test_python_and_doctor_see_the_users_configs_as_run_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = mine(tmp_path, GRADIENT)
    mine(tmp_path, (ROOT / "configs/model/tiny_r2plus1d.yaml").read_bytes(), "model")
    mine(tmp_path, (ROOT / "configs/dataset/synthetic.yaml").read_bytes(), "dataset")
    with pytest.raises(ConfigError, match="unknown method 'mine'"):
        package.load_method("mine")
    assert isinstance(package.load_method("mine", add_configs=[str(folder)]), Gradient)
    assert len(package.load_model("mine", device="cpu", add_configs=[folder]).classes) == 8
    monkeypatch.setattr(doctor, "listing", lambda role, where: [{"name": "mine"}])
    rows = {row["name"]: row["ok"] for row in doctor.diagnosis(None, [folder])}
    assert rows["dataset mine"]
    assert rows["model mine"]
    monkeypatch.setenv("VIDATTR_ADD_CONFIGS", f"{folder}{os.pathsep}")
    assert isinstance(package.load_method("mine"), Gradient)
    assert isinstance(experiments(["method=mine"])[0].method, Gradient)
    assert added_folders([folder]) == (folder,)


def test_python_is_told_what_the_command_line_is_told(tmp_path: Path) -> None:
    model = package.load_model("tiny_r2plus1d", device="cpu", input={"size": np.array([64, 64]), "frames": np.int64(8)})
    assert (model.view.frames, list(model.view.size)) == (8, [64, 64])
    method, frames = package.load_method("gradient"), torch.zeros(2, 3, 8, 64, 64)
    for wrong_fields in (
        {"network": "../x"}, {"network": "tiny_r2plus1d seed=3"}, {"network": 3}, {"network": "x\0"},
        {"_target_": "os.system"},
        {"device": "tpu"}, {"device": None}, {"max_batch": "x"}, {"max_batch": 1.5}, {"max_batch": 0},
        {"weights": Path("no (1).pth")}, {"weights": "${x"}, {"weights": object()}, {"input": "x"},
        {"input": {"siez": 3}},
        {"add_configs": str(tmp_path)}, {"add_configs": [tmp_path / "no"]},
    ):  # fmt: skip
        with pytest.raises(ConfigError):
            package.load_model(**{"network": "tiny_r2plus1d", "device": "cpu", **wrong_fields})  # type: ignore[arg-type]
    for wrong_frames in (frames[0], frames[:, :1], frames[:0], frames / 0, frames[..., :3, :3], frames.numpy()):
        with pytest.raises(ConfigError, match=r"frames|takes no clips"):
            package.explain(model, method, wrong_frames, 0)


def test_a_group_of_the_users_own_sets_keys_of_the_whole_configuration(tmp_path: Path) -> None:
    whole = "# @package _global_\ndefaults:\n  - override /method: gradient\nseed: 7\nmodel:\n  input:\n    frames: 8\n"
    mine(tmp_path, whole, "experiment")
    mine(tmp_path, "# @package _global_\nseed: 8\n", "experiment", "other")
    first, second = experiments(["+experiment=mine,other", "limit=3"], add=[tmp_path])
    assert isinstance(first.method, Gradient)
    assert (first.settings.seed, first.model.input.frames, first.settings.limit) == (7, 8, 3)
    assert (second.names["method"], second.settings.seed) == ("grad_cam", 8)
    mine(tmp_path, "seed: 7\n", "experiment", "local")
    assert "# @package _global_" in refused("+experiment=local", add=[tmp_path])
    assert "unknown experiment 'nine'" in refused("+experiment=nine", add=[tmp_path])
    mine(tmp_path, "# @package _global_\nseed: many\n", "experiment", "bad")
    assert "seed=many" in refused("+experiment=bad", add=[tmp_path])


def test_code_in_the_current_folder_runs_only_where_it_is_named(
    vidattr: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one not in ("", str(tmp_path))])
    for name in ("colorama", "json", "mine_to_see"):
        (tmp_path / f"{name}.py").write_text(
            f"import pathlib\npathlib.Path({str(tmp_path / name)!r}).touch()\n"
            "from vidattr.methods.gradients.gradient import Gradient\n"
        )
    before = list(sys.path)
    mine(tmp_path / "configs", GRADIENT.replace("vidattr.methods.gradients.gradient", "mine_to_see"))
    assert vidattr("run", "dataset.clips=1", "--dry-run").code == 0
    assert vidattr("run", "method=mine", "dataset.clips=1", "--add-configs", "configs", "--dry-run").code == 0
    assert [(tmp_path / name).exists() for name in ("colorama", "json", "mine_to_see")] == [False, False, True]
    assert sys.path == before
    for name, text in (
        ("bad_code", "1/0\n"),
        ("bad_syntax", "def\n"),
        ("bad_exit", "import sys; sys.exit(3)\n"),
        ("bad_import", "import no_such_x"),
    ):
        (tmp_path / f"{name}.py").write_text(text)
        with pytest.raises(ConfigError, match=rf"(?s)cannot import '{name}'.*{name}\.py, line 1"):
            importing.module(name, "method=mine", "")
    assert sys.path == before
    sys.modules.pop("mine_to_see")


def test_explain_takes_files_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [
        "${seed}.mp4",
        "a'b\\",
        "${",
        "x, y (1) [2] {3}.mp4",
        "a=b",
        '视频 "q".mp4',
        os.fsdecode(b"latin-\xe9.mp4"),
    ]
    monkeypatch.chdir(tmp_path)
    for name in names:
        (tmp_path / name).touch()
    seen = []
    monkeypatch.setattr(own, "run", lambda found, quiet: seen.extend(found) or [])
    monkeypatch.setattr(own, "run_folder", lambda experiment: pytest.skip("not asked"), raising=True)
    with pytest.raises(pytest.skip.Exception):
        own.explain_videos([*names, "model=tiny_r2plus1d", "method=gradient"])
    (experiment,) = experiments(
        ["dataset=clips", f"dataset.files=[{','.join(quoted(str(tmp_path / name)) for name in names)}]"]
    )
    assert experiment.dataset.files == [str(tmp_path / name) for name in names]  # type: ignore[attr-defined]
    (tmp_path / "x.mp4").touch()
    for wrong_one in ("\0", "", "\ud800.mp4"):
        with pytest.raises(ConfigError, match="no path of a video"):
            own.explain_videos([wrong_one])
    with pytest.raises(ConfigError, match="every option has a value"):
        own.explain_videos(["x.mp4", "~seed"])
    with pytest.raises(ConfigError, match="takes the videos that you name"):
        own.explain_videos(["x.mp4", "dataset=synthetic"])


def test_the_top_of_run_yaml_and_its_schema_are_in_bijection() -> None:
    node = OmegaConf.load(ROOT / "configs/run.yaml")
    assert {str(name) for name in node} - {"defaults"} == {field.name for field in fields(Settings)}
    assert {field.name: getattr(Settings(), field.name) for field in fields(Settings)} == {
        name: node[name] for name in node if name != "defaults"
    }
    assert part("method", "gradient", {}) == Gradient()


@pytest.mark.parametrize("size", ["[3,3]", "[1,1]", "[1,500]"])
def test_a_size_that_the_network_does_not_take_is_said_once_for_all_clips(vidattr: Command, size: str) -> None:
    found = vidattr(
        "run", f"model.input.size={size}", "method=gradient", "dataset.clips=2", "dataset.frames=8", "--quiet"
    )
    assert found.code == 2
    assert f"takes no clips of 16 × {size[1:-1].replace(',', ' × ')}" in found.err


def test_what_config_show_prints_means_the_same_when_read_back(vidattr: Command) -> None:
    found = vidattr("config", "show", r"target=\${seed}", "save_label=a${seed}", "model.weights=x (1).pth").out
    node = OmegaConf.create(found)
    assert (node.target, node.save_label, node.model.weights) == ("${seed}", "a0", "x (1).pth")
