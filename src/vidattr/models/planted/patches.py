"""The first layers of the small transformers: patches as three convolutions, which are learned faster than one."""

from __future__ import annotations

from torch import Tensor, nn

from vidattr.errors import ConfigError
from vidattr.models.planted.network import convolution
from vidattr.video.preprocessing import Preprocessing

SIDE = 8  # of a patch, in pixels


class ConvolutionalPatches(nn.Module):
    """One token for each patch of 8 × 8 pixels of each tube of frames (Xiao et al., NeurIPS 2021, arXiv 2106.14881).

    Args:
        width: Channels of a token.
        tube: Frames of a tube: 1 or 2.
    """

    def __init__(self, width: int, tube: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            convolution(3, 3, 16, (1, 5, 5), (1, 2, 2)),
            convolution(3, 16, 32, (1, 3, 3), (1, 2, 2)),
            nn.Conv3d(32, width, (tube, 3, 3), (tube, 2, 2), (0, 1, 1)),
        )

    def forward(self, frames: Tensor) -> Tensor:
        """Maps (N, 3, T, H, W) to (N, P, T / tube, width), P = (H/8)·(W/8) places."""
        volume: Tensor = self.layers(frames)
        return volume.flatten(3).permute(0, 3, 2, 1)


def grid_of(view: Preprocessing, tube: int) -> tuple[int, int, int]:
    """Returns the (t, h, w) of the tokens; raises ConfigError if the input is not made of whole patches."""
    if view.frames % tube or any(side % SIDE for side in view.size):
        raise ConfigError(
            f"model.input.frames={view.frames} model.input.size={list(view.size)}",
            expected=f"frames a multiple of {tube}, height and width of {SIDE}",
        )
    return view.frames // tube, view.size[0] // SIDE, view.size[1] // SIDE
