"""The gradient of the class score times the frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vidattr.methods.shared.gradients import Polarity, Reduce, input_gradients, to_map
from vidattr.methods.shared.scores import Score
from vidattr.models.network.network import VideoModel
from vidattr.types import Explanation, Query


@dataclass(frozen=True)
class GradXInput:
    """Gradient × input (Shrikumar et al., "Not Just a Black Box", 2016).

    a = ∂s_y/∂x ⊙ x, with x as the network takes it, that is after mean and standard deviation: a voxel of the
    data set's mean colour gets 0 whatever its gradient. The map is reduce_c polarity(a_c).

    Attributes:
        score: s_y: the logit, the probability, its logarithm, or its log-odds.
        polarity: Which part of a the map shows.
        reduce: How channels become one number.

    The explanation's extras: `attribution` (N, C, T, H, W), a itself.
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
        attribution = input_gradients(model, query.frames, query.target, self.score) * query.frames.detach()
        return Explanation(to_map(attribution, self.polarity, self.reduce), {"attribution": attribution})
