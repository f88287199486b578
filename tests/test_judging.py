"""Nothing that one clip, or the lack of all truth, does to a metric stops an evaluation."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from conftest import Command
from vidattr.evaluate.table import BASELINES
from vidattr.metrics.flicker import Flicker
from vidattr.metrics.rerun.timing import Timing
from vidattr.metrics.spatial_pointing import SpatialPointing
from vidattr.run.compose import experiments
from vidattr.run.job import run_folder

BASE = ("method=gradient", "dataset=clips", "dataset.root=clips", "target=predicted")
QUIET = ("render.grid=false", "render.gif=false", "render.mp4=false", "--quiet")


@pytest.fixture
def unboxed(tmp_path: Path) -> Path:
    """Three clips without a box, a segment or a right answer."""
    noise = np.random.default_rng(0)
    for i in range(3):
        folder = tmp_path / "clips" / f"disc-{i}"
        folder.mkdir(parents=True)
        for t in range(1, 5):
            cv2.imwrite(str(folder / f"{t:05d}.png"), noise.integers(0, 255, (48, 64, 3), dtype=np.uint8))
    return tmp_path


def test_without_a_box_a_segment_or_a_finite_map_a_table_is_nan_and_says_why(vidattr: Command, unboxed: Path) -> None:
    assert vidattr("run", *BASE, *QUIET).code == 0
    for metric, why in (("s_pt", "no frame of the clip has a box"), ("t_pt", "segment is unknown")):
        found = vidattr("evaluate", *BASE, f"metric={metric}", "--quiet")
        assert found.code == 0, found.err
        assert "none: nothing was judged" in found.out
        assert "A clip is NaN where" in found.out
        assert why in " ".join(found.out.split())
    assert vidattr("table", *BASE).code == 0, "and stays readable"
    (experiment,) = experiments(list(BASE))
    folder = run_folder(experiment)
    for clip in folder.stored():
        stored = folder.load(clip, extras=True)
        folder.save(clip, dataclasses.replace(stored, map=torch.full_like(stored.map, torch.nan)))
    sweep = "metric=flicker,min_ratio"
    found = vidattr("evaluate", *BASE, sweep, "--json", "--quiet")
    assert found.code == 0, found.err
    for table in json.loads(found.out):
        (entry, *_) = (one for one in table["entries"] if one["row"] == "gradient")
        assert (entry["n"], entry["n_nan"]) == (0, 3)
        assert any("NaN where" in note for note in table["notes"])


def test_the_clip_that_a_metric_fails_on_is_found_and_the_others_keep_their_bits(
    vidattr: Command, unboxed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Flicker.score_maps

    def picky(self, batch):
        if any(one.clip == "disc-1" for one in batch.truth):
            raise ZeroDivisionError("by zero")
        return real(self, batch)

    assert vidattr("run", *BASE, *QUIET).code == 0
    monkeypatch.setattr(Flicker, "score_maps", picky)
    found = vidattr("evaluate", *BASE, "metric=flicker", "--quiet")
    assert found.code == 1
    assert "Traceback" not in found.err
    (scores,) = unboxed.rglob("gradient/*/*/scores/flicker-*.csv")
    judged = pd.read_csv(scores)
    assert list(judged["clip"]) == ["disc-0", "disc-2"]
    (lines,) = (path.read_text().splitlines() for path in unboxed.rglob("gradient/*/*/scores/flicker-*.errors.jsonl"))
    (one,) = (json.loads(text) for text in lines)
    assert (one["clip"], one["stage"], one["type"]) == ("disc-1", "judge", "ZeroDivisionError")
    assert "in picky" in one["traceback"]

    monkeypatch.setattr(Flicker, "score_maps", real)
    assert vidattr("evaluate", *BASE, "metric=flicker", "--quiet").code == 0
    again = pd.read_csv(scores)
    assert list(again["clip"]) == ["disc-0", "disc-1", "disc-2"]
    assert list(again["flicker"][[0, 2]]) == list(judged["flicker"])
    assert not list(unboxed.rglob("*.errors.jsonl"))


def test_a_metric_that_fails_on_one_method_alone_judges_the_others(
    vidattr: Command, unboxed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Timing.score_methods

    def picky(self, batch, methods):
        if any(type(method).__name__ == "Gradient" for method in methods):
            raise KeyError("of gradient")
        return real(self, batch, methods)

    assert vidattr("run", *BASE, *QUIET).code == 0
    assert vidattr("run", "method=grad_cam", *BASE[1:], *QUIET).code == 0
    monkeypatch.setattr(Timing, "score_methods", picky)
    quick = ("metric=timing", "metric.warmup=0", "metric.repeats=1")
    found = vidattr("evaluate", "method=gradient,grad_cam", *BASE[1:], *quick, "--quiet")
    assert found.code == 1
    assert found.err.count("Traceback (most recent call last)") == 1, (
        "no clip of it could be judged, all for one reason"
    )
    rows = {path.parents[3].name: len(pd.read_csv(path)) for path in unboxed.rglob("scores/timing-*.csv")}
    assert rows == {"grad_cam": 3, **dict.fromkeys(BASELINES, 3)}


@pytest.mark.parametrize("error", [ValueError("odd"), MemoryError(), OSError(5, "Input/output error")])
def test_whatever_loading_a_map_raises_costs_its_clip(
    vidattr: Command, unboxed: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    from vidattr.run.store import RunFolder

    real = RunFolder.load

    def load(self, clip, **more):
        if clip == "disc-1" and "gradient" in str(self.path):
            raise error
        return real(self, clip, **more)

    assert vidattr("run", *BASE, *QUIET).code == 0
    monkeypatch.setattr(RunFolder, "load", load)
    found = vidattr("evaluate", *BASE, "--quiet")
    assert found.code == 1
    assert "Traceback" not in found.err
    assert "disc-1" in found.err
    assert len(pd.read_csv(next(unboxed.rglob("gradient/*/*/scores/s_pt-*.csv")))) == 2


def test_a_kill_between_two_names_leaves_no_score_without_its_row(
    vidattr: Command, unboxed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    real, done = os.replace, []

    def killed(source: Path, target: Path) -> None:
        if "/scores/" in str(target):
            if len(done) == 1:
                raise KeyboardInterrupt
            done.append(target)
        real(source, target)

    assert vidattr("run", *BASE, *QUIET).code == 0
    monkeypatch.setattr(os, "replace", killed)
    assert vidattr("evaluate", *BASE, "--quiet").code != 0
    assert not list(unboxed.rglob("*.part*"))
    monkeypatch.setattr(os, "replace", real)
    assert vidattr("evaluate", *BASE, "--quiet").code == 0
    assert len(list(unboxed.rglob("scores/s_pt-*.csv"))) == 1 + len(BASELINES)


def test_metrics_say_when_a_clip_is_not_judged() -> None:
    for metric in (SpatialPointing, Flicker):
        assert metric.unjudged


@pytest.mark.parametrize("verb", ["evaluate", "table"])
def test_a_metric_written_for_the_earlier_protocol_is_told_the_new_one(
    vidattr: Command, unboxed: Path, verb: str
) -> None:
    (unboxed / "mine/metric").mkdir(parents=True)
    (unboxed / "mine/metric/old.yaml").write_text("_target_: old_metric.Old\n")
    (unboxed / "old_metric.py").write_text(
        "from dataclasses import dataclass\n"
        "@dataclass(frozen=True)\n"
        "class Old:\n"
        "    version = 1\n"
        "    needs_network = False\n"
        "    def __call__(self, model, query, truth, maps, methods=()): ...\n"
        "    def summary(self): return ()\n"
    )
    found = vidattr(verb, *BASE, "metric=old", "--add-configs", "mine")
    assert (found.code, "Traceback" in found.err) == (2, False)
    for words in ("metric=old: old_metric.Old is no metric", "score_maps(batch)", "is score_maps or score_methods now"):
        assert words in " ".join(found.err.split())
