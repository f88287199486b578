from __future__ import annotations

import os
import pickle
import shutil
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf

from vidattr.datasets.clips import Clips
from vidattr.datasets.kinetics import Kinetics
from vidattr.datasets.shared import tubes as _tubes
from vidattr.datasets.shared.files import safe
from vidattr.datasets.ucf101 import UCF101
from vidattr.datasets.ucf101_24 import CLASSES, UCF24
from vidattr.errors import ClipError, ConfigError
from vidattr.run.compose import choice
from vidattr.types import Index
from vidattr.video.decode import read
from vidattr.video.preprocessing import Geometry, Preprocessing, Sampling

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "test_data"
UCF = DATA / "ucf101_24"
KINETICS = DATA / "kinetics400"
FILES = ("clips", "kinetics400", "kinetics600", "kinetics700", "ucf101", "ucf101_24")


def made(name: str, **fields: Any) -> Any:
    """The dataset of a YAML file, with some fields overridden."""
    node = choice("dataset", name)
    whole = OmegaConf.create({"dataset": node, "paths": {"data": "nowhere"}})
    whole.dataset.update(fields)
    cls = get_class(whole.dataset.pop("_target_"))
    assert list(whole.dataset) == [field.name for field in fields_of(cls)]
    return OmegaConf.to_object(
        OmegaConf.merge(OmegaConf.structured(cls), OmegaConf.to_container(whole.dataset, resolve=True))
    )


def labels(index: Index) -> dict[str, str]:
    return {clip.id: clip.label for clip in index.clips}


def frames(folder: Path, *numbers: int) -> Path:
    folder.mkdir(parents=True)
    for number in numbers:
        cv2.imwrite(str(folder / f"{number:06d}.png"), np.full((8, 8, 3), number, np.uint8))
    return folder


# All of them


@pytest.mark.parametrize("name", FILES)
def test_a_missing_root_says_what_was_looked_for(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"no such folder: dataset\.root='nowhere/{name}'") as caught:
        made(name).index()
    assert caught.value.expected
    assert caught.value.remedy == "dataset.root=FOLDER"


@pytest.mark.parametrize("name", FILES)
def test_an_empty_root_says_what_was_looked_for(name: str, tmp_path: Path) -> None:
    (tmp_path / "some class").mkdir()
    (tmp_path / "notes.txt").write_text("no video")
    with pytest.raises(ConfigError, match="no videos or folders of frames") as caught:
        made(name, root=str(tmp_path)).index()
    assert caught.value.remedy == "dataset.root=FOLDER"


@pytest.mark.parametrize(
    ("name", "root"), [("ucf101_24", UCF), ("ucf101", UCF), ("kinetics400", KINETICS), ("clips", KINETICS)]
)
def test_ids_are_unique_sorted_and_safe_and_every_clip_reads(name: str, root: Path) -> None:
    index = made(name, root=str(root)).index()
    assert index.problems == ()
    ids = [clip.id for clip in index.clips]
    assert ids == sorted(set(ids))
    assert ids == [safe(one) for one in ids]
    for clip in index.clips:
        assert read(clip, Preprocessing(frames=4, size=[32, 32])).pixels.std() > 1


@pytest.mark.parametrize(
    ("name", "root", "label"), [("ucf101_24", UCF, "Biking"), ("kinetics400", KINETICS, "playing guitar")]
)
def test_classes_are_chosen_by_name_whatever_the_spelling(name: str, root: Path, label: str) -> None:
    for spelling in (label, label.upper(), label.replace(" ", "_"), label.replace(" ", "")):
        index = made(name, root=str(root), classes=[spelling]).index()
        assert set(labels(index).values()) == {label}
    with pytest.raises(ConfigError, match="unknown class 'sleeping'"):
        made(name, root=str(root), classes=["sleeping"]).index()


def test_two_files_of_one_name_are_a_problem(tmp_path: Path) -> None:
    for suffix in (".avi", ".mp4"):
        shutil.copy(UCF / "UCF-101/Biking/v_Biking_g01_c01.avi", tmp_path / f"v_Biking_g01_c01{suffix}")
    index = UCF24(root=str(tmp_path)).index()
    assert labels(index) == {"v_Biking_g01_c01": "Biking"}
    assert [problem.clip for problem in index.problems] == ["v_Biking_g01_c01"]


