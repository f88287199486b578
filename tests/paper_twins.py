"""The papers' networks once more, slowly and literally: from a state with the released names to features and logits."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d, conv2d, conv3d, linear, max_pool2d, max_pool3d

State = dict[str, Tensor]


def bn(state: State, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    shape = (-1, *[1] * (x.ndim - 2))
    mean, var, weight, bias = (
        state[f"{name}.{key}"].view(shape) for key in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + eps).sqrt() * weight + bias


def hara_twin(state: State, frames: Tensor) -> tuple[Tensor, Tensor]:
    def unit(conv: str, norm: str, x: Tensor, stride: int | tuple[int, int, int] = 1) -> Tensor:
        weight = state[f"{conv}.weight"]
        return bn(state, norm, conv3d(x, weight, None, stride, tuple(side // 2 for side in weight.shape[2:])))

    def layer(where: str, number: int, x: Tensor, time: int = 1, space: int = 1) -> Tensor:
        if f"{where}conv{number}.weight" in state:
            return unit(f"{where}conv{number}", f"{where}bn{number}", x, (time, space, space))
        x = unit(f"{where}conv{number}_s", f"{where}bn{number}_s", x, (1, space, space)).relu()
        return unit(f"{where}conv{number}_t", f"{where}bn{number}_t", x, (time, 1, 1))

    x = max_pool3d(layer("", 1, frames, 1, 2).relu(), 3, 2, 1)
    for where in sorted({name[:9] for name in state if name.startswith("layer")}):
        stride = 2 if where[5] != "1" and where[7] == "0" else 1
        if f"{where}conv3.weight" in state:
            y = layer(where, 2, layer(where, 1, x).relu(), stride, stride).relu()
            y = layer(where, 3, y)
        else:
            y = layer(where, 2, layer(where, 1, x, stride, stride).relu())
        shortcut = (
            unit(f"{where}downsample.0", f"{where}downsample.1", x, stride)
            if f"{where}downsample.0.weight" in state
            else x
        )
        x = (y + shortcut).relu()
    return x, linear(x.mean((2, 3, 4)), state["fc.weight"], state["fc.bias"])


def i3d_twin(state: State, frames: Tensor) -> tuple[Tensor, Tensor]:
    def same(x: Tensor, side: int, stride: int, axis: int) -> Tensor:
        size = x.shape[axis]
        total = max((-(-size // stride) - 1) * stride + side - size, 0)  # TensorFlow's documentation of SAME
        before = x.new_zeros(*x.shape[:axis], total // 2, *x.shape[axis + 1 :])
        after = x.new_zeros(*x.shape[:axis], total - total // 2, *x.shape[axis + 1 :])
        return torch.cat((before, x, after), axis)

    def unit(name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = state[f"{name}.conv3d.weight"]
        for axis in (2, 3, 4):
            x = same(x, weight.shape[2], stride, axis)
        return bn(state, f"{name}.bn", conv3d(x, weight, None, stride), eps=1e-3).relu()

    def pool(x: Tensor, sides: tuple[int, int, int], strides: tuple[int, int, int]) -> Tensor:
        for axis, (side, stride) in enumerate(zip(sides, strides, strict=True), 2):
            x = same(x, side, stride, axis)
        return max_pool3d(x, sides, strides)

    x = pool(unit("Conv3d_1a_7x7", frames, 2), (1, 3, 3), (1, 2, 2))
    x = pool(unit("Conv3d_2c_3x3", unit("Conv3d_2b_1x1", x)), (1, 3, 3), (1, 2, 2))
    for block in ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c"):
        if block == "4b":
            x = pool(x, (3, 3, 3), (2, 2, 2))
        if block == "5b":
            x = pool(x, (2, 2, 2), (2, 2, 2))
        b = f"Mixed_{block}."
        b1, b2 = unit(f"{b}b1b", unit(f"{b}b1a", x)), unit(f"{b}b2b", unit(f"{b}b2a", x))
        x = torch.cat((unit(f"{b}b0", x), b1, b2, unit(f"{b}b3b", pool(x, (3, 3, 3), (1, 1, 1)))), 1)
    pairs = avg_pool3d(x, (2, *x.shape[3:]), 1)
    return x, conv3d(pairs, state["logits.conv3d.weight"], state["logits.conv3d.bias"]).mean(2).flatten(1)


def mfnet_twin(state: State, frames: Tensor) -> tuple[Tensor, Tensor]:
    def unit(name: str, x: Tensor, stride: tuple[int, int, int] = (1, 1, 1)) -> Tensor:
        weight = state[f"{name}.conv.weight"]
        x = bn(state, f"{name}.bn", x).relu()
        fibres = x.chunk(x.shape[1] // weight.shape[1], 1)  # each fibre on its own
        kernels = weight.chunk(len(fibres), 0)
        padding = tuple(side // 2 for side in weight.shape[2:])
        return torch.cat([conv3d(f, k, None, stride, padding) for f, k in zip(fibres, kernels, strict=True)], 1)

    x = bn(state, "conv1.bn", conv3d(frames, state["conv1.conv.weight"], None, (1, 2, 2), (1, 2, 2))).relu()
    x = max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
    for stage, count in ((2, 3), (3, 4), (4, 6), (5, 3)):
        for block in range(1, count + 1):
            where, stride = f"conv{stage}.B{block:02d}.", (1, 1, 1)
            if block == 1:
                stride = (2, 1, 1) if stage == 2 else (1, 2, 2)
            mixed = x + unit(f"{where}conv_i2", unit(f"{where}conv_i1", x))
            y = unit(f"{where}conv_m2", unit(f"{where}conv_m1", mixed, stride))
            x = y + (unit(f"{where}conv_w1", x, stride) if block == 1 else x)
    x = bn(state, "tail.bn", x).relu()
    return x, linear(x.mean((2, 3, 4)), state["classifier.weight"], state["classifier.bias"])


def shift_twin(x: Tensor, fold: int) -> Tensor:
    """One frame and one channel after the other, (T, c, h, w)."""
    y = torch.zeros_like(x)
    for t in range(len(x)):
        for c in range(x.shape[1]):
            source = t + 1 if c < fold else t - 1 if c < 2 * fold else t
            if 0 <= source < len(x):
                y[t, c] = x[source, c]
    return y


def tsm_twin(state: State, frames: Tensor, layer: str = "new_fc") -> tuple[Tensor, Tensor]:
    def unit(conv: str, norm: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = state[f"base_model.{conv}.weight"]
        return bn(state, f"base_model.{norm}", conv2d(x, weight, None, stride, weight.shape[2] // 2))

    features, logits = [], []
    for clip in frames:  # one clip at a time, its frames in order
        x = max_pool2d(unit("conv1", "bn1", torch.stack([clip[:, t] for t in range(clip.shape[1])]), 2).relu(), 3, 2, 1)
        for stage, count in ((1, 3), (2, 4), (3, 6), (4, 3)):
            for block in range(count):
                where, stride = f"layer{stage}.{block}.", 2 if stage > 1 and block == 0 else 1
                y = unit(f"{where}conv1.net", f"{where}bn1", shift_twin(x, x.shape[1] // 8)).relu()
                y = unit(f"{where}conv3", f"{where}bn3", unit(f"{where}conv2", f"{where}bn2", y, stride).relu())
                x = (y + (unit(f"{where}downsample.0", f"{where}downsample.1", x, stride) if block == 0 else x)).relu()
        features.append(x)
        logits.append(linear(x.mean((2, 3)), state[f"{layer}.weight"], state[f"{layer}.bias"]).mean(0))
    return torch.cat(features), torch.stack(logits)
