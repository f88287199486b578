"""Where and when the evidence of a map lies, in numbers and in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MOST = 0.5  # share of the positive mass that the part of the clip has to hold
_DENSER = 1.5  # how many times the share of an even map: below that nothing is concentrated
_FLAT = 1e-6  # a value this small, relative to the most negative one, is a rounding error (as in `render.heat`)
_ACROSS = ("left", "", "right")
_DOWN = ("top", "", "bottom")


@dataclass(frozen=True)
class Evidence:
    """The shortest part of a clip that holds half of the positive mass of a map.

    Attributes:
        first: Index of its first frame among the T frames of the map.
        last: Index of its last frame.
        share: Share of the positive mass that lies in it; 0 if the map has no positive value above rounding.
        frames: T.
        place: Where in the frame more than half of this mass lies, as "top left"; "" if it is in no third, or in the
            middle ones.
        start: When the first frame is shown, in seconds; None if the times are unknown.
        end: When the last frame is shown.
    """

    first: int
    last: int
    share: float
    frames: int
    place: str = ""
    start: float | None = None
    end: float | None = None

    @classmethod
    def of(cls, map: NDArray[np.floating], numbers: Sequence[int], seconds: Sequence[float] | None) -> Evidence:
        """Returns the evidence of a (T, H, W) map.

        Args:
            map: Raw, finite.
            numbers: The T frame numbers; a frame that occurs twice counts where it occurs.
            seconds: When the T frames are shown; None if that is unknown.
        """
        mass = np.maximum(map.astype(np.float64), 0)
        per_frame = mass.sum((1, 2))
        total = float(per_frame.sum())
        if mass.max() <= _FLAT * -float(map.min()):
            return cls(0, len(map) - 1, 0.0, len(numbers))
        first, last = _shortest(per_frame / total)
        inside = mass[first : last + 1]
        place = " ".join(filter(None, (_third(inside.sum((0, 2)), _DOWN), _third(inside.sum((0, 1)), _ACROSS))))
        start, end = (None, None) if seconds is None else (seconds[first], seconds[last])
        share = float(per_frame[first : last + 1].sum() / total)
        return cls(first, last, share, len(numbers), place, start, end)

    @property
    def concentrated(self) -> bool:
        """Whether the part holds clearly more of the mass than an even map would put there."""
        return self.share > _DENSER * (self.last - self.first + 1) / self.frames

    def facts(self) -> dict[str, Any]:
        """Returns the evidence for programs."""
        return {**asdict(self), "concentrated": self.concentrated}

    def sentence(self, numbers: Sequence[int]) -> str:
        """Returns the evidence in words.

        Args:
            numbers: The T frame numbers.
        """
        if self.share == 0:
            return "the map has no positive evidence"
        if self.start is None or self.end is None:
            names = [f"frame {numbers[t]}" for t in (self.first, self.last)]
        else:
            digits = 1 if self.end == self.start or self.end - self.start >= 0.2 else 2
            names = [f"{second:.{digits}f} s" for second in (self.start, self.end)]
        span = f"at {names[0]}" if names[0] == names[1] else f"between {names[0]} and {names[1]}"
        count = self.last - self.first + 1
        held = f"{self.share:.0%} of the positive mass, in {count} of {self.frames} frames"
        where = f", at the {self.place}" if self.place else ""
        if self.concentrated:
            return f"most of the evidence lies {span} ({held}){where}"
        return f"the evidence is spread over time: the densest half lies {span} ({held}){where}"


def _shortest(shares: NDArray[np.float64]) -> tuple[int, int]:
    """Returns the first and last index of the shortest stretch that holds half; of several, the one that holds most."""
    total = np.concatenate([[0.0], shares.cumsum()])
    for length in range(1, len(shares) + 1):
        held = total[length:] - total[:-length]
        held = held.round(9)  # sums that differ in their last bits are equal
        if held.max() >= _MOST:
            first = int(held.argmax())
            return first, first + length - 1
    return 0, len(shares) - 1


def _third(profile: NDArray[np.float64], names: tuple[str, str, str]) -> str:
    """Returns the name of the third of a side that holds more than half of the mass; "" if none does."""
    edges = np.round(np.linspace(0, len(profile), 4)).astype(int)
    shares = [profile[a:b].sum() / profile.sum() for a, b in pairwise(edges)]
    best = int(np.argmax(shares))
    return names[best] if shares[best] > _MOST else ""
