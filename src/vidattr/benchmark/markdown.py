"""Numbers and tables in Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence


def number(value: float, places: int = 3) -> str:
    """Returns a number with a fixed count of decimals; NaN is a dash."""
    return "–" if math.isnan(value) else f"{value:.{places}f}"


def spread(value: float, low: float, high: float, places: int = 2) -> str:
    """Returns a value with its interval."""
    text = number(value, places)
    return text if math.isnan(low) else f"{text} [{number(low, places)}, {number(high, places)}]"


def rows(heading: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table, the first column left-aligned and the others right-aligned."""
    bar = ["---", *("--:" for _ in heading[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in (heading, bar, *lines))
