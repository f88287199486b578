"""TimeSformer with divided space-time attention: each place attends over time, then each frame over space."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum, auto
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from vidattr.config.fields import keyed_by_content
from vidattr.errors import ConfigError
from vidattr.models.network.divided_attention import divided_attention, split_heads
from vidattr.models.network.network import VideoModel
from vidattr.models.network.output import Output
from vidattr.models.network.unfold import divided_tokens
from vidattr.models.weights.loading import WeightsOrigin, loaded
from vidattr.video.preprocessing import CropAt, Geometry, LongSide, Preprocessing, Sampling, Short

_PATCH = 16


class Release(StrEnum):
    """Who trained the checkpoint; the networks are equal, but names of weights and preprocessing differ."""

    mmaction2 = auto()
    facebook = auto()


class Attention(nn.Module):
    """Multi-head self-attention; queries, keys and values lie side by side in the output of `qkv`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (rows, S, width) to the same shape."""
        query, key, value = split_heads(self.qkv(x), self.heads)
        out: Tensor = self.proj(scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
        return out


class MLP(nn.Module):
    """Two linear layers and a GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (…, width) to the same shape."""
        out: Tensor = self.fc2(gelu(self.fc1(x)))
        return out


class Block(nn.Module):
    """x + temporal attention without the class token; + spatial attention, a copy of it in every frame; + MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.temporal_norm1, self.norm1, self.norm2 = (nn.LayerNorm(width, eps=1e-6) for _ in range(3))
        self.temporal_attn, self.attn = Attention(width, heads), Attention(width, heads)
        self.temporal_fc = nn.Linear(width, width)
        self.mlp = MLP(width)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """Maps (N, 1 + P·T, width), the class token first and then time fastest, to the same shape."""
        clips, _, width = x.shape
        cls, tokens = x[:, :1], x[:, 1:].reshape(clips, -1, frames, width)  # (N, P, T, width)
        over_time = self.temporal_attn(self.temporal_norm1(tokens.flatten(0, 1)))
        tokens = tokens + self.temporal_fc(over_time).view_as(tokens)
        scenes = torch.cat([cls.unsqueeze(1).expand(-1, frames, -1, -1), tokens.transpose(1, 2)], 2)
        over_space = self.attn(self.norm1(scenes.flatten(0, 1))).view_as(scenes)
        mixed = torch.cat(
            [over_space[:, :, 0].mean(1, keepdim=True), over_space[:, :, 1:].transpose(1, 2).flatten(1, 2)], 1
        )
        # One sum over all tokens, as in the authors' code: relevance is shared between the terms of each sum.
        x = torch.cat([cls, tokens.flatten(1, 2)], 1) + mixed
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class PatchEmbed(nn.Module):
    """One token for each patch of each frame."""

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, frames: Tensor) -> Tensor:
        """Maps (N, 3, T, H, W) to (N, P, T, width)."""
        tokens: Tensor = self.proj(frames.transpose(1, 2).flatten(0, 1))
        return tokens.view(*frames.shape[:3:2], tokens.shape[1], -1).permute(0, 3, 1, 2)


class TimeSformer(nn.Module):
    """Patches of every frame and one class token, through blocks of divided attention; the head reads the class token.

    Args:
        grid: (T, h, w): frames, and patches of each.
        classes: K.
        width: Channels of a token.
        depth: Number of blocks.
        heads: Of each attention.
        patch: Side of a patch in pixels.
    """

    def __init__(
        self,
        grid: tuple[int, int, int],
        classes: int,
        *,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        patch: int = _PATCH,
    ) -> None:
        super().__init__()
        frames, rows, columns = self.grid = grid
        self.heads = heads
        self.patch_embed = PatchEmbed(width, patch)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, rows * columns + 1, width))
        self.time_embed = nn.Parameter(torch.empty(1, frames, width))
        for embedding in (self.cls_token, self.pos_embed, self.time_embed):
            nn.init.trunc_normal_(embedding, std=0.02)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, classes)

    def forward(self, frames: Tensor) -> Tensor:
        """Maps (N, 3, T, H, W) to (N, K) logits."""
        tokens = self.patch_embed(frames) + self.pos_embed[:, 1:, None] + self.time_embed[:, None]
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(len(frames), -1, -1)
        x = torch.cat([cls, tokens.flatten(1, 2)], 1)
        for block in self.blocks:
            x = block(x, self.grid[0])
        logits: Tensor = self.head(self.norm(x)[:, 0])
        return logits


def network_of(
    module: TimeSformer, view: Preprocessing, classes: tuple[str, ...], output: Output = Output.softmax
) -> VideoModel:
    """Puts a TimeSformer of any size into a network that knows its features and its attention."""
    temporal, spatial = (
        [f"blocks.{n}.{part}.qkv" for n in range(len(module.blocks))] for part in ("temporal_attn", "attn")
    )
    return VideoModel(
        module,
        view,
        classes,
        layer=f"blocks.{len(module.blocks) - 1}.norm1",
        unfold=divided_tokens(module.grid),
        attention=divided_attention(temporal, spatial, module.heads, module.grid),
        output=output,
    )


