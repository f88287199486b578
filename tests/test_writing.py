"""Files appear whole or not at all: left-over parts, modes, durability, full disks, folders that refuse."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import resource
import stat
import time
from pathlib import Path

import pytest
import torch

from conftest import Command
from vidattr.errors import ClipError, Failure, OutputError
from vidattr.run.store import RunFolder, StoredMap
from vidattr.writing import set_durable, sweep, whole, write_bytes, write_text

MAP = StoredMap(torch.ones(2, 3, 4), (1, 2), 0, "disc", 1.0, (("disc", 1.0),), {})


@pytest.fixture
def umask() -> object:
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


def test_every_file_has_the_mode_that_the_umask_says(umask: int, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", {})
    folder.open({})
    folder.save("a", MAP)
    write_text(tmp_path / "table.md", "")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o640}


@pytest.mark.parametrize(
    "name", [".0a1b2c3d-0123456789abcdef.part.csv", ".00000000-0123456789abcdef.part", ".a.csv.otherhost-12.part.csv"]
)
def test_parts_of_another_machine_go_when_they_are_old_by_the_clock_of_the_file_system(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "maps").mkdir()
    part = tmp_path / "maps" / name
    part.write_text("left behind")
    sweep(tmp_path)
    assert part.exists(), "it may be written this very moment"
    os.utime(part, (time.time() - 4000,) * 2)
    sweep(tmp_path)
    assert not any((tmp_path / "maps").iterdir()), "neither the part nor the probe of the clock"


def test_a_part_whose_writer_holds_it_stays_whatever_its_process_number_or_age(tmp_path: Path) -> None:
    with whole(tmp_path / "a.csv") as part:
        os.utime(part, (0, 0))
        sweep(tmp_path)
        assert part.exists()
        moved = part.with_name(".0a1b2c3d-0123456789abcdef.part.csv")  # as if of another machine, whose locks are seen
        part.rename(moved)
        sweep(tmp_path)
        assert moved.exists()
        moved.rename(part)
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize("name", [".mine.part", ".part-1.txt", ".notes.partial", "a.part.csv"])
def test_what_only_looks_like_a_part_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    os.utime(tmp_path / name, (0, 0))
    sweep(tmp_path)
    assert (tmp_path / name).exists()


def test_a_part_that_is_swept_before_it_is_locked_is_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, times = fcntl.flock, []

    def late(file: int, how: int) -> None:
        if not times:
            times.append(1)
            for part in tmp_path.iterdir():
                part.unlink()
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    write_text(tmp_path / "a.txt", "whole")
    assert (tmp_path / "a.txt").read_text() == "whole"


def test_without_locks_files_are_written_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with whole(tmp_path / "a.txt") as part:
        part.write_text("whole")
        sweep(tmp_path)
        assert part.exists(), "a young one is never swept"
    old = tmp_path / f".{0:08x}-0123456789abcdef.part"
    old.write_text("")
    os.utime(old, (0, 0))
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("asked", [True, False])
def test_durable_files_reach_the_disk_before_they_get_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    events: list[str] = []
    sync, replace = os.fsync, os.replace

    def synced(file: int) -> None:
        events.append("sync " + os.readlink(f"/proc/self/fd/{file}").replace(str(tmp_path), "."))
        sync(file)

    def replaced(source: Path, target: Path) -> None:
        events.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    set_durable(asked)
    try:
        write_bytes(tmp_path / "new" / "deep" / "a", b"whole")
    finally:
        set_durable(False)
    if asked:
        assert ".part" in events[0]
        assert events[1:] == ["rename", "sync ./new/deep", "sync ./new", "sync ."]
    else:
        assert events == ["rename"]


def _limited(path: Path, size: int, answers: multiprocessing.Queue[str]) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    try:
        RunFolder(path, {}).save("a", MAP)
        answers.put("written")
    except OutputError as error:
        answers.put(str(error))


@pytest.mark.parametrize(("size", "words"), [(100, "may not become this large"), (100_000, "written")])
def test_a_limit_on_the_size_of_files_is_a_user_error_and_leaves_nothing(tmp_path: Path, size: int, words: str) -> None:
    answers: multiprocessing.Queue[str] = multiprocessing.get_context("fork").Queue()
    process = multiprocessing.get_context("fork").Process(target=_limited, args=(tmp_path, size, answers))
    process.start()
    assert words in answers.get(timeout=600)
    process.join()
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == (words == "written")


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.ENOSPC, OutputError, "the disk is full"),
        (errno.EDQUOT, OutputError, "the disk is full"),
        (errno.EROFS, OutputError, "no permission"),
        (errno.EIO, OutputError, "Input/output error"),
        (errno.ENAMETOOLONG, ClipError, "no file can have this name"),
    ],
)
def test_what_the_system_says_of_a_file_becomes_a_user_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception], words: str
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(kind, match=words) as raised:
        write_text(tmp_path / "a.txt", "x")
    assert "to do:" in str(raised.value)
    assert not any(tmp_path.iterdir())


def test_a_name_that_is_too_long_is_one_clips_affair_and_a_file_in_the_way_is_not(tmp_path: Path) -> None:
    with pytest.raises(ClipError, match="no file can have this name"):
        write_text(tmp_path / ("x" * 300), "")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_text(tmp_path / "file" / "a.txt", "")


def test_render_refuses_a_folder_that_cannot_be(vidattr: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = vidattr("render", "paths.out=file/visual_res", "dataset.clips=2")
    assert found.code == 2
    assert "another folder as paths.out" in found.err


def test_lines_of_another_division_into_shards_go_with_the_clips_that_are_seen_again(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, {})
    a, b, rest = Failure("a", "read", "E", ""), Failure("b", "read", "E", ""), Failure("", "method", "E", "")
    folder.write_errors([a, rest], (1, 2), {"a"})
    folder.write_errors([b], (2, 2), {"b"})
    assert {path.name for path in tmp_path.iterdir()} == {"errors.1-of-2.jsonl", "errors.2-of-2.jsonl"}
    folder.write_errors([], (1, 3), {"a"})
    assert [path.name for path in tmp_path.iterdir()] == ["errors.2-of-2.jsonl"], "b was not seen again yet"
    assert json.loads((tmp_path / "errors.2-of-2.jsonl").read_text()) == b.row()
    folder.write_errors([], (1, 1), {"a", "b"})
    assert not any(tmp_path.iterdir())


def test_every_verb_writes_durably_where_it_is_asked_to(
    vidattr: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    sync = os.fsync

    def noted(file: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{file}"))
        sync(file)

    monkeypatch.setattr(os, "fsync", noted)
    base = ("method=center", "dataset.clips=1", "--quiet")
    for verb in ("run", "evaluate", "render"):
        assert vidattr(verb, *base, "paths.out=plain").code == 0
    assert not synced
    for verb, folder in (("run", "maps"), ("evaluate", "scores"), ("render", "visual")):
        synced.clear()
        assert vidattr(verb, *base, "runtime.durable=true").code == 0
        assert folder in {Path(name).name for name in synced}, verb
        assert any(".part" in name for name in synced), verb
    set_durable(False)
