"""Forecasts: what they rest on, that they say so, and the file of measurements."""

from __future__ import annotations

import dataclasses
import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import toys
from conftest import Command
from vidattr.cluster import forecast, measure, speeds
from vidattr.cluster.forecast import Basis, cost, duration, judging_cost, told
from vidattr.cluster.speeds import Measurement, Speeds, gmac, network_of
from vidattr.errors import MethodUndefinedError
from vidattr.metrics.deletion_insertion import DeletionInsertion
from vidattr.metrics.rerun.min_ratio import MinRatio
from vidattr.models.network.network import VideoModel
from vidattr.protocols import CountedPasses, ForwardOnly, MapBatch
from vidattr.run import compose
from vidattr.run.compose import part

METHODS = ("aosa", "aosa_approx", "attention_rollout", "center", "eb_r", "ep3d", "grad_cam", "grad_x_input", "gradient")
METHODS += ("integrated_gradients", "layer_cam", "osa", "random", "rise", "saliency_tubes", "smoothgrad")
METHODS += ("flow_magnitude", "frame_difference", "sobel")  # each class
METHODS += ("deep_lift", "generic_attention", "gradient_rollout", "lrp", "transformer_attribution")
METHODS += ("class_feature_pyramids", "grad_cam_plus_plus", "hires_cam", "score_cam")
FEW = {"iterations": 2, "core_start": 1, "masks": 4, "steps": 2, "n": 2, "core_kernel": [1, 3, 3]}
FEW |= {"core_stride": [1, 2, 2], "depth": 2}


@pytest.fixture(autouse=True)
def _own_speeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDATTR_SPEEDS", str(tmp_path / "speeds"))


def one(*overrides: str, primary: str = "run") -> Any:
    return compose.experiments(["model.weights=random", *overrides], primary=primary)[0]


def test_the_best_that_is_known_counts() -> None:
    experiment = one("method=integrated_gradients", "method.steps=10")
    network, known = network_of(experiment), Speeds("x", "cpu")
    rated = cost(experiment, 5, known)
    count = gmac(experiment)
    assert count == pytest.approx(0.11, rel=0.05)
    flop = 2e9 * (count or 0) * (1 + 2 * 11)  # one pass that classifies; steps + 1, each counted twice
    assert rated.seconds == pytest.approx(5 * (flop / (known.rate * 1e12) + forecast.CLIP_SECONDS))
    assert (rated.basis, rated.passes) == (Basis.rate, 5 * 12)
    known.add(Measurement(network, "forward", 0.5, 8))
    known.add(Measurement(network, "backward", 2.0, 8))
    assert cost(experiment, 5, known).seconds == pytest.approx(5 * (0.5 + forecast.CLIP_SECONDS + 11 * 2.0))
    assert cost(experiment, 5, known).basis is Basis.network
    known.add(Measurement(network, "clip", 0.1, 4, bytes=1000))
    known.add(Measurement(network, "method IntegratedGradients", 3.0, 4, bytes=50))
    best = cost(experiment, 5, known)
    assert (best.seconds, best.bytes, best.basis) == (pytest.approx(5 * (0.1 + 11 * 3.0)), 5 * 1050, Basis.method)
    other = one("method=integrated_gradients", "model.input.size=[32,32]")
    assert cost(other, 5, known).basis is Basis.rate, "another size is another network"


@pytest.mark.parametrize("name", METHODS)
def test_methods_that_are_counted_without_backward_passes_make_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backward: list[bool] = []
    real = torch.autograd._engine_run_backward  # what grad() and backward() come down to

    def watched(*arguments: Any, **options: Any) -> Any:
        backward.append(True)
        return real(*arguments, **options)

    monkeypatch.setattr(torch.autograd, "_engine_run_backward", watched)
    known = {field.name for field in dataclasses.fields(part("method", name, {}))}
    few = {
        key: value for key, value in FEW.items() if key != "steps" or name not in ("eb_r", "lrp")
    }  # there it is a name
    method = part("method", name, {key: value for key, value in few.items() if key in known})
    for network in (toys.conv_net(), toys.transformer()):
        with suppress(MethodUndefinedError):  # no attention, or no convolutions
            method(network, toys.query(1))
            # A second time, without the passes by which a network's layers are found, once a network.
            backward.clear()
            method(network, toys.query(1))
    assert bool(backward) == bool(method.passes and not isinstance(method, ForwardOnly))


