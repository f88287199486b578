"""One record of a failure, made and printed in one place each, and errors whose type says how far a command got."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from conftest import Command
from vidattr.errors import (
    ClipError,
    ConfigError,
    Failure,
    MethodUndefinedError,
    OutOfMemoryError,
    OutputError,
    VidattrError,
    common_traceback,
    failure_lines,
)
from vidattr.methods.gradients.gradient import Gradient

SMALL = ("dataset.clips=2", "dataset.frames=8", "dataset.size=64", "render.gif=false", "render.mp4=false", "--quiet")


def failed(error: Exception, stage: str = "explain", clip: str = "a") -> Failure:
    try:
        raise error
    except Exception as caught:
        return Failure.of(clip, stage, caught)


def test_a_record_has_the_type_the_words_and_the_remedy_and_is_the_line_of_the_file() -> None:
    record = failed(ClipError("x", expected="y", remedy="z"))
    assert record == Failure("a", "explain", "ClipError", "x; expected: y", "z")
    assert list(record.row()) == ["clip", "stage", "type", "error", "to_do"]
    assert failed(MemoryError("big")).error == "out of memory: big"
    bug = failed(OSError(28, "no room"))
    assert "no room" in bug.error
    assert "Traceback" in str(bug.row()["traceback"])


def test_a_traceback_is_shown_where_every_clip_failed_with_the_same_bug() -> None:
    odd = failed(ValueError("1"))
    assert common_traceback([odd, failed(ValueError("2"))]) == odd.traceback
    assert common_traceback([odd, failed(KeyError("2"))]) is None
    assert common_traceback([failed(ValueError("1"), "read")]) is None
    assert common_traceback([failed(ClipError("1"))]) is None
    assert common_traceback([]) is None


def test_lines_for_the_terminal_are_shown_once_and_not_more_than_asked_for(tmp_path: Path) -> None:
    two = [failed(ClipError("x", remedy="z")), failed(ClipError("y"), clip="")]
    assert failure_lines([*two, two[0]], all_clips="every one") == ["  a: x (z)", "  every one: y"]
    many = [failed(ClipError(str(n))) for n in range(7)]
    assert failure_lines(many, most=5, file=tmp_path)[5:] == [f"  and 2 more in {tmp_path}"]
    assert len(failure_lines(many)) == 7


def test_the_type_of_an_error_is_its_exit_code() -> None:
    codes = {kind: kind.exit_code for kind in VidattrError.__subclasses__()}
    assert codes == {ConfigError: 2, MethodUndefinedError: 2, OutOfMemoryError: 1, OutputError: 1, ClipError: 1}


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("attention_rollout", "offers no attention weights"),
        ("ep3d method.core_kernel=[99,3,3]", "does not fit into"),
        ("aosa method.stride=999", "leaves no place"),
    ],
)
def test_a_method_that_is_not_defined_for_the_network_stops_itself_alone(
    vidattr: Command, tmp_path: Path, method: str, words: str
) -> None:
    name, *options = method.split()
    alone = vidattr("run", f"method={name}", *options, *SMALL)
    assert alone.code == 2
    assert words in alone.err
    assert "Traceback" not in alone.err
    beside = vidattr("run", f"method=center,{name}", *options, *SMALL) if not options else None
    if beside is not None:
        assert beside.code == 1
        assert "center: 2 written" in beside.out
        (line,) = [
            json.loads(text) for text in next(tmp_path.rglob(f"{name}/**/errors.jsonl")).read_text().splitlines()
        ]
        assert line["type"] == "MethodUndefinedError"
        assert (line["clip"], line["stage"]) == ("", "method")


def test_a_method_that_does_not_fit_into_memory_leaves_the_others_and_is_no_wrong_command(
    vidattr: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(Gradient, "__call__", full)
    beside = vidattr("run", "method=gradient,center", *SMALL)
    assert beside.code == 1
    assert "center: 2 written" in beside.out
    assert "out of memory with one clip" in beside.err
    assert vidattr("run", "method=gradient", *SMALL).code == 1  # something was started: not 2
    (line,) = [json.loads(text) for text in next(tmp_path.rglob("gradient/**/errors.jsonl")).read_text().splitlines()]
    assert line["type"] == "OutOfMemoryError"
