"""Layer-wise relevance propagation with a composite of rules."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import ClassVar

import torch
from torch import Tensor

from vidattr.errors import ConfigError
from vidattr.methods.excitation.eb_r import Steps, refuse, scoring_runs, sizes, units_of
from vidattr.methods.relevance.propagation import Propagation
from vidattr.methods.shared.gradients import Polarity, Reduce, to_map
from vidattr.methods.shared.scores import chunks
from vidattr.models.network.network import VideoModel
from vidattr.profiling import stage
from vidattr.types import Explanation, Query

_NAME = "layer-wise relevance propagation"


class InputRule(StrEnum):
    """The rule of layers that read the voxels: z^B, or that of the layers after them (γ)."""

    zb = auto()
    gamma = auto()


@dataclass(frozen=True)
class LRP:
    """Composite LRP (Montavon et al., "Layer-Wise Relevance Propagation: An Overview", 2019) for CNNs and CNN-LSTMs.

    The relevance of the class's output z_y in the layer that scores the classes is propagated down to the voxels by
    R_j = Σ_i c_ij R_i / Σ_k c_ik, with z_i = Σ_j w_ij x_j + b_i (section 10.2):

    - LRP-0, the layer that scores the classes: c_ij = x_j w_ij, the denominator z_i;
    - LRP-ε, the layers below: the same with z_i + ε·rms(z)·sign(z_i), the mean square taken over the layer's outputs of
      a clip, or of a frame where the layer sees single frames, as in the authors' tutorial;
    - LRP-γ, the layers near the input: c_ij + γ c⁺_ij where z_i > 0, and c_ij + γ c⁻_ij where z_i ≤ 0, the bias alike;
    - z^B at the voxels: c_ij = x_j w_ij − l_j w⁺_ij − h_j w⁻_ij, l and h being black and white of this network's input.

    A BatchNorm after a convolution is merged into its weights first. Sums of branches and average pools follow LRP-0,
    maxima pass relevance to the largest input, activations leave it unchanged; LSTMs follow Arras et al. (2017).

    Relevance is not conserved exactly: biases, and ε, take their shares; the extras report how much is lost. Without
    biases and with ε = 0, Σ R is the score.

    Unlike the paper, whose inputs are positive, the γ rule favours the contributions of the sign of z_i; for positive
    inputs and z_i > 0 both are equal. The paper names layers of VGG16; here `lower` says how many are near the input.

    Attributes:
        epsilon: ε.
        gamma: γ.
        lower: Share of the layers, in the order in which they run, that follow LRP-γ.
        input_rule: The rule of layers that read the voxels.
        steps: Time steps at which the class's output is explained, where a network has scores at each; their mean.
        polarity: Which part of R the map shows.
        reduce: How channels become one number.

    The explanation's extras: `attribution` (N, C, T, H, W), R itself; `conservation` (N, 3): Σ R, z_y (the mean over
    the explained steps), and the first minus the second, which biases and ε took.

    Raises:
        ConfigError: ε or γ is negative or not finite, or `lower` is not in [0, 1].
    """

    version: ClassVar[int] = 1

    epsilon: float = 0.25
    gamma: float = 0.25
    lower: float = 0.5
    input_rule: InputRule = InputRule.zb
    steps: Steps = Steps.every
    polarity: Polarity = Polarity.signed
    reduce: Reduce = Reduce.sum

    def __post_init__(self) -> None:
        for name in ("epsilon", "gamma"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"method.{name}={getattr(self, name)}", expected="0 or a positive number")
        if not 0 <= self.lower <= 1:
            raise ConfigError(f"method.lower={self.lower}", expected="a share from 0 to 1")

    @property
    def passes(self) -> int:
        """One forward and one backward pass."""
        return 1

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Explains N clips by one forward and one backward pass each.

        Raises:
            MethodUndefinedError: There is no rule for an operation, or no layer reads the voxels (`input_rule=zb`).
        """
        parts = [self._explained(model, x, y) for x, y in chunks(model, query.frames.detach(), query.target)]
        attribution, score = (torch.cat(each) for each in zip(*parts, strict=True))
        found = attribution.flatten(1).sum(1)
        return Explanation(
            to_map(attribution, self.polarity, self.reduce),
            {"attribution": attribution, "conservation": torch.stack([found, score, found - score], 1)},
        )

    @torch.enable_grad()
    def _explained(self, model: VideoModel, frames: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Returns R, and the score that it starts from."""
        leaf = frames.clone().requires_grad_()
        low, high = (model.view.colour(frames, level).expand_as(frames) for level in (0.0, 1.0))
        box = self.input_rule is InputRule.zb
        rules = Propagation(self.epsilon, self.gamma, self.lower, box, (low, high))
        trace = rules.trace(leaf)
        with trace.over(model.module, leaf):
            logits = model(leaf)
        # A layer that reads (T, N, D) has no row per clip: the chunk is split.
        if len(frames) > 1 and trace.time_first:
            halves = zip(frames.tensor_split(2), target.tensor_split(2), strict=True)
            first, second = (self._explained(model, x, y) for x, y in halves)
            return torch.cat([first[0], second[0]]), torch.cat([first[1], second[1]])
        if not logits.requires_grad:
            return torch.zeros_like(frames), logits.gather(1, target[:, None])[:, 0]
        heads = scoring_runs(trace, logits, leaf, _NAME)
        if box and not any(layer.bounds for layer in rules.layers):
            refuse("voxels that no layer reads as they are (method.input_rule=gamma needs none)", "the network", _NAME)
        rules.heads = [head.weight for head in heads]
        units = units_of(heads, target, self.steps, bool(trace.time_first))
        total = sizes(units, len(target))
        start = [
            (unit * head.output.detach()).reshape(len(target), -1) / total[:, None]
            for unit, head in zip(units, heads, strict=True)
        ]
        score = torch.stack([part.sum(1) for part in start]).sum(0)
        masses = [part.view_as(head.output) for part, head in zip(start, heads, strict=True)]
        with stage("network"):
            (found,) = torch.autograd.grad([head.output for head in heads], leaf, masses, materialize_grads=True)
        return found, score
