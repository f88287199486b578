"""The look of a table: its columns, rows, names, decimals, intervals, differences, counts and notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vidattr.errors import ConfigError

MOST_DECIMALS = 9


@dataclass(frozen=True)
class Look:
    """How a table is shown. The files beside the maps always hold the whole table.

    Attributes:
        columns: Titles, ends of titles ("class mean") or names of scores, in the order shown; empty: all.
        rows: Names of rows in the order shown within their group; empty: all.
        names: Name of a row or of a part of a heading to what is shown instead.
        decimals: Decimals of values, ends of intervals and differences; None: three up to 10, fewer above.
        intervals: Whether 95 % intervals are shown.
        differences: Whether Δ rows are shown, of tables that compare with a baseline.
        counts: Whether the columns n, NaN and videos are shown.
        notes: Whether the notes are shown.
        label: Name for references to the LaTeX table; "": none.
        wide: Whether the LaTeX table spans two columns (`table*`); None: where it is too wide for one.
    """

    columns: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    decimals: int | None = None
    intervals: bool = True
    differences: bool = True
    counts: bool = True
    notes: bool = True
    label: str = ""
    wide: bool | None = None

    def __post_init__(self) -> None:
        if self.decimals is not None and not 0 <= self.decimals <= MOST_DECIMALS:
            raise ConfigError(f"--precision {self.decimals}", expected=f"a number of decimals, 0 to {MOST_DECIMALS}")
        if not all(char.isalnum() or char in "-_:./+" for char in self.label):
            raise ConfigError(f"--label {self.label[:80]!r}", expected="letters, digits and - _ : . / +, as tab:main")

    def name(self, text: str) -> str:
        """Returns what is shown for the name of a row or a part of a heading."""
        if text in self.names:
            return self.names[text]
        head, bracket, inner = text.partition(" (")
        if bracket and text.startswith("matched noise (") and inner.removesuffix(")") in self.names:
            return f"{self.names.get(head, head)} ({self.names[inner.removesuffix(')')]})"
        return text


def names_of(pairs: Sequence[str]) -> dict[str, str]:
    """Reads OLD=NEW pairs; a name with a `=` in it is cut at the last one."""
    names = {}
    for pair in pairs:
        old, equals, new = pair.rpartition("=")
        if not equals or not old or not new:
            raise ConfigError(f"--name {pair[:80]!r}", expected="OLD=NEW, such as grad_cam=Grad-CAM")
        names[old] = new
    return names
