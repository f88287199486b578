"""User errors: what was expected, what was found, what to do. Bugs are ordinary exceptions and keep their traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

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


class ClipError(VidattrError):
    """One clip cannot be read or judged: a line in `errors.jsonl`, the others go on, exit code 1."""


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
