"""Reads pickles of numbers, text and numpy arrays without running code from them.

A pickle is a program. This unpickler accepts numbers, strings and arrays only, and builds arrays by its own code, since
numpy's constructors trust their arguments.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray


def arrays_of(data: bytes) -> Any:
    """Returns the content of a pickle, with an `Array` for each array and strings of Python 2 as text.

    Raises:
        UnpicklingError: The pickle holds code. Any other exception: it is damaged.
    """
    # Python allocates as many memo entries as an instruction asks for, even if that is four thousand million.
    for operation, argument, _ in pickletools.genops(data):
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and isinstance(argument, int) and argument > len(data):
            raise pickle.UnpicklingError(f"it numbers an object {argument} in {len(data)} bytes")
    return _Unpickler(io.BytesIO(data), encoding="latin1").load()


class _Dtype:
    """Stands for a numpy dtype of numbers or text."""

    def __init__(self, code: str, *_: object) -> None:
        if not re.fullmatch(r"[biuf][1248]|[SU][0-9]{1,4}", code):
            raise pickle.UnpicklingError(f"it holds an array of {code!r}")
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = {"<": "<", ">": ">"}.get(state[1], "=")

    def read(self, data: bytes | str) -> NDArray[Any]:
        return np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, np.dtype(self.order + self.code))


class Array:
    """Stands for a numpy array; its `values` come as arguments (protocol 5) or as the pickle's state (before)."""

    values: NDArray[Any]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        self.values = dtype.read(data).reshape(shape, order="F" if fortran else "C")

    @classmethod
    def of(cls, data: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str, *_: object) -> Array:
        """Returns the array of these bytes."""
        array = cls()
        array.values = dtype.read(data).reshape(shape, order="F" if order == "F" else "C")
        return array


class _Unpickler(pickle.Unpickler):
    known: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy", "dtype"): _Dtype,
        ("numpy", "ndarray"): Array,
        # As Python 3 writes bytes in protocol 2.
        ("_codecs", "encode"): lambda text, _: text.encode("latin1"),
        **{
            (f"numpy.{core}.{module}", name): stand_in
            for core in ("core", "_core")  # numpy 1 and 2
            for module, name, stand_in in (
                ("multiarray", "_reconstruct", lambda *_: Array()),
                ("multiarray", "scalar", lambda dtype, data: dtype.read(data)[0]),
                ("numeric", "_frombuffer", Array.of),
            )
        },
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.known:
            raise pickle.UnpicklingError(
                f"it holds code ({module}.{name}), where arrays, numbers and text are all that is taken"
            )
        return self.known[module, name]
