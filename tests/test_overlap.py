"""A batch is decoded and uploaded while the network explains another one, and its maps are stored beside the next."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import Command
from other_device import FAR, far, watched
from vidattr.errors import OutputError
from vidattr.models.speed.lagging import Download, Upload
from vidattr.run import compose, reading, runner
from vidattr.run.control import Control, DroppedBatch
from vidattr.run.job import Job
from vidattr.run.store import RunFolder
from vidattr.run.storing import BEHIND

PATIENCE = 60.0  # seconds that a fake waits for what has to happen meanwhile: much longer than it takes
CLIPS = ("dataset.clips=10", "runtime.clips=2", "runtime.workers=2", "save_label=x", "dataset.size=32")
RUN = ("method=center", *CLIPS, "render.grid=false", "render.gif=false", "render.mp4=false")


class World:
    """A run whose stages can be held and note what they do."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.done: list[tuple[str, int]] = []  # stage and number of the batch, in order of time
        self._changed = threading.Condition()
        self.hold: Callable[[str, int], tuple[str, int] | None] = lambda stage, batch: None
        self.late: list[tuple[str, int]] = []  # what did not happen in time
        self.batch: dict[str, int] = {}
        read, uploaded, explain, save = reading.read_video, reading.Upload, runner.explain_batch, RunFolder.save

        def read_video(clip: Any, *rest: Any) -> Any:
            self.stage("decode", self.batch[clip.id])
            return read(clip, *rest)

        def upload(host: Any, device: Any) -> Upload:
            number = sum(stage == "upload" for stage, _ in self.done)
            self.stage("upload", number)
            return uploaded(host, device)

        def explain_batch(network: Any, experiments: Any, ready: Any) -> Any:
            self.stage("explain", self.batch[ready.clips[0].id])
            return explain(network, experiments, ready)

        def save_map(folder: RunFolder, clip: str, found: Any) -> None:
            self.stage("store", self.batch[clip])
            save(folder, clip, found)

        patch.setattr(reading, "read_video", read_video)
        patch.setattr(reading, "Upload", upload)
        patch.setattr(runner, "explain_batch", explain_batch)
        patch.setattr(RunFolder, "save", save_map)

    def stage(self, stage: str, batch: int) -> None:
        """Notes that a stage begins, and waits for what it is held by."""
        with self._changed:
            self.done.append((stage, batch))
            self._changed.notify_all()
            held = self.hold(stage, batch)
            if held and not self._changed.wait_for(lambda: held in self.done, PATIENCE):
                self.late.append(held)

    def run(self, *overrides: str, control: Control | None = None, fail_fast: bool = False) -> list[Job]:
        """Runs the experiments."""
        found = compose.experiments([*RUN, *overrides])
        clips = found[0].dataset.index().clips
        self.batch = {clip.id: number // 2 for number, clip in enumerate(clips)}
        return runner.run(found, quiet=True, control=control, fail_fast=fail_fast)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    monkeypatch.chdir(tmp_path)
    return World(monkeypatch)


def stored() -> list[str]:
    return sorted(path.stem for path in Path("visual_res").rglob("maps/*.safetensors"))


@pytest.mark.parametrize(
    ("held", "until"),
    [
        (("explain", 0), ("decode", 1)),
        (("explain", 0), ("decode", 2)),
        (("explain", 1), ("upload", 3)),
        (("store", 0), ("explain", 1)),
        (("store", 3), ("explain", 4)),
    ],
)
def test_a_stage_of_a_batch_waits_for_no_later_stage_of_another(
    world: World, held: tuple[str, int], until: tuple[str, int]
) -> None:
    world.hold = lambda *now: until if now == held else None
    (job,) = world.run()
    assert world.late == []
    assert job.written == len(stored()) == 10


def test_few_batches_are_in_memory_where_storing_is_slow(world: World) -> None:
    ahead: list[int] = []

    def hold(stage: str, batch: int) -> tuple[str, int] | None:
        if stage == "decode":
            ahead.append(batch - max([-1, *(number for what, number in world.done if what == "explain")]))
        return ("explain", batch + BEHIND) if stage == "store" and batch + BEHIND < 5 else None

    world.hold = hold
    (job,) = world.run()
    assert (world.late, job.failures, job.written) == ([], [], 10)
    assert 1 < max(ahead) <= 1 + reading.AHEAD
    for stage, expected in (("explain", [0, 1, 2, 3, 4]), ("store", [0, 0, 1, 1, 2, 2, 3, 3, 4, 4])):
        assert [number for what, number in world.done if what == stage] == expected
    for batch in range(5 - BEHIND - 1):
        last = max(place for place, now in enumerate(world.done) if now == ("store", batch))
        assert last < world.done.index(("explain", batch + BEHIND + 1))


def test_a_clip_that_cannot_be_decoded_explained_or_stored_is_one_line_and_the_others_have_their_maps(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (whole,) = world.run("paths.out=whole")
    names = sorted(world.batch, key=lambda clip: (world.batch[clip], clip))
    read, save = reading.read_video, RunFolder.save

    def read_video(clip: Any, *rest: Any) -> Any:
        if clip.id == names[3]:
            raise ValueError("cannot be decoded")
        return read(clip, *rest)

    def save_map(folder: RunFolder, clip: str, found: Any) -> None:
        if clip in (names[0], names[9]):
            raise ValueError("cannot be stored")
        save(folder, clip, found)

    monkeypatch.setattr(reading, "read_video", read_video)
    monkeypatch.setattr(RunFolder, "save", save_map)
    (job,) = world.run()
    lines = [json.loads(line) for line in (job.folder.path / "errors.jsonl").read_text().splitlines()]
    assert sorted((line["clip"], line["stage"]) for line in lines) == [
        (names[0], "store"),
        (names[3], "read"),
        (names[9], "store"),
    ]
    assert (job.written, len(stored()), job.missing) == (7, 7, set())
    for name in stored():
        assert job.folder.map_path(name).read_bytes() == whole.folder.map_path(name).read_bytes()
    monkeypatch.undo()


def test_a_disk_that_is_full_ends_the_run_and_the_next_run_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        save = RunFolder.save

        def full(folder: RunFolder, clip: str, found: Any) -> None:
            if world.batch[clip] == 1:
                raise OutputError("the disk is full")
            save(folder, clip, found)

        patch.setattr(RunFolder, "save", full)
        with pytest.raises(OutputError, match="full"):
            world.run()
    assert len(stored()) == 2, "nothing is stored after the error"
    assert [number for what, number in world.done if what == "explain"] in ([0, 1], [0, 1, 2])
    (job,) = world.run()
    assert (job.written, job.present) == (8, 2)


def test_a_batch_is_dropped_before_its_maps_are_written_or_after_all_of_them(world: World) -> None:
    control = Control()

    def hold(stage: str, batch: int) -> tuple[str, int] | None:
        if (stage, batch) == ("explain", 2):
            control.drop()
        return ("explain", 2) if (stage, batch) == ("store", 1) else None

    world.hold = hold
    with pytest.raises(DroppedBatch):
        world.run(control=control)
    assert len(stored()) == 4
    assert control.stopped
    assert not any(thread.name.startswith(("store", "draw")) for thread in threading.enumerate())
    world.hold = lambda *now: None
    (job,) = world.run()
    assert (job.written, job.present) == (6, 4)


def test_a_run_is_told_to_stop_and_stores_the_batch_in_work(world: World) -> None:
    told: list[int] = []

    class Stopping(Control):
        def batch_begun(self, clips: Any) -> None:
            if world.batch[clips[0]] == 2:
                self.stop()

        def batch_done(self, clips: Any, stored: int) -> None:
            told.append(stored)

    world.run(control=Stopping())
    assert told == [2, 2, 2]
    assert len(stored()) == 6


def test_clips_of_different_sizes_have_their_errors_where_they_had_them(
    vidattr: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def impossible(*_: object) -> Upload:
        raise ValueError("not now")

    assert vidattr("run", *RUN, "paths.out=ahead", "--quiet").code == 0
    monkeypatch.setattr(reading, "Upload", impossible)
    found = vidattr("run", *RUN, "paths.out=later", "--quiet")
    assert (found.code, "10 written" in found.out) == (0, True)


def test_no_copy_in_either_direction_makes_the_host_wait() -> None:
    host = torch.arange(6.0).view(2, 3)
    with watched() as found:
        there = Upload(host, FAR).arrived()
        back = Download({"map": there * 2, "extra": there[0]}).arrived()
    assert found == []
    assert there.device == FAR
    assert torch.equal(back["map"], host * 2)
    assert torch.equal(back["extra"], host[0])
    assert Download({"map": host}).arrived()["map"] is host  # nothing is copied on a CPU
    with watched() as found:
        far(host).cpu()
    assert found == ["download"]
