"""Optical flow of clips: Farnebäck by OpenCV or on the device, DIS by OpenCV, RAFT by torchvision."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum, auto
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

from vidattr.errors import ConfigError
from vidattr.methods.occlusion.farneback import farneback
from vidattr.models.speed.lagging import onto
from vidattr.models.weights import checkpoint as _checkpoint
from vidattr.models.weights.filling import fill, untrained
from vidattr.profiling import stage
from vidattr.types import Query
from vidattr.video.preprocessing import Preprocessing

Plane = NDArray[np.uint8]
Field = NDArray[np.float32]

# The values of OpenCV's tutorial, as in the released code of AOSA; they are not the defaults of OpenCV's class.
_FARNEBACK: dict[str, Any] = {
    "pyr_scale": 0.5,
    "levels": 3,
    "winsize": 15,
    "iterations": 3,
    "poly_n": 5,
    "poly_sigma": 1.2,
    "flags": 0,
}
_DIS_SIDE = 32  # pixels: DIS needs frames of at least one patch
_RAFT_SIDE = 128  # pixels: the coarsest of RAFT's four correlation levels must have two cells
_RAFT_PAIRS = 4  # at a time: a pair of 224 × 224 needs 120 MB, half of it for correlations


class Gray(StrEnum):
    """Weights of red, green and blue in a gray level.

    `rgb`: 0.299, 0.587, 0.114. `bgr_bug`: red and blue swapped, which the released code of AOSA does by mistake.
    """

    rgb = auto()
    bgr_bug = auto()


class Flow(StrEnum):
    """Which optical flow: Farnebäck (SCIA 2003), DIS (Kroeger et al., ECCV 2016), RAFT (Teed and Deng, ECCV 2020).

    `farneback` and `dis` are OpenCV's, on the host. `farneback_torch` is the former on the network's device
    (`farneback`): nothing leaves a GPU, and the motion differs by less than 0.01 pixels away from the borders.
    """

    farneback = auto()
    farneback_torch = auto()
    dis = auto()
    raft = auto()

    def check(self, weights: str | None) -> None:
        """Raises ConfigError unless there is a file of weights for RAFT, and none for the others."""
        if (self is Flow.raft) != (weights is not None):
            raise ConfigError(
                f"method.flow={self} with method.flow_weights={weights}",
                expected="a file of torchvision's raft_small or raft_large for flow=raft, and none for the others",
                remedy="set both method.flow=raft and method.flow_weights=FILE, or neither",
            )
        if weights is not None and not Path(weights).is_file():
            raise ConfigError(
                f"no such file: method.flow_weights={weights}",
                expected="weights of torchvision's raft_small or raft_large",
            )


def query_flow(query: Query, view: Preprocessing, flow: Flow, gray: Gray, weights: str | None) -> Tensor:
    """Returns `optical_flow` of the clips of a query, (N, T-1, 2, H, W), computed once per query and set of options.

    The methods that run on one query share it, also those of different families.
    """
    return query.cached(
        ("flow", flow, weights, gray),
        lambda: optical_flow(view.denormalise(query.frames.detach()), flow, gray, weights),
    )


def optical_flow(pixels: Tensor, flow: Flow, gray: Gray, weights: str | None) -> Tensor:
    """Returns the motion from each frame to the next.

    The motion between two equal frames is set to 0; Farnebäck alone would give up to a pixel along their borders.

    Args:
        pixels: (N, T, H, W, 3) uint8 RGB, the bytes that were decoded. Unlike here, the released code truncates values
            that it maps back from the network's input, and may lose a grey level.
        flow: Which method.
        gray: How Farnebäck and DIS convert to grey.
        weights: The file of RAFT's weights.

    Returns:
        (N, T-1, 2, H, W) float32 as (dx, dy) in pixels, on the device of `pixels`.

    Raises:
        ConfigError: The weights are not those of RAFT.
    """
    N, T, H, W, _ = pixels.shape
    if T == 1:
        return pixels.new_zeros(N, 0, 2, H, W, dtype=torch.float32)
    with stage("flow"):
        found = _FLOWS[flow](pixels, gray, weights)
        moved = (pixels[:, 1:] != pixels[:, :-1]).flatten(2).any(2)
        return found.where(moved[:, :, None, None, None], 0.0)


def to_gray(pixels: Tensor, gray: Gray) -> Tensor:
    """Returns the gray levels (N, T, H, W) uint8 of RGB (N, T, H, W, 3) uint8, in OpenCV's fixed-point arithmetic."""
    weights = onto(pixels.device, torch.tensor([9798, 19235, 3735], dtype=torch.int32))
    ordered = pixels if gray is Gray.rgb else pixels.flip(-1)
    return ((ordered.int() * weights).sum(-1, dtype=torch.int32) + (1 << 14) >> 15).to(torch.uint8)


