"""A network's passes by `torch.compile`. Imported only where it is asked for: the compiler alone takes seconds to import."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from vidattr.errors import ConfigError


class Compiled:
    """A frozen network, compiled at its first pass, and again for a second batch size, which then stands for all sizes.

    Logits and gradients differ by rounding alone. The parts of a network that cannot be captured run as they are
    written.

    Args:
        module: The network.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._run = torch.compile(module)

    def __call__(self, frames: Tensor) -> Tensor:
        """Returns what the network returns.

        Raises:
            ConfigError: There is no compiler for this device (C++ for a CPU, Triton for a GPU), or it fails.
        """
        try:
            logits: Tensor = self._run(frames)
        except TorchDynamoException as error:
            raise ConfigError(
                f"torch.compile gives up on this network: {str(error).strip().splitlines()[0]}",
                expected="a network that it can compile, and a compiler: C++ for a CPU, Triton for a GPU",
                remedy="runtime.compile=false",
            ) from error
        return logits
