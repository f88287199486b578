"""Sweeps composed from their parts give the same experiments, errors and keys as when Hydra composes every point."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra import compose as hydra_compose
from omegaconf import OmegaConf

from vidattr.config import combine, identity
from vidattr.config.folders import added_folders, config_dir, hydra, options
from vidattr.config.identity import described_once, key
from vidattr.config.quoting import escaped
from vidattr.config.settings import Paths, Settings
from vidattr.config.sweep import points
from vidattr.errors import ConfigError
from vidattr.run import compose, dry_run
from vidattr.run.compose import choice, experiments, part
from vidattr.run.experiment import run_identity

TOP = ("seed", "target", "limit", "save_label")


def built(node: dict[str, Any]) -> Any:
    """Makes a dataclass by OmegaConf alone."""
    module, _, name = node["_target_"].rpartition(".")
    return typed(getattr(importlib.import_module(module), name), {k: v for k, v in node.items() if k != "_target_"})


def typed(cls: type, values: dict[str, Any]) -> Any:
    schema = OmegaConf.structured(cls)
    for node in (schema, *(item for item in schema.values() if OmegaConf.is_config(item))):
        OmegaConf.set_readonly(node, False)
    return OmegaConf.to_object(OmegaConf.merge(schema, escaped(values)))


def slowly(overrides: Sequence[str], primary: str, add: Sequence[Path], step: int) -> Iterator[tuple[Any, ...]]:
    """Yields names, configuration and parts of every `step`-th point, each composed by Hydra and made by OmegaConf."""
    groups = compose.GROUPS[primary]
    with hydra(config_dir(), added_folders(add)):
        for point in list(points(overrides, groups, options, primary))[::step]:
            config = hydra_compose(primary, [setting.override for setting in point], return_hydra_config=True)
            names = {group: name for group, name in config.hydra.runtime.choices.items() if "/" not in group}
            config = OmegaConf.masked_copy(config, [name for name in config if name != "hydra"])
            values: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
            parts = {role: built(values[role]) for role in groups if role != "paths"}
            parts["paths"] = typed(Paths, values["paths"])
            parts["settings"] = typed(Settings, {name: values[name] for name in TOP})
            yield names, values, parts


def same(overrides: Sequence[str], primary: str = "run", add: Sequence[Path] = (), *, whole: int = 0) -> int:
    """Checks a sweep against the slow way and returns its number of points; `whole` of them are composed as a whole."""
    counted: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            compose, "compose_whole", lambda *point, real=compose.compose_whole: (counted.append(1), real(*point))[1]
        )
        found = experiments(overrides, primary=primary, add=add)
    step = max(1, len(found) // 3)  # Hydra takes its time
    expected = list(slowly(overrides, primary, add, step))
    for experiment, (names, values, parts) in zip(found[::step], expected, strict=True):
        assert list(experiment.names.items()) == list(names.items())
        assert json.dumps(experiment.values) == json.dumps(values)  # in the same order too
        for role, object_ in parts.items():
            assert repr(getattr(experiment, role)) == repr(object_)
    assert len(counted) == whole
    return len(found)


def folder_of(folder: Path, **files: str) -> Path:
    """Writes YAMLs, `role__name="text"`, into a folder of a user's own configs."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize(
    ("overrides", "primary", "count"),
    [
        (["method=glob(*cam*)", "method.score=logit,prob", "dataset=synthetic,synthetic_texture"], "run", None),
        (["method=glob(step*)", "method.iterations=range(5,8)", "seed=0,1"], "run", 24),
        (["dataset=glob(kinetics*)", "dataset.root=a,${paths.data}/b,'c,d'",
          "model=r3d_18,slowfast_r50_8x8_pyslowfast"], "run", 18),
        (["model.input.size=[32,32],[48,64]", "model.input.frames=8", "method=osa"], "run", 2),
        (["target=label,${model.output},'007','\\${x}'", "paths.out=a,${oc.env:HOME}/x", "limit=null,3"], "run", 16),
        (["metric=glob(t_pt*)", "metric.noise_draws=0,2", "method=random,center"], "evaluate", 8),
        (["method=grad_cam", "method.layer=3,null,conv3", "save_label=007"], "run", 3),
        (["model=custom", "model.target=toys:plain", "model.arguments={classes:3},{classes:4}",
          "model.input.mean=[0,0,0]"], "run", 2),
        (["method=integrated_gradients", "method.steps=5", "method.steps=6", "method.blur_sigma=3,4.5"], "run", 2),
        ([], "run", 1),
    ],
)  # fmt: skip
def test_a_sweep_is_what_hydra_makes_of_each_point(overrides: list[str], primary: str, count: int | None) -> None:
    if "model=custom" in overrides:  # the values that are mappings are composed as a whole
        assert same([*overrides, "model.weights=random"], primary, whole=2) == count
    else:
        assert same(overrides, primary) == (count or 2 * 2 * len([n for n in names("method") if "cam" in n]))


