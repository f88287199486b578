"""Explains clips: files, arrays of frames, or tensors as the network takes them."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any, cast, overload

import numpy as np
import torch
from torch import Tensor, nn

from vidattr.api.explanation import ClipExplanation
from vidattr.api.loading import Video, load_method, load_model, read_sample
from vidattr.errors import ConfigError, VidattrError
from vidattr.labels import plain
from vidattr.models.network.finite import complaint
from vidattr.models.network.network import VideoModel
from vidattr.models.speed.memory import within_memory
from vidattr.protocols import Method
from vidattr.run.batches import clip_seed
from vidattr.run.maps import not_finite
from vidattr.run.reading import upload
from vidattr.run.targets import class_index
from vidattr.types import Query

Target = Tensor | Sequence[int | str] | int | str
Network = str | nn.Module | VideoModel

_RANKS = {"predicted": 0, "second": 1}
_POSITIONS = ("model", "method", "frames", "target")


@overload
def explain(
    model: nn.Module | VideoModel,
    method: str | Method,
    frames: Tensor | Video | Sequence[Video],
    target: Target = "predicted",
    *,
    seed: int = 0,
) -> ClipExplanation: ...


@overload
def explain(
    frames: Video | Sequence[Video] | Tensor,
    *,
    model: Network,
    method: str | Method,
    target: Target = "predicted",
    seed: int = 0,
) -> ClipExplanation: ...


def explain(*given: Any, seed: int = 0, **named: Any) -> ClipExplanation:
    """Explains N clips: `explain("clip.mp4", model="r2plus1d_18", method="grad_cam", target="predicted")`.

    `explain(model, method, frames, target)` is the same call with all arguments by position.

    Args:
        given: The clips, or the arguments by position.
        seed: Seed of the method's random numbers; each clip gets a seed of its own from it.
        named: `frames`, the clips: the path of a video or of a folder of frames, (T, H, W, 3) uint8 RGB frames, a list
            of these, or a tensor (N, C, T, H, W) float32, exactly as the network takes it.
            `model`: from `load_model`, or a name or an `nn.Module` that it takes. A network that explains more than
            once is better loaded first: a name or a module is loaded by every call.
            `method`: from `load_method`, or the name of a method.
            `target`: the class to explain: "predicted", the most probable one; "second", the second most probable; its
            name; its index as "#3"; an integer; or one of these for each clip, in a list or as a tensor (N,) int64.

    Returns:
        An explanation whose `map` is (N, T, H, W) float32 and whose `extras` hold further results of the method.

    Raises:
        ConfigError: An unknown name, shapes that do not fit, or an unknown class.
        MethodUndefinedError: The method is not defined for this network.
        OutOfMemoryError: One clip alone needs more memory than there is.
        ClipError: A clip cannot be read, or a map is not finite; the message says whether the network's output is, and
            otherwise which layer's is not.
    """
    asked = _arguments(given, named)
    network = asked["model"] if isinstance(asked["model"], VideoModel) else load_model(asked["model"])
    method = load_method(asked["method"]) if isinstance(asked["method"], str) else cast(Method, asked["method"])
    name = asked["method"] if isinstance(asked["method"], str) else type(method).__name__
    about: dict[str, Any] = {}
    if isinstance(asked["frames"], Tensor):
        frames = _checked(asked["frames"], network)
    else:
        frames, about = _read(asked["frames"], network)
    frames = frames.to(network.device, torch.float32)
    target, probabilities = _targets(network, frames, asked["target"])
    query = Query(frames, target, tuple(clip_seed(seed, str(i)) for i in range(len(frames))))
    try:
        found = within_memory(network, lambda: method(network, query))
    except (VidattrError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        network.check_takes(query.frames, error)
        raise
    for place, one in enumerate(found.map):
        if not one.isfinite().all():
            if not network.probabilities(query.frames[place : place + 1]).isfinite().all():
                raise complaint(network, query.frames[place : place + 1])
            raise not_finite(f"{type(method).__name__} for clip {place}", int((~one.isfinite()).sum()), one.numel())
    if probabilities is None:
        probabilities = within_memory(network, lambda: network.probabilities(frames))
    return ClipExplanation.of(
        found, name=name, method=method, network=network, query=query, shares=probabilities, **about
    )


def _arguments(given: Sequence[Any], named: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments by name; the first one by position is the network, or the clips."""
    first = given[0] if given else None
    by_place = _POSITIONS if isinstance(first, VideoModel | nn.Module) else ("frames", "model", "method", "target")
    asked = dict(zip(by_place, given, strict=False))
    if twice := sorted(asked.keys() & named.keys()) or len(given) > len(by_place):
        raise TypeError(f"explain() got {'more arguments than four' if twice is True else f'{twice[0]} twice'}")
    asked |= named
    if wrong := asked.keys() - set(_POSITIONS):
        raise TypeError(f"explain() has no argument {sorted(wrong)[0]!r}; it takes {', '.join(_POSITIONS)} and seed")
    remedies = {
        "frames": "explain('clip.mp4', model=…, method=…)",
        "model": "model='r2plus1d_18', a network of yours, or load_model(…); `vidattr list models` lists the names",
        "method": "method='grad_cam', or load_method(…); `vidattr list methods` lists the names",
    }
    for name, remedy in remedies.items():
        if asked.get(name) is None:
            raise ConfigError(f"explain was given no {name}", remedy=remedy)
    if not isinstance(asked["method"], str) and not callable(asked["method"]):
        raise ConfigError(f"method is a {type(asked['method']).__name__}", remedy=remedies["method"])
    return {"target": "predicted", **asked}


