"""Evaluating, tables and re-drawing, from the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from conftest import Command
from vidattr.evaluate.table import BASELINES
from vidattr.run.store import RunFolder

SMALL = (
    "dataset.clips=8",
    "dataset.frames=16",
    "dataset.size=64",
    "model.input.frames=8",
    "model.input.size=[32,32]",
    "--quiet",
)
PLAIN = (*SMALL, "render.grid=false", "render.gif=false", "render.mp4=false", "render.comparison=false")


def scores(root: Path, method: str) -> pd.DataFrame:
    (path,) = [p for p in (root / "visual_res" / method).rglob("scores/*.csv") if p.suffixes == [".csv"]]
    return pd.read_csv(path)


def test_every_table_has_the_baselines_and_the_counts(vidattr: Command, tmp_path: Path) -> None:
    vidattr("run", "method=grad_cam", *PLAIN)
    found = vidattr("evaluate", "method=grad_cam", *SMALL, "--json")
    assert found.code == 0, found.err
    (table,) = json.loads(found.out)
    rows = {entry["row"] for entry in table["entries"]}
    assert rows == {"grad_cam", "matched noise (grad_cam)", *BASELINES, "chance", "best point"}
    assert [note for note in table["notes"] if note.startswith("best point: ")]
    values = {entry["row"]: entry["value"] for entry in table["entries"] if entry["column"] == "step_corrected, frames"}
    assert values["best point"] >= values["center"]
    assert all(entry["n"] + entry["n_nan"] == 8 for entry in table["entries"])
    assert len(scores(tmp_path, "grad_cam")) == 8
    written = {path.suffix for path in (tmp_path / "visual_res/tables").rglob("*") if path.is_file()}
    assert written == {".md", ".csv", ".tex", ".json"}


def test_evaluate_computes_no_map_and_judges_nothing_twice(
    vidattr: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vidattr.metrics.spatial_pointing import SpatialPointing

    vidattr("run", "method=grad_cam", *PLAIN)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    calls: list[int] = []
    real = SpatialPointing.score_maps
    monkeypatch.setattr(SpatialPointing, "score_maps", lambda self, *a: calls.append(1) or real(self, *a))
    first = vidattr("evaluate", "method=grad_cam", *SMALL, "--format", "csv")
    assert calls
    calls.clear()
    second = vidattr("evaluate", "method=grad_cam", *SMALL, "--format", "csv")
    assert calls == []
    assert first.out == second.out
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == before


def test_table_shows_what_evaluate_finished_and_says_so_before(vidattr: Command) -> None:
    vidattr("run", "method=grad_cam", *PLAIN)
    early = vidattr("table", "method=grad_cam", *SMALL[:-1])
    assert early.code == 2
    assert "vidattr evaluate" in early.err
    evaluated = vidattr("evaluate", "method=grad_cam", *SMALL, "--format", "markdown")
    shown = vidattr("table", "method=grad_cam", *SMALL[:-1], "--format", "markdown")
    assert shown.code == 0
    assert shown.out == evaluated.out
    for form, word in (("latex", r"\toprule"), ("csv", "row,group"), ("json", '"entries"'), ("terminal", "grad_cam")):
        assert word in vidattr("table", "method=grad_cam", *SMALL[:-1], "--format", form).out


def test_evaluating_what_was_never_run_says_how_to(vidattr: Command) -> None:
    found = vidattr("evaluate", "method=grad_cam", *SMALL)
    assert found.code == 2
    assert "vidattr run" in found.err


def test_a_damaged_map_costs_one_clip(vidattr: Command, tmp_path: Path) -> None:
    vidattr("run", "method=grad_cam", *PLAIN)
    path = sorted(tmp_path.rglob("maps/*.safetensors"))[2]
    path.write_bytes(path.read_bytes()[:100])
    found = vidattr("evaluate", "method=grad_cam", *SMALL)
    assert found.code == 1
    assert "its map is not whole (`vidattr run` with the same overrides computes it again)" in found.err
    assert len(scores(tmp_path, "grad_cam")) == 7
    path.unlink()
    vidattr("run", "method=grad_cam", *PLAIN)
    assert vidattr("evaluate", "method=grad_cam", *SMALL).code == 0
    assert len(scores(tmp_path, "grad_cam")) == 8


def test_a_map_of_nan_is_counted_and_not_a_hit(vidattr: Command, tmp_path: Path) -> None:
    vidattr("run", "method=grad_cam", *PLAIN)
    path = sorted(tmp_path.rglob("maps/*.safetensors"))[0]
    folder = RunFolder(path.parent.parent, {})
    stored = folder.load(path.stem)
    folder.save(path.stem, replace(stored, map=stored.map * float("nan")))
    (table,) = json.loads(vidattr("evaluate", "method=grad_cam", *SMALL, "--json").out)
    entry = next(entry for entry in table["entries"] if entry["row"] == "grad_cam")
    assert (entry["n"], entry["n_nan"]) == (7, 1)


def test_several_metrics_in_one_go_with_curves_and_a_plot(vidattr: Command, tmp_path: Path) -> None:
    vidattr("run", "method=gradient,grad_cam", *PLAIN)
    found = vidattr("evaluate", "method=gradient,grad_cam", "metric=t_pt,deletion_insertion", "metric.steps=4", *SMALL)
    assert found.code == 2, "t_pt has no steps: nothing may start"
    found = vidattr("evaluate", "method=gradient,grad_cam", "metric=t_pt,deletion_insertion", *SMALL, "--json")
    assert found.code == 0, found.err
    tables = json.loads(found.out)
    assert len(tables) == 2
    assert all({"gradient", "grad_cam", *BASELINES} <= {entry["row"] for entry in table["entries"]} for table in tables)
    curves = list((tmp_path / "visual_res/grad_cam").rglob("scores/*.deletion.csv"))
    assert len(curves) == 1
    assert pd.read_csv(curves[0]).shape == (8, 1 + 29)
    assert len(list((tmp_path / "visual_res/tables").rglob("*.png"))) == 1


def test_render_draws_anew_with_another_look_and_computes_nothing(vidattr: Command, tmp_path: Path) -> None:
    vidattr("run", "method=grad_cam", *SMALL, "render.gif=false", "render.mp4=false")
    before = {
        p: (p.stat().st_mtime_ns, p.read_bytes()) for p in tmp_path.rglob("*.*") if p.suffix in (".png", ".safetensors")
    }
    found = vidattr(
        "render", "method=grad_cam", *SMALL, "render.gif=false", "render.mp4=false", "render.colormap=viridis"
    )
    assert found.code == 0, found.err
    for path, (time, content) in before.items():
        if path.suffix == ".safetensors":
            assert path.stat().st_mtime_ns == time
        else:
            assert path.read_bytes() != content
    assert vidattr("render", "method=gradient", *SMALL).code == 2
    wrong = vidattr("render", "method=grad_cam", *SMALL, "render.colormap=vridis")
    assert wrong.code == 2
    assert "viridis" in wrong.err
