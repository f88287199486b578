"""Integrated gradients, summed over regions of the clip, which are ranked by their mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import ClassVar

import torch
from torch import Tensor

from vidattr.errors import ConfigError
from vidattr.methods.gradients.integrated_gradients import Baseline, IntegratedGradients, Rule
from vidattr.methods.shared.gradients import Polarity, Reduce, to_map
from vidattr.methods.shared.scores import Score
from vidattr.methods.shared.superpixels import SuperpixelOptions, Superpixels, superpixels
from vidattr.models.network.network import VideoModel
from vidattr.models.speed.lagging import onto
from vidattr.progress import tracked
from vidattr.types import Explanation, Query


@dataclass(frozen=True)
class XRAI:
    """XRAI, "better attributions through regions" (Kapishnikov et al., ICCV 2019, algorithm 1), in space and time.

    a is the mean of two integrated gradients, from a black clip and from a white clip, and A = reduce_c a_c. The clip
    is divided into regions several times, from coarse to fine; the regions of different divisions overlap. Starting
    from S = ∅, the region r with the largest gain

        g(r) = mean of A over the voxels of r outside of S

    is added to S, and these voxels get the value g(r), until no region has `min_voxels` voxels outside of S.
    The voxels that are left get their mean of A, so that the map sums to Σ A. The order of the steps, the maximum over
    channels and the 50 pixels are those of the authors' code (PAIR's `saliency`); of equal gains the first region wins.

    Unlike the paper, which divides an image by Felzenszwalb's method at six scales and dilates the segments by 5
    pixels, the regions are superpixels in space and time (SLIC, `shared/superpixels.py`) in as many numbers as `scales`
    has, and are not dilated. Unlike the authors' code, which integrates over S points from end to end and takes the
    darkest and brightest value of the image as baselines, the integral has the midpoint rule, whose error falls with
    1/S², and the baselines are black and white.

    Attributes:
        steps: Points of each of the two integrals.
        scales: The numbers of superpixels that are aimed at, one division each.
        compactness: Weight of the distance in space and time against the distance in colour.
        time_spacing: How many pixels a distance of one frame counts; small values give long superpixels.
        min_voxels: The fewest new voxels that a region must add.
        score: s_y: the logit, the probability, its logarithm, or its log-odds.
        reduce: How the channels of a become one number: max (the authors' code), sum or mean.

    The explanation's extras: `attribution` (N, C, T, H, W), a itself; `completeness` (N, 3): Σ a, s_y(x) minus the mean
    of s_y(black) and s_y(white), and the first minus the second.

    Raises:
        ConfigError: A number out of range, or no scale.
    """

    version: ClassVar[int] = 1

    steps: int = 100
    scales: list[int] = field(default_factory=lambda: [50, 100, 200, 400, 800])
    compactness: float = 20.0
    time_spacing: float = 0.2
    min_voxels: int = 50
    score: Score = Score.logit
    reduce: Reduce = Reduce.max

    def __post_init__(self) -> None:
        if self.steps < 1 or self.min_voxels < 1:
            raise ConfigError(
                f"method.steps={self.steps} method.min_voxels={self.min_voxels}", expected="numbers of at least 1"
            )
        if not self.scales or not all(1 <= scale <= 10**6 for scale in self.scales):
            raise ConfigError(
                f"method.scales={list(self.scales)}", expected="one or more numbers of superpixels, each 1 to 10^6"
            )
        self._divisions()  # checks the other fields

    @property
    def passes(self) -> int:
        """The points of the two integrals, and two forward passes each for the completeness."""
        return 2 * (self.steps + 2)

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Explains N clips, each by 2 S forward and backward passes and four forward passes."""
        both = [
            IntegratedGradients(self.steps, Rule.midpoint, baseline, score=self.score)(model, query).extras
            for baseline in (Baseline.black, Baseline.white)
        ]
        attribution, completeness = (
            torch.stack([extras[name] for extras in both]).mean(0) for name in ("attribution", "completeness")
        )
        divisions = [superpixels(query, model.view, options) for options in self._divisions()]
        values = to_map(attribution, Polarity.signed, self.reduce)
        return Explanation(
            by_region(values, divisions, self.min_voxels), {"attribution": attribution, "completeness": completeness}
        )

    def _divisions(self) -> list[SuperpixelOptions]:
        return [SuperpixelOptions(scale, self.compactness, self.time_spacing) for scale in self.scales]


def by_region(values: Tensor, divisions: Sequence[Superpixels], min_voxels: int) -> Tensor:
    """Ranks regions by their mean value, as `XRAI` says.

    All clips are ranked at once. The voxels that lie in the same region of every division always stay together; the
    sums of a step run over these atoms instead of the voxels.

    Args:
        values: (N, T, H, W).
        divisions: Regions of the N clips; of equal gains the first division wins, and in it the first region.
        min_voxels: The fewest new voxels that a region must add.

    Returns:
        (N, T, H, W) float32: of each voxel the mean that its region had when it was added.
    """
    N, V = len(values), values[0].numel()
    atoms, members, R = _atoms(divisions)
    atom, member = onto(values.device, atoms), onto(values.device, members)
    A = member.shape[1]
    clip = member[0] // R
    flat = values.double().flatten()
    # Of each atom: the sum of its values, and its number of voxels.
    content = flat.new_zeros(A, 2).index_add(0, atom, torch.stack([flat, torch.ones_like(flat)], 1))
    outside = torch.ones(A, dtype=torch.bool, device=flat.device)
    found = flat.new_zeros(A)
    order = torch.arange(R, device=flat.device)
    first = torch.arange(N, device=flat.device) * R
    steps = min(R, V // min_voxels)  # each step adds a region, and at least so many voxels
    for _ in tracked(range(steps), steps, "regions"):
        new = (content * outside[:, None]).repeat(len(divisions), 1)
        total, count = flat.new_zeros(N * R, 2).index_add(0, member.flatten(), new).view(N, R, 2).unbind(2)
        gains = (total / count).where(count >= min_voxels, -torch.inf)
        best = gains.amax(1)
        region = order.where(gains == best[:, None], R).amin(1).where(best > -torch.inf, R)
        added = outside & (member == (first + region).where(region < R, -1)[clip]).any(0)
        found = best[clip].where(added, found)
        outside = outside & ~added
    rest, count = flat.new_zeros(N, 2).index_add(0, clip, content * outside[:, None]).unbind(1)
    return (rest / count)[clip].where(outside, found)[atom].view(values.shape).float()


def _atoms(divisions: Sequence[Superpixels]) -> tuple[Tensor, Tensor, int]:
    """Returns the atom of each voxel (N·V,), the regions (M, A) that an atom lies in, and R, all on the host.

    R is the number of regions that a clip can have in all divisions; region r of clip n has the number n R + r. The
    number of atoms depends on the labels: on a GPU, the host would wait for it once for each division.
    """
    sizes = [division.most for division in divisions]
    R, starts = sum(sizes), accumulate(sizes, initial=0)
    N = len(divisions[0].on_host)
    clip = torch.arange(N)[:, None]
    atom = clip.expand(N, divisions[0].on_host[0].numel()).flatten()
    regions, kinds = [], atom
    for division, size, start in zip(divisions, sizes, starts, strict=False):
        labels = division.on_host.flatten(1)
        regions.append((clip * R + start + labels).flatten())
        kinds, atom = torch.unique(atom * size + labels.flatten(), return_inverse=True)
    # All voxels of an atom write the same number.
    member = torch.stack([region.new_zeros(len(kinds)).scatter(0, atom, region) for region in regions])
    return atom, member, R
