"""Each original's own preprocessing of one frame, step by step with the libraries that it uses.

A twin takes a frame (h, w, 3) uint8 RGB and returns the network's input of it, (3, H, W).
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision import transforms
from torchvision.models import video as released

Frame = NDArray[np.uint8]
Twin = Callable[[Frame], Tensor]
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
KINETICS = ([0.43216, 0.394666, 0.37645], [0.22803, 0.22145, 0.216989])


def hara(frame: Frame) -> Tensor:
    """3D-ResNets, inference.py: Resize(112), CenterCrop(112), ToTensor, Normalize, on what PIL has read."""
    steps = [transforms.Resize(112), transforms.CenterCrop(112), transforms.ToTensor()]
    normalise = transforms.Normalize([0.4345, 0.4051, 0.3775], [0.2768, 0.2713, 0.2737])
    return normalise(transforms.Compose(steps)(Image.fromarray(frame)))


def preset(weights: Any) -> Twin:
    """The preset that torchvision ships with its weights."""
    return lambda frame: weights.transforms()(torch.from_numpy(frame).permute(2, 0, 1)[None])[:, 0]


def tsm(frame: Frame) -> Tensor:
    """GroupScale(256), GroupCenterCrop(224), ToTorchFormatTensor, GroupNormalize."""
    picture = transforms.CenterCrop(224)(
        transforms.Resize(256, transforms.InterpolationMode.BILINEAR)(Image.fromarray(frame))
    )
    return normalised(torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255, *IMAGENET)


def normalised(x: Tensor, mean: list[float], std: list[float]) -> Tensor:
    return (x - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def deepmind(frame: Frame) -> Tensor:
    """The README of kinetics-i3d: the short side 256, bilinear, the centre 224, values in −1 … 1."""
    x = scaled(torch.from_numpy(frame).permute(2, 0, 1).float(), 256)
    top, left = (int(np.round((side - 224) / 2)) for side in x.shape[1:])
    return x[:, top : top + 224, left : left + 224] / 255 * 2 - 1


def scaled(x: Tensor, short: int) -> Tensor:
    h, w = x.shape[1:]
    size = (short, math.floor(float(w) / h * short)) if h <= w else (math.floor(float(h) / w * short), short)
    return interpolate(x[None], size=size, mode="bilinear", align_corners=False)[0]


def mmaction2(short: int, crop: int, mean: list[float], std: list[float]) -> Twin:
    """Resize of (inf, short) by OpenCV, CenterCrop or the middle of ThreeCrop, and the preprocessor's normalisation."""

    def twin(frame: Frame) -> Tensor:
        h, w = frame.shape[:2]
        scale = short / min(h, w)
        resized = cv2.resize(frame, (int(w * scale + 0.5), int(h * scale + 0.5)), interpolation=cv2.INTER_LINEAR)
        top, left = (resized.shape[0] - crop) // 2, (resized.shape[1] - crop) // 2
        return normalised(
            torch.from_numpy(resized[top : top + crop, left : left + crop]).permute(2, 0, 1).float(), mean, std
        )

    return twin


def facebook(short: int) -> Twin:
    """PySlowFast and TimeSformer: normalised, then scaled as floats, then the middle one of three crops, rounded up."""

    def twin(frame: Frame) -> Tensor:
        x = normalised(torch.from_numpy(frame).float().permute(2, 0, 1) / 255, [0.45] * 3, [0.225] * 3)
        x = scaled(x, short)
        top, left = (math.ceil((side - short) / 2) for side in x.shape[1:])
        return x[:, top : top + short, left : left + short]

    return twin


def mfnet(frame: Frame) -> Tensor:
    """Resize((256, 256)) by OpenCV, CenterCrop((224, 224)), ToTensor and Normalize on values of 0 … 1."""
    crop = cv2.resize(frame, (256, 256), interpolation=cv2.INTER_LINEAR)[16:240, 16:240]
    mean, std = [124 / 255, 117 / 255, 104 / 255], [1 / (0.0167 * 255)] * 3
    return normalised(torch.from_numpy(crop).permute(2, 0, 1).float() / 255, mean, std)


def resnet50lstm(frame: Frame) -> Tensor:
    """Squashed to 112 × 112 by PIL, values of 0 … 1, the mean and deviation of Kinetics."""
    picture = Image.fromarray(frame).resize((112, 112), Image.Resampling.BILINEAR)
    return normalised(transforms.ToTensor()(picture), *KINETICS)


def vgg16lstm_finetuned(frame: Frame) -> Tensor:
    """Resize((240, 320)), the centre 224, minus the mean in RGB, and only then times 255."""
    picture = transforms.CenterCrop(224)(transforms.Resize((240, 320))(Image.fromarray(frame)))
    return normalised(transforms.ToTensor()(picture), [0.50463, 0.45796, 0.4076], [1.0] * 3) * 255


def caffe(frame: Frame) -> Tensor:
    """EB-R: other sizes to 240 × 320 by order 1 (here without a filter), the centre, BGR in 0 … 255, minus the mean."""
    if frame.shape[:2] != (240, 320):
        resize = importlib.import_module("skimage.transform").resize
        frame = resize(frame, (240, 320), order=1, anti_aliasing=False, preserve_range=True)
    crop = np.asarray(frame, np.float32)[8:232, 48:272, ::-1].copy()
    return normalised(torch.from_numpy(crop).permute(2, 0, 1), [103.939, 116.779, 128.68], [1.0] * 3)


def transformers_processor(module: str, name: str, **settings: Any) -> tuple[Twin, dict[str, Any]]:
    """A processor of HuggingFace's library, and its settings as it saves them."""
    processor = getattr(importlib.import_module(f"transformers.models.{module}"), name)(**settings)

    def twin(frame: Frame) -> Tensor:
        found: Tensor = processor([frame], return_tensors="pt")[
            "pixel_values_videos" if name.startswith("VJEPA2") else "pixel_values"
        ]
        return found.reshape(-1, *found.shape[-3:])[0].float()

    return twin, processor.to_dict()


TWINS: dict[str, Twin] = {
    **dict.fromkeys(
        (
            "hara_r3d_18",
            "hara_r2plus1d_18",
            "r3d_34",
            "r3d_50",
            "r3d_101",
            "r2plus1d_34",
            "r2plus1d_50",
            "r2plus1d_101",
        ),
        hara,
    ),
    "r3d_18": preset(released.R3D_18_Weights.KINETICS400_V1),
    "mc3_18": preset(released.MC3_18_Weights.KINETICS400_V1),
    "r2plus1d_18": preset(released.R2Plus1D_18_Weights.KINETICS400_V1),
    "s3d": preset(released.S3D_Weights.KINETICS400_V1),
    "mvit_v2_s": preset(released.MViT_V2_S_Weights.KINETICS400_V1),
    "swin3d_t": preset(released.Swin3D_T_Weights.KINETICS400_V1),
    "i3d": deepmind,
    "tsm_r50": tsm,
    **dict.fromkeys(
        ("slowfast_r50_4x16", "slowfast_r50_8x8"),
        mmaction2(256, 256, [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]),
    ),
    **dict.fromkeys(("slowfast_r50_4x16_pyslowfast", "slowfast_r50_8x8_pyslowfast"), facebook(256)),
    "timesformer": mmaction2(224, 224, [127.5] * 3, [127.5] * 3),
    "timesformer_facebook": facebook(224),
    "mfnet": mfnet,
    "r2plus1d_18_finetuned": resnet50lstm,
    "resnet50lstm": resnet50lstm,
    "vgg16lstm_finetuned": vgg16lstm_finetuned,
    "vgg16lstm": caffe,
}
