from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import ClassVar

import pytest

from conftest import Command
from vidattr.api import load_method
from vidattr.config.fields import LATER, keyed_by_content, not_in_key
from vidattr.config.folders import config_dir
from vidattr.config.identity import EARLIER, KEY_VERSION, describe, difference, key
from vidattr.evaluate.scores import scores_identity
from vidattr.run.compose import choice, experiments
from vidattr.run.experiment import run_identity
from vidattr.video.preprocessing import Preprocessing


class Colour(StrEnum):
    red = "red"


@dataclass(frozen=True)
class Inner:
    ratio: float = 0.5


@dataclass(frozen=True)
class Part:
    version: ClassVar[int] = 3
    steps: int = 25
    colour: Colour = Colour.red
    inner: Inner = field(default_factory=Inner)
    names: list[str] = field(default_factory=lambda: ["a", "b"])
    root: str = not_in_key("")
    weights: str | None = keyed_by_content(None)


@dataclass(frozen=True)
class Grown(Part):
    """`Part` with fields that were added later."""

    exact: bool = field(default=True, metadata=LATER)
    runs: int = field(default=1, metadata=LATER)


FROZEN = {1: "f642ae37a7", 2: "f5e2dbad46"}
"""Key version to the key of one identity in its form. Never edit an entry."""
PARTS = {1: "b199db2e47", 2: "bfa65491cd"}
"""Key version to the key of one plug-in's description. Never edit an entry."""


def test_the_key_of_a_known_identity_is_frozen() -> None:
    identity = {
        "key_version": KEY_VERSION,
        "steps": 25,
        "ratio": 0.5,
        "name": "grad_cam",
        "size": [112, 112],
        "none": None,
    }
    assert FROZEN.keys() == PARTS.keys() == {KEY_VERSION, *EARLIER}, (
        "a new KEY_VERSION needs a new entry in FROZEN and in PARTS"
    )
    assert key(identity) == FROZEN[KEY_VERSION], (
        "The key of an unchanged identity changed: every stored run would be taken for another one. "
        "Do NOT update the expected "
        "value. Instead raise identity.KEY_VERSION and add an entry to FROZEN."
    )


@pytest.mark.parametrize("version", PARTS)
def test_the_description_of_a_plug_in_is_frozen_in_every_key_version(
    version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Part, "__module__", "vidattr.methods.part")
    assert key(describe(Part(), version)) == PARTS[version], (
        "What a plug-in's description holds changed: every stored run would be taken for another one. "
        "Do NOT update the "
        "expected value. Instead raise identity.KEY_VERSION, keep the old form for the versions in identity.EARLIER, "
        "and add "
        "an entry to PARTS."
    )


@pytest.mark.parametrize(
    "module", ["vidattr.methods.part", "vidattr.methods.cam.part", "vidattr.methods.other.deeper.part"]
)
def test_a_module_that_moves_changes_no_key(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Part, "__module__", module)
    assert {version: key(describe(Part(), version)) for version in PARTS} == PARTS


def test_a_module_that_is_renamed_changes_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Part, "__module__", "vidattr.methods.cam.another_name")
    assert key(describe(Part())) == PARTS[KEY_VERSION]


def test_no_two_plug_ins_of_a_role_have_one_class_name() -> None:
    for role in ("dataset", "model", "method", "metric"):
        names = [choice(role, path.stem)["_target_"] for path in (config_dir() / role).glob("*.yaml")]
        classes = {str(name) for name in names}
        assert len({name.rpartition(".")[2] for name in classes}) == len(classes), role


def test_folders_and_subsets_stay_out_and_versions_and_nested_fields_go_in() -> None:
    found = describe(Part(root="/data/here"))
    assert set(found.pop("code")) == {"sha256"}  # of this file: `Part` is no class of the package
    assert found == {
        "class": "Part",
        "version": 3,
        "steps": 25,
        "colour": "red",
        "inner": {"ratio": 0.5},
        "names": ["a", "b"],
        "weights": None,
    }
    assert key(describe(Part(root="/elsewhere"))) == key(describe(Part(root="/data/here")))
    assert key(describe(Part(inner=Inner(0.25)))) != key(describe(Part()))


