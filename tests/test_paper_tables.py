"""The published tables: what their files say, which cells can be computed, how overrides of three origins combine."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau

from conftest import Command
from vidattr.config.settings import Settings
from vidattr.errors import ConfigError
from vidattr.reproduce.layers import chosen, layered, without
from vidattr.reproduce.order import agreement
from vidattr.reproduce.paper import matches, names_of_tables, paper_table, scale
from vidattr.reproduce.plan import Protocol, plan
from vidattr.run.batches import clips_of
from vidattr.run.compose import experiments
from vidattr.run.selection import selected
from vidattr.types import Clip

NAMES = [*(f"aosa_{n}" for n in range(1, 8)), *(f"step_{n}" for n in range(1, 6))]
BUNDLED = ("scale=bundled", "limit=4")


def test_there_are_twelve_tables_of_234_values() -> None:
    assert names_of_tables() == NAMES
    tables = [paper_table(name) for name in NAMES]
    values = [
        value for table in tables for columns in table.published.values() for cell in columns.values() for value in cell
    ]
    assert len(values) == 234
    assert all(table.doubts and table.protocol.printed and table.protocol.released for table in tables)


@pytest.mark.parametrize(
    ("name", "row", "column", "measure", "value"),
    [
        ("step_1", "vgg16lstm", "epic_action", "top1", 0.81),
        ("step_3", "step", "ucf101_24-r2plus1d_18", "s_pt", 56.7),
        ("step_4", "ep3d_sigma3", "ucf101_24-vgg16lstm", "s_pt", 54.3),
        ("step_5", "ep3d", "epic_action-vgg16lstm", "t_pt", 31.0),
        ("aosa_2", "osa", "kinetics700-r2plus1d_50", "insertion", 0.378),
        ("aosa_5", "aosa_approx_4", "ucf101-r3d_50", "seconds", 1.028),
        ("aosa_7", "aosa_approx", "ucf101_24-r2plus1d_50", "s_pt", 0.789),
    ],
)
def test_published_values(name: str, row: str, column: str, measure: str, value: float) -> None:
    assert paper_table(name).published[row][column][measure] == value


def test_over_all_is_insertion_less_deletion_as_far_as_digits_go() -> None:
    for name in ("aosa_1", "aosa_2", "aosa_3"):
        for columns in paper_table(name).published.values():
            for cell in columns.values():
                assert abs(cell["insertion"] - cell["deletion"] - cell["overall"]) < 0.0011


@pytest.mark.parametrize(
    ("name", "cell", "says"),
    [
        ("aosa_3", ("step", "kinetics400-timesformer"), "slip of copying"),
        ("step_5", ("ep3d", "epic_action-r2plus1d_18"), "inverted"),
        ("step_3", ("grad_cam", "epic_object-r2plus1d_18"), "centre of the frame"),
        ("step_4", ("ep3d_sigma2", "ucf101_24-vgg16lstm"), "value of σ2 is lost"),
    ],
)
def test_what_is_known_to_be_wrong_is_a_footnote(name: str, cell: tuple[str, str], says: str) -> None:
    table = paper_table(name)
    assert any(says in table.doubts[place].says for place in table.doubts_of(*cell))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("unit: percent", "protocol is None"),
        ("{}\nspeed: 3", "unknown option 'speed'"),
        ("{}\npublished: {aosa: {c: {m: 1}}, nobody: {c: {m: 1}}}", "unknown option 'nobody'"),
        ("{}\npublished: {aosa: {c: {m: 1, other: 2}}}", "unknown option 'other'"),
        ("{}\npublished: {aosa: {c: {m: yes}}}", "published.aosa.c.m=True"),
        ("{}\nrows: {aosa: {title: A, overrides: []}}", "rows.aosa has no released"),
    ],
)
def test_a_table_of_ones_own_that_is_wrong_is_refused(tmp_path: Path, text: str, error: str) -> None:
    whole = """unit: fraction