def _on_host(between: Callable[[Plane, Plane], Field], pixels: Tensor, gray: Gray, _weights: str | None) -> Tensor:
    """Computes the flow of all pairs of all clips in parallel on the host's cores; OpenCV releases Python's lock.

    OpenCV runs on the host only. The grey clips, a third of the bytes, are copied there once, and the flow is copied
    back once: this is the only place where a method leaves its device.
    """
    levels = to_gray(pixels, gray)
    host = torch.empty(levels.shape, dtype=torch.uint8, pin_memory=levels.is_cuda).copy_(levels)
    clips = np.from_dlpack(host)
    N, T, H, W = clips.shape
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        fields = list(pool.map(between, clips[:, :-1].reshape(-1, H, W), clips[:, 1:].reshape(-1, H, W)))
    return onto(pixels.device, torch.from_numpy(np.stack(fields))).view(N, T - 1, H, W, 2).permute(0, 1, 4, 2, 3)


def _farneback(frame: Plane, following: Plane) -> Field:
    import cv2

    return cv2.calcOpticalFlowFarneback(frame, following, None, **_FARNEBACK)  # type: ignore[call-overload,no-any-return]


def _dis(frame: Plane, following: Plane) -> Field:
    import cv2

    H, W = frame.shape
    below, right = max(0, _DIS_SIDE - H), max(0, _DIS_SIDE - W)
    wide = [cv2.copyMakeBorder(plane, 0, below, 0, right, cv2.BORDER_REPLICATE) for plane in (frame, following)]
    # One object per call: these objects keep buffers and are not thread-safe.
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*wide, None)[:H, :W]  # type: ignore[call-overload,no-any-return]


def _on_device(pixels: Tensor, gray: Gray, _weights: str | None) -> Tensor:
    levels = to_gray(pixels, gray)
    found = farneback(levels[:, :-1].flatten(0, 1), levels[:, 1:].flatten(0, 1))
    return found.view(len(levels), -1, *found.shape[1:])


@torch.no_grad()
def _raft(pixels: Tensor, _gray: Gray, weights: str | None) -> Tensor:
    N, T, H, W, _ = pixels.shape
    network = _raft_network(str(weights), pixels.device)
    size = [max(_RAFT_SIDE, 8 * round(length / 8)) for length in (H, W)]
    clips = pixels.permute(0, 1, 4, 2, 3)
    ends = (torch.split(frames.flatten(0, 1), _RAFT_PAIRS) for frames in (clips[:, :-1], clips[:, 1:]))
    fields = []
    for pair in zip(*ends, strict=True):
        frame, following = (
            interpolate(x.float() / 127.5 - 1, size, mode="bilinear", align_corners=False) for x in pair
        )
        fields.append(interpolate(network(frame, following)[-1], (H, W), mode="bilinear", align_corners=False))
    scale = onto(pixels.device, torch.tensor([W / size[1], H / size[0]]))
    return torch.cat(fields).view(N, T - 1, 2, H, W) * scale.view(2, 1, 1)


@functools.lru_cache(maxsize=1)  # a run uses one file of weights in every batch
def _raft_network(weights: str, device: torch.device) -> nn.Module:
    from torchvision.models.optical_flow import raft_large, raft_small

    checkpoint = _checkpoint.read(Path(weights))
    stem = checkpoint.state.get("feature_encoder.convnormrelu.0.weight")
    if stem is None:
        raise ConfigError(
            f"method.flow_weights={weights} holds no RAFT", expected="weights of torchvision's raft_small or raft_large"
        )
    network: nn.Module = untrained(raft_small if len(stem) == 32 else raft_large)
    fill(network, checkpoint)
    return network.eval().requires_grad_(False).to(device)


_FLOWS: dict[Flow, Callable[[Tensor, Gray, str | None], Tensor]] = {
    Flow.farneback: functools.partial(_on_host, _farneback),
    Flow.farneback_torch: _on_device,
    Flow.dis: functools.partial(_on_host, _dis),
    Flow.raft: _raft,
}
