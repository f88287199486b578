"""Planted clips: what decides the class is known per voxel, can be drawn again alone, and nothing else decides it."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import toys
from vidattr.datasets.planted import Difficulty, Family, Planted
from vidattr.datasets.planting import photographs
from vidattr.datasets.planting.families import LEVELS, ORDERS, PAIRS
from vidattr.datasets.planting.scene import PlantedScene
from vidattr.datasets.planting.sprites import PlantedSprite, Shape
from vidattr.datasets.synthetic import Split
from vidattr.errors import ConfigError
from vidattr.metrics.localisation import Localisation
from vidattr.metrics.shared.frame_ranking import average_precision
from vidattr.metrics.shared.ranked_truth import voxel_precision
from vidattr.metrics.truth_auprc import TruthAuprc
from vidattr.protocols import MapBatch
from vidattr.types import Truth
from vidattr.video.decode import read
from vidattr.video.preprocessing import Preprocessing

each = pytest.mark.parametrize("family", list(Family))
both_levels = pytest.mark.parametrize("level", list(Difficulty))
CLASSES = 4


def touched(scene: PlantedScene, sprites: Sequence[PlantedSprite], size: int, frames: int, least: float) -> NDArray:
    found = np.zeros((frames, size, size), bool)
    for sprite in sprites:
        sprite.cover(found, least)
    return found


@each
@both_levels
def test_new_evidence_changes_the_evidence_only(family: Family, level: Difficulty) -> None:
    dataset = Planted(family, level)
    for number in range(3):
        clip, scene = dataset.clip(number), dataset.scene(number)
        assert clip.resampled is not None
        before = clip.source()  # type: ignore[operator]
        for draw in range(2 * CLASSES - 2):
            other = dataset.scene(number, "evidence", draw)
            changed = (clip.resampled("evidence", draw) != before).any(3)
            assert changed.any()
            free = [touched(one, one.evidence, 48, 16, 1e-6) for one in (scene, other)]
            may = ~touched(scene, scene.others, 48, 16, 1.0) if scene.behind else free[0] | free[1]
            assert not (changed & ~may).any()


@each
@both_levels
def test_a_new_rest_keeps_the_evidence(family: Family, level: Difficulty) -> None:
    dataset = Planted(family, level)
    for number in range(3):
        clip, scene = dataset.clip(number), dataset.scene(number)
        assert clip.resampled is not None
        before = clip.source().astype(int)  # type: ignore[operator]
        for draw in range(3):
            after = clip.resampled("rest", draw).astype(int)
            if scene.behind:
                kept = scene.voxels(48, 16) & dataset.scene(number, "rest", draw).voxels(48, 16)
            else:
                kept = touched(scene, scene.evidence, 48, 16, 1.0)
            gap = abs(after - before).max(3)
            assert gap[kept].max() <= 2 * scene.noise, "only the noise is new"
            assert (gap[~kept] > 2 * scene.noise).any()


@each
@both_levels
def test_boxes_and_segment_hold_the_evidence(family: Family, level: Difficulty) -> None:
    dataset = Planted(family, level)
    for number in range(6):
        clip, scene = dataset.clip(number), dataset.scene(number)
        assert clip.evidence is not None
        voxels = clip.evidence()
        assert 0 < voxels.sum() < voxels.size
        if family is Family.texture:
            assert not clip.boxes
            assert clip.segment is None
            continue
        boxed, around = np.zeros_like(voxels), touched(scene, scene.evidence, 48, 16, 1e-6)
        for frame, boxes in clip.boxes.items():
            for x0, y0, x1, y1 in boxes:
                inside = (frame - 1, slice(int(y0), int(y1)), slice(int(x0), int(x1)))
                boxed[inside] = True
                edges = around[inside]
                assert all(edge.any() for edge in (edges[0], edges[-1], edges[:, 0], edges[:, -1])), "it is tight"
        assert not (voxels & ~boxed).any()
        assert clip.segment == (min(clip.boxes), max(clip.boxes))
        shown = np.flatnonzero(voxels.any((1, 2))) + 1
        assert (shown[0], shown[-1]) == clip.segment


def nuisances(scene: PlantedScene) -> list[float]:
    """What must not tell the class: place, time, size, speed and colour of all that is drawn."""
    found = [float(len(scene.others))]
    for group in (scene.evidence, scene.others):
        rows = [
            [
                one.radius,
                *one.course.start,
                np.hypot(*one.course.velocity),
                *one.shown,
                *getattr(one.look, "colour", (getattr(one.look, "gain", 0), 0, 0)),
                np.cos(4 * getattr(one.look, "angle", 0)),
            ]
            for one in group
        ]
        found += list(np.mean(rows, 0)) + list(rows[0]) if rows else []
    return [*found, *scene.background(8, 4)[0, :, :, :].mean((0, 1))] if not scene.behind else found


@each
@both_levels
def test_no_place_time_size_speed_or_colour_tells_the_class(family: Family, level: Difficulty) -> None:
    dataset, count = Planted(family, level, split=Split.train), 240
    rows = np.asarray([nuisances(dataset.scene(number)) for number in range(2 * count)])
    rows = np.nan_to_num((rows - rows.mean(0)) / np.maximum(rows.std(0), 1e-9))
    rows = np.column_stack([rows, rows**2, np.ones(len(rows))])
    labels = np.eye(CLASSES)[np.arange(2 * count) % CLASSES]
    weights = np.linalg.lstsq(rows[:count], labels[:count], rcond=None)[0]
    right = (rows[count:] @ weights).argmax(1) == labels[count:].argmax(1)
    assert right.mean() < 0.25 + 3.5 * (0.25 * 0.75 / count) ** 0.5


@each
def test_another_class_has_the_same_place_time_size_speed_and_colour(family: Family) -> None:
    dataset = Planted(family)
    for number in range(4):
        own = nuisances(dataset.scene(number))
        for draw in range(CLASSES - 1):
            assert np.allclose(nuisances(dataset.scene(number, "evidence", draw)), own)
        assert (
            not np.allclose(nuisances(dataset.scene(number, "evidence", CLASSES - 1)), own) or family is Family.texture
        )


@each
def test_classes_are_balanced_and_the_first_clips_stay_the_same(family: Family) -> None:
    few, many = Planted(family, clips=8), Planted(family, clips=12)
    for one, other in zip(few.index().clips, many.index().clips[:8], strict=True):
        assert (one.id, one.label, one.boxes, one.segment) == (other.id, other.label, other.boxes, other.segment)
        assert np.array_equal(one.source(), other.source())  # type: ignore[operator]
    labels = [clip.label for clip in many.index().clips]
    assert {label: labels.count(label) for label in many.class_names()} == dict.fromkeys(many.class_names(), 3)
    drawn = {
        Planted(family, level, split, seed).clip(0).source().tobytes()  # type: ignore[operator]
        for level, split, seed in itertools.product(Difficulty, Split, (0, 1))
    }
    assert len(drawn) == len(Difficulty) * len(Split) * 2


@each
@pytest.mark.parametrize(("size", "frames"), [(32, 8), (112, 16), (48, 32)])
def test_other_sizes_and_lengths(family: Family, size: int, frames: int) -> None:
    dataset = Planted(family, size=size, frames=frames)
    clip = dataset.clip(1)
    assert clip.source().shape == (frames, size, size, 3)  # type: ignore[operator]
    small = read(clip, Preprocessing(frames=8, size=[24, 32]))
    assert small.evidence is not None
    assert small.evidence.shape == (8, 24, 32)
    assert clip.evidence is not None
    if family is not Family.flash:  # a flash may lie between the frames that are taken
        assert small.evidence.mean() == pytest.approx(clip.evidence().mean(), rel=0.35)


def test_a_flash_is_as_long_as_its_level_says() -> None:
    for level in Difficulty:
        for number in range(8):
            first, last = Planted(Family.flash, level).clip(number).segment or (0, 0)
            assert last - first + 1 == LEVELS[level.value].flash


def test_no_single_event_or_object_tells_the_class() -> None:
    for classes in (ORDERS, PAIRS):
        for shape in {one for pair in classes.values() for one in pair}:
            assert sum(shape in pair for pair in classes.values()) == CLASSES // 2
    for first, second in ORDERS.values():
        assert (second, first) in ORDERS.values()
    for number in range(40):
        scene = Planted(Family.order, Difficulty.hard).scene(number)
        (a, b), (c, d) = (event.shown for event in scene.evidence)
        assert 0 <= a < b <= c < d <= 16
        assert b - a == d - c == LEVELS["hard"].event


def test_no_frame_of_a_moving_disc_tells_its_direction() -> None:
    """In each frame, the place of the disc has the same distribution for all directions, and its look is one."""
    dataset, time = Planted(Family.motion, split=Split.train), (np.arange(16) + 0.5) / 16
    places: dict[str, list[NDArray]] = {name: [] for name in dataset.class_names()}
    for number in range(1200):
        (disc,) = dataset.scene(number).evidence
        assert isinstance(disc.look, Shape)
        assert disc.look.outline == "disc"
        places[dataset.label(number)].append(disc.course.centre(time, disc.radius))
    for turns in (1, 2):  # a uniform place on a circle has no Fourier component, of any frame
        for found in places.values():
            assert abs(np.exp(2j * np.pi * turns * np.asarray(found)).mean(0)).max() < 4 / 300**0.5


def test_the_camera_moves_about_as_fast_as_the_object() -> None:
    """Which of the two is faster is a coin toss, so the amount of optical flow does not tell where the object is."""
    dataset, faster = Planted(Family.camera), []
    for number in range(40):
        scene = dataset.scene(number)
        frames = scene.background(48, 16)
        shifts = list(itertools.product(range(-10, 11), repeat=2))
        gaps = [abs(np.roll(frames[0], shift, (0, 1)) - frames[3]).sum() for shift in shifts]
        faster.append(np.hypot(*scene.evidence[0].course.velocity) * 9 > np.hypot(*shifts[int(np.argmin(gaps))]))
        assert min(gaps) == 0, "the whole background moves"
    assert 0.25 < np.mean(faster) < 0.75


# The truth as a judge of maps


def batch_of(family: Family, level: Difficulty) -> tuple[MapBatch, Tensor]:
    """The truth as a map, its complement, and 60 random maps, of four clips."""
    dataset, view = Planted(family, level), Preprocessing(frames=16, size=[16, 16])
    clips = [dataset.clip(number) for number in range(4)]
    samples = [read(clip, view) for clip in clips]
    truth = [Truth(c.id, c.label, c.video, s.boxes, s.segment, s.evidence) for c, s in zip(clips, samples, strict=True)]
    volume = torch.from_numpy(np.stack([sample.evidence for sample in samples if sample.evidence is not None]))
    noise = torch.rand(60, *volume.shape, generator=torch.Generator().manual_seed(1))
    maps = torch.cat([volume[None].float(), 1 - volume[None].float(), noise])
    return MapBatch(maps, toys.query(), truth), volume


@each
@both_levels
def test_the_truth_scores_one_its_complement_least_and_noise_its_chance(family: Family, level: Difficulty) -> None:
    batch, volume = batch_of(family, level)
    found = TruthAuprc().score_maps(batch)
    views = {
        "auprc": volume.flatten(1),
        "auprc_space": volume.any(1).flatten(1),
        "auprc_time": volume.flatten(2).any(2),
    }
    for name, right in views.items():
        scores, chance = found.columns[name], found.reference["chance"][name]
        for n, places in enumerate(right):
            V, K = len(places), int(places.sum())
            if K == V:
                assert scores[:, n].isnan().all()
                continue
            j = torch.arange(1, K + 1).double()
            a = (K - 1) / (V - 1)
            harmonic = (1 / torch.arange(1, V + 1).double()).sum()
            assert chance[n].item() == pytest.approx(float((1 - a) * harmonic / V + a))
            assert scores[0, n] == pytest.approx(1)
            if name == "auprc":
                assert scores[1, n].item() == pytest.approx(float((j / (V - K + j)).mean()))
            assert scores[1, n] < chance[n]
            noise = scores[2:, n]
            assert abs(noise.mean() - chance[n]) < 5 * noise.std() / len(noise) ** 0.5
    found = Localisation().score_maps(batch)
    share = volume.double().mean((1, 2, 3))
    assert found.columns["mass"][1].tolist() == [0] * 4
    # Two sets of the same K of V voxels share 2K − V or more: 0, unless most of the clip is evidence.
    assert torch.allclose(found.columns["rank"][1], (2 - 1 / share).clamp(min=0))
    for name in ("mass", "rank", "iou"):
        assert found.columns[name][0].tolist() == [1] * 4
        if name != "iou":
            noise, chance = found.columns[name][2:], found.reference["chance"][name]
            error = (share * (1 - share) / volume.sum((1, 2, 3)) / len(noise)).sqrt()  # of K draws with replacement
            assert ((noise.mean(0) - chance).abs() < 5 * error).all()


@pytest.mark.parametrize("levels", [2, 5, 1000])
@pytest.mark.parametrize("count", [1, 2, 37])
def test_the_area_is_that_of_the_slow_sum_and_of_no_order(levels: int, count: int) -> None:
    generator = torch.Generator().manual_seed(levels + count)
    values = torch.randint(levels, (6, count), generator=generator).float()
    right = torch.rand(6, count, generator=generator) < 0.4
    right[:, 0] = True
    found = voxel_precision(values, right)
    assert torch.allclose(found, average_precision(values, right), rtol=1e-12)
    order = torch.randperm(count, generator=generator)
    assert torch.allclose(voxel_precision(values[:, order], right[:, order]), found, rtol=1e-12)
    assert voxel_precision(values, torch.zeros_like(right)).isnan().all()


# Photographs


def test_a_missing_or_another_photograph_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    photographs.load.cache_clear()
    found = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    for spec, message in ((None, "not installed"), (found, "No such file")):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, spec=spec: spec)
        with pytest.raises(ConfigError, match=message) as caught:
            Planted(Family.photographs).index()
        assert "scikit-image" in (caught.value.remedy or "")
        Planted(Family.object).index()
    (tmp_path / "data" / "astronaut.png").write_bytes(b"another one")
    with pytest.raises(ConfigError, match="is not the one that clips are drawn with"):
        Planted(Family.photographs).index()


@pytest.mark.parametrize("field", [{"size": 31}, {"frames": 7}, {"clips": 0}, {"seed": -1}, {"size": 1025}])
def test_an_impossible_dataset_is_refused(field: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(field))}="):
        Planted(**field)  # type: ignore[arg-type]
