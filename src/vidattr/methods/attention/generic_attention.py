"""Generic attention explainability: attention weights times their positive gradients, over all blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from vidattr.methods.attention.rollout import accumulated
from vidattr.methods.attention.weighted import weighted_attention
from vidattr.methods.shared.scores import Score
from vidattr.methods.shared.upsampling import TimeUpsample, explained
from vidattr.models.network.network import VideoModel
from vidattr.types import Explanation, Query


@dataclass(frozen=True)
class GenericAttention:
    """The rule of Chefer, Gur and Wolf for self-attention ("Generic Attention-model Explainability", ICCV 2021).

    With A_l the weights of block l and ∇A_l = ∂s_y/∂A_l, per head: Ā_l = E_heads[(∇A_l ⊙ A_l)⁺] (eq. 5), and
    R ← R + Ā_l R (eq. 6) from the first block to the last, R starting as the identity. The map is the class token's row
    of R, one value per patch, resized to the frames.

    The method of their CVPR 2021 paper, which multiplies ∇A by the relevance of A according to LRP, is
    `TransformerAttribution`; the rule here needs gradients only.

    Divided attention (TimeSformer) has two matrices per block, over time at each position and over space in each frame:
    each is a step R ← R + Ā R over all tokens. The copies of the class token count as one token (`weighted_attention`).

    Unlike the paper, whose networks have a class token, a network whose head reads the mean of all tokens (VideoMAE)
    gets the mean row of R − 1, without the identity, which adds the same constant to every patch.

    Attributes:
        score: s_y: the logit (the paper), the probability, its logarithm, or its log-odds.
        time_upsample: How t steps are upsampled to T frames; in space, upsampling is bilinear.

    The explanation's extras: `cam` (N, t, h, w), the map at the resolution of the patches.
    """

    version: ClassVar[int] = 1

    score: Score = Score.logit
    time_upsample: TimeUpsample = TimeUpsample.linear

    @property
    def passes(self) -> int:
        """One forward and one backward pass."""
        return 1

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Explains N clips by one forward and one backward pass each.

        Raises:
            MethodUndefinedError: The network offers no attention weights.
        """
        return explained(model, query, lambda x, y: self._cam(model, x, y), self.time_upsample)

    def _cam(self, model: VideoModel, frames: Tensor, target: Tensor) -> Tensor:
        found = weighted_attention(model, frames, target, self.score, lambda a: a.clamp(min=0).mean(-3))
        return accumulated(found)
