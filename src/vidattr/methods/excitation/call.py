"""A call of a torch function, and the part of a trace that the rules of recurrent layers use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor


@dataclass(frozen=True)
class Call:
    """One call of a torch function; `name` is its name without underscores at the ends."""

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def __call__(self) -> Any:
        """Calls the function with the original arguments."""
        return self.function(*self.args, **self.kwargs)

    def of(self, *inputs: Tensor) -> Tensor:
        """Calls the function out of place, with other tensors as its first arguments."""
        keywords = {key: value for key, value in self.kwargs.items() if key != "inplace"}
        function = getattr(torch, self.name) if self.in_place else self.function
        return cast(Tensor, function(*inputs, *self.args[len(inputs) :], **keywords))

    @property
    def in_place(self) -> bool:
        """True if the function writes into its first argument."""
        name = self.function.__name__
        return name.endswith("_") and not name.endswith("__")


class Recorder(Protocol):
    """The part of a trace that a rule of a recurrent layer uses.

    Attributes:
        time_first: The T of layers that take (T, N, D).
    """

    time_first: set[int]

    def read(self, weight: Tensor, x: Tensor) -> Tensor:
        """Records that a recurrent layer with this weight reads x, (N, T, D) or (N, D), and returns x."""
