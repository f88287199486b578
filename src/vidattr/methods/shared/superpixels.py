"""Superpixels in space and time: SLIC on the volume of a clip, also with the motion of the clip taken out first.

Achanta, R. et al., "SLIC superpixels compared to state-of-the-art superpixel methods", TPAMI 2012, as scikit-image
implements it in three dimensions.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample

from vidattr.config.fields import keyed_by_content
from vidattr.errors import ConfigError
from vidattr.methods.occlusion.flow import Flow, Gray, optical_flow
from vidattr.models.speed.lagging import on_host, onto
from vidattr.profiling import stage
from vidattr.types import Query
from vidattr.video.preprocessing import Preprocessing

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class SuperpixelOptions:
    """The options of superpixels. Methods that divide a clip into superpixels inherit these fields.

    SLIC is k-means in colour and place, within twice the distance of neighbouring centres, followed by a step that
    joins small pieces to their neighbours. The squared distance of a voxel to a centre is

        ΔL² + Δa² + Δb² + (compactness / S)² (Δx² + Δy² + (time_spacing Δt)²),

    with colours in CIELAB and S the distance of neighbouring centres in voxels (the largest over
    the axes). The centres start on a regular grid.

    With `flow`, the coordinates are compensated for motion: x and y of a voxel of frame t are the place on the first
    frame that backward flow, from frame to frame, carries it to. So a superpixel follows the content that it starts
    on. Content that was outside of the first frame belongs to the superpixels at the first frame's border.

    Attributes:
        segments: The number of superpixels that is aimed at; SLIC returns about as many, and no more than voxels.
        compactness: Weight of the distance in space and time against the distance in colour.
        time_spacing: How many pixels a distance of one frame counts; small values give long superpixels.
        flow: Which optical flow the superpixels follow; None: they do not follow the motion.
        flow_weights: The weights of `flow=raft`.

    The defaults are those of REVEX (Gaya-Morey et al., 2024): 200 segments, compactness 20, time spacing 0.2.

    Raises:
        ConfigError: A number out of range, or weights for a flow that takes none.
    """

    segments: int = 200
    compactness: float = 20.0
    time_spacing: float = 0.2
    flow: Flow | None = None
    flow_weights: str | None = keyed_by_content(None)

    def __post_init__(self) -> None:
        if not 1 <= self.segments <= 10**6:
            raise ConfigError(f"method.segments={self.segments}", expected="1 to 10^6 superpixels")
        for name in ("compactness", "time_spacing"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"method.{name}={getattr(self, name)}", expected="a positive number")
        if self.flow is not None:
            self.flow.check(self.flow_weights)
        elif self.flow_weights is not None:
            raise ConfigError(
                f"method.flow=null with method.flow_weights={self.flow_weights}",
                expected="weights for flow=raft only",
                remedy="set method.flow=raft, or leave method.flow_weights out",
            )


@dataclass(frozen=True)
class Superpixels:
    """The superpixels of N clips.

    Attributes:
        labels: (N, T, H, W) int64 on the device of the frames: the superpixel of each voxel, from 0 without gaps.
        counts: N, the number K_n of superpixels of each clip.
        on_host: The labels on the host.
    """

    labels: Tensor
    counts: tuple[int, ...]
    on_host: Tensor

    @property
    def most(self) -> int:
        """K, the largest number of superpixels of a clip: the length of the axis of superpixels in a batch."""
        return max(self.counts)

    def paint(self, values: Tensor) -> Tensor:
        """Returns (N, T, H, W): the value of each voxel's superpixel, of values (N, K)."""
        return torch.gather(values, 1, self.labels.flatten(1)).view(self.labels.shape)

    def means(self, values: Tensor) -> Tensor:
        """Returns (N, K) float64: the mean over each superpixel of values (N, T, H, W); 0 where a clip has fewer."""
        labels, flat = self.labels.flatten(1), values.flatten(1).double()
        empty = flat.new_zeros(len(labels), self.most)
        sums, sizes = empty.scatter_add(1, labels, flat), empty.scatter_add(1, labels, torch.ones_like(flat))
        return sums / sizes.clamp(min=1)


def superpixels(query: Query, view: Preprocessing, options: SuperpixelOptions) -> Superpixels:
    """Returns the superpixels of a query; those of the same options, and their flow, are computed once per query.

    Args:
        query: N clips.
        view: The network's preprocessing, by which the frames are mapped back to colours.
        options: May be a method that inherits the options.
    """
    name = ("superpixels", *(getattr(options, option.name) for option in fields(SuperpixelOptions)))
    return query.cached(name, lambda: _superpixels(query, view, options))