_MMACTION2_NAMES = (
    (r"backbone\.transformer_layers\.layers\.(\d+)\.", r"blocks.\1."),
    (r"backbone\.patch_embed\.projection\.", "patch_embed.proj."),
    (r"backbone\.", ""),
    (r"cls_head\.fc_cls\.", "head."),
    (r"(blocks\.\d+\.)attentions\.0\.norm\.", r"\1temporal_norm1."),
    (r"(blocks\.\d+\.)attentions\.0\.attn\.", r"\1temporal_attn."),
    (r"(blocks\.\d+\.)attentions\.0\.temporal_fc\.", r"\1temporal_fc."),
    (r"(blocks\.\d+\.)attentions\.1\.norm\.", r"\1norm1."),
    (r"(blocks\.\d+\.)attentions\.1\.attn\.", r"\1attn."),
    (r"(blocks\.\d+\.\w+\.)in_proj_", r"\1qkv."),
    (r"(blocks\.\d+\.\w+\.)out_proj\.", r"\1proj."),
    (r"(blocks\.\d+\.)ffns\.0\.norm\.", r"\1norm2."),
    (r"(blocks\.\d+\.)ffns\.0\.layers\.0\.0\.", r"\1mlp.fc1."),
    (r"(blocks\.\d+\.)ffns\.0\.layers\.1\.", r"\1mlp.fc2."),
)
_FACEBOOK_NAMES = ((r"model\.", ""),)
_NAMES = {Release.mmaction2: _MMACTION2_NAMES, Release.facebook: _FACEBOOK_NAMES}
_ORIGIN = {
    Release.mmaction2: WeightsOrigin("mmaction2's configs/recognition/timesformer"),
    Release.facebook: WeightsOrigin("the README of facebookresearch/TimeSformer"),
}


def _renaming(names: tuple[tuple[str, str], ...]) -> Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]:
    def ours(name: str) -> str:
        for theirs, form in names:
            name = re.sub(f"^{theirs}", form, name)
        return name

    return lambda state: {ours(name): tensor for name, tensor in state.items()}


def _view() -> Preprocessing:
    return Preprocessing(
        frames=8,
        size=[224, 224],
        geometry=Geometry.crop,
        resize=[224],
        long_side=LongSide.nearest,
        crop_at=CropAt.floor,
        sampling=Sampling.center,
        stride=32,
        short=Short.loop,
        mean=[0.5, 0.5, 0.5],
        std=[0.5, 0.5, 0.5],
    )


@dataclass(frozen=True)
class TimeSformerB16:
    """TimeSformer (Bertasius et al., ICML 2021, arXiv 2102.05095), ViT-B/16 with divided space-time attention.

    Its features are the output of `norm1` of the last block, what the last spatial attention sees, without the class
    token: (N, 768, T, H/16, W/16).

    Checkpoints, all for frames of 224 × 224 but the HR of 16 frames of 448 × 448:

    * mmaction2's `timesformer_divST_8xb8-8x32x1-15e_kinetics400-rgb_*.pth`, under `state_dict`: `backbone.cls_token`,
      `.pos_embed`, `.time_embed`, `.patch_embed.projection.*`, `.norm.*`,
      `.transformer_layers.layers.0.attentions.0.norm.*`, `.attn.in_proj_weight`, `.attn.in_proj_bias`,
      `.attn.out_proj.*`, `.temporal_fc.*` (time), `.attentions.1.*` (space), `.ffns.0.norm.*`, `.ffns.0.layers.0.0.*`,
      `.ffns.0.layers.1.*`; `cls_head.fc_cls.*`.
    * TimeSformer's own `TimeSformer_divST_{8x32_224,16x16_448,96x4_224}_{K400,K600}.pyth`, under `model_state`:
      `model.cls_token`, `.pos_embed`, `.time_embed`, `.patch_embed.proj.*`, `.norm.*`, `.head.*`,
      `.blocks.0.{norm1,attn.qkv,attn.proj,temporal_norm1,temporal_attn.qkv,temporal_attn.proj,temporal_fc,norm2,mlp.fc1,mlp.fc2}.*`.

    Attributes:
        release: Who trained the checkpoint. The other release's is refused, because its preprocessing differs.
        weights: The checkpoint file; "random": untrained, to train from
            scratch or to measure speed.
        classes: Names of the outputs (`weights.class_names`). The released file's names are kinetics400
            (mmaction2: label_map_k400.txt; the authors': Kinetics' own, as they say).
        output: What the outputs are: logits of classes that exclude each other (softmax) or do not (sigmoid), or
            probabilities (prob), or their logarithms (logprob).
        input: Preprocessing: the short side 224, the centre 224 × 224 (the middle one of the three crops of both
            tests). mmaction2: every 32nd of the 225 middle frames, a shorter clip begun again, mean and deviation 0.5.
            The authors' own YAML: 8 numbers spread over the first 256 frames of 30 a second, the last one repeated; the
            crop's offset rounded up; mean 0.45 and deviation 0.225. `input.frames` and `input.size` have to be the
            checkpoint's.
    """

    version: ClassVar[int] = 2

    release: Release = Release.mmaction2
    weights: str | None = keyed_by_content(None)
    classes: str | None = keyed_by_content("released:kinetics400")
    output: Output = Output.softmax
    input: Preprocessing = field(default_factory=_view)

    def __post_init__(self) -> None:
        if any(side % _PATCH for side in self.input.size):
            raise ConfigError(
                f"model.input.size={list(self.input.size)}", expected=f"multiples of {_PATCH}, the side of a patch"
            )

    def weights_file(self) -> Path | None:
        """Returns the checkpoint file; None for random weights, and where none are named."""
        return _ORIGIN[self.release].file(self.weights)

    def load(self) -> VideoModel:
        """Returns the network, on the CPU; raises ConfigError if weights or class names are missing or do not fit."""
        height, width = self.input.size
        grid = (self.input.frames, height // _PATCH, width // _PATCH)
        module, classes = loaded(
            self.weights,
            _ORIGIN[self.release],
            partial(TimeSformer, grid),
            "head.weight",
            self.classes,
            untrained_classes=400,
            rename=_renaming(_NAMES[self.release]),
        )
        return network_of(module, self.input, classes, self.output)
