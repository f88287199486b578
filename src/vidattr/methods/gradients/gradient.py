"""The gradient of the class score with respect to the frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vidattr.methods.shared.gradients import Polarity, Reduce, input_gradients, to_map
from vidattr.methods.shared.scores import Score
from vidattr.models.network.network import VideoModel
from vidattr.types import Explanation, Query


@dataclass(frozen=True)
class Gradient:
    """Vanilla gradient (Simonyan et al., "Deep Inside Convolutional Networks", 2014, section 3).

    g = ∂s_y/∂x, one number per voxel and channel; the map is reduce_c polarity(g_c). The paper takes the maximum over
    channels of |g| (`reduce=max`); video work takes the mean (Li et al., TCSVT 2021), the default here.

    Attributes:
        score: s_y: the logit (the paper), the probability, its logarithm, or its log-odds.
        polarity: Which part of g the map shows.
        reduce: How channels become one number.

    The explanation's extras: `attribution` (N, C, T, H, W), g itself.
    """

    version: ClassVar[int] = 1

    score: Score = Score.logit
    polarity: Polarity = Polarity.both
    reduce: Reduce = Reduce.mean

    @property
    def passes(self) -> int:
        """One."""
        return 1

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Explains N clips by one forward and one backward pass each."""
        attribution = input_gradients(model, query.frames, query.target, self.score)
        return Explanation(to_map(attribution, self.polarity, self.reduce), {"attribution": attribution})
