"""TSM: a ResNet-50 on each frame, in whose blocks some channels come from the frame before and some from the next."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum, auto
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torchvision.models.resnet import Bottleneck, resnet50

from vidattr.config.fields import keyed_by_content
from vidattr.errors import ConfigError
from vidattr.models.network.network import VideoModel
from vidattr.models.network.output import Output
from vidattr.models.network.unfold import frames_in_batch
from vidattr.models.weights.loading import WeightsOrigin, loaded
from vidattr.video.preprocessing import Geometry, Preprocessing, Resample


class Head(StrEnum):
    """Which linear layer gives the logits: the only one, or that of the verbs or the nouns of EPIC-KITCHENS."""

    single = auto()
    verb = auto()
    noun = auto()


_LAYER = {Head.single: "new_fc", Head.verb: "fc_verb", Head.noun: "fc_noun"}
_CLASSES = {Head.single: 400, Head.verb: 125, Head.noun: 352}
_OTHER = {Head.verb: "fc_noun.", Head.noun: "fc_verb."}
_EPIC = WeightsOrigin("github.com/epic-kitchens/epic-kitchens-55-action-models")
_ORIGIN = {
    Head.single: WeightsOrigin("github.com/mit-han-lab/temporal-shift-module"),
    Head.verb: _EPIC,
    Head.noun: _EPIC,
}


def shift(clips: Tensor, fold: int) -> Tensor:
    """Shifts channels along time (section 3 of the paper), zeros coming in at the ends.

    Args:
        clips: (N, T, c, h, w).
        fold: How many channels take the value of the next frame; as many more take the value of the frame before.

    Returns:
        (N, T, c, h, w): channels 0 … fold − 1 of frame s are those of frame s + 1, the next `fold` those of frame s −
        1.
    """
    following, previous, still = clips[:, 1:, :fold], clips[:, :-1, fold : 2 * fold], clips[:, :, 2 * fold :]
    after, before = (0, 0) * 3 + (0, 1), (0, 0) * 3 + (1, 0)
    return torch.cat((pad(following, after), pad(previous, before), still), 2)


class TemporalShift(nn.Module):
    """A shift, and then the convolution `net` of each frame."""

    def __init__(self, net: nn.Module, segments: int, shift_div: int) -> None:
        super().__init__()
        self.net, self.segments, self.shift_div = net, segments, shift_div

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N·T, c, h, w), clip after clip and frame after frame, to the convolution's output."""
        y: Tensor = self.net(
            shift(x.reshape(-1, self.segments, *x.shape[1:]), x.shape[1] // self.shift_div).flatten(0, 1)
        )
        return y


class ShiftedResNet50(nn.Module):
    """ResNet-50 with a shift before the first convolution of each residual branch ("blockres")."""

    def __init__(self, classes: int, segments: int, shift_div: int, head: Head) -> None:
        super().__init__()
        self.segments, self._layer = segments, _LAYER[head]
        self.base_model = resnet50()
        self.base_model.fc = nn.Identity()
        for block in self.base_model.modules():
            if isinstance(block, Bottleneck):
                block.conv1 = TemporalShift(block.conv1, segments, shift_div)
        self.add_module(self._layer, nn.Linear(2048, classes))

    def forward(self, frames: Tensor) -> Tensor:
        """Maps (N, 3, T, H, W) to (N, K) logits: the mean over the frames."""
        if frames.shape[2] != self.segments:
            raise ConfigError(
                f"a clip of {frames.shape[2]} frames", expected=f"model.input.frames={self.segments} of them"
            )
        # The frames of a clip side by side. Flattening (C, T) as it lies would make pictures of (R, R, R) of three
        # frames.
        scores: Tensor = self.get_submodule(self._layer)(self.base_model(frames.transpose(1, 2).flatten(0, 1)))
        return scores.view(len(frames), self.segments, -1).mean(1)


def _of_one_head(head: Head, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Returns the weights of a network with this head; EPIC-KITCHENS' checkpoints hold another head too."""
    other = _OTHER.get(head)
    return {name: tensor for name, tensor in state.items() if other is None or not name.startswith(other)}


def _view() -> Preprocessing:
    return Preprocessing(
        frames=8,
        size=[224, 224],
        geometry=Geometry.crop,
        resize=[256],
        resample=Resample.pillow,
        mean=[0.485, 0.456, 0.406],
        std=[0.229, 0.224, 0.225],
    )


@dataclass(frozen=True)
class TSM:
    """TSM with a ResNet-50 (Lin et al., "TSM: Temporal Shift Module for Efficient Video Understanding", ICCV 2019).

    arXiv 1811.08383.

    Its features are the output of `base_model.layer4`, of one frame each, (N·T, 2048, 7, 7) for frames of 224 × 224.

    Names and shapes are those of github.com/mit-han-lab/temporal-shift-module, under `state_dict` and `module.`, for
    example `TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e50.pth`: `base_model.conv1`, `base_model.bn1`,
    `base_model.layer1.0.conv1.net` … `base_model.layer4.2.bn3`, `new_fc`; and those of
    github.com/epic-kitchens/epic-kitchens-55-action-models,
    `TSM_arch=resnet50_modality=RGB_segments=8-cfc93918.pth.tar`, which has `fc_verb` (125) and `fc_noun` (352) in place
    of `new_fc`. Networks with non-local blocks or of optical flow are refused.

    Attributes:
        head: single, or verb or noun of a network that has both.
        shift_div: A 1/`shift_div` of a block's channels come from the next frame, as many from the frame before. No
            weight tells a network trained with another number: it is in the checkpoint's name ("shift8").
        weights: A checkpoint file, of any number of classes; "random": untrained, to train from
            scratch or to measure speed.
        classes: Names of the outputs (`weights.class_names`). The released file's names are kinetics400
            (tools/kinetics_label_map.txt).
            EPIC-KITCHENS' are in EPIC_verb_classes.csv and EPIC_noun_classes.csv of its annotations.
        output: What the outputs are: logits of classes that exclude each other (softmax) or do not (sigmoid), or
            probabilities (prob), or their logarithms (logprob).
        input: Preprocessing: T = 8 segments, the middle frame of each, short side 256 by Pillow, the centre 224 × 224,
            mean and deviation of ImageNet. The networks called "dense" saw every eighth of 64 frames:
            `input.sampling=dense input.stride=8 input.short=loop` is one of the ten clips of their test.
    """

    version: ClassVar[int] = 2

    head: Head = Head.single
    shift_div: int = 8
    weights: str | None = keyed_by_content(None)
    classes: str | None = keyed_by_content("released:kinetics400")
    output: Output = Output.softmax
    input: Preprocessing = field(default_factory=_view)

    def __post_init__(self) -> None:
        if not 2 <= self.shift_div <= 64:
            raise ConfigError(
                f"model.shift_div={self.shift_div}", expected="2 … 64: the narrowest shifted layer has 64 channels"
            )

    def weights_file(self) -> Path | None:
        """Returns the checkpoint file; None for random weights, and where none are named."""
        return _ORIGIN[self.head].file(self.weights)

    def load(self) -> VideoModel:
        """Returns the network, on the CPU; raises ConfigError if weights or class names are missing or do not fit."""
        build = partial(ShiftedResNet50, segments=self.input.frames, shift_div=self.shift_div, head=self.head)
        # EPIC-KITCHENS' checkpoint holds its command line beside the weights, a namespace of plain values.
        with torch.serialization.safe_globals([Namespace]):
            module, classes = loaded(
                self.weights,
                _ORIGIN[self.head],
                build,
                f"{_LAYER[self.head]}.weight",
                self.classes,
                untrained_classes=_CLASSES[self.head],
                rename=partial(_of_one_head, self.head),
            )
        return VideoModel(
            module, self.input, classes, layer="base_model.layer4", unfold=frames_in_batch, output=self.output
        )
