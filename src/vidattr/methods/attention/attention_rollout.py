"""Attention rollout on a video transformer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import ClassVar

import torch
from torch import Tensor

from vidattr.errors import ConfigError
from vidattr.methods.attention.rollout import rolled_out
from vidattr.methods.shared.scores import chunks
from vidattr.methods.shared.upsampling import TimeUpsample, upsampled
from vidattr.models.network.network import VideoModel
from vidattr.types import Explanation, Query


class Heads(StrEnum):
    """How the heads of a block are fused, for each query and key: by the mean, the largest or the smallest weight."""

    mean = auto()
    max = auto()
    min = auto()


_FUSE: dict[Heads, Callable[[Tensor], Tensor]] = {
    Heads.mean: lambda attention: attention.mean(-3),
    Heads.max: lambda attention: attention.amax(-3),
    Heads.min: lambda attention: attention.amin(-3),
}


@dataclass(frozen=True)
class AttentionRollout:
    """Attention rollout (Abnar and Zuidema, ACL 2020), for attention over space and time at once or in turn.

    R = W_L … W_1 with W_l = ½ (A_l + 1), A_l the mean over heads. The map is the class token's row of R, one value per
    patch, resized to the frames; it is the mean row for a network whose head reads the mean of all tokens.

    The map is the same for every class, because attention does not depend on the class.

    Divided attention (TimeSformer) has two matrices A per block: over time at each position, without the class token,
    and over space in each frame, with a copy of the class token; the copies are averaged afterwards: W_l = B^S_l B^T_l.
    Only the class token's row is computed. This equals the product of the full matrices over all tokens, at a
    thousandth of the cost.

    Unlike the paper, heads may be fused by their maximum or minimum and the smallest weights discarded; rows are then
    normalised to sum 1 again. (The vit-explain code normalises columns, and discards in the batch's first clip only.)

    Attributes:
        heads: How the heads of a block are fused.
        discard: Share of each block's weights that are set to 0, the smallest first; 0.9 in vit-explain.
        time_upsample: How t steps are upsampled to T frames; in space, upsampling is bilinear.

    The explanation's extras: `cam` (N, t, h, w), the share of each patch; with the class token's share they sum to 1.

    Raises:
        ConfigError: `discard` is not in [0, 1).
    """

    version: ClassVar[int] = 1
    forward_only: ClassVar[bool] = True

    heads: Heads = Heads.mean
    discard: float = 0.0
    time_upsample: TimeUpsample = TimeUpsample.linear

    def __post_init__(self) -> None:
        if not 0 <= self.discard < 1:
            raise ConfigError(f"method.discard={self.discard}", expected="a share of at least 0 and less than 1")

    @property
    def passes(self) -> int:
        """One."""
        return 1

    @torch.no_grad()
    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Explains N clips by one forward pass each.

        Raises:
            MethodUndefinedError: The network offers no attention weights.
        """
        fuse = _FUSE[self.heads]
        cam = torch.cat(
            [
                rolled_out(model.attention(x, fuse), self.discard)[0]
                for x, _ in chunks(model, query.frames, query.target)
            ]
        )
        T, H, W = query.frames.shape[2:]
        return Explanation(upsampled(cam, (T, H, W), self.time_upsample).float(), {"cam": cam})
