"""What is doubtful about clips is told and kept by every verb and --dry-run, after a kill and by shards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from conftest import ROOT, Command
from vidattr.run import doubts
from vidattr.run.doubts import Doubts
from vidattr.types import Clip

BIKING = ROOT / "test_data/ucf101_24/UCF-101/Biking"
CUT = "of 24 frames decoded; the file breaks off"
NOTE = "not read, for their suffix: Biking/notes.txt"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """One whole clip, one that was cut off, and a file that is not read."""
    root = tmp_path / "data"
    shutil.copytree(BIKING, root / "Biking")
    cut = root / "Biking/v_Biking_g01_c02.avi"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 6 // 10])
    (root / "Biking/notes.txt").write_text("")
    return root


UNDRAWN = [f"render.{name}=false" for name in ("grid", "gif", "mp4", "comparison")]


def arguments(data: Path, *more: str) -> list[str]:
    return [
        "dataset=clips",
        f"dataset.root={data}",
        "model=tiny_r2plus1d",
        "method=center",
        "target=predicted",
        *UNDRAWN,
        *more,
    ]


def record(folder: Path) -> list[tuple[str, str]]:
    files = sorted(folder.rglob("warnings*.jsonl"))
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return [(row["clip"], row["warning"]) for row in rows]


def test_run_evaluate_and_explain_tell_both_numbers_and_keep_them(vidattr: Command, data: Path, tmp_path: Path) -> None:
    for _ in range(2):  # the second run reads nothing and tells the same
        ran = vidattr("run", *arguments(data, "--quiet"))
        assert ran.code == 0
        first, second = ran.err.splitlines()
        assert first.startswith("warning: Biking-v_Biking_g01_c02: ")
        assert CUT in first
        assert second == f"note: {NOTE}"
        assert [clip for clip, _ in record(tmp_path / "visual_res")] == ["", "Biking-v_Biking_g01_c02"]
        assert record(tmp_path / "visual_res")[0][1] == NOTE
    for _ in range(2):
        judged = vidattr("evaluate", *arguments(data, "metric=flicker", "--quiet"))
        assert judged.code == 0
        assert judged.err.splitlines() == ran.err.splitlines()
    (row,) = json.loads(vidattr("run", *arguments(data, "--json")).out)
    assert CUT in row["warnings"]["Biking-v_Biking_g01_c02"][0]
    assert row["notes"] == [NOTE]
    assert f"note: {NOTE}" in vidattr("run", *arguments(data, "--dry-run")).out
    explained = vidattr(
        "explain",
        str(data / "Biking/v_Biking_g01_c02.avi"),
        "model=tiny_r2plus1d",
        "method=center",
        *UNDRAWN,
        "--quiet",
    )
    assert explained.code == 0
    assert CUT in explained.err


def test_damaged_fail_makes_an_error_of_it_before_and_after_it_was_explained(
    vidattr: Command, data: Path, tmp_path: Path
) -> None:
    fail = arguments(data, "dataset.damaged=fail", "--quiet")
    ran = vidattr("run", *fail)
    assert ran.code == 1
    assert "1 written, 0 there before, 1 failed" in ran.out
    assert CUT in ran.err
    assert "dataset.damaged=warn" in ran.err
    assert (
        "1 written, 1 there before" in vidattr("run", *arguments(data, "--quiet")).out
    )  # the same folder: no number changes
    assert "2 " in vidattr("evaluate", *arguments(data, "metric=flicker", "--quiet")).out
    for verb, more in (("run", []), ("evaluate", ["metric=flicker"])):
        again = vidattr(verb, *fail, *more)
        assert again.code == 1, verb
        assert "damaged: " in again.err
    shutil.copy(BIKING / "v_Biking_g01_c02.avi", data / "Biking")  # mended
    ran = vidattr("run", *fail)
    assert (ran.code, ran.err) == (0, f"note: {NOTE}\n")
    assert record(tmp_path / "visual_res") == [("", NOTE)]


def test_the_python_interface_and_training_tell_it_too(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from vidattr import load_model, read_clip
    from vidattr.training.clip_loader import ClipLoader

    network = load_model("tiny_r2plus1d", device="cpu")
    with pytest.warns(UserWarning, match=CUT):
        read_clip(data / "Biking/v_Biking_g01_c02.avi", network)
    clips = [Clip(path.stem, path, network.classes[0]) for path in sorted((data / "Biking").glob("*.avi"))]
    _, doubts = ClipLoader(clips, [0] * len(clips), network.view).check(range(len(clips)), "clips", quiet=True)
    assert [CUT in text for texts in doubts.values() for text in texts] == [True]


def test_shards_keep_files_of_their_own_and_a_whole_run_takes_them_over(
    vidattr: Command, data: Path, tmp_path: Path
) -> None:
    for shard in ("1/2", "2/2"):
        assert vidattr("run", *arguments(data, "runtime.clips=1", "--quiet"), "--shard", shard).code == 0
    assert [path.name for path in sorted((tmp_path / "visual_res").rglob("warnings*"))] == [
        "warnings.1-of-2.jsonl",
        "warnings.2-of-2.jsonl",
    ]
    ran = vidattr("run", *arguments(data, "runtime.clips=1", "--quiet"))
    assert CUT in ran.err
    assert [path.name for path in sorted((tmp_path / "visual_res").rglob("warnings*"))] == ["warnings.jsonl"]
    assert [clip for clip, _ in record(tmp_path / "visual_res")] == ["", "Biking-v_Biking_g01_c02"]


def test_a_doubt_is_on_disk_before_the_map_that_it_is_about(
    vidattr: Command, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vidattr.run.store import RunFolder

    seen: list[list[tuple[str, str]]] = []
    save = RunFolder.save
    monkeypatch.setattr(
        RunFolder, "save", lambda folder, *rest: (seen.append(record(folder.path)), save(folder, *rest))[1]
    )
    vidattr("run", *arguments(data, "--quiet"))
    assert len(seen) == 2
    assert all(("Biking-v_Biking_g01_c02" in dict(lines)) for lines in seen)


def test_what_is_the_same_for_many_clips_is_told_once_and_no_more_than_a_few_lines() -> None:
    same = {f"clip{number}": ("guessed",) for number in range(9)}
    assert doubts.told(same) == ["warning: 9 clips (clip0, clip1, clip2, …): guessed"]
    many = doubts.told({f"clip{number}": (f"text {number}",) for number in range(9)}, ["left"], Path("warnings.jsonl"))
    assert many[:1] == ["warning: clip0: text 0"]
    assert many[5:] == ["  and 4 more in warnings.jsonl", "note: left"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]\n1\nnull\n", b"\xff\xfe", b'{"clip": "a", "stage": "read"}\n'])
def test_a_damaged_record_is_written_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "warnings.jsonl").write_bytes(content)
    found = Doubts(tmp_path, [Clip("a", tmp_path)])
    assert found.found() == {}
    found.write()
    assert not (tmp_path / "warnings.jsonl").exists()