@pytest.mark.parametrize(
    "metric",
    [DeletionInsertion(steps=4, noise_draws=0), DeletionInsertion(steps=7, noise_draws=0), MinRatio(noise_draws=0)],
    ids=["4 steps", "7 steps", "min_ratio"],
)
def test_the_passes_that_a_metric_tells_are_those_it_makes(metric: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, query = toys.network(toys.ConvNet()), toys.query(2)
    count = [0]
    real = VideoModel.through

    def counting(self: VideoModel, step: Any, volume: Tensor) -> Tensor:
        count[0] += len(volume)
        return real(self, step, volume)

    monkeypatch.setattr(VideoModel, "through", counting)
    maps = torch.rand(1, 2, *query.frames.shape[2:], generator=torch.Generator().manual_seed(0))
    batch = MapBatch(maps, query, [], model)
    method = part("method", "center", {})
    found = metric.score_maps(batch) if hasattr(metric, "score_maps") else metric.score_methods(batch, [method])
    assert found.columns
    assert isinstance(metric, CountedPasses)
    assert count[0] == 2 * metric.passes_of(method)


def test_a_measurement_is_stored_and_used(vidattr: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "SHORTEST", 0.0)
    choices = ("method=gradient,aosa", "dataset.clips=4", "render.gif=false", "render.mp4=false")
    before = vidattr("run", *choices, "--dry-run")
    assert "by multiply-adds at" in before.out
    found = vidattr("forecast", "--measure", *choices, "--seconds", "1")
    assert found.code == 0, found.err
    (file,) = (tmp_path / "speeds").glob("*.json")
    rows = json.loads(file.read_text())["rows"]
    assert {row["what"] for row in rows} == {"forward", "backward", "clip", "method Gradient", "method AOSA"}
    assert all(row["seconds"] > 0 and row["batch"] >= 4 for row in rows)
    after = vidattr("run", *choices, "--dry-run")
    assert "multiply-adds" not in after.out
    (line,) = [line for line in after.out.splitlines() if line.startswith("in all")]
    assert "passes" in line
    assert "hours" in line
    assert "by multiply-adds at 3 TFLOP/s (as --rate says)" in vidattr("forecast", *choices, "--rate", "3").out


def test_a_method_that_does_not_end_in_time_is_measured_by_the_passes_that_it_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    experiment = one("method=step", "method.iterations=100000", "runtime.clips=2", "dataset.clips=2")
    resident = experiment.model.load().run_with(experiment.runtime)
    query = measure._query(resident, experiment)
    row = measure._method(resident, "net", query, experiment, 0.3)
    assert 0 < row.passes < 100000
    assert row.bytes == 0
    assert "through" not in vars(resident), "the network is as it was"


@pytest.mark.parametrize("name", ["osa", "aosa", "rise", "integrated_gradients"])
def test_a_pass_whose_first_steps_run_on_crops_counts_once(name: str) -> None:
    experiment = one(f"method={name}", "runtime.clips=1", *(["method.masks=20"] if name == "rise" else []))
    network, passes = experiment.model.load().run_with(experiment.runtime), list[tuple[float, int]]()
    query, method = measure._query(network, experiment), experiment.method
    with measure._counted(network, math.inf, passes):
        method(network, query)
    most = len(method.windows(16, 64, 64)) + 1 if name == "osa" else method.passes
    assert most * 0.8 < sum(count for _, count in passes) <= most


def test_a_file_of_measurements_that_cannot_be_read_is_named(vidattr: Command, tmp_path: Path) -> None:
    known = Speeds(*speeds.this_device("auto"))
    for text in ("{", '{"rows": [{"network": 1}]}', "[]"):
        known.path.parent.mkdir(exist_ok=True)
        known.path.write_text(text)
        found = vidattr("run", "--dry-run", "dataset.clips=1")
        assert (found.code, str(known.path) in found.err, "--measure" in found.err) == (2, True, True)


def test_a_forecast_needs_no_dataset(vidattr: Command) -> None:
    found = vidattr(
        "forecast", "dataset=kinetics700", "model=r3d_50", "model.weights=random", "--clips", "34400", "--json"
    )
    assert found.code == 0, found.err
    (row,) = json.loads(found.out)
    assert (row["clips"], row["passes"], row["basis"]) == (34400, 68800, "rate")
    assert row["seconds"] > 0


def test_a_network_of_unknown_speed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ownnet.py").write_text(
        "import torch\ndef build():\n    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(3))\n"
    )
    monkeypatch.chdir(tmp_path)
    experiment = compose.experiments(
        [
            "model=custom",
            "model.target=ownnet:build",
            "model.input.frames=4",
            "model.input.size=[8,8]",
            "model.input.mean=[0,0,0]",
            "model.input.std=[1,1,1]",
        ]
    )[0]
    known = Speeds("x", "cpu")
    found = cost(experiment, 3, known)
    assert (found.seconds, found.basis) == (None, Basis.unknown)
    lines = "\n".join(told([found, cost(one(), 3, known)], known))
    assert "1 of which no speed is known" in lines
    assert "--measure" in lines


def test_judging_costs_its_passes_and_pointing_only_reads() -> None:
    known = Speeds("x", "cpu")
    game, curves = (one(f"metric={name}", primary="evaluate") for name in ("s_pt", "deletion_insertion"))
    assert judging_cost(game, 10, known).passes == 0
    assert judging_cost(curves, 10, known).passes == 10 * (2 * 27 * 2 + 3)
    assert (judging_cost(curves, 10, known).seconds or 0) > 5 * (judging_cost(game, 10, known).seconds or 0)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.5, "0.5 s"), (42, "42 s"), (300, "5 min"), (7200, "2 h"), (864000, "10 d"), (None, "?")]
)
def test_times_are_said_as_people_say_them(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


def test_a_published_table_is_forecast_without_its_data_from_the_number_of_clips_in_its_file(vidattr: Command) -> None:
    found = vidattr("reproduce", "aosa_2", "--dry-run", "--rate", "20", "--format", "json")
    assert found.code == 0, found.err
    (table,) = json.loads(found.out)
    assert {(row["clips"], row["basis"]) for row in table["runs"]} == {(7000, "rate")}
    hours = sum(row["seconds"] for row in table["runs"] + table["evaluations"]) / 3600
    half = vidattr("reproduce", "aosa_2", "--dry-run", "--rate", "40", "--format", "json")
    faster = sum(row["seconds"] for row in json.loads(half.out)[0]["runs"]) / 3600
    assert 10 < faster < hours < 1000
    assert "GPU-hours" in vidattr("reproduce", "aosa_2", "--dry-run", "--rate", "20").out
