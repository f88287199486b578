"""Clips that a CSV file lists: columns, seconds, boxes, and what is wrong with a row."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from conftest import ROOT, Command
from vidattr.datasets.csv_list import CsvList
from vidattr.errors import ConfigError
from vidattr.types import Index
from vidattr.video.decode import read
from vidattr.video.decoders import pyav
from vidattr.video.preprocessing import Preprocessing, Sampling

VIDEOS = ROOT / "test_data/ucf101_24/UCF-101/Biking"
ONE, TWO = "v_Biking_g01_c01", "v_Biking_g01_c02"
EVERY = Preprocessing(frames=400, size=[8, 8], sampling=Sampling.floor)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (ONE, TWO):
        shutil.copy(VIDEOS / f"{name}.avi", tmp_path)
    return tmp_path


def listed(folder: Path, text: str | bytes, **fields: object) -> Index:
    file = folder / "clips.csv"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return CsvList(str(file), **fields).index()  # type: ignore[arg-type]


def frames(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True)
    for number in range(1, count + 1):
        cv2.imwrite(str(folder / f"{number:05d}.png"), np.full((8, 8, 3), number, np.uint8))
    return folder


def test_path_and_label_are_enough(folder: Path) -> None:
    index = listed(folder, f"label,path\nbiking,{ONE}.avi\n,{folder}/{TWO}.avi\n")
    assert [(clip.id, clip.label, clip.source, clip.span) for clip in index.clips] == [
        (ONE, "biking", folder / f"{ONE}.avi", None),
        (TWO, "", folder / f"{TWO}.avi", None),
    ]
    assert index.problems == ()


def test_paths_start_at_the_csv_file_wherever_the_command_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "lists").mkdir()
    monkeypatch.chdir(folder / "lists")
    (folder / "lists" / "clips.csv").write_text(f"path,label\n../{ONE}.avi,a\n")
    (clip,) = CsvList("clips.csv").index().clips
    assert clip.source == folder / f"{ONE}.avi"


@pytest.mark.parametrize(
    ("before", "end", "after"), [(b"\xef\xbb\xbf", b"\r\n", b""), (b"", b"\r\n", b"\r\n\r\n"), (b"", b"\n", b"\n , \n")]
)
def test_files_of_spreadsheets_are_read(folder: Path, before: bytes, end: bytes, after: bytes) -> None:
    (folder / f"{ONE}.avi").rename(folder / "a, b.avi")
    rows = [b"path, label", b'"a, b.avi","run, ""fast"""', f"{TWO}.avi,walk".encode()]
    index = listed(folder, before + end.join(rows) + after)
    assert [(clip.id, clip.label) for clip in index.clips] == [("a__b", 'run, "fast"'), (TWO, "walk")]
    assert index.problems == ()


@pytest.mark.parametrize(
    ("start", "end", "seconds"),
    [("0.2", "0.8", (0.2, 0.8)), ("", "0.5", (0, 0.5)), ("0.31", "", (0.31, None)), ("0", "99", (0, None))],
)
def test_seconds_are_frames_of_the_video(
    folder: Path, start: str, end: str, seconds: tuple[float, float | None]
) -> None:
    (clip,) = listed(folder, f"path,label,start,end\n{ONE}.avi,a,{start},{end}\n").clips
    footage = pyav(VIDEOS / f"{ONE}.avi")
    count, fps = len(footage.expected), footage.fps
    assert fps is not None
    shown = [
        n
        for n in range(1, count + 1)
        if (n - 1) / fps + 1 / fps > seconds[0] and (seconds[1] is None or (n - 1) / fps < seconds[1])
    ]
    assert clip.span == (shown[0], shown[-1])
    assert sorted(set(read(clip, EVERY).numbers)) == shown


def test_seconds_that_no_float_holds_are_not_rounded_up(folder: Path) -> None:
    frames(folder / "frames", 120)
    assert math.ceil(1.1 * 100) == 111  # 1.1 · 100 is 110.00000000000001
    (clip,) = listed(folder, "path,label,start,end\nframes,a,0.29,1.1\n", fps=100.0).clips
    assert clip.span == (30, 110)


def test_a_folder_of_frames_needs_its_rate_for_seconds_only(folder: Path) -> None:
    frames(folder / "frames", 12)
    (clip,) = listed(folder, "path,label\nframes,a\n").clips
    assert len(set(read(clip, EVERY).numbers)) == 12
    (problem,) = listed(folder, "path,label,start\nframes,a,0.5\n").problems
    assert "does not say its frames a second" in problem.message
    assert problem.remedy == "dataset.fps=<frames a second>"
    (clip,) = listed(folder, "path,label,start\nframes,a,0.5\n", fps=10.0).clips
    assert clip.span == (6, 12)


def test_clips_of_one_video_have_names_and_seeds_of_their_own_and_one_cluster(folder: Path) -> None:
    index = listed(folder, f"path,label,start,end,id\n{ONE}.avi,a,0,0.5,\n./{ONE}.avi,a,0.5,1,\n{ONE}.avi,a,,,whole\n")
    assert [clip.id for clip in index.clips] == [f"{ONE}_0.5_1", f"{ONE}_0_0.5", "whole"]
    assert {clip.video for clip in index.clips} == {f"{ONE}.avi"}
    (clip,) = listed(folder, f"path,label,video\n{ONE}.avi,a,match 3\n").clips
    assert clip.video == "match 3"


