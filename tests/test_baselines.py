"""The baselines that look at the frames and not at the network: edges, change and motion."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import toys
from conftest import ROOT, Command
from vidattr.evaluate.table import BASELINES
from vidattr.methods.baselines.flow_magnitude import FlowMagnitude
from vidattr.methods.baselines.frame_difference import FrameDifference
from vidattr.methods.baselines.neighbours import Neighbour
from vidattr.methods.baselines.sobel import Sobel
from vidattr.methods.occlusion import flow as flow_module
from vidattr.methods.occlusion.aosa import AOSA
from vidattr.methods.occlusion.flow import Flow
from vidattr.models.network.network import VideoModel
from vidattr.protocols import Method
from vidattr.run.compose import part
from vidattr.types import Query
from vidattr.video.decode import read
from vidattr.video.preprocessing import Channels, Preprocessing

FARNEBACK = (0.5, 3, 15, 3, 5, 1.2, 0)
OF_FRAMES = (Sobel(), FrameDifference(), FlowMagnitude())
VIEW = Preprocessing(frames=6, size=[40, 56], mean=[0.4, 0.45, 0.5], std=[0.2, 0.25, 0.3])


def asked(pixels: Tensor, view: Preprocessing = VIEW) -> tuple[VideoModel, Query]:
    """Returns a network without weights and the query of uint8 clips (N, T, H, W, 3)."""
    clips = len(pixels)
    return VideoModel(nn.Identity(), view, ()), Query(
        view.normalise(pixels), torch.zeros(clips, dtype=torch.int64), tuple(range(clips))
    )


def drawn() -> Tensor:
    """Returns two of the bundled drawn clips, whose discs move, as the network of `VIEW` takes them."""
    clips = part("dataset", "ucf101_24", {"root": str(ROOT / "test_data" / "ucf101_24")}).index().clips[:2]
    return torch.stack([torch.from_numpy(read(clip, VIEW).pixels) for clip in clips])


def gray(pixels: Tensor) -> np.ndarray:
    return np.stack([[cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in clip] for clip in pixels.numpy()])


def test_sobel_is_opencvs_on_every_frame() -> None:
    pixels = drawn()
    found = Sobel()(*asked(pixels)).map
    for n, clip in enumerate(gray(pixels)):
        for t, frame in enumerate(clip):
            x, y = (
                cv2.Sobel(frame, cv2.CV_64F, *order, ksize=3, borderType=cv2.BORDER_REPLICATE)
                for order in ((1, 0), (0, 1))
            )
            np.testing.assert_allclose(found[n, t].numpy(), np.sqrt(x**2 + y**2), rtol=1e-6)


def test_sobel_of_a_step_a_ramp_and_a_flat_frame() -> None:
    step = torch.zeros(1, 1, 5, 6, 3, dtype=torch.uint8)
    step[..., 3:, :] = 10
    assert torch.equal(Sobel()(*asked(step)).map[0, 0], torch.tensor([0.0, 0, 40, 40, 0, 0]).expand(5, 6))
    ramp = (7 * torch.arange(5)).view(1, 1, 5, 1, 1).expand(-1, -1, -1, 6, 3).to(torch.uint8)
    assert torch.equal(Sobel()(*asked(ramp)).map[0, 0, :, 2], torch.tensor([28.0, 56, 56, 56, 28]))
    assert not Sobel()(*asked(torch.full((1, 2, 4, 4, 3), 90, dtype=torch.uint8))).map.any()


def test_the_difference_of_each_frame_to_its_neighbours() -> None:
    pixels = drawn()
    levels = gray(pixels).astype(np.float64)
    T = len(levels[0])
    for neighbour in Neighbour:
        found = FrameDifference(neighbour)(*asked(pixels)).map
        for t in range(T):
            to = {Neighbour.previous: [t - 1], Neighbour.following: [t + 1], Neighbour.both: [t - 1, t + 1]}[neighbour]
            own = [n for n in to if 0 <= n < T] or [1 if t == 0 else T - 2]  # an end has one neighbour
            expected = np.mean([np.abs(levels[:, t] - levels[:, n]) for n in own], 0)
            np.testing.assert_array_equal(found[:, t].numpy(), expected)
    assert found.any()


def test_the_length_of_the_flow_of_each_frame() -> None:
    pixels = drawn()
    levels = gray(pixels)
    for neighbour, places in (
        (Neighbour.following, [[0], [1], [2], [3], [4], [4]]),
        (Neighbour.previous, [[0], [0], [1], [2], [3], [4]]),
        (Neighbour.both, [[0], [0, 1], [1, 2], [2, 3], [3, 4], [4]]),
    ):
        found = FlowMagnitude(neighbour=neighbour)(*asked(pixels)).map
        for n, clip in enumerate(levels):
            flows = [cv2.calcOpticalFlowFarneback(clip[t], clip[t + 1], None, *FARNEBACK) for t in range(5)]
            moved = [np.any(pixels[n, t].numpy() != pixels[n, t + 1].numpy()) for t in range(5)]
            length = [np.linalg.norm(flow.astype(np.float64), axis=2) * m for flow, m in zip(flows, moved, strict=True)]
            for t, own in enumerate(places):
                expected = np.mean([length[k] for k in own], 0)
                np.testing.assert_allclose(found[n, t].numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", [FrameDifference(), FlowMagnitude(), FlowMagnitude(Flow.dis)])
def test_only_what_moves_is_marked(method: Method) -> None:
    pixels = torch.full((1, 4, 40, 56, 3), 60, dtype=torch.uint8)
    texture = torch.randint(0, 255, (12, 12, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    for t in range(4):
        pixels[0, t, 14:26, 6 + 2 * t : 18 + 2 * t] = texture
    pixels[0, :, 2:8, 44:50] = 200  # a square that stays
    found = method(*asked(pixels)).map[0]
    assert found[:, 14:26, 8:20].mean() > 10 * found[:, :10, 42:].mean()
    still = pixels[:, :1].expand(-1, 4, -1, -1, -1)
    assert not method(*asked(still)).map.any()
    assert not method(*asked(pixels[:, :1])).map.any()  # one frame


@pytest.mark.parametrize("method", OF_FRAMES, ids=lambda method: type(method).__name__)
def test_the_preprocessing_changes_no_map(method: Method) -> None:
    pixels = drawn()
    expected = method(*asked(pixels)).map
    assert expected.any()
    for view in (
        replace(VIEW, mean=[0.0] * 3, std=[1.0] * 3),
        replace(VIEW, max_value=255.0, mean=[104.0, 117.0, 123.0], std=[1.0] * 3, channels=Channels.bgr),
    ):
        assert torch.equal(method(*asked(pixels, view)).map, expected)


def test_methods_and_baseline_share_one_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    made, flow = [], flow_module.optical_flow
    monkeypatch.setattr(flow_module, "optical_flow", lambda *args: made.append(1) or flow(*args))
    model, query = toys.conv_net(), toys.query()
    for method in (FlowMagnitude(), AOSA(), FlowMagnitude(neighbour=Neighbour.both)):
        method(model, query)
    assert made == [1]


SMALL = ("dataset.clips=3", "dataset.frames=16", "dataset.size=64", "--quiet")
PLAIN = (*SMALL, "render.grid=false", "render.gif=false", "render.mp4=false", "render.comparison=false")


@pytest.mark.parametrize("metric", [("t_pt",), ("deletion_insertion", "metric.steps=2")])
def test_a_table_has_the_same_baselines_whether_a_run_stored_them_or_not(
    vidattr: Command, tmp_path: Path, metric: tuple[str, ...]
) -> None:
    """t_pt needs no network: the baselines that are not stored are computed without one."""
    vidattr("run", "method=gradient", *PLAIN)
    command = ("evaluate", f"metric={metric[0]}", *metric[1:], "metric.noise_draws=0", *SMALL, "--json")
    alone = vidattr(*command, "method=gradient")
    assert alone.code == 0, alone.err
    vidattr("run", f"method={','.join(BASELINES)}", *PLAIN, f"paths.out={tmp_path / 'other'}")
    vidattr("run", "method=gradient", *PLAIN, f"paths.out={tmp_path / 'other'}")
    stored = vidattr(*command, "method=gradient," + ",".join(BASELINES), f"paths.out={tmp_path / 'other'}")
    assert stored.code == 0, stored.err
    tables = [
        {(e["row"], e["column"]): e["value"] for e in json.loads(out)[0]["entries"]} for out in (alone.out, stored.out)
    ]
    assert tables[0].keys() == tables[1].keys()
    assert {row for row, _ in tables[0]} >= {"gradient", *BASELINES}
    for entry, value in tables[0].items():
        assert value == pytest.approx(tables[1][entry], abs=1e-6), entry