def _superpixels(query: Query, view: Preprocessing, options: SuperpixelOptions) -> Superpixels:
    frames, flow, weights = query.frames.detach(), options.flow, options.flow_weights
    if flow is None:
        with stage("masks"):
            # Divisions by other options, as in XRAI, are made of the same pixels.
            (pixels,) = query.cached("pixels on the host", lambda: on_host(view.denormalise(frames)))
            return _divided(pixels, None, options, frames.device)
    moving = view.denormalise(frames)
    forward = query.cached(("flow", flow, weights, Gray.rgb), partial(optical_flow, moving, flow, Gray.rgb, weights))
    backward = optical_flow(moving.flip(1), flow, Gray.rgb, weights).flip(1)
    with stage("masks"):
        pixels, source = on_host(_still(moving, forward), _sources(backward))
        return _divided(pixels, source, options, frames.device)


def _still(pixels: Tensor, flow: Tensor) -> Tensor:
    """Returns the clips (N, T, H, W, 3) uint8 with their motion taken out.

    Voxel (t, p) shows what the content of pixel p of the first frame looks like on frame t: frame t at the place
    φ_t(p), φ_0(p) = p, φ_{t+1}(p) = φ_t(p) + flow_t(φ_t(p)), bilinearly and clamped to the frame.
    """
    frames = pixels.permute(0, 1, 4, 2, 3).float()
    place = _grid(flow)
    found = [frames[:, 0]]
    for t in range(flow.shape[1]):
        place = place + _at(flow[:, t], place)
        found.append(_at(frames[:, t + 1], place))
    return torch.stack(found, 1).round().to(torch.uint8).permute(0, 1, 3, 4, 2)


def _sources(backward: Tensor) -> Tensor:
    """Returns where on the first frame the content of each voxel was, as indices y·W + x: (N, T, H, W) int32.

    u_0(q) = q, u_{t+1}(q) = u_t(q + backward_t(q)), clamped to the frame and rounded at the end.

    Args:
        backward: (N, T-1, 2, H, W), the motion from frame t+1 to frame t.
    """
    grid = place = _grid(backward)
    H, W = grid.shape[2:]
    found = [grid]
    for t in range(backward.shape[1]):
        place = _at(place, grid + backward[:, t])
        found.append(place)
    x, y = torch.stack(found, 1).round().to(torch.int32).unbind(2)
    return y.clamp(0, H - 1) * W + x.clamp(0, W - 1)


def _grid(flow: Tensor) -> Tensor:
    """Returns the coordinates (N, 2, H, W) of each pixel as (x, y)."""
    N, _, _, H, W = flow.shape
    y, x = torch.meshgrid(torch.arange(H, device=flow.device), torch.arange(W, device=flow.device), indexing="ij")
    return torch.stack([x, y]).float().expand(N, 2, H, W)


def _at(field: Tensor, place: Tensor) -> Tensor:
    """Returns a field (N, c, H, W) at places (N, 2, H, W) in pixels, bilinearly and clamped to the frame."""
    H, W = field.shape[2:]
    scale = onto(place.device, torch.tensor([W, H], dtype=place.dtype)).sub(1).clamp(min=1).view(2, 1, 1)
    return grid_sample(field, (place * (2 / scale) - 1).permute(0, 2, 3, 1), padding_mode="border", align_corners=True)


def _divided(pixels: Tensor, source: Tensor | None, options: SuperpixelOptions, device: torch.device) -> Superpixels:
    """Runs SLIC on all clips in parallel on the host's cores; scikit-image releases Python's lock while it iterates.

    scikit-image runs on the host only: colours (and `source`, with flow) are there, and the labels are copied to the
    device once; the memo of the query keeps them for all methods of a batch. The number of superpixels is known here,
    so that no later step has to ask the device for it.
    """
    clips = np.from_dlpack(pixels)
    sources = [None] * len(clips) if source is None else list(np.from_dlpack(source))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(lambda clip, places: _slic(clip, places, options), clips, sources))
    labels = torch.from_numpy(np.stack([one for one, _ in found]))
    return Superpixels(onto(device, labels), tuple(count for _, count in found), labels)


def _slic(
    clip: NDArray[np.generic], places: NDArray[np.generic] | None, options: SuperpixelOptions
) -> tuple[Labels, int]:
    """Returns the labels (T, H, W) of one clip (T, H, W, 3), numbered from 0 without gaps, and their number."""
    from skimage.segmentation import slic

    spacing = (options.time_spacing, 1.0, 1.0)
    labels = slic(clip, options.segments, options.compactness, spacing=spacing, start_label=0, channel_axis=-1)
    if places is not None:
        labels = np.take_along_axis(labels.reshape(len(clip), -1), places.reshape(len(clip), -1).astype(np.int64), 1)
    values, numbered = np.unique(labels, return_inverse=True)
    return numbered.reshape(clip.shape[:3]).astype(np.int64), len(values)
