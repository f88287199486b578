"""Gradients summed along the straight line from a baseline to the frames."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum, auto
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from vidattr.config.fields import LATER, keyed_by_content
from vidattr.errors import ConfigError
from vidattr.methods.shared.blur import blurred
from vidattr.methods.shared.gradients import Polarity, Reduce, probe_gradients, to_map
from vidattr.methods.shared.scores import Score, scores
from vidattr.models.network.network import VideoModel
from vidattr.models.speed.lagging import onto
from vidattr.types import Explanation, Query
from vidattr.video.footage import UnreadableError
from vidattr.video.frame_folder import image


class Rule(StrEnum):
    """Where the gradient is taken in each of the S equal pieces of the line: at the left end, or in the middle."""

    left = auto()
    midpoint = auto()


class Baseline(StrEnum):
    """Where the line starts: a black or white clip, a clip of zeros, the blurred clip, or a picture of your own."""

    black = auto()
    white = auto()
    zero = auto()
    blur = auto()
    image = auto()


_OFFSETS: dict[Rule, float] = {Rule.left: 0.0, Rule.midpoint: 0.5}


@dataclass(frozen=True)
class IntegratedGradients:
    """Integrated gradients (Sundararajan et al., ICML 2017, eq. 1 and 3).

    a = (x − x₀) ⊙ (1/S) Σ_{i<S} ∂s_y/∂x at x₀ + α_i (x − x₀), with α_i = i/S for the left rule, as STEP's released code
    has it (Li et al., WACV 2021: S = 25, black baseline; the defaults), and (i + ½)/S for the midpoint rule, whose
    error falls with 1/S² instead of 1/S. The map is reduce_c polarity(a_c). Unlike the paper's eq. 3, which takes the
    gradient at the right ends, the left rule does not use the gradient at x itself.

    Completeness, Σ a = s_y(x) − s_y(x₀), holds in the limit of large S; the extras report the error for each clip,
    unless `completeness` is false.

    Attributes:
        steps: S.
        rule: left or midpoint.
        baseline: x₀. black, white: a clip of this colour as the network sees it, after its own mean and standard
            deviation. zero: 0 after them, the data set's mean colour. blur: each frame, blurred. image: the picture in
            `baseline_file`.
        blur_sigma: Standard deviation in pixels of the Gaussian of `baseline=blur`, its weights renormalised at the
            border.
        baseline_file: A PNG or JPEG, stretched to the frame and repeated in time; only with `baseline=image`.
        score: s_y: the logit (the paper), the probability, its logarithm, or its log-odds.
        polarity: Which part of a the map shows.
        reduce: How channels become one number.
        completeness: Whether the error of the completeness is computed, which takes a forward pass of each end of the
            line that is none of its points; the map does not depend on it.

    The explanation's extras: `attribution` (N, C, T, H, W), a itself; `completeness` (N, 3), unless it is switched off:
    Σ a, s_y(x) − s_y(x₀), and the first minus the second.

    Raises:
        ConfigError: steps or blur_sigma not positive; a missing or unreadable file; a file with another baseline than
            `image`.
    """

    version: ClassVar[int] = 1

    steps: int = 25
    rule: Rule = Rule.left
    baseline: Baseline = Baseline.black
    blur_sigma: float = 10.0
    baseline_file: str | None = keyed_by_content(None)
    score: Score = Score.logit
    polarity: Polarity = Polarity.both
    reduce: Reduce = Reduce.mean
    completeness: bool = field(default=True, metadata=LATER)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"method.steps={self.steps}", expected="a positive number")
        if not 0 < self.blur_sigma < math.inf:
            raise ConfigError(f"method.blur_sigma={self.blur_sigma}", expected="a positive number of pixels")
        if (self.baseline == Baseline.image) != (self.baseline_file is not None):
            raise ConfigError(
                f"method.baseline={self.baseline} with method.baseline_file={self.baseline_file}",
                remedy="set both method.baseline=image and method.baseline_file=FILE, or neither",
            )
        if self.baseline_file is not None and not Path(self.baseline_file).is_file():
            raise ConfigError(
                f"no such file: method.baseline_file={self.baseline_file}", expected="a PNG or JPEG picture"
            )

    @property
    def passes(self) -> int:
        """S for the gradients, and for the completeness each end of the line that is none of their points."""
        return self.steps + self.completeness * (1 if self.rule is Rule.left else 2)

    def start(self, model: VideoModel, frames: Tensor) -> Tensor:
        """Returns the baselines x₀ (N, C, T, H, W) of N clips; other methods with the same baselines call this too."""
        return _BASELINES[self.baseline](self, model, frames).expand_as(frames)

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Explains N clips, each by S forward and backward passes and the forward passes of the completeness.

        The left rule takes its first gradient at x₀: the score there needs no pass of its own.
        """
        frames = query.frames.detach()
        start = self.start(model, frames)
        way = frames - start
        first = _OFFSETS[self.rule] / self.steps
        fractions = torch.linspace(
            first, first + 1 - 1 / self.steps, self.steps, dtype=frames.dtype, device=frames.device
        )

        def point(i: int, k: int) -> Tensor:
            return start[i] + fractions[k] * way[i]

        total, values = torch.zeros_like(frames), frames.new_zeros(len(frames), self.steps)
        for i, _, gradient in probe_gradients(model, query.target, self.score, self.steps, point, values):
            total[i] += gradient
        attribution = way * total / self.steps
        map = to_map(attribution, self.polarity, self.reduce)
        if not self.completeness:
            return Explanation(map, {"attribution": attribution})
        explained = attribution.flatten(1).sum(1)
        at_start = values[:, 0] if self.rule is Rule.left else scores(model, start, query.target, self.score)
        difference = scores(model, frames, query.target, self.score) - at_start
        return Explanation(
            map,
            {
                "attribution": attribution,
                "completeness": torch.stack([explained, difference, explained - difference], 1),
            },
        )


def _image(method: IntegratedGradients, model: VideoModel, frames: Tensor) -> Tensor:
    """Returns the preprocessed picture in `baseline_file`, (1, C, 1, H, W)."""
    import cv2

    try:
        picture = image(Path(str(method.baseline_file)))
    except UnreadableError as error:
        expected = "a PNG or JPEG picture"
        raise ConfigError(
            f"cannot read method.baseline_file={method.baseline_file}: {error}", expected=expected
        ) from error
    H, W = frames.shape[3:]
    rgb = cv2.resize(picture, (W, H), interpolation=cv2.INTER_AREA)
    return model.view.normalise(onto(frames.device, torch.from_numpy(rgb)[None, None])).to(frames.dtype)


_BASELINES: dict[Baseline, Callable[[IntegratedGradients, VideoModel, Tensor], Tensor]] = {
    Baseline.black: lambda _method, model, frames: model.view.colour(frames, 0.0),
    Baseline.white: lambda _method, model, frames: model.view.colour(frames, 1.0),
    Baseline.zero: lambda _method, _model, frames: frames.new_zeros(()),
    Baseline.blur: lambda method, _model, frames: blurred(frames, method.blur_sigma),
    Baseline.image: _image,
}
