"""What decides a number is noticed: a map is never resumed, judged or drawn when its clip is another one by now."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from conftest import Command
from vidattr.evaluate.table import BASELINES
from vidattr.render import encoding as encode
from vidattr.run.sources import Source, mark_of, truth_of
from vidattr.run.store import RunFolder, StoredMap
from vidattr.types import Clip

FAST = (
    "method=gradient",
    "model.input.frames=4",
    "model.input.size=[32,32]",
    "target=predicted",
    "render.gif=false",
    "render.mp4=false",
)
DRAWN = ("dataset=clips", *FAST)
PLAIN = (*DRAWN, "render.grid=false", "render.comparison=false")


def pictures(seed: int, frames: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (frames, 48, 64, 3), np.uint8)


def video(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode.mp4(pictures(seed), 8))
    return path


def frames(folder: Path, seed: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures(seed), start=1):
        cv2.imwrite(str(folder / f"{number:03d}.bmp"), picture)  # a BMP's size does not tell one picture from another
    return folder


MAKE = {"video": lambda path, seed: video(path.with_suffix(".mp4"), seed), "frames": frames}


def maps(root: Path) -> dict[str, torch.Tensor]:
    return {
        path.stem: RunFolder(path.parents[1], {}).load(path.stem).map
        for path in sorted(root.rglob("maps/*.safetensors"))
    }


def scores(root: Path, method: str = "gradient") -> pd.DataFrame:
    (path,) = [p for p in (root / "visual_res" / method).rglob("scores/*.csv") if p.suffixes == [".csv"]]
    return pd.read_csv(path).set_index("clip")


@pytest.mark.parametrize("kind", MAKE)
def test_two_roots_with_the_same_names_never_meet_unnoticed(vidattr: Command, tmp_path: Path, kind: str) -> None:
    for day, seed in (("day1", 1), ("day2", 2)):
        MAKE[kind](tmp_path / day / "a", seed)
        MAKE[kind](tmp_path / day / "b", 3)  # the same in both
    vidattr("run", *PLAIN, "dataset.root=day1")
    vidattr("evaluate", *PLAIN, "dataset.root=day1", "metric=flicker")
    first, told = maps(tmp_path), scores(tmp_path)
    judged = vidattr("evaluate", *PLAIN, "dataset.root=day2", "metric=flicker")
    assert judged.code == 1
    assert (
        judged.err
        == "  a: its source changed since its map was made (`vidattr run` with the same overrides computes it again)\n"
    )
    assert "gradient: 1 of 2 clips have no map that can be judged" in judged.out
    assert list(scores(tmp_path).index) == ["b"]

    again = vidattr("run", *PLAIN, "dataset.root=day2")
    assert "1 written, 1 there before" in again.out
    assert "1 clip whose source changed is computed again" in again.out
    second = maps(tmp_path)
    assert torch.equal(first["b"], second["b"])
    assert not torch.equal(first["a"], second["a"])
    vidattr("run", *PLAIN, "dataset.root=day2", "paths.out=fresh")
    assert torch.equal(second["a"], maps(tmp_path / "fresh")["a"])
    assert vidattr("evaluate", *PLAIN, "dataset.root=day2", "metric=flicker").code == 0
    assert (scores(tmp_path).made_of != told.made_of).to_dict() == {"a": True, "b": False}


def resaved(path: Path) -> None:
    """Other frames, of the same size, at the same time."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    other = encode.mp4(pictures(9), 8)
    content = bytearray(other[: len(content)].ljust(len(content), b"\0"))
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def one_frame(path: Path) -> None:
    """One frame among many, of the same size and time."""
    frame = sorted(path.iterdir())[3]
    before = frame.stat()
    cv2.imwrite(str(frame), 255 - cv2.imread(str(frame)))
    os.utime(frame, ns=(before.st_atime_ns, before.st_mtime_ns))


