"""Similarity of two maps of the same clip: rank correlation, SSIM, correlation of oriented gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum, auto

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

_FLAT = 1e-6  # relative; float32 rounding of a constant map is no contrast
_WINDOW = 7  # pixels, of SSIM
_CELL, _BLOCK, _BINS = 16, 3, 9  # pixels a cell, cells a block, orientations, of HOG
_CELLS = 4  # along the shorter side, at least
_HOG_EPSILON, _HOG_CLIP = 1e-5, 0.2


class Similarity(StrEnum):
    """Spearman of the raw maps, Spearman of their absolute values, SSIM, Pearson of the HOG features."""

    spearman = auto()
    spearman_abs = auto()
    ssim = auto()
    hog = auto()


def similarity(kind: Similarity, a: Tensor, b: Tensor) -> Tensor:
    """Returns the similarity of two maps of each clip; 1: equal, up to changes to which `kind` is invariant.

    NaN for a map without contrast or one that is not finite. (A network with the same output for every clip gives
    zero maps, and two zero maps would otherwise count as equal.)

    Args:
        kind: The measure of similarity.
        a: Maps (N, T, H, W).
        b: Maps of the same clips.

    Returns:
        (N,) float64.
    """
    a, b = (m.double().abs() if kind is Similarity.spearman_abs else m.double() for m in (a, b))
    return _SIMILARITIES[kind](a, b).where(~(flat(a) | flat(b)), torch.nan)


def flat(maps: Tensor) -> Tensor:
    """Returns (N,) which maps (N, T, H, W) have no contrast beyond rounding, or are not finite."""
    values = maps.flatten(1)
    low, high = values.amin(1), values.amax(1)
    # A comparison with NaN is false, so the test is for contrast, not for its absence.
    return ~((high - low > _FLAT * torch.maximum(low.abs(), high.abs())) & values.isfinite().all(1))


def ranks(values: Tensor) -> Tensor:
    """Returns the ranks (R, V), from 0, of the numbers in each row; equal ones share the mean of their ranks."""
    ordered, order = values.sort(1)
    steps = torch.zeros_like(order)
    steps[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    group = steps.cumsum(1)
    places = torch.arange(values.shape[1], dtype=torch.float64, device=values.device).expand(values.shape)
    # Whole numbers below 2^53: the sums are exact in any order of summation.
    sums, counts = (torch.zeros_like(places).scatter_add(1, group, x) for x in (places, torch.ones_like(places)))
    return torch.empty_like(sums).scatter(1, order, sums.gather(1, group) / counts.gather(1, group))


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """Returns the correlation (R,) of the rows of a and b (R, V); NaN where one of them is constant."""
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return (a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt()


def spearman(a: Tensor, b: Tensor) -> Tensor:
    """Returns the rank correlation (N,) over all voxels of maps (N, T, H, W), with average ranks for ties."""
    return pearson(ranks(a.flatten(1)), ranks(b.flatten(1)))


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Returns the structural similarity (N,) of maps (N, T, H, W): the mean over frames and pixels.

    Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", TIP 2004, eq. 13, with
    uniform 7 × 7 windows that lie wholly in the frame (smaller frames: as large as an odd one may be), K1 = 0.01, K2 =
    0.03 and unbiased variances. Each map is first scaled to 0…1 over its whole clip, so that frames keep their weights.
    """
    clips = len(a)
    window = min(_WINDOW, *(side - 1 + side % 2 for side in a.shape[2:]))
    a, b = (_unit(m).flatten(0, 1).unsqueeze(1) for m in (a, b))

    def mean(x: Tensor) -> Tensor:
        return avg_pool2d(x, window, stride=1)

    unbiased = window**2 / max(window**2 - 1, 1)
    mean_a, mean_b = mean(a), mean(b)
    variances = unbiased * (mean(a * a) - mean_a**2 + mean(b * b) - mean_b**2)
    covariance = unbiased * (mean(a * b) - mean_a * mean_b)
    c1, c2 = 0.01**2, 0.03**2
    pixels = (2 * mean_a * mean_b + c1) * (2 * covariance + c2) / ((mean_a**2 + mean_b**2 + c1) * (variances + c2))
    return pixels.view(clips, -1).mean(1)


def hog_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Returns the correlation (N,) of the HOG features of all frames of maps (N, T, H, W).

    Each map is scaled to 0…1 over its clip.

    Cells are 16 × 16 pixels, as in Adebayo et al., and smaller in frames that would have fewer than four of them on a
    side.
    """
    cell = max(1, min(_CELL, min(a.shape[2:]) // _CELLS))
    return pearson(*(hog(_unit(m).flatten(0, 1), cell).reshape(len(m), -1) for m in (a, b)))


def hog(frames: Tensor, cell: int) -> Tensor:
    """Returns the histograms of oriented gradients (F, features) of frames (F, H, W).

    Dalal and Triggs, "Histograms of Oriented Gradients for Human Detection", CVPR 2005: central differences, nine
    unsigned orientations, blocks of 3 × 3 cells normalised by L2, clipped at 0.2 and normalised again. Unlike the
    paper, a gradient counts for its own orientation and cell only.
    """
    rows, columns = torch.zeros_like(frames), torch.zeros_like(frames)
    rows[:, 1:-1] = frames[:, 2:] - frames[:, :-2]
    columns[..., 1:-1] = frames[..., 2:] - frames[..., :-2]
    degrees = torch.rad2deg(torch.atan2(rows, columns)) % 180
    orientation = degrees.div(180 / _BINS).long() % _BINS  # 180° is 0°
    strength = torch.hypot(rows, columns)
    cells = torch.stack([avg_pool2d(strength * (orientation == k), cell) for k in range(_BINS)], 3)
    block = [min(_BLOCK, side) for side in cells.shape[1:3]]
    blocks = cells.unfold(1, block[0], 1).unfold(2, block[1], 1).permute(0, 1, 2, 4, 5, 3).flatten(3)
    blocks = _normed(_normed(blocks).clamp(max=_HOG_CLIP))
    return blocks.flatten(1)


def _normed(blocks: Tensor) -> Tensor:
    return blocks / (blocks.square().sum(3, keepdim=True) + _HOG_EPSILON**2).sqrt()


def _unit(maps: Tensor) -> Tensor:
    """Scales each map (N, T, H, W) to 0…1 over its clip; a flat one becomes NaN."""
    low, high = (bound(maps, (1, 2, 3), keepdim=True) for bound in (torch.amin, torch.amax))
    return (maps - low) / (high - low)


_SIMILARITIES: Mapping[Similarity, Callable[[Tensor, Tensor], Tensor]] = {
    Similarity.spearman: spearman,
    Similarity.spearman_abs: spearman,
    Similarity.ssim: ssim,
    Similarity.hog: hog_correlation,
}