def test_frames_beside_their_video_are_the_same_clip(tmp_path: Path) -> None:
    shutil.copytree(UCF / "UCF-101", tmp_path / "UCF-101")
    frames(tmp_path / "rgb-images/Biking/v_Biking_g01_c01", 1, 2)
    for source, folder in (("any", False), ("videos", False), ("frames", True)):
        index = made("ucf101_24", root=str(tmp_path), annotations="", source=source).index()
        assert index.problems == ()
        assert [clip.source.is_dir() for clip in index.clips if clip.id == "v_Biking_g01_c01"] == [folder]
        assert len(index.clips) == (1 if source == "frames" else 4)


# UCF101-24


@pytest.mark.parametrize("file", ["pyannot.pkl", "finalAnnots.mat"])
def test_ucf101_24_gives_boxes_where_the_tubes_are(file: str) -> None:
    clips = {clip.id: clip for clip in UCF24(str(UCF), annotations=str(UCF / "annotations" / file)).index().clips}
    assert list(clips) == [f"v_{name}" for name in (
        "Biking_g01_c01", "Biking_g01_c02", "CliffDiving_g01_c01", "CliffDiving_g02_c01", "CliffDiving_g03_c01",
    )]  # fmt: skip
    two = clips["v_Biking_g01_c02"]
    assert two.video == "v_Biking_g01"
    assert two.box_size == (320, 240)
    assert two.segment == (5, 24)
    assert [len(two.boxes.get(n, ())) for n in (4, 5, 8, 9, 20, 21, 24, 25)] == [0, 1, 1, 2, 2, 1, 1, 0]
    assert clips["v_Biking_g01_c01"].segment is None  # the tube covers the whole video
    x0, y0, x1, y1 = clips["v_CliffDiving_g02_c01"].boxes[1][0]
    assert (x0, y0, x1, y1) == (228, 12, 300, 84)  # in the file's uint8, 229 + 72 is 45


def test_ucf101_24_boxes_sit_on_the_discs() -> None:
    colour = {"Biking": (230, 60, 50), "CliffDiving": (60, 200, 90)}
    seen = 0
    for clip in UCF24(str(UCF), annotations=str(UCF / "annotations/pyannot.pkl")).index().clips:
        found = read(clip, Preprocessing(frames=8, size=[120, 160], geometry=Geometry.letterbox))
        for pixels, boxes in zip(found.pixels, found.boxes, strict=True):
            near = np.abs(pixels.astype(int) - colour[clip.label]).max(2) < 60
            assert near.any() == bool(boxes)
            if boxes:
                rows, columns = np.nonzero(near)
                around = (
                    min(b[0] for b in boxes),
                    min(b[1] for b in boxes),
                    max(b[2] for b in boxes),
                    max(b[3] for b in boxes),
                )
                assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == pytest.approx(around, abs=2.5)
                seen += 1
    assert seen > 20


def test_ucf101_24_root_may_be_the_parent_or_the_folder_of_classes() -> None:
    both = UCF24(str(UCF)).index()
    assert len(both.clips) == 5
    assert all(not clip.boxes and clip.box_size is None for clip in both.clips)
    assert len(UCF24(str(UCF / "UCF-101")).index().clips) == 4
    assert len(UCF24(str(UCF / "rgb-images")).index().clips) == 1


def test_ucf101_24_leaves_other_classes_alone(tmp_path: Path) -> None:
    assert len(CLASSES) == len(set(CLASSES)) == 24
    assert list(CLASSES) == sorted(CLASSES)
    frames(tmp_path / "Biking/v_Biking_g01_c01", 1)
    frames(tmp_path / "ApplyLipstick/v_ApplyLipstick_g01_c01", 1)
    assert labels(UCF24(str(tmp_path)).index()) == {"v_Biking_g01_c01": "Biking"}
    assert len(UCF101(str(tmp_path)).index().clips) == 2


