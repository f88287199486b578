"""The Python interface: load a network, load a method, read a clip, explain."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from operator import index
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from vidattr.config.building import made
from vidattr.config.compose import part
from vidattr.config.runtime import Runtime
from vidattr.errors import ConfigError, VidattrError
from vidattr.models.network.finite import complaint
from vidattr.models.network.network import VideoModel
from vidattr.models.speed.memory import within_memory
from vidattr.protocols import Method, ModelConfig
from vidattr.run.batches import clip_seed, not_finite, upload
from vidattr.run.targets import class_index
from vidattr.types import Clip, Explanation, Query
from vidattr.video.decode import read as read_video

Folders = str | Path | Sequence[str | Path]


def load_model(
    name: str, *, device: str = "auto", max_batch: int = 8, add_configs: Folders = (), **fields: Any
) -> VideoModel:
    """Loads a network by the name of its config, with its weights, on the device.

    Args:
        name: As in `vidattr list models`.
        device: "auto", "cpu" or "cuda".
        max_batch: The largest number of clips in one forward pass.
        add_configs: A folder, or several, with configs of your own, as `--add-configs`; `$VIDATTR_ADD_CONFIGS` names
            more.
        fields: Fields of the model's config: `weights="r3d.pth"`, `input={"size": [112, 112]}`.

    Raises:
        ConfigError: An unknown name or field, or weights that do not fit.
    """
    runtime = cast(Runtime, made(Runtime, {"device": str(device), "max_batch": max_batch}, "load_model"))
    model = cast(ModelConfig, part("model", name, fields, add=_folders(add_configs)))
    return model.load().run_with(runtime)


def load_method(name: str, *, add_configs: Folders = (), **fields: Any) -> Method:
    """Loads an attribution method by the name of its config.

    Args:
        name: As in `vidattr list methods`.
        add_configs: A folder, or several, with configs of your own, as `--add-configs`; `$VIDATTR_ADD_CONFIGS` names
            more.
        fields: Fields of the method's config: `score="prob"`, `steps=50`.

    Raises:
        ConfigError: An unknown name or field, or a value of the wrong type.
    """
    return cast(Method, part("method", name, fields, add=_folders(add_configs)))


def _folders(named: Folders) -> list[Path]:
    return [Path(one) for one in ([named] if isinstance(named, str | Path) else named)]


def read_clip(path: str | Path, model: VideoModel) -> Tensor:
    """Reads a video, or a folder of numbered frames, as the network takes it; doubts become Python warnings.

    Returns:
        (1, C, T, H, W) float32 on the network's device.

    Raises:
        ClipError: The file is missing or cannot be decoded.
    """
    clip = Clip(id=Path(path).stem, source=Path(path))
    sample = read_video(clip, model.view)
    for text in sample.warnings:
        warnings.warn(f"{path}: {text}", stacklevel=2)
    return upload(model.view, model.device, [sample])


def explain(
    model: VideoModel,
    method: Method,
    frames: Tensor,
    target: Tensor | Sequence[int | str] | int | str,
    *,
    seed: int = 0,
) -> Explanation:
    """Explains N clips.

    Args:
        model: From `load_model`.
        method: From `load_method`.
        frames: (N, C, T, H, W) float32, exactly as the network takes it.
        target: The class to explain in each clip: (N,) int64, or a list of indices (3) or names ("3" is the class of
            this name, "#3" the fourth class), or a single one for all clips.
        seed: Seed of the method's random numbers; each clip gets a seed of its own from it.

    Returns:
        An explanation whose `map` is (N, T, H, W) float32 and whose `extras` hold further results of the method.

    Raises:
        ConfigError: Shapes that do not fit, or an unknown class.
        MethodUndefinedError: The method is not defined for this network.
        OutOfMemoryError: One clip alone needs more memory than there is.
        ClipError: A map is not finite; the message says whether the network's output is, and otherwise which layer's
            is not.
    """
    if not isinstance(frames, Tensor) or frames.ndim != 5 or not len(frames) or frames.shape[1] != len(model.view.mean):
        shown = (
            f"frames of shape {tuple(frames.shape)}"
            if isinstance(frames, Tensor)
            else f"frames that are a {type(frames).__name__}"
        )
        raise ConfigError(shown, expected=f"a tensor (N, {len(model.view.mean)}, T, H, W) of one or more clips")
    if not frames.isfinite().all():
        raise ConfigError(
            "frames hold a NaN or an infinite value", expected="finite numbers, as `read_clip` returns them"
        )
    if not isinstance(target, Tensor):
        asked = [target] * len(frames) if isinstance(target, int | str) else list(target)
        target = torch.tensor([class_index(model, one if isinstance(one, str) else index(one)) for one in asked])
    if target.shape != (len(frames),):
        raise ConfigError(
            f"target of shape {tuple(target.shape)} for {len(frames)} clips", expected=f"({len(frames)},)"
        )
    if len(target) and not 0 <= int(target.min()) <= int(target.max()) < len(model.classes):
        raise ConfigError(f"target={target.tolist()}", expected=f"classes 0 … {len(model.classes) - 1}")
    query = Query(
        frames=frames.to(model.device, torch.float32),
        target=target.to(model.device, torch.int64),
        seeds=tuple(clip_seed(seed, str(i)) for i in range(len(frames))),
    )
    try:
        found = within_memory(model, lambda: method(model, query))
    except (VidattrError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        model.check_takes(query.frames, error)
        raise
    for place, one in enumerate(found.map):
        if not one.isfinite().all():
            if not model.probabilities(query.frames[place : place + 1]).isfinite().all():
                raise complaint(model, query.frames[place : place + 1])
            raise not_finite(f"{type(method).__name__} for clip {place}", int((~one.isfinite()).sum()), one.numel())
    return found
