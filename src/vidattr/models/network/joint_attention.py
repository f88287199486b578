"""The attention weights of transformers whose tokens all attend to all others (ViViT, VideoMAE of HuggingFace)."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any

from torch import Tensor, nn

from vidattr.errors import ConfigError
from vidattr.models.network.attention import Fuse, JointAttention
from vidattr.models.network.network import VideoModel


def joint_attention(
    name: str, grid: tuple[int, int, int], cls: bool, network: VideoModel, frames: Tensor, fuse: Fuse
) -> JointAttention:
    """Runs the model with eager attention, the only kind that returns weights, and fuses each block's heads."""
    model: Any = getattr(network.module, "model")  # noqa: B009 - a Module to mypy
    found: dict[str, Tensor] = {}

    def keep(block: str, _module: nn.Module, _inputs: object, output: object) -> None:
        weights = output[1] if isinstance(output, tuple) and len(output) > 1 else None
        if block not in found and isinstance(weights, Tensor) and weights.ndim == 4:
            found[block] = fuse(weights)

    blocks = [f"{name}.{number}" for number in range(model.config.num_hidden_layers)]
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        with ExitStack() as hooks:
            for block in blocks:
                for part, child in network.module.get_submodule(block).named_modules():
                    if "Attention" in type(child).__name__:
                        hooks.enter_context(network.hooked(f"{block}.{part}", partial(keep, block)))
            network(frames)
    finally:
        model.set_attn_implementation(before)
    if len(found) != len(blocks):
        raise ConfigError(
            f"{len(found)} of {len(blocks)} blocks gave their attention weights",
            remedy="take another version of transformers",
        )
    return JointAttention(tuple(found[block] for block in blocks), grid, cls)
