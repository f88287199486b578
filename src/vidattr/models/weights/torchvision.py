"""torchvision's released weights, downloaded once into torch's hub folder."""

from __future__ import annotations

from pathlib import Path

import torch
from torchvision.models import WeightsEnum

from vidattr.errors import ConfigError
from vidattr.models.weights.checkpoint import Checkpoint


def download(weights: WeightsEnum) -> Checkpoint:
    """Returns released weights with their class names; the hash in the file's name is checked.

    Raises:
        ConfigError: They cannot be downloaded; the message says where they are looked for.
    """
    name = Path(weights.url).name
    try:
        state = weights.get_state_dict(progress=False, check_hash=True, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError) as error:  # no network, no such page, or another hash
        raise ConfigError(
            f"cannot download {name}: {error}",
            expected=f"{weights.url}, or the file in {Path(torch.hub.get_dir()) / 'checkpoints'}",
            remedy=f"fetch it on another machine and say model.weights={name}",
        ) from error
    return Checkpoint(Path(name), state, tuple(weights.meta["categories"]))
