"""Networks small enough that what a method must answer is known on paper."""

from __future__ import annotations

import math
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from vidattr.models.network.attention import Attention, Fuse, JointAttention
from vidattr.models.network.network import VideoModel
from vidattr.types import Query
from vidattr.video.preprocessing import Preprocessing

CLASSES = ("ant", "bee", "cat", "dog")
SIZE = (3, 4, 6, 8)  # C, T, H, W: no two alike, so that swapped axes show


def network(module: nn.Module, *, size: tuple[int, ...] = SIZE, max_batch: int = 8, **names: object) -> VideoModel:
    """Puts a module into a VideoModel whose classes are CLASSES and whose colours are not centred on black."""
    view = Preprocessing(frames=size[1], size=list(size[2:]), mean=[0.4, 0.45, 0.5], std=[0.2, 0.25, 0.3])
    return VideoModel(module, view, CLASSES, max_batch=max_batch, **names)  # type: ignore[arg-type]


def query(
    clips: int = 3, *, size: tuple[int, ...] = SIZE, dtype: torch.dtype = torch.float64, target: list[int] | None = None
) -> Query:
    """Returns seeded clips that differ, each with a class and a seed of its own."""
    frames = torch.randn(clips, *size, dtype=dtype, generator=torch.Generator().manual_seed(5))
    classes = target or [(2 * i + 1) % len(CLASSES) for i in range(clips)]
    return Query(frames, torch.tensor(classes), tuple(100 + i for i in range(clips)))


def seeded(*size: int, seed: int = 7) -> Tensor:
    """Returns a float64 normal tensor that is the same in every test."""
    return torch.randn(*size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def reset(module: nn.Module, seed: int = 1) -> nn.Module:
    """Fills a module's parameters from a seed and makes them float64."""
    module.double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(
                torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
                / max(1, parameter[0].numel()) ** 0.5
            )
    return module


class Linear(nn.Module):
    """z_y = w_y · x + b_y: the gradient is w_y everywhere."""

    def __init__(self, size: tuple[int, ...] = SIZE) -> None:
        super().__init__()
        self.weight = nn.Parameter(seeded(len(CLASSES), *size) / math.prod(size) ** 0.5)
        self.bias = nn.Parameter(seeded(len(CLASSES), seed=8))

    def forward(self, frames: Tensor) -> Tensor:
        return frames.flatten(1) @ self.weight.flatten(1).T + self.bias


class Quadratic(Linear):
    """z_y = w_y · x²: the gradient 2·w_y·x is linear along any line, so the midpoint rule integrates it exactly."""

    def forward(self, frames: Tensor) -> Tensor:
        return super().forward(frames.square())


class ConvNet(nn.Module):
    """conv of stride 2 → ReLU → conv → ReLU → global average pool → linear, with ReLUs in place as in torchvision."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(3, 4, 3, stride=2, padding=1), nn.ReLU(inplace=True))
        self.features = nn.Sequential(nn.Conv3d(4, channels, 3, padding=1), nn.ReLU(inplace=True))
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.fc = nn.Linear(channels, len(CLASSES))
        reset(self)

    def forward(self, frames: Tensor) -> Tensor:
        return self.fc(self.pool(self.features(self.stem(frames))).flatten(1))


class Pooled(nn.Module):
    """A pointwise convolution whose features have `steps` time steps and full space, and the rest as in ConvNet."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv3d(3, 4, 1), nn.AdaptiveAvgPool3d((steps, None, None)))
        self.fc = nn.Linear(4, len(CLASSES))
        reset(self)

    def forward(self, frames: Tensor) -> Tensor:
        return self.fc(self.features(frames).square().mean((2, 3, 4)))


class Curved(ConvNet):
    """A ConvNet whose gradients differ from cell to cell and step to step, with a head that reads their mean."""

    def forward(self, frames: Tensor) -> Tensor:
        features = self.features(self.stem(frames))
        return self.fc(self.pool(features).flatten(1)) + self.fc(self.pool(features.pow(3)).flatten(1))


class Watcher(nn.Module):
    """Its logits depend, smoothly, on one block of voxels alone (T0:T1, H0:H1, W0:W1) and differ by class."""

    def __init__(self, block: tuple[slice, slice, slice]) -> None:
        super().__init__()
        self.block = block
        self.weight = nn.Parameter(seeded(len(CLASSES)))

    def forward(self, frames: Tensor) -> Tensor:
        return torch.tanh(frames[(..., *self.block)].flatten(1).mean(1, keepdim=True)) * self.weight


class CnnLstm(nn.Module):
    """Frame by frame through one convolution, then an LSTM over time, then linear on the last step."""

    def __init__(self, channels: int = 4, hidden: int = 6) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, channels, 3, stride=2, padding=1), nn.Tanh())
        self.lstm = nn.LSTM(channels, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, len(CLASSES))
        reset(self)

    def forward(self, frames: Tensor) -> Tensor:
        clips, _, steps = frames.shape[:3]
        features = self.features(frames.transpose(1, 2).flatten(0, 1))
        weights = torch.linspace(0.5, 1.5, features.shape[-1], dtype=features.dtype, device=features.device)
        return self.fc(self.lstm((features * weights).mean((2, 3)).view(clips, steps, -1))[0][:, -1])


