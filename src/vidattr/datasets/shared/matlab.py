"""Reads MATLAB 5 files of structs and numbers, and checks every length before it is used.

scipy's reader trusts the lengths in a file, and a damaged file can crash the process. Annotations need only a part of
the format: numeric arrays, text, cells and structs, compressed or not.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR, _FIRST_NUMBER, _LAST_NUMBER = 1, 2, 4, 6, 15
_LARGEST = 2**30  # bytes that a compressed element may grow to
_DEEPEST = 16


@dataclass(frozen=True)
class _Element:
    kind: int
    data: memoryview


def variable(content: bytes, name: str) -> Any:
    """Returns one variable of a file.

    Returns:
        Numbers as an array in MATLAB's order of axes, text as str, cells as a flat list, and structs as a flat list
        with a dictionary for each, both in MATLAB's order.

    Raises:
        ValueError: The file is damaged, of another version, or has no such variable.
    """
    if len(content) < 136 or content[126:128] not in (b"IM", b"MI"):
        raise ValueError("it is not a MATLAB 5 file (a file of version 7.3 has to be saved again with -v7)")
    order = "<" if content[126:128] == b"IM" else ">"
    for element in _elements(memoryview(content)[128:], order):
        matrix = _inflated(element, order) if element.kind == _COMPRESSED else element
        if (
            matrix.kind == _MATRIX
            and (parts := list(_elements(matrix.data, order, 3)))
            and bytes(parts[2].data) == name.encode()
        ):
            return _value(matrix.data, order, 0)
    raise ValueError(f"it has no variable {name!r}")


def _elements(data: memoryview, order: str, most: int | None = None) -> Iterator[_Element]:
    place, count = 0, 0
    while place + 8 <= len(data) and count != most:
        kind, size = struct.unpack_from(f"{order}II", data, place)
        if kind >> 16:  # data of up to four bytes are stored in the tag itself
            kind, size, start, place = kind & 0xFFFF, kind >> 16, place + 4, place + 8
            if size > 4:
                raise ValueError(f"a small element of {size} bytes")
        else:
            start = place + 8
            place = start + (size if kind == _COMPRESSED else -(-size // 8) * 8)
        if start + size > len(data):
            raise ValueError(f"an element of {size} bytes where {len(data) - start} are left")
        yield _Element(kind, data[start : start + size])
        count += 1


def _inflated(element: _Element, order: str) -> _Element:
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(element.data, _LARGEST)
    except zlib.error as error:
        raise ValueError(f"compressed data: {error}") from error
    if not unpacker.eof:
        raise ValueError("compressed data without an end, or of more than 1 GiB")
    found = next(_elements(memoryview(data), order), None)
    if found is None:
        raise ValueError("compressed data without an element")
    return found


def _value(data: memoryview, order: str, depth: int) -> Any:
    """Returns what a matrix element holds."""
    if depth > _DEEPEST:
        raise ValueError(f"more than {_DEEPEST} levels of structs")
    if not len(data):
        return np.zeros((0, 0))
    parts = _elements(data, order)
    flags, dimensions, _ = (_next(parts) for _ in range(3))
    kind = int(_numbers(flags, order)[0]) & 0xFF
    shape = tuple(int(n) for n in _numbers(dimensions, order))
    count = math.prod(shape)
    if (
        not shape or min(shape) < 0 or count > len(data) * 4
    ):  # an empty element takes eight bytes, a number at least one
        raise ValueError(f"an array of shape {shape} in {len(data)} bytes")
    if kind == _CELL:
        return [_value(_matrix(parts), order, depth + 1) for _ in range(count)]
    if kind == _STRUCT:
        width = int(_numbers(_next(parts), order)[0])
        names = bytes(_next(parts).data)
        if not 0 < width <= 64 or len(names) % width:
            raise ValueError(f"names of fields of {width} bytes each in {len(names)}")
        fields = [names[i : i + width].split(b"\0")[0].decode("latin-1") for i in range(0, len(names), width)]
        return [{field: _value(_matrix(parts), order, depth + 1) for field in fields} for _ in range(count)]
    if kind == _CHAR:
        element = _next(parts)
        if element.kind not in _TEXTS:
            raise ValueError(f"text of type {element.kind}")
        codec = _TEXTS[element.kind]
        return bytes(element.data).decode(
            codec if codec in ("latin-1", "utf-8") else f"{codec}-{'le' if order == '<' else 'be'}"
        )
    if _FIRST_NUMBER <= kind <= _LAST_NUMBER:
        values = _numbers(_next(parts), order)
        if len(values) != count:
            raise ValueError(f"{len(values)} numbers for an array of shape {shape}")
        return values.reshape(shape, order="F")
    raise ValueError(f"an array of class {kind}")


def _next(parts: Iterator[_Element]) -> _Element:
    element = next(parts, None)
    if element is None:
        raise ValueError("an array that ends in the middle")
    return element


def _matrix(parts: Iterator[_Element]) -> memoryview:
    element = _next(parts)
    if element.kind != _MATRIX:
        raise ValueError(f"an element of type {element.kind} where an array should be")
    return element.data


def _numbers(element: _Element, order: str) -> NDArray[Any]:
    if element.kind not in _NUMBERS:
        raise ValueError(f"numbers of type {element.kind}")
    dtype = np.dtype(order + _NUMBERS[element.kind])
    if len(element.data) % dtype.itemsize:
        raise ValueError(f"{len(element.data)} bytes of numbers of {dtype.itemsize}")
    return np.frombuffer(element.data, dtype)
