from __future__ import annotations

import csv
import shutil
import tarfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from conftest import Command
from vidattr.config.identity import describe, key
from vidattr.datasets.epic_action import EpicAction, Splice
from vidattr.datasets.epic_object import EpicObject
from vidattr.datasets.shared import epic_segments as segments_of
from vidattr.datasets.shared.epic_annotations import Action, VideoInfo
from vidattr.datasets.shared.epic_frames import FrameSource, in_cut_out, in_video, near
from vidattr.datasets.shared.epic_lists import Naming, Rule, Split, by_rule, valid_rows, windows
from vidattr.datasets.shared.epic_segments import Segment, boxes_by_frame, boxes_of
from vidattr.datasets.spliced import Spliced
from vidattr.errors import ConfigError
from vidattr.models.tiny_r2plus1d import TinyR2Plus1D
from vidattr.run.sources import Source
from vidattr.training.recipes import Recipe, Select
from vidattr.training.train import train
from vidattr.types import Clip, Index
from vidattr.video.decode import read
from vidattr.video.preprocessing import Preprocessing, Sampling

FRAMES = 400
# Number, video, verb, verb class, noun, noun class, first and last frame; and the boxed frames of the nouns.
ACTIONS: list[tuple[str, str, str, int, str, int, int, int]] = [
    ("1", "P01_01", "open", 2, "tap", 3, 40, 160),
    ("2", "P01_01", "wash", 3, "plate", 4, 171, 290),
    ("3", "P01_01", "turn-on", 4, "tap", 3, 300, 320),  # too short
    ("4", "P01_01", "pick-up", 0, "knife", 5, 330, 450),  # outside its video
    ("5", "P01_02", "take", 0, "plate", 4, 10, 130),  # no such video
    ("6", "P01_01", "take", 0, "spoon", 7, 60, 170),  # no box
    ("7", "P01_01", "wash", 3, "ladle", 999, 60, 170),  # no such class
]
BOXES = {("tap", 61): [(0, 480, 540, 960)], ("tap", 91): [(0, 0, 1080, 960), (540, 0, 540, 960)],
         ("tap", 151): [(0, 0, 10, 10)],
         ("plate", 181): [(10, 20, 30, 40)], ("plate", 31): [(10, 20, 30, 40)], ("knife", 361): [(1, 1, 9, 9)],
         ("ladle", 91): [(1, 1, 9, 9)],
         ("tap", 311): [(1, 1, 9, 9)]}  # fmt: skip
CLASSES = {0: "take", 2: "open", 3: "wash", 4: "turn-on"}, {3: "tap", 4: "plate", 5: "knife", 7: "spoon"}


