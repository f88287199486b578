"""Tables as they are printed: chosen columns, rows, names and decimals; LaTeX, CSV; one table of several."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from conftest import Command
from test_table import AREA, HIT, scores, table
from vidattr.errors import ConfigError
from vidattr.evaluate.choosing import chosen
from vidattr.evaluate.look import Look, names_of
from vidattr.evaluate.pivot import pivoted
from vidattr.evaluate.table import Table, build
from vidattr.types import Column

PARTS = (
    Column("step_corrected, frames", "a"),
    Column("step_corrected, class mean", "b"),
    Column("aosa, frames", "c", better="lower"),
)


def wide(seed: int = 0, caption: str = "s_pt on toys") -> Table:
    frames = {
        name: scores(seed + n).rename(columns={"hit": "a", "area": "b", "frames": "c"})
        for n, name in enumerate(("grad_cam", "step (areas=[0.2])", "random"))
    }
    matched = {name: frame for name, frame in frames.items() if name != "random"}
    return build(frames, PARTS, references={}, baseline="matched", seed=0, caption=caption, matched=matched)


def shown(made: Table, look: Look) -> Table:
    (found,) = chosen([made], look)
    return found


@pytest.mark.parametrize(
    ("asked", "titles"),
    [
        ((), ["step_corrected, frames", "step_corrected, class mean", "aosa, frames"]),
        (("class mean",), ["step_corrected, class mean"]),
        (("frames",), ["step_corrected, frames", "aosa, frames"]),
        (("c", "step_corrected, frames"), ["aosa, frames", "step_corrected, frames"]),
    ],
)
def test_columns_are_chosen_by_title_its_end_or_score(asked: tuple[str, ...], titles: list[str]) -> None:
    made = shown(wide(), Look(columns=asked))
    assert [column.title for column in made.columns] == titles
    assert list(dict.fromkeys(entry.column for entry in made.entries)) == titles
    assert "step_corrected" in made.terminal() or not any(title.startswith("step") for title in titles)


def test_rows_are_chosen_in_order_within_their_groups() -> None:
    made = shown(wide(), Look(rows=("step (areas=[0.2])", "random", "grad_cam")))
    assert list(dict.fromkeys(entry.row for entry in made.entries)) == ["step (areas=[0.2])", "grad_cam", "random"]


@pytest.mark.parametrize(
    ("look", "words"),
    [
        ({"columns": ("clas mean",)}, "unknown column 'clas mean'"),
        ({"rows": ("gradcam",)}, "did you mean grad_cam"),
        ({"decimals": 12}, "--precision 12"),
        ({"label": "a}b"}, "--label"),
    ],
)
def test_what_no_table_has_is_refused(look: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        chosen([wide()], Look(**look))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="OLD=NEW"):
        names_of(["grad_cam"])


def test_precision_names_and_what_is_left_out_show_in_every_form() -> None:
    look = Look(
        names=names_of(["grad_cam=Grad-CAM", "step (areas=[0.2])=STEP", "frames=Frames", "matched noise=noise"]),
        decimals=1,
        intervals=False,
        differences=False,
        counts=False,
    )
    made = shown(wide(), look)
    for text in (made.terminal(), made.markdown(), made.latex()):
        assert "Grad-CAM" in text
        assert "noise (STEP)" in text
        assert "grad" not in text.replace("Grad-CAM", "")
        assert re.search(r"\d\.\d\d", text.replace("Wilson", "")) is None
        assert "Δ" not in text
        assert r"\Delta" not in text
        assert "Clips judged: 24, of 6 videos." in text
    assert "Δ" in wide().terminal()
    assert not shown(wide(), Look(notes=False)).notes()


def test_latex_merges_headings_bolds_the_best_and_knows_its_width() -> None:
    text = wide().latex()
    assert r"\multicolumn{2}{c}{step\_corrected}" in text
    assert r"\cmidrule(lr){2-3}" in text
    assert r"\begin{table*}" in text, "seven columns with intervals do not fit into one column of a page"
    assert text.count(r"\textbf{") == 3, "the best of each of the three columns"
    assert r"\usepackage{booktabs}" in text
    slim = shown(wide(), Look(intervals=False, differences=False, counts=False, label="tab:main", rows=("grad_cam",)))
    assert r"\begin{table}" in slim.latex()
    assert r"\label{tab:main}" in slim.latex()
    assert r"\begin{table*}" in shown(slim, Look(wide=True)).latex()
    assert r"\begin{table}" in shown(wide(), Look(wide=False)).latex()


def test_several_tables_become_one() -> None:
    tables = [wide(0, "s_pt on toys"), wide(5, "s_pt on cars")]
    made = pivoted(tables, [{"dataset": name, "model": "r3d_18", "metric": "s_pt"} for name in ("toys", "cars")])
    assert [column.title for column in made.columns][2:4] == ["toys, aosa, frames", "cars, step_corrected, frames"]
    assert made.caption == "datasets toys, cars; model r3d_18; metric s_pt"
    assert {"toys: s_pt on toys.", "cars: s_pt on cars."} <= set(made.remarks)
    first = {(e.row, e.column): e for e in tables[1].entries}
    for entry in made.entries:
        head, _, column = entry.column.partition(", ")
        if head == "cars":
            assert (entry.value, entry.best, entry.p) == pytest.approx(
                (first[entry.row, column].value, first[entry.row, column].best, first[entry.row, column].p), nan_ok=True
            )
    assert r"\multicolumn{3}{c}{toys} & \multicolumn{3}{c}{cars}" in made.latex()
    lone = build({"other": scores(1)}, (HIT, AREA), references={}, baseline=None, seed=0, caption="timing")
    both = pivoted([tables[0], lone], [{"metric": "s_pt"}, {"metric": "timing"}])
    (gap,) = {e.n for e in both.entries if e.row == "other" and e.column.startswith("s_pt")}
    assert gap == 0
    assert "–" in both.terminal()
    twice = pivoted([tables[0], tables[1]], [{"metric": "s_pt"}, {"metric": "s_pt"}])
    assert twice.columns[0].title == "1, step_corrected, frames"


SMALL = ("dataset.clips=3", "render.grid=false", "render.gif=false", "render.mp4=false", "render.comparison=false")
CELLS = ("method=gradient,grad_cam", "method.grad_cam.relu=false", "method.score=prob", *SMALL)


@pytest.fixture
def judged(vidattr: Command) -> Command:
    """The command line, after two methods were judged by two metrics."""
    assert vidattr("run", *CELLS, "-q").code == 0
    assert vidattr("evaluate", *CELLS, "metric=s_pt,t_pt", "-q").code == 0
    return vidattr


def test_the_printed_tables_can_be_traced_and_read_by_machines(judged: Command, tmp_path: Path) -> None:
    many = ("metric=s_pt,t_pt", "--baseline", "none")
    text = judged("table", *CELLS, *many, "--format", "csv").out
    lines = list(csv.DictReader(io.StringIO(text)))
    assert text.count("row,group,column") == 1
    assert "#" not in text
    assert {line["metric"] for line in lines} == {"s_pt", "t_pt"}
    tables = json.loads(judged("table", *CELLS, *many, "--json").out)
    runs = tables[0]["runs"]
    for line in lines:
        if line["row"] == "grad_cam":
            assert (tmp_path / runs[line["run"]]["folder"] / "run.json").is_file()
            assert (tmp_path / runs[line["run"]]["scores"]).is_file()
            assert runs[line["run"]]["changed"] == ["dataset.clips=3", "method.score=prob", "method.relu=false"]
    notes = " ".join(tables[0]["notes"])
    assert "grad_cam: score=prob, relu=false (not as in its config)." in notes
    assert "gradient: score=prob" in notes
    assert "Set for all rows: dataset.clips=3." in notes
    pivot = judged("table", *CELLS, *many, "--pivot", "--format", "latex", "--column", "frames", "--no-counts").out
    assert pivot.count(r"\begin{tabular}") == 1
    assert "score=prob" in pivot
    for option, n in (("limit=2", {2}), ("dataset.clips=2", {2}), ("per_class=1", {1, 2, 3}), ("seed=0", {3})):
        cells = [one for one in CELLS if not option.startswith("dataset") or one != "dataset.clips=3"]
        (asked, *_) = json.loads(judged("table", *cells, option, "--json").out)
        assert {entry["n"] for entry in asked["entries"] if entry["group"] == "method"} <= n
    assert pd.read_csv(next((tmp_path / "visual_res/tables/tiny_r2plus1d").glob("*s_pt*.csv")))["run"].notna().any()


def test_where_the_data_are_gone_a_limit_is_refused_and_the_rest_is_noted(
    vidattr: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from test_sources import video

    for name in ("disc-a", "disc-b"):
        video(tmp_path / "clips" / f"{name}.mp4", 1)
    cells = ("dataset=clips", f"dataset.root={tmp_path}/clips", "target=predicted", "method=gradient", *SMALL[1:])
    assert vidattr("run", *cells, "-q").code == 0
    assert vidattr("evaluate", *cells, "metric=flicker", "-q").code == 0
    shutil.rmtree(tmp_path / "clips")
    found = vidattr("table", *cells, "metric=flicker", "--json")
    assert "The data set is not at hand" in " ".join(json.loads(found.out)[0]["notes"])
    refused = vidattr("table", *cells, "metric=flicker", "limit=1")
    assert refused.code == 2
    assert "limit=1, but the data set is not at hand" in refused.err


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="LaTeX is not installed")
def test_latex_compiles_in_two_columns_without_overfull_boxes(tmp_path: Path) -> None:
    one = shown(wide(), Look(intervals=False, differences=False, counts=False, label="tab:one", columns=("frames",)))
    joined = pivoted([wide(), wide(5)], [{"dataset": "toys_24"}, {"dataset": "cars & co"}])
    both = shown(joined, Look(intervals=False, counts=False))
    narrow = shown(wide(), Look(wide=False))
    assert r"\resizebox" in both.latex()
    assert r"\resizebox" not in one.latex()
    body = "\n".join([one.latex(), both.latex(), narrow.latex(), table().latex()])
    (tmp_path / "paper.tex").write_text(
        "\\documentclass[twocolumn]{article}\n\\usepackage{booktabs,graphicx}\n\\begin{document}\nTable~\\ref{tab:one}\n"
        + body
        + "\\end{document}\n"
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
