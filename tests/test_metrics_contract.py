"""What every choice in `configs/metric` must keep; a new metric is checked by its YAML alone.

The checks show a metric a world in which every question about a map has the same answer: the network looks at one box
of voxels, the annotated box is that box, and the annotated segment is where the best map has most of its mass. A metric
that asks something else of a map (does it stand still? does it depend on the network? how long does it take?) has a
world of its own in `WORLDS`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

import toys
from conftest import ROOT
from vidattr import profiling
from vidattr.evaluate.noise import map_scores
from vidattr.methods.baselines.center import Center
from vidattr.methods.gradients.gradient import Gradient
from vidattr.models.network.network import VideoModel
from vidattr.protocols import (
    ComparesMaps,
    MachineDependent,
    MapBatch,
    MapMetric,
    MatchedNoise,
    Method,
    Metric,
    NetworkMetric,
    RerunMetric,
)
from vidattr.run.compose import build, choice
from vidattr.types import Explanation, Pixels, Query, Scores, Truth

NAMES = [path.stem for path in sorted((ROOT / "configs/metric").glob("*.yaml"))]
each = pytest.mark.parametrize("name", NAMES)
T, H, W = 4, 16, 16
CORNERS = (4, 2, 6)  # of each clip's box, in x and y
SIDE = 8
BEST, NOISE, WORST = 0, slice(2, 5), -1  # places of the maps (or methods) of a world
SMALLER: dict[str, Any] = {"steps": 14, "samples": 20, "iterations": 12, "shares": [0.3, 0.7]}  # enough here
REVERSED = ("t_pt_released",)  # judges maps against the background, as the released code does
FIRST_OF_EQUALS = ("step_released", "aosa")  # take the first of equal peaks, as their authors do: no chance for ties


class Box(nn.Module):
    """Its class 0 is the likelier, the more voxels in the clip's box are, to the bit, what they were in the clip."""

    def __init__(self, seen: Tensor, box: Tensor) -> None:
        super().__init__()
        self.register_buffer("seen", seen)
        self.register_buffer("box", box)

    def forward(self, frames: Tensor) -> Tensor:
        kept = (frames[:, None] == self.seen).all(2) & self.box
        share = (kept.sum((2, 3, 4)) / self.box.sum((1, 2, 3))).amax(1)
        return torch.cat([8 * share[:, None] - 4, frames.new_zeros(len(frames), 3)], 1)


class Bright(nn.Module):
    """Its class 0 is the likelier, the brighter a box is."""

    def __init__(self, box: Tensor) -> None:
        super().__init__()
        self.register_buffer("box", box)

    def forward(self, frames: Tensor) -> Tensor:
        light = (frames * self.box).sum((1, 2, 3, 4)) / self.box.sum() / frames.shape[1]
        return torch.cat([8 * light[:, None] - 4, torch.zeros_like(frames[:, :3, 0, 0, 0])], 1)


class Letters(nn.Module):
    """Ten classes, whose logits are written into the first pixels of the clip."""

    def forward(self, frames: Tensor) -> Tensor:
        return frames[:, 0, 0, 0, :10]


@dataclass(frozen=True)
class World:
    """Maps from best to worst under one metric, and the methods that made them."""

    batch: MapBatch
    methods: Sequence[Method]

    def scores(self, metric: Metric) -> Scores:
        return map_scores(cast(MapMetric | RerunMetric, metric), self.batch, self.methods)

    def of(self, maps: Sequence[int], clips: Sequence[int]) -> World:
        """Returns the world of some of the maps and clips."""
        batch, m, n = self.batch, list(maps), list(clips)
        query = Query(batch.query.frames[n], batch.query.target[n], tuple(batch.query.seeds[i] for i in n))
        truth = [batch.truth[i] for i in n]
        return World(MapBatch(batch.maps[m][:, n], query, truth, batch.model), [self.methods[i] for i in m])


