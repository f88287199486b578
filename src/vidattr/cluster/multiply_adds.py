"""The multiply-adds of a network's forward pass, counted without computing the pass.

torch's own counter (`torch.utils.flop_counter`, on the device "meta") gives the same numbers, but the first operation
on that device imports torch's compiler, which takes seconds. Here tensors lie on the CPU and are blank: one number,
repeated by strides of 0, which takes no memory. Most operations on blank tensors give a blank tensor of the right
shape; an operation without a rule is computed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_SAME_SHAPE = {"_softmax", "_log_softmax", "_to_copy", "clone", "empty_like", "ones_like", "zeros_like"}
"""Operations whose result has the shape of the first argument."""

_NORMS = {"native_batch_norm", "native_group_norm", "native_layer_norm"}
"""Operations that return a result of the same shape, and two statistics that only a backward pass uses."""

_MATRICES = {"mm": 0, "bmm": 0, "addmm": 1, "baddbmm": 1}
"""Matrix products, and the place of the first matrix among their arguments."""

_ATTENTION = "_scaled_dot_product_flash_attention_for_cpu"
_POOL = re.compile(r"_?(?:adaptive_)?(?:avg|max)_pool([123])d(?:_with_indices)?")
_NO_NUMBERS = {"as_strided_", "detach_", "resize_", "set_", "squeeze_", "t_", "transpose_", "unsqueeze_"}
"""Operations in place that change the shape or the graph of a tensor, not its numbers."""


def blank(shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """Returns a tensor of zeros on the CPU that takes the memory of one number."""
    return torch.zeros((), dtype=dtype).expand(tuple(shape))


def is_blank(tensor: Tensor) -> bool:
    """Returns whether a tensor repeats one number by strides of 0."""
    return tensor.layout is torch.strided and all(
        length == 1 or stride == 0 for length, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )


class MultiplyAdds(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the multiply-adds of convolutions and matrix products in a block, whose results are blank.

    A network that is built in the block has blank weights, for which nothing is drawn. Normalisation, activations and
    pools do not count. The padding of a convolution counts as if it were frames. The numbers of all results mean
    nothing.

    Attributes:
        count: Multiply-adds so far.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Returns False: torch would otherwise import its compiler, to keep it from compiling this class."""
        return False

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __enter__(self) -> Self:
        """Begins the block. oneDNN is switched off: the products inside of its LSTM would not be seen."""
        self._before, *_ = torch.backends.mkldnn.set_flags(False)  # type: ignore[no-untyped-call]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *how: Any) -> None:
        """Ends the block."""
        super().__exit__(*how)  # type: ignore[no-untyped-call]
        torch.backends.mkldnn.set_flags(self._before)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Runs one operation, or returns blank tensors of the shapes of its results."""
        given, name = dict(kwargs or {}), func._overloadpacket.__name__
        if name == "empty":
            return blank(args[0], given.get("dtype") or torch.get_default_dtype())
        if name == "convolution":
            frames, weight, transposed = args[0], args[1], args[6]
            found = blank(_convolved(*args), frames.dtype)
            self.count += (frames if transposed else found).numel() * weight[0].numel()
            return found
        if name in _MATRICES:
            a, b = args[_MATRICES[name] :][:2]
            return self._product(a, b.shape[-1])
        if name == _ATTENTION:
            query, key, value = args[:3]
            shares = self._product(query, key.shape[-2])
            return self._product(shares, value.shape[-1]), blank(query.shape[:-1])
        if name == "cat" and all(map(is_blank, args[0])):
            return _joined(*args, **given)
        tensors = [each for each in args if isinstance(each, Tensor)]
        if not tensors or not is_blank(tensors[0]) or not tensors[0].numel():
            return func(*args, **given)
        written = func._schema.arguments[0].alias_info
        if written is not None and written.is_write:
            return func(*args, **given) if name in _NO_NUMBERS else tensors[0]
        return _of_blank(func, name, tensors, args, given)

    def _product(self, matrix: Tensor, columns: int) -> Tensor:
        """Counts the product of a matrix (…, m, k) and one of so many columns; returns a blank (…, m, columns)."""
        found = blank((*matrix.shape[:-1], columns), matrix.dtype)
        self.count += found.numel() * matrix.shape[-1]
        return found


def _of_blank(func: Any, name: str, tensors: Sequence[Tensor], args: Sequence[Any], given: dict[str, Any]) -> Any:
    """Returns the result of an operation whose first tensor is blank."""
    first = tensors[0]
    if name in _SAME_SHAPE:
        return blank(first.shape, given.get("dtype") or first.dtype)
    if name in _NORMS:
        return blank(first.shape, first.dtype), first.new_zeros(0), first.new_zeros(0)
    if torch.Tag.pointwise in func.tags and all(map(is_blank, tensors)):
        # All numbers of a result are equal: one of them is computed.
        one = [_first_of(each) if isinstance(each, Tensor) else each for each in args]
        return func(*one, **given).expand(np.broadcast_shapes(*(each.shape for each in tensors)))
    pool = _POOL.fullmatch(name)
    if pool and first.ndim == 2 + int(pool[1]):
        # Clips and channels are pooled by themselves: one of them gives the shape.
        found = func(first[:1, :1], *args[1:], **given)
        parts = found if isinstance(found, tuple) else (found,)
        blanks = tuple(blank((*first.shape[:2], *part.shape[2:]), part.dtype) for part in parts)
        return blanks if isinstance(found, tuple) else blanks[0]
    return func(*args, **given)


def _first_of(tensor: Tensor) -> Tensor:
    return tensor.as_strided((1,) * tensor.ndim, (1,) * tensor.ndim)


def _convolved(
    frames: Tensor,
    weight: Tensor,
    _bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> tuple[int, ...]:
    """Returns the shape of a convolution's result, by the formulas of torch's `Conv3d` and `ConvTranspose3d`."""
    axes = len(weight.shape) - 2
    steps, edges, gaps, more = (
        list(each) * (axes if len(each) == 1 else 1) for each in (stride, padding, dilation, output_padding)
    )
    lengths = []
    each_axis = zip(frames.shape[-axes:], weight.shape[2:], steps, edges, gaps, more, strict=True)
    for length, size, step, edge, gap, extra in each_axis:
        reach = gap * (size - 1)
        forward = (length + 2 * edge - reach - 1) // step + 1
        lengths.append((length - 1) * step - 2 * edge + reach + extra + 1 if transposed else forward)
    return (*frames.shape[: -axes - 1], weight.shape[1] * groups if transposed else len(weight), *lengths)


def _joined(parts: Sequence[Tensor], dim: int = 0) -> Tensor:
    shape = list(parts[0].shape)
    shape[dim] = sum(part.shape[dim] for part in parts)
    return blank(shape, parts[0].dtype)
