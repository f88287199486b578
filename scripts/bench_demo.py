"""STEP's iterations by the formula of its released demo in plain form: one clip, one ratio, no shared work.

Every window of seeds is unfolded to the size of the mask, all voxels are sorted for the area, levels are read by an
index, and autograd differentiates all of it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv3d, interpolate, pad, unfold

from vidattr.methods.perturbation.extremal_perturbation import ExtremalPerturbation
from vidattr.methods.perturbation.losses import area_ones, core_kernel, core_ones
from vidattr.methods.perturbation.pyramid import PYRAMIDS
from vidattr.methods.perturbation.smooth_mask import SmoothMax, released_sigma
from vidattr.types import Query


def demo_mask(seeds: Tensor, smooth: SmoothMax, coldness: float) -> Tensor:
    """Returns the mask (T, Ĥ, Ŵ) of seeds (T, h, w): Σ α e^{βα} / Σ e^{βα} over the window of each pixel."""
    about = smooth.shape()
    (height, width), step, taps, margin = (about[name] for name in ("plane", "step", "taps", "margin"))
    rows, columns = (-(-length // step) for length in (height, width))
    after = [cells + taps - 1 - margin - n for cells, n in zip((rows, columns), seeds.shape[1:], strict=True)]
    padded = pad(seeds[:, None], (margin, after[1], margin, after[0]))
    windows = unfold(padded, taps).view(len(seeds), taps**2, rows, columns)
    planes = interpolate(windows, scale_factor=step)[..., :height, :width]
    weights = (smooth.weights.T.view(taps**2, step, step) / coldness).repeat(1, rows, columns)[:, :height, :width]
    values = planes * weights
    return (torch.softmax(coldness * values, 1) * values).sum(1)


def demo_iterations(network: nn.Module, method: ExtremalPerturbation, query: Query) -> list[Tensor]:
    """Returns the last mask (T, Ĥ, Ŵ) of each clip after `method.iterations`; the core loss counts after `core_start`.

    Args:
        network: As its author wrote it.
        method: STEP with one ratio.
        query: The clips.
    """
    return [_one(network, method, clip[None], int(y)) for clip, y in zip(query.frames, query.target, strict=True)]


def _one(network: nn.Module, method: ExtremalPerturbation, frames: Tensor, target: int) -> Tensor:
    T, H, W = frames.shape[2:]
    smooth = SmoothMax((H, W), method.seed_step, method.seed_sigma or released_sigma(H, W), method.coldness, frames)
    pyramid = PYRAMIDS[method.perturbation](frames)[:, 0]  # (L, C, T, H, W)
    (ratio,), plane = method.areas, (T, *smooth.plane)
    voxels = T * smooth.plane[0] * smooth.plane[1]
    wanted = torch.zeros(voxels)
    wanted[voxels - area_ones(ratio, voxels) :] = 1
    kernel = core_kernel(method.core_kernel, method.core_shape).to(frames)
    seeds = torch.ones(T, *smooth.grid, requires_grad=True)
    descent = torch.optim.SGD([seeds], method.lr, method.momentum, method.dampening)
    mask = torch.zeros(plane)
    for t in range(method.iterations):
        mask = demo_mask(seeds, smooth, method.coldness)
        height = smooth.crop(mask) * (len(pyramid) - 1)
        below = height.detach().floor().long()
        index = below.expand(1, *pyramid.shape[1:])
        low, high = (pyramid.gather(0, k)[0] for k in (index, (index + 1).clamp(max=len(pyramid) - 1)))
        seen = low + (height - below) * (high - low)
        loss = -method.reward_weight * network(seen[None]).log_softmax(1)[0, target]
        loss = loss + method.weight(t) * (mask.flatten().sort().values - wanted).square().mean()
        if t > method.core_start:
            cores = conv3d(mask[None, None], kernel[None, None] / kernel.sum(), stride=tuple(method.core_stride))
            ordered = cores.flatten().sort(descending=True).values
            full = core_ones(method.core_topk, ratio, method.core_kernel, plane, len(ordered))
            loss = loss + method.core_weight * ((ordered[:full] - 1).square().mean() + ordered[full:].square().mean())
        descent.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        descent.step()
        with torch.no_grad():
            seeds.clamp_(0, 1)
    return mask.detach()
