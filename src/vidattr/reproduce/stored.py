"""A reproduced table on disk: `<paths.out>/tables/paper/<table>-<scale>` in every form."""

from __future__ import annotations

from pathlib import Path

from vidattr.reproduce.compare import Sheet
from vidattr.reproduce.show import show
from vidattr.writing import write_text

_SUFFIXES = {"markdown": ".md", "csv": ".csv", "latex": ".tex", "json": ".json"}


def write(sheet: Sheet, out: Path) -> str:
    """Writes a table in every form and returns the files, as they are told to the user."""
    stem = out / "tables" / "paper" / f"{sheet.table}-{sheet.scale}"
    for form, suffix in _SUFFIXES.items():
        write_text(stem.with_name(stem.name + suffix), show(sheet, form))
    return f"{stem}{{{','.join(_SUFFIXES.values())}}}"
