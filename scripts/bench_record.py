"""The last figures of `bench.py`, in docs/bench.json, and what got slower or faster since by more than the noise."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

LEAST = 0.05
"""A smaller change of the median ratio is noise, however close together the rounds are."""

Ratios = Mapping[str, Sequence[float]]


def stored(path: Path) -> dict[str, list[float]]:
    """Returns the ratios of each pair's rounds, by the pair's name; nothing where there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def kept(last: Ratios, rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the file's text: the new ratios, and the last ones of pairs that were not measured."""
    new = {row["what"]: [round(ratio, 3) for ratio in row["ratios"]] for row in rows}
    lines = [
        f"  {json.dumps(what, ensure_ascii=False)}: {json.dumps(list(ratios))}"
        for what, ratios in sorted({**last, **new}.items())
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def compared(last: Ratios, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yields a line for each pair that changed by more than the noise, and one for what was not compared.

    A pair is slower if each of its new ratios is above each of the last ones, and the median by at least `LEAST`;
    faster is the same the other way round.
    """
    slower, faster, new = [], [], []
    for row in rows:
        what, now = row["what"], row["ratios"]
        before = last.get(what)
        if not before:
            new.append(what)
            continue
        change = median(now) / median(before) - 1
        line = f"{median(before):.2f} → {median(now):.2f} ({change:+.0%}): {what}"
        if min(now) > max(before) and change >= LEAST:
            slower.append(f"slower: {line}")
        elif max(now) < min(before) and change <= -LEAST:
            faster.append(f"faster: {line}")
    yield from slower
    yield from faster
    yield from (f"not in the last figures: {what}" for what in new)
    if not slower:
        yield f"none of {len(rows) - len(new)} pairs got slower by more than the noise"
