"""The bundled clips and networks find true answers and catch out a map that follows the object."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import Command

QUIET = ("--quiet", "render.grid=false", "render.gif=false", "render.mp4=false", "render.comparison=false")
METHODS = "method=grad_cam,gradient"
SPATIAL = "step_corrected, frames"


def spatial(vidattr: Command, model: str, dataset: str) -> dict[str, dict[str, float]]:
    base = (METHODS, f"model={model}", f"dataset={dataset}", "dataset.clips=32", "runtime.max_batch=16", *QUIET)
    assert vidattr("run", *base).code == 0
    (table,) = json.loads(vidattr("evaluate", *base, "metric.noise_draws=0", "--json").out)
    return {entry["row"]: entry for entry in table["entries"] if entry["column"] == SPATIAL}


@pytest.mark.slow
@pytest.mark.parametrize("model", ["tiny_r2plus1d", "tiny_cnn_lstm"])
def test_maps_find_the_object_that_decides_and_leave_it_when_the_background_does(vidattr: Command, model: str) -> None:
    found = spatial(vidattr, model, "synthetic")
    for method in ("grad_cam", "gradient"):
        for baseline in ("random", "center"):
            assert found[method]["low"] > found[baseline]["high"], (
                f"{method} and {baseline}: {found[method]}, {found[baseline]}"
            )
        assert found[method]["p"] < 0.01
    assert found["random"]["low"] <= found["chance"]["value"] <= found["random"]["high"]
    texture = spatial(vidattr, model, "synthetic_texture")
    for method in ("grad_cam", "gradient"):
        assert texture[method]["high"] < found[method]["low"], (
            f"{method} still follows the object: {texture[method]}, {found[method]}"
        )


@pytest.mark.slow
def test_deletion_and_insertion_rank_a_map_of_the_evidence_above_chance(vidattr: Command, tmp_path: Path) -> None:
    base = ("method=grad_cam", "dataset.clips=16", *QUIET)
    assert vidattr("run", *base).code == 0
    (table,) = json.loads(
        vidattr("evaluate", *base, "metric=deletion_insertion", "metric.steps=7", "metric.noise_draws=0", "--json").out
    )
    value = {(entry["row"], entry["column"].split()[0].lower()): entry["value"] for entry in table["entries"]}
    columns = {column for _, column in value}
    (insertion,) = [column for column in columns if column.startswith("ins")]
    (deletion,) = [column for column in columns if column.startswith("del")]
    assert value["grad_cam", insertion] > value["random", insertion]
    assert value["grad_cam", deletion] < value["center", deletion]
