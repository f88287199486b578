"""What is no clip under a dataset's root, names that no file may have, and annotation files that are damaged."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from conftest import Command
from vidattr.datasets.clips import Clips
from vidattr.datasets.kinetics import Kinetics
from vidattr.datasets.shared import matlab
from vidattr.datasets.shared import tubes as _tubes
from vidattr.datasets.shared.files import safe
from vidattr.datasets.synthetic import Synthetic
from vidattr.datasets.ucf101 import UCF101
from vidattr.datasets.ucf101_24 import UCF24
from vidattr.errors import ConfigError, VidattrError
from vidattr.render import drawing
from vidattr.types import Index, Problem
from vidattr.video.decode import read
from vidattr.video.preprocessing import Preprocessing

ROOT = Path(__file__).resolve().parent.parent
UCF = ROOT / "test_data/ucf101_24"
KINETICS = ROOT / "test_data/kinetics400"
VIDEO = UCF / "UCF-101/Biking/v_Biking_g01_c01.avi"


def frames(folder: Path, count: int = 4) -> Path:
    folder.mkdir(parents=True)
    for number in range(1, count + 1):
        cv2.imwrite(str(folder / f"frame{number:06d}.jpg"), np.full((8, 8, 3), 10 * number, np.uint8))
    return folder


def labels(index: Index) -> dict[str, str]:
    return {clip.id: clip.label for clip in index.clips}


# What is not read is said


def test_what_is_not_read_is_counted_and_named(tmp_path: Path) -> None:
    shutil.copytree(UCF / "UCF-101/Biking", tmp_path / "Biking")
    for name in ("a.rmvb", "b.txt", "c.txt", "d.txt", "cover.jpg"):
        (tmp_path / "Biking" / name).write_bytes(b"")
    (tmp_path / "Empty").mkdir()
    frames(tmp_path / "Biking/v_Biking_g09_c01/deeper")
    shutil.copytree(UCF / "UCF-101/Biking", tmp_path / "more/train/Biking")
    for dataset in (UCF24(str(tmp_path)), UCF101(str(tmp_path)), Clips(str(tmp_path))):
        index = dataset.index()
        assert len(index.clips) == 2
        assert index.problems == ()
        assert index.notes == (
            "not read, empty folders: Empty",
            "not read, folders without frames: Biking/v_Biking_g09_c01, more/train",
            "not read, for their suffix: Biking/a.rmvb, Biking/b.txt, Biking/c.txt and 1 more",
            "not read, pictures that are in no folder of frames: Biking/cover.jpg",
        )


@pytest.mark.parametrize("name", ["@eaDir", "__MACOSX", ".thumbnails"])
def test_a_folder_of_the_system_among_frames_does_not_cost_the_clip(tmp_path: Path, name: str) -> None:
    frames(tmp_path / "Biking/v_Biking_g01_c01")
    frames(tmp_path / "Biking/v_Biking_g01_c01" / name)
    frames(tmp_path / name)
    index = UCF24(str(tmp_path)).index()
    assert labels(index) == {"v_Biking_g01_c01": "Biking"}
    assert (index.problems, index.notes) == ((), ())


def test_other_things_among_frames_are_named_and_do_not_cost_the_clip(tmp_path: Path) -> None:
    for folder in (frames(tmp_path / "Biking/v_Biking_g01_c01"), frames(tmp_path / "v_Biking_g01_c02")):
        frames(folder / "flow")
        (folder / "times.txt").write_text("")
    index = UCF24(str(tmp_path)).index()
    assert labels(index) == {"v_Biking_g01_c01": "Biking", "v_Biking_g01_c02": "Biking"}
    assert index.notes == (
        "not read, files among frames: Biking/v_Biking_g01_c01/times.txt, v_Biking_g01_c02/times.txt",
        "not read, folders among frames: Biking/v_Biking_g01_c01/flow, v_Biking_g01_c02/flow",
    )


@pytest.mark.parametrize("layout", ["jpegs_256", "rawframes", "jpegs", "anything"])
def test_frames_without_folders_of_classes_are_labelled_by_their_names(tmp_path: Path, layout: str) -> None:
    for name in ("v_Biking_g01_c01", "v_CliffDiving_g02_c03"):
        frames(tmp_path / layout / name)
    for dataset in (UCF24(str(tmp_path)), UCF101(str(tmp_path)), UCF101(str(tmp_path / layout))):
        index = dataset.index()
        assert labels(index) == {"v_Biking_g01_c01": "Biking", "v_CliffDiving_g02_c03": "CliffDiving"}
        assert index.notes == ()
    if layout != "anything":
        assert set(labels(Clips(str(tmp_path)).index()).values()) == {""}


def test_what_lies_beside_a_known_layout_is_said(tmp_path: Path) -> None:
    frames(tmp_path / "jpegs_256/v_Biking_g01_c01")
    frames(tmp_path / "tvl1_flow/u/v_Biking_g01_c01")
    shutil.copy(VIDEO, tmp_path)
    (tmp_path / "annotations").mkdir()
    assert UCF24(str(tmp_path)).index().notes == (f"not read, beside jpegs_256: tvl1_flow, {VIDEO.name}",)


def test_videos_of_no_known_class_are_said(tmp_path: Path) -> None:
    for name in ("Biking/v_Biking_g01_c01", "Archery/v_Archery_g01_c01", "loose"):
        frames(tmp_path / name)
    index = UCF24(str(tmp_path)).index()
    assert labels(index) == {"v_Biking_g01_c01": "Biking"}
    assert index.notes == (
        f"not read, of no class: {tmp_path / 'loose'}",
        f"not read, of none of the 24 classes: {tmp_path / 'Archery/v_Archery_g01_c01'}",
    )


# What must be a clip and is none is a problem


@contextmanager
def nobody() -> Iterator[None]:
    """A user to whom permissions apply."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "a.mp4": (lambda path: path.symlink_to("nowhere"), "is a link to nothing"),
    "b.mp4": (os.mkfifo, "neither a file nor a folder, but a pipe"),
    "c.mp4": (lambda path: path.symlink_to("/dev/zero"), "neither a file nor a folder, but a pipe"),
    "d.mp4": (lambda path: path.symlink_to(path.name), "cannot be read: Too many levels of symbolic links"),
    "e": (lambda path: path.symlink_to("nowhere"), "is a link to nothing"),
    "f": (lambda path: path.symlink_to(path.name), "cannot be read: Too many levels of symbolic links"),
    "g": (lambda path: path.mkdir(mode=0), "cannot be looked into: Permission denied"),
}


