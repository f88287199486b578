"""Grad-CAM on the features of a video network."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, auto
from typing import ClassVar

from torch import Tensor

from vidattr.methods.shared.gradients import layer_gradients
from vidattr.methods.shared.scores import Score
from vidattr.methods.shared.upsampling import TimeUpsample, explained
from vidattr.models.network.network import VideoModel
from vidattr.types import Explanation, Query


class Pool(StrEnum):
    """The axes over which a channel's gradient is averaged: space, for each time step; or space and time."""

    space = auto()
    spacetime = auto()


POOLED_AXES: dict[Pool, tuple[int, ...]] = {Pool.space: (3, 4), Pool.spacetime: (2, 3, 4)}


@dataclass(frozen=True)
class GradCAM:
    """Grad-CAM (Selvaraju et al., ICCV 2017, eq. 1 and 2) for a 3-D network or one that sees frame by frame (CNN-LSTM).

    With A (c, t, h, w) the features of `layer` and G = ∂s_y/∂A, channel c weighs w_c(t) = mean over h, w of G_c(t), and
    cam(t, i, j) = ReLU(Σ_c w_c(t) · A_c(t, i, j)); the map is cam, resized to the frames.

    Unlike the paper, which explains images, there are two ways to pool the weights: per time step, as video work does
    (Li et al., WACV 2021; SlowFast), or over space and time, the literal extension of eq. 1 (`pool=spacetime`).
    Li et al. write that the map is upsampled in time, and their code repeats it (`time_upsample=repeat`).

    Attributes:
        score: s_y: the logit (the paper), the probability, its logarithm, or its log-odds.
        layer: Name of the module whose output is A; None: the network's own last convolution.
        pool: The axes over which a channel's weight is averaged.
        relu: Whether negative values, evidence against the class, are set to 0, as in eq. 2.
        time_upsample: How t steps are upsampled to T frames; in space, upsampling is bilinear.

    The explanation's extras: `cam` (N, t, h, w), the map at the features' resolution.
    """

    version: ClassVar[int] = 1

    score: Score = Score.logit
    layer: str | None = None
    pool: Pool = Pool.space
    relu: bool = True
    time_upsample: TimeUpsample = TimeUpsample.linear

    @property
    def passes(self) -> int:
        """One."""
        return 1

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Explains N clips by one forward pass each and a backward pass that ends at `layer`."""
        return explained(model, query, lambda x, y: self._cam(model, x, y), self.time_upsample)

    def _cam(self, model: VideoModel, frames: Tensor, target: Tensor) -> Tensor:
        features, gradient = layer_gradients(model, frames, target, self.score, self.layer)
        cam = (gradient.mean(POOLED_AXES[self.pool], keepdim=True) * features).sum(1)
        return cam.relu() if self.relu else cam