def renamed(path: Path) -> None:
    """The same pictures under other numbers: others are taken."""
    sorted(path.iterdir())[0].rename(path / "100.bmp")


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("video", lambda path: video(path, 2)),
        ("video", lambda path: os.replace(video(path.with_name("new.mp4"), 2), path)),
        ("video", resaved),
        ("frames", lambda path: frames(path, 2)),
        ("frames", one_frame),
        ("frames", renamed),
    ],
)
def test_a_source_that_changed_in_place_is_noticed(tmp_path: Path, kind: str, change: Callable[[Path], object]) -> None:
    path = MAKE[kind](tmp_path / "a", 1)
    clip = Clip(id="a", source=path)
    facts = Source(clip, "predicted").look().facts([2, 4, 6, 8])
    assert Source(clip, "predicted").same(facts)
    change(path)
    assert not Source(clip, "predicted").same(facts)


@pytest.mark.parametrize("kind", MAKE)
def test_a_copy_or_a_touched_source_is_the_same(tmp_path: Path, kind: str) -> None:
    path = MAKE[kind](tmp_path / "a", 1)
    facts = Source(Clip(id="a", source=path), "predicted").look().facts([2, 4, 6, 8])
    for file in (path, *path.rglob("*")):
        os.utime(file, ns=(1, 1))
    copy = Path(shutil.copytree(path, tmp_path / "copy") if path.is_dir() else shutil.copy(path, tmp_path / "copy.mp4"))
    assert Source(Clip(id="a", source=path), "predicted").same(facts)
    assert Source(Clip(id="a", source=copy), "predicted").same(facts)


def test_the_stretch_of_the_source_and_an_explained_label_are_part_of_it(tmp_path: Path) -> None:
    clip = Clip(id="a", source=video(tmp_path / "a.mp4", 1), span=(1, 4), label="x")
    facts = Source(clip, "label").look().facts([1, 2, 3, 4])
    assert Source(clip, "label").same(facts)
    assert not Source(replace(clip, span=(5, 8)), "label").same(facts)
    assert not Source(replace(clip, span=None), "label").same(facts)
    assert not Source(replace(clip, label="y"), "label").same(facts)
    predicted = Source(clip, "predicted").look().facts([1, 2, 3, 4])
    assert Source(replace(clip, label="y"), "predicted").same(predicted)


def test_a_file_that_is_written_while_it_is_read_is_an_error_of_its_clip(tmp_path: Path) -> None:
    from vidattr.errors import ClipError

    path = video(tmp_path / "a.mp4", 1)
    source = Source(Clip(id="a", source=path), "predicted").look()
    video(path, 2)
    with pytest.raises(ClipError, match="changed while it was read"):
        source.facts([1])
    path.unlink()
    with pytest.raises(ClipError, match="cannot read"):
        source.facts([1])


@pytest.mark.parametrize(
    "change", [{"boxes": {1: ((0.0, 0.0, 3.0, 4.0),)}}, {"box_size": (64, 49)}, {"segment": (1, 3)}, {"label": "y"}]
)
def test_annotation_rows_are_told_apart_and_leave_the_map_alone(tmp_path: Path, change: dict) -> None:
    clip = Clip(
        id="a",
        source=video(tmp_path / "a.mp4", 1),
        label="x",
        boxes={1: ((0, 0, 3, 3),)},
        box_size=(64, 48),
        segment=(1, 2),
    )
    assert (
        truth_of(clip)
        == truth_of(replace(clip, boxes={1: ((0.0, 0.0, 3.0, 3.0),)}))
        != truth_of(replace(clip, **change))
    )
    facts = Source(clip, "predicted").look().facts([1])
    assert Source(replace(clip, **change), "predicted").same(facts)


def test_a_mark_tells_maps_of_other_voxels_frames_and_classes_apart() -> None:
    facts = {"sha256": "voxels", "target": 1, "source": {"sha256": "file"}}
    others = [
        {**facts, "sha256": "x"},
        {**facts, "target": 2},
        {**facts, "source": {"sha256": "x"}},
        {**facts, "source": {"span": [1, 2]}},
    ]
    assert len({mark_of(one) for one in (facts, *others)}) == 5
    assert mark_of(facts, map=False) == mark_of(others[0], map=False)
    moved = {**facts, "source": {"sha256": "file", "path": "/elsewhere", "state": "1 2 3"}}
    assert mark_of(moved) == mark_of(facts)


