"""Gradients averaged over superpixels in space and time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import ClassVar

from torch import Tensor

from vidattr.errors import MethodUndefinedError
from vidattr.methods.gradients.guided_backprop import GuidedBackprop
from vidattr.methods.shared.gradients import Polarity, Reduce, input_gradients, to_map
from vidattr.methods.shared.scores import Score
from vidattr.methods.shared.superpixels import SuperpixelOptions, superpixels
from vidattr.models.network.network import VideoModel
from vidattr.types import Explanation, Query


class Backward(StrEnum):
    """What is averaged: the gradient, the result of guided backpropagation, or the gradient times the frames."""

    gradient = auto()
    guided = auto()
    grad_x_input = auto()


@dataclass(frozen=True)
class SWAGV(SuperpixelOptions):
    """SWAG-V (Hartley, Sidorov, Willis and Marshall, WACV 2022): superpixels weighted by average gradients, for video.

    The map at a voxel of superpixel k is

        (1 / |k|) Σ_{q ∈ k} reduce_c polarity(a_c(q)),

    the mean over k's voxels of a map of pixel scores a; k spans several frames. It takes one forward and one backward
    pass.

    Unlike the papers of SWAG (WACV 2021) and SWAG-V, which also compare superpixels made of the gradients, superpixels
    are always made of the frames. Their number and compactness are those of the other superpixel methods here, so that
    methods are compared on the same superpixels.

    Attributes:
        backward: a: the gradient, the result of guided backpropagation, or the gradient times the frames.
        score: The score that is differentiated.
        polarity: Which part of a is averaged.
        reduce: How channels become one number.

    The other options are those of `SuperpixelOptions`.

    Raises:
        MethodUndefinedError: The network has no ReLUs for guided backpropagation.
    """

    version: ClassVar[int] = 1

    backward: Backward = Backward.gradient
    score: Score = Score.logit
    polarity: Polarity = Polarity.both
    reduce: Reduce = Reduce.mean

    @property
    def passes(self) -> int:
        """One."""
        return 1

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Explains N clips by one forward and one backward pass each."""
        parts = superpixels(query, model.view, self)
        attribution = _BACKWARD[self.backward](model, query, self.score)
        means = parts.means(to_map(attribution, self.polarity, self.reduce))
        return Explanation(parts.paint(means).float())


def _guided(model: VideoModel, query: Query, score: Score) -> Tensor:
    try:
        return GuidedBackprop(score=score)(model, query).extras["attribution"]
    except MethodUndefinedError as error:
        raise MethodUndefinedError(
            "method.backward=guided changes the backward pass of ReLUs, and none are found in this network",
            expected="a network of plain torch operations with ReLUs",
            remedy="method.backward=gradient",
        ) from error


def _gradient(model: VideoModel, query: Query, score: Score) -> Tensor:
    return input_gradients(model, query.frames, query.target, score)


_BACKWARD: dict[Backward, Callable[[VideoModel, Query, Score], Tensor]] = {
    Backward.guided: _guided,
    Backward.gradient: _gradient,
    Backward.grad_x_input: lambda model, query, score: _gradient(model, query, score) * query.frames.detach(),
}
