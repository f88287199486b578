"""Superpixels in space and time: contiguous labels, one computation per query, and boundaries that follow content."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.segmentation import slic
from torch import Tensor

import toys
from vidattr.errors import ConfigError
from vidattr.methods.occlusion.flow import Flow
from vidattr.methods.shared import superpixels as module
from vidattr.methods.shared.superpixels import SuperpixelOptions, Superpixels, superpixels
from vidattr.types import Query
from vidattr.video.preprocessing import Preprocessing

SIZE = (8, 40, 48)
VIEW = Preprocessing(frames=SIZE[0], size=list(SIZE[1:]), mean=[0.4, 0.45, 0.5], std=[0.2, 0.25, 0.3])


def smooth(*size: int, seed: int) -> Tensor:
    noise = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(seed))
    blurred = torch.nn.functional.avg_pool2d(noise, 7, 1, 3)[0].permute(1, 2, 0)
    return (blurred - blurred.amin()) / (blurred.amax() - blurred.amin())


def drifting(step: int) -> Tensor:
    """Returns a clip (T, H, W, 3) of a pattern that moves by (1, 2)·step pixels a frame."""
    T, H, W = SIZE
    whole = smooth(H + step * T, W + 2 * step * T, seed=3)
    frames = [whole[step * (T - t) :, 2 * step * (T - t) :][:H, :W] for t in range(T)]
    return torch.stack(frames).mul(255).to(torch.uint8)


def query(*clips: Tensor) -> Query:
    frames = VIEW.normalise(torch.stack(clips))
    return Query(frames, torch.zeros(len(clips), dtype=torch.int64), tuple(range(len(clips))))


def check(found: Superpixels, shape: tuple[int, ...]) -> None:
    assert found.labels.shape == shape
    assert found.labels.dtype == torch.int64
    for labels, count in zip(found.labels, found.counts, strict=True):
        assert labels.unique().tolist() == list(range(count))


@pytest.mark.parametrize("flow", [None, Flow.farneback, Flow.dis])
@pytest.mark.parametrize("size", [(8, 40, 48), (1, 9, 7), (5, 1, 12), (3, 16, 4)])
def test_labels_are_numbered_without_gaps_and_fixed(flow: Flow | None, size: tuple[int, int, int]) -> None:
    asked = toys.query(2, size=(3, *size))
    options = SuperpixelOptions(segments=20, flow=flow)
    found = superpixels(asked, VIEW, options)
    check(found, (2, *size))
    again = superpixels(toys.query(2, size=(3, *size)), VIEW, options)
    assert torch.equal(found.labels, again.labels)
    alone = superpixels(Query(asked.frames[1:], asked.target[1:], asked.seeds[1:]), VIEW, options)
    assert torch.equal(alone.labels[0], found.labels[1])
    assert alone.counts[0] == found.counts[1]


def test_without_flow_they_are_scikit_images() -> None:
    clip = drifting(1)
    options = SuperpixelOptions(segments=30, compactness=5.0, time_spacing=0.5)
    expected = slic(clip.numpy(), 30, 5.0, spacing=(0.5, 1, 1), start_label=0)
    found = superpixels(query(clip), VIEW, options)
    assert found.counts[0] == len(np.unique(expected))
    pairs = set(zip(found.labels[0].flatten().tolist(), expected.ravel().tolist(), strict=True))
    assert len(pairs) == found.counts[0]


def test_a_blank_clip_has_superpixels_too() -> None:
    check(superpixels(query(torch.zeros(*SIZE, 3, dtype=torch.uint8)), VIEW, SuperpixelOptions(segments=9)), (1, *SIZE))


def kept(labels: Tensor, step: int) -> float:
    """Returns the share of the pixels of the first frame whose content has the same label on the fifth."""
    last = 4
    moved = labels[last, step * last :, 2 * step * last :]
    return (labels[0, : moved.shape[0], : moved.shape[1]] == moved).double().mean().item()


@pytest.mark.parametrize("flow", [Flow.farneback, Flow.dis])
@pytest.mark.parametrize("step", [1, 2])
def test_with_flow_they_follow_what_moves(flow: Flow, step: int) -> None:
    asked = query(drifting(step))
    options = {"segments": 24, "time_spacing": 0.05}
    still = kept(superpixels(asked, VIEW, SuperpixelOptions(**options)).labels[0], step)  # type: ignore[arg-type]
    following = kept(superpixels(asked, VIEW, SuperpixelOptions(**options, flow=flow)).labels[0], step)  # type: ignore[arg-type]
    assert following > still + 0.1


def test_without_motion_flow_changes_nothing() -> None:
    clip = drifting(1)[:1].expand(SIZE[0], -1, -1, -1)
    found = [
        superpixels(query(clip), VIEW, SuperpixelOptions(segments=24, flow=flow)).labels
        for flow in (None, Flow.farneback, Flow.dis)
    ]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_they_are_computed_once_per_query_and_options(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    real = module._divided
    monkeypatch.setattr(module, "_divided", lambda *given: calls.append(given) or real(*given))
    asked = query(drifting(1))
    one = superpixels(asked, VIEW, SuperpixelOptions(segments=9))
    assert superpixels(asked, VIEW, SuperpixelOptions(segments=9)) is one
    superpixels(asked, VIEW, SuperpixelOptions(segments=12))
    assert len(calls) == 2


def test_means_and_painting() -> None:
    found = superpixels(query(drifting(1), drifting(2)), VIEW, SuperpixelOptions(segments=12))
    values = toys.seeded(2, *SIZE)
    means = found.means(values)
    for clip in range(2):
        for k in range(found.counts[clip]):
            torch.testing.assert_close(means[clip, k], values[clip][found.labels[clip] == k].mean())
    assert means.shape == (2, found.most)
    assert (means[0, found.counts[0] :] == 0).all()
    painted = found.paint(means)
    assert painted[1, 3, 4, 5] == means[1, found.labels[1, 3, 4, 5]]
    torch.testing.assert_close(painted.sum((1, 2, 3)), values.sum((1, 2, 3)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"segments": 0},
        {"compactness": 0.0},
        {"time_spacing": -1.0},
        {"time_spacing": float("nan")},
        {"flow_weights": "raft.pth"},
        {"flow": Flow.raft},
        {"flow": Flow.dis, "flow_weights": "raft.pth"},
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        SuperpixelOptions(**wrong)  # type: ignore[arg-type]