def _checked(frames: Tensor, network: VideoModel) -> Tensor:
    channels = len(network.view.mean)
    if frames.ndim != 5 or not len(frames) or frames.shape[1] != channels:
        raise ConfigError(
            f"frames of shape {tuple(frames.shape)}", expected=f"a tensor (N, {channels}, T, H, W) of one or more clips"
        )
    if not frames.isfinite().all():
        raise ConfigError(
            "frames hold a NaN or an infinite value", expected="finite numbers, as `read_clip` returns them"
        )
    return frames


def _read(videos: Any, network: VideoModel) -> tuple[Tensor, dict[str, Any]]:
    """Returns the frames of some clips, and what is known of them: ids, frame numbers, seconds and pixels."""
    listed = list(videos) if isinstance(videos, list | tuple) else [videos]
    if not listed:
        raise ConfigError("explain was given an empty list of clips", expected="one or more clips")
    read = [read_sample(video, network.view, number, level=4) for number, video in enumerate(listed)]
    samples = [sample for _, sample in read]
    numbers = np.array([sample.numbers for sample in samples])
    about = {
        "clips": tuple(clip.id for clip, _ in read),
        "frames": numbers,
        "seconds": np.array([sample.seconds or [np.nan] * numbers.shape[1] for sample in samples]),
        "pixels": np.stack([sample.pixels for sample in samples]),
    }
    return upload(network.view, network.device, samples), about


def _targets(network: VideoModel, frames: Tensor, target: Target) -> tuple[Tensor, Tensor | None]:
    """Returns the index of the class to explain in each clip (N,), and the class probabilities if they were needed."""
    count = len(frames)
    shares = None
    if not isinstance(target, Tensor):
        names = [target] * count if isinstance(target, int | str) else list(target)
        if any(_rank(network, name) is not None for name in names):
            shares = within_memory(network, lambda: network.probabilities(frames))
            if not shares.isfinite().all():
                place = int((~shares.isfinite().all(1)).nonzero()[0])
                raise complaint(network, frames[place : place + 1])
            if len(network.classes) == 1 and "second" in names:
                raise ConfigError("target='second' of a network with one class", expected="target='predicted'")
        target = torch.tensor([_class(network, name, shares, place) for place, name in enumerate(names)])
    if target.shape != (count,):
        raise ConfigError(f"target of shape {tuple(target.shape)} for {count} clips", expected=f"({count},)")
    if not 0 <= int(target.min()) <= int(target.max()) < len(network.classes):
        raise ConfigError(f"target={target.tolist()}", expected=f"classes 0 … {len(network.classes) - 1}")
    return target.to(network.device, torch.int64), shares


def _rank(network: VideoModel, name: object) -> int | None:
    """Returns 0 for "predicted" and 1 for "second", unless that is the name of a class; None for anything else."""
    return None if not isinstance(name, str) or plain(name) in network.places else _RANKS.get(name)


def _class(network: VideoModel, name: int | str, shares: Tensor | None, place: int) -> int:
    rank = _rank(network, name)
    if rank is not None and shares is not None:
        return int(shares[place].topk(rank + 1).indices[rank])
    return class_index(network, name if isinstance(name, str) else index(name))
