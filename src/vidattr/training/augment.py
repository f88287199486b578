"""Augments a batch of clips.

Random numbers depend on the clip and the epoch, and not on batch size or number of processes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from vidattr.training.frames import seed_of
from vidattr.training.recipes import Axis, Recipe

_FLIPS, _CROP, _COLOURS = slice(0, 3), slice(3, 6), slice(6, 9)


def draws(items: int, recipe: Recipe, epoch: int) -> Tensor:
    """Returns (items, 9) numbers in [0, 1) on the CPU that decide the augmentation of each item in an epoch."""
    generator = torch.Generator().manual_seed(seed_of(recipe.seed, "augmentation", epoch))
    return torch.rand(items, 9, generator=generator)


def augmented(pixels: Tensor, drawn: Tensor, recipe: Recipe) -> Tensor:
    """Returns clips flipped, cropped and with their colours permuted, as the recipe says.

    Args:
        pixels: (N, T, H, W, 3) uint8.
        drawn: (N, 9) numbers, the rows of `draws` for these clips, on the same device.
        recipe: The augmentation.

    Returns:
        (N, T, H, W, 3) uint8.
    """
    for axis, chance in zip(Axis, drawn[:, _FLIPS].T, strict=True):
        if axis in recipe.flips:
            pixels = torch.where((chance < 0.5).view(-1, 1, 1, 1, 1), pixels.flip(int(axis)), pixels)
    if recipe.crop < 1:
        pixels = _cropped(pixels, drawn[:, _CROP], recipe.crop)
    if recipe.permute_colours:
        channels = drawn[:, _COLOURS].argsort(-1).view(-1, 1, 1, 1, 3)
        pixels = torch.take_along_dim(pixels, channels, -1)
    return pixels


def _cropped(pixels: Tensor, drawn: Tensor, least: float) -> Tensor:
    """Cuts one window out of each clip, the same on all of its frames, and resizes it bilinearly to the frame's size.

    The side of the window, as a share of the frame's side, is uniform in [least, 1), and its place is uniform in the
    frame.
    """
    clips, frames, height, width, _ = pixels.shape
    side = least + (1 - least) * drawn[:, 0]
    # In the coordinates of grid_sample, −1 … 1, the window's centre lies at most 1 − side from the frame's.
    centre = (2 * drawn[:, 1:] - 1) * (1 - side)[:, None]
    y = torch.linspace(-1 + 1 / height, 1 - 1 / height, height, device=pixels.device)
    x = torch.linspace(-1 + 1 / width, 1 - 1 / width, width, device=pixels.device)
    rows = side[:, None] * y + centre[:, :1]
    columns = side[:, None] * x + centre[:, 1:]
    grid = torch.stack((columns[:, None, :].expand(-1, height, -1), rows[:, :, None].expand(-1, -1, width)), -1)
    volume = pixels.permute(0, 1, 4, 2, 3).reshape(clips, frames * 3, height, width).float()
    cut = grid_sample(volume, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return cut.view(clips, frames, 3, height, width).permute(0, 1, 3, 4, 2).round_().clamp_(0, 255).to(torch.uint8)