def boxed() -> World:
    """The best map, a constant one, three of noise and the worst, of three clips."""
    N = len(CORNERS)
    generator = torch.Generator().manual_seed(3)
    frames = torch.rand(N, 3, T, H, W, generator=generator, dtype=torch.float64)
    y, x = torch.meshgrid(torch.arange(H) + 0.5, torch.arange(W) + 0.5, indexing="ij")
    inside, near, truth = torch.zeros(N, T, H, W, dtype=torch.bool), torch.zeros(N, T, H, W), []
    for n, corner in enumerate(CORNERS):
        end, middle = corner + SIDE, corner + SIDE / 2
        inside[n, :, corner:end, corner:end] = True
        near[n] = 1 - torch.hypot(x - middle, y - middle) / 32
        box = (float(corner), float(corner), float(end), float(end))
        segment = (False, False, True, True) if n % 2 else (True, True, False, False)
        truth.append(Truth(f"clip {n}", toys.CLASSES[0], f"video {n}", ((box,),) * T, segment))
    weight = torch.tensor([[1.0 if shown else 0.25 for shown in clip.segment or ()] for clip in truth])
    best = inside * weight[..., None, None] + 0.01 * near
    noise = torch.rand(3, N, T, H, W, generator=generator)
    maps = torch.cat([torch.stack([best, torch.full_like(best, 0.5)]), noise, (1.02 - best)[None]])
    network = toys.network(Box(frames, inside), size=(3, T, H, W), max_batch=64)
    query = Query(frames, torch.zeros(N, dtype=torch.int64), tuple(range(N)))
    return World(MapBatch(maps, query, truth, network), [Gradient()] * len(maps))


def certified() -> World:
    """The world of `boxed`, whose clips can be drawn again: another box, or the same box in another clip."""
    world = boxed()
    batch, view = world.batch, world.batch.network.view
    random = np.random.default_rng(3)
    pixels = random.integers(0, 256, (len(CORNERS), T, H, W, 3), np.uint8)
    inside = cast(Box, batch.network.module).box.numpy()[..., None]

    def resampled(n: int, part: str, draw: int) -> Pixels:
        other = np.random.default_rng(draw).integers(0, 256, pixels[n].shape, np.uint8)
        return np.where(inside[n] == (part == "rest"), pixels[n], other)

    frames = view.normalise(torch.from_numpy(pixels))
    network = toys.network(Box(frames, torch.from_numpy(inside[..., 0])), size=(3, T, H, W), max_batch=64)
    truth = [replace(one, resampled=functools.partial(resampled, n)) for n, one in enumerate(batch.truth)]
    return replace(world, batch=MapBatch(batch.maps, replace(batch.query, frames=frames, memo={}), truth, network))


def still() -> World:
    """A map that stands still, some of noise, and one whose signs alternate: the worlds of a metric of motion."""
    world = boxed()
    maps = world.batch.maps.clone()
    maps[BEST] = maps[BEST][:, :1]
    maps[WORST] = maps[WORST][:, :1] * torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None, None]
    return replace(world, batch=replace(world.batch, maps=maps))


def learnt() -> World:
    """A method that depends on the network's weights, and one that does not."""
    model, query, methods = toys.conv_net(), toys.query(), (Gradient(), Center())
    maps = torch.stack([method(model, query).map for method in methods])
    truth = [Truth(f"clip {n}", "ant", f"video {n}", ((),) * maps.shape[2], None) for n in range(maps.shape[1])]
    return World(MapBatch(maps, query, truth, model), methods)


def sparse() -> World:
    """A map of a single voxel, some of noise, and a constant one."""
    world = boxed()
    maps = world.batch.maps.clone()
    maps[BEST] = 0
    maps[BEST, :, 0, 0, 0] = 1
    maps[WORST] = 0.5
    return replace(world, batch=replace(world.batch, maps=maps))


