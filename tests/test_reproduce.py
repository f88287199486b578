"""`vidattr reproduce`: the cheapest published tables, computed from nothing and compared."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
from pathlib import Path

import pytest

from conftest import Command
from vidattr.evaluate.summary import Entry
from vidattr.evaluate.table import BASELINES
from vidattr.reproduce import gpu
from vidattr.reproduce.command import work_of
from vidattr.reproduce.compare import Value, sheet
from vidattr.reproduce.gpu import markdown
from vidattr.reproduce.paper import paper_table, scale
from vidattr.reproduce.plan import Lack, Plan, Protocol, plan
from vidattr.reproduce.running import Found, Results
from vidattr.reproduce.show import show
from vidattr.run import runner

CHEAPEST = ("step_1", "aosa_7", "aosa_5", "aosa_4")


def test_the_four_cheapest_tables_from_nothing(vidattr: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    found = vidattr("reproduce", *CHEAPEST, "scale=bundled", "--quiet")
    assert found.code == 0, found.err
    assert " ".join(found.out.split()).count("bundled stand-ins: not comparable") == 4
    rows = [row for name in CHEAPEST for row in json.loads(_file(name, ".json").read_text())["values"]]
    own = [row for row in rows if row["published"] is not None]
    assert len(own) == 12 + 24 + 8 + 18
    assert all(row["ours"] is not None and row["n"] == 4 for row in own)
    assert all(
        row["inside"] == (row["low"] <= row["published"] <= row["high"]) for row in own if row["low"] is not None
    )
    assert {row["row"] for row in rows if row["table"] == "aosa_4"} >= {*BASELINES, "chance", "best point"}
    seconds = [row["ours"] for row in own if row["table"] == "aosa_5"]
    assert all(0 < one < 60 for one in seconds)  # of milliseconds
    assert {row["protocol"] for row in own if row["table"] == "aosa_4"} == {"printed", "released"}
    for suffix in (".md", ".csv", ".tex"):
        assert _file("aosa_7", suffix).stat().st_size > 1000

    # What is stored is not computed again; what is missing of it is.
    states = json.loads(vidattr("reproduce", *CHEAPEST, "scale=bundled", "--status", "--format", "json").out)
    assert {row["state"] for row in states} == {"done"}
    before = _file("aosa_7", ".csv").read_bytes()
    for path in Path("visual_res").glob("aosa_approx_plain/*/*"):
        shutil.rmtree(path)
    states = json.loads(vidattr("reproduce", "aosa_7", "scale=bundled", "--status", "--format", "json").out)
    assert {row["row"] for row in states if row["state"] == "missing"} == {"aosa_approx_plain"}
    computed: list[int] = []
    run = runner.run

    def counted(*arguments: object, **options: object) -> object:
        jobs = run(*arguments, **options)  # type: ignore[arg-type]
        computed.extend(job.written for job in jobs)
        return jobs

    monkeypatch.setattr(runner, "run", counted)
    assert vidattr("reproduce", "aosa_7", "scale=bundled", "--quiet", "--format", "csv").out.encode() == before
    assert sorted(computed) == [0, 0, 0, 0, 0, 0, 4, 4]


def _file(table: str, suffix: str) -> Path:
    return Path(f"visual_res/tables/paper/{table}-bundled{suffix}")


def _plan(tmp_path: Path, name: str, *only: str) -> Plan:
    return plan(paper_table(name), ("bundled", scale("bundled")), [f"paths.out={tmp_path}"], only=only)


def _entry(value: float, low: float = math.nan, high: float = math.nan, row: str = "a", group: str = "method") -> Entry:
    return Entry(row, group, "column", value, low, high, 4, 0, 4)


def test_units_differences_and_intervals(tmp_path: Path) -> None:
    found = _plan(tmp_path, "step_3", "step|ep3d/epic_object-r2plus1d_18")
    chance = _entry(0.2, row="chance", group="reference")
    results = Results({cell.place: Found(_entry(0.085, 0.07, 0.1), (chance,)) for cell in found.cells})
    (block,) = sheet(found, results).blocks
    lines = {line.name: line.values[Protocol.printed] for line in block.lines}
    assert lines["step"].ours == pytest.approx(8.5)
    assert lines["step"].difference == pytest.approx(-0.5)  # 9.0 is published
    assert lines["step"].inside
    assert lines["ep3d"].difference == pytest.approx(0.4)  # 8.1
    assert [(line.name, line.values[Protocol.released].ours) for line in block.baselines] == [("chance", 20)]
    assert block.orders == {}  # of two equal values there is no order
    assert Value(1, math.nan, math.nan, 1, 0, 1, 2).inside is None
    assert Value(1, 0.5, 1.5, 1, 0, 1, 2).inside is False


def test_a_cell_without_a_value_says_what_to_get_and_the_command_ends_with_1(vidattr: Command) -> None:
    found = vidattr("reproduce", "step_3", "--only", "grad_cam/*", "paths.data=nowhere")
    assert found.code == 1
    assert len(re.findall(r"– \[\d+\]", found.out)) == 8  # both protocols of four columns
    assert "vidattr train recipe=step_vgg16lstm_epic_object" in found.out
    assert "nowhere/weights/r2plus1d_18_finetuned-ucf101_24.safetensors" in " ".join(found.out.split())


def test_a_method_that_is_not_defined_leaves_the_others(vidattr: Command) -> None:
    options = (
        "scale=bundled",
        "limit=3",
        "--only",
        "grad_cam|saliency_tubes/*object-r2*",
        "--protocol",
        "printed",
        "--quiet",
    )
    found = vidattr("reproduce", "step_3", *options, "model=tiny_cnn_lstm")
    assert found.code == 1
    rows = {line.split("  ")[0].split(" [")[0]: line for line in found.out.splitlines()}
    assert "–" in rows["Saliency Tubes"]
    assert "–" not in rows["Grad-CAM"]
    assert "tiny_cnn_lstm for r2plus1d_18_finetuned" in " ".join(found.out.split())


@pytest.mark.parametrize("form", ["terminal", "markdown", "latex", "csv", "json"])
def test_every_form_tells_the_same(tmp_path: Path, form: str) -> None:
    found = _plan(tmp_path, "step_5")
    values = {cell.place: Found(_entry(0.1 * n, 0.0, 1.0), ()) for n, cell in enumerate(found.cells)}
    values.pop(found.cells[0].place)
    results = Results(values, {found.cells[0].place: Lack("no ears & 5 % of_eyes", "buy some")})
    text = show(sheet(found, results), form)
    plain = " ".join(text.replace("\\", "").replace("$tau$", "τ").split())
    for words in ("bundled stand-ins", "possibly inverted", "no ears & 5 % of_eyes; to do: buy some", "Kendall"):
        assert words in plain, (form, words)
    if form == "csv":
        rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
        assert len(rows) == len(found.cells)
        assert rows[0]["ours"] == ""
    if form == "json":
        assert {one["measure"] for one in json.loads(text)["orders"]} == {"t_pt"}
    if form == "latex":
        assert not [line for line in text.splitlines() if line.endswith(r"\\") and line.count(" & ") not in (0, 8)]


def test_a_dry_run_forecasts_what_is_missing_and_computes_nothing(vidattr: Command) -> None:
    found = vidattr("reproduce", "aosa_7", "scale=bundled", "--dry-run", "--rate", "1")
    assert found.code == 0
    assert "aosa_approx_plain" in found.out
    assert "as --rate says" in found.out
    assert not Path("visual_res").exists()

    # Of data sets that are not here, as many clips as the paper has.
    asked = ("reproduce", "aosa_2", "--dry-run", "--protocol", "printed")
    (one,) = json.loads(vidattr(*asked, "--format", "json").out)
    passes = {(row["experiment"], row["model"]): row["passes"] for row in one["runs"]}
    assert passes["aosa", "r3d_50"] == 7000 * (1 + 785)  # 28 × 28 tubes and the whole clip
    assert len(one["runs"]) == len(one["evaluations"]) == 12  # the three measures of a cell share maps and scores
    assert len(one["cannot"]) == 36


def test_gpu_hours_are_told_where_there_is_no_gpu(tmp_path: Path) -> None:
    found = plan(paper_table("aosa_4"), ("paper", scale("paper")), [f"paths.data={tmp_path}"], only=["aosa/*"])
    assert "on one GPU at 40 TFLOP/s (as --rate says)" in gpu.told(found, 40.0)
    slow, fast = (gpu.on_gpu(found, rate)[0] for rate in (20.0, 40.0))
    assert slow.passes == fast.passes == 4 * 910 * (1 + 197)  # two networks, two protocols
    assert slow.seconds is not None
    assert fast.seconds is not None
    assert fast.seconds < slow.seconds
    small = plan(paper_table("aosa_4"), ("small", scale("small")), [f"paths.data={tmp_path}"], only=["aosa/*"])
    assert gpu.told(small) == ""  # how many clips it will have is not known
    assert markdown([found]).count("\n| aosa_4 | 910 |") == 1


def test_what_a_submission_consists_of(vidattr: Command) -> None:
    only = ("--only", "aosa/ucf101_24-r3d_50")
    assert vidattr("reproduce", "aosa_4", "step_1", "scale=bundled", *only, "--submit", "local").code == 2
    assert "--submit" in vidattr("reproduce", "aosa_4", "launcher.cpus=1").err
    nothing = vidattr("reproduce", "aosa_4", "--submit", "local")
    assert nothing.code == 2
    assert "no cell can be computed here" in nothing.err
    found = plan(paper_table("aosa_4"), ("bundled", scale("bundled")), only=["aosa/ucf101_24-r3d_50"])
    work = work_of([found], ["reproduce", "aosa_4"], None, [])
    assert len(work.run) == len(work.evaluate) == 2  # both protocols
    assert not any(one.startswith("metric") for overrides in work.run for one in overrides)
