"""What every choice in `configs/dataset` must keep; a new dataset only adds to `MAKERS` how a small copy is made."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

import test_epic
from conftest import ROOT
from vidattr.config.building import build
from vidattr.config.identity import describe
from vidattr.datasets.shared.files import safe
from vidattr.errors import ConfigError
from vidattr.protocols import Dataset
from vidattr.run.compose import choice
from vidattr.types import Clip
from vidattr.video.decode import read
from vidattr.video.preprocessing import Preprocessing

NAMES = [path.stem for path in sorted((ROOT / "configs" / "dataset").glob("*.yaml"))]
DATA = ROOT / "test_data"
SMALL = Preprocessing(frames=4, size=[32, 32])

Maker = Callable[[Path], dict[str, Any]]


def ucf(folder: Path) -> dict[str, Any]:
    shutil.copytree(DATA / "ucf101_24", folder, dirs_exist_ok=True)
    return {"root": str(folder)}


def kinetics(folder: Path) -> dict[str, Any]:
    shutil.copytree(DATA / "kinetics400", folder, dirs_exist_ok=True)
    return {"root": str(folder), "annotations": str(folder / "annotations" / "kinetics-400_val.csv")}


def own_clips(folder: Path) -> dict[str, Any]:
    shutil.copytree(DATA / "kinetics400" / "videos", folder, dirs_exist_ok=True)
    return {"root": str(folder)}


def csv_list(folder: Path) -> dict[str, Any]:
    shutil.copytree(DATA / "ucf101_24" / "UCF-101" / "Biking", folder / "videos")
    (folder / "clips.csv").write_text(
        "path,label,start,end,boxes\n"
        'videos/v_Biking_g01_c01.avi,Biking,,,"1-10:5,6,100.5,120;3:0,0,320,240"\n'
        "videos/v_Biking_g01_c02.avi,Biking,0.2,0.8,\n"
    )
    return {"file": str(folder / "clips.csv")}


def epic(folder: Path) -> dict[str, Any]:
    test_epic.write_frames(folder / "rgb/train/P01/P01_01", range(1, test_epic.FRAMES + 1))
    test_epic.annotate(folder / "annotations")
    return {"root": str(folder), "annotations": str(folder / "annotations"), "split": "all"}


def joined(folder: Path) -> dict[str, Any]:
    ucf(folder)
    kinetics(folder)
    return {"of": {"root": str(folder)}}


# By the name of the module, so that all variants of a class are made alike.
MAKERS: dict[str, Maker] = {
    "clips": own_clips,
    "csv_list": csv_list,
    "epic_action": epic,
    "epic_object": epic,
    "kinetics": kinetics,
    "planted": lambda folder: {"clips": 8},
    "spliced": joined,
    "synthetic": lambda folder: {"clips": 6},
    "ucf101": ucf,
    "ucf101_24": ucf,
}
each = pytest.mark.parametrize("name", NAMES)


def load(name: str, folder: Path, **fields: Any) -> Any:
    """Builds the dataset of a config, with its paths below a folder."""
    node = OmegaConf.merge(choice("dataset", name), fields)
    whole = OmegaConf.create({"dataset": node, "paths": {"data": str(folder)}})
    return build(OmegaConf.to_container(whole.dataset, resolve=True), f"dataset={name}")  # type: ignore[arg-type]


def made(name: str, folder: Path) -> tuple[Dataset, dict[str, Any]]:
    """Makes a small copy of a dataset in a folder; returns the dataset and the fields that name the copy."""
    module = type(load(name, folder)).__module__.rpartition(".")[2]
    if module not in MAKERS:
        pytest.fail(f"add to MAKERS in {Path(__file__).name} how a small copy of {module} is made")
    folder.mkdir(parents=True, exist_ok=True)
    fields = MAKERS[module](folder)
    return load(name, folder, **fields), fields


@each
def test_yaml_lists_every_field_and_says_what_it_is(name: str, tmp_path: Path) -> None:
    text = (ROOT / "configs" / "dataset" / f"{name}.yaml").read_text().splitlines()
    assert text[0].startswith("# ")
    assert text[1].startswith(("# Paper: ", "# Source: "))
    assert isinstance(type(load(name, tmp_path)).version, int)


@each
def test_ids_are_sorted_unique_and_safe(name: str, tmp_path: Path) -> None:
    index = made(name, tmp_path)[0].index()
    ids = [clip.id for clip in index.clips]
    assert ids
    assert ids == sorted(set(ids))
    assert ids == [safe(one) for one in ids]
    for (
        problem
    ) in index.problems:  # of what the copy holds on purpose: each says which clip, what is wrong and what to do
        assert problem.clip
        assert problem.message
        assert problem.remedy


@each
def test_two_calls_give_the_same_index(name: str, tmp_path: Path) -> None:
    dataset, fields = made(name, tmp_path)
    again = load(name, tmp_path, **fields)
    assert dataset == again
    assert dataset.index() == again.index()


@each
def test_every_clip_reads_and_its_boxes_lie_inside_its_frames(name: str, tmp_path: Path) -> None:
    for clip in list(made(name, tmp_path)[0].index().clips)[:4]:
        sample = read(clip, SMALL)
        assert sample.pixels.shape == (4, 32, 32, 3)
        check_boxes(clip)
        for boxes in sample.boxes:
            for x0, y0, x1, y1 in boxes:
                assert 0 <= x0 < x1 <= 32
                assert 0 <= y0 < y1 <= 32
        first, last = clip.span or (1, max(sample.numbers))
        assert 1 <= first <= min(sample.numbers)
        assert max(sample.numbers) <= last
        if clip.segment is not None:
            assert 1 <= clip.segment[0] <= clip.segment[1]
        assert clip.video


def check_boxes(clip: Clip) -> None:
    width, height = clip.box_size or (10**4, 10**4)
    for number, boxes in clip.boxes.items():
        assert number >= 1
        for x0, y0, x1, y1 in boxes:
            assert 0 <= x0 < x1 <= width
            assert 0 <= y0 < y1 <= height


@each
def test_the_key_does_not_hold_where_the_data_lies(name: str, tmp_path: Path) -> None:
    one, other = (describe(made(name, tmp_path / folder)[0]) for folder in ("one", "other"))
    assert one == other
    assert str(tmp_path) not in str(one)


@each
def test_a_path_that_names_nothing_says_which_option_to_set(name: str, tmp_path: Path) -> None:
    dataset, fields = made(name, tmp_path)
    paths = [field for field, value in fields.items() if isinstance(value, str) and os.path.exists(value)]
    assert paths or module_of(dataset) in ("planted", "spliced", "synthetic")
    for field in paths:
        with pytest.raises(ConfigError) as caught:
            load(name, tmp_path, **{**fields, field: str(tmp_path / "nowhere")}).index()
        assert "nowhere" in caught.value.found
        assert caught.value.expected
        assert f"dataset.{field}=" in (caught.value.remedy or "")


def module_of(dataset: Dataset) -> str:
    return type(dataset).__module__.rpartition(".")[2]


@each
def test_an_unknown_class_lists_the_known_ones(name: str, tmp_path: Path) -> None:
    dataset, fields = made(name, tmp_path)
    if "classes" not in {field.name for field in dataclasses.fields(dataset)}:  # type: ignore[arg-type]
        assert module_of(dataset) in ("planted", "spliced", "synthetic")
        return
    label = dataset.index().clips[0].label
    assert {clip.label for clip in load(name, tmp_path, **{**fields, "classes": [label]}).index().clips} == {label}
    with pytest.raises(ConfigError, match="unknown class 'sleeping'") as caught:
        load(name, tmp_path, **{**fields, "classes": ["sleeping"]}).index()
    assert label in str(caught.value.expected)


@each
def test_a_source_that_is_a_link_to_nothing_is_a_problem_of_its_clip(name: str, tmp_path: Path) -> None:
    dataset, _ = made(name, tmp_path)
    before = dataset.index()
    sources = {clip.source for clip in before.clips if isinstance(clip.source, Path)}
    if len(sources) < 2:  # made by code, or all clips cut from one video
        assert module_of(dataset) in ("planted", "spliced", "synthetic", "epic_action", "epic_object")
        return
    gone = min(sources)
    gone.rename(tmp_path / "elsewhere.bin")
    gone.symlink_to(tmp_path / "nowhere")
    after = dataset.index()
    lost = {clip.id for clip in before.clips if clip.source == gone}
    assert {clip.id for clip in after.clips} == {clip.id for clip in before.clips} - lost
    told = [problem for problem in after.problems if problem not in before.problems]
    assert len(told) >= len(lost)
    for problem in told:
        assert gone.name in problem.message or problem.clip in lost
        assert problem.remedy
