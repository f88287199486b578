"""What the datasets of files share: names made safe, classes picked, files of annotations read, clips put in order."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum, auto
from pathlib import Path

from vidattr.errors import ConfigError, VidattrError, unknown
from vidattr.labels import places, plain
from vidattr.types import Clip, Index, Problem

_LONGEST = 120
"""Bytes of a clip's id: what files are named by it, temporary ones with the machine's name too, stays below 255."""


class Damaged(StrEnum):
    """What becomes of a clip of which something cannot be decoded: it is explained with a warning, or an error."""

    warn = auto()
    fail = auto()


def safe(name: str) -> str:
    """Returns a name that every file system takes and no listing hides, of at most 120 bytes.

    All but letters, digits, `.`, `_` and `-` become `_`. A longer name keeps its beginning and ends in ten digits of
    its hash.
    """
    plainer = re.sub(r"[^\w.-]", "_", name)
    if plainer.startswith(".") or not plainer:
        plainer = f"_{plainer}"
    if len(plainer.encode()) <= _LONGEST:
        return plainer
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:10]
    return f"{plainer.encode()[: _LONGEST - 11].decode(errors='ignore')}-{digest}"


@contextmanager
def parsing(path: str, expected: str, remedy: str) -> Iterator[None]:
    """Turns whatever a damaged or foreign file of annotations makes its reader raise into an error that names the file.

    Raises:
        ConfigError: The block failed.
    """
    try:
        yield
    except VidattrError:
        raise
    except Exception as error:
        found = f"cannot read {path}: {type(error).__name__}: {str(error)[:300]}"
        raise ConfigError(found, expected=expected, remedy=remedy) from error


def chosen(classes: Sequence[str], known: Iterable[str]) -> frozenset[str]:
    """Returns those of the `known` labels that a user named, all where none was.

    Raises:
        ConfigError: A name is none of `known`, or two of `known` are one name to `labels.plain`.
    """
    labels = sorted(set(known))
    found = places(labels, "this dataset", "rename one of the two, or move its clips to the other")
    for name in classes:
        if plain(name) not in found:
            raise unknown("class", name, labels)
    return frozenset(labels[found[plain(name)]] for name in classes) if classes else frozenset(labels)


def indexed(
    clips: Iterable[Clip],
    problems: Iterable[Problem],
    notes: Sequence[str],
    *,
    damaged: Damaged = Damaged.warn,
    first_frame: int = 1,
) -> Index:
    """Returns the index, by id, of clips that come as `find_clips` sorts them.

    Of several clips of one id the first is kept. A folder of frames beside a video of its name is the same clip once
    more; any other is a problem.
    """
    kept: dict[str, Clip] = {}
    problems = list(problems)
    for clip in clips:
        first = kept.setdefault(clip.id, clip)
        if first is not clip and not (_is_folder(clip) and not _is_folder(first)):
            problems.append(
                Problem(clip.id, f"{clip.source} has the name of {first.source}", "rename one of them, or leave it out")
            )
    intact = damaged is Damaged.fail
    ordered = tuple(replace(kept[name], intact=intact, first_frame=first_frame) for name in sorted(kept))
    return Index(ordered, tuple(problems), tuple(notes))


def _is_folder(clip: Clip) -> bool:
    return isinstance(clip.source, Path) and clip.source.is_dir()
