"""LayerCAM: the features of any layer, each weighted by its own positive gradient."""

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
class LayerCAM:
    """LayerCAM (Jiang, Zhang, Hou, Cheng and Wei, IEEE TIP 2021, eq. 5 to 7), in space and time.

    With A (c, t, h, w) the features of `layer` and G = ∂s_y/∂A, every position of every channel has its own weight
    ReLU(G_c(t, i, j)), and cam(t, i, j) = ReLU(Σ_c ReLU(G_c(t, i, j)) · A_c(t, i, j)); the map is cam, resized to the
    frames. Because no weight is averaged over positions, layers near the input give maps too, finer than Grad-CAM's.

    Unlike the paper, which fuses the maps of several layers after scaling those of the first layers by tanh (eq. 8),
    one call explains one layer: the scaling depends on the largest value of a map, and maps are stored unscaled.

    Attributes:
        score: s_y: the logit (the paper), the probability, its logarithm, or its log-odds.
        layer: Name of the module whose output is A; None: the network's own last convolution.
        relu: Whether negative values of the sum are set to 0, as in eq. 7. After a ReLU in the network A ≥ 0, and
            there are none.
        time_upsample: How t steps are upsampled to T frames; in space, upsampling is bilinear.

    The explanation's extras: `cam` (N, t, h, w), the map at the features' resolution.
    """

    version: ClassVar[int] = 1

    score: Score = Score.logit
    layer: str | None = None
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
        cam = (gradient.relu() * features).sum(1)
        return cam.relu() if self.relu else cam
