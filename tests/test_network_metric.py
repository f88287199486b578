"""A metric that judges the network alone: no run, no method, one row per network."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from conftest import Command
from vidattr.datasets.synthetic import Synthetic

METRIC = '''
from dataclasses import dataclass
from typing import ClassVar

import torch

from vidattr.types import Column, Scores


@dataclass(frozen=True)
class Sure:
    """The probability of the class that the label names."""

    version: ClassVar[int] = 1
    unjudged: ClassVar[str] = "the network does not know its label"

    def score_network(self, model, query, truth):
        assert all(one.label for one in truth)
        shares = model.probabilities(query.frames).double()
        known = query.target >= 0
        sure = shares.gather(1, query.target.clamp(min=0)[:, None])[:, 0].where(known, torch.nan)
        places = shares.argmax(1).tolist()
        return Scores({"sure": sure[None]}, notes={"predicted": [model.classes[place] for place in places]})

    def summary(self):
        return (Column("Sure", score="sure", bounds=(0, 1)),)

    def extra_files(self, rows):
        return {".predicted.csv": "".join(f"{title},{len(frame)}\\n" for title, frame in rows.items()).encode()}
'''
ROW = ("metric=sure", "--add-configs", "mine")
CLIPS = ("dataset=clips", "dataset.root=clips")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with such a metric, and four clips: two of a class of the tiny networks, two of another."""
    (tmp_path / "mine/metric").mkdir(parents=True)
    (tmp_path / "mine/metric/sure.yaml").write_text("# Sure\n# Source: none\n_target_: sure_metric.Sure\n")
    (tmp_path / "sure_metric.py").write_text(METRIC)
    monkeypatch.syspath_prepend(str(tmp_path))
    made = Synthetic(clips=2, frames=8, size=64).index().clips
    for name, clip in (("disc-a", made[0]), ("disc-b", made[1]), ("unicorn-a", made[0]), ("unicorn-b", made[1])):
        folder = tmp_path / "clips" / name
        folder.mkdir(parents=True)
        assert callable(clip.source)
        for number, frame in enumerate(clip.source(), start=1):
            cv2.imwrite(str(folder / f"{number:05d}.png"), np.ascontiguousarray(frame[..., ::-1]))
    return tmp_path


def rows(folder: Path, model: str) -> pd.DataFrame:
    (path,) = (folder / "visual_res/network" / model).glob("clips-*/scores/sure-*.csv")
    return pd.read_csv(path).set_index("clip")


def test_networks_are_rows_of_one_table_and_no_run_is_needed(vidattr: Command, here: Path) -> None:
    models = "model=tiny_r2plus1d,tiny_cnn_lstm"
    early = vidattr("table", *ROW, *CLIPS)
    assert (early.code, "no scores yet" in early.err) == (2, True)
    found = vidattr("evaluate", models, "method=gradient,grad_cam", *CLIPS, *ROW, "--json", "--quiet")
    assert found.code == 0, found.err
    (table,) = json.loads(found.out)
    assert [(e["row"], e["n"], e["n_nan"]) for e in table["entries"]] == [
        ("tiny_r2plus1d", 2, 2),
        ("tiny_cnn_lstm", 2, 2),
    ], "a label that the network does not know is NaN and counted; methods do not matter"
    assert table["caption"] == "sure on clips"
    assert "A clip is NaN where the network does not know its label." in table["notes"]
    assert not any("noise" in note for note in table["notes"])
    (extra,) = (here / "visual_res/tables/network").glob("clips-sure-*.predicted.csv")
    assert extra.read_text() == "tiny_r2plus1d,4\ntiny_cnn_lstm,4\n"
    kept = rows(here, "tiny_r2plus1d")
    assert list(kept.index) == ["disc-a", "disc-b", "unicorn-a", "unicorn-b"]
    assert kept["predicted"].notna().all()
    assert {path.name for path in (here / "visual_res").iterdir()} == {"network", "tables"}
    assert vidattr("table", models, *CLIPS, *ROW, "--json").out == found.out


def test_clips_that_changed_are_judged_again_and_no_other(
    vidattr: Command, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vidattr.models.network.network import VideoModel

    assert vidattr("evaluate", *CLIPS, *ROW, "--quiet").code == 0
    before, calls, real = rows(here, "tiny_r2plus1d"), [], VideoModel.probabilities
    monkeypatch.setattr(VideoModel, "probabilities", lambda self, x: calls.append(len(x)) or real(self, x))
    assert vidattr("evaluate", *CLIPS, *ROW, "--quiet").code == 0
    assert calls == []
    for path in (here / "clips/disc-a").iterdir():
        cv2.imwrite(str(path), np.full((64, 64, 3), 200, np.uint8))
    assert "1 scores are of clips or annotations that changed since" in vidattr("table", *CLIPS, *ROW).out
    assert vidattr("evaluate", *CLIPS, *ROW, "--quiet").code == 0
    after = rows(here, "tiny_r2plus1d")
    assert calls == [4], "the clips of its batch, which keeps its size"
    assert after["sure"]["disc-a"] != before["sure"]["disc-a"]
    assert after["sure"]["disc-b"] == before["sure"]["disc-b"]


def test_a_clip_that_cannot_be_read_or_judged_is_named_and_the_others_go_on(
    vidattr: Command, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sure_metric

    real = sure_metric.Sure.score_network

    def picky(self, model, query, truth):
        if any(one.clip == "disc-b" for one in truth):
            raise ZeroDivisionError("by zero")
        return real(self, model, query, truth)

    for path in (here / "clips/unicorn-a").iterdir():
        path.write_bytes(b"nothing")
    monkeypatch.setattr(sure_metric.Sure, "score_network", picky)
    found = vidattr("evaluate", *CLIPS, *ROW, "--quiet")
    assert found.code == 1
    assert "Traceback" not in found.err
    assert list(rows(here, "tiny_r2plus1d").index) == ["disc-a", "unicorn-b"]
    assert "tiny_r2plus1d: 2 of 4 clips could not be judged" in found.out
    (lines,) = (path.read_text().splitlines() for path in here.rglob("scores/sure-*.errors.jsonl"))
    assert {(one["clip"], one["stage"]) for one in map(json.loads, lines)} == {
        ("unicorn-a", "read"),
        ("disc-b", "judge"),
    }