@pytest.mark.parametrize("depth", [0, 1])
@pytest.mark.parametrize("name", BAD)
def test_a_clip_that_is_lost_is_a_problem_and_the_others_go_on(tmp_path: Path, name: str, depth: int) -> None:
    make, message = BAD[name]
    root = tmp_path / "root"
    frames(root / "Biking/v_Biking_g01_c01")
    for path in (tmp_path, *tmp_path.parents):
        if path.name.startswith(("pytest-", "popen-")) or path == tmp_path:
            path.chmod(0o755)
    make((root if depth == 0 else root / "Biking") / name)
    with nobody():
        index = UCF24(str(root)).index()
    assert list(labels(index)) == ["v_Biking_g01_c01"]
    (problem,) = index.problems
    assert problem.clip == safe(Path(name).stem)
    assert message in problem.message
    assert str(root) in problem.message


def test_a_root_that_may_not_be_read_or_holds_nothing_readable_says_what_was_left(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").symlink_to("nowhere")
    (tmp_path / "x.rmvb").write_bytes(b"")
    with pytest.raises(
        ConfigError, match=r"(?s)no videos or folders.*x\.mp4 is a link to nothing.*for their suffix: x\.rmvb"
    ):
        Clips(str(tmp_path)).index()


# Names


def test_names_are_safe_short_and_never_hidden() -> None:
    long = ["x" * 250, "x" * 249 + "y", "視" * 80, "a b" * 80]
    short = [safe(name) for name in long]
    assert len(set(short)) == 4
    for name in short:
        assert len(name.encode()) <= 120
        assert safe(name) == name
        assert len(f".{name}.masks.safetensors.{'h' * 64}-4194304.part.safetensors".encode()) < 255
    assert safe("y" * 120) == "y" * 120
    assert [safe(name) for name in ("", ".", "..", ".hidden", "a/b:c", "\udcff")] == [
        "_",
        "_.",
        "_..",
        "_.hidden",
        "a_b_c",
        "_",
    ]


@pytest.mark.parametrize("kind", ["long", "not utf-8", "line break", "hidden"])
def test_any_name_goes_from_run_to_evaluate(tmp_path: Path, vidattr: Command, kind: str) -> None:
    label, name = {
        "long": ("c" * 250, "v" * 246 + ".avi"),
        "not utf-8": ("caf\udce9", "na\udcefve.avi"),
        "line break": ("two\nlines", "a\tb\x1b[31m.avi"),
        "hidden": ("plain", "-.avi"),
    }[kind]
    (tmp_path / "data" / label).mkdir(parents=True)
    shutil.copy(VIDEO, tmp_path / "data" / label / name)
    (index,) = Clips(str(tmp_path / "data")).index().clips
    index.label.encode()
    common = [
        "dataset=clips",
        f"dataset.root={tmp_path / 'data'}",
        "model=tiny_r2plus1d",
        "method=center",
        "target=predicted",
    ]
    ran = vidattr("run", *common, "--quiet")
    assert (ran.code, ran.err) == (0, ""), ran.err
    done = vidattr("evaluate", *common, "metric=flicker", "--quiet")
    assert done.code == 0, done.err
    written = [path for path in (tmp_path / "visual_res").rglob("*") if path.is_file()]
    assert {".png", ".gif", ".mp4", ".safetensors"} <= {path.suffix for path in written}
    for path in written:
        assert len(os.fsencode(path.name)) < 200


@pytest.mark.parametrize("words", ["two\nlines", "tab\t", "\x00\x1b[31m", "lone \udcff surrogate", ""])
def test_any_text_can_be_drawn(words: str) -> None:
    page = drawing.sheet(40, 200)
    drawing.text(page, 4, 4, words, drawing.BODY)
    assert drawing.text_width(drawing.shorten(words, drawing.BODY, 60), drawing.BODY) <= 60
    drawing.flow([words, words], drawing.BODY, 100)


def test_a_problem_can_be_written_whatever_it_names() -> None:
    assert Problem("a", "cannot read /caf\udce9").message == "cannot read /caf\\udce9"
    assert str(ConfigError("\udce9", expected="\udcff", remedy="\udcfe")).encode()


# Annotation files


def annotated(name: str) -> tuple[Path, Callable[[str], Any]]:
    files = {
        "pyannot.pkl": lambda path: UCF24(str(UCF), annotations=path),
        "finalAnnots.mat": lambda path: UCF24(str(UCF), annotations=path),
        "testlist01.txt": lambda path: UCF24(str(UCF), split=path),
        "trainlist01.txt": lambda path: UCF101(str(UCF), split=path),
        "kinetics-400_val.csv": lambda path: Kinetics(str(KINETICS), annotations=path),
    }
    folder = KINETICS if name.endswith(".csv") else UCF
    return folder / "annotations" / name.replace("train", "test"), files[name]


PIECES = (b"inf", b"nan", b"-1", b"9" * 400, b"\xff\xfe", b"\xe9", b'"', b",", b"\n", b"\0", b"x" * 200_000)


def mutated(data: bytes, draw: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 5, 20])):
        place = draw.randrange(max(len(out), 1))
        kind = draw.randrange(5)
        if kind == 0:
            out[place : place + 1] = bytes([draw.randrange(256)])
        elif kind == 1:
            out[place : place + 8] = draw.choice([b"\0", b"\xff", b"\x80"]) * 8
        elif kind == 2:
            del out[place : place + draw.randrange(1, 200)]
        elif kind == 3:
            del out[place:]
        else:
            out[place:place] = draw.choice(PIECES)
    return bytes(out)


