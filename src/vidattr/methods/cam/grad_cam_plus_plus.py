"""Grad-CAM++ on the features of a video network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vidattr.methods.cam.grad_cam import POOLED_AXES, Pool
from vidattr.methods.shared.gradients import layer_gradients
from vidattr.methods.shared.scores import Score
from vidattr.methods.shared.upsampling import TimeUpsample, explained
from vidattr.models.network.network import VideoModel
from vidattr.types import Explanation, Query


@dataclass(frozen=True)
class GradCAMPlusPlus:
    """Grad-CAM++ (Chattopadhay, Sarkar, Howlader and Balasubramanian, WACV 2018), in space and time.

    With A (c, t, h, w) the features of `layer` and the class score Y = exp(s_y), the paper's weight of channel c is
    w_c = Σ_p α_c(p) · ReLU(∂Y/∂A_c(p)), summed over positions p, with

        α_c(p) = ∂²Y/∂A_c(p)² / (2 ∂²Y/∂A_c(p)² + Σ_q A_c(q) · ∂³Y/∂A_c(p)³),

    and cam(p) = ReLU(Σ_c w_c · A_c(p)); the map is cam, resized to the frames. The exponential
    gives a closed form: in a network of ReLUs and linear layers the second and third derivatives of s_y
    are 0, so that with G = ∂s_y/∂A the n-th derivative of Y is exp(s_y) · Gⁿ, and

        α_c(p) = G_c(p)² / (2 G_c(p)² + G_c(p)³ · Σ_q A_c(q)) = 1 / (2 + G_c(p) · Σ_q A_c(q)), 0 where G_c(p) is 0.

    This form is used for every network and every `score`. For other activations it is an approximation.

    Unlike the paper, the factor exp(s_y) of all weights is left out: it is the same for the whole clip, it changes no
    ranking, and it overflows for large logits. pytorch-grad-cam leaves it out too, and adds 1e-6 to 2 G² + G³ · Σ A,
    which decides its map where G is below 1e-3; captum has no Grad-CAM++. Unlike the paper, which explains images, Σ_p
    and Σ_q go over space, for each time step, or over space and time (`pool`), as in `GradCAM`.

    Where G is the same at all V positions, w_c = V · ReLU(G_c) / (2 + G_c · Σ_q A_c(q)): negative gradients are left
    out, and a channel that contributes much to the score counts less than in Grad-CAM. Features of at least 0 with a
    positive G have a denominator of at least 2; for others it may be negative, and α is 0 where it is 0.

    Attributes:
        score: s_y: the logit (the paper), the probability, its logarithm, or its log-odds.
        layer: Name of the module whose output is A; None: the network's own last convolution.
        pool: The axes over which a channel's weight is summed.
        relu: Whether negative values of the sum are set to 0, as in the paper.
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
        """One forward pass per clip, and a backward pass down to `layer`."""
        return 1

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Explains N clips by one forward pass each and a backward pass that ends at `layer`.

        Raises:
            ConfigError: The network has no such layer, or names no layer of convolutional features.
        """
        return explained(model, query, lambda x, y: self._cam(model, x, y), self.time_upsample)

    def _cam(self, model: VideoModel, frames: Tensor, target: Tensor) -> Tensor:
        features, gradient = layer_gradients(model, frames, target, self.score, self.layer)
        axes = POOLED_AXES[self.pool]
        denominator = 2 + gradient * features.sum(axes, keepdim=True)
        part = torch.where((gradient > 0) & (denominator != 0), gradient / denominator, 0.0)
        cam = (part.sum(axes, keepdim=True) * features).sum(1)
        return cam.relu() if self.relu else cam
