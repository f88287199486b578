"""Tables of scores on disk: CSV files with one row per clip, of all clips or of one shard of an evaluation."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from vidattr.errors import ConfigError
from vidattr.writing import remove

KEYS = ("clip", "label", "video", "made_of", "truth")
"""The columns of text."""


def part_path(path: Path, shard: tuple[int, int]) -> Path:
    """Returns the file of the scores of one shard, given that of all scores."""
    return path.parent / "parts" / f"{path.stem}.{shard[0]}-of-{shard[1]}.csv"


def part_files(path: Path) -> list[Path]:
    """Returns the files of scores of the shards of an evaluation, without curves."""
    rows = re.compile(re.escape(path.stem) + r"\.[0-9]+-of-[0-9]+\.csv")
    return sorted(part for part in (path.parent / "parts").glob(f"{path.stem}.*.csv") if rows.fullmatch(part.name))


@contextmanager
def removed_parts(path: Path) -> Iterator[None]:
    """Removes the files of shards when the block has ended without an exception: their rows are in the file of all."""
    yield
    for part in (path.parent / "parts").glob(f"{path.stem}.*"):
        remove(part)


def read_table(path: Path, numbers: Collection[str] | None = None) -> pd.DataFrame:
    """Reads a table of one row per clip.

    Args:
        path: The CSV file.
        numbers: The columns that have to hold numbers, beside references; None: all but the keys.
    """
    try:
        found = pd.read_csv(path, keep_default_na=False, na_values=[""], converters=dict.fromkeys(KEYS, str))
        _check(found, numbers)
    except Exception as error:  # Anybody may have edited the file, and pandas raises errors of many types.
        reason = str(error) if len(str(error)) <= 300 else f"{str(error)[:300]}…"
        expected = "one row a clip, as `vidattr evaluate` writes them"
        raise ConfigError(
            f"{path} cannot be read: {reason}", expected=expected, remedy="delete it and evaluate again"
        ) from error
    words = {name: found[name].astype(object).where(found[name].notna(), "") for name in KEYS if name in found}
    return found.assign(**words)  # A clip without a label has "", not NaN.


def _check(found: pd.DataFrame, numbers: Collection[str] | None) -> None:
    """Raises ValueError where a table has no clips, a clip twice, text for numbers, or rows that are too long."""
    # pandas takes the first fields of rows that are too long for names of rows, and shifts the others.
    if not isinstance(found.index, pd.RangeIndex):
        raise ValueError("a row has more fields than the heading")
    if "clip" not in found:
        raise ValueError(f"its columns are {', '.join(map(str, found.columns[:10]))}, and none is clip")
    if twice := sorted(set(found["clip"][found["clip"].duplicated()])):
        raise ValueError(f"it has several rows of {', '.join(twice[:5])}")
    for name in found.columns.difference(list(KEYS)):
        if (numbers is None or name in numbers or "/" in name) and not pd.api.types.is_numeric_dtype(
            found[name].dropna().infer_objects()
        ):
            text = found[name].dropna()
            wrong = next((value for value in text if not isinstance(value, int | float)), "")
            raise ValueError(f"the column {name[:80]} holds {str(wrong)[:80]!r}, which is no number")


def joined(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of both, the new ones where a clip is in both."""
    if not len(old):
        return new
    return pd.concat([old[~old["clip"].isin(new["clip"])], new], ignore_index=True)
