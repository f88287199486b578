"""Scores of a clip of which only some superpixels are kept: what all methods that remove superpixels compute."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vidattr.methods.occlusion.occlude import RemovalOptions, Replacement, fillings_of
from vidattr.methods.shared.scores import score_of
from vidattr.methods.shared.superpixels import SuperpixelOptions, Superpixels
from vidattr.models.network.network import VideoModel
from vidattr.models.speed.lagging import onto
from vidattr.profiling import stage
from vidattr.progress import tracked
from vidattr.types import Query


@dataclass(frozen=True)
class SuperpixelRemoval(RemovalOptions, SuperpixelOptions):
    """The options of superpixels and of their removal; the methods of this folder inherit these fields.

    The score of a set S of superpixels, v(S), is that of the clip in which all other superpixels are replaced by the
    fill; with `fill=conditional` it is the mean score over `samples` draws. v(all) is the score of the whole clip.

    Unlike REVEX, the network sees the exact mixture: no rounding to bytes, and no blur of the masks.

    Attributes:
        fill: As in `RemovalOptions`; a blur by default, as in REVEX, whose blur is wider and includes time.
    """

    fill: Replacement = Replacement.blur

    def __post_init__(self) -> None:
        RemovalOptions.__post_init__(self)
        SuperpixelOptions.__post_init__(self)


@torch.no_grad()
def coalition_scores(
    model: VideoModel, query: Query, parts: Superpixels, kept: Sequence[Tensor], options: RemovalOptions
) -> list[Tensor]:
    """Returns v(S) for several sets of superpixels of each clip, in chunks of `max_batch` over all clips.

    Only one chunk of masked clips is in memory. A mask is a look-up of each voxel's superpixel in a row of `kept`.

    Args:
        model: The network.
        query: N clips.
        parts: Their superpixels.
        kept: N matrices (S_n, K_n) bool on the device: which superpixels of the clip each set keeps.
        options: Fill and score.

    Returns:
        N vectors (S_n,) float64.
    """
    frames, labels = query.frames.detach(), parts.labels.flatten(1)
    sizes = [len(rows) for rows in kept]
    with stage("masks"):
        fills = fillings_of(options, model, query)
        table = torch.zeros(sum(sizes), parts.most, dtype=torch.bool, device=frames.device)
        for rows, target in zip(kept, torch.split(table, sizes), strict=True):
            target[:, : rows.shape[1]] = rows
        clips = onto(frames.device, torch.arange(len(frames)).repeat_interleave(torch.tensor(sizes)))
    draws = len(fills)
    found = torch.zeros(len(table), draws, dtype=torch.float64, device=frames.device)
    jobs = torch.arange(len(table) * draws, device=frames.device)
    count = math.ceil(len(jobs) / model.max_batch)
    owners = [n for n, size in enumerate(sizes) for _ in range(size * draws)]
    start = 0
    for job in tracked(torch.tensor_split(jobs, count), count, "masks", len(jobs)):  # even, as in `scores.chunks`
        row, draw = job // draws, job % draws
        clip = clips[row]
        first, last, start = owners[start], owners[start + len(job) - 1], start + len(job)
        with stage("masks"):
            # A chunk of one clip, as most are, needs no copies of its frames and labels.
            own = slice(first, first + 1) if first == last else clip
            fill = fills[0, own] if draws == 1 else fills[draw, clip]
            mask = table[row].gather(1, labels[own].expand(len(job), -1)).view(-1, 1, *frames.shape[2:])
            masked = torch.where(mask, frames[own], fill)
        found[row, draw] = score_of(model(masked), query.target[clip], options.score, model.output).double()
    return list(torch.split(found.mean(1), sizes))


def padded(rows: Sequence[Tensor], length: int) -> Tensor:
    """Returns (N, length): vectors of different lengths, each followed by zeros."""
    return torch.stack([torch.nn.functional.pad(row, (0, length - len(row))) for row in rows])
