"""The changes that `make mutants` tries: one line each, of what computes, and the kinds that once went unnoticed."""

from __future__ import annotations

import ast
import sys

import pytest

from conftest import ROOT

sys.path.append(str(ROOT / "scripts"))
from mutations import mutants

SOURCE = ROOT / "src" / "vidattr"


def changes(text: str) -> list[tuple[str, str]]:
    return [(each.before, each.after) for each in mutants(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = a < b", [("a < b", "a <= b")]),
        ("x = a is not b", [("a is not b", "a is b")]),
        ("x = a * b", [("a * b", "a / b")]),
        ("x = a - b", [("a - b", "a + b")]),
        ("x = a and not b", [("a and not b", "a or not b"), ("not b", "b")]),
        ("x = -a", [("-a", "a")]),
        ("x = f(True)", [("True", "False")]),
        ("x = [0, 0.0, 0.5]", [("0", "1"), ("0.0", "1.0"), ("0.5", "1.0")]),
        ("x = a.round()", [("a.round()", "a.floor()")]),
        ("x = round(a)", [("round(a)", "int(a)")]),
        ("x = a.amax(d)", [("a.amax(d)", "a.amin(d)")]),
    ],
)
def test_operators_numbers_and_functions_are_changed_one_at_a_time(text: str, expected: list[tuple[str, str]]) -> None:
    assert changes(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        '"""Words: 1 < 2."""',
        "version: ClassVar[int] = 2",
        "raise ValueError(1 + 2)",
        'x = f"{a + b}"',
        "x: Box[2] = a",
        "for x in zip(a, b, strict=True):\n    pass",
        "x = (a\n     + b)",
    ],
)
def test_what_does_not_compute_is_left_alone(text: str) -> None:
    assert changes(text) == []


def test_the_function_around_a_change_is_named_by_its_first_line() -> None:
    text = "x = 1\n\n\n@cached\ndef f(a=2):\n    return lambda: a + 3\n"
    assert [(each.line, each.scope, each.before) for each in mutants(text)] == [
        (1, 0, "1"),
        (5, 0, "2"),
        (6, 4, "a + 3"),
        (6, 4, "3"),
    ]


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("video/geometry.py", "round(w * scale)", "int(w * scale)"),
        ("video/preprocessing.py", "level * self.max_value", "level / self.max_value"),
        ("video/preprocessing.py", "self.channels is Channels.bgr", "self.channels is not Channels.bgr"),
        ("metrics/shared/randomise.py", "2 * len(inside) <= len(layers)", "2 * len(inside) < len(layers)"),
    ],
)
def test_changes_that_once_survived_are_tried(file: str, before: str, after: str) -> None:
    assert (before, after) in changes((SOURCE / file).read_text("utf-8"))


def test_a_changed_file_is_python_and_differs_in_one_line() -> None:
    text = (SOURCE / "evaluate" / "statistics.py").read_text("utf-8")
    found = list(mutants(text))
    assert len(found) > 100
    for each in found[::10]:
        ast.parse(each.source)
        pairs = enumerate(zip(text.splitlines(), each.source.splitlines(), strict=True), start=1)
        assert [number for number, (old, new) in pairs if old != new] == [each.line]
