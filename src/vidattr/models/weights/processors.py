"""Facts about the transformers library's video classifiers: their tokens, sizes and preprocessing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from vidattr.errors import ConfigError
from vidattr.video.preprocessing import Geometry, Preprocessing

_RESIZED = {"do_resize": True, "resample": 2}  # of PIL's filters number 2 is the bilinear one


@dataclass(frozen=True)
class Family:
    """Facts about the video classifiers of one `model_type` of the transformers library.

    Attributes:
        frames: Entry of its configuration for the number of frames.
        side: The same for height and width.
        cls: Whether a class token precedes the others.
        divided: Whether tokens attend to time and space in turn; time is then fastest in their order.
        joint: Whether all tokens attend to all, and the head reads the class token, or the mean if there is none.
        offset: Whether its processor subtracts 1 after scaling, unless it says otherwise.
    """

    frames: str = "num_frames"
    side: str = "image_size"
    cls: bool = False
    divided: bool = False
    joint: bool = False
    offset: bool = False


FAMILIES = {
    "timesformer": Family(cls=True, divided=True),
    "videomae": Family(joint=True),
    "vivit": Family(cls=True, joint=True, offset=True),
    "vjepa2": Family(frames="frames_per_clip", side="crop_size"),  # an attentive pooler reads its tokens
}


def processor_view(config: Any, settings: Mapping[str, Any], view: Preprocessing) -> Preprocessing:
    """Returns the preprocessing of a processor's configuration: ((byte · factor − offset) − mean) / deviation."""
    family = FAMILIES[config.model_type]
    scaled, normalised = settings.get("do_rescale", True), settings.get("do_normalize", True)
    if normalised and not {"image_mean", "image_std"} <= settings.keys():
        raise ConfigError(
            "the processor's configuration names no image_mean and image_std", remedy="say model.processor=false"
        )
    other = {name: settings[name] for name in _RESIZED if settings.get(name, _RESIZED[name]) != _RESIZED[name]}
    if other:
        raise ConfigError(
            f"the processor's configuration has {', '.join(f'{name}={value}' for name, value in other.items())}",
            expected="one that resizes, and bilinear (resample=2)",
            remedy="say model.processor=false and the model.input of its training",
        )
    offset = float(scaled and settings.get("offset", family.offset))
    side = getattr(config, family.side)
    resized = settings.get("size", {})
    resized = resized if isinstance(resized, Mapping) else {"shortest_edge": resized}
    whole = [resized[name] for name in ("height", "width") if name in resized]
    return replace(
        view,
        frames=getattr(config, family.frames),
        size=list(side) if isinstance(side, list | tuple) else [side, side],
        geometry=Geometry.squash if whole and not settings.get("do_center_crop", False) else Geometry.crop,
        resize=whole or [resized[name] for name in ("shortest_edge",) if name in resized],
        mean=[float(mean) + offset for mean in settings["image_mean"]] if normalised else [offset] * 3,
        std=[float(std) for std in settings["image_std"]] if normalised else [1.0] * 3,
        max_value=255 * float(settings.get("rescale_factor", 1 / 255)) if scaled else 255.0,
    )
