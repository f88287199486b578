from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vidattr.errors import ConfigError
from vidattr.evaluate.plots import plot_curves
from vidattr.evaluate.statistics import interval, paired_difference
from vidattr.evaluate.table import Entry, Table, build
from vidattr.types import Column

HIT = Column("Hit rate", "hit", weight="frames", by="label")
AREA = Column("Area", "area", better="lower")
CAPTION = "s_pt on toys_24 & friends, 100 % of split_1"


def scores(seed: int, shift: float = 0.0, clips: int = 24) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "clip": [f"c{i}" for i in range(clips)],
            "label": [f"k{i % 4}" for i in range(clips)],
            "video": [f"v{i // 4}" for i in range(clips)],
            "hit": generator.random(clips) / 2 + shift,
            "frames": generator.integers(1, 9, clips).astype(float),
            "area": generator.random(clips),
        }
    )


def rows() -> dict[str, pd.DataFrame]:
    return {"random": scores(1), "grad_cam": scores(2, 0.3), "center": scores(3, 0.2), "step & co": scores(4, 0.4)}


def table(columns: tuple[Column, ...] = (HIT, AREA), baseline: str | None = "random", **frames: pd.DataFrame) -> Table:
    chance = scores(9).drop(columns="area")
    return build(rows() | frames, columns, references={"chance": chance}, baseline=baseline, seed=0, caption=CAPTION)


def entry(made: Table, row: str, column: Column) -> Entry:
    (found,) = (e for e in made.entries if (e.row, e.column) == (row, column.title))
    return found


def test_numbers_are_those_of_the_statistics() -> None:
    frame, against = rows()["grad_cam"], rows()["random"]
    made = entry(table(), "grad_cam", HIT)
    by_class = [np.average(f["hit"], weights=f["frames"]) for _, f in frame.groupby("label")]
    assert made.value == pytest.approx(np.mean(by_class))
    assert (made.low, made.high) == interval(
        frame["hit"], frame["frames"], list(frame["video"]), list(frame["label"]), seed=0
    )
    assert (made.n, made.n_nan, made.n_videos) == (24, 0, 6)
    d = paired_difference(
        frame["hit"], against["hit"], frame["frames"], list(frame["video"]), list(frame["label"]), seed=0
    )
    assert (made.difference, made.difference_low, made.difference_high, made.p) == (d.value, d.low, d.high, d.p)


def test_a_mean_over_videos_takes_every_video_once() -> None:
    column = Column("Hit", "hit", weight="frames", by="video")
    made = entry(table((column,)), "grad_cam", column)
    means = [np.average(f["hit"], weights=f["frames"]) for _, f in rows()["grad_cam"].groupby("video")]
    assert made.value == pytest.approx(np.mean(means))
    assert (made.low, made.high) == pytest.approx(interval(means, None, [f"v{i}" for i in range(6)], seed=0))
    assert (made.n, made.n_videos) == (24, 6)
    assert made.difference == pytest.approx(
        np.mean(
            [
                np.average(f["hit"] - rows()["random"].loc[f.index, "hit"], weights=f["frames"])
                for _, f in rows()["grad_cam"].groupby("video")
            ]
        )
    )


def test_wilson_where_a_column_asks_for_it_and_over_videos() -> None:
    column = Column("T-PT", "area", interval="wilson", bounds=(0, 1))
    hits = scores(5).assign(area=[1.0] * 9 + [0.0] * 12 + [math.nan] * 3)
    made = entry(table((column,), steps=hits), "steps", column)
    by_video = interval(hits["area"], None, list(hits["video"]), seed=0, bounds=(0, 1), wilson=True)
    assert (made.value, made.low, made.high) == (9 / 21, *by_video)
    assert (made.n, made.n_nan) == (21, 3)
    # Hits of one video are alike: six videos say less than twenty-one clips would.
    alone = interval(hits["area"], None, list(hits["clip"]), seed=0, bounds=(0, 1), wilson=True)
    assert by_video[1] - by_video[0] > 1.5 * (alone[1] - alone[0])