def table(path: Path, heading: str, rows: Sequence[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([heading.split(","), *rows])


def annotate(folder: Path, fps: float = 50.0) -> Path:
    heading = (
        "uid,participant_id,video_id,narration,start_timestamp,stop_timestamp,start_frame,stop_frame,"
        "verb,verb_class,noun,noun_class"
    )
    rows = [
        (u, v[:3], v, f"{verb} {noun}", "", "", a, b, verb, vc, noun, nc) for u, v, verb, vc, noun, nc, a, b in ACTIONS
    ]
    table(folder / "EPIC_train_action_labels.csv", heading, rows)
    number = {"tap": 3, "plate": 4, "knife": 5, "ladle": 999}
    videos = {("plate", 31): "P01_02"}
    boxes = [(number[n], n, "P01", videos.get((n, f), "P01_01"), f"{f:06d}", b) for (n, f), b in BOXES.items()]
    boxes.append((3, "tap", "P01", "P01_01", "000121", []))
    table(
        folder / "EPIC_train_object_labels.csv", "noun_class,noun,participant_id,video_id,frame,bounding_boxes", boxes
    )
    table(
        folder / "EPIC_verb_classes.csv",
        "verb_id,class_key,verbs",
        [(k, name, [name]) for k, name in CLASSES[0].items()],
    )
    table(
        folder / "EPIC_noun_classes.csv",
        "noun_id,class_key,nouns",
        [(k, name, [name]) for k, name in CLASSES[1].items()],
    )
    table(folder / "EPIC_video_info.csv", "video,resolution,duration,fps", [("P01_01", "1920x1080", FRAMES / 60, fps)])
    return folder


def picture(number: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Frame `number` of the video: its upper left quarter says which it is."""
    pixels = np.full((16, 32, 3), 255, np.uint8)
    pixels[:8, :16] = number // 2
    return pixels


def write_frames(folder: Path, numbers: Sequence[int], form: str = "frame_{:010d}.png") -> Path:
    folder.mkdir(parents=True)
    for number in numbers:
        cv2.imwrite(str(folder / form.format(number)), picture(number))
    return folder


def write_tar(path: Path, frames: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for frame in sorted(frames.iterdir()):
            file.add(frame, f"./{frame.name}")
    return path


def write_video(path: Path, fps: int) -> Path:
    """The same video at another rate: at each moment it shows what the frames at 60 a second show."""
    path.parent.mkdir(parents=True)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "bgr0"
        for i in range(FRAMES * fps // 60):
            frame = av.VideoFrame.from_ndarray(picture(int(i * 60 / fps + 0.5) + 1)[..., ::-1].copy(), format="bgr24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames, tar file and video of P01_01, each under a root of its own, and the annotations."""
    root = tmp_path_factory.mktemp("epic")
    frames = write_frames(root / "frames/rgb/train/P01/P01_01", range(1, FRAMES + 1))
    write_tar(root / "tar/rgb/train/P01/P01_01.tar", frames)
    write_tar(root / "tar/flow/train/P01/P01_01.tar", frames)
    write_video(root / "videos/videos/train/P01/P01_01.mkv", 50)
    annotate(root / "annotations")
    return root


def objects(world: Path, layout: str = "frames", **fields: Any) -> EpicObject:
    usual: dict[str, Any] = {"annotations": str(world / "annotations"), "split": Split.all}
    return EpicObject(str(world / layout), **{**usual, **fields})


def seen(clip: Clip, frames: int = 8) -> list[int]:
    """The numbers that the pixels say."""
    return [2 * int(pixels[2, 2, 0]) for pixels in read(clip, Preprocessing(frames=frames, size=[16, 32])).pixels]


def by_name(index: Index) -> dict[str, Clip]:
    return {clip.id: clip for clip in index.clips}


# Layouts


@pytest.mark.parametrize("layout", ["frames", "tar"])
def test_numbered_frames_are_found_by_their_numbers(world: Path, layout: str) -> None:
    index = objects(world, layout).index()
    clips = by_name(index)
    assert list(clips) == ["plate-wash-P01_01_2", "tap-open-P01_01_1"]
    tap = clips["tap-open-P01_01_1"]
    assert (tap.label, tap.video, tap.span, tap.segment) == ("tap", "P01_01", (40, 160), None)
    found = read(tap, Preprocessing(frames=121, size=[16, 32]))
    assert found.numbers == tuple(range(40, 161))
    assert [2 * int(p[2, 2, 0]) for p in found.pixels] == [n - n % 2 for n in found.numbers]
    # (top 0, left 480, height 540, width 960) of 1920 × 1080 in a frame of 32 × 16, on frames 58 to 64
    assert [n for n, boxes in zip(found.numbers, found.boxes, strict=True) if boxes == ((8.0, 0.0, 24.0, 8.0),)] == [
        *range(58, 65)
    ]
    assert len(found.boxes[91 - 40]) == 2
    assert found.warnings == ()


def test_tar_files_are_read_in_place_and_flow_is_left_alone(world: Path) -> None:
    (tap,) = objects(world, "tar", classes=["tap"]).index().clips
    assert Path(str(tap.source)).parts[-4:] == ("rgb", "train", "P01", "P01_01.tar")
    before = sorted(world.rglob("*"))
    assert seen(tap) == seen(objects(world, classes=["tap"]).index().clips[0])
    assert sorted(world.rglob("*")) == before


@pytest.mark.parametrize("fps", [50, 30])
def test_a_video_of_another_rate_shows_the_same_moments(world: Path, tmp_path: Path, fps: int) -> None:
    write_video(tmp_path / "root/P01_01.mkv", fps)
    (tap,) = (
        objects(tmp_path, "root", annotations=str(annotate(tmp_path / "a", float(fps))), classes=["tap"]).index().clips
    )
    (true,) = objects(world, classes=["tap"]).index().clips
    step = 60 // fps + 1
    assert all(abs(a - b) <= 2 * step for a, b in zip(seen(tap), seen(true), strict=True))
    boxed = read(tap, Preprocessing(frames=60, size=[16, 32]))
    shown = [
        2 * int(p[2, 2, 0])
        for p, boxes in zip(boxed.pixels, boxed.boxes, strict=True)
        if boxes == ((8.0, 0.0, 24.0, 8.0),)
    ]
    assert shown
    assert all(58 - step <= number <= 64 + step for number in shown)


def test_frames_of_a_video_are_those_of_the_same_time() -> None:
    segment = Segment("1", "P01_01", "tap", "open", "tap", 61, 121, {91: ((0.0, 0.0, 1.0, 1.0),)})
    found = in_video(segment, VideoInfo(50.0, 60.0), 0)
    assert found.span == (51, 101)  # frame 61 is shown after one second
    assert list(found.boxes) == [76]
    assert in_video(segment, VideoInfo(60000 / 1001, 60.0), 0).span == (61, 121)
    late = Segment("1", "P01_01", "tap", "open", "tap", 60 * 1000 + 1, 60 * 1000 + 61)
    assert in_video(late, VideoInfo(60000 / 1001, 2000.0), 0).span == (
        59941,
        60001,
    )  # a drift of a second in 17 minutes
    with pytest.raises(ValueError, match="outside of its video, which lasts 1 s"):
        in_video(segment, VideoInfo(50.0, 1.0), 0)


def test_cut_outs_get_the_boxes_of_the_frames_that_they_show(tmp_path: Path, world: Path) -> None:
    write_frames(tmp_path / "sampled/tap-open-P01_01_1", range(1, 9), "{:09d}.png")
    (tap,) = objects(tmp_path, "sampled", annotations=str(world / "annotations")).index().clips
    assert tap.span is None
    # 121 frames from 40: of 15 · (0 … 8) the last eight are 55, 70, …, 160
    assert list(tap.boxes) == []
    (tap,) = (
        objects(tmp_path, "sampled", annotations=str(world / "annotations"), cut_sampling=Sampling.ends).index().clips
    )
    assert {n: len(boxes) for n, boxes in tap.boxes.items()} == {4: 2}  # 40 + 51 = 91
    segment = Segment("1", "P01_01", "tap", "open", "tap", 40, 160, window=(30, 150))
    with pytest.raises(ValueError, match="cut-out"):
        in_cut_out(segment, 8, Sampling.ends, 3)


def test_what_is_preferred_is_frames_then_tar_then_video(world: Path) -> None:
    (any_,) = (
        EpicObject(str(world), annotations=str(world / "annotations"), split=Split.all, classes=["tap"]).index().clips
    )
    assert Path(str(any_.source)).is_dir()
    for source, suffix in ((FrameSource.tar, ".tar"), (FrameSource.videos, ".mkv")):
        (clip,) = objects(world, "", source=source, classes=["tap"]).index().clips
        assert Path(str(clip.source)).suffix == suffix


# Problems


def test_what_is_wrong_with_a_segment_is_named_and_the_others_go_on(world: Path) -> None:
    index = objects(world).index()
    assert {p.clip for p in index.problems} == {"knife-pick-up-P01_01_4", "7"}
    said = {p.clip: p.message for p in index.problems}
    assert "frames 330 to 450 are outside of its video, which has the frames 1 to 400" in said["knife-pick-up-P01_01_4"]
    assert "class 999, which EPIC_noun_classes.csv does not have" in said["7"]
    assert index.notes == ("1 of 4 listed segments are not on disk: plate-take-P01_02_5",)
    assert "plate-take-P01_02_5" in {p.clip for p in objects(world, require_all=True).index().problems}


def test_frames_that_are_missing_are_named(world: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(world / "frames", tmp_path / "frames") / "rgb/train/P01/P01_01"
    for number in (45, 46, 99, 100):
        (folder / f"frame_{number:010d}.png").unlink()
    for root in ("frames", "tar"):
        if root == "tar":
            write_tar(tmp_path / "tar/P01_01.tar", folder)
        (tap,) = objects(tmp_path, root, annotations=str(world / "annotations"), classes=["tap"]).index().clips
        (text,) = read(tap, Preprocessing(frames=8, size=[16, 32])).warnings
        assert text == "117 of 121 frames decoded; missing frames: 45, 46, 99 and 1 more"


@pytest.mark.parametrize(("file", "text", "message"), [
    ("EPIC_train_action_labels.csv", None, "no EPIC_train_action_labels.csv in dataset.annotations"),
    ("EPIC_train_object_labels.csv", None, "no EPIC_train_object_labels.csv in dataset.annotations"),
    ("EPIC_noun_classes.csv", "noun_id,key\n", "has no column 'class_key'"),
    ("EPIC_noun_classes.csv", "noun_id,class_key\nx,y\n", "line 2: 'x', 'y'"),
    ("EPIC_train_object_labels.csv", "noun,video_id,frame,bounding_boxes\n"
     "tap,P01_01,soon,[]1\n", "line 2: frame 'soon'"),
])  # fmt: skip
def test_a_file_of_annotations_that_is_missing_or_foreign(
    world: Path, tmp_path: Path, file: str, text: str | None, message: str
) -> None:
    folder = shutil.copytree(world / "annotations", tmp_path / "annotations")
    (folder / file).unlink() if text is None else (folder / file).write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        objects(world, annotations=str(folder)).index()
    assert caught.value.remedy


def test_rows_that_cannot_be_read_are_problems(world: Path, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    good = '1,P01_01,tap,open,40,160,"{61: (0, 480, 540, 960)}"'
    bad = [
        "2,P01_01,tap,open,160,40,{}",
        "3,P01_01,tap,open,x,40,{}",
        "4,P01_01,tap,open,1,40,__import__('os')",
        ",P01_01,tap,open,1,40,{}",
    ]
    path.write_text(
        "\n".join(
            [
                "seg_id,video_id,noun,verb,start_frame,stop_frame,bounding_boxes",
                good,
                *bad,
                '8,P01_01,tap,open,1,9,"{1: (1,)}"',
            ]
        )
    )
    index = objects(world, list=str(path)).index()
    assert [clip.id for clip in index.clips] == ["tap-open-P01_01_1"]
    assert [p.clip for p in index.problems] == ["2", "3", "4", "line-6", "8"]
    assert all(f"{path}, line " in p.message for p in index.problems)
    assert "'x' is no frame number" in index.problems[1].message
    path.write_text(path.read_text() + "\n" + good)
    with pytest.raises(ConfigError, match="line 8: segment 1 is listed twice"):
        objects(world, list=str(path)).index()


@pytest.mark.parametrize(
    "text", ["open('x')", "[(1, 2, 3)]", "(1, 2, 3, 'a')", "(1, 2, -3, 4)", "[", "(" * 500, "{1: 2}"]
)
def test_a_text_that_is_no_box_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="box"):
        boxes_of(text)


def test_boxes_are_top_left_height_width_alone_or_in_a_list() -> None:
    assert boxes_of("(10, 20, 30, 40)") == boxes_of("[(10, 20, 30, 40)]") == ((20.0, 10.0, 60.0, 40.0),)
    assert boxes_by_frame("{31: [(1, 2, 3, 4), (0, 0, 1, 1)], 1: (0, 0, 1, 2)}") == {
        1: ((0.0, 0.0, 2.0, 1.0),),
        31: ((2.0, 1.0, 6.0, 4.0), (0.0, 0.0, 1.0, 1.0)),
    }


def test_frames_within_the_tolerance_get_the_boxes_of_the_nearest_annotated_one() -> None:
    a, b = ((0.0, 0.0, 1.0, 1.0),), ((0.0, 0.0, 2.0, 2.0),)
    assert list(near({31: a}, 3, (1, 99))) == [28, 29, 30, 31, 32, 33, 34]
    assert list(near({31: a}, 0, (1, 99))) == [31]
    assert list(near({31: a}, 3, (30, 32))) == [30, 31, 32]
    assert near({10: a, 15: b}, 3, (1, 99)) == {**dict.fromkeys(range(7, 13), a), **dict.fromkeys(range(13, 19), b)}
    assert near({10: a, 14: b}, 3, (1, 99))[12] == a  # of two equally near ones the earlier


# Lists by rule


def action(uid: int, noun: str, length: int = 120, verb: str = "take") -> Action:
    return Action(str(uid), "P01_01", verb, 0, noun, 1, 1000 * uid, 1000 * uid + length - 1)


def listed(actions: Sequence[Action], boxed: dict[int, Sequence[int]], rule: Rule) -> list[Segment]:
    """Applies a rule to actions whose boxes lie on these frames, counted from the first of each action."""
    rows = [(a.noun, a.first + at) for a in actions for at in boxed.get(int(a.id), ())]
    boxes = {("P01_01", noun): [(frame, "[(0, 0, 1, 1)]") for name, frame in rows if name == noun] for noun, _ in rows}
    return chosen(actions, rule, boxes)


def chosen(actions: Sequence[Action], rule: Rule, boxes: dict[tuple[str, str], list[tuple[int, str]]]) -> list[Segment]:
    return by_rule(valid_rows(actions, rule, lambda a: a.noun, lambda a: (a.video, a.noun), boxes), rule)


def test_a_valid_segment_is_long_enough_and_has_a_box_of_its_own_noun() -> None:
    actions = [action(1, "tap", 32), action(2, "tap", 31), action(3, "tap"), action(4, "pan"), action(5, "pan", 60)]
    boxed = {1: [31], 2: [0], 3: [120], 4: [0], 5: [-1]}  # of 3 and 5 outside: after and before it
    assert {s.id for s in listed(actions, boxed, Rule(split=Split.all))} == {"1", "4"}
    assert {s.id for s in listed(actions, boxed, Rule(split=Split.all, boxed=False))} == {"1", "3", "4", "5"}
    assert {s.id for s in listed(actions, boxed, Rule(split=Split.all, min_frames=31))} == {"1", "2", "4"}


def test_the_most_frequent_classes_are_taken_in_order() -> None:
    actions = [action(n, noun) for n, noun in enumerate("bbbaaacdd", 1)]
    rule = Rule(top=3, split=Split.all, boxed=False)
    assert list(dict.fromkeys(s.label for s in listed(actions, {}, rule))) == ["a", "b", "d"]  # equal ones by name
    assert len({s.label for s in listed(actions, {}, Rule(top=0, split=Split.all, boxed=False))}) == 4


def test_the_test_split_is_drawn_among_segments_of_some_length_with_enough_single_boxes() -> None:
    actions = [
        action(1, "tap", 99),
        action(2, "tap", 100),
        action(3, "tap", 300),
        action(4, "tap", 301),
        action(5, "tap", 105),
    ]
    boxed = {
        1: [1, 31, 61],
        2: [1, 31, 61],
        3: range(1, 300, 30),
        4: range(1, 300, 30),
        5: [1, 31],
    }  # 5: one per 52 frames
    assert {s.id for s in listed(actions, boxed, Rule())} == {"2", "3"}
    assert {s.id for s in listed(actions, boxed, Rule(split=Split.train))} == {"1", "4", "5"}
    assert {s.id for s in listed(actions, boxed, Rule(test_frames=(), test_box_every=0))} == {"1", "2", "3", "4", "5"}


def test_several_boxes_on_a_frame_keep_a_segment_out_of_the_test_split() -> None:
    boxes = {
        ("P01_01", "tap"): [(1001, "[(0, 0, 1, 1), (1, 1, 2, 2)]"), (1031, "[(0, 0, 1, 1)]"), (1061, "[(0, 0, 1, 1)]")]
    }
    for single, count in ((True, 0), (False, 1)):
        rule = Rule(test_single_box=single)
        assert len(chosen([action(1, "tap", 105)], rule, boxes)) == count


def test_the_draw_is_seeded_nested_and_does_not_depend_on_other_segments() -> None:
    actions = [action(n, "tap" if n % 2 else "pan") for n in range(1, 201)]

    def drawn(rule: Rule, of: Sequence[Action] = actions) -> set[str]:
        return {s.id for s in listed(of, {}, rule)}

    loose: dict[str, Any] = {"boxed": False, "test_box_every": 0}
    test = drawn(Rule(**loose))
    assert len(test) == 50
    assert test == drawn(Rule(**loose))
    assert test != drawn(Rule(seed=1, **loose))
    five = drawn(Rule(per_class=5, **loose))
    assert len(five) == 10
    assert five < test
    assert drawn(Rule(split=Split.train, **loose)) == {a.id for a in actions} - test
    gone = sorted({a.id for a in actions} - test)[0]
    assert drawn(Rule(**loose), [a for a in actions if a.id != gone]) == test


def test_official_names_merge_words_and_order_classes(world: Path) -> None:
    narrated = EpicAction(str(world / "frames"), annotations=str(world / "annotations"), split=Split.all)
    official = EpicAction(
        str(world / "frames"), annotations=str(world / "annotations"), split=Split.all, naming=Naming.official
    )
    assert {s.label for s in narrated.listed().segments} == {"open", "wash", "pick-up", "take"}
    assert Counter(s.label for s in official.listed().segments) == {"take": 2, "wash": 2, "open": 1}
    assert official.class_names()[:2] == ("take", "wash")
    everything = EpicObject(
        str(world / "frames"), annotations=str(world / "annotations"), naming=Naming.official, top=0
    )
    assert everything.class_names() == ("tap", "plate", "knife", "spoon")


def test_classes_have_the_order_of_the_published_lists(world: Path, tmp_path: Path) -> None:
    """The most frequent first; a list's own indices; the official order; the alphabet where nothing else is said."""
    for split in Split:  # one valid segment each; all of the test split, which leaves nothing to the training split
        assert objects(world, split=split, boxed=False, min_frames=121).class_names() == ("knife", "plate", "tap")
    assert objects(world).class_names() == ("plate", "knife", "tap")
    assert objects(world, classes=["Tap"]).class_names() == ("tap",)
    rows = [("1", "P01_01", "tap", 0, "open", 7, 40, 160), ("2", "P01_01", "plate", 1, "wash", 3, 171, 290)]
    heading = "seg_id,video_id,noun,noun_label,verb,verb_label,start_frame,stop_frame"
    table(tmp_path / "a.csv", heading, rows)
    assert objects(world, list=str(tmp_path / "a.csv")).class_names() == ("tap", "plate")
    action = EpicAction(str(world / "frames"), annotations=str(world / "annotations"), list=str(tmp_path / "a.csv"))
    assert action.class_names() == ("wash", "open")
    table(tmp_path / "b.csv", heading.replace("noun_label", "number"), rows)
    assert objects(world, list=str(tmp_path / "b.csv")).class_names() == ("plate", "tap")
    (tmp_path / "c.csv").write_text(objects(world, list=str(tmp_path / "a.csv"), naming=Naming.official).listing())
    assert objects(world, list=str(tmp_path / "c.csv")).class_names() == ("tap", "plate")
    official = objects(world, list=str(tmp_path / "a.csv"), naming=Naming.official)
    assert official.class_names() == ("tap", "plate", "knife", "spoon")


@pytest.mark.parametrize("labels", [(0, 0), (0, 1, 2)])
def test_a_list_that_numbers_its_classes_twice_is_refused(world: Path, tmp_path: Path, labels: tuple[int, ...]) -> None:
    segments = [("1", "tap", 40, 160), ("2", "plate", 171, 290), ("4", "tap", 330, 350)]
    rows = [
        (uid, "P01_01", noun, n, "open", *frames) for (uid, noun, *frames), n in zip(segments, labels, strict=False)
    ]
    table(tmp_path / "a.csv", "seg_id,video_id,noun,noun_label,verb,start_frame,stop_frame", rows)
    with pytest.raises(ConfigError, match="noun_label does not number the nouns: 0 is"):
        objects(world, list=str(tmp_path / "a.csv")).class_names()


@pytest.mark.parametrize("kind", ["epic", "spliced"])
def test_training_keeps_the_order_of_the_classes_and_stores_it(world: Path, tmp_path: Path, kind: str) -> None:
    rows = [("1", "P01_01", "tap", 2, "open", 40, 160), ("2", "P01_01", "plate", 7, "wash", 171, 290)]
    rows.append(("9", "P09_09", "knife", 5, "cut", 1, 90))  # on no disk: a class all the same
    table(tmp_path / "a.csv", "seg_id,video_id,noun,noun_label,verb,start_frame,stop_frame", rows)
    dataset: Any = objects(world, list=str(tmp_path / "a.csv"))
    if kind == "spliced":
        fields = {name: getattr(dataset, name) for name in ("root", "annotations", "list")}
        dataset = Spliced(of={"_target_": "vidattr.datasets.epic_object.EpicObject", **fields})
    recipe = Recipe(select=Select.last, share=0.0, epochs=1, batch=2, patience=None, mixed_precision=False)
    model = TinyR2Plus1D("package", input=Preprocessing(frames=8, size=[32, 32]))
    weights = train(recipe, model, dataset, out=tmp_path / "out", quiet=True).weights
    assert TinyR2Plus1D(str(weights)).load().classes == ("tap", "knife", "plate")


def test_a_list_that_a_run_wrote_gives_the_same_clips(world: Path, tmp_path: Path) -> None:
    made = objects(world)
    (tmp_path / "clips.csv").write_text(made.listing())
    again = objects(world, list=str(tmp_path / "clips.csv"))
    assert again.index().clips == made.index().clips
    assert again.list_content() == made.list_content()
    spliced = EpicAction(
        str(world / "frames"), annotations=str(world / "annotations"), split=Split.all, splice=Splice(True)
    )
    (tmp_path / "windows.csv").write_text(spliced.listing())
    windows = EpicAction(
        str(world / "frames"),
        annotations=str(world / "annotations"),
        splice=Splice(True),
        list=str(tmp_path / "windows.csv"),
    )
    assert windows.index().clips == spliced.index().clips
    assert all(clip.segment for clip in windows.index().clips)


def test_the_list_enters_the_key_and_the_options_that_lead_to_it_do_not(world: Path, tmp_path: Path) -> None:
    made = objects(world)
    (tmp_path / "clips.csv").write_text(made.listing())
    keys = {name: key(describe(one)) for name, one in {
        "rule": made, "file": objects(world, list=str(tmp_path / "clips.csv")),
        "subset": objects(world, classes=["tap"]),
        "seed": objects(world, seed=5), "fewer": objects(world, per_class=1, top=1),
        "test": objects(world, split=Split.test, test_frames=[]),
    }.items()}  # fmt: skip
    assert keys["rule"] == keys["file"] == keys["subset"] == keys["seed"]  # with `split=all` the seed draws nothing
    assert len({keys["rule"], keys["fewer"], keys["test"]}) == 3


# Windows


def segments(count: int, length: int = 120) -> list[Segment]:
    return [
        Segment(str(n), "P01_01", "tap", "open", "open", 10_000 * n, 10_000 * n + length - 1)
        for n in range(1, count + 1)
    ]


@pytest.mark.parametrize("length", [32, 33, 120, 255])
def test_windows_have_the_segments_length_and_show_a_quarter_to_three_quarters_of_it(length: int) -> None:
    found, problems = windows(segments(400, length), [], {}, 0, True)
    assert problems == []
    shares = []
    for segment in found:
        first, last = segment.shown
        assert last - first + 1 == length
        inside = len({*range(first, last + 1)} & {*range(segment.first, segment.last + 1)})
        assert segment.share == inside / length
        assert first < segment.first <= last < segment.last or segment.first < first <= segment.last < last
        shares.append(segment.share)
    assert 0.25 <= min(shares) < 0.27 + 1 / length
    assert 0.73 - 1 / length < max(shares) <= 0.75 + 1 / length
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03)
    sides = Counter(segment.side for segment in found)
    assert abs(sides["left"] - 200) < 40
    assert windows(segments(400, length), [], {}, 0, True)[0] == found
    assert windows(segments(400, length), [], {}, 1, True)[0] != found


def test_every_possible_window_is_drawn() -> None:
    """A segment of 8 frames has 5 places for m and two sides."""
    drawn = {windows(segments(1, 8), [], {}, seed, True)[0][0].shown for seed in range(300)}
    assert drawn == {(10_000 - (10_007 - m), m) for m in range(10_002, 10_006)} | {
        (m, m + 7) for m in range(10_002, 10_006)
    }


def test_windows_stay_in_the_video_and_avoid_the_same_verb() -> None:
    start = Segment("1", "P01_01", "tap", "open", "open", 1, 120)
    end = Segment("2", "P01_02", "tap", "open", "open", 881, 1000)
    for seed in range(20):
        found, _ = windows([start, end], [], {"P01_02": 1000}, seed, True)
        assert [segment.side for segment in found] == ["left", "right"]
    (segment,) = segments(1)
    own = Action("1", "P01_01", "open", 2, "tap", 3, segment.first, segment.last)
    after = Action("9", "P01_01", "open", 2, "door", 8, segment.last + 5, segment.last + 500)
    before = Action("8", "P01_01", "turn", 2, "door", 8, segment.first - 500, segment.first - 5)
    other = Action("7", "P01_01", "close", 3, "door", 8, segment.first - 500, segment.first - 5)
    for seed in range(20):
        assert windows([segment], [own, after, other], {}, seed, True)[0][0].side == "right"
        assert windows([segment], [own, before, other], {}, seed, True)[0][0].side == "left"
    found, (problem,) = windows([segment], [own, after, before], {}, 0, True)
    assert found == []
    assert "no other action of its verb" in problem.message
    assert problem.remedy == "dataset.splice.avoid_same_verb=false"
    assert len(windows([segment], [own, after, before], {}, 0, False)[0]) == 1


def test_the_truth_of_a_window_is_the_segment(world: Path) -> None:
    index = EpicAction(
        str(world / "frames"), annotations=str(world / "annotations"), split=Split.all, splice=Splice(True)
    ).index()
    clips = by_name(index)
    assert clips
    for clip in clips.values():
        first, last = {"1": (40, 160), "2": (171, 290), "4": (330, 450), "7": (60, 170)}[clip.id.rpartition("_")[2]]
        found = read(clip, Preprocessing(frames=40, size=[16, 32]))
        assert found.segment == tuple(first <= number <= last for number in found.numbers)
        assert 0 < sum(found.segment) < 40


def released(path: Path, words: tuple[str, str]) -> Path:
    rows = [
        ("1", "P01_01", "tap", 0, "open", 10, 130, 40, words[0]),
        ("2", "P01_01", "plate", 1, "wash", 231, 350, 290, words[1]),
    ]
    table(path, "seg_id,video_id,noun,verb_label,verb,start_frame,stop_frame,middle_frame,ground", rows)
    return path


@pytest.mark.parametrize(
    ("words", "counts"), [(("left", "right"), (0, 2)), (("right", "left"), (2, 0)), (("right", "right"), (1, 1))]
)
def test_the_words_of_a_published_list_do_not_decide_the_truth(
    world: Path, tmp_path: Path, words: tuple[str, str], counts: tuple[int, int]
) -> None:
    path = released(tmp_path / "Valid_seg_cat.csv", words)
    index = EpicAction(
        str(world / "frames"), annotations=str(world / "annotations"), splice=Splice(True, True, str(path))
    ).index()
    clips = by_name(index)
    assert clips["tap-open-P01_01_1"].span == (10, 130)
    assert clips["tap-open-P01_01_1"].segment == (40, 130)
    assert clips["plate-wash-P01_01_2"].segment == (231, 290)
    assert f"side of the segment in {counts[0]} and the other side in {counts[1]} of 2 windows" in index.notes[0]


def test_a_published_window_without_its_segment_is_a_problem(world: Path, tmp_path: Path) -> None:
    rows = [
        ("1", "P01_01", "tap", 0, "open", 200, 320, 40, "left"),
        ("77", "P01_01", "tap", 0, "open", 10, 130, 40, "left"),
    ]
    table(tmp_path / "cat.csv", "seg_id,video_id,noun,verb_label,verb,start_frame,stop_frame,middle_frame,ground", rows)
    index = EpicAction(
        str(world / "frames"),
        annotations=str(world / "annotations"),
        splice=Splice(True, True, str(tmp_path / "cat.csv")),
    ).index()
    assert [
        ("nothing of the segment" in p.message, "not in the action labels" in p.message) for p in index.problems
    ] == [
        (True, False),
        (False, True),
    ]
    with pytest.raises(ConfigError, match=r"splice\.list=.*with dataset\.splice\.windows=false"):
        Splice(False, True, str(tmp_path / "cat.csv"))
    with pytest.raises(ConfigError, match="has no windows"):
        table(
            tmp_path / "plain.csv",
            "seg_id,video_id,noun,verb,start_frame,stop_frame",
            [("1", "P01_01", "tap", "open", 40, 160)],
        )
        EpicAction(
            str(world / "frames"),
            annotations=str(world / "annotations"),
            splice=Splice(True, True, str(tmp_path / "plain.csv")),
        ).index()


# Fingerprints of tar files


def test_a_tar_file_is_the_same_source_where_the_frames_that_were_seen_are(world: Path, tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "frames", range(1, 41))
    path = write_tar(tmp_path / "P01_01.tar", folder)
    clip = Clip("a", path, span=(5, 20))
    facts = Source(clip, "predicted").facts([5, 10, 20])
    assert Source(clip, "predicted").same(facts)
    copy = Clip("a", Path(shutil.copy(path, tmp_path / "copy.tar")), span=(5, 20))
    assert Source(copy, "predicted").same(facts)
    cv2.imwrite(str(folder / "frame_0000000030.png"), picture(32))  # of the same size, and not seen
    write_tar(path, folder)
    assert Source(clip, "predicted").same(facts)
    cv2.imwrite(str(folder / "frame_0000000010.png"), picture(12))
    write_tar(path, folder)
    assert not Source(clip, "predicted").same(facts)
    write_frames(tmp_path / "more", range(1, 42))
    write_tar(path, tmp_path / "more")
    assert not Source(clip, "predicted").same(facts)
    path.unlink()
    assert not Source(clip, "predicted").same(facts)


def test_damaged_tar_files_are_named(world: Path, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "root/P01_01.tar", write_frames(tmp_path / "frames", range(1, 401)))
    whole = path.read_bytes()
    options: dict[str, Any] = {"annotations": str(world / "annotations"), "classes": ["tap"]}
    path.write_bytes(b"no tar")
    index = objects(tmp_path, "root", **options).index()
    assert "no tar file that can be read in place" in index.problems[-1].message
    with tarfile.open(path, "w:gz") as file:
        file.add(tmp_path / "frames", "frames")
    assert "without compression" in objects(tmp_path, "root", **options).index().problems[-1].message
    path.write_bytes(whole[: whole.index(b"frame_0000000159") + 520])
    (tap,) = objects(tmp_path, "root", **{**options, "list": str(listing(tmp_path, 40, 159))}).index().clips
    (text,) = read(tap, Preprocessing(frames=120, size=[16, 32])).warnings
    assert "is cut off" in text


def listing(folder: Path, first: int, last: int) -> Path:
    table(
        folder / "one.csv",
        "seg_id,video_id,noun,verb,start_frame,stop_frame",
        [("1", "P01_01", "tap", "open", first, last)],
    )
    return folder / "one.csv"


# The command line


def test_a_run_writes_the_list_and_uses_it_again(vidattr: Command, world: Path) -> None:
    options = [
        "dataset=epic_object",
        f"dataset.root={world / 'tar'}",
        f"dataset.annotations={world / 'annotations'}",
        "dataset.split=all",
    ]
    options += [
        "target=predicted",
        "method=center",
        "render.grid=false",
        "render.gif=false",
        "render.comparison=false",
        "-q",
    ]
    first = vidattr("run", *options)
    assert "2 written, 0 there before, 2 failed" in first.out
    assert first.code == 1
    (path,) = Path("visual_res/center").rglob("clips.csv")
    assert path.read_text().startswith("seg_id,video_id,noun,verb,label,start_frame,stop_frame")
    again = vidattr("run", *options, f"dataset.list={path}")
    assert "0 written, 2 there before, 1 failed" in again.out  # the row of no class is not in the list
    assert len([*Path("visual_res/center").rglob("run.json")]) == 1


# Real data


@pytest.mark.real
def test_published_lists_follow_the_rule_and_real_cut_outs_get_their_boxes(real: Path) -> None:
    root = real / "epic55"
    labels = root / "annotations"
    with open(labels / "EPIC_train_action_labels.csv", newline="") as file:
        official = {row["uid"]: row for row in csv.DictReader(file)}
    for name, each in (("Valid_seg_top20_100_val.csv", 5), ("Valid_seg_top20_500_val.csv", 25)):
        found, problems = segments_of.published(str(labels / name), "dataset.list")
        assert problems == []
        assert Counter(Counter(s.noun for s in found).values()) == {each: 20}
        for s in found:
            row = official[s.id]
            assert (s.video, s.noun, s.verb, s.first, s.last) == (
                row["video_id"], row["noun"], row["verb"], int(row["start_frame"]), int(row["stop_frame"]),
            )  # fmt: skip
            assert 100 <= s.last - s.first + 1 <= 300
            assert 35 * len(s.boxes) >= s.last - s.first + 1
            assert all(
                s.first <= number <= s.last and number % 30 == 1 and len(boxes) == 1
                for number, boxes in s.boxes.items()
            )
    with open(labels / "Valid_seg_top20_noun_labels.csv", newline="") as file:
        assert {s.noun for s in found} == {row["noun"] for row in csv.DictReader(file)}
    (cloth,) = (
        EpicObject(str(root), annotations=str(labels), list=str(labels / "Valid_seg_top20_500_val.csv")).index().clips
    )
    assert (cloth.id, cloth.label, sorted(cloth.boxes)) == ("cloth-take-P12_06_18977", "cloth", [3, 7, 12, 16])
    sample = read(cloth, Preprocessing(frames=16, size=[112, 112]))
    assert [n for n, boxes in enumerate(sample.boxes, 1) if boxes] == [3, 7, 12, 16]
    (box,) = sample.boxes[2]
    assert box == pytest.approx((638 * 112 / 1920, 302 * 112 / 1080, 938 * 112 / 1920, 608 * 112 / 1080))


@pytest.mark.real
def test_the_rules_counts_are_the_papers(real: Path) -> None:
    """With the official boxes where they are there; without them, what the official action labels alone decide."""
    labels = real / "epic55/annotations"
    counts = {"tap": 962, "plate": 714, "knife": 671, "pan": 624, "drawer": 576, "spoon": 533, "fridge": 482,
              "bowl": 477, "onion": 449, "lid": 429, "cupboard": 421, "glass": 417, "sponge": 349, "fork": 307,
              "spatula": 268, "meat": 253, "bottle": 231, "potato": 217, "cloth": 209, "pot": 208}  # fmt: skip
    verbs = {"open": 2072, "put": 1776, "pick-up": 1660, "take": 1393, "put-down": 1306, "close": 1116, "rinse": 803,

             "wash": 673, "stir": 512, "cut": 433, "place": 371, "pour": 321, "move": 313, "get": 279, "turn-on": 276,
             "clean": 231, "turn-off": 207, "grab": 207, "remove": 193, "peel": 183}  # fmt: skip
    if (labels / "EPIC_train_object_labels.csv").is_file():
        found = EpicObject(str(real / "epic55"), annotations=str(labels), split=Split.all)
        assert Counter(s.label for s in found.listed().segments) == counts
        assert sum(counts.values()) == 8797
        assert found.class_names() == tuple(counts)
        assert (
            len(EpicObject(str(real / "epic55"), annotations=str(labels), split=Split.train).listed().segments) == 8297
        )
        action = EpicAction(str(real / "epic55"), annotations=str(labels), split=Split.all)
        assert Counter(s.label for s in action.listed().segments) == verbs
    unboxed = EpicObject(str(real / "epic55"), annotations=str(labels), split=Split.all, boxed=False, top=0)
    every = Counter(s.label for s in unboxed.listed().segments)
    with open(labels / "EPIC_train_action_labels.csv", newline="") as file:
        rows = [r for r in csv.DictReader(file) if int(r["stop_frame"]) - int(r["start_frame"]) >= 31]
    assert every == Counter(row["noun"] for row in rows)
    assert all(every[noun] >= count for noun, count in counts.items())


@pytest.mark.real
def test_a_file_of_boxes_in_the_official_format_gives_the_counts_of_the_rule(real: Path, tmp_path: Path) -> None:
    """The real action labels, and boxes for two of three of their segments: counted here once more, row by row."""
    labels = real / "epic55/annotations"
    for name in ("EPIC_train_action_labels.csv", "EPIC_noun_classes.csv", "EPIC_verb_classes.csv"):
        (tmp_path / name).symlink_to(labels / name)
    with open(labels / "EPIC_train_action_labels.csv", newline="") as file:
        actions = list(csv.DictReader(file))
    boxed: dict[tuple[str, str], set[int]] = {}
    rows = []
    for row in actions:
        first = int(row["start_frame"])
        frame = first + (1 - first) % 30  # boxes lie on every 30th frame: 1, 31, 61, …
        text = "[]" if int(row["uid"]) % 3 == 0 else "[(76, 1260, 462, 186)]"
        rows.append((row["noun_class"], row["noun"], row["participant_id"], row["video_id"], f"{frame:06d}", text))
        if text != "[]":
            boxed.setdefault((row["video_id"], row["noun"]), set()).add(frame)
    heading = "noun_class,noun,participant_id,video_id,frame,bounding_boxes"
    table(tmp_path / "EPIC_train_object_labels.csv", heading, sorted(rows, key=lambda row: (row[3], row[4])))
    counts: Counter[str] = Counter()
    for row in actions:
        first, last = int(row["start_frame"]), int(row["stop_frame"])
        inside = any(first <= frame <= last for frame in boxed.get((row["video_id"], row["noun"]), ()))
        counts[row["noun"]] += last - first + 1 >= 32 and inside
    first_20 = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:20]
    found = EpicObject(str(real / "epic55"), annotations=str(tmp_path), split=Split.all)
    assert Counter(s.label for s in found.listed().segments) == dict(first_20)
    assert found.class_names() == tuple(name for name, _ in first_20)
    assert sum(counts.values()) > 10_000
