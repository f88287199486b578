"""Progress inside a batch, plain lines without a terminal, and the log of a run."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

import pytest

from conftest import Command
from vidattr.methods.perturbation.extremal_perturbation import ExtremalPerturbation
from vidattr.progress import listening, tracked
from vidattr.run import progress
from vidattr.run.compose import part
from vidattr.run.progress import Bar
from vidattr.types import Query

SMALL = ("dataset.clips=2", "render.grid=false", "render.gif=false", "render.mp4=false", "render.comparison=false")


def test_loops_inside_loops_count_together() -> None:
    seen: list[tuple[float, str]] = []
    with listening(lambda share, words: seen.append((share, words))):
        for _ in tracked(range(2), 2, "parts"):
            for step in tracked(range(4), 4, "masks", 100):
                if step == 2:
                    break
        list(tracked(range(3), 3, "others"))
    shares = [share for share, _ in seen]
    assert shares[:4] == [0, 0, 0.125, 0.25]
    assert (0.625, "1 of 2 parts, 25 of 100 masks") in seen
    assert seen[-1] == (1.0, "3 of 3 others"), "a loop that was left early does not count on"
    assert list(tracked("ab", 2, "letters")) == ["a", "b"], "nobody listens"


@pytest.mark.parametrize(
    ("name", "fields", "unit", "last"),
    [
        ("step", {"areas": [0.2], "iterations": 3, "stop_window": None, "late_from": None}, "iterations", 3),
        ("ep2d", {"areas": [0.2], "iterations": 2, "stop_window": None, "late_from": None}, "iterations", 2),
        ("rise", {"masks": 24}, "masks", 48),
        ("osa", {"stride": 32, "stride_frames": 8, "window": 32}, "masks", None),
        ("aosa_single", {"stride": 32}, "masks", None),
        ("integrated_gradients", {"steps": 9}, "points", 18),
        ("smoothgrad", {"n": 9}, "points", 18),
    ],
)
def test_methods_of_many_passes_tell_how_far_they_are(
    name: str, fields: dict[str, object], unit: str, last: int | None
) -> None:
    import torch

    from vidattr.api import load_model

    model = load_model("tiny_r2plus1d", device="cpu", max_batch=4, input={"frames": 8})
    query = Query(torch.rand(2, 3, 8, 64, 64), torch.tensor([0, 1]), (0, 1))
    seen: list[tuple[float, str]] = []
    with listening(lambda share, words: seen.append((share, words))):
        part("method", name, fields)(model, query)
    counts = [(int(a), int(b)) for _, words in seen for a, b in re.findall(rf"(\d+) of (\d+) {unit}", words)]
    assert len(counts) > 2
    assert counts[-1][0] == counts[-1][1]
    assert last is None or counts[-1][1] == last
    assert [share for share, _ in seen] == sorted(share for share, _ in seen)


def test_without_a_terminal_there_are_plain_lines_with_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    with Bar("clips · r3d_18", 4, quiet=False) as bar:
        bar.update(1)
        bar.show(0.5, "step: 200 of 400 iterations")
    lines = capsys.readouterr().err.splitlines()
    assert "\r" not in "".join(lines)
    pattern = r"\d\d:\d\d:\d\d  clips · r3d_18: 1 of 4 clips, step: 200 of 400 iterations, about \d+ s left"
    assert re.fullmatch(pattern, lines[1])
    assert lines[-1].endswith("1 of 4 clips in 0 s")
    with Bar("clips", 4, quiet=True) as bar:
        bar.update(4)
    with Bar("nothing to do", 0, quiet=False):
        pass
    assert capsys.readouterr().err == ""


def test_a_run_is_logged_with_times_and_a_run_without_work_is_not(
    vidattr: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: ExtremalPerturbation, *_: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(ExtremalPerturbation, "__call__", fails)
    cells = ("method=gradient,ep3d", *SMALL)
    assert vidattr("run", *cells, "-q").code == 1
    (log,) = (tmp_path / "visual_res/logs").iterdir()
    lines = log.read_text().splitlines()
    assert all(datetime.fromisoformat(line.partition(" ")[0]).tzinfo is not None for line in lines)
    text = "\n".join(lines)
    assert "synthetic · tiny_r2plus1d: 2 clips to compute by gradient in visual_res/gradient" in text
    assert re.search(r"gradient: object-0000-disc, \S+: \d+\.\d s", text)
    assert "ep3d: object-0000-disc failed (explain): ValueError: a bug" in text
    assert "gradient: 2 written, 0 failed" in text
    assert vidattr("run", "method=gradient", *SMALL, "-q").code == 0
    assert log.read_text().splitlines() == lines


def test_a_bar_on_a_terminal_ends_with_what_was_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(progress, "_REDRAW", 0.0)
    with Bar("clips · r3d_18", 4, quiet=False) as bar:
        bar.show(1.0, "step: 200 of 400 iterations")
        bar.update(3)
    states = capsys.readouterr().err.split("\r")
    assert any("25%" in state and "0 of 4 clips, step: 200 of 400 iterations" in state for state in states)
    assert "75%" in states[-1]
    assert "3 of 4 clips" in states[-1]