def old(path: Path) -> None:
    """Takes the fingerprint out of a map: this is how an earlier version wrote it."""
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(path, "pt") as file:
        facts = json.loads(file.metadata()["vidattr"])
    for name in ("source", "sha256", "extras"):
        del facts[name]
    save_file(load_file(path), path, {"vidattr": json.dumps(facts)})


DAMAGES: list[Callable[[Path], object]] = [
    old,
    lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(path.read_bytes()[:-1]),
    lambda path: path.write_bytes(path.read_bytes() + b"x"),
    lambda path: path.write_bytes(bytes(path.stat().st_size)),
]


def test_a_map_that_is_not_whole_or_says_nothing_of_itself_is_computed_again(vidattr: Command, tmp_path: Path) -> None:
    for name in "abcde":
        video(tmp_path / "clips" / f"{name}.mp4", 1)
    command = ("run", *PLAIN, "dataset.root=clips")
    vidattr(*command)
    before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("maps/*"))}
    for path, damage in zip(before, DAMAGES, strict=True):
        damage(path)
    (row,) = json.loads(vidattr(*command, "--dry-run", "--json").out)
    assert (row["missing"], row["again"]) == (5, {"damaged": 4, "unmarked": 1})
    render = vidattr("render", *PLAIN, "dataset.root=clips")
    judged = vidattr("evaluate", *PLAIN, "dataset.root=clips", "metric=flicker")
    assert render.code == judged.code == 1
    assert all(
        text.count("`vidattr run` with the same overrides computes it again") == 5 for text in (render.err, judged.err)
    )
    again = vidattr(*command)
    assert "\n  4 maps that were not whole are computed again\n" in again.out
    assert "\n  1 map of an earlier version, which does not say what it was made of, is computed again\n" in again.out
    assert {path: path.read_bytes() for path in sorted(tmp_path.rglob("maps/*"))} == before
    assert "0 written, 5 there before" in vidattr(*command).out


def test_voxels_that_are_not_those_that_were_written_are_not_judged(tmp_path: Path) -> None:
    from vidattr.errors import ClipError

    folder = RunFolder(tmp_path, {})
    folder.save("a", StoredMap(torch.ones(2, 3, 4), (1, 2), 0, "x", 1.0, (("x", 1.0),), {}))
    path = folder.map_path("a")
    path.write_bytes(path.read_bytes()[:-4] + bytes(4))  # a block that never reached the disk
    with pytest.raises(ClipError, match="not those that were written"):
        folder.load("a")


def test_an_old_map_is_not_drawn_over_new_frames_and_new_maps_come_with_new_pictures(
    vidattr: Command, tmp_path: Path
) -> None:
    path = video(tmp_path / "clips" / "a.mp4", 1)
    sheet = ("dataset=clips", "method=gradient,grad_x_input", *FAST[1:], "dataset.root=clips")
    command = ("dataset=clips", "method=gradient", *FAST[1:], "dataset.root=clips")
    vidattr("run", *sheet)
    before = {one.relative_to(tmp_path): one.read_bytes() for one in tmp_path.rglob("*.png")}
    assert len(before) == 3
    video(path, 2)
    found = vidattr("render", *sheet)
    assert found.code == 1
    assert "a: its source changed since its map was made" in found.err
    assert {one.relative_to(tmp_path): one.read_bytes() for one in tmp_path.rglob("*.png")} == before
    vidattr("run", *command)  # one of two methods: the sheet of both would show the old frames
    assert sorted(one.parent.name for one in tmp_path.rglob("*.png")) == ["visual", "visual"]
    found = vidattr("run", *sheet)
    assert "gradient: 0 written, 1 there before" in found.out
    vidattr("run", *sheet, "paths.out=fresh")
    after = {
        str(one.relative_to(tmp_path / "visual_res")): one.read_bytes()
        for one in (tmp_path / "visual_res").rglob("*.png")
    }
    assert after == {
        str(one.relative_to(tmp_path / "fresh")): one.read_bytes() for one in (tmp_path / "fresh").rglob("*.png")
    }


