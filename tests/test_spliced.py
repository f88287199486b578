from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from conftest import ROOT, Command
from vidattr.config.identity import describe, key
from vidattr.datasets.spliced import Partner, Spliced
from vidattr.errors import ClipError, ConfigError
from vidattr.run.compose import part
from vidattr.run.sources import Source, mark_of
from vidattr.types import Clip, Joined
from vidattr.video.decode import available, read
from vidattr.video.preprocessing import Preprocessing, Sampling

UCF = ROOT / "test_data/ucf101_24"
LENGTHS = {"red/a": 40, "red/b": 20, "green/c": 60, "green/d": 30, "blue/e": 9, "blue/short": 7}


def frames(folder: Path, count: int, side: int = 8, suffix: str = ".png") -> Path:
    """Pictures whose grey value is their frame number."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, count + 1):
        cv2.imwrite(str(folder / f"{number:05d}{suffix}"), np.full((side, side, 3), number, np.uint8))
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for number, (name, count) in enumerate(LENGTHS.items()):
        frames(folder / name, count, side=8 + number)  # each of another size
    return folder


def spliced(root: Path, **fields: Any) -> Spliced:
    of = {"_target_": "vidattr.datasets.clips.Clips", "root": str(root)}
    return Spliced(of, **fields)


def greys(clip: Clip, count: int) -> list[int]:
    return [
        int(p[0, 0, 0]) for p in read(clip, Preprocessing(frames=count, size=[8, 8], sampling=Sampling.uniform)).pixels
    ]


def test_two_whole_clips_follow_each_other_and_the_target_is_the_segment(root: Path) -> None:
    index = spliced(root).index()
    assert [clip.id for clip in index.clips] == ["blue-e", "green-c", "green-d", "red-a", "red-b"]
    assert index.notes == (
        "1 clips are left out, they have no label, or fewer than dataset.min_frames=8 frames: blue-short",
    )
    sides = set()
    for clip in index.clips:
        assert isinstance(clip.source, Joined)
        first, second = clip.source.parts
        lengths = [LENGTHS[one.id.replace("-", "/", 1)] for one in (first, second)]
        assert first.label != second.label
        total = sum(lengths)
        assert greys(clip, total) == [*range(1, lengths[0] + 1), *range(1, lengths[1] + 1)]
        expected = (1, lengths[0]) if first.id == clip.id else (lengths[0] + 1, total)
        assert clip.segment == expected
        sides.add(first.id == clip.id)
    assert sides == {True, False}


@pytest.mark.parametrize("count", [10, 16, 20])
def test_frames_are_taken_in_proportion_to_the_lengths(root: Path, count: int) -> None:
    for clip in spliced(root).index().clips:
        found = read(clip, Preprocessing(frames=count, size=[8, 8], sampling=Sampling.uniform))
        assert found.segment is not None
        lengths = {part.id: LENGTHS[part.id.replace("-", "/", 1)] for part in clip.source.parts}
        assert sum(found.segment) == pytest.approx(count * lengths[clip.id] / sum(lengths.values()), abs=1)


def test_pairs_are_seeded_and_a_new_clip_changes_few(root: Path, tmp_path: Path) -> None:
    def pairs(dataset: Spliced) -> dict[str, list[str]]:
        return {clip.id: [part.id for part in clip.source.parts] for clip in dataset.index().clips}

    assert pairs(spliced(root)) == pairs(spliced(root))
    assert len({str(pairs(spliced(root, seed=seed))) for seed in range(6)}) > 3
    for number in range(60):
        frames(tmp_path / f"class{number % 3}" / f"clip{number}", 8)
    before = pairs(spliced(tmp_path))
    frames(tmp_path / "class0/another", 8)
    after = pairs(spliced(tmp_path))
    assert sum(before[name] != after[name] for name in before) <= 6


def test_boxes_go_with_their_frames(root: Path) -> None:
    box = ((1.0, 2.0, 3.0, 4.0),)
    clip = Clip("t", frames(root.parent / "t", 12), "x", boxes={3: box, 12: box, 13: box}, span=(2, 12))
    other = Clip("o", frames(root.parent / "o", 10), "y", span=(1, 10))
    made = Spliced({"_target_": "vidattr.datasets.clips.Clips", "root": str(root)})
    for seed in range(8):
        found = replace_seed(made, seed)._with_other_class(clip, other)
        assert found.segment in ((1, 11), (11, 21))
        offset = found.segment[0] - 2
        assert found.boxes == {3 + offset: box, 12 + offset: box}
        sample = read(found, Preprocessing(frames=21, size=[8, 8]))
        assert [int(p[0, 0, 0]) for p, b in zip(sample.pixels, sample.boxes, strict=True) if b] == [3, 12]


def replace_seed(dataset: Spliced, seed: int) -> Spliced:
    return replace(dataset, seed=seed)


def test_the_same_video_beside_itself_has_no_cut_and_half_of_it_is_the_class() -> None:
    of = {
        "_target_": "vidattr.datasets.ucf101_24.UCF24",
        "root": str(UCF),
        "annotations": str(UCF / "annotations/pyannot.pkl"),
    }
    truth = {clip.id: clip for clip in Spliced(of).base.index().clips}
    index = Spliced(of, partner=Partner.same_video, min_frames=4).index()
    # 24 frames, the class on 5–24, 7–18, 1–12; on 3–22 of a folder with the frames 6–20 and 25; on all of the fifth.
    assert [clip.id for clip in index.clips] == ["v_Biking_g01_c02", "v_CliffDiving_g01_c01", "v_CliffDiving_g02_c01"]
    for clip in index.clips:
        own = truth[clip.id].segment
        assert clip.span is not None
        assert clip.segment is not None
        assert own is not None
        window, shown = range(clip.span[0], clip.span[1] + 1), range(clip.segment[0], clip.segment[1] + 1)
        assert len(window) == 2 * len(shown)
        assert [n for n in window if own[0] <= n <= own[1]] == list(shown)
        assert clip.source == truth[clip.id].source
        found = read(clip, Preprocessing(frames=len(window), size=[8, 8]))
        assert found.numbers == tuple(window)
    assert "2 clips are left out, they show their class all the time" in index.notes[-1]


def test_the_side_of_a_window_is_drawn_where_there_are_two() -> None:
    of = {
        "_target_": "vidattr.datasets.ucf101_24.UCF24",
        "root": str(UCF),
        "annotations": str(UCF / "annotations/pyannot.pkl"),
    }
    spans = {
        clip.span
        for seed in range(12)
        for clip in Spliced(of, partner=Partner.same_video, seed=seed, min_frames=6).index().clips
        if clip.id == "v_CliffDiving_g01_c01"
    }
    assert spans == {(1, 12), (13, 24)}


def test_one_class_alone_cannot_be_joined(root: Path) -> None:
    with pytest.raises(ConfigError, match="clips of 1 class"):
        Spliced({"_target_": "vidattr.datasets.clips.Clips", "root": str(root), "classes": ["red"]}).index()
    with pytest.raises(ConfigError, match="unknown option 'rot'"):
        Spliced({"_target_": "vidattr.datasets.clips.Clips", "rot": "x"})
    with pytest.raises(ConfigError, match="_target_"):
        Spliced({})


def test_an_unreadable_clip_is_a_problem_and_a_damaged_part_a_warning(tmp_path: Path) -> None:
    for name in ("a/one", "b/two"):
        frames(tmp_path / name, 10)
    (tmp_path / "a/broken.mp4").write_bytes(b"no video")
    (tmp_path / "b/two/00003.png").write_bytes(b"no picture")
    index = spliced(tmp_path).index()
    assert [problem.clip for problem in index.problems] == ["a-broken"]
    for clip in index.clips:
        (text,) = read(clip, Preprocessing(frames=20, size=[8, 8])).warnings
        assert text.startswith("19 of 20 frames decoded; 00003.png is not a readable image")


def test_videos_can_be_joined_to_frames() -> None:
    of = {"_target_": "vidattr.datasets.ucf101_24.UCF24", "root": str(UCF), "annotations": ""}
    for clip in Spliced(of).index().clips:
        whole = read(clip, Preprocessing(frames=8, size=[16, 16]))
        assert whole.warnings in ((), ("36 of 39 frames decoded",), ("39 of 40 frames decoded",)) or "g03" in str(
            clip.source
        )
        assert available(clip)[0] == 1


def test_the_fingerprint_of_a_joined_clip_is_that_of_both(root: Path, tmp_path: Path) -> None:
    for count, name in ((10, "a/one"), (12, "b/two")):
        frames(tmp_path / name, count, suffix=".bmp")  # all of one size, whatever they show
    clip = spliced(tmp_path).index().clips[0]
    numbers = [2, 5, 14, 19]
    facts = Source(clip, "label").facts(numbers)
    assert len(facts["parts"]) == 2
    assert [len(part["files"]) for part in facts["parts"]] == [2, 2]
    assert Source(clip, "label").same(facts)
    assert not Source(replace(clip, label="z"), "label").same(facts)
    assert not Source(replace(clip, source=Joined(clip.source.parts[::-1])), "label").same(facts)
    assert not Source(clip.source.parts[0], "label").same(facts)
    mark = mark_of({"source": facts, "sha256": "x", "target": 1})
    unseen = Path(str(clip.source.parts[1].source)) / "00001.bmp"  # frame 11 was not seen
    cv2.imwrite(str(unseen), np.full((8, 8, 3), 99, np.uint8))
    assert Source(clip, "label").same(facts)
    cv2.imwrite(str(unseen.with_name("00004.bmp")), np.full((8, 8, 3), 99, np.uint8))
    assert not Source(clip, "label").same(facts)
    assert mark_of({"source": Source(clip, "label").facts(numbers), "sha256": "x", "target": 1}) != mark
    Path(str(clip.source.parts[0].source)).joinpath("00002.bmp").unlink()
    with pytest.raises(ClipError, match="cannot read"):
        Source(clip, "label").facts(numbers)


def test_the_key_holds_the_dataset_and_not_where_it_lies(root: Path, tmp_path: Path) -> None:
    keys = [
        key(describe(one))
        for one in (spliced(root), spliced(tmp_path), spliced(root, seed=1), spliced(root, partner=Partner.same_video))
    ]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


def test_any_dataset_can_be_joined_by_a_config_of_ones_own(root: Path, tmp_path: Path) -> None:
    (tmp_path / "mine/dataset").mkdir(parents=True)
    (tmp_path / "mine/dataset/joined_clips.yaml").write_text("defaults:\n  - spliced\n  - _self_\nof: null\n")
    (tmp_path / "mine/dataset/own.yaml").write_text(
        f"defaults:\n  - clips@of\n  - _self_\n_target_: vidattr.datasets.spliced.Spliced\n"
        f"of:\n  root: {root}\nseed: 3\npartner: other_class\nmin_frames: 8\n"
    )
    found = part("dataset", "own", {}, add=[tmp_path / "mine"])
    assert found.index().clips == spliced(root, seed=3).index().clips
    assert type(part("dataset", "spliced_kinetics400", {}).base).__name__ == "Kinetics"


def test_a_run_and_its_temporal_pointing_game(vidattr: Command) -> None:
    options = ["dataset=spliced", f"dataset.of.root={UCF}", "target=predicted", "method=gradient", "render.grid=false"]
    options += ["render.gif=false", "render.comparison=false", "-q"]
    first = vidattr("run", *options)
    assert (first.code, "5 written" in first.out) == (0, True)
    (table,) = Path("visual_res/gradient").rglob("clips.csv")
    rows = table.read_text().splitlines()
    assert rows[0] == "clip,label,side,first_frame,last_frame,partner,partner_label,partner_side,frames"
    assert len(rows) == 6
    judged = vidattr("evaluate", *options[:-4], "-q", "metric=t_pt", "--json")
    assert judged.code == 0
    assert '"row": "always_first"' in judged.out
    assert '"column": "AUPRC over frames"' in judged.out
    assert "5 there before" in vidattr("run", *options).out


@pytest.mark.real
def test_every_real_ucf_clip_can_be_joined(real: Path) -> None:
    root = real / "ucf101_24"
    of = {
        "_target_": "vidattr.datasets.ucf101_24.UCF24",
        "root": str(root),
        "annotations": str(root / "annotations/pyannot.pkl"),
    }
    index = Spliced(of).index()
    assert (len(index.clips), index.problems) == (18, ())
    shares = []
    for clip in index.clips:
        first, last = clip.segment or (0, 0)
        total = sum(part.span[1] - part.span[0] + 1 for part in clip.source.parts if part.span)
        shares.append((last - first + 1) / total)
        assert first == 1 or last == total
    assert 0.1 < min(shares) <= max(shares) < 0.9
    shortest = min(index.clips, key=lambda clip: sum(part.span[1] for part in clip.source.parts))
    found = read(shortest, Preprocessing(frames=16, size=[32, 32]))
    assert found.segment is not None
    assert 0 < sum(found.segment) < 16
    own = Spliced(of, partner=Partner.same_video).index().clips
    assert len(own) == 8
    assert all(2 * (c.segment[1] - c.segment[0] + 1) == c.span[1] - c.span[0] + 1 for c in own if c.segment and c.span)
