"""Attention rollout with weights multiplied by their gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from vidattr.errors import ConfigError
from vidattr.methods.attention.rollout import rolled_out
from vidattr.methods.attention.weighted import weighted_attention
from vidattr.methods.shared.scores import Score, chunks
from vidattr.methods.shared.upsampling import TimeUpsample, upsampled
from vidattr.models.network.network import VideoModel
from vidattr.types import Explanation, Query


@dataclass(frozen=True)
class GradientRollout:
    """Attention rollout (Abnar and Zuidema, ACL 2020) of gradient-weighted attention, as in vit-explain.

    R = W_L … W_1 with W_l = normalise(A'_l + 1), whose rows sum to 1, and A'_l = (E_heads[∂s_y/∂A_l ⊙ A_l])⁺: unlike
    plain rollout, the map depends on the class. It is the class token's row of R, one value per patch, resized to the
    frames; it is the mean row for a network whose head reads the mean of all tokens. Divided attention (TimeSformer) is
    multiplied as in `AttentionRollout`, and the copies of the class token count as one token (`weighted_attention`);
    the row of each copy is normalised by itself, before the copies are averaged.

    The mean over heads comes before the positive part, as in Gildenblat's vit-explain ("gradient attention rollout",
    2020); `GenericAttention` takes the positive part first and does not normalise. Unlike vit-explain, rows are
    normalised, not columns, and the smallest weights are discarded in each clip of a batch.

    The weights depend on the size of the gradient: where ∂s_y/∂A ⊙ A is far below 1, R is near the identity, and the
    patches' shares are small.

    Attributes:
        score: s_y: the logit, the probability, its logarithm, or its log-odds.
        discard: Share of each block's entries that are set to 0, the smallest first; 0.9 in vit-explain.
        time_upsample: How t steps are upsampled to T frames; in space, upsampling is bilinear.

    The explanation's extras: `cam` (N, t, h, w), the share of each patch; with the class token's share they sum to 1.

    Raises:
        ConfigError: `discard` is not in [0, 1).
    """

    version: ClassVar[int] = 1

    score: Score = Score.logit
    discard: float = 0.0
    time_upsample: TimeUpsample = TimeUpsample.linear

    def __post_init__(self) -> None:
        if not 0 <= self.discard < 1:
            raise ConfigError(f"method.discard={self.discard}", expected="a share of at least 0 and less than 1")

    @property
    def passes(self) -> int:
        """One forward and one backward pass."""
        return 1

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Explains N clips by one forward and one backward pass each.

        Raises:
            MethodUndefinedError: The network offers no attention weights.
        """
        cam = torch.cat(
            [
                rolled_out(
                    weighted_attention(model, x, y, self.score, lambda a: a.mean(-3).clamp(min=0)), self.discard
                )[0]
                for x, y in chunks(model, query.frames, query.target)
            ]
        )
        T, H, W = query.frames.shape[2:]
        return Explanation(upsampled(cam, (T, H, W), self.time_upsample).float(), {"cam": cam})