def test_the_note_says_by_which_rule_intervals_were_made_and_that_videos_are_few() -> None:
    notes = " ".join(table().notes())
    assert "Student's t" in notes
    assert "Few videos (6)" in notes
    assert "bootstrap" not in notes
    alone = {name: frame.assign(video=frame["clip"]) for name, frame in rows().items()}
    notes = " ".join(build(alone, (HIT,), references={}, baseline=None, seed=0, caption="").notes())
    assert "bootstrap" in notes
    assert "Few videos" not in notes
    pair = {"a": scores(1, clips=8)}
    notes = " ".join(build(pair, (HIT,), references={}, baseline=None, seed=0, caption="").notes())
    assert "Fewer than 3 videos have no interval" in notes


def test_what_cannot_be_judged_is_counted_and_missing_clips_show_in_n() -> None:
    short = scores(2, 0.3, clips=20)
    short.loc[3, "hit"] = math.nan
    short.loc[4, "frames"] = 0
    short["video"] = [""] * 10 + [None] * 10  # read back from a file, an empty name is missing
    made = entry(table(grad_cam=short), "grad_cam", HIT)
    assert (made.n, made.n_nan, made.n_videos) == (18, 2, 18)
    both = short.merge(rows()["random"], on="clip", suffixes=("", "_r"))
    assert made.difference == pytest.approx(
        np.mean(
            [
                np.average(f["hit"] - f["hit_r"], weights=f["frames"])
                for _, f in both.dropna(subset="hit").groupby("label")
            ]
        )
    )
    assert "18–20" in table(grad_cam=short).terminal()


def test_methods_come_first_then_baselines_then_references() -> None:
    made = table()
    assert [e.row for e in made.entries if e.column == "Area"] == [
        "grad_cam",
        "step & co",
        "random",
        "center",
        "chance",
    ]
    assert [e.group for e in made.entries if e.column == "Area"] == ["method"] * 2 + ["baseline"] * 2 + ["reference"]
    chance = entry(made, "chance", AREA)
    assert math.isnan(chance.value)
    assert (chance.n, chance.n_nan) == (0, 0)
    assert math.isnan(entry(made, "chance", HIT).p)
    assert math.isnan(entry(made, "random", HIT).p)


def test_the_best_follows_the_direction_and_is_no_reference() -> None:
    made = table()
    values = {e.row: e.value for e in made.entries if e.column == "Area" and e.group != "reference"}
    assert [e.row for e in made.entries if e.best and e.column == "Area"] == [min(values, key=lambda row: values[row])]
    assert [e.row for e in made.entries if e.best and e.column == "Hit rate"] == ["step & co"]
    for shift in (0.0, 9.0):
        sure = build({"a": scores(1)}, (HIT,), references={"sure": scores(1, shift)}, baseline=None, seed=0, caption="")
        assert [e.row for e in sure.entries if e.best] == ["a"]
    tied = build({"a": scores(1), "b": scores(1)}, (HIT,), references={}, baseline=None, seed=0, caption="")
    assert [e.best for e in tied.entries] == [True, True]


@pytest.mark.parametrize("form", ["terminal", "markdown", "latex", "json"])
def test_every_rendering_tells_protocol_counts_and_what_the_intervals_are(form: str) -> None:
    text = " ".join(getattr(table(), form)().split())
    for needle in (
        "split",
        "95 ",
        "interval",
        "Student",
        "videos",
        "NaN",
        "sign-flip",
        "random",
    ):
        assert needle in text
    assert "sign-flip" not in getattr(table(baseline=None), form)()
    noted = build(
        {"a": scores(1)}, (HIT,), references={}, baseline=None, seed=0, caption="", remarks=["a: known to be lucky"]
    )
    assert "a: known to be lucky" in " ".join(getattr(noted, form)().split())


