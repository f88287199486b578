"""A small transformer with joint space-time attention over tubes for planted clips, with weights in the package."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from math import sqrt
from typing import ClassVar

import torch
from torch import Tensor, nn

from vidattr.models.network.attention import Fuse, JointAttention
from vidattr.models.network.divided_attention import split_heads
from vidattr.models.network.network import VideoModel
from vidattr.models.network.unfold import tokens
from vidattr.models.planted.network import PlantedNetwork
from vidattr.models.planted.patches import ConvolutionalPatches, grid_of
from vidattr.models.timesformer import MLP

_WIDTH, _DEPTH, _HEADS, _TUBE = 32, 2, 4, 2


class JointSelfAttention(nn.Module):
    """Multi-head self-attention; the output of `weights` is what the values are multiplied by, (N, heads, S, S)."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(_WIDTH, 3 * _WIDTH), nn.Linear(_WIDTH, _WIDTH)
        self.weights = nn.Softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, S, width) to the same shape."""
        query, key, value = split_heads(self.qkv(x), _HEADS)
        weights = self.weights(query @ key.transpose(-1, -2) / sqrt(query.shape[-1]))
        out: Tensor = self.proj((weights @ value).transpose(1, 2).flatten(2))
        return out


class JointBlock(nn.Module):
    """x + attention over all tokens of the clip; + MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(_WIDTH), nn.LayerNorm(_WIDTH)
        self.attn, self.mlp = JointSelfAttention(), MLP(_WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, t·h·w, width) to the same shape."""
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class SmallJoint(nn.Module):
    """Tubes of 2 × 8 × 8, two blocks of joint attention, the mean of the tokens, one linear layer; 52 k parameters.

    Args:
        grid: (t, h, w) of the tokens.
        classes: K.
    """

    def __init__(self, grid: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        t, h, w = self.grid = grid
        self.patch_embed = ConvolutionalPatches(_WIDTH, _TUBE)
        self.pos_embed = nn.Parameter(torch.empty(1, t * h * w, _WIDTH))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.blocks = nn.ModuleList(JointBlock() for _ in range(_DEPTH))
        self.norm = nn.LayerNorm(_WIDTH)
        self.head = nn.Linear(_WIDTH, classes)

    def forward(self, frames: Tensor) -> Tensor:
        """Maps (N, 3, T, H, W) to (N, K) logits."""
        x = self.patch_embed(frames).transpose(1, 2).flatten(1, 2) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x).mean(1))
        return logits


def _attention(grid: tuple[int, int, int], network: VideoModel, frames: Tensor, fuse: Fuse) -> JointAttention:
    found: dict[str, Tensor] = {}

    def keep(name: str, _module: nn.Module, _inputs: object, weights: Tensor) -> None:
        found[name] = fuse(weights)

    names = [f"blocks.{n}.attn.weights" for n in range(_DEPTH)]
    with ExitStack() as hooks:
        for name in names:
            hooks.enter_context(network.hooked(name, partial(keep, name)))
        network(frames)
    return JointAttention(tuple(found[name] for name in names), grid, cls=False)


@dataclass(frozen=True)
class PlantedJoint(PlantedNetwork):
    """A small transformer of the kind of VideoMAE (Tong et al., NeurIPS 2022, arXiv 2203.12602), for planted clips.

    Every token of the clip attends to every other, and the head reads the mean of the tokens. Unlike the paper, it is
    not pre-trained, its place embedding is learned, and the tubes are made by three convolutions.

    Attributes:
        family: The family of planted clips whose weights `weights=package` stands for.
        weights: "package": trained by the recipe `planted`; "random": untrained; else a checkpoint file.
        classes: Names of the outputs (`weights.class_names`); None: the checkpoint's own.
        output: What the outputs are: logits of classes that exclude each other (softmax) or do not (sigmoid), or
            probabilities (prob), or their logarithms (logprob).
        input: Preprocessing; frames are a multiple of 2, height and width of 8, and weights fit one size.
    """

    version: ClassVar[int] = 1
    architecture: ClassVar[str] = "planted_joint"

    def load(self) -> VideoModel:
        """Returns the network, on the CPU; raises ConfigError if weights or class names are missing or do not fit."""
        grid = grid_of(self.input, _TUBE)
        module, classes = self.filled(partial(SmallJoint, grid))
        return VideoModel(
            module,
            self.input,
            classes,
            layer=f"blocks.{_DEPTH - 1}.norm1",
            unfold=tokens([grid], cls=False),
            attention=partial(_attention, grid),
            max_batch=32,
            output=self.output,
        )
