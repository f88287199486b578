"""Finds the layer where a network's numbers stop being finite, for a clip without valid class probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor, nn

from vidattr.errors import ClipError
from vidattr.models.network.network import VideoModel
from vidattr.models.network.output import Output

_REMEDY = "check the weights (a training that diverged) and what this layer divides by or takes the root of"


@torch.no_grad()
def complaint(network: VideoModel, frames: Tensor) -> ClipError:
    """Returns the error for one clip (1, C, T, H, W); it names the first layer whose output is not finite.

    The clip runs again, with a hook on every module. The message says if the layer was already given such numbers.
    """
    if not frames.isfinite().all():
        return ClipError("its preprocessed frames are not finite", remedy="check model.input.mean, std and max_value")
    found: list[str] = []

    def look(name: str, module: nn.Module, inputs: object, output: object) -> None:
        if not found and (kind := _kind(output)):
            before = "; its input, made by a step that is no layer, has such numbers" if _kind(inputs) else ""
            found.append(f"{kind} first in the output of layer {name!r} ({type(module).__name__}){before}")

    with ExitStack() as hooks:
        for name, module in network.module.named_modules():
            if name:
                hooks.callback(module.register_forward_hook(partial(look, name)).remove)
        returned = network.module(frames)
    if found:
        return ClipError(f"the network's answer is not finite: {found[0]}", remedy=_REMEDY)
    if kind := _kind(returned):
        return ClipError(
            f"the network's answer is not finite: {kind} first in its last step, which is no layer", remedy=_REMEDY
        )
    low, high = (float(value) for value in returned.aminmax())
    if network.output is Output.prob and (low < 0 or high > 1):
        found.append(
            f"the network returned values from {low:g} to {high:g}, and model.output=prob says they are probabilities"
        )
    if network.output is Output.logprob and high > 0:
        found.append(
            f"the network returned values up to {high:g}, and model.output=logprob says they are log probabilities"
        )
    if found:
        return ClipError(found[0], remedy="model.output=softmax or sigmoid, if they are logits")
    return ClipError(
        "the network's answer is not finite, but it is finite when each layer runs uncompiled in float32",
        remedy="runtime.precision=float32 runtime.compile=false",
    )


def _kind(value: object) -> str:
    """Returns "NaN" or "infinity" if the tensors of a value hold such a number, else ""."""
    found = ""
    for tensor in _tensors(value):
        if tensor.is_floating_point() and not tensor.isfinite().all():
            found = "NaN" if tensor.isnan().any() else found or "infinity"
    return found


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, Iterable) and isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)
