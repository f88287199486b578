"""HiResCAM: the features of a layer, each multiplied by its own gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from vidattr.methods.shared.gradients import layer_gradients
from vidattr.methods.shared.scores import Score
from vidattr.methods.shared.upsampling import TimeUpsample, explained
from vidattr.models.network.network import VideoModel
from vidattr.types import Explanation, Query


@dataclass(frozen=True)
class HiResCAM:
    """HiResCAM (Draelos and Carin, "Use HiResCAM instead of Grad-CAM", arXiv:2011.08891), in space and time.

    With A (c, t, h, w) the features of `layer` and G = ∂s_y/∂A, cam(t, i, j) = Σ_c G_c(t, i, j) · A_c(t, i, j); the map
    is cam, resized to the frames. Unlike Grad-CAM, the gradient is not averaged over positions first, so that a
    position counts by how much it raised the score. Where one linear layer follows `layer`, Σ_tij cam = z_y − b_y, the
    logit without its bias. Where G is the same at all positions, cam is Grad-CAM's sum (`method=grad_cam relu=false
    pool=spacetime`).

    The paper keeps negative values, which are evidence against the class. pytorch-grad-cam sets them to 0
    (`relu=true`); captum has the products before the sum, as `LayerGradientXActivation`.

    Attributes:
        score: s_y: the logit (the paper), the probability, its logarithm, or its log-odds.
        layer: Name of the module whose output is A; None: the network's own last convolution.
        relu: Whether negative values of the sum are set to 0.
        time_upsample: How t steps are upsampled to T frames; in space, upsampling is bilinear.

    The explanation's extras: `cam` (N, t, h, w), the map at the features' resolution.
    """

    version: ClassVar[int] = 1

    score: Score = Score.logit
    layer: str | None = None
    relu: bool = False
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
        cam = (gradient * features).sum(1)
        return cam.relu() if self.relu else cam
