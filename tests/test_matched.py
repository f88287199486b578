"""Noise as smooth as a map: it keeps values and smoothness, and no place."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

import toys
from conftest import Command
from vidattr.errors import ConfigError
from vidattr.evaluate import noise as noise_rows
from vidattr.evaluate.noise import draws_of, noise_scores
from vidattr.evaluate.table import BASELINES
from vidattr.methods.baselines.random import Random
from vidattr.methods.cam.grad_cam import GradCAM
from vidattr.methods.perturbation.extremal_perturbation import ExtremalPerturbation
from vidattr.methods.perturbation.pyramid import Border, blur
from vidattr.metrics.deletion_insertion import DeletionInsertion
from vidattr.metrics.flicker import Flicker
from vidattr.metrics.rerun.min_ratio import MinRatio
from vidattr.metrics.rerun.sanity import Sanity
from vidattr.metrics.rerun.timing import Timing
from vidattr.metrics.shared import matched_noise
from vidattr.metrics.shared.matched_noise import noise
from vidattr.metrics.spatial_pointing import SpatialPointing
from vidattr.metrics.temporal_pointing import TemporalPointing
from vidattr.protocols import MapBatch, Method
from vidattr.types import Column, Query, Scores, Truth

SIZE = (12, 32, 32)


def white(seed: int = 0) -> Tensor:
    return torch.rand(SIZE, generator=torch.Generator().manual_seed(seed))


def upsampled(seed: int = 0) -> Tensor:
    """What a CAM looks like: a few numbers, stretched."""
    coarse = torch.randn(1, 1, 6, 8, 8, generator=torch.Generator().manual_seed(seed))
    return interpolate(coarse, SIZE, mode="trilinear")[0, 0]


MAPS: dict[str, Callable[[], Tensor]] = {
    "white, as raw noise": white,
    "smooth, as a CAM": upsampled,
    "smooth and one-sided, as Grad-CAM": lambda: (upsampled() - 0.5).relu(),
    "on or off, as one mask": lambda: (upsampled() > 0.5).float(),
    "smooth in space only": lambda: blur(white(), 2.0, Border.nearest),
    "still": lambda: upsampled()[:1].expand(SIZE).contiguous(),
    "rough under an envelope, as a gradient": lambda: white() * (2 * upsampled()).exp(),
}


def lag_one(map: Tensor) -> list[float]:
    """The rank correlation of neighbours along T, H and W."""
    ranks = matched_noise.ranks(map.flatten()[None]).view(SIZE)
    pairs = [(ranks.narrow(axis, 0, n - 1), ranks.narrow(axis, 1, n - 1)) for axis, n in enumerate(SIZE)]
    return [float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1]) for a, b in pairs]


@pytest.mark.parametrize("kind", MAPS)
def test_noise_has_the_values_and_the_smoothness_of_the_map(kind: str) -> None:
    map = MAPS[kind]()
    drawn = noise(map[None], [7], 16)[:, 0]
    assert drawn.shape == (16, *SIZE)
    for draw in drawn:
        assert torch.equal(draw.flatten().sort().values, map.flatten().sort().values)
        assert not torch.equal(draw, map)
    found = torch.tensor([lag_one(draw) for draw in drawn]).mean(0)
    assert found.tolist() == pytest.approx(lag_one(map), abs=0.08)


def test_raw_noise_would_not_do() -> None:
    assert max(lag_one(white())) < 0.1 < 0.7 < min(lag_one(upsampled()))


@pytest.mark.parametrize("kind", ["smooth, as a CAM", "smooth and one-sided, as Grad-CAM"])
def test_noise_has_no_place(kind: str) -> None:
    drawn = noise(MAPS[kind]().expand(32, *SIZE), list(range(32)), 8).flatten(0, 1)
    mean = drawn.mean((0, 1))
    halves = (mean[:16].mean(), mean[16:].mean(), mean[:, :16].mean(), mean[:, 16:].mean(), mean[8:24, 8:24].mean())
    spread = MAPS[kind]().std()
    assert all(abs(half - MAPS[kind]().mean()) < 0.12 * spread for half in halves)


def test_the_inverse_is_linear_between_the_knots_and_leaves_what_is_not_positive() -> None:
    half = 0.5 * matched_noise._pairs()[0]  # of each correlation half is left
    correlations = torch.tensor([-0.3, 0.0, 0.01, 0.123, 0.2, 0.4, 0.49], dtype=torch.float64)
    found = matched_noise._before(correlations, half.expand(len(correlations), -1).contiguous())
    torch.testing.assert_close(found, torch.where(correlations > 0, 2 * correlations, correlations))


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_the_power_along_an_axis_is_damped_by_the_two_others_only(axis: int) -> None:
    power = toys.seeded(2, 3, 4, 5).square()
    damping = [toys.seeded(2, length, seed=length).exp() for length in (3, 4, 5)]
    for n in range(2):
        for k in range(power.shape[axis]):
            expected = 0.0
            for t, h, w in itertools.product(range(3), range(4), range(5)):
                if (t, h, w)[axis - 1] == k:
                    factors = [float(each[n, place]) for each, place in zip(damping, (t, h, w), strict=True)]
                    expected += float(power[n, t, h, w]) * math.prod(factors) / factors[axis - 1]
            assert float(matched_noise._line(power, damping, axis)[n, k]) == pytest.approx(expected, rel=1e-12)


def test_a_clip_s_noise_depends_on_its_seed_alone() -> None:
    maps = torch.stack([upsampled(n) for n in range(3)])
    together = noise(maps, [1, 2, 3], 3)
    assert torch.equal(noise(maps[1:2], [2], 3)[:, 0], together[:, 1])
    assert torch.equal(noise(maps, [1, 2, 3], 2), together[:2])
    assert not torch.equal(noise(maps[1:2], [4], 3)[:, 0], together[:, 1])
    assert len({draw.numpy().tobytes() for draw in noise(maps[:1], [1], 20)[:, 0]}) == 20


def test_a_map_that_says_nothing_is_its_own_noise_and_one_that_is_not_finite_has_none() -> None:
    flat, broken = torch.full(SIZE, 0.3), white()
    broken[0, 0, 0] = math.nan
    drawn = noise(torch.stack([flat, broken, white()]), [0, 1, 2], 2)
    assert torch.equal(drawn[0, 0], flat)
    assert drawn[:, 1].isnan().all()
    assert drawn[:, 2].isfinite().all()


@pytest.mark.parametrize("shape", [(1, 9, 11), (2, 7, 8), (5, 1, 1)])
def test_any_size_will_do(shape: tuple[int, int, int]) -> None:
    for smoothing in (None, lambda maps: blur(maps, 2.0)):
        drawn = noise(torch.rand(2, *shape), [0, 1], 9, smoothing)
        assert drawn.shape == (9, 2, *shape)
        assert drawn.isfinite().all()


def test_a_method_that_smooths_is_given_noise_that_went_through_its_own_smoothing() -> None:
    masks = (upsampled() > 0.8).float()[None, None]
    peaks = {}
    for border in Border:
        method = ExtremalPerturbation(smooth_sigma=4.0, smooth_border=border)
        smoothing = method.smoothing
        assert smoothing is not None
        map = blur(masks[:, 0], 4.0, border)
        assert torch.equal(smoothing(masks[:, 0]), map)
        drawn = noise(map.expand(16, *SIZE), list(range(16)), 2, smoothing).flatten(0, 2)
        row = drawn.flatten(1).argmax(1) // SIZE[2]
        peaks[border] = ((row >= 8) & (row < 24)).float().mean()
    # Zeros beyond the border push peaks to the middle half, repeated pixels to the border.
    assert peaks[Border.zero] > 0.9
    assert peaks[Border.nearest] < 0.3
    assert ExtremalPerturbation(smooth_sigma=None).smoothing is None


@dataclass(frozen=True)
class Mean:
    """A metric that says how far a map is from being white: the correlation of neighbours."""

    version: ClassVar[int] = 1
    unjudged: ClassVar[str] = ""
    noise_draws: int = 3

    def score_methods(self, batch: MapBatch, methods: Sequence[Method]) -> Scores:
        maps = batch.maps
        assert len(methods) == len(maps)
        assert all(isinstance(method, Random) for method in methods)
        assert len(batch.query.seeds) == maps.shape[1] == len(batch.truth)
        a, b = maps[..., 1:].flatten(2), maps[..., :-1].flatten(2)
        a, b = a - a.mean(2, keepdim=True), b - b.mean(2, keepdim=True)
        return Scores({"alike": ((a * b).sum(2) / (a.square().sum(2) * b.square().sum(2)).sqrt()).double()})

    def summary(self) -> tuple[Column, ...]:
        return (Column("Alike", score="alike"),)


def test_every_method_is_given_its_own_noise_and_the_baselines_none(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = torch.zeros(3, 3, *SIZE)
    query = Query(frames, torch.zeros(3, dtype=torch.long), (1, 2, 3))
    truth = [Truth(str(n), "", "", ((),) * SIZE[0], None) for n in range(3)]
    maps = torch.stack([torch.stack([make(n) for n in range(3)]) for make in (upsampled, white, white)])
    methods = [GradCAM(), GradCAM(), Random()]
    found = noise_scores(Mean(), MapBatch(maps, query, truth), methods, ["a", "b", "random"])
    assert set(found) == {0, 1}
    assert found[0]["alike"].shape == (3,)
    assert (found[0]["alike"] > 0.8).all()
    assert (found[1]["alike"].abs() < 0.1).all()
    monkeypatch.setattr(noise_rows, "_AT_ONCE", 1)
    one_by_one = noise_scores(Mean(), MapBatch(maps, query, truth), methods, ["a", "b", "random"])
    assert all(torch.equal(one_by_one[m]["alike"], found[m]["alike"]) for m in found)
    assert noise_scores(Mean(noise_draws=0), MapBatch(maps, query, truth), methods, ["a", "b", "c"]) == {}


@pytest.mark.parametrize("metric", [SpatialPointing, TemporalPointing, DeletionInsertion, Flicker, MinRatio])
def test_metrics_of_maps_have_noise_and_refuse_less_than_none(metric: type) -> None:
    assert draws_of(metric()) > 0
    assert draws_of(metric(noise_draws=0)) == 0
    with pytest.raises(ConfigError, match=r"metric.noise_draws=-1"):
        metric(noise_draws=-1)


@pytest.mark.parametrize("metric", [Sanity, Timing])
def test_metrics_that_run_the_methods_have_none(metric: type) -> None:
    assert draws_of(metric()) == 0


SMALL = ("dataset.clips=4", "dataset.frames=16", "dataset.size=64", "--quiet")
PLAIN = (*SMALL, "render.grid=false", "render.gif=false", "render.mp4=false", "render.comparison=false")


def test_tables_compare_with_matched_noise_unless_told_otherwise(vidattr: Command, tmp_path: Path) -> None:
    vidattr("run", "method=grad_cam,gradient", *PLAIN)
    base = ("evaluate", "method=grad_cam,gradient", *SMALL)
    found = vidattr(*base, "--json")
    assert found.code == 0, found.err
    (table,) = json.loads(found.out)
    column = "step_corrected, frames"
    rows = {entry["row"]: entry for entry in table["entries"] if entry["column"] == column}
    assert table["baseline"] == "matched"
    assert {name: rows[name]["group"] for name in rows if "noise" in name} == {
        "matched noise (grad_cam)": "matched",
        "matched noise (gradient)": "matched",
    }
    for name in ("grad_cam", "gradient"):
        assert rows[name]["difference"] == pytest.approx(rows[name]["value"] - rows[f"matched noise ({name})"]["value"])
    assert [rows[name]["difference"] for name in BASELINES] == [None] * len(BASELINES)
    assert not any(rows[name]["best"] for name in rows if "noise" in name)
    assert any("own matched noise" in note for note in table["notes"])
    assert any(note.startswith("matched noise: ") and "4 draws" in note for note in table["notes"])
    (path,) = [p for p in (tmp_path / "visual_res/grad_cam").rglob("scores/*.csv") if p.suffixes == [".csv"]]
    assert pd.read_csv(path)["matched/step_corrected"].between(0, 1).all()

    (raw,) = json.loads(vidattr(*base, "--baseline", "random", "--json").out)
    values = {entry["row"]: entry for entry in raw["entries"] if entry["column"] == column}
    assert values["grad_cam"]["difference"] == pytest.approx(values["grad_cam"]["value"] - values["random"]["value"])
    for form, word in (
        ("latex", "matched noise (grad\\_cam)"),
        ("csv", "matched noise (grad_cam),matched,"),
        ("markdown", "matched noise"),
    ):
        assert word in vidattr("table", *base[1:-1], "--format", form).out
    wrong = vidattr(*base, "--baseline", "matchd")
    assert wrong.code == 2
    assert "matched" in wrong.err


@pytest.mark.parametrize(
    "metric", [("metric=timing", "metric.warmup=0", "metric.repeats=1"), ("metric.noise_draws=0",)]
)
def test_without_noise_a_table_says_so_and_compares_with_random(metric: tuple[str, ...], vidattr: Command) -> None:
    vidattr("run", "method=gradient", *PLAIN)
    (table,) = json.loads(vidattr("evaluate", "method=gradient", *metric, *SMALL, "--json").out)
    assert table["baseline"] == "random"
    assert any("has no matched noise" in note for note in table["notes"])
    assert not [entry for entry in table["entries"] if "noise" in entry["row"]]


def test_a_map_is_made_of_stored_masks_as_the_method_makes_it() -> None:
    from vidattr.methods.perturbation.extremal_perturbation import map_from_masks

    method = ExtremalPerturbation(
        areas=[0.2, 0.4], iterations=3, seed_step=2, seed_sigma=2.0, smooth_sigma=1.5, late_from=None, stop_window=None
    )
    found = method(toys.conv_net(), toys.query(2))
    assert torch.equal(map_from_masks(found.extras["masks"], 1.5, Border.nearest), found.map)
    assert not torch.equal(map_from_masks(found.extras["masks"], 1.5, Border.zero), found.map)
    assert torch.equal(map_from_masks(found.extras["masks"], None, Border.zero), found.extras["masks"].sum(1).float())