@pytest.mark.parametrize("cls", [UCF24, UCF101])
def test_a_split_names_what_is_missing(cls: Any, tmp_path: Path) -> None:
    index = cls(str(UCF), split=str(UCF / "annotations/testlist01.txt")).index()
    assert [clip.id for clip in index.clips] == ["v_Biking_g01_c01", "v_Biking_g01_c02", "v_CliffDiving_g02_c01"]
    assert index.problems == ()
    split = tmp_path / "trainlist01.txt"
    split.write_text(
        "Biking/v_Biking_g01_c02.avi 3\nBiking/v_Biking_g25_c07.avi 3\n\nSkiing2/v_Skiing2_g01_c01.avi 9\n"
    )
    index = cls(str(UCF), split=str(split)).index()
    assert [clip.id for clip in index.clips] == ["v_Biking_g01_c02"]
    assert [problem.clip for problem in index.problems] == ["v_Biking_g25_c07"]
    with pytest.raises(ConfigError, match="lists no clip of the classes"):
        cls(str(UCF), split=str(split), classes=["CliffDiving"]).index()
    with pytest.raises(ConfigError, match="no such split file"):
        cls(str(UCF), split="gone.txt").index()


def content() -> dict[str, Any]:
    tube = {
        "label": 2,
        "sf": 0,
        "ef": 2,
        "boxes": np.array([[200, 1, 100, 50], [201, 1, 100, 50]], np.uint8, order="F"),
    }
    return {"Biking/v_Biking_g01_c01": {"numf": np.uint8(24), "label": 2, "annotations": [tube]}}


@pytest.mark.parametrize(
    ("protocol", "core"), [(2, b"_core"), (3, b"_core"), (4, b"_core"), (5, b"_core"), (2, b"core"), (3, b"core")]
)
def test_annotations_pickled_by_any_numpy_are_read(protocol: int, core: bytes, tmp_path: Path) -> None:
    path = tmp_path / "pyannot.pkl"
    path.write_bytes(pickle.dumps(content(), protocol).replace(b"numpy._core", b"numpy." + core))
    found = _tubes.load(str(path))["Biking/v_Biking_g01_c01"]()
    assert found.boxes() == {1: ((199, 0, 299, 50),), 2: ((200, 0, 300, 50),)}
    assert found.segment() == (1, 2)


class Malicious:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> Any:
        return self.reduced


@pytest.mark.parametrize("function", [os.mkdir, open, eval, exec, getattr, __import__, np.load, os.system])
def test_a_pickle_with_code_is_refused_and_not_run(function: Any, tmp_path: Path) -> None:
    target = tmp_path / "made"
    arguments = {open: (str(target), "w"), os.mkdir: (str(target),), os.system: (f"mkdir {target}",)}.get(
        function, (f"open({str(target)!r}, 'w')",)
    )
    path = tmp_path / "pyannot.pkl"
    path.write_bytes(pickle.dumps({**content(), "x": Malicious(function, *arguments)}))
    with pytest.raises(ConfigError, match="it holds code") as caught:
        made("ucf101_24", root=str(UCF), annotations=str(path)).index()
    assert "dataset.annotations=" in caught.value.remedy
    assert not target.exists()


def test_arrays_of_objects_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "pyannot.pkl"
    path.write_bytes(pickle.dumps({"x": np.array([1, "a"], dtype=object)}))
    with pytest.raises(ConfigError, match="it holds an array of 'O8'"):
        _tubes.load(str(path))


