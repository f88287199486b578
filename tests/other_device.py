"""A device beside the CPU, without one: tensors that hold CPU data, claim another device, and tell what waits.

`Far` tensors are real (their values are computed on the CPU), but torch's checks see the device "meta". Inside
`watched()` every operation is inspected as a GPU would see it. Operands on two devices raise an error. What makes the
host wait for the device is recorded by name: a value that is read, an operation whose result's shape depends on values,
a copy in either direction that is not asynchronous.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

FAR = torch.device("meta")
# The shape of the result depends on values.
_BY_VALUE = {
    "nonzero",
    "masked_select",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "unique_dim_consecutive",
    "repeat_interleave",
    "bincount",
    "argwhere",
}
_READS = {"_linalg_check_errors", "_local_scalar_dense", "allclose", "equal", "is_nonzero", "item"}
# Matrix decompositions whose kernels look at a flag of success.
_LOOKS = {"_linalg_eigh", "_linalg_svd", "linalg_eig", "linalg_lstsq", "linalg_pinv"}
_INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"}


class Far(Tensor):
    """A tensor of the other device: its values are in `near`."""

    near: Tensor

    @staticmethod
    def __new__(cls, near: Tensor) -> Far:
        """Wraps a CPU tensor."""
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            near.size(),
            strides=near.stride(),
            storage_offset=near.storage_offset(),
            dtype=near.dtype,
            layout=near.layout,
            device=FAR,
        )
        made.near = near
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        """Returns the values, and that they are far."""
        return f"Far({self.near})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs one operation outside of `watched()`: nothing is recorded."""
        return _run(func, args, kwargs or {}, [])


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, waits: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._waits = waits

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {}, self._waits)


def _run(func: Any, args: Any, kwargs: dict[str, Any], waits: list[str]) -> Any:
    name = func._overloadpacket.__name__
    operands = [each for each in tree_flatten((args, kwargs))[0] if isinstance(each, Tensor)]
    far = any(isinstance(each, Far) for each in operands)
    # A CPU number, a tensor without axes, may meet a tensor of any device; so may an index.
    near = [each for each in operands if not isinstance(each, Far) and each.ndim]
    asked = kwargs.get("device")
    goes_far = far if asked is None else torch.device(asked) == FAR
    if name in ("_to_copy", "copy_"):
        ends = [far, goes_far] if name == "_to_copy" else [isinstance(args[1], Far), isinstance(args[0], Far)]
        asynchronous = kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2])
        if ends == [True, False] and not asynchronous:
            waits.append("download")
        elif ends == [False, True] and not (asynchronous or (name == "copy_" and args[1].ndim == 0)):
            waits.append("upload")
    elif far and name in _INDEXED:
        indices = [each for each in args[1] if isinstance(each, Tensor)]
        if any(each.dtype in (torch.bool, torch.uint8) for each in indices):
            waits.append("boolean index")
        if any(not isinstance(each, Far) for each in indices):
            waits.append("index from the host")
    elif far and near:
        raise AssertionError(f"{func} takes tensors of two devices, {[tuple(each.shape) for each in near]} on the CPU")
    elif far and name in _BY_VALUE | _READS | _LOOKS:
        waits.append(name)
    elif near and goes_far and not far:
        waits.append("upload")
    taken = {key: value for key, value in kwargs.items() if key != "device"}
    if asked is not None:
        taken["device"] = torch.device("cpu")
    out = func(*tree_map(_near, args), **tree_map(_near, taken))
    if not goes_far:
        return out
    wrapped = tree_map(lambda each: Far(each) if isinstance(each, Tensor) else each, out)
    return return_and_correct_aliasing(func, args, kwargs, wrapped) if far else wrapped


def _near(each: Any) -> Any:
    return each.near if isinstance(each, Far) else each


_generator, _tensor = torch.Generator, torch.tensor


class _FarGenerator(_generator):  # type: ignore[valid-type,misc]
    """Draws on the CPU for the other device."""

    device = FAR


class _AnyGenerator(_generator):  # type: ignore[valid-type,misc]
    """Stands in for `torch.Generator`; a class, because torch's modules name it in annotations."""

    def __new__(cls, device: Any = "cpu") -> torch.Generator:
        return _FarGenerator("cpu") if torch.device(device) == FAR else _generator(device)


@contextmanager
def watched() -> Iterator[list[str]]:
    """Yields the list of what made the host wait inside the block, in order."""
    waits: list[str] = []

    # torch makes a tensor on "meta" from numbers without them.
    def tensor(data: Any, *, dtype: Any = None, device: Any = "cpu", **named: Any) -> Tensor:
        made = _tensor(data, dtype=dtype, **named)
        if torch.device(device) != FAR:
            return made
        waits.append("upload")
        return far(made)

    def new_tensor(like: Tensor, data: Any, dtype: Any = None, device: Any = None) -> Tensor:
        return tensor(data, dtype=dtype or like.dtype, device=like.device if device is None else device)

    with (
        patch.object(torch, "Generator", _AnyGenerator),
        patch.object(torch, "tensor", tensor),
        patch.object(Tensor, "new_tensor", new_tensor),
        _Watch(waits),
    ):
        yield waits


def far(tensor: Tensor) -> Far:
    """Returns a tensor's copy on the other device."""
    return Far(tensor.detach().clone())


def moved(module: nn.Module) -> nn.Module:
    """Moves a module's weights to the other device."""
    for part in module.modules():
        for name, value in part._parameters.items():
            if value is not None:
                part._parameters[name] = nn.Parameter(far(value), requires_grad=False)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = far(buffer)
    return module
