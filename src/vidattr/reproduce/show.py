"""A reproduced table as plain text, Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from vidattr.evaluate.markup import LATEX, MARKDOWN
from vidattr.reproduce.compare import WORDS, Block, Order, Sheet, TableLine, Value

_DECIMALS = {"percent": 1}
_WIDTH = 110
_NOTHING = "–"


def show(sheet: Sheet, form: str) -> str:
    """Returns a table in one form: terminal, markdown, latex, csv or json."""
    return {"terminal": _terminal, "markdown": _markdown, "latex": _latex, "csv": _csv, "json": _json}[form](sheet)


def _heads(sheet: Sheet) -> list[str]:
    heads = ["", "published"]
    for protocol in sheet.protocols:
        heads += [f"ours, {WORDS[protocol]}", "difference", "in"]
    return [*heads, "n"]


def _cells(sheet: Sheet, line: TableLine) -> list[str]:
    """Returns one line in words, as many as `_heads`."""
    marks = "".join(f" [{mark}]" for mark in line.marks)
    cells = [line.title + marks, "" if math.isnan(line.published) else _number(sheet, line.published)]
    for protocol in sheet.protocols:
        value = line.values.get(protocol)
        cells += ["", "", ""] if value is None else _of(sheet, value)
    counts = list(dict.fromkeys(str(value.n) for value in line.values.values() if not value.lack))
    return [*cells, ", ".join(counts) or "0"]


def _of(sheet: Sheet, value: Value) -> list[str]:
    if value.lack:
        return [f"{_NOTHING} [{value.lack}]", "", ""]
    if math.isnan(value.ours):
        return [_NOTHING, "", ""]
    interval = "" if math.isnan(value.low) else f" [{_number(sheet, value.low)}, {_number(sheet, value.high)}]"
    if math.isnan(value.published):
        return [f"{_number(sheet, value.ours)}{interval}", "", ""]
    inside = {True: "yes", False: "no", None: ""}[value.inside]
    return [f"{_number(sheet, value.ours)}{interval}", _number(sheet, value.difference, "+"), inside]


def _number(sheet: Sheet, number: float, sign: str = "") -> str:
    return f"{number:{sign}.{_DECIMALS.get(sheet.unit, 3)}f}".replace("-", "−")


def _orders(block: Block) -> str:
    words = [f"{WORDS[protocol]} τ {order.tau:+.2f} (p {order.p:.3f})" for protocol, order in block.orders.items()]
    if not words:
        return ""
    methods = max(order.methods for order in block.orders.values())
    return f"order of {methods} methods: {', '.join(words)}".replace("τ -", "τ −")


def _terminal(sheet: Sheet) -> str:
    blocks = [[_cells(sheet, line) for line in (*block.lines, *block.baselines)] for block in sheet.blocks]
    heads = _heads(sheet)
    widths = [
        max(len(row[i]) for row in (heads, *(row for block in blocks for row in block))) for i in range(len(heads))
    ]
    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    lines = [*textwrap.wrap(sheet.caption, max(_WIDTH, len(rule)))]
    for block, rows in zip(sheet.blocks, blocks, strict=True):
        lines += [rule, block.title, _aligned(heads, widths)]
        lines += [_aligned(row, widths) for row in rows[: len(block.lines)]]
        lines += ["", *(_aligned(row, widths) for row in rows[len(block.lines) :])] if block.baselines else []
        lines += [_orders(block)] if block.orders else []
    notes = [
        text
        for note in sheet.notes
        for text in textwrap.wrap(note, max(_WIDTH, len(rule)), subsequent_indent="    " if note[0] == "[" else "")
    ]
    return "\n".join([*lines, rule, *notes, ""])


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        text.rjust(width) if i else text.ljust(width) for i, (text, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


def _markdown(sheet: Sheet) -> str:
    lines = [f"**{sheet.caption.translate(MARKDOWN)}**"]
    for block in sheet.blocks:
        heads = [text.translate(MARKDOWN) for text in _heads(sheet)]
        heads[0] = f"**{block.title.translate(MARKDOWN)}**"
        lines += ["", f"| {' | '.join(heads)} |", f"| --- |{' ---: |' * (len(heads) - 1)}"]
        for line in (*block.lines, *block.baselines):
            lines.append(f"| {' | '.join(text.translate(MARKDOWN) for text in _cells(sheet, line))} |")
        lines += ["", _orders(block).translate(MARKDOWN)] if block.orders else []
    return "\n".join([*lines, "", *(f"- {note.translate(MARKDOWN)}" for note in sheet.notes), ""])


def _latex(sheet: Sheet) -> str:
    heads = _heads(sheet)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{sheet.caption.translate(LATEX)}. {' '.join(sheet.notes).translate(LATEX)}}}",
    ]
    lines += [rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}", r"\toprule", _ampersands(heads)]
    for block in sheet.blocks:
        lines += [r"\midrule", rf"\multicolumn{{{len(heads)}}}{{l}}{{{block.title.translate(LATEX)}}} \\"]
        lines += [_ampersands(_cells(sheet, line)) for line in (*block.lines, *block.baselines)]
        if block.orders:
            lines.append(rf"\multicolumn{{{len(heads)}}}{{l}}{{{_orders(block).translate(LATEX)}}} \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _ampersands(cells: Sequence[str]) -> str:
    return " & ".join(cell.translate(LATEX) for cell in cells) + r" \\"


def _rows(sheet: Sheet) -> Iterator[dict[str, Any]]:
    """Yields a row for each value, with all digits; None where a number is not known."""
    for block in sheet.blocks:
        for line in (*block.lines, *block.baselines):
            for protocol, value in line.values.items():
                yield {
                    "table": sheet.table,
                    "scale": sheet.scale,
                    "column": block.column,
                    "measure": block.measure,
                    "row": line.name,
                    "protocol": str(protocol),
                    "published": _known(line.published),
                    "ours": _known(value.ours),
                    "low": _known(value.low),
                    "high": _known(value.high),
                    "difference": _known(value.difference),
                    "inside": value.inside,
                    "n": value.n,
                    "n_nan": value.n_nan,
                    "videos": value.videos,
                    "notes": [*line.marks, *([value.lack] if value.lack else [])],
                }


def _known(number: float) -> float | None:
    return None if math.isnan(number) else number


def _csv(sheet: Sheet) -> str:
    out = io.StringIO()
    out.writelines(f"# {text}\n" for text in (sheet.caption, *sheet.notes, *map(_named_order, sheet.blocks)) if text)
    rows = [{**row, "notes": " ".join(map(str, row["notes"]))} for row in _rows(sheet)]
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _named_order(block: Block) -> str:
    return f"{block.title}: {_orders(block)}" if block.orders else ""


def _json(sheet: Sheet) -> str:
    def order(found: Order) -> dict[str, float | int]:
        return {"tau": found.tau, "p": found.p, "methods": found.methods}

    whole = {
        "table": sheet.table,
        "scale": sheet.scale,
        "unit": sheet.unit,
        "caption": sheet.caption,
        "notes": list(sheet.notes),
        "values": list(_rows(sheet)),
        "orders": [
            {"column": block.column, "measure": block.measure, "protocol": str(protocol), **order(found)}
            for block in sheet.blocks
            for protocol, found in block.orders.items()
        ],
    }
    return json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
