"""A table in LaTeX, for a page of one or two columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from vidattr.evaluate.look import Look
from vidattr.evaluate.markup import LATEX
from vidattr.evaluate.wording import WordedRow, headings
from vidattr.types import Column

# Characters of \small text in one column and in both columns of a page of LaTeX's article class, whose columns are
# narrower than those of most conferences.
_ONE_COLUMN, _BOTH = 48, 98
_SMALLER = 0.75  # width of a character of an interval or a difference, in those of a value


def latex(
    caption: str, columns: Sequence[Column], blocks: Sequence[Sequence[WordedRow]], notes: Sequence[str], look: Look
) -> str:
    """Returns a `table`, or a `table*` over both columns of a page, for a document that loads booktabs.

    The best value of each column is bold; intervals and differences are in smaller type; notes are below the table. A
    table that is too wide is scaled down, for which the document has to load graphicx.

    Args:
        caption: The caption, without the notes.
        columns: The columns of values.
        blocks: The rows, in blocks with a rule between them.
        notes: Sentences below the table.
        look: Label, width, names and counts.
    """
    parts = headings(columns, look)
    width = _width(parts, blocks)
    wide = look.wide if look.wide is not None else width > _ONE_COLUMN
    scaled = width > (_BOTH if wide else _ONE_COLUMN)
    environment = "table*" if wide else "table"
    lines = [
        r"% needs \usepackage{booktabs}" + (r" and \usepackage{graphicx}" if scaled else ""),
        rf"\begin{{{environment}}}",
        r"\centering\small\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{_escaped(caption.rstrip('.') + '.')}}}",
        *([rf"\label{{{look.label}}}"] if look.label else []),
        *([r"\resizebox{\linewidth}{!}{%"] if scaled else []),
        rf"\begin{{tabular}}{{@{{}}l{'r' * len(parts)}@{{}}}}",
        r"\toprule",
        *_heading(parts),
    ]
    for block in blocks:
        lines += [r"\midrule", *(line for row in block for line in _row(row))]
    lines += [r"\bottomrule", r"\end{tabular}" + ("}" if scaled else "")]
    if notes:
        lines += [r"\par\smallskip", r"\parbox{\linewidth}{\footnotesize " + _escaped(" ".join(notes)) + "}"]
    return "\n".join([*lines, rf"\end{{{environment}}}", ""])


def _heading(parts: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yields the lines of the heading; columns that share a part, and all parts above it, share one cell."""
    height = max(map(len, parts))
    # The most general of several parts is on the first line, the last part on the last.
    cut = [min(1, len(part) - 1) for part in parts]
    padded = [(*part[:at], *[""] * (height - len(part)), *part[at:]) for part, at in zip(parts, cut, strict=True)]
    for depth in range(height):
        place, cells, rules = 2, [""], []
        # Only the last line names single columns.
        keys = [part[: depth + 1] if depth < height - 1 else (str(column),) for column, part in enumerate(padded)]
        for _, run in groupby(zip(keys, padded, strict=True), lambda one: one[0]):
            columns = [part for _, part in run]
            text = _escaped(columns[0][depth])
            if len(columns) > 1 and text:
                cells.append(rf"\multicolumn{{{len(columns)}}}{{c}}{{{text}}}")
                rules.append(rf"\cmidrule(lr){{{place}-{place + len(columns) - 1}}}")
            else:
                cells += [text, *[""] * (len(columns) - 1)]
            place += len(columns)
        yield " & ".join(cells) + r" \\" + (" " + " ".join(rules) if rules else "")


def _row(row: WordedRow) -> Iterator[str]:
    cells = []
    for value, interval, best in zip(row.values, row.intervals, row.best, strict=True):
        text = rf"\textbf{{{_escaped(value)}}}" if best else _escaped(value)
        cells.append(text + (rf" {{\scriptsize {_escaped(interval)}}}" if interval else ""))
    yield " & ".join([_escaped(row.name), *cells, *map(_escaped, row.counts)]) + r" \\"
    if any(row.differences):
        small = [rf"{{\scriptsize {_escaped(text)}}}" if text else "" for text in row.differences]
        yield " & ".join(["", *small, *[""] * len(row.counts)]) + r" \\"


def _width(parts: Sequence[Sequence[str]], blocks: Sequence[Sequence[WordedRow]]) -> float:
    """Returns about how wide the table is, in characters."""
    rows = [row for block in blocks for row in block]
    width = max((len(row.name) for row in rows), default=0)
    for column, part in enumerate(parts):
        cells = [len(part[-1])]
        for row in rows:
            if column < len(row.values):
                cells.append(round(len(row.values[column]) + _SMALLER * len(row.intervals[column])))
                cells.append(round(_SMALLER * len(row.differences[column])))
            else:
                cells.append(len(row.counts[column - len(row.values)]))
        width += max(cells) + 2
    return width


def _escaped(text: str) -> str:
    return text.translate(LATEX)
