"""Loads networks, methods and metrics by name, takes live networks, and reads clips."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import Tensor, nn

from vidattr.config.building import made
from vidattr.config.runtime import Runtime
from vidattr.errors import ConfigError
from vidattr.models.custom import Custom
from vidattr.models.network.network import VideoModel
from vidattr.protocols import Method, Metric, ModelConfig
from vidattr.run.compose import part
from vidattr.run.reading import upload
from vidattr.types import Clip, Pixels, Sample
from vidattr.video.decode import read as read_video
from vidattr.video.preprocessing import Preprocessing

Folders = str | Path | Sequence[str | Path]
Video = str | Path | Pixels
"""A video file, a folder of numbered frames, or (T, H, W, 3) uint8 RGB frames."""

_BUILT = ("target", "arguments", "weights")  # fields of `Custom` that say how a network is built


def load_model(
    network: str | nn.Module, *, device: str = "auto", max_batch: int = 8, add_configs: Folders = (), **fields: Any
) -> VideoModel:
    """Loads a network by the name of its config, with its weights; or takes a network of yours.

    A network of yours, an `nn.Module`, is copied: yours keeps its device, its mode and its gradients, and what you
    change in it later does not change the copy. It is checked as `model=custom` is: a blank clip and one of noise have
    to give (N, K) logits, or what `output` says.

    Args:
        network: A name as in `vidattr list models`, or an `nn.Module`.
        device: "auto", "cpu" or "cuda".
        max_batch: The largest number of clips in one forward pass.
        add_configs: A folder, or several, with configs of your own, as `--add-configs`; `$VIDATTR_ADD_CONFIGS` names
            more.
        fields: Fields of the model's config: `weights="r3d.pth"`, `input={"size": [112, 112]}`. Of a network of yours:
            `input`, its preprocessing (`Preprocessing`) as a dictionary, or the name of a model with the same
            preprocessing; `layer`, the name of the module that computes the last convolutional features, which is
            searched for if it is not named; `classes`, a list of names, a file or the name of a known list; `output`;
            `axes="NTCHW"` for a network that takes (N, T, C, H, W).

    Raises:
        ConfigError: An unknown name or field, weights that do not fit, or a network that fails a check.
    """
    if isinstance(network, VideoModel):
        raise ConfigError("load_model of a network that is loaded already", remedy="use it as it is")
    runtime = cast(Runtime, made(Runtime, {"device": str(device), "max_batch": max_batch}, "load_model"))
    folders = _folders(add_configs)
    if isinstance(network, nn.Module):
        return _adopted(network, fields, folders).run_with(runtime)
    if not isinstance(network, str):
        raise ConfigError(
            f"load_model of a {type(network).__name__}", expected="the name of a model's config, or an nn.Module"
        )
    model = cast(ModelConfig, part("model", network, fields, add=folders)).load().run_with(runtime)
    model.name = network
    return model


def _adopted(module: nn.Module, given: Mapping[str, Any], folders: Sequence[Path]) -> VideoModel:
    """Returns a copy of a live network, checked."""
    settings = dict(given)
    for name in _BUILT:
        if name in settings:
            raise ConfigError(
                f"load_model({type(module).__name__}, {name}=…): the network is built already",
                expected=f"{', '.join(field.name for field in fields(Custom) if field.name not in _BUILT)}",
                remedy="load the weights into it first: network.load_state_dict(…)" if name == "weights" else None,
            )
    view = settings.get("input")
    if isinstance(view, str):
        settings["input"] = _plain(cast(ModelConfig, part("model", view, {}, add=folders)).input)
    elif isinstance(view, Preprocessing):
        settings["input"] = _plain(view)
    names = settings.pop("classes", None)
    if isinstance(names, str | Path):
        settings["classes"], names = str(names), None
    if (layer := settings.get("layer")) is not None and layer not in dict(module.named_modules()):
        settings["layer"] = None  # the error below lists the layers of the copy, with their shapes
    try:
        copy = deepcopy(module)
    except Exception as error:  # any part of a user's network may refuse
        raise ConfigError(
            f"{type(module).__name__} cannot be copied: {type(error).__name__}: {str(error)[:300]}",
            expected="a network that copy.deepcopy can copy, so that yours stays as it is",
            remedy="give load_model a new instance with the same weights, through a builder: model=custom",
        ) from error
    found = cast(Custom, part("model", "custom", settings)).adopt(copy, names)
    if layer is not None and found.layer != layer:
        with found.hooked(str(layer), lambda *_: None):
            pass
    return found


def _plain(view: Preprocessing) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, str) else value for name, value in asdict(view).items()}


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


def load_metric(name: str, *, add_configs: Folders = (), **fields: Any) -> Metric:
    """Loads a metric by the name of its config; arguments as those of `load_method`.

    Raises:
        ConfigError: An unknown name or field, or a value of the wrong type.
    """
    return cast(Metric, part("metric", name, fields, add=_folders(add_configs)))


def _folders(named: Folders) -> list[Path]:
    return [Path(one) for one in ([named] if isinstance(named, str | Path) else named)]


def read_clip(video: Video, model: VideoModel) -> Tensor:
    """Reads a clip as the network takes it; doubts become Python warnings.

    Args:
        video: A video file, a folder of numbered frames, or (T, H, W, 3) uint8 RGB frames.
        model: From `load_model`.

    Returns:
        (1, C, T, H, W) float32 on the network's device.

    Raises:
        ClipError: The file is missing or cannot be decoded.
    """
    return upload(model.view, model.device, [read_sample(video, model.view)[1]])


def read_sample(video: Video, view: Preprocessing, number: int = 0, level: int = 3) -> tuple[Clip, Sample]:
    """Reads a clip at the network's size; doubts become Python warnings.

    Args:
        video: As in `read_clip`.
        view: The network's preprocessing.
        number: Names the clip if it is not a file.
        level: How many calls the caller of the interface is above this function.
    """
    if isinstance(video, str | Path):
        clip = Clip(id=Path(video).stem, source=Path(video).expanduser())
    elif isinstance(video, np.ndarray) and video.dtype == np.uint8 and video.ndim == 4 and video.shape[3] == 3:
        clip = Clip(id=f"clip {number}", source=lambda: video)
    else:
        kind = f"{video.dtype} array {video.shape}" if isinstance(video, np.ndarray) else f"a {type(video).__name__}"
        raise ConfigError(
            f"a clip that is {kind}",
            expected="the path of a video or of a folder of frames, or (T, H, W, 3) uint8 RGB frames",
        )
    sample = read_video(clip, view)
    for text in sample.warnings:
        warnings.warn(f"{clip.id if callable(clip.source) else video}: {text}", stacklevel=level)
    return clip, sample
