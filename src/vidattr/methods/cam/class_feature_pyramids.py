"""Class Feature Pyramids: the channels of several layers that lead to a class, found from the head backwards."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from vidattr.errors import ConfigError, MethodUndefinedError
from vidattr.methods.cam.back_steps import back_steps
from vidattr.methods.shared.scores import chunks
from vidattr.methods.shared.upsampling import TimeUpsample, unit_range, upsampled
from vidattr.models.network.linear_head import gap_linear_head
from vidattr.models.network.network import VideoModel
from vidattr.types import Explanation, Query


@dataclass(frozen=True)
class ClassFeaturePyramids:
    """Class Feature Pyramids (Stergiou et al., ICCV Workshops 2019), with the steps of the authors' released code.

    For a network that ends in z = W · mean_thw(A) + b (`gap_linear_head`), with levels l = 1 … `depth`:

    1. Level 1 is the last volume of features, a¹ = A. Its channel c is selected for class y if W_yc, scaled to 0…1 by
       the least and the largest weight of all classes, is at least θ (`threshold`).
    2. Back-step from level l to l+1, the input of the convolution that computes the channels of level l: of each
       selected kernel k, the contribution of channel j is p_kj = mean(kernel_kj) · mean_thw(a_j), scaled to 0…1 over j.
       Channel j of level l+1 is selected if any selected kernel has a contribution of at least θ from it.
    3. The tube of a level is the sum of its selected channels, resized to the frames and scaled to 0…1 over the clip.
       The map is the mean of the tubes.

    `back_steps` finds the convolutions; shortcuts are not followed, as in the released code. No gradient is used, and
    one forward pass serves all levels. A level without selected channels, or without contrast, has a tube of 0; where
    no weight of the class reaches θ, that is the whole map.

    Unlike the released code, which draws one tube for each kernel of each level and combines nothing, the tubes of a
    level are one, and the map is their mean over the levels. Unlike the released code, p_kj is not divided by Σ_j p_kj
    before it is scaled: a positive sum changes nothing, and a negative one reverses the order, so that the channels
    that contribute least would be selected. Unlike the released code, which repeats the kernels of a grouped
    convolution for the channels of other groups, channels of other groups contribute nothing. Unlike the paper,
    branches that are concatenated (I3D) are not followed: for such a network, `depth` can only be 1.

    Attributes:
        depth: Number of levels; in the paper 3 for most networks.
        threshold: θ, 0 to 1; in the paper 0.55 to 0.65.
        time_upsample: How t steps are upsampled to T frames; in space, upsampling is bilinear (a cubic spline in the
            released code).

    Raises:
        ConfigError: No level, or a threshold out of range.

    The explanation's extras: `pyramid` (N, depth, T, H, W), the tube of each level; `selected` (N, depth), the number
    of its channels.
    """

    version: ClassVar[int] = 1
    forward_only: ClassVar[bool] = True

    depth: int = 3
    threshold: float = 0.6
    time_upsample: TimeUpsample = TimeUpsample.linear

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise ConfigError(f"method.depth={self.depth}", expected="1 level or more")
        if not 0 < self.threshold <= 1:
            raise ConfigError(f"method.threshold={self.threshold}", expected="more than 0, and at most 1")

    @property
    def passes(self) -> int:
        """One."""
        return 1

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Explains N clips by one forward pass each.

        Raises:
            MethodUndefinedError: The network does not end in a global average and one linear layer, or has fewer
                levels.
        """
        layer, weight, _ = gap_linear_head(model, query.frames)
        steps = back_steps(model, query.frames, layer)
        if self.depth > 1 + len(steps):
            raise MethodUndefinedError(
                f"method.depth={self.depth}: {1 + len(steps)} levels can be reached from {layer!r} of this network",
                expected=f"1 to {1 + len(steps)}: beyond them, no single convolution computes the channels, or the "
                "frames follow",
                remedy=f"method.depth={1 + len(steps)}",
            )
        used = steps[: self.depth - 1]
        chosen = _shares(weight.flatten()).view_as(weight) >= self.threshold  # (K, c)
        pieces = chunks(model, query.frames.detach(), query.target)
        parts = [self._tubes(model, x, chosen[y], layer, used) for x, y in pieces]
        tubes, selected = (torch.cat(each) for each in zip(*parts, strict=True))
        return Explanation(tubes.mean(1).float(), {"pyramid": tubes.float(), "selected": selected})

    @torch.no_grad()
    def _tubes(
        self, model: VideoModel, frames: Tensor, chosen: Tensor, layer: str, steps: Sequence[str]
    ) -> tuple[Tensor, Tensor]:
        """Returns the tubes (N, depth, T, H, W) and the numbers of selected channels (N, depth) of some clips."""
        inputs: dict[str, Tensor] = {}
        with ExitStack() as stack:
            for name in steps:

                def keep(_module: nn.Module, given: object, _output: Tensor, name: str = name) -> None:
                    assert isinstance(given, tuple)
                    inputs[name] = given[0].detach()

                stack.enter_context(model.hooked(name, keep))
            last = model.activations(frames, layer)[1].detach()
        T, H, W = frames.shape[2:]
        levels = [(chosen, model.volume(last, len(frames)))]
        for name in steps:
            volume = model.volume(inputs[name], len(frames))
            levels.append((self._back(levels[-1][0], model.module.get_submodule(name), volume), volume))
        tubes, counts = [], []
        for chosen, volume in levels:
            tube = torch.einsum("nc,ncthw->nthw", chosen.to(volume.dtype), volume)
            tubes.append(unit_range(upsampled(tube, (T, H, W), self.time_upsample)))
            counts.append(chosen.sum(1))
        return torch.stack(tubes, 1), torch.stack(counts, 1)

    def _back(self, chosen: Tensor, convolution: nn.Module, volume: Tensor) -> Tensor:
        """Returns which channels (N, in) of a convolution's input lead to the chosen ones (N, out) of its output."""
        kernels, reads = _kernels(convolution)
        contributions = kernels * volume.mean((2, 3, 4))[:, None]  # (N, out, in)
        reached = (_shares(contributions, reads) >= self.threshold) & reads
        return (reached & chosen[:, :, None]).any(1)


def _kernels(convolution: nn.Module) -> tuple[Tensor, Tensor]:
    """Returns the mean of each kernel (out, in), and which channels it reads: those of its group."""
    weight, groups = convolution.weight, convolution.groups
    assert isinstance(weight, Tensor)
    assert isinstance(groups, int)
    own = weight.flatten(2).mean(2)  # (out, in / groups)
    group = torch.arange(groups, device=weight.device)
    reads = group.repeat_interleave(len(own) // groups)[:, None] == group.repeat_interleave(own.shape[1])
    return own.repeat(1, groups), reads


def _shares(values: Tensor, valid: Tensor | None = None) -> Tensor:
    """Returns values (…, J) scaled to 0…1 over the valid ones of the last axis; −1 where all are equal."""
    valid = torch.ones_like(values, dtype=torch.bool) if valid is None else valid
    low = values.where(valid, torch.inf).amin(-1, keepdim=True)
    high = values.where(valid, -torch.inf).amax(-1, keepdim=True)
    return torch.where(high > low, (values - low) / (high - low), -1.0)
