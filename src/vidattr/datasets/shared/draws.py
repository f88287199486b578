"""Seeded random numbers that depend on a clip alone, and not on the other clips."""

from __future__ import annotations

import hashlib


def draw(seed: int, *what: str) -> int:
    """Returns a number of 64 bits that depends on a seed and on these texts alone."""
    return int.from_bytes(hashlib.sha256("/".join((str(seed), *what)).encode()).digest()[:8], "big")