def masked() -> World:
    """A box itself, some of noise, and all but the box, for a network that looks at the box's mean colour."""
    world = boxed()
    inside = world.batch.network.module.box[0]
    frames = world.batch.query.frames * 0.2 + 0.8
    maps = world.batch.maps.clone()
    maps[BEST], maps[1], maps[WORST] = inside.float(), 1 - maps[2], (~inside).float()
    network = toys.network(Bright(inside), size=(3, T, H, W), max_batch=64)
    return replace(
        world, batch=replace(world.batch, maps=maps, model=network, query=replace(world.batch.query, frames=frames))
    )


def steady() -> World:
    """A method that does not depend on the frames, and one that does."""
    world = learnt()
    return world.of([WORST, BEST], range(world.batch.maps.shape[1]))


def alike() -> World:
    """A map, some that differ from it by noise, and its negative."""
    world = boxed()
    first = torch.rand(world.batch.maps.shape[1:], generator=torch.Generator().manual_seed(4))
    maps = first + 0.3 * torch.rand(world.batch.maps.shape, generator=torch.Generator().manual_seed(5))
    maps[BEST], maps[WORST] = first, -first
    return replace(world, batch=replace(world.batch, maps=maps))


class Clock:
    """Stands still unless a method takes time, so that a busy machine changes no score."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


CLOCK = Clock()


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiling, "time", CLOCK)


@dataclass(frozen=True)
class Slow:
    """A method that takes its time."""

    seconds: float
    passes: int = 0
    version: int = 1

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        CLOCK.now += self.seconds
        return Explanation(torch.zeros(len(query.seeds), T, H, W))


def timed() -> World:
    """A fast and a slow method."""
    world = boxed().of([BEST, WORST], range(len(CORNERS)))
    return replace(world, methods=[Slow(0.01), Slow(0.02)])


WORLDS: dict[str, Callable[[], World]] = {
    "Agreement": alike,
    "CertifiedTruth": certified,
    "Flicker": still,
    "MaskedClip": masked,
    "MaxSensitivity": steady,
    "Sanity": learnt,
    "Sparseness": sparse,
    "Timing": timed,
}


def metric_of(name: str) -> Metric:
    config = OmegaConf.create(choice("metric", name))
    for field in SMALLER.keys() & config.keys():
        config[field] = min(config[field], SMALLER[field]) if field != "shares" else SMALLER[field]
    return cast(Metric, build(cast(dict[str, Any], OmegaConf.to_container(config)), f"metric={name}"))


def metric_and_world(name: str) -> tuple[Metric, World]:
    """Returns a metric of maps or methods and its world; skips one that judges networks, and one whose numbers vary."""
    metric = metric_of(name)
    if isinstance(metric, NetworkMetric):
        pytest.skip("judges networks: see the last tests")
    return metric, WORLDS.get(type(metric).__name__, boxed)()


@functools.cache
def scores_of(name: str) -> Scores:
    """Returns the scores of a metric's world."""
    metric, world = metric_and_world(name)
    return world.scores(metric)


def repeatable(name: str) -> tuple[Metric, World]:
    metric, world = metric_and_world(name)
    if isinstance(metric, MachineDependent):
        pytest.skip("its numbers depend on the machine and the moment")
    return metric, world


def shown(metric: Metric) -> list[str]:
    """Returns the names of the scores in the metric's table, each once."""
    return list(dict.fromkeys(column.score for column in metric.summary()))


@each
def test_it_is_of_one_kind_and_its_columns_say_what_they_are(name: str) -> None:
    metric = metric_of(name)
    kinds = [kind for kind in (MapMetric, RerunMetric, NetworkMetric) if isinstance(metric, kind)]
    assert len(kinds) == 1, f"one of score_maps, score_methods, score_network: {kinds}"
    assert type(metric).version >= 1
    assert not metric.unjudged.endswith("."), "it is the end of a sentence"
    columns = metric.summary()
    assert len({column.title for column in columns}) == len(columns) > 0
    for column in columns:
        assert column.better in ("higher", "lower")
        assert column.by in (None, "label", "video")
        assert column.interval in ("bootstrap", "wilson")
        assert column.statistic in ("mean", "median", "p95")
        assert column.bounds in (None, (0, 1), (-1, 1)), "of a share, or of a correlation or difference of shares"
        assert column.interval == "bootstrap" or column.bounds is not None, "Wilson's interval needs bounds"
    if isinstance(metric, MatchedNoise):
        assert metric.noise_draws >= 0


