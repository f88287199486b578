"""Optical flow: what OpenCV and torchvision say, on clips of any size, once a query."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.models.optical_flow import raft_small

import toys
from other_device import far, watched
from vidattr.errors import ConfigError
from vidattr.methods.occlusion import flow as _flow
from vidattr.methods.occlusion.aosa import AOSA
from vidattr.methods.occlusion.flow import Flow, Gray, optical_flow, to_gray
from vidattr.methods.occlusion.tubes import TubeOptions, tubes
from vidattr.types import Query

on_host = pytest.mark.parametrize("flow", [Flow.farneback, Flow.dis])
without_weights = pytest.mark.parametrize("flow", [Flow.farneback, Flow.farneback_torch, Flow.dis])


def noise(*size: int, seed: int = 3) -> Tensor:
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def texture(height: int, width: int) -> NDArray[np.uint8]:
    """Returns smooth RGB noise: flow methods see nothing in white noise."""
    rough = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    smooth = cv2.GaussianBlur(rough, (0, 0), 2.5, borderType=cv2.BORDER_WRAP).astype(np.float64)
    return ((smooth - smooth.min()) / np.ptp(smooth) * 255).astype(np.uint8)


def sliding(frames: int, dx: int, dy: int, side: int = 48) -> Tensor:
    """Returns one clip (1, T, H, W, 3) of a texture that moves by (dx, dy) a frame."""
    wide = texture(side + 64, side + 64)
    corners = [(32 - dy * t, 32 - dx * t) for t in range(frames)]
    return torch.from_numpy(np.stack([wide[y : y + side, x : x + side] for y, x in corners]))[None]


def farneback(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.float32]:
    return cv2.calcOpticalFlowFarneback(before, after, None, 0.5, 3, 15, 3, 5, 1.2, 0)


def dis(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.float32]:
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(before, after, None)


@pytest.mark.parametrize(("gray", "code"), [(Gray.rgb, cv2.COLOR_RGB2GRAY), (Gray.bgr_bug, cv2.COLOR_BGR2GRAY)])
def test_gray_is_opencvs_to_the_level(gray: Gray, code: int) -> None:
    pixels = noise(2, 3, 40, 50, 3)
    expected = np.stack([[cv2.cvtColor(frame, code) for frame in clip] for clip in pixels.numpy()])
    assert np.array_equal(to_gray(pixels, gray).numpy(), expected)


@pytest.mark.parametrize(("flow", "direct"), [(Flow.farneback, farneback), (Flow.dis, dis)])
@pytest.mark.parametrize("gray", list(Gray))
def test_is_what_opencv_says_pair_by_pair(flow: Flow, direct: Callable[..., NDArray[np.float32]], gray: Gray) -> None:
    pixels = torch.cat([sliding(4, 2, -1), sliding(4, -1, 0)])
    found = optical_flow(pixels, flow, gray, None)
    assert found.shape == (2, 3, 2, 48, 48)
    assert found.dtype == torch.float32
    levels = to_gray(pixels, gray).numpy()
    for n in range(2):
        for t in range(3):
            assert np.array_equal(found[n, t].permute(1, 2, 0).numpy(), direct(levels[n, t], levels[n, t + 1]))


@without_weights
def test_points_where_the_texture_goes(flow: Flow) -> None:
    found = optical_flow(sliding(4, 2, -1), flow, Gray.rgb, None)[0, :, :, 12:-12, 12:-12]
    assert found[:, 0].median() == pytest.approx(2, abs=0.15)
    assert found[:, 1].median() == pytest.approx(-1, abs=0.15)


@without_weights
def test_nothing_moves_between_equal_frames(flow: Flow) -> None:
    still = noise(1, 1, 24, 24, 3).expand(1, 3, -1, -1, -1)
    assert torch.equal(optical_flow(still, flow, Gray.rgb, None), torch.zeros(1, 2, 2, 24, 24))
    # A cut between two still shots is one moving pair, and only that one.
    cut = torch.cat([still, noise(1, 1, 24, 24, 3, seed=4).expand_as(still)], 1)
    moving = optical_flow(cut, flow, Gray.rgb, None).flatten(2).abs().amax(2)[0] > 0
    assert moving.tolist() == [False, False, True, False, False]


def test_farneback_itself_moves_equal_frames() -> None:
    plane = noise(24, 24).numpy()
    assert np.abs(farneback(plane, plane)).max() > 0.01


@without_weights
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (5, 9), (16, 4), (31, 33)])
@pytest.mark.parametrize("frames", [1, 2, 3])
def test_any_size_and_length(flow: Flow, size: tuple[int, int], frames: int) -> None:
    for pixels in (noise(2, frames, *size, 3), torch.zeros(2, frames, *size, 3, dtype=torch.uint8)):
        found = optical_flow(pixels, flow, Gray.rgb, None)
        assert found.shape == (2, frames - 1, 2, *size)
        assert found.isfinite().all()


@on_host
def test_only_gray_bytes_leave_the_device(flow: Flow, no_host_copies: None) -> None:
    assert optical_flow(sliding(3, 1, 0), flow, Gray.rgb, None).shape == (1, 2, 2, 48, 48)


@pytest.mark.parametrize("size", [(12, 40), (33, 31), (70, 64), (130, 70)])
def test_farneback_on_the_device_is_opencvs(size: tuple[int, int]) -> None:
    wide = texture(size[0] + 8, size[1] + 8)
    corners = [(4, 4), (6, 3), (7, 0)]
    frames = [wide[y : y + size[0], x : x + size[1]] for y, x in corners]
    pixels = torch.from_numpy(np.stack([frames, frames[::-1]]))
    found, expected = (optical_flow(pixels, flow, Gray.rgb, None) for flow in (Flow.farneback_torch, Flow.farneback))
    assert expected.abs().max() > 0.5
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-3)


@pytest.mark.real
@pytest.mark.parametrize("clip", ["Biking/v_Biking_g01_c02", "Diving/v_Diving_g01_c01", "LongJump/v_LongJump_g01_c04"])
@pytest.mark.parametrize("side", [112, 224])
def test_farneback_on_the_device_is_opencvs_on_real_clips(real: Path, clip: str, side: int) -> None:
    (path,) = (real / "ucf101_24" / "UCF-101").glob(f"{clip}.*")
    video, frames = cv2.VideoCapture(str(path)), []
    for _ in range(4):
        frames.append(cv2.resize(video.read()[1], (side, side)))
    pixels = torch.from_numpy(np.stack(frames))[None]
    found, expected = (optical_flow(pixels, flow, Gray.rgb, None) for flow in (Flow.farneback_torch, Flow.farneback))
    assert (found - expected)[..., 8:-8, 8:-8].abs().max() < 1e-2
    assert (found - expected).abs().quantile(0.999) < 1e-3


@pytest.fixture(scope="module")
def raft_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("raft") / "raft_small.pth"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(raft_small().state_dict(), path)
    return path


def test_raft_is_what_torchvision_says(raft_file: Path) -> None:
    pixels = noise(1, 3, 128, 136, 3)
    network = raft_small().eval()
    network.load_state_dict(torch.load(raft_file, weights_only=True))
    before, after = (x.permute(0, 3, 1, 2).float() / 127.5 - 1 for x in (pixels[0, :-1], pixels[0, 1:]))
    with torch.no_grad():
        expected = network(before, after)[-1]
    torch.testing.assert_close(
        optical_flow(pixels, Flow.raft, Gray.rgb, str(raft_file))[0], expected, rtol=1e-4, atol=1e-4
    )


def test_raft_measures_in_pixels_of_the_clip(raft_file: Path) -> None:
    pixels = noise(1, 2, 32, 64, 3)
    wide = torch.nn.functional.interpolate(pixels[0].permute(0, 3, 1, 2).float(), (128, 128), mode="bilinear")
    at_128 = optical_flow(wide.round().byte().permute(0, 2, 3, 1)[None], Flow.raft, Gray.rgb, str(raft_file))[0]
    expected = torch.nn.functional.interpolate(at_128, (32, 64), mode="bilinear") * torch.tensor([0.5, 0.25]).view(
        2, 1, 1
    )
    found = optical_flow(pixels, Flow.raft, Gray.rgb, str(raft_file))[0]
    assert (found - expected).abs().max() < 0.05 * expected.abs().max()


def test_farneback_on_the_device_stays_there() -> None:
    with watched() as waits:
        assert optical_flow(far(sliding(3, 1, 0)), Flow.farneback_torch, Gray.rgb, None).device.type == "meta"
    assert waits == []


def test_raft_stays_on_the_device(raft_file: Path, no_host_copies: None) -> None:
    assert optical_flow(noise(1, 2, 16, 34, 3), Flow.raft, Gray.rgb, str(raft_file)).shape == (1, 1, 2, 16, 34)


def test_weights_and_raft_belong_together(tmp_path: Path, raft_file: Path) -> None:
    TubeOptions(flow=Flow.raft, flow_weights=str(raft_file))
    with pytest.raises(ConfigError, match=r"method.flow=raft with method.flow_weights=None"):
        TubeOptions(flow=Flow.raft)
    with pytest.raises(ConfigError, match=r"method.flow=dis with method.flow_weights="):
        TubeOptions(flow=Flow.dis, flow_weights=str(raft_file))
    with pytest.raises(ConfigError, match="no such file"):
        TubeOptions(flow=Flow.raft, flow_weights=str(tmp_path / "none.pth"))
    other = tmp_path / "other.pth"
    torch.save({"fc.weight": torch.zeros(2, 2)}, other)
    with pytest.raises(ConfigError, match="holds no RAFT"):
        optical_flow(noise(1, 2, 8, 8, 3), Flow.raft, Gray.rgb, str(other))


def test_flow_is_computed_once_a_query(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Flow] = []

    def counted(pixels: Tensor, flow: Flow, gray: Gray, weights: str | None) -> Tensor:
        calls.append(flow)
        return optical_flow(pixels, flow, gray, weights)

    monkeypatch.setattr(_flow, "optical_flow", counted)
    model, query = toys.conv_net(), toys.query()
    AOSA()(model, query)
    AOSA(partners=0, stride=2)(model, query)
    assert calls == [Flow.farneback]
    assert tubes(query, model.view, AOSA()) is tubes(query, model.view, TubeOptions())
    AOSA(flow=Flow.dis)(model, query)
    assert calls == [Flow.farneback, Flow.dis]
    AOSA()(model, Query(query.frames, query.target, query.seeds))
    assert len(calls) == 3