@pytest.mark.parametrize(("name", "written"), [
    ("pyannot.pkl", b""), ("pyannot.pkl", b"\x80\x02]."), ("pyannot.pkl", b"garbage"),
    ("finalAnnots.mat", b"garbage" * 40),
])  # fmt: skip
def test_a_file_that_holds_no_annotations_is_named(name: str, written: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(written)
    with pytest.raises(ConfigError, match=f"cannot read .*{name}"):
        _tubes.load(str(tmp_path / name))
    with pytest.raises(ConfigError, match=r"no such file: dataset\.annotations=gone\.pkl"):
        _tubes.load("gone.pkl")


def test_an_unreadable_annotation_is_the_problem_of_its_clip(tmp_path: Path) -> None:
    broken: dict[str, Any] = content()
    broken["Biking/v_Biking_g01_c01"]["annotations"][0]["ef"] = 7
    broken["Biking/v_Biking_g01_c02"] = {"numf": 24, "label": 2}
    path = tmp_path / "pyannot.pkl"
    path.write_bytes(pickle.dumps(broken))
    index = UCF24(str(UCF), annotations=str(path)).index()
    assert [problem.clip for problem in index.problems] == ["v_Biking_g01_c01", "v_Biking_g01_c02"]
    assert len(index.clips) == 3


# Kinetics


def kinetics(root: Path, **fields: Any) -> Index:
    return Kinetics(str(root), annotations=str(KINETICS / "annotations/kinetics-400_val.csv"), **fields).index()


def test_kinetics_finds_videos_and_frames_by_folder_and_by_name() -> None:
    index = kinetics(KINETICS)
    assert labels(index) == {
        "drawn-disc1_000012_000022": "riding a bike",
        "drawn_disc0": "playing guitar",
        "drawn_disc2_5_10": "playing guitar",
    }
    assert [clip.video for clip in index.clips] == ["drawn-disc1", "drawn_disc0", "drawn_disc2"]


def test_kinetics_names_absent_clips_only_when_asked_to() -> None:
    assert kinetics(KINETICS).problems == ()
    assert [problem.clip for problem in kinetics(KINETICS, require_all=True).problems] == ["absent_clip_000003"]
    assert kinetics(KINETICS, require_all=True, classes=["playing guitar"]).problems == ()


def test_kinetics_reports_what_has_no_label(tmp_path: Path) -> None:
    frames(tmp_path / "drawn-disc1_12_22", 1)  # by the CSV file, wherever it lies
    frames(tmp_path / "playing_guitar/own", 1)  # by the folder
    frames(tmp_path / "riding a bike-own2_1_10", 1)  # by its name
    frames(tmp_path / "holiday/beach", 1)
    index = kinetics(tmp_path)
    assert labels(index) == {
        "drawn-disc1_12_22": "riding a bike",
        "own": "playing guitar",
        "own2_1_10": "riding a bike",
    }
    assert [problem.clip for problem in index.problems] == ["beach"]
    assert "unlabelled" in index.problems[0].message


def test_kinetics_tells_clips_of_one_video_by_their_start(tmp_path: Path) -> None:
    table = tmp_path / "val.csv"
    table.write_text("label,youtube_id,time_start,time_end,split\na,xyz,1,11,val\nb,xyz,20.0,30.0,val\n")
    for name in ("xyz_000001_000011", "xyz_000020_000030", "xyz"):
        frames(tmp_path / "videos" / name, 1)
    index = Kinetics(str(tmp_path), annotations=str(table)).index()
    assert labels(index) == {"xyz_000001_000011": "a", "xyz_000020_000030": "b"}
    assert [problem.clip for problem in index.problems] == ["xyz"]


@pytest.mark.parametrize(("text", "message"), [
    ("name,id\na,b\n", r"has no column 'label'; its columns are \['name', 'id'\]"),
    ("label,youtube_id,time_start\na,b\n", "line 2: ValueError a row that is too short"),
    ("label,youtube_id,time_start\na,b,soon\n", "line 2: ValueError"),
    ("label,youtube_id,time_start\n", "lists no clip"),
])  # fmt: skip
def test_kinetics_says_what_is_wrong_with_a_table(text: str, message: str, tmp_path: Path) -> None:
    table = tmp_path / "val.csv"
    table.write_text(text)
    with pytest.raises(ConfigError, match=message):
        Kinetics(str(KINETICS), annotations=str(table)).index()
    with pytest.raises(ConfigError, match="no such file"):
        Kinetics(str(KINETICS), annotations=str(tmp_path / "gone.csv")).index()


# Clips


def test_clips_are_labelled_by_folder_or_by_name(tmp_path: Path) -> None:
    shutil.copy(UCF / "UCF-101/Biking/v_Biking_g01_c01.avi", tmp_path / "ride.AVI")
    frames(tmp_path / "running/first-1", 1)
    frames(tmp_path / "jumping high-b", 1)
    (tmp_path / "notes.txt").write_text("")
    index = Clips(str(tmp_path)).index()
    assert labels(index) == {"running-first-1": "running", "jumping_high-b": "jumping high", "ride": ""}
    assert index.problems == ()
    assert [clip.id for clip in Clips(str(tmp_path / "running")).index().clips] == ["first-1"]
    assert [clip.id for clip in Clips(str(tmp_path / "running/first-1")).index().clips] == ["first-1"]


def test_clips_named_one_by_one_need_no_root(tmp_path: Path) -> None:
    video = UCF / "UCF-101/Biking/v_Biking_g01_c01.avi"
    folder = KINETICS / "sampled_frames/playing guitar-drawn_disc2_5_10"
    index = made("clips", files=[str(video), str(folder), str(tmp_path / "gone.mp4")]).index()
    assert labels(index) == {"v_Biking_g01_c01": "", "playing_guitar-drawn_disc2_5_10": "playing guitar"}
    assert [problem.clip for problem in index.problems] == ["gone"]


def test_a_broken_video_is_a_clip_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "running").mkdir()
    (tmp_path / "running/broken.mp4").write_bytes(b"not a video")
    (clip,) = Clips(str(tmp_path)).index().clips
    with pytest.raises(ClipError, match=r"broken\.mp4"):
        read(clip, Preprocessing())


