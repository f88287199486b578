from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models.video import S3D_Weights, r3d_18

from vidattr.errors import ConfigError
from vidattr.models.network.network import VideoModel
from vidattr.models.resnet3d import Hara3DResNet
from vidattr.models.torchvision_resnet import Architecture, TorchvisionResNet
from vidattr.models.weights.class_names import class_names, shipped
from vidattr.run.compose import choice
from vidattr.run.targets import class_index
from vidattr.video.preprocessing import Preprocessing

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
    (tmp_path / "EPIC_100_verb_classes.csv").write_text(
        "id,key,instances,category\n0,take,['take'],retrieve\n", "utf-8"
    )
    assert class_names(str(tmp_path / "EPIC_100_verb_classes.csv"), 1) == ("take",)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("bad.csv", "noun_id,noun\n0,tap\n", r"has the columns noun_id, noun\n.*class_key, key"),
        (
            "gap.csv",
            "noun_id,class_key\n0,tap\n2,pan\n",
            r"does not number its classes one by one: 2 of them, from 0 to 2, and 1 is missing",
        ),
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
    assert class_index(VideoModel(nn.Identity(), Preprocessing(), shipped(dataset)), name) == index


def test_a_name_that_is_nearly_right_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean playing guitar"):
        class_index(VideoModel(nn.Identity(), Preprocessing(), shipped("kinetics400")), "playing gitar")


FILES = {
    "classInd.txt": "1 Biking\n2 Diving\n3 Golf Swing\n",
    "from_zero.txt": "2 Golf Swing\n0 Biking\n1 Diving\n",
    "behind.txt": "Biking\t0\nDiving\t1\nGolf Swing\t2\n",
    "plain.txt": "\ufeffBiking\nDiving\nGolf Swing\n",
    "list.json": '["Biking", "Diving", "Golf Swing"]',
    "names.json": '{"\\"Golf Swing\\"": 2, "Biking": 0, "Diving": 1}',
    "indices.json": '{"0": "Biking", "2": "Golf Swing", "1": "Diving"}',
    "config.json": '{"model_type": "x", "id2label": {"0": "Biking", "1": "Diving", "2": "Golf Swing"}}',
    "annotations.json": '{"labels": ["Biking", "Diving", "Golf Swing"], '
    '"database": {"a": {"annotations": {"label": "Diving"}}}}',
    "generic.csv": "id,name\n1,Diving\n0,Biking\n2,Golf Swing\n",
    "bare.csv": '0,Biking\n1,Diving\n2,"Golf Swing"\n',
    "EPIC_verb_classes.csv": "verb_id,class_key,verbs\n0,Biking,[]\n1,Diving,[]\n2,Golf Swing,[]\n",
    # Kinetics' training clips, as 3D-ResNets number their labels: in the order of first appearance, not of the
    # alphabet.
    "train.csv": "label,youtube_id,time_start\nBiking,a,1\nDiving,b,2\nBiking,c,3\nGolf Swing,d,4\n",
}


@pytest.mark.parametrize("name", FILES)
def test_one_reader_takes_every_kind_of_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(FILES[name], "utf-8")
    assert class_names(str(tmp_path / name), 3, ("x", "y", "z")) == ("Biking", "Diving", "Golf Swing")


def test_labels_of_a_training_table_are_numbered_by_first_appearance(tmp_path: Path) -> None:
    labels = ["slicing onion", "jetskiing", "building cabinet", "eating hotdog"]
    rows = [f'"{label}",id{k},{k},{k + 10},train' for k, label in enumerate(labels + labels[::-1])]
    (tmp_path / "train.csv").write_text("\n".join(["label,youtube_id,time_start,time_end,split", *rows]), "utf-8")
    model = Hara3DResNet(depth=18, weights="random", classes=None)
    assert model.load().classes[:2] == ("class 0", "class 1")  # 700 outputs, of unknown order
    assert class_names(str(tmp_path / "train.csv"), 4) == tuple(labels)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("gaps.txt", "2 Biking\n7 Diving\n", "does not number its classes one by one"),
        ("twice.txt", "1 Biking\n1 Diving\n", "does not number its classes one by one"),
        ("deep.json", "[" * 100_000, "cannot be read"),
        ("words.json", "{no json", "cannot be read"),
        ("numbers.json", "[1, 2]", "holds neither names"),
        ("number.json", "3", "holds neither names"),
        ("true.json", '{"a": true, "b": false}', "holds neither names"),
        ("field.csv", f"id,name\n0,{'x' * 200_000}\n", "cannot be read"),
        ("short.csv", "id,name\n0\n", "row of one column"),
        ("word.csv", "id,name\nzero,a\n", "where the index"),
        ("negative.csv", "id,name\n-1,a\n", "where the index"),
        ("blank.csv", "id,name\n0,\n1,b\n", "empty name"),
        ("empty.txt", "", "names no class"),
        ("nul.txt", "a\0\nb\n", "empty name"),
    ],
)
def test_damaged_files_of_names_are_the_users_error(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        class_names(str(tmp_path / name), 2)
    assert name in str(caught.value)
    assert len(str(caught.value)) < 1500


def test_every_model_says_names_and_kind_of_its_outputs() -> None:
    for path in sorted((Path(__file__).parents[1] / "configs" / "model").glob("*.yaml")):
        config = choice("model", path.stem)
        assert "classes" in config, path
        assert config.output == "softmax", path


def test_a_list_names_the_outputs_of_any_network(tmp_path: Path) -> None:
    torch.save(r3d_18(num_classes=101).state_dict(), tmp_path / "w.pth")
    weights = str(tmp_path / "w.pth")
    assert TorchvisionResNet(Architecture.r3d_18, weights=weights).load().classes[0] == "class 0"
    assert (
        TorchvisionResNet(Architecture.r3d_18, weights=weights, classes="ucf101").load().classes[0] == "ApplyEyeMakeup"
    )
    with pytest.raises(ConfigError, match=r"kinetics400 names 400 classes\n.*101 names(.|\n)*model\.classes=null"):
        TorchvisionResNet(Architecture.r3d_18, weights=weights, classes="kinetics400").load()
