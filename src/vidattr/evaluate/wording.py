"""The numbers of a table in words: values with their intervals, differences, counts, headings of several lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vidattr.evaluate.look import Look
from vidattr.evaluate.summary import Entry
from vidattr.types import Column

ARROWS = {"higher": "↑", "lower": "↓"}
NOTHING = "–"
COUNTS = ("n", "NaN", "videos")


@dataclass(frozen=True)
class WordedRow:
    """A row in words.

    Attributes:
        name: Its name, as shown.
        values: The value of each column, "–" where there is none.
        intervals: The 95 % interval of each value, or "".
        best: Whether each value is the best of methods and baselines.
        differences: The difference to the baseline and its p-value under each value, or "".
        counts: n, NaN and videos; a range where the columns differ.
    """

    name: str
    values: list[str]
    intervals: list[str]
    best: list[bool]
    differences: list[str]
    counts: list[str]

    @classmethod
    def of(cls, name: str, entries: Sequence[Entry], look: Look) -> WordedRow:
        """Puts the entries of one row in words."""
        counts = ({getattr(entry, count) for entry in entries} for count in ("n", "n_nan", "n_videos"))
        spans = ["–".join(map(str, sorted({min(count), max(count)}))) for count in counts] if look.counts else []
        return cls(
            look.name(name),
            [_value(entry, look) for entry in entries],
            [_interval(entry, look) if look.intervals else "" for entry in entries],
            [entry.best for entry in entries],
            [_difference(entry, look) if look.differences else "" for entry in entries],
            spans,
        )

    def lines(self, best: str) -> list[list[str]]:
        """Returns the row as one line of cells, or as two where it was compared with the baseline.

        Args:
            best: Format of the best value, "*{}".
        """
        cells = zip(self.values, self.intervals, self.best, strict=True)
        values = [
            best.format(text) if is_best else text
            for text, is_best in ((f"{value} {interval}".rstrip(), is_best) for value, interval, is_best in cells)
        ]
        first = [self.name, *values, *self.counts]
        return [first, ["", *self.differences, *[""] * len(self.counts)]] if any(self.differences) else [first]


def headings(columns: Sequence[Column], look: Look) -> list[list[str]]:
    """Returns the parts of each column's heading, the general ones first, with an arrow for what is better."""
    parts = [[look.name(part) for part in column.title.split(", ")] for column in columns]
    for part, column in zip(parts, columns, strict=True):
        part[-1] = f"{part[-1]} {ARROWS[column.better]}"
    return [*parts, *([name] for name in (COUNTS if look.counts else ()))]


def _value(entry: Entry, look: Look) -> str:
    if math.isnan(entry.value):
        return NOTHING
    return f"{entry.value:.{_decimals(entry.value, look)}f}".replace("-", "−")


def _interval(entry: Entry, look: Look) -> str:
    if math.isnan(entry.value) or math.isnan(entry.low):
        return ""
    return f"[{_short(entry.low, look)}, {_short(entry.high, look)}]".replace("-", "−")


def _short(number: float, look: Look) -> str:
    decimals = 3 if look.decimals is None else look.decimals
    if abs(number) < 1 - 0.5 * 10.0**-decimals:
        return f"{number:.{decimals}f}".replace("0.", ".", 1)
    return f"{number:.{min(2, _decimals(number, look)) if look.decimals is None else decimals}f}"


def _decimals(number: float, look: Look) -> int:
    """Returns the number of decimals shown: three up to 10, one less for each further digit before the point."""
    if look.decimals is not None:
        return look.decimals
    return 3 - sum(abs(number) >= bound for bound in (9.9995, 99.995, 999.95))


def _difference(entry: Entry, look: Look) -> str:
    if math.isnan(entry.difference):
        return ""
    p = "p<.001" if entry.p < 0.001 else f"p {_short(entry.p, Look())}"
    return f"Δ {entry.difference:+.{_decimals(entry.difference, look)}f} ({p})".replace("-", "−")
