"""A table of per-clip scores: means, intervals, paired differences; as plain text, Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import groupby, zip_longest

import pandas as pd

from vidattr.errors import unknown
from vidattr.evaluate import statistics
from vidattr.evaluate.markup import LATEX, MARKDOWN
from vidattr.evaluate.summary import Entry, compared, summed_up
from vidattr.types import Column

BASELINES = ("random", "center")
MATCHED = "matched"  # as a baseline: each row is compared with its own matched noise
_GROUPS = ("method", "matched", "baseline", "reference")
_ARROWS = {"higher": "↑", "lower": "↓"}
_NOTHING = "–"
_WIDTH = 18  # of a column on the terminal, that of "0.567 [.512, .621]"


@dataclass(frozen=True)
class Table:
    """A finished table. Every rendering tells the protocol, n, what could not be judged, and what the intervals are.

    Attributes:
        caption: The protocol: data set, model, metric and its options.
        columns: Its columns.
        entries: Row by row, column by column: methods, then noise as smooth as theirs, then baselines, then references.
        baseline: The row that the others are compared with, "matched" for each method's own matched noise, or None.
        remarks: What a reader must know of single rows.
    """

    caption: str
    columns: tuple[Column, ...]
    entries: tuple[Entry, ...]
    baseline: str | None
    remarks: tuple[str, ...] = ()

    def notes(self) -> list[str]:
        """Returns what a reader must know to read the numbers."""
        notes = [
            "Rates, probabilities and areas are fractions of 1. * marks the best of methods and baselines.",
            f"Brackets: 95 % interval ({self._intervals()}). n: clips judged. NaN: clips that could not be judged.",
        ]
        if self.baseline is not None:
            against = "the method's own matched noise" if self.baseline == MATCHED else self.baseline
            notes.append(
                f"Δ: mean paired difference to {against} on the clips that both have. "
                "p: two-sided sign-flip test over videos "
                f"(exact up to {statistics.EXACT_UP_TO} videos, else {statistics.FLIPS} draws), "
                "not corrected for many comparisons."
            )
        fewest = min((entry.n_videos for entry in self.entries if entry.n_videos), default=statistics.FEW)
        if fewest < 10:
            notes.append(
                f"Few videos ({fewest}): the intervals are wide, "
                "and a difference that they do not show may well be there."
                + (f" Fewer than {statistics.FEWEST} videos have no interval." if fewest < statistics.FEWEST else "")
            )
        return [*notes, *self.remarks]

    def _intervals(self) -> str:
        """Returns the rules of `statistics.interval` behind the table's intervals; all are over whole videos."""
        made = {
            (column.interval, column.statistic, entry.n_videos < statistics.FEW)
            for column in self.columns
            for entry in self.entries
            if entry.column == column.title and entry.n_videos
        }
        few = any(less and statistic == "mean" for _, statistic, less in made)
        drawn = any((statistic != "mean") or (not less and kind == "bootstrap") for kind, statistic, less in made)
        hits = any(kind == "wilson" and not less for kind, _, less in made)
        rules = {
            f"over videos, by Student's t where they are fewer than {statistics.FEW}": few,
            f"percentiles of {statistics.DRAWS} bootstrap resamples of whole videos": drawn,
            "Wilson's, by the variance between videos": hits,
        }
        return "; ".join(rule for rule, used in rules.items() if used) or "none: nothing was judged"

    def terminal(self) -> str:
        """Returns aligned plain text; differences stand below the values."""
        titles = [textwrap.wrap(title, _WIDTH) for title in self._titles()]
        height = max(map(len, titles))
        heading = [list(line) for line in zip(*([""] * (height - len(title)) + title for title in titles), strict=True)]
        blocks = [[line for row in block for line in row.lines()] for block in self._blocks("*{}")]
        widths = [max(len(line[i]) for block in [heading, *blocks] for line in block) for i in range(len(titles))]
        rule = "─" * (sum(widths) + 2 * len(widths) - 2)
        lines = []
        for block in [heading, *blocks]:
            lines += [rule, *("  ".join(_aligned(line, widths)).rstrip() for line in block)]
        notes = [line for note in self.notes() for line in textwrap.wrap(note, max(100, len(rule)))]
        return "\n".join([*textwrap.wrap(self.caption, max(100, len(rule))), *lines, rule, *notes, ""])

    def markdown(self) -> str:
        """Returns a GitHub-flavoured Markdown table under its caption, notes below."""
        titles = [title.translate(MARKDOWN) for title in self._titles()]
        lines = [
            f"**{self.caption.translate(MARKDOWN)}**",
            "",
            _piped(titles),
            _piped(["---", *["---:"] * (len(titles) - 1)]),
        ]
        for number, block in enumerate(self._blocks("{}*")):
            lines += [_piped([""] * len(titles))] if number else []
            for row in block:
                cells = zip_longest(*row.lines(), fillvalue="")
                lines.append(
                    _piped("<br>".join(filter(None, (text.translate(MARKDOWN) for text in cell))) for cell in cells)
                )
        return "\n".join([*lines, "", *(f"- {note.translate(MARKDOWN)}" for note in self.notes()), ""])

    def latex(self) -> str:
        """Returns a `table` for a document that loads booktabs."""
        titles = self._titles()
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{' '.join([self.caption.rstrip('.') + '.', *self.notes()]).translate(LATEX)}}}",
        ]
        lines += [rf"\begin{{tabular}}{{l{'r' * (len(titles) - 1)}}}", r"\toprule", _ampersands(titles)]
        for block in self._blocks("*{}"):
            lines += [r"\midrule", *(_ampersands(line) for row in block for line in row.lines())]
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])

    def csv(self) -> str:
        """Returns a line per row and column with all digits; unknown numbers are empty, and # starts a comment."""
        out = io.StringIO()
        out.writelines(f"# {line}\n" for text in (self.caption, *self.notes()) for line in text.splitlines())
        writer = csv.DictWriter(out, [field.name for field in fields(Entry)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(_known(entry) for entry in self.entries)
        return out.getvalue()

    def json(self) -> str:
        """Returns the same numbers as an object; unknown ones are null."""
        whole = {
            "caption": self.caption,
            "notes": self.notes(),
            "baseline": self.baseline,
            "entries": [_known(e) for e in self.entries],
        }
        return json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def _titles(self) -> list[str]:
        return ["", *(f"{column.title} {_ARROWS[column.better]}" for column in self.columns), "n", "NaN", "videos"]

    def _blocks(self, best: str) -> Iterator[list[_Row]]:
        """Yields the rows of methods, of matched noise, of baselines and of references."""
        for _, block in groupby(self.entries, lambda entry: entry.group):
            yield [_Row.of(name, list(entries), best) for name, entries in groupby(block, lambda entry: entry.row)]


def build(
    rows: Mapping[str, pd.DataFrame],
    columns: Sequence[Column],
    *,
    references: Mapping[str, pd.DataFrame],
    baseline: str | None,
    seed: int,
    caption: str,
    baselines: Collection[str] = BASELINES,
    matched: Mapping[str, pd.DataFrame] | None = None,
    remarks: Sequence[str] = (),
) -> Table:
    """Sums up per-clip scores.

    Args:
        rows: Name of a method to its scores, one line a clip, with the columns clip, label, video and the scores. A
            clip whose video is "" is one of its own. Methods may have different clips: n tells.
        columns: What to show; optional ones only where a row has them.
        references: The same for what trivial answers would have scored. A score that a row lacks stays empty.
        baseline: Name of the row that all others are compared with; "matched": each of `matched` is what its method is
            compared with, and nothing else is compared; None: nothing is.
        seed: Decides the resamples.
        caption: What was judged and how: data set, model, metric, options.
        baselines: Those of `rows` that stand apart, because they know nothing of the network.
        matched: Name of a method, as in `rows`, to the scores of noise as smooth as its maps.
        remarks: What a reader must know of single rows, for the notes.

    Raises:
        ConfigError: `baseline` is none of `rows`.
    """
    matched = matched or {}
    if baseline is not None and baseline not in rows and not (baseline == MATCHED and matched):
        raise unknown("baseline row", baseline, [*([MATCHED] if matched else []), *rows])
    placed = [(name, "baseline" if name in baselines else "method", frame) for name, frame in rows.items()]
    placed += [(f"matched noise ({name})", "matched", frame) for name, frame in matched.items()]
    placed += [(name, "reference", frame) for name, frame in references.items()]
    columns = [
        column for column in columns if not column.optional or any(_has(frame, column.score) for frame in rows.values())
    ]
    entries = []
    for name, group, frame in sorted(placed, key=lambda row: _GROUPS.index(row[1])):
        for column in columns:
            entry = summed_up(name, group, frame, column, seed)
            against = matched.get(name) if baseline == MATCHED else rows.get(baseline or "")
            if against is not None and name != baseline and group in ("method", "baseline"):
                entry = compared(entry, frame, against, column, seed)
            entries.append(entry)
    best = {column.title: _best(column, entries) for column in columns}
    marked = (
        replace(entry, best=entry.group in ("method", "baseline") and math.isclose(entry.value, best[entry.column]))
        for entry in entries
    )
    return Table(caption, tuple(columns), tuple(marked), baseline, tuple(remarks))


@dataclass(frozen=True)
class _Row:
    """A row in words."""

    name: str
    values: list[str]
    differences: list[str]
    counts: list[str]

    @classmethod
    def of(cls, name: str, entries: Sequence[Entry], best: str) -> _Row:
        values = [best.format(_value(entry)) if entry.best else _value(entry) for entry in entries]
        counts = ({getattr(entry, count) for entry in entries} for count in ("n", "n_nan", "n_videos"))
        spans = ["–".join(map(str, sorted({min(count), max(count)}))) for count in counts]
        return cls(name, values, [_difference(entry) for entry in entries], spans)

    def lines(self) -> list[list[str]]:
        """Returns the row as one line of cells, or as two where it was compared with the baseline."""
        first = [self.name, *self.values, *self.counts]
        return [first, ["", *self.differences, "", "", ""]] if any(self.differences) else [first]


def _has(frame: pd.DataFrame, score: str) -> bool:
    return score in frame and bool(frame[score].notna().any())


def _best(column: Column, entries: Sequence[Entry]) -> float:
    values = [
        e.value
        for e in entries
        if e.column == column.title and e.group in ("method", "baseline") and not math.isnan(e.value)
    ]
    return (max if column.better == "higher" else min)(values, default=math.nan)


def _value(entry: Entry) -> str:
    if math.isnan(entry.value):
        return _NOTHING
    interval = "" if math.isnan(entry.low) else f" [{_short(entry.low)}, {_short(entry.high)}]"
    return f"{entry.value:.{_decimals(entry.value)}f}{interval}".replace("-", "−")


def _short(number: float) -> str:
    return f"{number:.3f}".replace("0.", ".", 1) if abs(number) < 0.9995 else f"{number:.{min(2, _decimals(number))}f}"


def _decimals(number: float) -> int:
    """Returns the number of decimals shown: three up to 10, one less for each further digit before the point."""
    return 3 - sum(abs(number) >= bound for bound in (9.9995, 99.995, 999.95))


def _difference(entry: Entry) -> str:
    if math.isnan(entry.difference):
        return ""
    p = "p<.001" if entry.p < 0.001 else f"p {_short(entry.p)}"
    return f"Δ {entry.difference:+.{_decimals(entry.difference)}f} ({p})".replace("-", "−")


def _known(entry: Entry) -> dict[str, object]:
    """Returns the entry's fields with None for what cannot be said: NaN is no JSON, and an empty field in CSV."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value for name, value in asdict(entry).items()
    }


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    for i, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        yield cell.rjust(width) if i else cell.ljust(width)


def _piped(cells: Iterator[str] | Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _ampersands(cells: Sequence[str]) -> str:
    return " & ".join(cell.translate(LATEX) for cell in cells) + r" \\"
