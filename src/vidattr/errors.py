"""User errors: what was expected, what was found, what to do. Bugs are ordinary exceptions and keep their traceback."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_ROOM = 1500  # characters of a list of choices that are shown whole
_SHOWN = 10  # of a longer list
_LONGEST = 80  # characters of one name


def printable(text: str) -> str:
    """Returns a text that can be written anywhere: bytes of a file's name that are not UTF-8 are spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()


class VidattrError(Exception):
    """An error that the user can mend; the command line prints it without a traceback.

    Args:
        found: What is wrong, with the offending value ("no such folder: data/ucf101").
        expected: What would have been right, or None where `found` says it already.
        remedy: What to do about it, as a command or an option where there is one.
    """

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
    """A wrong option, name or combination: nothing was started, exit code 2."""

    def with_remedy(self, remedy: str) -> ConfigError:
        """Returns the same error with another thing to do."""
        return ConfigError(self.found, expected=self.expected, remedy=remedy)


class OutOfMemoryError(ConfigError):
    """The device or the machine has too little memory for the smallest step: only another setting or machine helps."""


class OutputError(VidattrError):
    """A file cannot be written, say on a full disk: the work stops, what was written is whole and stays, exit code 1."""


class ClipError(VidattrError):
    """One clip cannot be read or judged: a line in `errors.jsonl`, the others go on, exit code 1."""


# Errors that are about all clips, not about the one at hand.
FOR_ALL = (ConfigError, OutputError)


def line(clip: str, stage: str, error: Exception) -> dict[str, Any]:
    """Returns what `errors.jsonl` tells of one clip that failed, whatever was raised; a bug's traceback is kept there.

    Args:
        clip: Its id; "": all clips.
        stage: Where: index, read, prepare, target, method, explain, load, draw, judge.
        error: What was raised.
    """
    said = {"clip": clip, "stage": stage, "type": type(error).__name__}
    if isinstance(error, VidattrError):
        expected = f"; expected: {error.expected}" if error.expected else ""
        return {**said, "error": error.found + expected, "to_do": error.remedy}
    if out_of_memory(error):
        return {
            **said,
            "error": f"out of memory: {error}",
            "to_do": "fewer runtime.workers, a smaller model.input.size, or more memory",
        }
    to_do = f"take the clip out if its files are damaged, else report this: the traceback is in errors.jsonl (stage {stage})"
    whole = "".join(traceback.format_exception(error))
    return {**said, "error": f"{type(error).__name__}: {error}", "to_do": to_do, "traceback": whole}


def bug(lines: Sequence[Mapping[str, Any]]) -> str | None:
    """Returns the traceback to show where no clip could be explained, or judged, and all for one reason: no file's fault."""
    found = [line for line in lines if line["stage"] in ("explain", "judge")]
    alike = {(line["type"], "traceback" in line) for line in found}
    return str(found[0]["traceback"]) if len(alike) == 1 and "traceback" in found[0] else None


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out; torch has a type of its own on a GPU only, and words elsewhere."""
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
    """Returns the error for a name that is none of `choices`; of many, the message lists the nearest and how many there are."""
    names = sorted(choices)
    asked = name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…"
    near = difflib.get_close_matches(asked, names, n=3)
    listed = _listed(asked, names)
    return ConfigError(
        f"unknown {kind} {asked!r}",
        expected=f"one of {listed}" if names else f"a {kind}, but there is none here",
        remedy=f"did you mean {' or '.join(near)}?" if near else None,
    )


def _listed(name: str, names: Sequence[str]) -> str:
    """Returns all names, or of more than fit into some lines the nearest ones."""
    if sum(len(one) + 2 for one in names) <= _ROOM:
        return ", ".join(names)
    nearest = difflib.get_close_matches(name, names, n=_SHOWN, cutoff=0.4) or names[:_SHOWN]
    shown = (one if len(one) <= _LONGEST else f"{one[:_LONGEST]}…" for one in nearest)
    return f"{len(names)}, such as {', '.join(shown)}"
