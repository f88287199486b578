"""DeepLIFT with the Rescale rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vidattr.config.fields import keyed_by_content
from vidattr.methods.gradients.integrated_gradients import Baseline, IntegratedGradients
from vidattr.methods.relevance.rescale import Reference, check_only_known
from vidattr.methods.shared.gradients import Polarity, Reduce, derivative, to_map
from vidattr.methods.shared.scores import chunks
from vidattr.models.network.network import VideoModel
from vidattr.types import Explanation, Query


@dataclass(frozen=True)
class DeepLift:
    """DeepLIFT with the Rescale rule (Shrikumar, Greenside and Kundaje, ICML 2017) for convolutional networks.

    The network runs on the clip x and on a baseline x₀. Multipliers m are propagated from the score to the input by
    the chain rule (eq. 3): linear operations by their weights (section 3.5.1), functions of single values by
    m = Δy/Δx, and by the derivative where |Δx| < 1e-7 (Rescale, section 3.5.2). The attribution is
    a = m ⊙ (x − x₀), the map reduce_c polarity(a_c).

    Completeness ("summation to delta", eq. 1), Σ a = s_y(x) − s_y(x₀), holds up to rounding; the extras report the
    error for each clip. ReLUs may be modules or functions; branches may be added.

    Unlike the paper, which gives no rule for maxima, Δy of a max-pool goes to the clip's largest input where the
    maximum rises, and to the baseline's where it falls (`rescale.Winner`), as in SHAP and captum.

    The rule is not defined for products of two features, thus for attention, gates and LSTMs, and not for operations on
    several values at once, such as softmax and layer normalisation. These raise MethodUndefinedError.

    Attributes:
        baseline: x₀. black: a black clip as this network sees it, after its own mean and standard deviation. zero: 0
            after them, the data set's mean colour. blur: each frame, blurred. image: the picture in `baseline_file`.
        blur_sigma: Standard deviation in pixels of the Gaussian of `baseline=blur`.
        baseline_file: A PNG or JPEG, stretched to the frame and repeated in time; only with `baseline=image`.
        normalise: Whether s_y is z_y − mean_k z_k, as the paper proposes for classes under a softmax (section 3.6),
            instead of the logit z_y.
        polarity: Which part of a the map shows.
        reduce: How channels become one number.

    The explanation's extras: `attribution` (N, C, T, H, W), a itself; `completeness` (N, 3): Σ a, s_y(x) − s_y(x₀), and
    the first minus the second.

    Raises:
        ConfigError: blur_sigma is not positive; a missing or unreadable file; a file with another baseline than
            `image`.
    """

    version: ClassVar[int] = 1

    baseline: Baseline = Baseline.black
    blur_sigma: float = 10.0
    baseline_file: str | None = keyed_by_content(None)
    normalise: bool = False
    polarity: Polarity = Polarity.signed
    reduce: Reduce = Reduce.sum

    def __post_init__(self) -> None:
        self._line()

    def _line(self) -> IntegratedGradients:
        """Returns the method whose line starts at the same baseline; it checks the options of the baseline."""
        return IntegratedGradients(baseline=self.baseline, blur_sigma=self.blur_sigma, baseline_file=self.baseline_file)

    @property
    def passes(self) -> int:
        """One on the baseline, and one with its backward pass on the clip."""
        return 2

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Explains N clips by two forward passes and one backward pass each.

        Raises:
            MethodUndefinedError: The rule is not defined for an operation of the network.
        """
        frames = query.frames.detach()
        start = self._line().start(model, frames)
        parts = []
        for (x, y), (x0, _) in zip(
            chunks(model, frames, query.target), chunks(model, start, query.target), strict=True
        ):
            parts.append(self._explained(model, x, x0, y))
        attribution, difference = (torch.cat(each) for each in zip(*parts, strict=True))
        explained = attribution.flatten(1).sum(1)
        return Explanation(
            to_map(attribution, self.polarity, self.reduce),
            {
                "attribution": attribution,
                "completeness": torch.stack([explained, difference, explained - difference], 1),
            },
        )

    @torch.enable_grad()
    def _explained(self, model: VideoModel, frames: Tensor, start: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Returns a, and s_y(x) − s_y(x₀)."""
        reference = Reference()
        before = start.clone().requires_grad_()
        with reference.recorded().over(model.module, before):
            logits_before = model(before).detach()
        leaf = frames.clone().requires_grad_()
        with reference.compared().over(model.module, leaf):
            logits = model(leaf)
        reference.check_all_used()
        score = self._score(logits, target)
        check_only_known(score)
        multiplier = derivative(score, leaf)
        return multiplier * (frames - start), score.detach() - self._score(logits_before, target)

    def _score(self, logits: Tensor, target: Tensor) -> Tensor:
        own = logits.gather(1, target[:, None])[:, 0]
        return own - logits.mean(1) if self.normalise else own
