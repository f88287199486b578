"""torchvision's video networks beside the ResNets: S3D, MViTv2-S and Video Swin-T, trained on Kinetics-400."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum, auto
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from torchvision.models.video import MViT_V2_S_Weights, S3D_Weights, Swin3D_T_Weights, mvit_v2_s, s3d, swin3d_t

from vidattr.config.fields import keyed_by_content
from vidattr.errors import ConfigError
from vidattr.models.network.network import VideoModel
from vidattr.models.network.output import Output
from vidattr.models.network.unfold import Unfold, channels_last, tokens
from vidattr.models.weights.loading import WeightsOrigin, loaded
from vidattr.models.weights.torchvision import download
from vidattr.video.preprocessing import Geometry, Preprocessing, Sampling


class Architecture(StrEnum):
    """A separable Inception, a multiscale transformer that pools its tokens, a transformer of shifted windows."""

    s3d = auto()
    mvit_v2_s = auto()
    swin3d_t = auto()


def _swin(num_classes: int) -> nn.Module:
    module: Any = swin3d_t(num_classes=num_classes)
    # Where channels are in their place, before the average, no module of its own stands.
    module.avgpool = nn.Sequential(OrderedDict(volume=nn.Identity(), mean=module.avgpool))
    built: nn.Module = module
    return built


def unfold_mvit(view: Preprocessing) -> Unfold:
    """Returns what turns an MViT's tokens, the class token first, into (N, c, t, h, w).

    At first there are T/2 × H/4 × W/4 tokens; each pooling halves h and w.
    """
    t, rows, columns = view.frames // 2, view.size[0] // 4, view.size[1] // 4
    return tokens([(t, rows >> halvings, columns >> halvings) for halvings in range(4)], cls=True)


def unfold_swin(view: Preprocessing) -> Unfold:
    """Returns what turns a Swin transformer's features, nearly all of them channels last, into (N, c, t, h, w).

    At first they are T/2 × H/4 × W/4; each merging halves h and w, rounded up.
    """
    t, rows, columns = (-(-length // patch) for length, patch in zip((view.frames, *view.size), (2, 4, 4), strict=True))
    return channels_last([(t, -(-rows // 2**halvings), -(-columns // 2**halvings)) for halvings in range(4)])


@dataclass(frozen=True)
class _Known:
    """Facts about an architecture: how it is built, its released weights, its layers, the sizes that it takes."""

    build: Callable[..., nn.Module]
    origin: WeightsOrigin
    head: str
    layer: str
    frames: range
    sides: range
    unfold: Callable[[Preprocessing], Unfold] | None = None
    memory_format: torch.memory_format = torch.contiguous_format


_KNOWN = {
    Architecture.s3d: _Known(
        s3d,
        WeightsOrigin(released=partial(download, S3D_Weights.KINETICS400_V1)),
        head="classifier.1.weight",
        layer="features",
        frames=range(14, sys.maxsize),
        sides=range(224, sys.maxsize),
        memory_format=torch.channels_last_3d,
    ),
    Architecture.mvit_v2_s: _Known(
        mvit_v2_s,
        WeightsOrigin(released=partial(download, MViT_V2_S_Weights.KINETICS400_V1)),
        head="head.1.weight",
        layer="blocks.15.norm1",
        frames=range(16, 17),
        sides=range(224, 225),
        unfold=unfold_mvit,
    ),
    Architecture.swin3d_t: _Known(
        _swin,
        WeightsOrigin(released=partial(download, Swin3D_T_Weights.KINETICS400_V1)),
        head="head.weight",
        layer="avgpool.volume",
        frames=range(1, sys.maxsize),
        sides=range(1, sys.maxsize),
        unfold=unfold_swin,
    ),
}


def _view() -> Preprocessing:
    return Preprocessing(
        frames=128,
        size=[224, 224],
        geometry=Geometry.crop,
        resize=[256, 256],
        sampling=Sampling.center,
        fps=15.0,
        place=0.0,
        mean=[0.43216, 0.394666, 0.37645],
        std=[0.22803, 0.22145, 0.216989],
    )


@dataclass(frozen=True)
class TorchvisionVideo:
    """A video network as torchvision builds it, each with a preprocessing of its own, which its YAML says.

    * s3d (Xie et al., ECCV 2018, arXiv 1712.04851). Features: the output of `features`, (N, 1024, T/8, H/32, W/32). It
      averages windows of 2 × 7 × 7 of them, and then the windows: with 16 frames there is one window, and Saliency
      Tubes use the features; with more frames they use the windows.
    * mvit_v2_s (Li et al., CVPR 2022, arXiv 2112.01526), 16 frames of 224 × 224. Features: the output of the last
      block's `norm1` without the class token, which the head reads, (N, 768, 8, 7, 7).
    * swin3d_t (Liu et al., CVPR 2022, arXiv 2106.13230), 32 frames. Features: what is averaged for the head,
      (N, 768, T/2, H/32, W/32), `avgpool.volume`. Nearly all other layers put channels last, and `VideoModel.volume`
      puts them in place.

    Attributes:
        architecture: Which of the three.
        weights: "kinetics400": the released weights, downloaded once into torch's hub folder; "random": untrained, for
            training from scratch or measuring speed; else a checkpoint file, of any number of classes.
        classes: Names of the outputs (`weights.class_names`). The released file's names are kinetics400
            (its own `categories`).
        output: What the outputs are: logits of classes that exclude each other (softmax) or do not (sigmoid), or
            probabilities (prob), or their logarithms (logprob).
        input: Preprocessing; by default that of s3d. Frames are those of one clip of torchvision's test: s3d its only
            one, 128 frames of 15 a second from the start; mvit_v2_s the third of five, 16 of 7.5; swin3d_t the seventh
            of twelve, 32 of 15. Unlike that test, which leaves out a shorter video, the last frame is repeated.
    """

    version: ClassVar[int] = 2

    architecture: Architecture = Architecture.s3d
    weights: str = keyed_by_content("kinetics400")
    classes: str | None = keyed_by_content("released:kinetics400")
    output: Output = Output.softmax
    input: Preprocessing = field(default_factory=_view)

    def __post_init__(self) -> None:
        known = _KNOWN[self.architecture]
        for name, sizes, taken in (
            ("frames", [self.input.frames], known.frames),
            ("size", self.input.size, known.sides),
        ):
            if any(size not in taken for size in sizes):
                raise ConfigError(
                    f"model.input.{name}={','.join(map(str, sizes))}",
                    expected=f"{'' if len(taken) == 1 else 'at least '}{taken[0]}, for {self.architecture}",
                )

    def weights_file(self) -> Path | None:
        """Returns the checkpoint file; None for random weights and torchvision's own."""
        return _KNOWN[self.architecture].origin.file(self.weights)

    def load(self) -> VideoModel:
        """Returns the network, on the CPU; raises ConfigError if weights or class names are missing or do not fit."""
        known = _KNOWN[self.architecture]
        module, classes = loaded(
            self.weights,
            known.origin,
            lambda count: known.build(num_classes=count),
            known.head,
            self.classes,
            untrained_classes=400,
        )
        return VideoModel(
            module,
            self.input,
            classes,
            layer=known.layer,
            unfold=None if known.unfold is None else known.unfold(self.input),
            memory_format=known.memory_format,
            output=self.output,
        )
