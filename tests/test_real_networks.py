"""The three networks with real training behind them, on real clips: right answers mean right preprocessing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.models.video import R2Plus1D_18_Weights

from vidattr.datasets.ucf101_24 import UCF24
from vidattr.models.c3d_light import UCF101C3DLight
from vidattr.models.lrcn import UCF50LRCN
from vidattr.models.network.linear_head import gap_linear_head
from vidattr.models.network.network import VideoModel
from vidattr.models.r2plus1d_light import UCF101R2Plus1DLight
from vidattr.types import Clip
from vidattr.video.decode import read

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def clips(real: Path) -> list[Clip]:
    found = list(UCF24(root=str(real / "ucf101_24")).index().clips)
    assert len(found) == 18
    return found


def frames_of(network: VideoModel, clip: Clip) -> Tensor:
    return network.view.normalise(torch.from_numpy(read(clip, network.view).pixels)[None])


@dataclass(frozen=True)
class Answer:
    rank: int  # of the folder's label, 0 = first
    probability: float  # of the folder's label


def answers(network: VideoModel, clips: list[Clip]) -> dict[str, Answer]:
    found = {}
    for clip in clips:
        probabilities = network.probabilities(frames_of(network, clip))[0]
        own = probabilities[network.classes.index(clip.label)]
        found[clip.id] = Answer(int((probabilities > own).sum()), float(own))
    return found


@pytest.fixture(scope="module")
def r2plus1d(real: Path) -> VideoModel:
    return UCF101R2Plus1DLight(weights=str(real / "weights" / "r2plus1d_light_ucf101.pth")).load()


@pytest.mark.slow
def test_the_light_r2plus1d_recognises_the_real_clips(r2plus1d: VideoModel, clips: list[Clip]) -> None:
    ranks = [answer.rank for answer in answers(r2plus1d, clips).values()]
    assert sum(rank < 1 for rank in ranks) >= 14
    assert sum(rank < 5 for rank in ranks) == 18


@pytest.mark.slow
def test_the_light_c3d_recognises_most_of_the_real_clips(real: Path, clips: list[Clip]) -> None:
    network = UCF101C3DLight(weights=str(real / "weights" / "c3d_light_ucf101.pth")).load()
    ranks = [answer.rank for answer in answers(network, clips).values()]
    assert sum(rank < 1 for rank in ranks) >= 10
    assert sum(rank < 5 for rank in ranks) >= 15


def test_the_cnn_lstm_is_sure_of_biking_and_diving(real: Path, clips: list[Clip]) -> None:
    network = UCF50LRCN(weights=str(real / "weights" / "lrcn_ucf50.npz")).load()
    found = answers(network, [clip for clip in clips if clip.label in network.classes])
    assert len(found) == 6
    assert min(answer.probability for answer in found.values()) >= 0.96


def test_the_real_r2plus1d_averages_its_last_features_linearly(r2plus1d: VideoModel, clips: list[Clip]) -> None:
    frames = frames_of(r2plus1d, clips[0])
    layer, weight, bias = gap_linear_head(r2plus1d, frames)
    assert layer == r2plus1d.layer == "conv3"
    logits, features = r2plus1d.activations(frames)
    assert features.shape == (1, 128, 1, 28, 28)
    assert bias is not None
    torch.testing.assert_close(features.mean((2, 3, 4)) @ weight.T + bias, logits, rtol=1e-4, atol=1e-4)


def test_torchvisions_kinetics_names_stand_in_the_official_order(real: Path) -> None:
    official = (real / "kinetics400" / "annotations" / "label_map_k400.txt").read_text("utf-8").splitlines()
    assert official == R2Plus1D_18_Weights.KINETICS400_V1.meta["categories"]
