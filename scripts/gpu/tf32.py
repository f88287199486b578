"""TF32 on a device that does not have it: convolutions and matrix products of inputs with 10 bits of mantissa."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten
# Which arguments of an operation are multiplied. The others, such as a bias, are added in float32.
_FACTORS: dict[Any, tuple[int, ...]] = {
    _aten.convolution: (0, 1),
    _aten.convolution_backward: (0, 1, 2),  # the gradient of the output, the input, the weights
    _aten.mm: (0, 1),
    _aten.addmm: (1, 2),
    _aten.bmm: (0, 1),
    _aten.baddbmm: (1, 2),
}
_DROPPED = 13  # bits of a float32's mantissa of 23 that TF32 does not have


class EmulatedTF32(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Rounds what convolutions and matrix products multiply, forward and backward, and leaves their sums in float32.

    The operations are those for which `runtime.precision=tf32` allows TF32 on a GPU. A GPU may add up in another order,
    and some of its kernels round in another direction, so that results differ from a GPU's by rounding.

    Raises:
        NotImplementedError: Attention by one fused operation, whose products cannot be reached.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs one operation on rounded factors."""
        factors = _FACTORS.get(func.overloadpacket)
        if factors is not None:
            args = [rounded(value) if place in factors else value for place, value in enumerate(args)]
        elif "scaled_dot_product" in str(func):
            raise NotImplementedError(f"TF32 is not emulated in {func}: its matrix products are inside of it")
        return func(*args, **(kwargs or {}))


def rounded(values: Tensor) -> Tensor:
    """Returns float32 values with 10 bits of mantissa, rounded to nearest, halves to even; others as they are."""
    if values.dtype is not torch.float32:
        return values
    bits = values.detach().view(torch.int32)
    half = 1 << (_DROPPED - 1)
    odd = (bits >> _DROPPED) & 1
    kept = ((bits + (half - 1) + odd) >> _DROPPED) << _DROPPED
    return kept.view(torch.float32).where(values.isfinite(), values)
