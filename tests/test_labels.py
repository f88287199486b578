"""Numeric names, two spellings of one name, and indices: one rule for networks, datasets and the Python interface."""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import vidattr
from vidattr.datasets.clips import Clips
from vidattr.datasets.kinetics import Kinetics
from vidattr.datasets.ucf101 import UCF101
from vidattr.errors import ClipError, ConfigError, unknown
from vidattr.labels import plain
from vidattr.models.network.network import VideoModel
from vidattr.run.targets import class_index, target_of
from vidattr.types import Clip
from vidattr.video.preprocessing import Preprocessing

NUMERIC = ("0", "1", "10", "11", "2", "3")


def network(*classes: str) -> VideoModel:
    return VideoModel(nn.Identity(), Preprocessing(), classes)


def clip(label: str) -> Clip:
    return Clip(id="clip", source=Path("clip.mp4"), label=label)


@pytest.mark.parametrize("name", NUMERIC)
def test_numeric_names_win_over_indices(name: str) -> None:
    numeric = network(*NUMERIC)
    assert class_index(numeric, name) == NUMERIC.index(name)
    assert target_of(numeric, "label", clip(name), [0]) == NUMERIC.index(name)
    assert target_of(numeric, name, clip(""), [0]) == NUMERIC.index(name)


def test_an_index_is_written_with_a_number_sign_and_is_a_number_in_python() -> None:
    numeric = network(*NUMERIC)
    assert (class_index(numeric, "#2"), class_index(numeric, 2)) == (2, 2)
    assert class_index(network("#1", "a", "b"), "#1") == 0  # a name, as written
    assert class_index(network("#1", "a", "b"), 1) == 1
    for asked in ("#6", "#99", 6):
        with pytest.raises(ConfigError, match=r"there is no class #\d+\n.*#0 … #5"):
            class_index(numeric, asked)
    for asked in ("4", "07"):
        with pytest.raises(ConfigError, match=rf"unknown class '{asked}'\n.*\n.*written '#{asked}'"):
            class_index(numeric, asked)
    with pytest.raises(ConfigError, match="no class #-1"):
        class_index(numeric, -1)


def test_a_label_is_never_an_index() -> None:
    letters = network("a", "b", "c")
    for label in ("2", "#2"):
        with pytest.raises(ClipError, match=r"none of the network's 3 classes\n.*a, b, c"):
            target_of(letters, "label", clip(label), [0])
    with pytest.raises(ClipError, match="it has no label"):
        target_of(letters, "label", clip(""), [0])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("riding a bike", "Riding_A-Bike"),
        ("petting animal (not cat)", "petting_animal_not_cat"),
        ("massaging person's head", "massaging person_s head"),
        ("Straße", "STRASSE"),
        (unicodedata.normalize("NFC", "éclair"), unicodedata.normalize("NFD", "éclair")),
    ],
)
def test_two_spellings_of_one_name_are_one_everywhere_and_never_two_classes(
    tmp_path: Path, one: str, other: str
) -> None:
    assert plain(one) == plain(other)
    assert class_index(network("else", one), other) == 1
    assert target_of(network("else", one), "label", clip(other), [0]) == 1
    with pytest.raises(
        ConfigError, match=r"the network has the names .*#0.* and .*#1.*one name(.|\n)*model\.classes=FILE"
    ):
        network(one, other)
    for folder in (one, other):
        (tmp_path / folder / "clip").mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "clip" / "1.png").touch()
    if len(list(tmp_path.iterdir())) == 2:  # a file system may hold them for one, too
        with pytest.raises(ConfigError, match=r"this dataset has the names(.|\n)*rename one"):
            Clips(root=str(tmp_path)).index()
    (tmp_path / "train.csv").write_text(f'label,youtube_id,time_start\n"{one}",a,1\n"{other}",b,1\n', "utf-8")
    with pytest.raises(ConfigError, match=r"this dataset has the names"):
        Kinetics(root=str(tmp_path), annotations=str(tmp_path / "train.csv")).index()


@pytest.mark.parametrize("pair", [("C", "C++"), ("C", "C#"), ("a<b", "a>b"), ("की", "के"), ("-", "+")])
def test_names_that_differ_in_a_symbol_or_an_accent_are_two(pair: tuple[str, str]) -> None:
    both = network(*pair)
    assert [class_index(both, name) for name in pair] == [0, 1]


def test_one_class_of_ucf101_is_spelled_in_two_ways_and_is_one(tmp_path: Path) -> None:
    for folder, name in (("HandstandPushups", "v_HandStandPushups_g01_c01"), (".", "v_HandStandPushups_g01_c02")):
        (tmp_path / folder / name).mkdir(parents=True)
        (tmp_path / folder / name / "1.png").touch()
    for classes in ([], ["HandStandPushups"], ["handstand pushups"]):
        found = UCF101(root=str(tmp_path), classes=classes).index()
        assert [one.label for one in found.clips] == ["HandStandPushups"] * 2


def test_classes_of_a_dataset_are_chosen_by_name_never_by_index(tmp_path: Path) -> None:
    for folder in NUMERIC:
        (tmp_path / folder / f"clip{folder}").mkdir(parents=True)
        (tmp_path / folder / f"clip{folder}" / "1.png").touch()
    assert [one.label for one in Clips(root=str(tmp_path), classes=["2"]).index().clips] == ["2"]
    for asked in ("4", "#2"):
        with pytest.raises(ConfigError, match=f"unknown class '{asked}'"):
            Clips(root=str(tmp_path), classes=[asked]).index()


class First(nn.Module):
    def forward(self, frames: Tensor) -> Tensor:
        return frames[:, 0, 0, 0, :6]


def test_the_python_interface_takes_names_indices_and_tensors_by_the_same_rule() -> None:
    model = VideoModel(First(), Preprocessing(frames=2, size=[8, 8]), NUMERIC)
    method, frames = vidattr.load_method("gradient"), torch.ones(1, 3, 2, 8, 8)
    for target, index in (("10", 2), ("#1", 1), (3, 3), ([5], 5), (torch.tensor([4]), 4)):
        found = vidattr.explain(model, method, frames, target).map
        assert found[0, 0, 0].nonzero().flatten().tolist() == [index], target
    for target in ("7", 6, -1, torch.tensor([6]), torch.tensor([-1])):
        with pytest.raises(ConfigError):
            vidattr.explain(model, method, frames, target)


def test_an_unknown_name_among_thousands_is_answered_with_the_nearest_in_a_few_lines() -> None:
    names = [f"class of things number {k}" for k in range(5000)]
    for asked in ("class of things number 47x", "x" * 100_000, "nothing like it"):
        text = str(unknown("class", asked, names))
        assert len(text) < 1500
        assert "one of 5000, such as class of things number" in text
    assert "class of things number 47" in str(unknown("class", "class of things number 47x", names))
    assert len(str(unknown("class", "a", ["b" * 1_000_000]))) < 1000
    assert "one of a, b, c" in str(unknown("class", "d", ["c", "b", "a"]))


def test_names_are_compared_without_torch() -> None:
    code = "import sys, vidattr.labels; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
