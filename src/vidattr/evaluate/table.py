"""A table of per-clip scores: means, intervals, paired differences; as plain text, Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import groupby, zip_longest
from typing import Any

import pandas as pd

from vidattr.errors import unknown
from vidattr.evaluate import statistics
from vidattr.evaluate.latex import latex
from vidattr.evaluate.look import Look
from vidattr.evaluate.markup import MARKDOWN
from vidattr.evaluate.summary import Entry, compared, summed_up
from vidattr.evaluate.wording import WordedRow, headings
from vidattr.types import Column

BASELINES = ("random", "center", "sobel", "frame_difference", "flow_magnitude")
MATCHED = "matched"  # as a baseline: each row is compared with its own matched noise
GROUPS = ("method", "matched", "baseline", "reference")
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
        runs: Key of a run, as `Entry.run` names it, to its folder, its choices and the options that differ from its
            configs.
        look: What of it is shown, and how.
    """

    caption: str
    columns: tuple[Column, ...]
    entries: tuple[Entry, ...]
    baseline: str | None
    remarks: tuple[str, ...] = ()
    runs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    look: Look = field(default_factory=Look)

    def notes(self, best: str = "*") -> list[str]:
        """Returns what a reader must know to read the numbers.

        Args:
            best: What marks the best value.
        """
        if not self.look.notes:
            return []
        notes = [f"Rates, probabilities and areas are fractions of 1. {best} marks the best of methods and baselines."]
        if self.look.intervals:
            notes.append(f"Brackets: 95 % interval ({self._intervals()}).")
        if self.look.counts:
            notes.append("n: clips judged. NaN: clips that could not be judged.")
        else:
            notes.append(f"Clips judged: {self._count('n')}, of {self._count('n_videos')} videos.")
        if self.baseline is not None and self.look.differences:
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
        titles = [[], *(textwrap.wrap(", ".join(parts), _WIDTH) for parts in headings(self.columns, self.look))]
        height = max(map(len, titles))
        heading = [list(line) for line in zip(*([""] * (height - len(title)) + title for title in titles), strict=True)]
        blocks = [[line for row in block for line in row.lines("*{}")] for block in self.blocks()]
        widths = [max(len(line[i]) for block in [heading, *blocks] for line in block) for i in range(len(titles))]
        rule = "─" * (sum(widths) + 2 * len(widths) - 2)
        lines = []
        for block in [heading, *blocks]:
            lines += [rule, *("  ".join(_aligned(line, widths)).rstrip() for line in block)]
        notes = [line for note in self.notes() for line in textwrap.wrap(note, max(100, len(rule)))]
        return "\n".join([*textwrap.wrap(self.caption, max(100, len(rule))), *lines, rule, *notes, ""])

    def markdown(self) -> str:
        """Returns a GitHub-flavoured Markdown table under its caption, notes below."""
        titles = ["", *(", ".join(parts).translate(MARKDOWN) for parts in headings(self.columns, self.look))]
        lines = [
            f"**{self.caption.translate(MARKDOWN)}**",
            "",
            _piped(titles),
            _piped(["---", *["---:"] * (len(titles) - 1)]),
        ]
        for number, block in enumerate(self.blocks()):
            lines += [_piped([""] * len(titles))] if number else []
            for row in block:
                cells = zip_longest(*row.lines("{}*"), fillvalue="")
                lines.append(
                    _piped("<br>".join(filter(None, (text.translate(MARKDOWN) for text in cell))) for cell in cells)
                )
        return "\n".join([*lines, "", *(f"- {note.translate(MARKDOWN)}" for note in self.notes()), ""])

    def latex(self) -> str:
        """Returns it in LaTeX (`latex.latex`)."""
        return latex(self.caption, self.columns, list(self.blocks()), self.notes("Bold"), self.look)

    def csv(self) -> str:
        """Returns a heading, and a line per row and column with all digits; unknown numbers are empty."""
        out = io.StringIO()
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
            "runs": dict(self.runs),
            "entries": [_known(e) for e in self.entries],
        }
        return json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def blocks(self) -> Iterator[list[WordedRow]]:
        """Yields the rows of methods, of matched noise, of baselines and of references."""
        for _, block in groupby(self.entries, lambda entry: entry.group):
            yield [
                WordedRow.of(name, list(entries), self.look)
                for name, entries in groupby(block, lambda entry: entry.row)
            ]

    def _count(self, name: str) -> str:
        counts = sorted({getattr(entry, name) for entry in self.entries if entry.group == "method"}) or [0]
        return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


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
    for name, group, frame in sorted(placed, key=lambda row: GROUPS.index(row[1])):
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


def _has(frame: pd.DataFrame, score: str) -> bool:
    return score in frame and bool(frame[score].notna().any())


def _best(column: Column, entries: Sequence[Entry]) -> float:
    values = [
        e.value
        for e in entries
        if e.column == column.title and e.group in ("method", "baseline") and not math.isnan(e.value)
    ]
    return (max if column.better == "higher" else min)(values, default=math.nan)


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