# Real data


@pytest.mark.real
def test_real_ucf101_24_is_found_and_its_two_annotations_agree(real: Path) -> None:
    root = real / "ucf101_24"
    by_pickle = made("ucf101_24", root=str(root)).index()
    by_matlab = made("ucf101_24", root=str(root), annotations=str(root / "annotations/finalAnnots.mat")).index()
    assert by_pickle == by_matlab
    assert len(by_pickle.clips) == 18
    assert by_pickle.problems == ()
    clips = {clip.id: clip for clip in by_pickle.clips}
    assert clips["v_Basketball_g01_c01"].segment == (9, 52)
    assert clips["v_Basketball_g01_c01"].boxes[9] == ((188, 101, 235, 179),)
    assert {len(boxes) for boxes in clips["v_IceDancing_g02_c05"].boxes.values()} == {2}
    index = made("ucf101_24", root=str(root), split=str(root / "annotations/testlist01.txt")).index()
    assert len(index.clips) + len(index.problems) == 910


@pytest.mark.real
def test_all_real_annotations_agree_and_stay_inside_the_frame(real: Path) -> None:
    one = _tubes.load(str(real / "ucf101_24/annotations/pyannot.pkl"))
    other = _tubes.load(str(real / "ucf101_24/annotations/finalAnnots.mat"))
    assert set(one) == set(other)
    assert len(one) == 3194
    for name, tubes in one.items():
        a, b = tubes(), other[name]()
        assert (a.frames, a.segment()) == (b.frames, b.segment())
        for x, y in zip(a.tubes, b.tubes, strict=True):
            assert x.first == y.first
            assert np.array_equal(x.boxes, y.boxes)
            assert x.boxes.min() >= 1
            assert (x.boxes[:, :2] + x.boxes[:, 2:] <= _tubes.FRAME_SIZE).all()


@pytest.mark.real
def test_every_real_ucf101_24_clip_reads_with_boxes_where_annotated(real: Path) -> None:
    view = Preprocessing(frames=10, size=[224, 224], geometry=Geometry.letterbox, sampling=Sampling.stride, stride=15)
    for clip in made("ucf101_24", root=str(real / "ucf101_24")).index().clips:
        found = read(clip, view)
        assert found.pixels.shape == (10, 224, 224, 3)
        assert [bool(boxes) for boxes in found.boxes] == [number in clip.boxes for number in found.numbers]
        if found.segment:
            assert list(found.segment) == [number in clip.boxes for number in found.numbers]


@pytest.mark.real
def test_real_kinetics_is_found_with_labels(real: Path) -> None:
    root = real / "kinetics400"
    expected = ["abseiling"] * 2 + ["blowing glass", "flipping pancake"] + ["ironing"] * 2 + ["playing bass guitar"]
    expected += ["playing guitar"] * 2 + ["using segway"] * 3
    for index in (made("kinetics400", root=str(root)).index(), made("clips", root=str(root)).index()):
        assert sorted(labels(index).values()) == expected
        assert index.problems == ()
        assert sum(clip.source.is_dir() for clip in index.clips) == 6
    assert labels(made("clips", root=str(root / "videos")).index())["using_segway-R6llTwEh07w"] == "using segway"
    assert labels(made("clips", root=str(root / "sampled_frames")).index())["ironing-3sEk_w2T8Fw_15_10"] == "ironing"
    assert len(labels(made("clips", root=str(real / "odd")).index())) == 1
