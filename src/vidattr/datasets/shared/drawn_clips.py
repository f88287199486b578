"""The clips of a dataset that code draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, overload

from vidattr.types import Clip


class Drawn(Protocol):
    """A dataset whose clips are numbered from 0."""

    def clip(self, number: int) -> Clip:
        """Returns clip `number`."""


class DrawnClips(Sequence[Clip]):
    """Clips that are laid out when they are accessed, so that a dataset of a million clips opens at once."""

    def __init__(self, dataset: Drawn, numbers: range) -> None:
        self.dataset, self.numbers = dataset, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, place: int) -> Clip: ...

    @overload
    def __getitem__(self, place: slice) -> DrawnClips: ...

    def __getitem__(self, place: int | slice) -> Clip | DrawnClips:
        if isinstance(place, slice):
            return DrawnClips(self.dataset, self.numbers[place])
        return self.dataset.clip(self.numbers[place])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DrawnClips) and (self.dataset, self.numbers) == (other.dataset, other.numbers)

    __hash__ = None  # type: ignore[assignment]
