"""Exact reuse of unoccluded features: the first steps of a network run only on crops around the occluded box.

If the inputs of a step (`models/speed/prefix`) change in a box, its outputs change in a box. Each step runs once on the
whole clip. For an occlusion it runs again on the crop that the changed outputs depend on; these outputs are the changed
inputs of the next step. After the last step for which this saves work, the changed box is pasted into the outputs for
the whole clip, and the rest of the network runs as usual: the same arithmetic on the same numbers.

Volumes are (N, t, h, w, c) here, because the channels of a voxel are cut and pasted together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from vidattr.methods.occlusion.tubes import union_mask
from vidattr.models.network.network import VideoModel
from vidattr.models.speed.prefix import Prefix, Reach, Step
from vidattr.profiling import stage

_SHARE = 0.6  # largest share of a step's inputs for which a crop saves more than cutting and pasting cost

Cells = tuple[int, ...]  # on t, h and w
Number = TypeVar("Number", int, Tensor)


@dataclass(frozen=True)
class _Level:
    """One step and the part of it that runs again for an occlusion.

    Attributes:
        step: The step.
        inputs: Its inputs for the whole clips (N, t, h, w, c).
        outputs: Size of its outputs for them.
        crop: Size of the inputs of a run on a crop.
        box: Size of the outputs of that run that may differ from those for the whole clip.
    """

    step: Step
    inputs: Tensor
    outputs: Cells
    crop: Cells
    box: Cells

    def places(self, corner: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the corners (P, 3) of the crop, of the changed box, and of that box in the crop's outputs.

        Args:
            corner: (P, 3), where the inputs begin to change.
        """
        starts = [self._axis(axis, corner[:, axis]) for axis in range(3)]
        crop, box, inside = (torch.stack(axes, 1) for axes in zip(*starts, strict=True))
        return crop, box, inside

    def _axis(self, axis: int, corner: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        reach = self.step.reach[axis]
        box = _ceil(corner - reach.after, reach.stride).clamp(min=0, max=self.outputs[axis] - self.box[axis])
        crop = (box - _ceil(reach.before, reach.stride)) * reach.stride
        # Both bounds are multiples of the stride, so that the crop's outputs are a subset of the whole clip's.
        crop = crop.clamp(min=0, max=self.inputs.shape[1 + axis] - self.crop[axis])
        return crop, box, box - crop // reach.stride


class Reuse:
    """The first steps of a network on N whole clips, ready for occlusions of boxes of one size.

    Args:
        model: The network.
        prefix: Its first steps.
        frames: (N, C, T, H, W).
        fills: What replaces a box, (draws, N, C, T, H, W); one of the last three axes is 1 if the fill is constant
            along it.
        box: Size of the boxes.

    Attributes:
        levels: The steps that run on crops; empty if already the first crop is not clearly smaller than the clip.
    """

    def __init__(self, model: VideoModel, prefix: Prefix, frames: Tensor, fills: Tensor, box: Cells) -> None:
        self._model, self._prefix = model, prefix
        self._frames, self._fills = _last(frames), _last(fills.flatten(0, 1))
        self._box = box = _smaller(box, _size(self._frames))
        self._whole = self._frames  # the outputs of the last level
        self.levels: list[_Level] = []
        for step in prefix.steps:
            inputs = self._whole
            size = _size(inputs)
            crop, box = zip(*(_needed(*axis) for axis in zip(step.reach, size, box, strict=True)), strict=True)
            if math.prod(crop) > _SHARE * math.prod(size):
                break
            count = math.ceil(len(frames) / model.max_batch)
            self._whole = torch.cat(
                [_last(model.through(step, _first(clips))) for clips in torch.tensor_split(inputs, count)]
            )
            box = _smaller(box, _size(self._whole))
            self.levels.append(_Level(step, inputs, _size(self._whole), crop, box))

    def tensors(self) -> tuple[Tensor, ...]:
        """Returns the tensors of the whole clips: frames, fills, and what each step takes and the last one returns."""
        return self._frames, self._fills, self._whole, *(level.inputs for level in self.levels)

    def on(self, tensors: Sequence[Tensor]) -> Reuse:
        """Returns the same steps on other whole clips of the same sizes, given as `tensors` returns them."""
        other = copy(self)
        other._frames, other._fills, other._whole, *inputs = tensors
        other.levels = [replace(level, inputs=own) for level, own in zip(self.levels, inputs, strict=True)]
        return other

    def logits(self, clip: Tensor, draw: Tensor, rectangles: Tensor) -> Tensor:
        """Returns the logits (P, K) of P occlusions.

        Args:
            clip: (P,) index of the clip.
            draw: (P,) index of the fill.
            rectangles: (P, G, T, 4) as in `Tubes`; those of a row lie in a box of the size given.
        """
        rows = torch.arange(len(clip), device=clip.device)
        with stage("masks"):
            corner, changed = self._occluded(clip, draw, rectangles)
        for level in self.levels:
            with stage("masks"):
                crop, box, inside = level.places(corner)
                inputs = _paste(_cut(level.inputs, clip, crop, level.crop), corner - crop, changed)
            outputs = _last(self._model.through(level.step, _first(inputs)))
            with stage("masks"):
                corner, changed = box, _cut(outputs, rows, inside, level.box)
        with stage("masks"):
            volume = _paste(self._whole.index_select(0, clip), corner, changed)
        return self._model.resume(self._prefix, len(self.levels), _first(volume))

    def _occluded(self, clip: Tensor, draw: Tensor, rectangles: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the corners of the boxes (P, 3) and their content (P, t, h, w, C)."""
        size = _size(self._frames)
        top, bottom, left, _ = rectangles.long().unbind(3)
        time = torch.arange(size[0], device=clip.device).expand_as(top)
        # If nothing is occluded, the position of the box does not matter.
        starts = (start.where(bottom > top, size[axis]).amin((1, 2)) for axis, start in enumerate((time, top, left)))
        corner = torch.stack([start.clamp(max=size[axis] - self._box[axis]) for axis, start in enumerate(starts)], 1)
        frame = corner[:, :1] + torch.arange(self._box[0], device=clip.device)
        inside = rectangles.long().take_along_dim(frame[:, None, :, None], 2) - corner[:, None, None, [1, 1, 2, 2]]
        fill = _cut(self._fills, draw * len(self._frames) + clip, corner, self._box)
        plain = _cut(self._frames, clip, corner, self._box)
        return corner, torch.where(union_mask(inside, (self._box[1], self._box[2]))[..., None], fill, plain)


def reuse(model: VideoModel, frames: Tensor, fills: Tensor, box: Cells) -> Reuse | None:
    """Returns the first steps of a network on whole clips, or None if no step would run on crops."""
    prefix = model.prefix
    found = None if prefix is None else Reuse(model, prefix, frames, fills, box)
    return found if found is not None and found.levels else None


def _needed(reach: Reach, size: int, length: int) -> tuple[int, int]:
    """Returns the sizes of a crop and its outputs, for all outputs that depend on any of `length` of `size` inputs."""
    seen = (length - 1 + reach.before + reach.after) // reach.stride + 1
    crop = (seen - 1 + _ceil(reach.before, reach.stride)) * reach.stride + reach.after + 1
    # Enlarged so that the crop ends, from any multiple of the stride, with the same padding as the whole axis.
    return min(size, crop + (size - crop) % reach.stride), seen


def _ceil(number: Number, by: int) -> Number:
    return -(-number // by)


def _size(volume: Tensor) -> Cells:
    return tuple(volume.shape[1:4])


def _smaller(one: Cells, other: Cells) -> Cells:
    return tuple(min(pair) for pair in zip(one, other, strict=True))


def _last(volume: Tensor) -> Tensor:
    return volume.movedim(1, 4).contiguous()


def _first(volume: Tensor) -> Tensor:
    return volume.movedim(4, 1)


def _places(volume: Tensor, row: Tensor, corner: Tensor, size: Cells) -> Tensor:
    """Returns the flat indices of the voxels in a box of this size in each row; an axis of length 1 is repeated."""
    place = row.view(-1, 1, 1, 1)
    for axis, length in enumerate(_size(volume)):
        index = (corner[:, axis, None] + torch.arange(size[axis], device=corner.device)).clamp(max=length - 1)
        place = place * length + index.view(-1, *(size[axis] if axis == other else 1 for other in range(3)))
    return place.flatten()


def _cut(volume: Tensor, row: Tensor, corner: Tensor, size: Cells) -> Tensor:
    """Returns the boxes (P, *size, c) that begin at `corner` (P, 3) in rows (P,) of a volume (n, t, h, w, c)."""
    found = volume.flatten(0, 3).index_select(0, _places(volume, row, corner, size))
    return found.view(len(row), *size, volume.shape[4])


def _paste(volume: Tensor, corner: Tensor, box: Tensor) -> Tensor:
    """Writes boxes (P, t, h, w, c) into a volume of P rows, each at its corner, and returns it."""
    rows = torch.arange(len(volume), device=volume.device)
    volume.view(-1, volume.shape[4]).index_copy_(0, _places(volume, rows, corner, _size(box)), box.flatten(0, 3))
    return volume
