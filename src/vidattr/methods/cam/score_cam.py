"""Score-CAM: each channel weighted by the score of the clip that it leaves visible."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import ClassVar

import torch
from torch import Tensor

from vidattr.errors import ConfigError
from vidattr.methods.shared.scores import Score, chunks, scores
from vidattr.methods.shared.upsampling import TimeUpsample, unit_range, upsampled
from vidattr.models.network.network import VideoModel
from vidattr.profiling import stage
from vidattr.progress import tracked
from vidattr.types import Explanation, Query

_USUAL = 512  # channels of the last convolution of an 18-layer ResNet


class Weighting(StrEnum):
    """How a channel's increase of the score, C_k, becomes its weight.

    `softmax`: exp(C_k) / Σ_m exp(C_m), as in the paper and pytorch-grad-cam. `increase`: C_k itself, as in the released
    code, which does not subtract the score of the baseline and takes the probability (`score=prob`).
    """

    softmax = auto()
    increase = auto()


def _softmax(increase: Tensor, has_contrast: Tensor) -> Tensor:
    matters = (has_contrast & (increase != 0)).any(1, keepdim=True)
    return increase.where(has_contrast, -torch.inf).softmax(1).where(has_contrast & matters, 0.0)


_WEIGHTS: dict[Weighting, Callable[[Tensor, Tensor], Tensor]] = {
    Weighting.softmax: _softmax,
    Weighting.increase: lambda increase, has_contrast: increase.where(has_contrast, 0.0),
}


@dataclass(frozen=True)
class ScoreCAM:
    """Score-CAM (Wang, Wang, Du, Yang, Zhang, Ding, Mardziel and Hu, CVPR Workshops 2020), in space and time.

    With A (c, t, h, w) the features of `layer`:

    1. Each channel A_k is resized to the frames and scaled to 0…1, H_k = (A_k − min) / (max − min), over the whole
       clip.
    2. C_k = s_y(x ⊙ H_k) − s_y(0) is its increase of confidence. A masked voxel is 0 in the network's input, the
       mean colour; the baseline is a clip of it.
    3. α_k is the weight of channel k (`weighting`), and cam(t, i, j) = ReLU(Σ_k α_k · A_k(t, i, j)); the map is cam,
       resized to the frames.

    No gradient is used. The forward passes of all channels of all clips run in chunks of `max_batch`.

    A channel that is the same everywhere masks nothing and has the weight 0, as in the released code. Unlike the
    paper, a clip for which every C_k is 0 gets a map of 0: softmax would give all channels the same weight, and the map
    of a network that ignores its input would be the mean of its features. Unlike the paper, `channels` may restrict the
    passes to the channels with the largest standard deviation over positions (as in "Faster Score-CAM").

    Attributes:
        score: s_y: the logit (the paper), the probability, its logarithm, or its log-odds.
        layer: Name of the module whose output is A; None: the network's own last convolution.
        channels: Largest number of channels of a clip; None: all.
        weighting: softmax or increase.
        relu: Whether negative values of the sum are set to 0, as in the paper.
        time_upsample: How t steps are upsampled to T frames; in space, upsampling is bilinear.

    Raises:
        ConfigError: No channel.

    The explanation's extras: `cam` (N, t, h, w), the map at the features' resolution; `weights` (N, c), α, 0 for
    channels that were not used.
    """

    version: ClassVar[int] = 1
    forward_only: ClassVar[bool] = True

    score: Score = Score.logit
    layer: str | None = None
    channels: int | None = None
    weighting: Weighting = Weighting.softmax
    relu: bool = True
    time_upsample: TimeUpsample = TimeUpsample.linear

    def __post_init__(self) -> None:
        if self.channels is not None and self.channels < 1:
            raise ConfigError(f"method.channels={self.channels}", expected="1 or more, or null for all channels")

    @property
    def passes(self) -> int:
        """One per channel, one for the features and one for the baseline; 512 channels where all are used."""
        return (self.channels or _USUAL) + 2

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Explains N clips by a forward pass for each channel, one for the features and one for the baseline.

        Raises:
            ConfigError: The network has no such layer, or names no layer of convolutional features.
        """
        frames = query.frames.detach()
        features = torch.cat([self._features(model, x) for x, _ in chunks(model, frames, query.target)])
        spread = features.flatten(2).std(2, correction=0)
        # A stable order, so that equal channels are chosen in the same way in every batch.
        chosen = spread.sort(dim=1, descending=True, stable=True).indices[:, : self.channels]
        increase = self._increase(model, frames, query.target, features, chosen)
        weights = _WEIGHTS[self.weighting](increase, spread.gather(1, chosen) > 0).to(features.dtype)
        weights = torch.zeros_like(spread).scatter(1, chosen, weights)
        cam = (weights[:, :, None, None, None] * features).sum(1)
        cam = cam.relu() if self.relu else cam
        T, H, W = frames.shape[2:]
        return Explanation(upsampled(cam, (T, H, W), self.time_upsample).float(), {"cam": cam, "weights": weights})

    def _features(self, model: VideoModel, frames: Tensor) -> Tensor:
        return model.volume(model.activations(frames, self.layer)[1].detach(), len(frames))

    @torch.no_grad()
    def _increase(self, model: VideoModel, frames: Tensor, target: Tensor, features: Tensor, chosen: Tensor) -> Tensor:
        """Returns C (N, k) float64 of the chosen channels (N, k)."""
        N, k = chosen.shape
        clips = torch.arange(N, device=frames.device).repeat_interleave(k)
        channels = chosen.flatten()
        T, H, W = frames.shape[2:]
        count = math.ceil(N * k / model.max_batch)
        found = []
        parts = zip(torch.tensor_split(clips, count), torch.tensor_split(channels, count), strict=True)
        for n, c in tracked(parts, count, "channels", N * k):
            with stage("masks"):
                masks = unit_range(upsampled(features[n, c], (T, H, W), self.time_upsample))
                masked = frames[n] * masks.unsqueeze(1)
            found.append(scores(model, masked, target[n], self.score).double())
        baseline = scores(model, torch.zeros_like(frames), target, self.score).double()
        return torch.cat(found).view(N, k) - baseline[:, None]
