"""Times per map by a clock that the tests wind, and the statistics and captions of a table of times."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import toys
from conftest import Command
from vidattr import profiling
from vidattr.config.runtime import Runtime
from vidattr.errors import ConfigError
from vidattr.evaluate import statistics
from vidattr.evaluate.noise import map_scores
from vidattr.evaluate.table import BASELINES, build
from vidattr.metrics.rerun import timing
from vidattr.metrics.rerun.timing import Timing
from vidattr.models.network.network import VideoModel
from vidattr.protocols import MapBatch
from vidattr.types import Column, Explanation, Query, Scores


@dataclass
class Clock:
    """Stands still unless somebody takes time."""

    now: float = 0.0

    def takes(self, milliseconds: float) -> None:
        self.now += milliseconds / 1000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock(5.0)
    monkeypatch.setattr(profiling.time, "perf_counter", lambda: found.now)
    return found


@dataclass(frozen=True)
class Busy:
    """Takes a known time at each stage; the n-th run takes `slower[n]` ms more in the network."""

    name: str
    clock: Clock
    slower: tuple[float, ...] = ()
    runs: list[tuple[int, ...]] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        clips = len(query.frames)
        self.runs.append(query.seeds)
        self.log.append(self.name)
        self.clock.takes(1)
        with profiling.stage("flow"):
            query.cached("flow", lambda: self.clock.takes(10 * clips))
        with profiling.stage("masks"):
            self.clock.takes(20)
            with profiling.stage("network"):
                self.clock.takes(300 + (self.slower[len(self.runs) - 1] if self.slower else 0))
            self.clock.takes(2)
        with profiling.stage("upsampling"):
            self.clock.takes(4)
        return Explanation(query.frames.mean(1))


def timed(metric: Timing, *methods: Busy, clips: int = 3) -> Scores:
    return metric.score_methods(
        MapBatch(torch.zeros(len(methods), clips, 4, 6, 8), toys.query(clips), [], toys.conv_net(max_batch=6)), methods
    )


def test_the_parts_are_known_and_the_rest_is_assembly(clock: Clock) -> None:
    found = timed(Timing(repeats=2, warmup=0), Busy("a", clock)).columns
    expected = {
        "total": 337,
        "flow": 10,
        "masks": 22,
        "network": 300,
        "assembly": 5,
        "clips_per_second": 1000 / 337,
        "max_batch": 6,
    }
    for name, value in expected.items():
        torch.testing.assert_close(found[name], torch.full((1, 3), value, dtype=torch.float64))
    assert found["memory"].isnan().all(), "a processor does not tell"


def test_the_memory_of_a_gpu_is_counted_in_mib_above_what_was_there_before(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = {"before": 5 * 1024**2, "most": 999 * 1024**2}
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: held.update(most=held["before"]))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: held["before"])
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: held["most"])
    query = SimpleNamespace(frames=SimpleNamespace(device=torch.device("cuda")))

    def method(*_: object) -> None:
        clock.takes(7)
        held["most"] = max(held["most"], held["before"] + 1024**2 * 5 // 2)

    found = timing._timed(toys.conv_net(), method, query)  # type: ignore[arg-type]
    assert found == {"total": pytest.approx(0.007), "memory": 2.5}


def test_of_several_runs_the_median_one_is_taken_whole(clock: Clock) -> None:
    slower = (999, 30, 10, 20, 1, 2, 3, 40, 40, 40)  # a warm-up, then three runs a clip
    found = timed(Timing(repeats=3, warmup=1), Busy("a", clock, slower)).columns
    assert found["total"][0].tolist() == pytest.approx([357, 339, 377])
    assert found["network"][0].tolist() == pytest.approx([320, 302, 340])
    parts = sum(found[part] for part in ("flow", "masks", "network", "assembly"))
    torch.testing.assert_close(parts, found["total"])


def test_methods_take_turns_each_clip_by_itself_and_nothing_known_of_it(clock: Clock) -> None:
    log: list[str] = []
    a, b = Busy("a", clock, log=log), Busy("b", clock, log=log)
    timed(Timing(repeats=2, warmup=1), a, b, clips=2)
    assert log == ["a", "b"] + ["a", "b", "a", "b"] * 2
    assert a.runs == [(100,), (100,), (100,), (101,), (101,)]


def test_clips_of_a_batch_share_its_time_and_fill_it_up(clock: Clock) -> None:
    method = Busy("a", clock)
    found = timed(Timing(repeats=1, warmup=0, batch=2), method).columns
    assert method.runs == [(100, 101), (102, 100)]
    torch.testing.assert_close(found["total"], torch.full((1, 3), 347 / 2, dtype=torch.float64))
    torch.testing.assert_close(found["flow"], torch.full((1, 3), 10.0, dtype=torch.float64))
    torch.testing.assert_close(found["clips_per_second"], torch.full((1, 3), 2000 / 347, dtype=torch.float64))


def test_time_in_the_network_is_found_without_the_methods_help() -> None:
    from vidattr.methods.baselines.random import Random
    from vidattr.methods.gradients.gradient import Gradient

    batch = MapBatch(torch.zeros(2, 3, 4, 6, 8), toys.query(), [], toys.conv_net())
    found = Timing(repeats=1, warmup=0).score_methods(batch, (Gradient(), Random())).columns
    assert (found["network"][0] > 0).all()
    assert (found["network"][1] == 0).all()
    assert (found["assembly"] > 0).all()
    assert (found["flow"] == 0).all()


def test_wrong_options_and_missing_methods() -> None:
    for name, value in (("repeats", 0), ("warmup", -1), ("batch", 0)):
        with pytest.raises(ConfigError, match=f"metric.{name}={value}"):
            Timing(**{name: value})
    with pytest.raises(ValueError, match="was given none"):
        Timing().score_methods(MapBatch(torch.zeros(1, 3, 4, 6, 8), toys.query(), []), [])
    with pytest.raises(ValueError, match="0 methods for 1 maps"):
        map_scores(Timing(), MapBatch(torch.zeros(1, 3, 4, 6, 8), toys.query(), [], toys.conv_net()), [])


def test_the_conditions_name_machine_threads_batch_and_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_processor", lambda: "Abacus")
    found = Timing().conditions(Runtime(max_batch=3))
    assert found == {"device": "Abacus", "threads": torch.get_num_threads(), "max_batch": 3, "precision": "float32"}
    assert Timing().conditions(Runtime(max_batch=4)) != found


SMALL = (
    "dataset.clips=4",
    "dataset.frames=16",
    "dataset.size=64",
    "model.input.frames=8",
    "model.input.size=[32,32]",
    "limit=2",
    "--quiet",
)
PLAIN = (*SMALL, "render.grid=false", "render.gif=false", "render.mp4=false", "render.comparison=false")
QUICK = ("metric=timing", "metric.warmup=0", "metric.repeats=1")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names = ["Abacus"]
    monkeypatch.setattr(timing, "_processor", lambda: names[0])
    return names


def test_knobs_that_the_caption_names_are_those_that_it_was_measured_with(
    vidattr: Command, tmp_path: Path, machine: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("method=gradient", "runtime.max_batch=4,2", "runtime.compile=false,true", *QUICK)
    seen: list[tuple[int, bool]] = []
    monkeypatch.setattr(
        VideoModel, "__call__", lambda self, x: seen.append((self.max_batch, self.compile)) or self.module(x)
    )
    vidattr("run", "method=gradient", *PLAIN)
    seen.clear()
    found = vidattr("evaluate", *arguments, *SMALL, "--json")
    assert found.code == 0, found.err
    captions = [table["caption"] for table in json.loads(found.out)]
    asked = [(4 if "max_batch=4" in one else 2, "compile=True" in one) for one in captions]
    assert sorted(asked) == [(2, False), (2, True), (4, False), (4, True)]
    assert list(dict.fromkeys(seen)) == asked
    for path in (tmp_path / "visual_res/gradient").rglob("timing-*.csv"):
        assert set(pd.read_csv(path)["max_batch"]) in ({4}, {2})


def test_a_batch_that_was_halved_is_said_in_its_table_and_not_kept_for_the_next(
    vidattr: Command, machine: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    vidattr("run", "method=gradient", *PLAIN)
    small = [True]

    def call(self: VideoModel, frames: torch.Tensor) -> torch.Tensor:
        if small and self.max_batch > 4:
            small.clear()
            raise torch.OutOfMemoryError("no memory")
        return self.module(frames)

    monkeypatch.setattr(VideoModel, "__call__", call)
    found = vidattr("evaluate", "method=gradient", "metric=timing", "metric.warmup=0", "metric.repeats=1,2", *SMALL)
    first, _, second = found.out.partition("repeats=2")
    assert "gradient (metric.repeats=1): max_batch was 4 and not 8 on 2 of 2 clips" in first
    assert "max_batch was" not in second


def test_from_the_command_line_and_two_machines_never_in_one_table(
    vidattr: Command, tmp_path: Path, machine: list[str]
) -> None:
    vidattr("run", "method=gradient", *PLAIN)
    found = vidattr("evaluate", "method=gradient", *QUICK, *SMALL, "--json")
    assert found.code == 0, found.err
    (table,) = json.loads(found.out)
    assert "device=Abacus, threads=" in table["caption"]
    assert "max_batch=8, precision=float32" in table["caption"]
    assert {entry["row"] for entry in table["entries"]} == {"gradient", *BASELINES}
    assert all((entry["n"], entry["n_nan"]) == (2, 0) for entry in table["entries"])
    assert "Peak memory, MiB" not in {entry["column"] for entry in table["entries"]}
    values = {(entry["row"], entry["column"]): entry["value"] for entry in table["entries"]}
    assert values["gradient", "Network, ms"] > values["random", "Network, ms"] == 0
    machine[0] = "Slide rule"
    early = vidattr("table", "method=gradient", *QUICK, *SMALL[:-1])
    assert early.code == 2
    assert "no scores yet" in early.err
    other = vidattr("evaluate", "method=gradient", *QUICK, *SMALL, "--json")
    assert "device=Slide rule" in json.loads(other.out)[0]["caption"]
    assert len(list((tmp_path / "visual_res/gradient").rglob("timing-*.csv"))) == 2
    machine[0] = "Abacus"
    again = vidattr("table", "method=gradient", *QUICK, *SMALL[:-1], "--json")
    assert json.loads(again.out) == json.loads(found.out)


def test_quantiles_and_their_interval_are_those_of_resampled_videos() -> None:
    generator = np.random.default_rng(0)
    values = generator.exponential(size=23)
    values[4] = math.nan
    videos = [f"v{i // 3}" for i in range(23)]
    kept = np.isfinite(values)
    for share in (0.5, 0.95):
        value, low, high = statistics.quantile(values, share, videos, seed=3)
        assert value == pytest.approx(np.quantile(values[kept], share))
        draws = np.random.default_rng(3).integers(8, size=(statistics.DRAWS, 8))
        groups = [values[3 * v : 3 * v + 3] for v in range(8)]
        literal = [np.nanquantile(np.concatenate([groups[v] for v in draw]), share) for draw in draws]
        assert (low, high) == pytest.approx(tuple(np.quantile(literal, [0.025, 0.975])))
        assert low < high
    alone = statistics.quantile([1.0, 3.0], 0.5, ["one", "one"], seed=0)
    assert alone[0] == 2
    assert np.isnan(alone[1:]).all()
    assert np.isnan(statistics.quantile([math.nan], 0.5, ["one"], seed=0)).all()


def times(scale: float) -> pd.DataFrame:
    clips = [f"c{i}" for i in range(9)]
    values = scale * np.array([1, 2, 3, 4, 5, 6, 7, 8, 900.0])
    return pd.DataFrame({"clip": clips, "label": "k", "video": clips, "ms": values, "memory": math.nan})


def test_a_table_shows_median_and_upper_end_and_leaves_out_what_no_row_has() -> None:
    columns = (
        Column("Mean", "ms", better="lower"),
        Column("Median", "ms", better="lower", statistic="median"),
        Column("95 % point", "ms", better="lower", statistic="p95"),
        Column("Memory", "memory", better="lower", optional=True),
    )
    made = build({"slow": times(1), "quick": times(0.5)}, columns, references={}, baseline="slow", seed=0, caption="")
    entries = {(entry.row, entry.column): entry for entry in made.entries}
    assert [entries["slow", title].value for title in ("Mean", "Median")] == [104, 5]
    assert entries["slow", "95 % point"].value == pytest.approx(np.quantile(times(1)["ms"], 0.95))
    assert entries["quick", "Median"].best
    assert not entries["slow", "Median"].best
    assert entries["quick", "Mean"].difference == -52
    assert math.isnan(entries["quick", "Median"].difference), "a difference of medians is no mean difference"
    assert ("slow", "Memory") not in entries
    assert "Memory" not in made.terminal()
    with_memory = build(
        {"slow": times(1), "quick": times(1).assign(memory=3.0)},
        columns,
        references={},
        baseline=None,
        seed=0,
        caption="",
    )
    assert "Memory" in with_memory.terminal()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.12345, "0.123"),
        (9.9994, "9.999"),
        (9.9996, "10.00"),
        (99.996, "100.0"),
        (999.96, "1000"),
        (-12.345, "−12.35"),
    ],
)
def test_large_numbers_are_shown_with_fewer_decimals(value: float, shown: str) -> None:
    frame = pd.DataFrame({"clip": ["c"], "label": ["k"], "video": ["v"], "ms": [value]})
    made = build({"only": frame}, (Column("Time", "ms"),), references={}, baseline=None, seed=0, caption="")
    assert f" {shown} " in made.markdown().replace("\\", "").replace("*", " ")
