from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn
from torchvision.models.video import S3D_Weights

from vidattr.batches import class_index
from vidattr.errors import ConfigError
from vidattr.models._classes import class_names, shipped
from vidattr.models._network import Network
from vidattr.view import View

SIZES = {"kinetics400": 400, "kinetics600": 600, "kinetics700": 700, "ucf101": 101, "ucf50_five": 5}


@pytest.mark.parametrize(("dataset", "size"), SIZES.items())
def test_every_list_names_each_class_once(dataset: str, size: int) -> None:
    names = shipped(dataset)
    assert len(names) == len(set(names)) == size
    assert all(name and name == name.strip() for name in names)


def test_the_order_is_that_of_the_networks_outputs() -> None:
    assert shipped("kinetics400") == tuple(S3D_Weights.KINETICS400_V1.meta["categories"])
    for dataset in ("kinetics600", "kinetics700"):
        assert list(shipped(dataset)) == sorted(shipped(dataset))
    assert shipped("kinetics600")[392 - 1] == "punching person (boxing)"
    assert shipped("kinetics700")[20 - 1] == "backflip (human)"
    ucf = shipped("ucf101")
    # classInd.txt counts from 1, and neither as Python sorts: 36 is HammerThrow, 48 JumpRope.
    assert (ucf[0], ucf[35 - 1], ucf[36 - 1], ucf[47 - 1], ucf[48 - 1], ucf[100]) == (
        *("ApplyEyeMakeup", "Hammering", "HammerThrow", "JumpingJack", "JumpRope", "YoYo"),
    )


@pytest.mark.real
def test_the_lists_are_those_of_the_real_annotations(real: Path) -> None:
    for dataset, name in (("kinetics400", "k400"), ("kinetics700", "k700")):
        text = (real / "kinetics400" / "annotations" / f"label_map_{name}.txt").read_text("utf-8")
        assert shipped(dataset) == tuple(text.splitlines())
    lines = (real / "ucf101_24" / "annotations" / "testlist01.txt").read_text("utf-8").splitlines()
    assert {line.partition("/")[0] for line in lines} <= set(shipped("ucf101"))
    epic = real / "epic55" / "annotations"
    assert class_names(str(epic / "EPIC_verb_classes.csv"), 125)[:3] == ("take", "put", "open")
    assert class_names(str(epic / "EPIC_noun_classes.csv"), 352)[:3] == ("Nothing", "pan", "pan:dust")


def test_names_come_from_a_file_or_list_then_the_checkpoint_and_never_from_the_size(tmp_path: Path) -> None:
    own = tuple(f"own {k}" for k in range(101))
    assert class_names(None, 2, ("a", "b")) == ("a", "b")
    for size in SIZES.values():
        assert class_names(None, size) == tuple(f"class {k}" for k in range(size))
    assert class_names("ucf101", 101)[0] == "ApplyEyeMakeup"
    assert class_names("ucf101", 101, own)[0] == "ApplyEyeMakeup"
    # Of the released file; one that was trained further knows its own, or nobody does.
    assert class_names("released:ucf101", 101)[0] == "ApplyEyeMakeup"
    assert class_names("released:ucf101", 101, own) == class_names("released:kinetics400", 101, own) == own
    assert class_names("released:kinetics400", 101)[100] == "class 100"
    (tmp_path / "names.txt").write_text("a\nb\n", "utf-8")
    assert class_names(str(tmp_path / "names.txt"), 2, ("x", "y")) == ("a", "b")
    with pytest.raises(ConfigError, match=r"model\.classes=kinetics400 names 400 classes\n.*600 names"):
        class_names("kinetics400", 600)
    with pytest.raises(ConfigError, match="the checkpoint names 1 classes"):
        class_names(None, 2, ("a",))


def test_names_are_read_from_text_and_from_the_tables_of_epic_kitchens(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("ant\n\n bee \n", encoding="utf-8")
    assert class_names(str(tmp_path / "names.txt"), 2) == ("ant", "bee")
    (tmp_path / "EPIC_noun_classes.csv").write_text(
        "noun_id,class_key,nouns\n0,tap,\"['tap', 'nozzle']\"\n1,pan:dust,['dustpan']\n", "utf-8"
    )
    assert class_names(str(tmp_path / "EPIC_noun_classes.csv"), 2) == ("tap", "pan:dust")
    (tmp_path / "EPIC_100_verb_classes.csv").write_text("id,key,instances,category\n0,take,['take'],retrieve\n", "utf-8")
    assert class_names(str(tmp_path / "EPIC_100_verb_classes.csv"), 1) == ("take",)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("bad.csv", "noun_id,noun\n0,tap\n", r"has the columns noun_id, noun\n.*class_key, key"),
        ("gap.csv", "noun_id,class_key\n0,tap\n2,pan\n", r"numbers its classes otherwise: 2 of them, from 0 to 2, and 1 is not"),
        ("empty.csv", "", r"has the columns \(none\)"),
        ("few.txt", "ant\n", r"names 1 classes\n.*2 names"),
    ],
)
def test_files_that_do_not_name_the_outputs_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        class_names(str(tmp_path / name), 2)


def test_what_is_no_list_and_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.classes=kinetics4000: no such list or file\n.*kinetics400"):
        class_names("kinetics4000", 2)
    with pytest.raises(ConfigError, match=r"unknown list of classes 'kinetic400'(.|\n)*did you mean kinetics400"):
        shipped("kinetic400")
    (tmp_path / "names.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is no text"):
        class_names(str(tmp_path / "names.txt"), 2)


@pytest.mark.parametrize(
    ("dataset", "name", "index"),
    [
        ("kinetics400", "playing guitar", 232),
        ("kinetics400", "Playing_Guitar", 232),
        ("kinetics400", "#232", 232),
        ("ucf101", "hammer throw", 35),
    ],
)
def test_a_class_is_selected_by_its_name_or_its_index(dataset: str, name: str, index: int) -> None:
    assert class_index(Network(nn.Identity(), View(), shipped(dataset)), name) == index


def test_a_name_that_is_nearly_right_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean playing guitar"):
        class_index(Network(nn.Identity(), View(), shipped("kinetics400")), "playing gitar")