def test_a_file_enters_by_its_content_and_never_by_its_path(tmp_path: Path) -> None:
    one, same, other = (tmp_path / name for name in ("one.pth", "same.pth", "other.pth"))
    one.write_bytes(b"weights")
    same.write_bytes(b"weights")
    other.write_bytes(b"other weights")
    keys = [key(describe(Part(weights=str(path)))) for path in (one, same, other)]
    assert keys[0] == keys[1] != keys[2]
    one.write_bytes(b"changed, same path")
    assert key(describe(Part(weights=str(one)))) != keys[0]


def test_the_size_a_network_looks_at_is_part_of_its_identity() -> None:
    @dataclass(frozen=True)
    class Model:
        version: ClassVar[int] = 1
        input: Preprocessing = field(default_factory=Preprocessing)

    assert key(describe(Model())) != key(describe(Model(input=replace(Preprocessing(), size=[224, 224]))))


def test_a_difference_names_the_leaf_and_both_values() -> None:
    ours = {"method": {"score": "logit", "steps": 25}, "seed": 0}
    theirs = {"method": {"score": "prob", "steps": 25}, "seed": 0, "extra": 1}
    assert difference(ours, theirs) == ["extra: None now, 1 stored", "method.score: 'logit' now, 'prob' stored"]


@pytest.mark.parametrize("label", [None, "mine"])
def test_a_run_of_key_version_1_is_gone_on_with_judged_and_tabulated_where_it_lies(
    vidattr: Command, tmp_path: Path, label: str | None
) -> None:
    overrides = ("method=center", "limit=2", *([f"save_label={label}"] if label else []))
    assert vidattr("run", *overrides, "render.gif=false", "render.mp4=false", "--quiet").code == 0
    (experiment,) = experiments(overrides)
    earlier = run_identity(experiment, 1)
    assert earlier["key_version"] == 1
    assert [earlier[role]["class"] for role in ("dataset", "model", "method")] == [
        "vidattr.datasets.synthetic.Synthetic",
        "vidattr.models.tiny_r2plus1d.TinyR2Plus1D",
        "vidattr.methods.center.Center",
    ]
    (record,) = (tmp_path / "visual_res/center").glob("*/*/run.json")
    record.write_text(json.dumps({**json.loads(record.read_text()), "identity": earlier}))
    folder = record.parent
    if label is None:
        folder = folder.rename(folder.with_name(f"synthetic-{key(earlier)}"))
    again = vidattr("run", *overrides, "render.gif=false", "render.mp4=false", "--quiet")
    assert again.code == 0, again.err
    assert "0 written" in again.out
    assert "2 there before" in again.out
    assert vidattr("evaluate", *overrides, "metric=s_pt", "--quiet").code == 0
    assert [path.parent.name for path in (tmp_path / "visual_res/center").glob("*/*/run.json")] == [folder.name]
    assert list(folder.glob("scores/s_pt-*.csv")) == [
        folder / f"scores/s_pt-{key(metric_key_of_version_1(overrides))}.csv"
    ]


def metric_key_of_version_1(overrides: tuple[str, ...]) -> dict[str, object]:
    (experiment,) = experiments([*overrides, "metric=s_pt"], primary="evaluate")
    identity = scores_identity(experiment, 1)
    assert identity["class"] == "vidattr.metrics.s_pt.SpatialPointing"
    return identity


def test_a_field_that_was_added_later_changes_no_key_until_it_is_set() -> None:
    before = {name: value for name, value in describe(Part()).items() if name != "class"}

    def own(part: Grown) -> dict[str, object]:
        return {name: value for name, value in describe(part).items() if name != "class"}

    assert own(Grown()) == before
    assert own(Grown(exact=False)) == before | {"exact": False}
    assert own(Grown(runs=3)) == before | {"runs": 3}


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("integrated_gradients", {"completeness"}),
        ("step", {"mask_steps", "mask_steps_from"}),
        ("ep_frame", {"mask_steps"}),
    ],
)
def test_runs_stored_before_an_option_was_added_are_found(method: str, fields: set[str]) -> None:
    assert fields.isdisjoint(describe(load_method(method)))
    changed = load_method(method, completeness=False) if "completeness" in fields else load_method(method, mask_steps=2)
    assert not fields.isdisjoint(describe(changed))
