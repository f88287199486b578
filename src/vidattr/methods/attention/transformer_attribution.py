"""Transformer attribution: gradients of the attention weights times their relevance, over all blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from vidattr.methods.attention.rollout import accumulated
from vidattr.methods.attention.weighted import weighted_attention
from vidattr.methods.relevance.attention import relevance_of_attention
from vidattr.methods.shared.scores import Score
from vidattr.methods.shared.upsampling import TimeUpsample, explained
from vidattr.models.network.network import VideoModel
from vidattr.types import Explanation, Query


@dataclass(frozen=True)
class TransformerAttribution:
    """Transformer attribution (Chefer, Gur and Wolf, "Transformer Interpretability Beyond Attention Visualization").

    The method of their CVPR 2021 paper: Ā_l = 1 + E_heads[(∇A_l ⊙ R^(A_l))⁺] (eq. 13), with ∇A_l = ∂s_y/∂A_l and
    R^(A_l) the relevance of block l's attention weights according to layer-wise relevance propagation
    (`relevance_of_attention` lists the rules), and C = Ā_L … Ā_1 (eq. 14). The map is the class token's row of C, one
    value per patch, resized to the frames. The simpler rule of their ICCV 2021 paper, with A_l instead of R^(A_l), is
    `GenericAttention`.

    Divided attention (TimeSformer) has two matrices per block, over time at each position and over space in each frame:
    each is a factor of C over all tokens. The copies of the class token count as one token (`weighted_attention`).

    Unlike the paper, whose networks have a class token, a network whose head reads the mean of all tokens (VideoMAE)
    gets the mean row of C − 1, without the identity, which adds the same constant to every patch; the mean shares its
    relevance in proportion to what is averaged.

    Relevance is divided by sums that can be near 0: in float32, maps of small networks were wrong by up to their own
    largest value. A copy of the network in float64 therefore computes all of it. The relevance of all heads and blocks
    is held at once: N·L·heads·S² values for S tokens.

    Attributes:
        score: s_y, which is differentiated: the logit (the paper), the probability, its logarithm, or its log-odds.
            Relevance starts at the class's logit for each of them.
        time_upsample: How t steps are upsampled to T frames; in space, upsampling is bilinear.

    The explanation's extras: `cam` (N, t, h, w), the map at the resolution of the patches.
    """

    version: ClassVar[int] = 1

    score: Score = Score.logit
    time_upsample: TimeUpsample = TimeUpsample.linear

    @property
    def passes(self) -> int:
        """Two forward and two backward passes: one of relevance, one of gradients."""
        return 2

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Explains N clips by two forward and two backward passes each.

        Raises:
            MethodUndefinedError: The network offers no attention weights, or there is no rule for an operation.
        """
        exact = model.in_float64()
        return explained(model, query, lambda x, y: self._cam(exact, x.double(), y), self.time_upsample)

    def _cam(self, model: VideoModel, frames: Tensor, target: Tensor) -> Tensor:
        relevance = relevance_of_attention(model, frames, target)
        return accumulated(
            weighted_attention(model, frames, target, self.score, lambda a: a.clamp(min=0).mean(-3), relevance)
        )
