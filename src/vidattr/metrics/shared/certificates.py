"""Certificates: whether a network uses the planted evidence of a clip, and nothing else, for the class.

A method can only be blamed for a map that misses the evidence if the network uses the evidence. Both parts of a clip
are drawn again by its generator, so every tested clip is one that the dataset could hold: no blur, no grey patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vidattr.errors import ConfigError
from vidattr.labels import plain
from vidattr.models.network.network import VideoModel
from vidattr.models.speed.lagging import onto
from vidattr.types import Clip, Part, Truth
from vidattr.video.decode import read


@dataclass(frozen=True)
class CertificateRule:
    """When a clip is certified: the network gets it right, `lost` ≥ share and `kept` ≥ share.

    Attributes:
        draws: Number of draws of each part. Three other classes need three draws.
        share: The smallest share of draws in which the class has to be lost, and to be kept.
    """

    draws: int = 6
    share: float = 0.8

    def __post_init__(self) -> None:
        if self.draws < 1 or not 0 < self.share <= 1:
            raise ConfigError(
                f"metric: draws={self.draws} share={self.share}",
                expected="1 draw or more, and a share above 0, up to 1",
            )

    def holds(self, right: Tensor, lost: Tensor, kept: Tensor) -> Tensor:
        """Returns which clips are certified."""
        return (right == 1) & (lost >= self.share) & (kept >= self.share)


@dataclass(frozen=True)
class Certificate:
    """The certificate of one clip and network.

    Attributes:
        clip: Id of the clip.
        right: Whether the clip's class is the most probable one.
        lost: Share of the draws of new evidence, of another class, in which the class is not the most probable one.
        kept: Share of the draws of everything else in which the class is still the most probable one.
        certified: Whether the network uses the evidence of this clip, and only it.
    """

    clip: str
    right: bool
    lost: float
    kept: float
    certified: bool


def certificates(
    model: VideoModel, frames: Tensor, target: Tensor, truth: Sequence[Truth], rule: CertificateRule
) -> dict[str, Tensor]:
    """Returns what the network makes of N clips and of their resampled counterparts.

    Where several classes are equally probable, none of them is the most probable one.

    Args:
        model: The network.
        frames: (N, C, T, H, W), the clips as the network takes them.
        target: (N,) the class of each clip; below 0: unknown.
        truth: N. A clip without `resampled` has no certificate.
        rule: When a clip is certified.

    Returns:
        `right`, `lost`, `kept` and `certified`, (N,) float64: NaN for a clip without a class or without `resampled`.
    """
    columns = {name: torch.full((len(truth),), torch.nan, device=target.device).double() for name in _NAMES}
    able = [n for n, one in enumerate(truth) if one.resampled is not None]
    if not able:
        return columns
    rows, chosen = onto(target.device, able), [truth[n] for n in able]
    own = target[rows].clamp(min=0)

    def share(part: Part) -> Tensor:
        hits = []
        for draw in range(rule.draws):
            pixels = np.stack([one.resampled(part, draw) for one in chosen if one.resampled is not None])
            hits.append(_first(model, model.view.normalise(onto(frames.device, torch.from_numpy(pixels))), own))
        return torch.stack(hits).double().mean(0)

    right = _first(model, frames[rows], own).double()
    lost, kept = 1 - share("evidence"), share("rest")
    found = zip(_NAMES, (right, lost, kept, rule.holds(right, lost, kept).double()), strict=True)
    return {name: columns[name].index_copy(0, rows, value).where(target >= 0, torch.nan) for name, value in found}


_NAMES = ("right", "lost", "kept", "certified")


def _first(model: VideoModel, frames: Tensor, target: Tensor) -> Tensor:
    """Returns whether the target is the most probable class of each clip, (N,) bool."""
    shares = model.probabilities(frames)
    own = shares.gather(1, target[:, None])
    return (shares >= own).sum(1) == 1


def certified(
    model: VideoModel, clips: Sequence[Clip], rule: CertificateRule | None = None, batch: int = 16
) -> list[Certificate]:
    """Returns the certificate of each clip of a dataset that can resample its clips, such as `dataset=planted`.

    Args:
        model: The network; its classes have the names of the clips' labels.
        clips: Of the dataset.
        rule: When a clip is certified; None: the defaults.
        batch: Clips that are read at once.

    Raises:
        ConfigError: A clip cannot be resampled, or its label is no class of the network.
        ClipError: A clip cannot be read.
    """
    rule, found = rule or CertificateRule(), []
    for first in range(0, len(clips), batch):
        part = clips[first : first + batch]
        samples = [read(clip, model.view) for clip in part]
        for clip, sample in zip(part, samples, strict=True):
            if sample.resampled is None:
                raise ConfigError(f"{clip.id} cannot be resampled", expected="clips of dataset=planted")
            if plain(clip.label) not in model.places:
                raise ConfigError(
                    f"{clip.id}: its label {clip.label} is no class of the network",
                    expected=f"one of {', '.join(model.classes)}",
                )
        pixels = onto(model.device, torch.from_numpy(np.stack([sample.pixels for sample in samples])))
        target = onto(model.device, [model.places[plain(clip.label)] for clip in part])
        truth = [
            Truth(c.id, c.label, c.video, s.boxes, s.segment, s.evidence, s.resampled)
            for c, s in zip(part, samples, strict=True)
        ]
        columns = certificates(model, model.view.normalise(pixels), target, truth, rule)
        rows = zip(*(columns[name].tolist() for name in _NAMES), strict=True)
        found += [
            Certificate(clip.id, bool(right), lost, kept, bool(holds))
            for clip, (right, lost, kept, holds) in zip(part, rows, strict=True)
        ]
    return found