protocol: {printed: a, released: b}
measures: {m: {title: M, times: 1, printed: {overrides: [], score: S}, released: {overrides: [], score: ""}}}
columns: {c: {title: C, overrides: [], weights: "", clips: 1, measures: [m], rows: {}}}
rows: {aosa: {title: A, overrides: [], released: []}}
published: {aosa: {c: {m: 0.5}}}
doubts: []
get: {}"""
    (tmp_path / "paper").mkdir()
    lines = [
        line for line in whole.splitlines() if not text.partition("\n")[2].startswith(line.partition(":")[0] + ":")
    ]
    (tmp_path / "paper" / "mine.yaml").write_text("# Mine\n# Source: me\n" + text.replace("{}", "\n".join(lines), 1))
    with pytest.raises(ConfigError, match=error):
        paper_table("mine", add=[tmp_path])


def test_later_overrides_hold_and_a_choice_drops_what_was_set_before_it() -> None:
    table = ["dataset=ucf101", "model=r3d_50", "model.classes=ucf101", "method=aosa", "method.stride=8"]
    assert layered(table, ["method.stride=16"]) == [*table[:4], "method.stride=16"]
    assert layered(table, ["model=tiny_r2plus1d"]) == [table[0], *table[3:], "model=tiny_r2plus1d"]
    assert layered(table, ["++method.stride=16"])[-1] == "++method.stride=16"
    assert layered(["limit=8"], ["limit=2"]) == ["limit=2"]
    assert chosen(table, "model") == "r3d_50"
    assert chosen(table, "metric") is None
    assert without(table, "model") == [table[0], *table[3:]]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*/*", True),
        ("step/*", True),
        ("*/ucf*", True),
        ("aosa|step/*", True),
        ("aosa/*", False),
        ("step", True),
        ("/x", False),
    ],
)
def test_patterns_of_cells(pattern: str, found: bool) -> None:
    assert matches(pattern, "step", "ucf101-r3d_50") is found


@pytest.mark.parametrize("name", NAMES)
def test_every_cell_of_every_table_can_be_computed_from_nothing(name: str, tmp_path: Path) -> None:
    found = plan(paper_table(name), ("bundled", scale("bundled")), [f"paths.out={tmp_path}", "paths.data=nowhere"])
    assert found.ready == list(found.cells)
    assert all(cell.stand_ins and cell.experiment.settings.limit in (2, 4) for cell in found.cells)


def test_cells_without_weights_or_clips_say_what_to_get(tmp_path: Path) -> None:
    table, paper = paper_table("aosa_4"), ("paper", scale("paper"))
    user = [f"paths.data={tmp_path}"]
    found = plan(table, paper, user, only=["step/*"])
    lacks = {cell.column: cell.lack for cell in found.cells}
    assert not found.ready
    assert f"{tmp_path}/weights/r3d_50-ucf101" in str(lacks["ucf101_24-r3d_50"])
    assert "uchiyama33/AOSA" in str(lacks["ucf101_24-r3d_50"])
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "r3d_50-ucf101.pth").write_bytes(b"weights")
    first, second = plan(table, paper, user, only=["step/*"]).cells
    assert first.lack is not None
    assert "pyannot.pkl" in first.lack.get  # of the clips now
    assert first.experiment.model.weights == f"{tmp_path}/weights/r3d_50-ucf101.pth"  # type: ignore[attr-defined]
    assert second.lack is not None
    assert "r2plus1d_50-ucf101" in second.lack.found


def test_both_protocols_stand_side_by_side_where_they_differ() -> None:
    cells = plan(paper_table("aosa_1"), ("paper", scale("paper")), only=["aosa|grad_cam/*r3d_50"]).cells
    made = {(cell.row, cell.protocol): cell.experiment.method for cell in cells}
    assert ("grad_cam", Protocol.released) not in made
    assert made["aosa", Protocol.printed].aggregate == "eq2"  # type: ignore[attr-defined]
    assert made["aosa", Protocol.released].aggregate == "code"  # type: ignore[attr-defined]
    t_pt = plan(paper_table("step_5"), ("paper", scale("paper")), only=["eb_r/*"], protocols=[Protocol.released]).cells
    assert [cell.experiment.metric.polarity for cell in t_pt] == ["released"]  # type: ignore[union-attr]


def test_the_users_overrides_hold_over_scale_and_table() -> None:
    user = ["method.iterations=9", "model=tiny_cnn_lstm", "limit=1"]
    (cell,) = plan(
        paper_table("step_3"),
        ("bundled", scale("bundled")),
        user,
        only=["step/epic_object-r*"],
        protocols=[Protocol.printed],
    ).cells
    assert cell.experiment.method.iterations == 9  # type: ignore[attr-defined]
    assert "tiny_cnn_lstm for r2plus1d_18_finetuned" in cell.stand_ins
    assert cell.experiment.settings.limit == 1
    assert not any(override.startswith("metric") for override in cell.run_overrides)


def test_errors_of_the_command_name_the_choices(vidattr: Command) -> None:
    for arguments, words in [
        (("step_9",), "aosa_1, aosa_2"),
        (("step_3", "scale=huge"), "bundled, paper, small"),
        (("step_3", "--only", "step/nowhere"), "columns: epic_object-r2plus1d_18"),
        (("step_3", "scale=bundled", "limit=1,2"), "one value for each option"),
        (("step_3", "scale=bundled", "method.iteration=3", "--only", "step/*"), "did you mean iterations"),
        (("step_3", "scale=small", "scale=paper"), "one scale"),
    ]:
        found = vidattr("reproduce", *arguments)
        assert found.code == 2, arguments
        assert words in found.err, (arguments, found.err)


def test_the_list_of_tables_says_what_each_lacks(vidattr: Command) -> None:
    rows = json.loads(vidattr("reproduce", "--format", "json").out)
    assert [row["table"] for row in rows] == NAMES
    assert all(row["cannot"] == row["cells"] and row["lacks"][0]["get"] for row in rows)


def test_agreement_of_orders() -> None:
    draw = np.random.default_rng(0)
    for n in (3, 5, 9):
        x, y = draw.integers(0, 5, n).tolist(), draw.normal(size=n).tolist()
        tau, p = agreement(x, y, seed=0)
        assert tau == pytest.approx(kendalltau(x, y).statistic)
        assert 0 < p <= 1
    assert agreement([1, 2, 3, 4], [10, 20, 30, 40], seed=0) == (1, pytest.approx(2 / 24))
    assert agreement([4, 3, 2, 1], [10, 20, 30, 40], seed=0)[0] == -1
    values = [0.3, 0.1, 0.2]
    taus = [abs(kendalltau(values, order).statistic) for order in itertools.permutations([1, 2, 3])]
    tau, p = agreement(values, [2, 1, 3], seed=0)
    assert p == np.mean([other >= abs(tau) - 1e-9 for other in taus])
    assert all(map(math.isnan, agreement([1, 1], [2, 3], seed=0)))
    assert all(map(math.isnan, agreement([1], [2], seed=0)))


def test_clips_of_each_class_are_drawn_by_seed() -> None:
    clips = [Clip(f"{label}{n}", Path("x"), label) for label in "abc" for n in range(20)]
    some, more = (selected(clips, Settings(per_class=k)) for k in (2, 5))
    assert [clip.label for clip in some] == list("aabbcc")
    assert {clip.id for clip in some} < {clip.id for clip in more}
    assert some == [clip for clip in clips if clip in some]  # in the dataset's order
    assert selected(clips, Settings(per_class=2, seed=1)) != some
    assert selected([clip for clip in clips if clip.label != "b"], Settings(per_class=2)) == [
        c for c in some if c.label != "b"
    ]
    assert selected(clips, Settings(per_class=2, limit=3)) == some[:3]
    assert len(selected(clips, Settings(per_class=99))) == 60
    (experiment,) = experiments(["per_class=2"])
    assert len(clips_of(experiment)[0]) == 8
    with pytest.raises(ConfigError, match="per_class=0"):
        experiments(["per_class=0"])
