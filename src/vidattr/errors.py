"""User errors, and the record of a failure. A bug is an ordinary exception and keeps its traceback.

Every user error says what is wrong, what was expected and what to do. The type of the error says how far the command
got, and so which exit code it ends with (`exit_code`).
"""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

_LIST_LENGTH = 1500  # characters of a list of choices up to which all of them are shown
_NEAREST = 10  # names shown of a longer list
_NAME_LENGTH = 80  # characters shown of one name


def printable(text: str) -> str:
    """Returns a text that any terminal or file can take: bytes of a file name that are not UTF-8 become escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


class VidattrError(Exception):
    """An error that the user can correct; the command line prints it without a traceback.

    Args:
        found: What is wrong, with the offending value ("no such folder: data/ucf101").
        expected: What would have been right, or None where `found` already says so.
        remedy: What to do about it, as a command or an option where possible.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, found: str, *, expected: str | None = None, remedy: str | None = None) -> None:
        found, expected, remedy = printable(found), expected and printable(expected), remedy and printable(remedy)
        self.found, self.expected, self.remedy = found, expected, remedy
        lines = [found]
        if expected:
            lines.append(f"  expected: {expected}")
        if remedy:
            lines.append(f"  to do: {remedy}")
        super().__init__("\n".join(lines))


class ConfigError(VidattrError):
    """Nothing was started: an option, a name or a combination of them is wrong."""

    exit_code: ClassVar[int] = 2

    def with_remedy(self, remedy: str) -> ConfigError:
        """Returns the same error with another remedy."""
        return ConfigError(self.found, expected=self.expected, remedy=remedy)


class MethodUndefinedError(VidattrError):
    """The method, with its options, is not defined for this network or its input.

    For example Saliency Tubes of a network without a linear head. A run goes on with its other methods; where no method
    of a run is defined, the combination was wrong, which is the exit code of a `ConfigError`.
    """

    exit_code: ClassVar[int] = 2


class OutOfMemoryError(VidattrError):
    """The device or the machine has too little memory for a pass of one clip: use another setting or another machine.

    A run goes on with its other methods, which may need less memory.
    """


class OutputError(VidattrError):
    """A file cannot be written, for example on a full disk: the command stops. What was written is whole and stays."""


class ClipError(VidattrError):
    """One clip cannot be read or scored: it becomes a line of `errors.jsonl`, and the command continues."""


CONCERNS_METHOD = (ConfigError, MethodUndefinedError, OutOfMemoryError)
"""Errors that every clip would raise with the method at hand, and other methods may not."""

CONCERNS_ALL = (*CONCERNS_METHOD, OutputError)
"""Errors that no other clip of the batch would escape."""


@dataclass(frozen=True)
class Failure:
    """What went wrong with one clip: a line of `errors.jsonl`, whose keys are these fields.

    Attributes:
        clip: Id of the clip; "" where the failure concerns all clips.
        stage: Where it happened: index, read, prepare, network, target, method, explain, store, source, draw, map, load
            or judge.
        type: Class of the exception.
        error: What went wrong, in one line.
        to_do: What to do about it, or None.
        traceback: Of an exception that is no user error and no lack of memory; else None, and not in the file.
    """

    clip: str
    stage: str
    type: str
    error: str
    to_do: str | None = None
    traceback: str | None = None

    @classmethod
    def of(cls, clip: str, stage: str, error: Exception) -> Failure:
        """Returns the record of an exception.

        Args:
            clip: Id of the clip; "" where all clips are concerned.
            stage: Where it happened, as in `Failure.stage`.
            error: The exception, whatever raised it.
        """
        name = type(error).__name__
        if isinstance(error, VidattrError):
            expected = f"; expected: {error.expected}" if error.expected else ""
            return cls(clip, stage, name, error.found + expected, error.remedy)
        if out_of_memory(error):
            to_do = "fewer runtime.workers, a smaller model.input.size, or more memory"
            return cls(clip, stage, name, f"out of memory: {error}", to_do)
        to_do = (
            "take the clip out if its files are damaged, else report this: "
            f"the traceback is in errors.jsonl (stage {stage})"
        )
        return cls(clip, stage, name, f"{name}: {error}", to_do, "".join(traceback.format_exception(error)))

    def row(self) -> dict[str, Any]:
        """Returns the line of `errors.jsonl`, before it is written as JSON."""
        fields = asdict(self)
        if self.traceback is None:
            del fields["traceback"]
        return fields


def failure_lines(
    failures: Iterable[Failure], *, all_clips: str = "", most: int | None = None, file: Path | None = None
) -> list[str]:
    """Returns failures as lines for the terminal, each different line once.

    Args:
        failures: In the order in which to show them.
        all_clips: What to call a failure that concerns all clips.
        most: How many lines to show; None: all of them.
        file: Where the rest is.
    """
    shown = [
        f"  {failure.clip or all_clips}: {failure.error}" + (f" ({failure.to_do})" if failure.to_do else "")
        for failure in failures
    ]
    lines = list(dict.fromkeys(shown))
    if most is None or len(lines) <= most:
        return lines
    return [*lines[:most], f"  and {len(lines) - most} more" + (f" in {file}" if file else "")]


def common_traceback(failures: Iterable[Failure]) -> str | None:
    """Returns the traceback to show where every clip failed with the same bug, which is then not the fault of a file.

    Args:
        failures: Those of the runs of which no clip succeeded.
    """
    worked_on = [failure for failure in failures if failure.stage in ("explain", "judge")]
    kinds = {(failure.type, failure.traceback is None) for failure in worked_on}
    return worked_on[0].traceback if len(kinds) == 1 else None


def out_of_memory(error: BaseException) -> bool:
    """Returns whether an exception means that memory ran out; torch has a type for it on a GPU only."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError | ImportError) and any(words in str(error) for words in _NO_MEMORY)


_NO_MEMORY = (
    "can't allocate memory",  # torch's allocator on a CPU
    "not enough memory",  # the same on other systems
    "bad allocation",
    "bad_alloc",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "could not create a memory",  # oneDNN
    "could not create a primitive",  # the same
    "could not execute a primitive",
    "can't start new thread",  # no room for its stack
    "failed to map segment",  # no room for a library
)


def unknown(kind: str, name: str, choices: Iterable[str]) -> ConfigError:
    """Returns the error for a name that is not among `choices`; it lists them, or the nearest of many."""
    names = sorted(choices)
    wrong = _shortened(name)
    near = difflib.get_close_matches(wrong, names, n=3)
    return ConfigError(
        f"unknown {kind} {wrong!r}",
        expected=f"one of {_listed(wrong, names)}" if names else f"a {kind}, but there is none here",
        remedy=f"did you mean {' or '.join(near)}?" if near else None,
    )


def _listed(name: str, names: Sequence[str]) -> str:
    """Returns all names, or where they are too many for a few lines the nearest ones to `name`."""
    if sum(len(choice) + 2 for choice in names) <= _LIST_LENGTH:
        return ", ".join(names)
    nearest = difflib.get_close_matches(name, names, n=_NEAREST, cutoff=0.4) or names[:_NEAREST]
    return f"{len(names)}, such as {', '.join(map(_shortened, nearest))}"


def _shortened(name: str) -> str:
    return name if len(name) <= _NAME_LENGTH else f"{name[:_NAME_LENGTH]}…"
