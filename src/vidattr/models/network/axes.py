"""The order of the axes in which a network takes its frames."""

from __future__ import annotations

from enum import StrEnum

from torch import Tensor, nn

from vidattr.errors import ConfigError


class Axes(StrEnum):
    """Order of the axes of a batch of clips: clips N, colour channels C, frames T, rows H and columns W."""

    NCTHW = "NCTHW"
    NTCHW = "NTCHW"


def takes_channels_first(module: nn.Module, axes: Axes) -> nn.Module:
    """Returns the network as one that takes (N, C, T, H, W).

    A module that takes (N, T, C, H, W) becomes an instance of a subclass that swaps the two axes first. It is no
    wrapper around the module, because layers and weights would then have other names.
    """
    if axes is Axes.NCTHW:
        return module
    cls = type(module)
    if "forward" in vars(module) or not callable(getattr(cls, "forward", None)):
        raise ConfigError(
            f"the axes of a {cls.__name__} cannot be swapped, because its class has no forward method",
            expected="an nn.Module whose class defines forward",
            remedy="wrap it in a module that takes (N, C, T, H, W)",
        )

    def forward(self: nn.Module, frames: Tensor) -> Tensor:
        answer: Tensor = cls.forward(self, frames.transpose(1, 2))
        return answer

    module.__class__ = type(cls.__name__, (cls,), {"forward": forward, "__module__": cls.__module__})
    return module
