"""`vidattr table --by KEY`: scores against an option that a sweep varies."""

from __future__ import annotations

import csv
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from conftest import Command
from vidattr.evaluate.against import _name
from vidattr.evaluate.table import BASELINES

SWEEP = (
    "method=ep3d,step", "method.areas=[0.3],[0.1],[0.6]", "method.iterations=2", "method.late_from=null",
    "method.core_start=1", "dataset.clips=3", "dataset.frames=8",
    "metric=s_pt", "metric.noise_draws=0", "metric.protocols=[aosa]",
)  # fmt: skip
QUIET = ("render.grid=false", "render.gif=false", "render.mp4=false", "render.comparison=false", "--quiet")


def test_scores_against_the_preservation_ratio(vidattr: Command) -> None:
    of_maps = [one for one in SWEEP if not one.startswith("metric")]
    assert vidattr("run", *of_maps, *QUIET).code == 0
    assert vidattr("evaluate", *SWEEP, "--quiet").code == 0
    found = vidattr("table", *SWEEP, "--by", "method.areas")
    assert found.code == 0, found.err
    (path,) = Path().glob("visual_res/tables/*/*.by-method.areas.csv")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert f"Against method.areas: {path.with_suffix('.png')}" in found.out
    own = [row for row in rows if row["method.areas"]]
    points = [(row["line"], float(row["method.areas"])) for row in own]
    assert points == [(line, x) for line in ("ep3d", "step") for x in (0.1, 0.3, 0.6)]
    assert all(float(row["low"]) <= float(row["value"]) <= float(row["high"]) and row["n"] == "3" for row in own)
    assert {row["line"] for row in rows if not row["method.areas"]} == {*BASELINES, "chance", "best point"}
    with Image.open(path.with_suffix(".png")) as picture:
        assert picture.size[0] > 500
    drawing = path.with_suffix(".svg").read_bytes()
    assert ElementTree.fromstring(drawing).tag.endswith("svg")
    assert vidattr("table", *SWEEP, "--by", "method.areas").code == 0
    assert path.with_suffix(".svg").read_bytes() == drawing  # the same file for the same numbers

    for by, words in (
        ("method.iterations", "all have 2"),
        ("method.speed", "no row of the table has this option"),
        ("method.ties", "has share"),
        ("method.core_kernel", "has []"),
    ):
        refused = vidattr("table", *SWEEP, "--by", by)
        assert refused.code == 2
        assert words in refused.err


@pytest.mark.parametrize(
    ("title", "by", "name"),
    [
        ("ep3d (areas=[0.1])", "method.areas", "ep3d"),
        ("ep3d (areas=[0.1], lr=0.5)", "method.areas", "ep3d (lr=0.5)"),
        ("ep3d (lr=0.5, areas=[0.1])", "method.areas", "ep3d (lr=0.5)"),
        ("rise (masks=100)", "method.masks", "rise"),
        ("rise (masks=100, seed=1)", "seed", "rise (masks=100)"),
        ("center", "method.areas", "center"),
    ],
)
def test_a_line_is_named_by_what_its_points_share(title: str, by: str, name: str) -> None:
    assert _name(title, by) == name