@each
def test_a_config_that_is_based_on_no_other_has_the_defaults_of_the_class(name: str) -> None:
    if "defaults" not in OmegaConf.load(ROOT / "configs" / "metric" / f"{name}.yaml"):
        metric = build(OmegaConf.to_container(choice("metric", name)), f"metric={name}")  # type: ignore[arg-type]
        assert metric == type(metric)()


@each
def test_scores_are_one_number_per_map_and_clip(name: str) -> None:
    metric, world = metric_and_world(name)
    scores, (M, N) = scores_of(name), world.batch.maps.shape[:2]
    for column, values in scores.columns.items():
        assert (values.shape, values.dtype) == ((M, N), torch.float64), column
    for column in metric.summary():
        assert column.optional or not scores.columns[column.score].isnan().any(), f"{column.score} of a whole world"
        assert column.weight is None or (scores.columns[column.weight] >= 0).all()
    for curve, points in scores.curves.items():
        assert points.shape[:2] == (M, N), curve
        assert not scores.points or points.shape[2] == len(scores.points), curve
    for reference in scores.reference.values():
        assert set(reference) <= set(scores.columns)
        assert all(values.shape == (N,) for values in reference.values())
    assert all(len(texts) == N for texts in scores.notes.values())


@each
def test_the_best_map_scores_best_and_the_worst_worst(name: str) -> None:
    metric, _ = metric_and_world(name)
    columns, strict = scores_of(name).columns, []
    for column in metric.summary():
        values = columns[column.score]
        if values.isnan().all():
            continue
        signed = values if (column.better == "higher") != (name in REVERSED) else -values
        assert (signed[BEST] >= signed.amax(0) - 1e-9).all(), f"{column.title}: {values}"
        assert (signed[WORST] <= signed.amin(0) + 1e-9).all(), f"{column.title}: {values}"
        strict.append(bool((signed[BEST] > signed[WORST]).all()))
    assert any(strict), "no column tells the best map from the worst"


@each
def test_scores_stay_within_their_bounds(name: str) -> None:
    metric, _ = metric_and_world(name)
    scores = scores_of(name)
    tables = {"a map": scores.columns, **scores.reference}
    for column in metric.summary():
        for who, columns in tables.items():
            if column.bounds is not None and column.score in columns:
                values = columns[column.score].nan_to_num(column.bounds[0])
                low, high = column.bounds[0] - 1e-9, column.bounds[1] + 1e-9
                assert ((values >= low) & (values <= high)).all(), f"{column.score} of {who}: {values}"


@each
def test_a_constant_map_scores_chance(name: str) -> None:
    metric, world = metric_and_world(name)
    if isinstance(metric, RerunMetric) and type(metric).__name__ in WORLDS:
        pytest.skip("does not judge the map as it is")
    flat = torch.full_like(world.batch.maps[:1], 0.5)
    scores = World(replace(world.batch, maps=flat), world.methods[:1]).scores(metric)
    chance = scores.reference.get("chance", {})
    for score in [score for score in shown(metric) if score in chance and score not in FIRST_OF_EQUALS]:
        torch.testing.assert_close(scores.columns[score][0], chance[score].double(), msg=score)
    assert not chance or {*shown(metric)} & {*chance}, "chance of no column that is shown"
    if not chance and type(metric).__name__ not in WORLDS:
        for score in shown(metric):
            whole = scores_of(name).columns[score].nanmean(1)
            room = 0.1 * (whole[BEST] - whole[WORST]).abs()
            found, noise = scores.columns[score].nanmean(), whole[NOISE].mean()
            assert noise.isnan() or (found - noise).abs() <= room, f"{score}: {found} and {whole}"