def test_terminal_is_aligned_and_fits() -> None:
    lines = table().terminal().splitlines()
    body = [line for line in lines if line.startswith(("grad_cam", "step & co", "random", "center", "chance"))]
    assert len(body) == 5
    assert len({len(line) for line in body}) == 1
    assert max(map(len, lines)) <= 140
    assert sum(line.startswith("───") for line in lines) == 5  # around the heading, between the groups, at the end
    assert any("Hit rate ↑" in line and "Area ↓" in line for line in lines)
    (step,) = (line for line in body if line.startswith("step"))
    assert f"*{entry(table(), 'step & co', HIT).value:.3f} [" in step
    assert "–" in next(line for line in body if line.startswith("chance"))
    assert (
        f"Δ {entry(table(), 'step & co', HIT).difference:+.3f} (p .031)" in table().terminal()
    )  # 2 of 2⁶ sign patterns


def test_an_empty_table_of_one_column_still_renders() -> None:
    made = build({"a": scores(1).iloc[:0]}, (AREA,), references={}, baseline=None, seed=0, caption="nothing")
    assert made.csv().count("\n") == 2
    for form in ("terminal", "markdown", "latex", "json"):
        assert "nothing" in getattr(made, form)()


def test_markdown_has_as_many_cells_in_every_row_and_escapes() -> None:
    lines = [line for line in table().markdown().splitlines() if line.startswith("|")]
    assert {line.replace(r"\|", "").count("|") for line in lines} == {7}
    assert len(lines) == 2 + 5 + 2
    assert r"grad\_cam" in table().markdown()


def test_latex_escapes_and_closes() -> None:
    text = table().latex()
    assert r"step \& co" in text
    assert r"100 \% of split\_1" in text
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    assert {line.replace(r"\&", "").count("&") for line in body.splitlines() if line.endswith(r"\\")} == {5}
    assert body.count(r"\midrule") == 3
    assert text.count(r"\begin") == text.count(r"\end") == 2
    assert text.isascii()


def test_csv_and_json_hold_every_number_in_full() -> None:
    made = table()
    frame = pd.read_csv(io.StringIO(made.csv()))
    objects = json.loads(made.json())["entries"]
    assert len(frame) == len(objects) == len(made.entries) == 10
    for e, (_, line), found in zip(made.entries, frame.iterrows(), objects, strict=True):
        for name in (
            "value",
            "low",
            "high",
            "n",
            "n_nan",
            "n_videos",
            "difference",
            "difference_low",
            "difference_high",
            "p",
        ):
            expected = getattr(e, name)
            assert line[name] == expected or (math.isnan(line[name]) and math.isnan(expected))
            assert found[name] == expected or (found[name] is None and math.isnan(expected))
    assert json.loads(made.json())["baseline"] == "random"


def test_an_unknown_baseline_is_refused_with_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"unknown baseline row 'rand'(.|\n)*random"):
        table(baseline="rand")


def curves(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((12, 9)).cumsum(1) / 9


def test_curves_are_drawn_and_written_whole(tmp_path: Path) -> None:
    videos = {"grad_cam": [f"v{i // 2}" for i in range(12)], "random": ["one"] * 12, "empty": ["v"]}
    panel = {"grad_cam": curves(0), "random": curves(1), "empty": np.full((1, 9), math.nan)}
    path = tmp_path / "new" / "curves.png"
    plot_curves(path, {"deletion": panel, "insertion": panel}, videos, title="toys", seed=0)
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape[1] > pixels.shape[0] > 300
    blue = (np.abs(pixels.astype(int) - (0x00, 0x72, 0xB2)).sum(2) < 30).any(0)
    assert blue[: blue.size // 2].any()  # grad_cam's line in both panels
    assert blue[blue.size // 2 :].any()
    assert [p.name for p in path.parent.iterdir()] == ["curves.png"]


def test_a_plot_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        plot_curves(tmp_path / "curves.png", {"deletion": {"a": curves(0)}}, {}, title="", seed=0)
    with pytest.raises(ValueError, match="Format"):
        plot_curves(tmp_path / "curves.nonsense", {"deletion": {"a": curves(0)}}, {"a": ["v"] * 12}, title="", seed=0)
    assert not list(tmp_path.iterdir())
