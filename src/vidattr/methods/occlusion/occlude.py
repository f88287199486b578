"""Occlusion: fill regions of a clip, ask the network how the score falls, and add the falls up where the regions were.

Regions are unions of tubes (`_tubes`), given as tables of rectangles: no mask outlives the chunk of clips that it is
for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import ClassVar, cast

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from vidattr.errors import ConfigError
from vidattr.methods.occlusion import conditional_fill
from vidattr.methods.occlusion.filling import occluded
from vidattr.methods.occlusion.reuse import Reuse, reuse
from vidattr.methods.occlusion.tubes import union_mask
from vidattr.methods.shared.scores import Score, chunked, score_drop, score_of
from vidattr.models.network.network import VideoModel
from vidattr.models.speed.lagging import onto
from vidattr.profiling import stage
from vidattr.types import Explanation, Query
from vidattr.video.blur import rise_blur
from vidattr.video.preprocessing import Preprocessing


class Replacement(StrEnum):
    """What replaces an occluded region.

    `zero`: 0 after normalisation, the mean colour of the network's training data; `black`; `mean`: the clip's own mean
    colour; `blur`: the frame under an 11×11 blur; `conditional`: draws given the neighbourhood (`conditional_fill`).
    """

    zero = auto()
    black = auto()
    mean = auto()
    blur = auto()
    conditional = auto()


class Aggregate(StrEnum):
    """How the scores f_i of N regions Ω_i are combined into one number S(q) per voxel; f_0 is the whole clip's score.

    - `drop`: (1/N) Σ_i (f_0 − f_i) 1[q ∈ Ω_i].
    - `drop_per_coverage`: Σ_i (f_0 − f_i) 1[q ∈ Ω_i] / c(q), c(q) being the number of regions that contain q; 0 where
      c = 0.
    - `eq2`: (1/N) Σ_i f_i 1[q ∉ Ω_i], the paper's. It is `drop` + f_0 (1 − c(q)/N) + a constant: a bonus for voxels in
      few regions. If no drop is negative, a voxel in no region is the most important of all.
    - `code`: (1/N) Σ_i (f_i − f_0) 1[q ∉ Ω_i] / (1 − |Ω_i|/V), V being the number of voxels, as released. Unlike the
      released code, which maps this to [0, 255] with 127.5 for no change, it stays in units of the score; the order of
      voxels is the same.
    """

    drop = auto()
    drop_per_coverage = auto()
    eq2 = auto()
    code = auto()


@dataclass(frozen=True)
class RemovalOptions:
    """What replaces a removed region, and the score that is compared. Methods that remove inherit these fields.

    Attributes:
        fill: What replaces a region.
        extent: Pixels around a region that belong to its neighbourhood for `fill=conditional`.
        samples: Draws for `fill=conditional`; f is the mean of their scores, unless the method says otherwise.
        score: f: the logit, the probability, its logarithm, or its log-odds.

    Raises:
        ConfigError: A number that is not positive.
    """

    forward_only: ClassVar[bool] = True
    answers_only: ClassVar[bool] = True

    fill: Replacement = Replacement.zero
    extent: int = 4
    samples: int = 8
    score: Score = Score.prob

    def __post_init__(self) -> None:
        if self.extent < 1 or self.samples < 1:
            raise ConfigError(f"method.extent={self.extent} method.samples={self.samples}", expected="1 or more")

    @property
    def fillings(self) -> int:
        """Number of fills of each region, with one pass through the network each."""
        return self.samples if self.fill is Replacement.conditional else 1


@dataclass(frozen=True)
class OcclusionOptions(RemovalOptions):
    """The options of an occlusion: fill, score and aggregation. Methods that occlude inherit these fields.

    Attributes:
        samples: As in `RemovalOptions`; with log-odds, f_i is the log-odds of the draws' mean probability.
        score: f: the logit, the probability (released code), its logarithm, or its log-odds: f_0 − f_i is then the
            weight of evidence of prediction difference analysis.
        aggregate: How the scores are combined into a map.

    The other options are those of `RemovalOptions`.
    """

    aggregate: Aggregate = Aggregate.drop


@dataclass(frozen=True)
class Unions:
    """The U distinct unions of tubes of N clips, including one empty union per clip, whose score is f_0.

    Attributes:
        clip: (U,) index of the clip.
        members: (U, G) the tubes of the clip; -1 for none.
        count: (U,) number of anchors with this union; 0 for the empty one.
        whole: (N,) index of the empty union of each clip.
        of: (N, A) index of the union of each anchor.
        filled: (U,) bool, on the host: which unions have a tube. The number of passes depends on it.
    """

    clip: Tensor
    members: Tensor
    count: Tensor
    whole: Tensor
    of: Tensor
    filled: Tensor


def distinct(groups: Tensor, device: torch.device) -> Unions:
    """Returns the distinct sets among the groups (N, A, G) of tubes, -1 where there is none, on the network's device.

    They are counted on the host: it waits once for groups that are on the device, and never for those made here (OSA).
    """
    groups = groups.to("cpu")
    N, A, G = groups.shape
    members = torch.cat([groups.new_full((N, 1, G), -1), groups.sort(dim=2).values], 1)
    clip = torch.arange(N).view(N, 1, 1).expand(N, A + 1, 1)
    rows, place = torch.unique(torch.cat([clip, members], 2).flatten(0, 1), dim=0, return_inverse=True)
    place = place.view(N, A + 1)
    asked = place[:, 1:].flatten()
    count = place.new_zeros(len(rows)).index_add_(0, asked, torch.ones_like(asked)).index_fill_(0, place[:, 0], 0)
    filled = (rows[:, 1:] >= 0).any(1)
    tensors = (onto(device, each) for each in (rows[:, 0], rows[:, 1:], count, place[:, 0], place[:, 1:]))
    clip, members, count, whole, of = tensors
    return Unions(clip, members, count, whole, of, filled)


@torch.no_grad()
def explain(
    model: VideoModel,
    query: Query,
    rectangles: Tensor,
    groups: Tensor,
    options: OcclusionOptions,
    box: tuple[int, int, int] | None = None,
) -> Explanation:
    """Occludes each distinct union of tubes once, in chunks of `max_batch` over all clips, and combines the scores.

    Args:
        model: The network.
        query: N clips.
        rectangles: (N, A, T, 4) integers as in `Tubes`.
        groups: (N, A, G) int64, which tubes are occluded together for each anchor; -1 where there is none.
        options: Fill, score and aggregation.
        box: Frames, rows and columns of a box that contains any union: the network's first steps then run on crops
            around it where that is less work (`reuse`). None: all passes run on whole clips.

    Returns:
        The map, and as extras `f0` (N,) float32, the score of the whole clip; `drops` (N, A) float32, f_0 − f_i;
        `coverage` (N, T, H, W) int32, the number of unions that contain each voxel.
    """
    unions = distinct(groups, query.frames.device)
    f0, drops = drops_of(model, query, rectangles, unions, options, box)
    with stage("assembly"):
        total, coverage = _assemble(query.frames, rectangles, unions, f0, drops, options.aggregate, model.max_batch)
    extras = {"f0": f0.float(), "drops": drops[unions.of].float(), "coverage": coverage.int()}
    return Explanation(total.float(), extras)


@torch.no_grad()
def drops_of(
    model: VideoModel,
    query: Query,
    rectangles: Tensor,
    unions: Unions,
    options: RemovalOptions,
    box: tuple[int, int, int] | None,
) -> tuple[Tensor, Tensor]:
    """Returns f_0 (N,) and f_0 − f (U,) of each union, float64; the arguments are those of `explain`."""
    frames = query.frames
    with stage("masks"):
        fills = fillings_of(options, model, query)
        # One row per union and draw; the whole clip, without a fill, runs once.
        jobs = onto(frames.device, (unions.filled[:, None] | (torch.arange(len(fills)) == 0)).nonzero())
    begun = None if box is None else reuse(model, frames, fills, box)
    f = torch.zeros(len(unions.clip), len(fills), dtype=torch.float64, device=frames.device)
    work, whole = _chunk(model, options, begun), (frames, fills) if begun is None else begun.tensors()
    name = ("occlusion", repr(options), box)
    for job, size in chunked(model, jobs, "masks"):
        union, draw = job.unbind(1)
        clip = unions.clip[union]
        with stage("masks"):
            members = _members(rectangles, unions, union)
        found = model.replayed(name, work, *whole, query.target[clip], clip, draw, members)
        f[union[:size], draw[:size]] = found[:size].double()
    f0 = f[unions.whole, 0]
    drops = score_drop(f0[unions.clip], f, options.score).index_fill(0, unions.whole, 0.0)
    return f0, drops


def _chunk(model: VideoModel, options: RemovalOptions, begun: Reuse | None) -> Callable[..., Tensor]:
    """Returns the function from whole clips, and P targets, clips, draws and unions, to P scores.

    The whole clips are the frames and fills, or the tensors of `begun`.
    """

    def on_clips(frames: Tensor, fills: Tensor, target: Tensor, clip: Tensor, draw: Tensor, members: Tensor) -> Tensor:
        with stage("masks"):
            changed = occluded(model, frames, fills, clip, draw, members)
        return score_of(model(changed), target, options.score, model.output)

    def on_crops(*tensors: Tensor) -> Tensor:
        *whole, target, clip, draw, members = tensors
        logits = cast(Reuse, begun).on(whole).logits(clip, draw, members)
        return score_of(logits, target, options.score, model.output)

    return on_clips if begun is None else on_crops


def _members(rectangles: Tensor, unions: Unions, union: Tensor) -> Tensor:
    """Returns the rectangles (P, G, T, 4) of P unions, with empty rectangles for members of -1."""
    members = unions.members[union]
    found = rectangles[unions.clip[union][:, None], members.clamp(min=0)]
    return found.where((members >= 0)[..., None, None], 0)


# From the drop, f_0, and the share of voxels that are kept.
WEIGHTS: dict[Aggregate, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    Aggregate.drop: lambda drop, f0, kept: drop,
    Aggregate.drop_per_coverage: lambda drop, f0, kept: drop,
    Aggregate.eq2: lambda drop, f0, kept: drop - f0,
    Aggregate.code: lambda drop, f0, kept: torch.where(kept > 0, drop / kept, 0.0),
}
# From Σ w_i 1_i, Σ w_i, c and N, with the weights w_i.
MEANS: dict[Aggregate, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    Aggregate.drop: lambda inside, everywhere, coverage, number: inside / number,
    Aggregate.drop_per_coverage: lambda inside, everywhere, coverage, number: inside / coverage.clamp(min=1),
    Aggregate.eq2: lambda inside, everywhere, coverage, number: (inside - everywhere) / number,
    Aggregate.code: lambda inside, everywhere, coverage, number: (inside - everywhere) / number,
}


def _assemble(
    frames: Tensor, rectangles: Tensor, unions: Unions, f0: Tensor, drops: Tensor, aggregate: Aggregate, chunk: int
) -> tuple[Tensor, Tensor]:
    """Returns the map and the coverage (N, T, H, W), float64; masks of unions are made again, one chunk at a time.

    Sums are over anchors, so that a union counts once per anchor; the number of regions is that of anchors with a tube.
    """
    N, _, T, H, W = frames.shape
    sums = torch.zeros(2 * N, T * H * W, dtype=torch.float64, device=frames.device)
    everywhere = torch.zeros(N, 1, dtype=torch.float64, device=frames.device)
    for union in torch.split(torch.arange(len(unions.clip), device=frames.device), chunk):
        inside = union_mask(_members(rectangles, unions, union), (H, W)).flatten(1).double()
        clip = unions.clip[union]
        weight = unions.count[union] * WEIGHTS[aggregate](drops[union], f0[clip], 1 - inside.mean(1))
        # (N, P): a matrix product sums the unions of each clip in an order that does not vary.
        own = one_hot(clip, N).mT.double()
        sums += torch.cat([own * weight, own * unions.count[union]]) @ inside
        everywhere += own @ weight[:, None]
    number = torch.zeros(N, 1, dtype=torch.float64, device=frames.device).index_add_(
        0, unions.clip, unions.count[:, None].double()
    )
    total = MEANS[aggregate](sums[:N], everywhere, sums[N:], number.clamp(min=1))
    return total.view(N, T, H, W), sums[N:].view(N, T, H, W)


def fillings_of(options: RemovalOptions, model: VideoModel, query: Query) -> Tensor:
    """Returns the fills (draws, N, C, T, H, W); one of the last four axes is 1 if the fill is constant along it."""
    if options.fill is Replacement.conditional:
        generators = [torch.Generator(query.frames.device).manual_seed(seed) for seed in query.seeds]
        return conditional_fill.draw(query.frames, options.extent, generators, options.samples, model.view)
    fill = REPLACEMENTS[options.fill](query.frames, model.view)
    return fill.expand(len(query.frames), *fill.shape[1:])[None]


# All fills but `conditional`, broadcastable to the frames (N, C, T, H, W).
REPLACEMENTS: dict[Replacement, Callable[[Tensor, Preprocessing], Tensor]] = {
    Replacement.zero: lambda frames, view: frames.new_zeros(1, 1, 1, 1, 1),
    Replacement.black: lambda frames, view: view.colour(frames, 0.0)[None],
    Replacement.mean: lambda frames, view: frames.mean((2, 3, 4), keepdim=True),
    Replacement.blur: lambda frames, view: rise_blur(frames),
}