@each
def test_a_map_that_is_not_finite_is_nan_and_costs_no_other_its_score(name: str) -> None:
    metric, world = repeatable(name)
    whole = scores_of(name).columns
    maps = world.batch.maps.clone()
    maps[0, 1, 0, 0, 0] = torch.nan
    maps[-1, 2] = torch.inf
    broken = replace(world, batch=replace(world.batch, maps=maps)).scores(metric).columns
    for column in metric.summary():
        values, before = broken[column.score], whole[column.score]
        if torch.equal(before.nan_to_num(-1), before[:1].expand_as(before).nan_to_num(-1)):
            continue  # It is the same for all maps: a score of the network alone.
        assert values[0, 1].isnan(), column.score
        assert values[-1, 2].isnan(), column.score
        others = torch.ones_like(values, dtype=torch.bool)
        others[0, 1] = others[-1, 2] = False
        if isinstance(metric, ComparesMaps):
            others[:, 1:] = False
        torch.testing.assert_close(values[others], before[others], equal_nan=True, msg=column.score)
    first = metric.summary()[0].score
    assert metric.unjudged
    assert broken[first][0, 1].isnan() or any(broken[c.score][0, 1].isnan() for c in metric.summary())


@each
def test_a_clip_of_which_nothing_is_annotated_is_nan_or_needs_no_annotation(name: str) -> None:
    metric, world = repeatable(name)
    whole = scores_of(name).columns
    bare = [*world.batch.truth]
    bare[1] = replace(bare[1], boxes=((),) * len(bare[1].boxes), segment=None)
    found = replace(world, batch=replace(world.batch, truth=bare)).scores(metric)
    for score in shown(metric):
        values, before = found.columns[score], whole[score]
        torch.testing.assert_close(values[:, [0, 2]], before[:, [0, 2]], equal_nan=True)
        same = torch.allclose(values[:, 1], before[:, 1], equal_nan=True)
        assert same or values[:, 1].isnan().all(), f"{score} of a clip that nothing is known of: {values[:, 1]}"
        for reference in found.reference.values():
            assert same or score not in reference or reference[score][1].isnan()


@each
def test_no_clip_and_no_map_feels_its_neighbours_or_its_place(name: str) -> None:
    metric, world = repeatable(name)
    whole = scores_of(name)
    M, N = world.batch.maps.shape[:2]
    order, places = [N - 1 - n for n in range(N)], [M - 1 - m for m in range(M)]
    turned = world.of(places, order).scores(metric)
    compares = isinstance(metric, ComparesMaps)  # then the other maps count, but neither their order nor other clips
    columns = {name: values for name, values in whole.columns.items() if not compares or name in shown(metric)}
    for column, values in columns.items():
        expected = values[places][:, order]
        torch.testing.assert_close(turned.columns[column], expected, rtol=1e-9, atol=1e-12, equal_nan=True, msg=column)
    for n in range(N):
        least = 0 if compares else M - 1
        alone = world.of(range(least, M), [n]).scores(metric).columns
        for column, values in columns.items():
            expected = values[least:, n : n + 1]
            torch.testing.assert_close(alone[column], expected, rtol=1e-9, atol=1e-12, equal_nan=True, msg=column)


@each
def test_the_same_input_has_the_same_scores_and_is_left_as_it_was(name: str) -> None:
    metric, world = repeatable(name)
    batch = world.batch
    maps, frames = batch.maps.clone(), batch.query.frames.clone()
    state = {key: value.clone() for key, value in batch.network.module.state_dict().items()}
    first, random = scores_of(name).columns, torch.random.get_rng_state()
    torch.manual_seed(1)
    second = world.scores(metric).columns
    for column, values in first.items():
        torch.testing.assert_close(second[column], values, rtol=0, atol=0, equal_nan=True, msg=column)
    torch.random.set_rng_state(random)
    assert torch.equal(batch.maps, maps)
    assert torch.equal(batch.query.frames, frames)
    assert all(torch.equal(value, state[key]) for key, value in batch.network.module.state_dict().items())
    assert not batch.network.module.training