@pytest.mark.parametrize(
    "name", ["pyannot.pkl", "finalAnnots.mat", "testlist01.txt", "trainlist01.txt", "kinetics-400_val.csv"]
)
def test_a_damaged_annotation_file_is_the_users_error_or_a_problem(tmp_path: Path, name: str) -> None:
    source, dataset = annotated(name)
    data, draw = source.read_bytes(), random.Random(name)
    errors: list[tuple[str, VidattrError]] = []
    for number in range(60):
        path = tmp_path / f"{number}{source.suffix}"
        path.write_bytes(mutated(data, draw))
        try:
            dataset(str(path)).index()
        except VidattrError as error:
            errors.append((path.name, error))
    assert errors
    assert all(name in str(error) and error.remedy and len(str(error)) < 2000 for name, error in errors)
    for content in (b"", b"\0" * 500, b"\xff" * 500):
        (tmp_path / f"x{source.suffix}").write_bytes(content)
        with pytest.raises(ConfigError, match=rf"x{source.suffix}"):
            dataset(str(tmp_path / f"x{source.suffix}")).index()
    for place in ("/dev/zero", str(tmp_path), str(tmp_path / "gone")):
        with pytest.raises(ConfigError, match="no such"):
            dataset(place).index()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="no such"):
        dataset(str(tmp_path / "pipe")).index()


