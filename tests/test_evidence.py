"""The sentence that says when and where the evidence of a map lies."""

from __future__ import annotations

import numpy as np
import pytest

from vidattr.run.evidence import Evidence


def planted(frames: slice, rows: slice, columns: slice, count: int = 20) -> np.ndarray:
    map = np.full((count, 30, 30), 1e-4, np.float32)
    map[frames, rows, columns] = 1.0
    return map


SECONDS = tuple(0.5 * t for t in range(20))
NUMBERS = tuple(1 + 15 * t for t in range(20))


def test_planted_evidence_is_found_in_time_and_space() -> None:
    map = planted(slice(12, 15), slice(0, 10), slice(0, 10))
    found = Evidence.of(map, NUMBERS, SECONDS)
    # Half of the mass needs two of the three frames.
    assert (found.start, found.end, found.place) == (6.0, 6.5, "top left")
    assert found.concentrated
    assert found.sentence(NUMBERS) == (
        "most of the evidence lies between 6.0 s and 6.5 s (66% of the positive mass, in 2 of 20 frames), "
        "at the top left"
    )


@pytest.mark.parametrize(
    ("rows", "columns", "place"),
    [
        (slice(0, 10), slice(10, 20), "top"),
        (slice(10, 20), slice(20, 30), "right"),
        (slice(20, 30), slice(0, 10), "bottom left"),
        (slice(10, 20), slice(10, 20), ""),
        (slice(0, 30), slice(0, 30), ""),
    ],
)
def test_places(rows: slice, columns: slice, place: str) -> None:
    found = Evidence.of(planted(slice(3, 4), rows, columns), NUMBERS, None)
    assert found.place == place
    assert found.sentence(NUMBERS).startswith("most of the evidence lies at frame 46 (")


def test_an_even_map_is_called_spread() -> None:
    found = Evidence.of(np.ones((20, 8, 8)), NUMBERS, SECONDS)
    assert not found.concentrated
    assert found.sentence(NUMBERS) == (
        "the evidence is spread over time: the densest half lies between 0.0 s and 4.5 s "
        "(50% of the positive mass, in 10 of 20 frames)"
    )


@pytest.mark.parametrize(
    "map", [np.zeros((20, 8, 8)), -np.ones((20, 8, 8)), 1e-9 - np.eye(8).repeat(20, 0).reshape(20, 8, 8)]
)
def test_a_map_without_positive_values(map: np.ndarray) -> None:
    assert Evidence.of(map, NUMBERS, SECONDS).sentence(NUMBERS) == "the map has no positive evidence"


def test_negative_values_do_not_count() -> None:
    map = planted(slice(12, 13), slice(0, 10), slice(0, 10))
    map[2] = -100
    assert Evidence.of(map, NUMBERS, SECONDS).start == 6.0
