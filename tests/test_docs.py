"""What docs/RESULTS.md says of its tables is in them: every row that it names, and every number with a decimal point.

What comes from elsewhere (a paper, a run that is not shown) says so in the same paragraph, in one fixed form that a
reader of the page does not see and this test does: `<!-- not in a table: 0.489, 0.507, step_demo: Table II of the paper
-->`.
"""

from __future__ import annotations

import re
from decimal import Decimal
from itertools import pairwise

import pytest

from conftest import ROOT

RESULTS = (ROOT / "docs" / "RESULTS.md").read_text()
METHODS = frozenset(path.stem for path in (ROOT / "configs" / "method").glob("*.yaml"))
NUMBER = re.compile(r"(?<![\w.])\d*\.\d+(?![\w.]*\w)")
MARK = re.compile(r"<!-- not in a table: ([^:]+): ([^>]+?) -->")
NOTES = ("- Rates,", "- Brackets:", "- Δ:", "- Few videos", "- matched noise:", "- best point:", "**", "![")


def blocks(text: str) -> list[list[str]]:
    """Paragraphs, tables and code, each a list of lines; an item of a list is a paragraph of its own."""
    found: list[list[str]] = [[]]
    fenced = False
    for line in text.splitlines():
        fence = line.startswith("```")
        if not fenced and (not line.strip() or re.match(r"[-#] |##|```", line)):
            found.append([])
        if fenced or line.strip():
            found[-1].append(line)
        fenced ^= fence
    return [block for block in found if block]


def numbers(text: str) -> set[Decimal]:
    return {Decimal(number) for number in NUMBER.findall(text)}


def occurs(number: Decimal, among: set[Decimal]) -> bool:
    """Whether one of them is that number after rounding to its digits."""
    digit = Decimal(1).scaleb(int(number.as_tuple().exponent))
    return any(abs(one - number) <= digit / 2 for one in among)


def complaints(text: str, methods: frozenset[str] = METHODS) -> list[str]:
    """Says what the prose quotes and the tables above it, of the same section, do not have."""
    found = []
    cells, shown, heading = set[Decimal](), "", ""
    for block in blocks(text):
        lines = "\n".join(block).strip()
        if lines.startswith("## "):
            cells, shown, heading = set(), "", lines
        elif lines.startswith("|"):
            shown += lines.replace("\\", "")
            cells |= numbers(lines)
        elif not lines.startswith(("#", "```", *NOTES)) or lines.startswith("**`"):
            marked = {name.strip() for names, _ in MARK.findall(lines) for name in names.split(",")}
            prose = re.sub(r"<!--.*?-->", "", lines, flags=re.DOTALL)
            for number in NUMBER.findall(re.sub(r"`[^`]*`", "", prose)):
                if number not in marked and not occurs(Decimal(number), cells):
                    found.append(f"{heading}: {number} is in no table above: {prose[:60]}…")
            for name in re.findall(r"`(\w+)`", prose):
                if name in methods and name not in marked and not re.search(rf"(?<!\w){name}(?!\w)", shown):
                    found.append(f"{heading}: {name} is no row above: {prose[:60]}…")
            found += [f"{heading}: {name} is marked and not quoted" for name in sorted(marked) if name not in prose]
    return found


def test_what_the_results_quote_is_in_the_tables() -> None:
    assert complaints(RESULTS) == []


def test_there_is_something_to_quote() -> None:
    prose = [block for block in blocks(RESULTS) if not block[0].startswith(("|", "#", "```", *NOTES))]
    assert sum(len(numbers("\n".join(block))) for block in prose) > 30
    assert sum(block[0].startswith("|") for block in blocks(RESULTS)) > 15


TEXT = r"""# Results

## One

**caption 0.999**

|  | Hit ↑ | n |
| --- | ---: | ---: |
| grad\_cam | 0.529 \[.366, .663\]\*<br>Δ +0.263 (p .037) | 18 |

- Rates 9.9 are notes no more than **0.77** is a caption.

`grad_cam` has 0.53, up 0.263 (p .037), and `method.steps=0.99` is an option. In 80 % it does.

- The paper has 0.489. <!-- not in a table: 0.489: its table II -->

## Two

|  | Hit ↑ |
| --- | ---: |
| step | 0.111 |

STEP has .111, `step` as well.
"""


def test_a_text_that_quotes_rightly_is_left_alone() -> None:
    assert complaints(TEXT.replace("- Rates 9.9", "- Rates, 9.9")) == []


@pytest.mark.parametrize(
    ("there", "instead"),
    [
        ("has 0.53,", "has 0.54,"),  # a number of nowhere
        ("has 0.53,", "has 0.52,"),  # rounded the wrong way
        ("STEP has .111", "STEP has .037"),  # of another section
        ("(p .037), and", "(p .38), and"),
        ("`grad_cam` has", "`saliency_tubes` has"),  # a row of nowhere
        ("`step` as", "`grad_cam` as"),  # of another section
        (" <!-- not in a table: 0.489: its table II -->", ""),  # of elsewhere, unsaid
        ("- The paper has 0.489.", "- The paper has it."),  # said to be of elsewhere, and not quoted
        ("0.489: its table II", "0.489"),  # of elsewhere, of nowhere
    ],
)
def test_a_text_that_quotes_wrongly_is_caught(there: str, instead: str) -> None:
    text = TEXT.replace("- Rates 9.9", "- Rates, 9.9")
    assert there in text
    assert len(complaints(text.replace(there, instead))) == 1


def test_a_number_above_its_table_is_caught() -> None:
    one, two = TEXT.replace("- Rates 9.9", "- Rates, 9.9").split("`grad_cam` has 0.53")
    early = one.replace("**caption", "It has 0.53.\n\n**caption") + "`grad_cam` has 0.53" + two
    assert len(complaints(early)) == 1


def test_sections_of_the_results_come_in_order() -> None:
    levels = [len(line.split()[0]) for line in RESULTS.splitlines() if re.match(r"#+ ", line)]
    assert all(after <= before + 1 for before, after in pairwise(levels))