@pytest.mark.parametrize(("text", "message"), [
    ("label,youtube_id,time_start\na,b,inf\n", "line 2: OverflowError"),
    ("label,youtube_id,time_start\na,b,nan\n", "line 2: ValueError"),
    ("label,youtube_id,time_start\na\n", "line 2: ValueError a row that is too short"),
    ("a\nb", "has no column 'label'"),
    (f"label,youtube_id,time_start\n{'x' * 200_000},b,1\n", "line 1: Error field larger than field limit"),
    ("label,youtube_id,time_start\ncaf\udce9,b,1\n", "UnicodeDecodeError"),
])  # fmt: skip
def test_a_table_says_which_line_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "val.csv"
    path.write_bytes(os.fsencode(text))
    with pytest.raises(ConfigError, match=message) as caught:
        Kinetics(str(KINETICS), annotations=str(path)).index()
    assert caught.value.remedy == "dataset.annotations=FILE.csv"


@pytest.mark.parametrize("compressed", [True, False])
def test_a_matlab_file_is_read_as_scipy_reads_it_and_never_trusted(tmp_path: Path, compressed: bool) -> None:
    from scipy.io import savemat

    boxes = np.arange(12, dtype=np.uint8).reshape(3, 4)
    tube = np.empty((1, 1), [("sf", object), ("ef", object), ("boxes", object)])
    tube[0, 0] = (np.array([[2]], np.uint8), np.array([[4]], np.uint8), boxes)
    names, one = (
        ["Biking/v_Biking_g01_c01", "x"],
        np.empty((1, 2), [("name", object), ("num_imgs", object), ("tubes", object)]),
    )
    one[0, 0] = (names[0], np.array([[9.0]]), tube)
    one[0, 1] = (names[1], np.array([[300]], np.uint16), np.zeros((0, 0)))
    savemat(tmp_path / "a.mat", {"other": np.eye(3), "annot": one}, do_compression=compressed)
    data = (tmp_path / "a.mat").read_bytes()
    first, second = matlab.variable(data, "annot")
    assert np.array_equal(first["tubes"][0]["boxes"], boxes)
    assert (first["name"], int(first["num_imgs"].item()), int(second["num_imgs"].item())) == (names[0], 9, 300)
    assert _tubes.load(str(tmp_path / "a.mat"))[names[0]]().segment() == (2, 4)
    assert _tubes.load(str(tmp_path / "a.mat"))["x"]().segment() is None
    draw = random.Random(0)
    for _ in range(150):
        with pytest.raises(ValueError, match=r"."):
            matlab.variable(mutated(data[:136], draw) + mutated(data[136:], draw)[: draw.randrange(200, 600)], "annot")
            raise ValueError("read all the same")


def test_a_pickle_that_numbers_its_objects_beyond_measure_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pyannot.pkl"
    path.write_bytes(b"\x80\x02}r\xff\xff\xff\x7f.")  # would make room for two thousand million objects
    with pytest.raises(ConfigError, match="it numbers an object 2147483647"):
        _tubes.load(str(path))


def test_the_first_of_many_synthetic_clips_are_there_at_once() -> None:
    began = time.process_time()  # of this process, however busy the machine is
    clips = Synthetic(clips=10_000_000).index().clips
    one, other = clips[:2][1], Synthetic(clips=2).index().clips[1]
    assert (one.id, one.boxes, one.segment, one.label) == (other.id, other.boxes, other.segment, other.label)
    assert clips[-1].id.startswith("object-9999999")
    assert len(clips[5::1000]) == 10_000
    assert time.process_time() - began < 5


def test_damaged_decides_which_clips_there_are_and_no_number(tmp_path: Path) -> None:
    from vidattr.config.identity import describe

    frames(tmp_path / "Biking/v_Biking_g01_c01")
    for cls in (UCF24, UCF101, Clips):
        for word, intact in (("warn", False), ("fail", True)):
            dataset: Any = cls(str(tmp_path), damaged=type(cls().damaged)(word), first_frame=3)
            (clip,) = dataset.index().clips
            assert (clip.intact, clip.first_frame) == (intact, 3)
            assert describe(dataset) == describe(cls(first_frame=3)) != describe(cls())
    assert read(clip, Preprocessing(frames=4)).numbers == (-1, 0, 1, 2)