@each
def test_a_metric_that_needs_no_network_is_given_none(name: str) -> None:
    metric, world = metric_and_world(name)
    blind = replace(world, batch=replace(world.batch, model=None))
    if isinstance(metric, MapMetric) and not metric.needs_network:
        for column, values in blind.scores(metric).columns.items():
            assert torch.equal(values.nan_to_num(-1), scores_of(name).columns[column].nan_to_num(-1))
    else:
        with pytest.raises(ValueError, match="was given none"):
            blind.scores(metric)


@each
def test_nothing_leaves_the_device(name: str, request: pytest.FixtureRequest) -> None:
    metric, world = repeatable(name)
    request.getfixturevalue("no_host_copies")
    world.scores(metric)


def letters(right: bool) -> tuple[VideoModel, Query, list[Truth]]:
    """A network of ten classes that gives every clip's label the largest, or the smallest, logit."""
    view = replace(toys.conv_net().view, frames=1, size=[1, 16])
    classes = tuple(f"class {k}" for k in range(10))
    network = VideoModel(Letters(), view, classes)
    frames = torch.zeros(4, 3, 1, 1, 16, dtype=torch.float64)
    frames[..., :10] = torch.linspace(0, 1, 10)
    labels = [3, 0, 9, 5]
    for n, label in enumerate(labels):
        frames[n, ..., label] = 9.0 if right else -9.0

    def resampled(label: int, part: str, draw: int) -> Pixels:
        pixels = np.zeros((1, 1, 16, 3), np.uint8)
        pixels[0, 0, (label + 1 + draw) % 10 if part == "evidence" else label] = 200
        return pixels

    truth = [
        Truth(f"clip {n}", classes[k], f"video {n}", ((),), None, resampled=functools.partial(resampled, k))
        for n, k in enumerate(labels)
    ]
    return network, Query(frames, torch.tensor(labels), tuple(range(4))), truth


def network_metric(name: str) -> NetworkMetric:
    metric = metric_of(name)
    if not isinstance(metric, NetworkMetric):
        pytest.skip("judges maps or methods")
    return metric


@each
def test_a_network_that_is_right_scores_best_and_one_that_is_wrong_worst(name: str) -> None:
    metric = network_metric(name)
    right, wrong = (metric.score_network(*letters(right)) for right in (True, False))
    for column in metric.summary():
        best, worst = right.columns[column.score], wrong.columns[column.score]
        assert best.shape == worst.shape == (1, 4)
        assert ((best > worst) if column.better == "higher" else (best < worst)).all(), column.title
        for values in (best, worst):
            low, high = column.bounds or (-math.inf, math.inf)
            assert ((values >= low) & (values <= high)).all()


@each
def test_a_label_that_the_network_does_not_know_is_nan_and_clips_do_not_feel_each_other(name: str) -> None:
    metric = network_metric(name)
    model, query, truth = letters(True)
    whole = metric.score_network(model, query, truth).columns
    target = query.target.clone()
    target[2] = -1
    odd = [*truth[:2], replace(truth[2], label="unicorn"), truth[3]]
    found = metric.score_network(model, replace(query, target=target), odd).columns
    for score in shown(metric):
        assert found[score][0].isnan().tolist() == [False, False, True, False], score
        assert torch.equal(found[score][0, [0, 1, 3]], whole[score][0, [0, 1, 3]])
        alone = metric.score_network(model, Query(query.frames[3:], query.target[3:], (3,)), truth[3:]).columns
        assert torch.equal(alone[score][0], whole[score][0, 3:])
