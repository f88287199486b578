"""A network built by hand that uses the planted evidence only is certified; one that cheats is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vidattr.datasets.planted import Difficulty, Family, Planted
from vidattr.errors import ConfigError
from vidattr.metrics.certificate import CertificateMetric
from vidattr.metrics.certified_truth import CertifiedTruth
from vidattr.metrics.shared.certificates import CertificateRule, certified
from vidattr.models.network.network import VideoModel
from vidattr.protocols import MapBatch
from vidattr.types import Query, Truth
from vidattr.video.decode import read
from vidattr.video.preprocessing import Preprocessing

FAMILIES = pytest.mark.parametrize("family", list(Family))
LEVELS = pytest.mark.parametrize("level", list(Difficulty))
SIZE, FRAMES, CLIPS, DRAWS = 32, 8, 4, 3
VIEW = Preprocessing(frames=FRAMES, size=[SIZE, SIZE])
RULE = CertificateRule(draws=DRAWS)


class Reader(nn.Module):
    """Compares a region of a clip with that of known clips, and returns the class of the most similar one.

    Args:
        known: Known clips (K, C, T, H, W).
        region: (K, T, H, W) bool, the voxels of each that are compared.
        labels: The class of each.
    """

    def __init__(self, known: Tensor, region: Tensor, labels: Tensor) -> None:
        super().__init__()
        self.known, self.region, self.labels = known, region, labels

    def forward(self, frames: Tensor) -> Tensor:
        logits = torch.zeros(len(frames), 4)
        for n, clip in enumerate(frames):
            gap = ((clip - self.known).abs().amax(1) * self.region).sum((1, 2, 3)) / self.region.sum((1, 2, 3))
            logits[n, self.labels[gap.argmin()]] = 1
        return logits


class Corner(nn.Module):
    """Its class is the brightness of one voxel in a corner."""

    def forward(self, frames: Tensor) -> Tensor:
        grey = frames[:, :, 0, 0, 0].mean(1)
        return nn.functional.one_hot((grey * 1e3).long() % 4, 4).float()


class Average(nn.Module):
    """Its class is the mean brightness of the whole clip."""

    def forward(self, frames: Tensor) -> Tensor:
        return nn.functional.one_hot((frames.mean((1, 2, 3, 4)) * 1e3).long() % 4, 4).float()


def planted(family: Family, level: Difficulty) -> Planted:
    return Planted(family, level, clips=CLIPS, size=SIZE, frames=FRAMES)


def network(module: nn.Module, dataset: Planted) -> VideoModel:
    return VideoModel(module, VIEW, dataset.class_names(), max_batch=64)


def reader(dataset: Planted, *, of_evidence: bool) -> VideoModel:
    """A network that knows what the dataset can put into the evidence of its clips, or into the rest of them."""
    known, region, labels = [], [], []
    for number in range(CLIPS):
        own = dataset.scene(number).voxels(SIZE, FRAMES)
        for draw in (None, *range(DRAWS if of_evidence else 0)):
            part = None if draw is None else "evidence"
            scene = dataset.scene(number, part, draw or 0)  # type: ignore[arg-type]
            known.append(scene.draw(SIZE, FRAMES))
            region.append(scene.voxels(SIZE, FRAMES) if of_evidence else ~own)
            labels.append((number + (0 if draw is None else draw + 1)) % 4)
    frames = VIEW.normalise(torch.from_numpy(np.stack(known)))
    return network(Reader(frames, torch.from_numpy(np.stack(region)), torch.tensor(labels)), dataset)


@FAMILIES
@LEVELS
def test_a_network_that_sees_the_evidence_only_is_certified(family: Family, level: Difficulty) -> None:
    dataset = planted(family, level)
    found = certified(reader(dataset, of_evidence=True), dataset.index().clips, RULE)
    assert [(one.right, one.lost, one.kept, one.certified) for one in found] == [(True, 1, 1, True)] * CLIPS


@FAMILIES
@LEVELS
def test_a_network_that_knows_the_rest_of_each_clip_is_right_but_not_certified(
    family: Family, level: Difficulty
) -> None:
    dataset = planted(family, level)
    found = certified(reader(dataset, of_evidence=False), dataset.index().clips, RULE)
    assert [(one.right, one.lost, one.certified) for one in found] == [(True, 0, False)] * CLIPS


@FAMILIES
@pytest.mark.parametrize("cheat", [Corner, Average])
def test_a_network_that_reads_no_evidence_is_not_certified(family: Family, cheat: type[nn.Module]) -> None:
    dataset = planted(family, Difficulty.easy)
    found = certified(network(cheat(), dataset), dataset.index().clips, RULE)
    assert not any(one.certified for one in found)


def test_the_metric_says_the_same_and_wrong_clips_score_zero() -> None:
    dataset = planted(Family.object, Difficulty.easy)
    clips = list(dataset.index().clips)
    model = reader(dataset, of_evidence=True)
    samples = [read(clip, VIEW) for clip in clips]
    truth = [
        Truth(c.id, c.label, c.video, s.boxes, s.segment, s.evidence, s.resampled)
        for c, s in zip(clips, samples, strict=True)
    ]
    frames = VIEW.normalise(torch.from_numpy(np.stack([sample.pixels for sample in samples])))
    metric = CertificateMetric(draws=DRAWS)
    found = metric.score_network(model, Query(frames, torch.arange(4), tuple(range(4))), truth).columns
    assert all(values.tolist() == [[1, 1, 1, 1]] for values in found.values())
    wrong = metric.score_network(model, Query(frames, torch.tensor([1, 1, -1, 3]), tuple(range(4))), truth).columns
    for values in wrong.values():
        assert values.nan_to_num(-1).tolist() == [[0, 1, -1, 1]]


def test_clips_that_cannot_be_resampled_or_have_another_label_are_named() -> None:
    dataset = planted(Family.flash, Difficulty.easy)
    clip = dataset.clip(0)
    model = network(Corner(), dataset)
    with pytest.raises(ConfigError, match="cannot be resampled"):
        certified(model, [replace(clip, resampled=None)])
    with pytest.raises(ConfigError, match="unicorn is no class of the network"):
        certified(model, [replace(clip, label="unicorn")])


@pytest.mark.parametrize(("draws", "share"), [(0, 0.8), (6, 0.0), (6, 1.1)])
def test_a_rule_without_draws_or_with_an_impossible_share_is_refused(draws: int, share: float) -> None:
    with pytest.raises(ConfigError, match="draws="):
        CertificateMetric(draws, share)


def test_maps_are_judged_on_certified_clips_only() -> None:
    """The truth scores 1 where the network uses it; a clip is NaN where not, or explained for another class."""
    dataset = planted(Family.object, Difficulty.easy)
    clips = list(dataset.index().clips)
    samples = [read(clip, VIEW) for clip in clips]
    truth = [
        Truth(c.id, c.label, c.video, s.boxes, s.segment, s.evidence, s.resampled)
        for c, s in zip(clips, samples, strict=True)
    ]
    frames = VIEW.normalise(torch.from_numpy(np.stack([sample.pixels for sample in samples])))
    maps = torch.from_numpy(np.stack([one.evidence for one in truth if one.evidence is not None]))[None].float()
    metric = CertifiedTruth(draws=DRAWS)
    for target, of_evidence, expected in (
        ([0, 1, 2, 3], True, [1, 1, 1, 1]),
        ([0, 1, 3, 3], True, [1, 1, 0, 1]),  # the third clip is explained for a class that it does not show
        ([0, 1, 2, 3], False, [0, 0, 0, 0]),
    ):
        query = Query(frames, torch.tensor(target), tuple(range(4)))
        batch = MapBatch(maps, query, truth, reader(dataset, of_evidence=of_evidence))
        found = metric.score_maps(batch)
        assert found.columns["certified"][0].tolist() == expected
        for name in ("mass", "rank", "auprc", "auprc_space", "auprc_time"):
            scores, chance = found.columns[name][0], found.reference["chance"][name]
            assert scores.nan_to_num(0).tolist() == pytest.approx(expected)
            assert scores.isnan().tolist() == chance.isnan().tolist() == [one == 0 for one in expected]
    bare = [replace(one, resampled=None) for one in truth]
    unknown = metric.score_maps(MapBatch(maps, replace(query, memo={}), bare, batch.model)).columns
    assert unknown["certified"].isnan().all()
    assert unknown["mass"].isnan().all()