def names(role: str) -> list[str]:
    return sorted(path.stem for path in (config_dir() / role).glob("*.yaml"))


@pytest.mark.parametrize("role", ["dataset", "model", "method", "metric"])
def test_every_choice_of_this_package_is_read_without_hydra(role: str) -> None:
    primary = "evaluate"
    with pytest.MonkeyPatch.context() as patch:
        calls: list[object] = []
        patch.setattr(combine, "composed", lambda *point, real=combine.composed: (calls.append(1), real(*point))[1])
        found = experiments([f"{role}=glob(*)"], primary=primary)
    assert [experiment.names[role] for experiment in found] == names(role)
    assert len(calls) == 1
    with hydra(config_dir()):
        for experiment in found[:: max(1, len(found) // 2)]:
            config = hydra_compose(primary, [f"{role}={experiment.names[role]}"])
            assert experiment.values[role] == OmegaConf.to_container(config, resolve=True)[role]  # type: ignore[index, call-overload]


EXPERIMENT = "# @package _global_\ndefaults:\n  - override /method: step\n  - _self_\nseed: 7\nmethod:\n  lr: 0.5\n"


def test_configs_that_set_keys_of_others_are_composed_by_hydra(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path,
        experiment__a=EXPERIMENT,
        experiment__b=EXPERIMENT.replace("step", "ep3d").replace("7", "8"),
        method__wide="# @package _global_\nmethod:\n  _target_: vidattr.methods.baselines.center.Center\nseed: 9\n",
        method__other="defaults:\n  - step\n  - _self_\n  - override /model@_global_.model: r3d_18\nlr: 0.1\n",
        method__packed="defaults:\n  - grad_cam@_here_\n  - _self_\nscore: prob\n",
        method__absolute="defaults:\n  - /method/grad_cam@_here_\n  - _self_\nscore: prob\n",
        method__mine="defaults:\n  - step_demo\n  - _self_\nlr: 0.1\ncore_kernel: [3, 5, 5]\n",
        method__first="defaults:\n  - _self_\n  - grad_cam\nscore: prob\n",
        method__of="defaults:\n  - mine\n  - _self_\nmomentum: 0.5\n",
        method__refers="defaults:\n  - grad_cam\n  - _self_\nlayer: ${model.output}.${..seed}\n",
        model__mine="defaults:\n  - r3d_50\n  - _self_\ninput:\n  frames: 8\n  size: [64, 64]\n",
    )
    assert same(["+experiment=a,b", "method.lr=0.1,0.2", "model=tiny_r2plus1d,r3d_18"], add=[folder]) == 8
    assert same(["method=wide,other,packed,absolute,first,mine,of,refers", "seed=1,2"], add=[folder]) == 16
    assert same(["method=of,refers", "model=mine", "model.output=logprob,prob", "seed=1,2"], add=[folder]) == 8
    (found,) = experiments(["method=of"], add=[folder])
    assert (found.method.lr, found.method.momentum, found.method.iterations) == (0.1, 0.5, 2000)  # type: ignore[attr-defined]
    assert found.values["method"]["core_kernel"] == [3, 5, 5]


def test_a_choice_of_ones_own_replaces_the_packages_everywhere(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path, method__ep3d=(config_dir() / "method/ep3d.yaml").read_text().replace("lr: 0.05", "lr: 0.5")
    )
    assert same(["method=ep3d,step,grad_cam"], add=[folder]) == 3
    assert [e.method.lr for e in experiments(["method=ep3d,step"], add=[folder])] == [0.5, 0.5]  # type: ignore[attr-defined]


def error_of(overrides: Sequence[str], primary: str, add: Sequence[Path], *, slow: bool) -> str:
    with pytest.MonkeyPatch.context() as patch:
        if slow:

            def never(self: object, point: object) -> None:
                raise combine.NotCombinedError

            patch.setattr(combine.Combiner, "point", never)
        with pytest.raises(ConfigError) as caught:
            experiments(overrides, primary=primary, add=add)
    return str(caught.value)


@pytest.mark.parametrize(
    "overrides",
    [
        ["seed=range(79)", "seed=range(79)", "method.scor=prob"],
        ["method=grad_cam,random", "method.score=prob"],
        ["method=step,grad_cam", "method.lr=0.1,0"],
        ["model.input.size=[32,32],[32]"],
        ["dataset=synthetic,kinetics400", "dataset.size=64"],
        ["target=a,${nosuch}", "method=gradient,random"],
        ["target=a,???"],
        ["++runtime.max_batch=1,0"],
        ["+method.speed=1,2"],
        ["~method.score.x.y"],
        ["method.score.x=1,2"],
        ["method=gradient,random", "model.input=3"],
        ["limti=1,2"],
        ["+experiment=bad,good"],
        ["method=broken,gradient"],
        ["method=gradient,circle"],
        ["method=gradient,nobase"],
        ["method.score=logit,${method.score}"],
    ],
)
def test_errors_are_those_of_the_whole_point(overrides: list[str], tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path,
        experiment__bad="# @package _global_\nnosuch: 3\n",
        experiment__good="# @package _global_\nseed: 3\n",
        method__broken="a: [1,\n",
        method__circle="defaults:\n  - circle\n  - _self_\n",
        method__nobase="defaults:\n  - nothere\n  - _self_\n",
    )
    quick, slow = (error_of(overrides, "run", [folder], slow=one) for one in (False, True))
    assert quick == slow


def test_an_error_at_the_last_of_many_points_is_the_one_that_it_has_alone() -> None:
    assert error_of([f"seed={','.join(map(str, range(80)))},x"], "run", [], slow=False) == error_of(
        ["seed=x"], "run", [], slow=True
    )


def test_ten_thousand_points_need_one_composition_and_each_part_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: dict[str, int] = {}

    def count(where: Any, name: str) -> None:
        real = getattr(where, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            calls[name] = calls.get(name, 0) + 1
            return real(*args, **kwargs)

        monkeypatch.setattr(where, name, counted)

    count(combine, "composed"), count(compose, "compose_whole"), count(compose, "build"), count(identity, "_describe")
    count(dry_run, "clips_of")
    sweep = [
        "method=gradient,random,center,rise",
        "seed=range(100)",
        "dataset.size=32,48,64,80,96",
        f"paths.out={tmp_path}",
    ]
    found = experiments(sweep)
    rows = dry_run.plan(found)
    assert len(rows) == len({row["key"] for row in rows}) == 2000
    assert calls == {"composed": 1, "build": 4 + 5 + 3, "_describe": 4 + 5 + 1, "clips_of": 5}
    assert {id(experiment.model) for experiment in found} == {id(found[0].model)}


def test_an_experiment_planned_among_others_has_the_key_that_it_has_alone() -> None:
    sweep = ["method=step,grad_cam,rise", "model.input.frames=8,16", "seed=0,3"]
    for experiment in experiments(sweep)[::3]:
        settings = [f"model.input.frames={experiment.model.input.frames}", f"seed={experiment.settings.seed}"]
        (alone,) = experiments([f"method={experiment.names['method']}", *settings])
        with described_once():
            among = run_identity(experiment), run_identity(experiment, 1)
        assert among == (run_identity(alone), run_identity(alone, 1))
        assert key(among[0]) == key(run_identity(alone))


@pytest.mark.parametrize("role", ["dataset", "model", "method", "metric", "render"])
def test_a_variant_repeats_nothing_of_the_config_that_it_builds_on(role: str) -> None:
    bases: dict[str, str] = {}
    for path in sorted((config_dir() / role).glob("*.yaml")):
        own: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
        if "defaults" not in own:
            bases.setdefault(own["_target_"], path.stem)
            continue
        base, last = own.pop("defaults")
        if "@" in base:
            continue  # another config is put under a key of this one
        assert last == "_self_", path
        assert repeated(own, OmegaConf.to_container(choice(role, base), resolve=False)) == [], path
    for path in sorted((config_dir() / role).glob("*.yaml")):
        target = choice(role, path.stem)["_target_"]
        assert "defaults:\n" in path.read_text() or bases[target] == path.stem, f"{path} could build on {bases[target]}"


def repeated(own: Any, base: Any) -> list[str]:
    found = []
    for name, value in own.items():
        if isinstance(value, dict) and isinstance(base[name], dict) and value:
            found += repeated(value, base[name])
        elif (type(value), value) == (type(base[name]), base[name]):
            found.append(name)
    return found


def test_a_variant_is_the_object_that_its_fields_make() -> None:
    assert part("method", "step", {}) == part("method", "ep3d", {"core_kernel": [7, 11, 11]})
    assert part("model", "r2plus1d_34", {}) == part("model", "r3d_50", {"convolution": "r2plus1d", "depth": 34})
    assert part("metric", "t_pt_released", {}) == part("metric", "t_pt", {"polarity": "released"})
    assert part("dataset", "synthetic_texture", {}) == part("dataset", "synthetic", {"variant": "texture"})