def test_boxes_are_by_frame(folder: Path) -> None:
    cell = '"2-3:1,2,3.5,4; 3:0,0,9,9 ;10: 5,6,7,8;"'
    (clip,) = listed(folder, f"path,label,boxes\n{ONE}.avi,a,{cell}\n").clips
    assert clip.boxes == {2: ((1, 2, 3.5, 4),), 3: ((1, 2, 3.5, 4), (0, 0, 9, 9)), 10: ((5, 6, 7, 8),)}
    assert clip.box_size is None
    sample = read(clip, Preprocessing(frames=400, size=[60, 80], sampling=Sampling.floor))
    assert sample.boxes[sample.numbers.index(10)] == ((2.5, 3.0, 3.5, 4.0),)  # of frames of 160 × 120


@pytest.mark.parametrize(
    ("columns", "cells", "words"),
    [
        ("path,label", "gone.avi,a", "no such file or folder"),
        ("path,label", ",a", "the path is empty"),
        ("path,label", f"{ONE}.avi,a,b", "3 cells, and the first line has 2"),
        ("path,label", f"{ONE}.avi", "1 cells, and the first line has 2"),
        ("path,label,start", f"{ONE}.avi,a,-1", "start=-1"),
        ("path,label,end", f"{ONE}.avi,a,soon", "end=soon"),
        ("path,label,end", f"{ONE}.avi,a,inf", "end=inf"),
        ("path,label,start,end", f"{ONE}.avi,a,0.8,0.2", "end=0.2 is not after start=0.8"),
        ("path,label,start,end", f"{ONE}.avi,a,0.5,0.5", "end=0.5 is not after start=0.5"),
        ("path,label,end", f"{ONE}.avi,a,0", "end=0 is not after start=0"),
        ("path,label,start", f"{ONE}.avi,a,500", "start=500 is past the end"),
        ("path,label,start", "broken.avi,a,1", "cannot read"),
        ("path,label,boxes", f'{ONE}.avi,a,"1:5,5,5,9"', "a box '1:5,5,5,9'"),
        ("path,label,boxes", f'{ONE}.avi,a,"0:1,1,5,9"', "a box"),
        ("path,label,boxes", f'{ONE}.avi,a,"9-2:1,1,5,9"', "a box"),
        ("path,label,boxes", f'{ONE}.avi,a,"1:-1,1,5,9"', "a box"),
        ("path,label,boxes", f'{ONE}.avi,a,"1,1,5,9"', "a box"),
        ("path,label,boxes", f'{ONE}.avi,a,"1:nan,1,5,9"', "a box"),
        ("path,label,id", f"{ONE}.avi,a,good", "good is the id of line 2 too"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_and_the_others_stay(
    folder: Path, columns: str, cells: str, words: str
) -> None:
    (folder / "broken.avi").write_bytes(b"no video")
    names = columns.split(",")
    good = ",".join({"path": f"{TWO}.avi", "label": "a", "id": "good"}.get(name, "") for name in names)
    index = listed(folder, f"{columns}\n{good}\n{cells}\n")
    assert len(index.clips) == 1
    (problem,) = index.problems
    assert words in problem.message
    assert f"{folder / 'clips.csv'}, line 3: " in problem.message
    assert problem.remedy


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no column 'path'"),
        ("path,class\na,b\n", "no column 'label'"),
        ("path;label\na;b\n", "no column 'path'"),
        ("path,label,lable\na,b,c\n", "a column 'lable'"),
        ("path,label,label\na,b,c\n", "the column 'label' twice"),
        ("path,label\n\n , \n", "lists no clip"),
        (b"path,label\n\xff\xfe,a\n", "cannot read"),
        ('path,label\n"a.avi,b\n', "cannot read"),
    ],
)
def test_a_file_that_is_no_such_list_is_an_error(folder: Path, text: str | bytes, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        listed(folder, text)
    assert "columns path, label" in str(caught.value.expected)
    assert "dataset.file=FILE.csv" in str(caught.value.remedy)


def test_a_missing_file_and_a_wrong_rate_are_errors() -> None:
    with pytest.raises(ConfigError, match=r"no such file: dataset\.file='gone\.csv'"):
        CsvList("gone.csv").index()
    for fps in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ConfigError, match=r"dataset\.fps"):
            CsvList("gone.csv", fps=fps)


def test_a_list_from_the_command_line_to_scores(vidattr: Command, folder: Path) -> None:
    (folder / "clips.csv").write_text(
        f'path,label,start,end,boxes\n{ONE}.avi,disc,0,0.5,"1-50:0,0,160,120"\n{TWO}.avi,disc,,,\ngone.avi,disc,,,\n'
    )
    command = ("dataset=csv", "dataset.file=clips.csv", "method=gradient", "target=label", "model.input.size=[32,32]")
    found = vidattr("run", *command, "render.grid=false", "render.gif=false", "render.mp4=false", "save_label=list")
    assert found.code == 1, found.err
    assert "gone.avi" in found.err
    run = folder / "visual_res/gradient/tiny_r2plus1d/list"
    assert sorted(path.stem for path in (run / "maps").glob("*.safetensors")) == [f"{ONE}_0_0.5", TWO]
    (line,) = map(json.loads, (run / "errors.jsonl").read_text().splitlines())
    assert (line["clip"], line["stage"]) == ("gone", "index")
    assert vidattr("evaluate", *command, "save_label=list", "metric=s_pt").code == 1
    assert (run / "scores").is_dir()