def test_a_map_that_was_deleted_before_its_video_was_replaced_leaves_no_picture_of_it(
    vidattr: Command, tmp_path: Path
) -> None:
    path = video(tmp_path / "clips" / "a.mp4", 1)
    vidattr("run", *DRAWN, "dataset.root=clips")
    (picture,) = tmp_path.rglob("visual/a.png")
    before = picture.read_bytes()
    next(tmp_path.rglob("maps/*")).unlink()
    video(path, 2)
    vidattr("run", *DRAWN, "dataset.root=clips")
    assert picture.read_bytes() != before


def test_extras_that_were_not_kept_come_when_they_are_asked_for(vidattr: Command, tmp_path: Path) -> None:
    video(tmp_path / "clips" / "a.mp4", 1)
    command = ("run", *PLAIN, "dataset.root=clips")
    vidattr(*command, "runtime.extras=false")
    assert "0 written, 1 there before" in vidattr(*command, "runtime.extras=false").out
    assert "1 map that was stored without extras is computed again" in vidattr(*command).out
    assert "0 written, 1 there before" in vidattr(*command, "runtime.extras=false").out


def test_another_annotation_is_judged_anew_with_the_old_map(
    vidattr: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vidattr.run import reading
    from vidattr.types import Index

    video(tmp_path / "clips" / "a.mp4", 1)
    video(tmp_path / "clips" / "b.mp4", 2)
    arguments = (*PLAIN, "dataset.root=clips")
    vidattr("run", *arguments)
    from vidattr.datasets.clips import Clips

    real = Clips.index
    boxes = {"a": (0.0, 0.0, 32.0, 48.0), "b": (0.0, 0.0, 32.0, 48.0)}

    def annotated(self: Clips) -> Index:
        clips = [replace(clip, boxes=dict.fromkeys(range(1, 9), (boxes[clip.id],))) for clip in real(self).clips]
        return Index(clips)

    monkeypatch.setattr(Clips, "index", annotated)
    judged: list[str] = []
    read = reading.read_video
    monkeypatch.setattr(reading, "read_video", lambda clip, *rest: judged.append(clip.id) or read(clip, *rest))
    evaluate = ("evaluate", *arguments, "runtime.clips=1", "metric=s_pt")
    assert vidattr(*evaluate).code == 0
    first = scores(tmp_path)
    boxes["b"] = (32.0, 0.0, 64.0, 48.0)
    judged.clear()
    table = vidattr("table", *evaluate[1:])
    assert "1 scores are of maps or annotations that changed since" in table.out
    assert vidattr(*evaluate).code == 0
    assert judged == ["b"]
    second = scores(tmp_path)
    assert (first.truth != second.truth).to_dict() == {"a": False, "b": True}
    assert first.made_of.equals(second.made_of)
    assert "0 written, 2 there before" in vidattr("run", *arguments).out


def test_a_table_has_the_clips_that_were_asked_for_and_the_maps_that_there_are(
    vidattr: Command, tmp_path: Path
) -> None:
    for n in range(4):
        video(tmp_path / "clips" / f"{'xxyy'[n]}-{n}.mp4", n)
    arguments = (*PLAIN, "dataset.root=clips")
    evaluate = (*arguments, "metric=flicker")
    vidattr("run", *arguments)

    def n(*command: str) -> dict[str, int]:
        found = vidattr(*command, "--json")
        (table,) = json.loads(found.out or found.err)
        return {entry["row"]: entry["n"] for entry in table["entries"]}

    assert set(n("evaluate", *evaluate).values()) == {4}
    assert set(n("evaluate", *evaluate, "limit=2").values()) == {2}
    assert set(n("table", *evaluate, "dataset.classes=[y]").values()) == {2}
    assert len(scores(tmp_path)) == 4
    next(tmp_path.rglob("maps/*.safetensors")).unlink()
    assert set(n("evaluate", *evaluate).values()) == {3}


def test_explained_videos_of_one_name_keep_apart_and_their_pictures_are_their_own(
    vidattr: Command, tmp_path: Path
) -> None:
    one, other = video(tmp_path / "clip.mp4", 1), video(tmp_path / "other" / "clip.mp4", 2)
    (tmp_path / "same").mkdir()
    same = Path(shutil.copy(one, tmp_path / "same" / "clip.mp4"))
    options = ("model=tiny_r2plus1d", "method=gradient,grad_x_input", *FAST[1:3], *FAST[4:], "--json")

    def explained(*videos: Path) -> list[str]:
        rows = json.loads(vidattr("explain", *map(str, videos), *options).out)
        return [row["clip"] for row in rows if row["method"] == "gradient"]

    assert explained(one) == ["clip"]
    before = {path: path.read_bytes() for path in (tmp_path / "visual_res").rglob("*clip*.*")}
    (second,) = explained(other)
    assert second.startswith("clip-")
    assert len(second) == len("clip-") + 6
    assert explained(other) == [second]
    assert {path: path.read_bytes() for path in before} == before
    assert explained(one, other) == ["clip", second]
    assert explained(same) == ["clip"]
    video(other, 3)
    sheets = {path.name: path.read_bytes() for path in (tmp_path / "visual_res/comparison").rglob("*.png")}
    assert explained(other) == [second]
    after = {path.name: path.read_bytes() for path in (tmp_path / "visual_res/comparison").rglob("*.png")}
    assert {name for name in sheets if sheets[name] != after[name]} == {f"{second}.png"}


def test_every_picture_of_a_video_that_was_replaced_is_another(vidattr: Command, tmp_path: Path) -> None:
    path = video(tmp_path / "clip.mp4", 1)
    options = ("model=tiny_r2plus1d", "method=ep3d", "method.areas=[0.2]", "method.iterations=2", *FAST[1:3])
    seen = []
    for seed in (1, 2):
        video(path, seed)
        (row,) = json.loads(vidattr("explain", str(path), *options, "--json").out)
        assert [Path(one).name for one in row["pictures"]] == ["clip.png", "clip.gif", "clip.mp4", "clip.masks.png"]
        seen.append([Path(one).read_bytes() for one in row["pictures"]])
    assert all(old != new for old, new in zip(*seen, strict=True))


def test_a_strip_of_a_video_that_was_replaced_goes(vidattr: Command, tmp_path: Path) -> None:
    for n, name in enumerate("ab"):
        video(tmp_path / "clips" / f"{name}.mp4", n)
    command = ("dataset=clips", *FAST, "render.grid=false", "dataset.root=clips")
    vidattr("run", *command)
    vidattr("evaluate", *command, "metric=sanity")
    strips = {path for path in tmp_path.rglob("*sanity*/*") if path.suffix in (".png", ".safetensors")}
    assert len(strips) == 2 * (2 + len(BASELINES))  # two clips: the picture, and the maps of gradient and the baselines
    video(tmp_path / "clips" / "a.mp4", 5)
    assert vidattr("evaluate", *command, "metric=sanity").code == 1
    assert {path.stem for path in strips if path.exists() and not {*BASELINES} & {*path.parts}} == {"b"}
    vidattr("run", *command)
    vidattr("evaluate", *command, "metric=sanity")
    assert all(path.exists() for path in strips)


def test_a_network_whose_file_changed_is_not_the_resident_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import load_file, save_file

    from vidattr.errors import ConfigError
    from vidattr.models.tiny_r2plus1d import TinyR2Plus1D
    from vidattr.models.weights.loading import WeightsOrigin
    from vidattr.run.compose import experiments
    from vidattr.run.resident import Resident

    shipped = WeightsOrigin(package="tiny_r2plus1d").file("package")
    assert shipped is not None
    path = tmp_path / "own.safetensors"

    def write(factor: float) -> None:
        save_file(
            {
                name: tensor * factor if tensor.is_floating_point() else tensor
                for name, tensor in load_file(shipped).items()
            },
            path,
        )

    write(1.0)
    (experiment,) = experiments([f"model.weights={path}"])
    resident = Resident(experiment)
    first = resident.network
    assert resident.serving(experiment) is resident
    write(0.5)
    assert resident.serving(experiment) is not resident
    other = resident.serving(experiment).network
    assert not torch.equal(next(first.module.parameters()), next(other.module.parameters()))
    load = TinyR2Plus1D.load
    monkeypatch.setattr(TinyR2Plus1D, "load", lambda self: (load(self), write(2.0))[0])
    with pytest.raises(ConfigError, match="changed while they were read"):
        _ = Resident(experiment).network
