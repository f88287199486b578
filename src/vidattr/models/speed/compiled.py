"""A network's passes by `torch.compile`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidattr.errors import ConfigError


class Compiled:
    """A frozen network that is compiled at its first pass, and once more, for all batch sizes, at a second batch size.

    Logits and gradients differ from the uncompiled network's by rounding only. Parts of a network that the compiler
    cannot capture run uncompiled.

    Args:
        module: The network.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        on_gpu = any(tensor.is_cuda for tensor in (*module.parameters(), *module.buffers()))
        # On a GPU kernels are timed and chosen. Graphs are recorded of whole loops (`graphs`), not here.
        self._run = torch.compile(module, mode="max-autotune-no-cudagraphs" if on_gpu else None)

    def __call__(self, frames: Tensor) -> Tensor:
        """Returns what the network returns.

        Raises:
            ConfigError: There is no compiler for this device (C++ for a CPU, Triton for a GPU), or it fails.
        """
        from torch._dynamo.exc import TorchDynamoException  # here, because importing the compiler takes seconds

        try:
            logits: Tensor = self._run(frames)
        except TorchDynamoException as error:
            raise ConfigError(
                f"torch.compile cannot compile this network: {str(error).strip().splitlines()[0]}",
                expected="a network that it can compile, and a compiler: C++ for a CPU, Triton for a GPU",
                remedy="runtime.compile=false",
            ) from error
        return logits