class Stepwise(CnnLstm):
    """A CnnLstm that scores the classes at every step, and averages their probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.features[1] = nn.ReLU()

    def forward(self, frames: Tensor) -> Tensor:
        clips, _, steps = frames.shape[:3]
        features = self.features(frames.transpose(1, 2).flatten(0, 1))
        scores = self.fc(self.lstm(features.mean((2, 3)).view(clips, steps, -1))[0])
        return torch.log_softmax(scores, 2).logsumexp(1) - math.log(steps)


class Transformer(nn.Module):
    """Patches of 1 × 2 × 2, a class token, and blocks of attention over all of them, whose weights `softmax` puts out.

    Every second frame has patches, so that its steps are fewer than the frames.
    """

    def __init__(self, width: int = 8, heads: int = 2, blocks: int = 3) -> None:
        super().__init__()
        self.heads = heads
        self.patches = nn.Conv3d(3, width, (1, 2, 2), stride=2)
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.qkv = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(blocks))
        self.softmax = nn.ModuleList(nn.Softmax(-1) for _ in range(blocks))
        self.fc = nn.Linear(width, len(CLASSES))
        reset(self)

    def forward(self, frames: Tensor) -> Tensor:
        x = self.patches(frames).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1)
        for qkv, softmax in zip(self.qkv, self.softmax, strict=True):
            q, k, v = qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            x = x + (softmax(q @ k.transpose(2, 3)) @ v).transpose(1, 2).flatten(2)
        return self.fc(x[:, 0])


class RaisingTransformer(Transformer):
    """A Transformer that fails after its attention was computed, with every hook in place."""

    def forward(self, frames: Tensor) -> Tensor:
        super().forward(frames)
        raise RuntimeError("out of luck")


class Constant(nn.Module):
    """Says the same of every clip, though its features and its graph depend on it."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv3d(3, 2, 1)
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.fc = nn.Linear(2, len(CLASSES))
        reset(self)
        nn.init.zeros_(self.fc.weight)

    def forward(self, frames: Tensor) -> Tensor:
        return self.fc(self.pool(self.features(frames)).flatten(1))


class Unmoved(nn.Module):
    """Says the same of every clip without so much as looking at it."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(seeded(len(CLASSES)))
        self.features = nn.Identity()

    def forward(self, frames: Tensor) -> Tensor:
        self.features(frames)
        return self.logits.expand(len(frames), -1)


class Raising(ConvNet):
    """A ConvNet that fails after its features were computed, with every hook in place."""

    def forward(self, frames: Tensor) -> Tensor:
        super().forward(frames)
        raise RuntimeError("out of luck")


class Counting(nn.Module):
    """Counts forward passes and the clips in each; the rest is the module inside."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.inside = module
        self.batches: list[int] = []

    def forward(self, frames: Tensor) -> Tensor:
        self.batches.append(len(frames))
        return self.inside(frames)


def unfold(tensor: Tensor, clips: int) -> Tensor:
    """(N·T, c, h, w) → (N, c, T, h, w)."""
    return tensor.unflatten(0, (clips, -1)).transpose(1, 2)


def conv_net(**kwargs: object) -> VideoModel:
    """The ConvNet with its last convolution named."""
    return network(ConvNet(), layer="features", **kwargs)  # type: ignore[arg-type]


def cnn_lstm(**kwargs: object) -> VideoModel:
    """The CNN-LSTM with its convolution named and its unfolding."""
    return network(CnnLstm(), layer="features", unfold=unfold, **kwargs)  # type: ignore[arg-type]


def stepwise(**kwargs: object) -> VideoModel:
    """The CNN-LSTM that scores every step."""
    return network(Stepwise(), layer="features", unfold=unfold, **kwargs)  # type: ignore[arg-type]


def attention(model: VideoModel, frames: Tensor, fuse: Fuse) -> Attention:
    """Runs a Transformer and collects what its softmaxes put out."""
    blocks: list[Tensor] = []
    with ExitStack() as stack:
        for k in range(len(model.module.softmax)):  # type: ignore[arg-type]
            stack.enter_context(
                model.hooked(f"softmax.{k}", lambda _module, _inputs, weights: blocks.append(fuse(weights)))
            )
        model(frames)
    T, H, W = frames.shape[2:]
    return JointAttention(tuple(blocks), ((T + 1) // 2, H // 2, W // 2), cls=True)


def transformer(module: type[Transformer] = Transformer, **kwargs: object) -> VideoModel:
    """The Transformer, which offers its attention."""
    return network(module(), attention=attention, **kwargs)  # type: ignore[arg-type]
