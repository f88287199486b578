"""Every kind of network, with random weights and on a clip so small that all methods can be tried on all of them."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torchvision.models.video.mvit import MSBlockConfig, MViT

from vidattr.config.building import build
from vidattr.errors import MethodUndefinedError
from vidattr.models import huggingface, timesformer
from vidattr.models.network.network import VideoModel
from vidattr.models.torchvision_video import unfold_mvit
from vidattr.models.weights.class_names import anonymous
from vidattr.models.weights.filling import untrained
from vidattr.protocols import Method
from vidattr.run.compose import choice
from vidattr.types import Query
from vidattr.video.preprocessing import Preprocessing

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
METHODS = [
    path.stem for path in sorted((CONFIGS / "method").glob("*.yaml")) if not path.stem.endswith(("_demo", "_tcsvt"))
]
"""Of a class all variants but the profiles of released code, which differ in numbers only."""


@dataclass(frozen=True)
class Small:
    """One kind of network.

    Attributes:
        make: Makes it.
        stands_for: The models of `configs/model` that are built alike: itself, and those of more layers or of another
            release.
    """

    make: Callable[[], VideoModel]
    stands_for: tuple[str, ...]


def config(role: str, name: str, **fields: Any) -> Any:
    """Returns the plug-in that a config describes, some of its fields changed."""
    node = OmegaConf.merge(choice(role, name), fields)
    assert isinstance(node, DictConfig)
    return build(node, f"{role}={name}")


def untrained_network(name: str, **view: Any) -> VideoModel:
    """Returns a model of `configs/model` with random weights, with some of its `input` changed."""
    network: VideoModel = config("model", name, weights="random", input=view).load()
    return network


def _small(name: str, frames: int, side: int, *like: str) -> Small:
    return Small(lambda: untrained_network(name, frames=frames, size=[side, side]), (name, *like))


def _s3d() -> VideoModel:
    network = untrained_network("s3d")
    # 2 × 7 × 7 takes clips of 14 × 224².
    network.module.get_submodule("avgpool").kernel_size = (1, 2, 2)  # type: ignore[assignment]
    network.view = dataclasses.replace(network.view, frames=8, size=[64, 64])
    return network


def _mvit() -> VideoModel:
    """One block of each stage, of fewer channels."""
    blocks = [
        MSBlockConfig(heads, channels, channels * (2 if heads < 8 else 1), [3] * 3, [3] * 3, [1, q, q], [1, kv, kv])
        for heads, channels, q, kv in ((1, 16, 1, 8), (2, 32, 2, 4), (4, 64, 2, 2), (8, 128, 2, 1))
    ]
    options = {"residual_pool": True, "residual_with_cls_embed": False, "rel_pos_embed": True, "proj_after_attn": True}
    module = untrained(lambda: MViT((64, 64), 4, blocks, num_classes=10, **options))
    view = Preprocessing(frames=4, size=[64, 64])
    return VideoModel(module, view, anonymous(10), layer="blocks.3.norm1", unfold=unfold_mvit(view))


def _timesformer() -> VideoModel:
    module = untrained(lambda: timesformer.TimeSformer((4, 2, 2), 10, width=32, depth=2, heads=4))
    return timesformer.network_of(module, Preprocessing(frames=4, size=[32, 32]), anonymous(10))


_SIZES = {"hidden_size": 24, "num_attention_heads": 2, "num_hidden_layers": 2, "num_labels": 10}
_IMAGE = {"image_size": 32, "num_frames": 4, "intermediate_size": 48}
_POOLER = {
    "mlp_ratio": 2,
    "num_pooler_layers": 1,
    "pred_hidden_size": 24,
    "pred_num_attention_heads": 2,
    "pred_num_hidden_layers": 1,
}
_TRANSFORMERS: dict[str, dict[str, Any]] = {
    "timesformer": {**_IMAGE, "patch_size": 16},
    "videomae": {**_IMAGE, "patch_size": 16, "tubelet_size": 2, "use_mean_pooling": True},
    "vivit": {**_IMAGE, "tubelet_size": [2, 16, 16]},
    "vjepa2": {"crop_size": 32, "patch_size": 16, "frames_per_clip": 4, "tubelet_size": 2, **_POOLER},
}


def _transformers(kind: str) -> VideoModel:
    library: Any = importlib.import_module("transformers")  # seconds, and not everyone has it
    settings = library.AutoConfig.for_model(kind, **_SIZES, **_TRANSFORMERS[kind])
    model = untrained(lambda: library.AutoModelForVideoClassification.from_config(settings))
    return huggingface.network_of(huggingface.Clips(model), Preprocessing(frames=4, size=[32, 32]), anonymous(10))


_HARA = tuple(f"{kind}_{depth}" for kind in ("r3d", "r2plus1d") for depth in (34, 50, 101))
_SLOWFAST = ("slowfast_r50_4x16_pyslowfast", "slowfast_r50_8x8", "slowfast_r50_8x8_pyslowfast")

CONVOLUTIONAL = {
    "r3d_18": _small("r3d_18", 4, 32, "mc3_18", "r2plus1d_18", "r2plus1d_18_finetuned"),
    "hara_r3d_18": _small("hara_r3d_18", 4, 40, "hara_r2plus1d_18", *_HARA),
    "i3d": _small("i3d", 4, 40),
    "s3d": Small(_s3d, ("s3d",)),
    "mfnet": _small("mfnet", 4, 40),
    "slowfast_r50_4x16": _small("slowfast_r50_4x16", 8, 40, *_SLOWFAST),
    "tsm_r50": _small("tsm_r50", 4, 40),
    "tiny_r2plus1d": _small("tiny_r2plus1d", 4, 32),
    "ucf101_r2plus1d_light": _small("ucf101_r2plus1d_light", 8, 32),
    "ucf101_c3d_light": _small("ucf101_c3d_light", 8, 32),
    **{f"planted_{kind}": _small(f"planted_{kind}", 8, 32) for kind in ("c3d", "r2plus1d", "tsm")},
}
RECURRENT = {
    "vgg16lstm": _small("vgg16lstm", 4, 32, "vgg16lstm_finetuned"),
    "resnet50lstm": _small("resnet50lstm", 4, 40),
    "ucf50_lrcn": _small("ucf50_lrcn", 4, 128),
    "tiny_cnn_lstm": _small("tiny_cnn_lstm", 4, 64),
    "planted_cnn_lstm": _small("planted_cnn_lstm", 8, 32),
}
ATTENTIVE = {
    "timesformer": Small(_timesformer, ("timesformer", "timesformer_facebook")),
    "mvit_v2_s": Small(_mvit, ("mvit_v2_s",)),
    "swin3d_t": _small("swin3d_t", 4, 32),
    **{f"planted_{kind}": _small(f"planted_{kind}", 8, 32) for kind in ("divided", "joint")},
    **{f"hf: {kind}": Small(partial(_transformers, kind), ("hf",)) for kind in _TRANSFORMERS},
}


def _add_missing() -> None:
    """Adds each model of `configs/model` that no table names, to the only kind of its class or as a new kind."""
    tables = (CONVOLUTIONAL, RECURRENT, ATTENTIVE)
    named = {other for table in tables for small in table.values() for other in small.stands_for}
    for path in sorted((CONFIGS / "model").glob("*.yaml")):
        if path.stem in named or path.stem == "custom":  # whatever the user's builder returns
            continue
        of_class = type(config("model", path.stem))
        kinds = [
            (table, kind)
            for table in tables
            for kind in table
            if not kind.startswith("hf: ") and type(config("model", kind)) is of_class
        ]
        if len(kinds) == 1:
            table, kind = kinds[0]
            table[kind] = dataclasses.replace(table[kind], stands_for=(*table[kind].stands_for, path.stem))
        else:
            CONVOLUTIONAL[path.stem] = Small(partial(smallest, path.stem), (path.stem,))


def smallest(name: str) -> VideoModel:
    """Returns an untrained network at the smallest of some sizes that it takes, or at its own size."""
    for frames, side in ((4, 32), (4, 40), (8, 40), (8, 64), (16, 64), (16, 112)):
        try:
            network = untrained_network(name, frames=frames, size=[side, side])
            network(torch.zeros(1, 3, frames, side, side))
        except Exception:  # whatever a network does with a clip that is too small for it
            continue
        return network
    return untrained_network(name)


_add_missing()
SMALL = CONVOLUTIONAL | RECURRENT | ATTENTIVE
"""Every kind of network, by the name of the smallest model of the kind."""


@cache
def small_network(name: str) -> VideoModel:
    """Returns the network of a kind, built once: nobody may change it."""
    return SMALL[name].make()


def query(network: VideoModel) -> Query:
    """Returns one clip of noise, as the network takes it."""
    view = network.view
    pixels = torch.randint(
        256, (1, view.frames, *view.size, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    return Query(view.normalise(pixels), torch.tensor([1]), (0,))


def clip_size(view: Preprocessing) -> str:
    """Returns the size of a clip for people: 16 × 112²."""
    height, width = view.size
    return f"{view.frames} × {height}²" if height == width else f"{view.frames} × {height} × {width}"


def quick(name: str, network: VideoModel) -> Method:
    """Returns a method that takes few passes: whether it is defined does not depend on how many."""
    side = min(network.view.size)
    fields: dict[str, Any] = {"steps": 1, "n": 1, "masks": 2, "cells_t": 2, "cells_h": 2, "cells_w": 2}
    fields |= {"stride": side // 2, "size": side // 2, "window": side // 2, "stride_frames": 4}
    fields |= {"iterations": 1, "areas": [0.2], "core_kernel": [1, 3, 3], "smooth_sigma": 1.0, "seed_step": side // 4}
    known = choice("method", name)
    numbers = {field: value for field, value in fields.items() if field in known and not isinstance(known[field], str)}
    method: Method = config("method", name, **numbers)
    return method


def refusal(name: str, network: VideoModel, clip: Query) -> str | None:
    """Explains a clip and returns None, or why the method is not defined for this network.

    Raises:
        ValueError: It gave a map that is not one finite number per voxel.
    """
    method = quick(name, network)
    try:
        found = method(network, clip).map
    except MethodUndefinedError as error:
        return error.found
    if found.shape != (1, *clip.frames.shape[2:]) or not found.isfinite().all():
        raise ValueError(f"{name}: a map of shape {tuple(found.shape)}, or one that is not finite")
    return None
