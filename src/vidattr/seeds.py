"""Seeds of random streams: each stream has a seed of its own, made of the run's seed and a name."""

from __future__ import annotations

import hashlib


def seed_for(seed: int, name: str) -> int:
    """Returns the seed of the stream called `name`, 63 bits: it depends on `seed` and the name, and on nothing else."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "big") >> 1
