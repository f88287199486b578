"""The choices of each role, as `vidattr list` shows them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def listing(role: str, where: Sequence[Path]) -> list[dict[str, str]]:
    """Returns name, summary and source of every choice of a role, from the two comment lines at the top of its YAML.

    Args:
        role: "dataset", "model", "method" or "metric".
        where: Config folders, from `folders.search_order`; of two choices of one name the first is listed.
    """
    rows: dict[str, dict[str, str]] = {}
    for folder in where:
        for path in sorted((folder / role).glob("*.yaml")):
            head = [line.removeprefix("#").strip() for line in _first_lines(path) if line.startswith("#")]
            summary, source = (*head, "", "")[:2]
            row = {
                "name": path.stem,
                "summary": summary,
                "source": source.partition(":")[2].strip(),
                "config": str(path),
            }
            rows.setdefault(path.stem, row)
    return [rows[name] for name in sorted(rows)]


def _first_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()[:2]
    except OSError as error:
        return [f"# cannot be read: {error.strerror}"]


def text(rows: Sequence[dict[str, str]]) -> str:
    """Returns a listing for people: name, summary, and the source beneath."""
    width = max((len(row["name"]) for row in rows), default=0)
    return "\n".join(f"{row['name']:<{width}}  {row['summary']}\n{'':<{width}}  {row['source']}" for row in rows)
